# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""One optimizer step over any number of arrays.

The addresses of a user's arrays are read again at every step, because an array can move; with C
alone: nothing is allocated and no Python function called per array. Those of parameters never move.
All checks come before anything is written. What depends on addresses (overlaps, the segments) is
done again only when one changed.
"""

import numpy as np

from fastnn._door.arrays import NotFiniteError, as_target, mark_written, sort_memory
from fastnn._kernels.door cimport as_input

cimport cython
from cpython.object cimport PyObject
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from fastnn._kernels cimport core
from fastnn._kernels.core cimport (
    check_counts, execute, fastnn_run, find_entry, kernel_of, threads_for)

cdef extern from "Python.h":
    bint PyDict_Next(PyObject *items, Py_ssize_t *at, PyObject **key, PyObject **value)
    Py_ssize_t PyDict_Size(PyObject *items)
    int PyObject_GenericSetAttr(object item, object name, object value) except -1
    PyObject *PyTuple_GET_ITEM(object items, Py_ssize_t i)
    PyObject *PyList_GET_ITEM(object items, Py_ssize_t i)

cdef extern from "numpy/arrayobject.h" nogil:
    ctypedef struct PyArrayObject
    bint PyArray_Check(PyObject *item)
    bint PyArray_CheckExact(PyObject *item)
    int PyArray_TYPE(PyArrayObject *array)
    bint PyArray_CHKFLAGS(PyArrayObject *array, int flags)
    bint PyArray_ISNOTSWAPPED(PyArrayObject *array)
    int PyArray_NDIM(PyArrayObject *array)
    cnp.npy_intp *PyArray_DIMS(PyArrayObject *array)
    char *PyArray_BYTES(PyArrayObject *array)
    int NPY_ARRAY_CARRAY
    int NPY_ARRAY_CARRAY_RO

cdef extern from "power.h":
    double fastnn_power(double base, double exponent)

cnp.import_array()

STATE_BLOCK = FASTNN_STATE_BLOCK  # elements of an 8-bit state that share a scale

# How a scalar of a kernel changes from step to step, t = 1, 2, ...: by numbers `value` and `other`.
cdef enum Change:
    CONSTANT   # value
    CORRECTED  # value / (1 - other^t)
    ROOTED     # value / √(1 - other^t)
    SLOWED     # value / (1 + other (t - 1))
    STARTED    # other at the first step, then value


def corrected(value, beta):
    """A scalar of a kernel that is value / (1 - betaᵗ) at step t, from 1."""
    return value, beta, CORRECTED


def rooted(value, beta):
    """A scalar of a kernel that is value / √(1 - betaᵗ) at step t, from 1."""
    return value, beta, ROOTED


def slowed(value, decay):
    """A scalar of a kernel that is value / (1 + decay (t - 1)) at step t, from 1."""
    return value, decay, SLOWED


def started(first, value):
    """A scalar of a kernel that is `first` at step 1 and then `value`."""
    return value, first, STARTED


cdef int read_scalars(tuple given, Scalar *scalars) except -1:
    cdef Py_ssize_t k
    for k in range(len(given)):
        item = given[k]
        if type(item) is tuple:
            scalars[k].value, scalars[k].other, scalars[k].change = item
        else:
            scalars[k].value, scalars[k].other, scalars[k].change = item, 0, CONSTANT
    return 0


cdef double scalar_at(const Scalar *s, double t) noexcept:
    if s.change == CORRECTED:
        return s.value / (1 - fastnn_power(s.other, t))
    if s.change == ROOTED:
        return s.value / sqrt(1 - fastnn_power(s.other, t))
    if s.change == SLOWED:
        return s.value / (1 + s.other * (t - 1))
    return s.other if s.change == STARTED and t == 1 else s.value


def scalars_at(tuple scalars, double t):
    """Return the numbers that scalars, some of them changing, are at step t, from 1."""
    cdef Scalar read[FASTNN_SCALARS]
    read_scalars(scalars, read)
    return tuple([scalar_at(&read[k], t) for k in range(len(scalars))])


# Where a parameter's array comes from: it is one; a fastnn Parameter has one; or it is asked for
# at every step from an object that may have replaced its memory (a PyTorch tensor).
cdef enum:
    ARRAY, PARAMETER, FOREIGN

cdef char *HIGHEST = <char *><uintptr_t>-1


cdef inline bint fits(PyObject *item, const Record *r, int flags) noexcept:
    """Whether it is an array of the parameter's dtype and shape that kernels can use as it is."""
    cdef PyArrayObject *array = <PyArrayObject *>item
    return (PyArray_Check(item) and PyArray_TYPE(array) == r.typenum
            and PyArray_CHKFLAGS(array, flags) and PyArray_ISNOTSWAPPED(array)
            and PyArray_NDIM(array) == r.ndim
            and (r.ndim == 0 or
                 memcmp(PyArray_DIMS(array), r.shape, r.ndim * sizeof(cnp.npy_intp)) == 0))


