"""The kernel calls of a model, for the modules that run them."""

from libc.stdint cimport uint64_t

from fastnn._kernels.core cimport (
    fastnn_args, fastnn_call, fastnn_entry, fastnn_op, fastnn_pace, fastnn_run)

cdef struct Patch:
    fastnn_args *args
    int index      # of the pointer, size or scalar
    ptrdiff_t value  # slot, storage, factor or scalar name


cdef class Program:
    cdef readonly object schedule
    cdef readonly Py_ssize_t capacity
    cdef fastnn_call *calls
    cdef fastnn_op *epilogues
    cdef Py_ssize_t call_count, forward_count
    cdef Patch *patches
    # patches in the order of kind: slots, storages, sizes, scalars, accumulates
    cdef Py_ssize_t slot_end, storage_end, size_end, scalar_end, patch_end
    cdef dict slots, storages, scalars
    cdef list slot_values, keep
    cdef object memory, scratch
    cdef char **addresses
    cdef int scratch_threads
    cdef fastnn_pace paces[4]  # of backward, forward and whole runs
    cdef int failed
    cdef object error
    cdef double work, work_per_row  # that threads can share, of a run: work + rows * work_per_row
    cdef Py_ssize_t meetings  # of threads in a run, at most
    cdef readonly int threads  # that the last run used
    cdef uint64_t **random_states
    cdef Py_ssize_t random_count

    cpdef reserve(self, Py_ssize_t rows)
    cpdef bind(self, str name, array)
    cdef void _bind(self, ptrdiff_t slot, void *address) noexcept nogil
    cpdef set_scalar(self, str name, double value)
    cdef void _set_scalar(self, ptrdiff_t scalar, double value) noexcept nogil
    cpdef set_accumulate(self, bint accumulate)
    cdef int _fill(self, fastnn_op *target, operation, list found) except -1
    cdef int _add_work(self, const fastnn_entry *entry, operation) except -1
    cdef int _threads(self, Py_ssize_t rows) noexcept nogil
    cdef int _prepare(self, fastnn_run *run, Py_ssize_t rows, int first, int last) except -1
    cdef int _raise(self) except -1
    cdef void _advance(self) noexcept nogil
