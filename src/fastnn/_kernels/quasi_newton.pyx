# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""The inverse Hessian of L-BFGS, where a dozen short operations on arrays would take longer."""

import numpy as np

cimport numpy as cnp
from libc.math cimport sqrt

cnp.import_array()

# Sums that run side by side, in registers.
cdef enum: CHAINS = 16


cdef double dot(const double *a, const double *b, Py_ssize_t n) noexcept nogil:
    cdef double sums[CHAINS]
    cdef double total = 0
    cdef Py_ssize_t i, j, k
    for k in range(CHAINS):
        sums[k] = 0
    for j in range(n // CHAINS):
        i = j * CHAINS
        for k in range(CHAINS):
            sums[k] += a[i + k] * b[i + k]
    for i in range(n - n % CHAINS, n):
        total += a[i] * b[i]
    for k in range(CHAINS):
        total += sums[k]
    return total


cdef void add(double *a, double factor, const double *b, Py_ssize_t n) noexcept nogil:
    """a += factor b"""
    cdef Py_ssize_t i
    for i in range(n):
        a[i] += factor * b[i]


cdef class Pairs:
    """The last steps s and changes y of the gradient, and the inverse Hessian that they imply.

    Parameters
    ----------
    memory : int
        How many pairs are remembered.
    size : int
        Elements of a vector.
    """

    cdef double[:, ::1] steps, changes
    cdef double[::1] inverses, parts  # 1 / s·y, and what the first loop leaves to the second
    cdef Py_ssize_t memory, size, count, end

    def __init__(self, Py_ssize_t memory, Py_ssize_t size):
        self.steps, self.changes = np.empty((memory, size)), np.empty((memory, size))
        self.inverses, self.parts = np.empty(memory), np.empty(memory)
        self.memory, self.size, self.count, self.end = memory, size, 0, 0

    def __len__(self):
        return self.count

    def clear(self):
        """Forget all."""
        self.count = 0

    def remember(self, const double[::1] step, const double[::1] change):
        """Keep a pair, unless rounding has taken the curvature along the step."""
        cdef Py_ssize_t n = self.size
        cdef double curvature = dot(&step[0], &change[0], n)
        cdef double lengths = sqrt(
            dot(&step[0], &step[0], n) * dot(&change[0], &change[0], n))
        if not curvature > 1e-10 * lengths:
            return
        self.steps[self.end, :] = step
        self.changes[self.end, :] = change
        self.inverses[self.end] = 1 / curvature
        self.end = (self.end + 1) % self.memory
        self.count = min(self.count + 1, self.memory)

    def direction(self, const double[::1] gradient):
        """Return -H times the gradient: the two-loop recursion."""
        cdef cnp.ndarray result = np.negative(gradient)
        cdef double *q = <double *>cnp.PyArray_DATA(result)
        cdef double *change
        cdef Py_ssize_t i, j, n = self.size
        with nogil:
            for i in range(self.count):  # from the newest to the oldest
                j = (self.end - 1 - i + self.memory) % self.memory
                self.parts[j] = self.inverses[j] * dot(&self.steps[j, 0], q, n)
                add(q, -self.parts[j], &self.changes[j, 0], n)
            if self.count:
                j = (self.end - 1 + self.memory) % self.memory
                change = &self.changes[j, 0]
                scale(q, 1 / (self.inverses[j] * dot(change, change, n)), n)
            for i in range(self.count - 1, -1, -1):
                j = (self.end - 1 - i + self.memory) % self.memory
                add(q, self.parts[j] - self.inverses[j] * dot(&self.changes[j, 0], q, n),
                    &self.steps[j, 0], n)
        return result


cdef void scale(double *a, double factor, Py_ssize_t n) noexcept nogil:
    """a *= factor"""
    cdef Py_ssize_t i
    for i in range(n):
        a[i] *= factor
