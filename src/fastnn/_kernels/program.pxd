"""The kernel calls of a model, for the modules that run them."""

from libc.stdint cimport uint64_t

from fastnn._kernels.core cimport (
    fastnn_args, fastnn_call, fastnn_entry, fastnn_op, fastnn_pace, fastnn_run)

cdef struct Patch:
    fastnn_args *args
    int index      # of the pointer, size or scalar
    ptrdiff_t value  # slot, storage, factor or scalar name
    ptrdiff_t row_offset  # bytes from a slot's start, for each row


cdef class Version:
    cdef public Py_ssize_t value


cdef class Memory:
    cdef readonly object data
    cdef char *start
    cdef Py_ssize_t size, moved

    cdef int grow(self, Py_ssize_t size) except -1


cdef class Failure:
    cdef object error
    cdef int failed


cdef class Program:
    cdef readonly object schedule
    cdef readonly Memory memory
    cdef readonly Py_ssize_t capacity, nbytes  # rows, and bytes of the block, laid out so far
    cdef Version version
    cdef Py_ssize_t planned, moved  # versions of the model and of the block
    cdef bint has_python
    cdef Py_ssize_t minimum_rows
    cdef public Py_ssize_t marked  # as of which forgetting its gradients are known to be ready
    cdef fastnn_call *calls
    cdef fastnn_op *epilogues
    cdef Py_ssize_t call_count, forward_count
    cdef Patch *patches
    # patches in the order of kind: slots, storages, sizes, scalars, accumulates
    cdef Py_ssize_t slot_end, storage_end, size_end, scalar_end, patch_end
    cdef dict slots, storages, scalars, bound
    cdef list slot_values, others, keep
    cdef Py_ssize_t x_slot, y_slot, dx_slot, dy_slot
    cdef Failure failure
    cdef char **addresses
    cdef fastnn_pace paces[4]  # of backward, forward and whole runs
    cdef double work, work_per_row  # that threads can share, of a run: work + rows * work_per_row
    cdef Py_ssize_t meetings  # of threads in a run, at most
    cdef readonly int threads  # that the last run used
    cdef uint64_t **random_states
    cdef Py_ssize_t random_count

    cpdef reserve(self, Py_ssize_t rows)
    cdef Py_ssize_t _reserve_more(self, Py_ssize_t offset, Py_ssize_t rows) except -1
    cdef int _bind_others(self, dict arrays, Py_ssize_t rows) except -1
    cdef void _bind(self, ptrdiff_t slot, void *address, Py_ssize_t rows) noexcept nogil
    cpdef set_scalar(self, str name, double value)
    cdef void _set_scalar(self, ptrdiff_t scalar, double value) noexcept nogil
    cdef int _fill(self, fastnn_op *target, operation, list found) except -1
    cdef int _add_work(self, const fastnn_entry *entry, operation) except -1
    cdef int _threads(self, Py_ssize_t rows) noexcept nogil
    cdef int _prepare(self, fastnn_run *run, Py_ssize_t rows, int first, int last) except -1
    cdef int _raise(self) except -1
    cdef int _run(self, Py_ssize_t rows, int first, int last, fastnn_pace *pace=*) except -1
    cdef void _advance(self) noexcept nogil