cdef tuple shape_of(const Record *r):
    return tuple([r.shape[k] for k in range(r.ndim)])


def unchanged(tuple groups, tuple read):
    """Whether dicts hold just the objects that their copies hold, in the same order."""
    cdef Py_ssize_t i, at, at_read
    cdef PyObject *key
    cdef PyObject *value
    cdef PyObject *key_read
    cdef PyObject *value_read
    if len(groups) != len(read):
        return False
    for i in range(len(groups)):
        group, copy = PyTuple_GET_ITEM(groups, i), PyTuple_GET_ITEM(read, i)
        if PyDict_Size(group) != PyDict_Size(copy):
            return False
        at = at_read = 0
        with cython.critical_section(<object>group):  # it belongs to the user; the copy is ours
            while (PyDict_Next(group, &at, &key, &value)
                   and PyDict_Next(copy, &at_read, &key_read, &value_read)):
                if key != key_read or value != value_read:
                    return False
    return True


cdef class Taking:
    """Steps of an optimizer from the first check to the count of those that were taken.

    A context for whoever runs them: inside, its table of arrays is ready.
    """
    cdef object optimizer, grads, steps, clip_norm, clip_value
    cdef UpdateTable table

    def __init__(self, optimizer, grads, steps, clip_norm, clip_value):
        self.optimizer, self.grads, self.steps = optimizer, grads, steps
        self.clip_norm, self.clip_value = clip_norm, clip_value

    def __enter__(self):
        optimizer = self.optimizer
        optimizer._lock.acquire()
        try:
            self.table = optimizer._prepare(
                self.grads, self.steps, self.clip_norm, self.clip_value)
            self.table.taken = 0
        except BaseException:
            optimizer._lock.release()
            raise
        return self.table

    def __exit__(self, kind, error, traceback):
        optimizer, table = self.optimizer, self.table
        if table.taken:
            # past the optimizer's own __setattr__, which is for its users
            PyObject_GenericSetAttr(optimizer, "_t", optimizer._t + table.taken)
            if table.foreign:
                mark_written(table.foreign)
        table.gradients = ()
        optimizer._lock.release()


cdef class UpdateTable:
    """The arrays of an optimizer, and one step over all of them.

    Parameters
    ----------
    sources : list
        The parameters: arrays, `Parameter` objects or anything that `as_target` takes.
    arrays : list of array
        Their present arrays, checked by `as_target`.
    names : list of str
        What to call them in messages.
    rules : list of (str, str or None, dtype)
        The kernel of each rule, LAMB's second kernel, and the dtype.
    rule_of : list of int
        The rule of each parameter.
    states : list of tuple of (array or None)
        The states of each parameter, and their scales, in the order of the kernel's pointers.
    state_memory : list of array
        The arrays in which all those states lie.
    block : int
        A parameter's first element gets a number that `block` divides: threads share whole blocks.
    merge : bool
        Whether the rule may run over neighbours in memory as if they were one array.
    """

    def __cinit__(self, list sources, list arrays, list names, list rules, list rule_of,
                  list states, list state_memory, ptrdiff_t block, bint merge):
        cdef Py_ssize_t i, k, dimensions = sum([array.ndim for array in arrays])
        cdef Record *r
        self.count = len(sources)
        self.sources, self.arrays, self.names = sources, arrays, names
        self.state_memory, self.block, self.merge = state_memory, block, merge
        self.records = <Record *>calloc(self.count + 1, sizeof(Record))
        self.segments = <fastnn_segment *>calloc(self.count + 1, sizeof(fastnn_segment))
        self.shapes = <cnp.npy_intp *>calloc(dimensions + 1, sizeof(cnp.npy_intp))
        self.rules = <fastnn_rule *>calloc(len(rules) + 1, sizeof(fastnn_rule))
        self.kernels = <const fastnn_entry **>calloc(len(rules) + 1, sizeof(fastnn_entry *))
        self.constants = <Scalar *>calloc(len(rules) * FASTNN_SCALARS + 1, sizeof(Scalar))
        if not (self.records and self.segments and self.shapes and self.rules and self.kernels
                and self.constants):
            raise MemoryError("the table of an optimizer's arrays")
        for i, (step, finish, dtype) in enumerate(rules):
            double = dtype.itemsize == 8
            self.rules[i].item_bytes = dtype.itemsize if block == 1 else 0
            self.rules[i].clip = kernel_of(find_entry("clip"), double)
            self.rules[i].gradient_bytes = dtype.itemsize
            self.kernels[i] = find_entry(step)
            self.rules[i].step = kernel_of(self.kernels[i], double)
            self.rules[i].square_sum = kernel_of(find_entry("square_sum"), double)
            if finish is not None:
                self.rules[i].finish = kernel_of(find_entry(finish), double)
                self.u.has_finish = True
        dimensions = 0
        self.stale = True
        for i in range(self.count):
            r = &self.records[i]
            array = arrays[i]
            r.kind = (ARRAY if array is sources[i] else
                      PARAMETER if hasattr(sources[i], "grad_array") else FOREIGN)
            r.n, r.bytes, r.ndim, r.typenum = array.size, array.nbytes, array.ndim, array.dtype.num
            r.rule = rule_of[i]
            r.shape = self.shapes + dimensions
            dimensions += r.ndim
            for k in range(r.ndim):
                r.shape[k] = array.shape[k]
            for k, state in enumerate(states[i]):
                if state is not None:
                    if k + 2 >= self.kernels[r.rule].pointers:
                        raise ValueError(f"{rules[r.rule][0]}: expected at most "
                                         f"{self.kernels[r.rule].pointers - 2} states")
                    r.states[k] = <char *>cnp.PyArray_DATA(<cnp.ndarray>state)
                    r.state_bytes = state.nbytes
            if r.kind == PARAMETER:
                r.param = <char *>cnp.PyArray_DATA(<cnp.ndarray>array)
                if self.rules[r.rule].finish == NULL and sources[i]._rows is not None:
                    r.rows = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>sources[i]._rows)
                sources[i].watch(self)
        self.foreign = [sources[i] for i in range(self.count) if self.records[i].kind == FOREIGN]
        self.u.segments, self.u.rules, self.u.rule_count = self.segments, self.rules, len(rules)
        self.targets_moved = True
        self._read_targets()

    def invalidate(self):
        """Look again at which parameters are trained."""
        self.stale = True

    def forgotten(self):
        """Whether a parameter has a gradient is asked at every step."""

    def __dealloc__(self):
        free(self.records)
        free(self.segments)
        free(self.shapes)
        free(self.rules)
        free(self.kernels)
        free(self.constants)

    def set_scalars(self, list scalars):
        """Take the kernels' scalars for the steps to come: for each rule a tuple."""
        for i, row in enumerate(scalars):
            check_counts(self.kernels[i], self.kernels[i].pointers, self.kernels[i].sizes, len(row))
            read_scalars(row, &self.constants[i * FASTNN_SCALARS])

    def prepare(self, grads, list scalars, ptrdiff_t t, ptrdiff_t steps, double clip_norm,
                double clip_value, bint check_finite):
        """Check everything and make the table ready to run.

        Parameters
        ----------
        grads : sequence of array, None or True
            One per parameter, or None for those to leave alone; None to take each source's own;
            True to take them where they lie, for they are going to be computed.
        scalars : list of list of tuple, or None
            For each of the steps to come what `set_scalars` takes; None if it has been given that.
        t : int
            Steps taken so far.
        steps : int
            How many are to come.
        clip_norm : float
            Largest norm of all gradients together; infinite for no limit.
        clip_value : float
            Largest size of an element of a gradient; infinite for no limit.
        check_finite : bool
            Whether to write nothing if a gradient is not finite.
        """
        if self.stale:
            self.stale = False  # before looking: who changes something meanwhile says so again
            try:
                self._look_again()
            except BaseException:
                self.stale = True
                raise
        if grads is None:
            self.gradients = self._own_gradients()
        elif grads is True:
            self.gradients = self.computed
        else:
            self.gradients = self._trained(tuple(grads)) if self.any_frozen else tuple(grads)
        if len(self.gradients) != self.count:
            raise ValueError(
                f"grads: expected {self.count} arrays, one per parameter, "
                f"got {len(self.gradients)}"
            )
        self._read_targets()
        self._read_gradients()
        if self.gradients_moved:
            self._lay_out()
        self._fill_scalars(scalars, t, steps)
        self.u.t, self.u.clip_norm, self.u.clip_value = t, clip_norm, clip_value
        self.u.check_finite = check_finite

    cdef int _fill_scalars(self, list scalars, ptrdiff_t t, ptrdiff_t steps) except -1:
        """Make the table of what the scalars are at each of the steps to come."""
        cdef Py_ssize_t i, k, count = self.u.rule_count * FASTNN_SCALARS
        cdef double *row
        if self.scalars is None or self.scalar_steps != steps:
            self.scalars, self.scalar_steps = np.empty((steps, count)), steps
        row = <double *>cnp.PyArray_DATA(<cnp.ndarray>self.scalars)
        self.u.scalars = row
        self.u.step = 0
        for i in range(steps):
            if scalars is not None:
                self.set_scalars(scalars[i])
            for k in range(count):
                row[k] = scalar_at(&self.constants[k], t + i + 1)
            row += count
        return 0

    def run(self):
        """Take one step, without the GIL; ValueError if it was refused for a gradient."""
        cdef fastnn_run run
        cdef int never = 0
        run.calls, run.count, run.rows, run.scratch, run.failed = NULL, 0, 0, NULL, &never
        run.update = <core.fastnn_update *>&self.u
        run.pace = &self.pace
        run.keep_denormals = 0
        run.threads = threads_for(self.work, 1)
        self.taken = 0
        with nogil:
            execute(&run)
        if self.u.failed:
            self.raise_not_finite()
        self.taken = 1

    def raise_not_finite(self):
        """Raise the error that names the first gradient that is not finite."""
        for name, grad in zip(self.names, self.gradients):
            if grad is not None and not np.isfinite(grad).all():
                raise NotFiniteError(
                    f"gradient of {name}: expected finite values, got NaN or infinity")

    def current(self):
        """Return the parameters' present arrays."""
        self._read_targets()
        return list(self.arrays)

    # Parameters -------------------------------------------------------------------------------

    cdef int _read_targets(self) except -1:
        cdef Py_ssize_t i
        cdef Record *r
        cdef PyObject *item
        for i in range(self.count):
            r = &self.records[i]
            if r.kind == FOREIGN:
                self.arrays[i] = as_target(self.sources[i], self.names[i])
            item = PyList_GET_ITEM(self.arrays, i)
            if not fits(item, r, NPY_ARRAY_CARRAY):
                array = as_target(self.arrays[i], self.names[i])
                raise ValueError(
                    f"{self.names[i]}: expected dtype {self._dtype(i)} and shape "
                    f"{shape_of(r)}, as when the optimizer was made, got {array.dtype} and "
                    f"{array.shape}"
                )
            if PyArray_BYTES(<PyArrayObject *>item) != r.param:
                r.param = PyArray_BYTES(<PyArrayObject *>item)
                self.targets_moved = True
        if self.targets_moved:
            self._sort_targets()
        return 0

    def _dtype(self, Py_ssize_t i):
        return np.dtype(np.float64 if self.records[i].typenum == cnp.NPY_FLOAT64 else np.float32)

    def _name_of(self, Py_ssize_t i):
        return self.names[i] if i < self.count else "an optimizer state"

    cdef int _sort_targets(self) except -1:
        """Sort all memory that a step writes by address; no two may overlap."""
        cdef Py_ssize_t i
        starts = [<uintptr_t>self.records[i].param for i in range(self.count)]
        starts += [memory.ctypes.data for memory in self.state_memory]
        sizes = [self.records[i].bytes for i in range(self.count)]
        sizes += [memory.nbytes for memory in self.state_memory]
        self.starts, self.ends = sort_memory(starts, sizes, self._name_of)
        self.target_count = len(self.starts)
        for i in range(self.count):
            self.records[i].grad = self.records[i].low = self.records[i].high = NULL
        self.targets_moved = False
        self.gradients_moved = True
        return 0

    # Gradients --------------------------------------------------------------------------------

    cdef int _look_again(self) except -1:
        """Find out which parameters are trained."""
        cdef Py_ssize_t i
        computed, self.any_frozen = [], False
        for i in range(self.count):
            source = self.sources[i]
            self.records[i].frozen = False
            if self.records[i].kind != PARAMETER:
                computed.append(None)
                continue
            if source.replaced:
                raise RuntimeError(
                    f"{self.names[i]}: expected a parameter of a layer, got one in whose place "
                    "another has been put; make the optimizer again"
                )
            self.records[i].frozen = not source.trainable
            self.any_frozen = self.any_frozen or not source.trainable
            computed.append(source.grad_array if source.trainable else None)
        self.computed = tuple(computed)
        return 0

    cdef tuple _trained(self, tuple grads):
        """The gradients of those that are not frozen."""
        cdef Py_ssize_t i
        cdef list trained = None
        for i in range(min(self.count, len(grads))):
            if self.records[i].frozen and grads[i] is not None:
                if trained is None:
                    trained = list(grads)
                trained[i] = None
        return grads if trained is None else tuple(trained)

    cdef tuple _own_gradients(self):
        cdef Py_ssize_t i
        cdef list grads = []
        cdef bint found = False
        for i in range(self.count):
            source, grad = self.sources[i], None
            if self.records[i].kind == PARAMETER:
                if source._ready:
                    grad = self.computed[i]
            elif self.records[i].kind == ARRAY or not hasattr(source, "grad"):
                raise TypeError(
                    f"grads: expected one array per parameter, since {self.names[i]} has no "
                    f"gradient of its own; got None"
                )
            else:
                grad = source.grad
            found = found or grad is not None
            grads.append(grad)
        if not found:
            raise RuntimeError(f"{self.names[0]} has no gradient yet: call backward first")
        return tuple(grads)

    cdef int _read_gradients(self) except -1:
        cdef Py_ssize_t i
        cdef Record *r
        cdef PyObject *item
        cdef char *data
        cdef list converted = None
        for i in range(self.count):
            r = &self.records[i]
            item = PyTuple_GET_ITEM(self.gradients, i)
            if item == <PyObject *>None:
                if r.grad != NULL or not r.skipped:
                    r.grad, r.skipped, self.gradients_moved = NULL, True, True
                continue
            if r.skipped:
                r.skipped, self.gradients_moved = False, True
            # arrays of a subclass, such as masked ones, take the way through the door
            if not (PyArray_CheckExact(item) and fits(item, r, NPY_ARRAY_CARRAY_RO)):
                if converted is None:
                    converted = list(self.gradients)
                converted[i] = self._convert(i, <object>item)
                item = PyList_GET_ITEM(converted, i)
            data = PyArray_BYTES(<PyArrayObject *>item)
            if data != r.grad:
                r.grad = data
                self.gradients_moved = True
                if not (r.low <= data and data + r.bytes <= r.high):
                    self._find_gap(r)
        if converted is not None:
            self.gradients = tuple(converted)
        return 0

    cdef object _convert(self, Py_ssize_t i, object grad):
        name = f"gradient of {self.names[i]}"
        array = as_input(grad, name, self._dtype(i))
        if array.shape != shape_of(&self.records[i]):
            raise ValueError(
                f"{name}: expected shape {shape_of(&self.records[i])}, got {array.shape}"
            )
        return array

    cdef int _find_gap(self, Record *r) except -1:
        """Find between which targets a gradient lies; ValueError if it overlaps one."""
        cdef const uintptr_t *starts = <const uintptr_t *>cnp.PyArray_DATA(<cnp.ndarray>self.starts)
        cdef const uintptr_t *ends = <const uintptr_t *>cnp.PyArray_DATA(<cnp.ndarray>self.ends)
        cdef uintptr_t end = <uintptr_t>r.grad + r.bytes
        cdef Py_ssize_t low = 0, high = self.target_count, middle
        while low < high:  # the number of targets that start before the gradient's end
            middle = (low + high) // 2
            if starts[middle] < end:
                low = middle + 1
            else:
                high = middle
        if low > 0 and ends[low - 1] > <uintptr_t>r.grad and r.bytes > 0:
            r.grad = NULL  # not accepted
            raise ValueError(
                f"gradient of {self.names[r - self.records]}: expected memory of its own, got "
                "memory of a parameter or of an optimizer state"
            )
        r.low = <char *>ends[low - 1] if low > 0 else NULL
        r.high = <char *>starts[low] if low < self.target_count else HIGHEST
        return 0

    # Segments ---------------------------------------------------------------------------------

    cdef bint _follows(self, const fastnn_segment *s, const Record *last, const Record *r) noexcept:
        """Whether r lies right behind `last`, the end of segment s, in all its arrays."""
        cdef int k
        if (not self.merge or r.rule != s.rule or r.param != last.param + last.bytes
                or r.grad != last.grad + last.bytes):
            return False
        for k in range(FASTNN_UPDATE_STATES):
            if r.states[k] != NULL and r.states[k] != last.states[k] + last.state_bytes:
                return False
        return True

    cdef bint _is_sparse(self, Py_ssize_t i):
        """Whether the gradient is the one whose rows the backward pass has listed."""
        cdef const Record *r = &self.records[i]
        return (r.rows != NULL
                and r.grad == cnp.PyArray_BYTES(<cnp.ndarray>self.sources[i].grad_array))

    cdef void _begin_segment(self, fastnn_segment *s, const Record *r, ptrdiff_t first,
                             ptrdiff_t slot) noexcept:
        s.p[0], s.p[1] = r.param, r.grad
        memcpy(&s.p[2], r.states, sizeof(r.states))
        s.n, s.first, s.slot, s.rule = r.n, first, slot, r.rule
        s.rows = NULL

    cdef int _lay_out(self) except -1:
        """Make the segments, the sparse ones last, and room for the partial sums."""
        cdef Py_ssize_t i
        cdef ptrdiff_t count = 0, first = 0, slots = 0
        cdef Record *r
        cdef Record *last = NULL
        cdef fastnn_segment *s = NULL
        cdef list sparse = []
        self.work = 0
        for i in range(self.count):
            r = &self.records[i]
            if r.n == 0 or r.skipped:
                continue
            if self._is_sparse(i):
                sparse.append(i)
                continue
            if last != NULL and self._follows(s, last, r):
                s.n += r.n
            else:
                first = (first + self.block - 1) // self.block * self.block
                s = &self.segments[count]
                count += 1
                self._begin_segment(s, r, first, slots)
                slots += r.n // FASTNN_UPDATE_CHUNK + 2
            first += r.n
            self.work += r.n * self.kernels[r.rule].cost(NULL)
            last = r
        self.u.segment_count, self.u.sparse_count = count, len(sparse)
        self.u.elements = first
        for i in sparse:
            r = &self.records[i]
            s = &self.segments[count]
            count += 1
            self._begin_segment(s, r, first, 0)
            first += r.n
            s.rows, s.row_size = r.rows, r.n // r.shape[0]
        self.sums = np.zeros((fastnn_update_chunks(self.u.elements) + len(sparse), 2))
        self.u.sums = <double *>cnp.PyArray_DATA(<cnp.ndarray>self.sums)
        if self.u.has_finish:
            self.norms = np.zeros((slots, 2))
            self.u.norms = <double *>cnp.PyArray_DATA(<cnp.ndarray>self.norms)
        self.gradients_moved = False
        return 0
