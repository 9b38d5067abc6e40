"""The table of arrays that one optimizer step updates."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastnn._kernels.core cimport FASTNN_SCALARS, fastnn_entry, fastnn_kernel, fastnn_pace

cdef extern from "update.h":
    int FASTNN_UPDATE_CHUNK
    enum: FASTNN_UPDATE_STATES
    enum: FASTNN_UPDATE_POINTERS
    int FASTNN_STATE_BLOCK
    ctypedef struct fastnn_segment:
        void *p[FASTNN_UPDATE_POINTERS]
        ptrdiff_t n
        ptrdiff_t first
        ptrdiff_t slot
        ptrdiff_t rule
        const int64_t *rows
        ptrdiff_t row_size
    ctypedef struct fastnn_rule:
        fastnn_kernel step
        fastnn_kernel finish
        fastnn_kernel square_sum
        fastnn_kernel clip
        ptrdiff_t gradient_bytes
        ptrdiff_t item_bytes
    ctypedef struct fastnn_update:
        const fastnn_segment *segments
        ptrdiff_t segment_count
        ptrdiff_t sparse_count
        ptrdiff_t elements
        const fastnn_rule *rules
        ptrdiff_t rule_count
        const double *scalars
        ptrdiff_t step
        ptrdiff_t t
        double clip_norm
        double clip_value
        int check_finite
        int has_finish
        double *sums
        double *norms
        double grad_norm
        int failed
    ptrdiff_t fastnn_update_chunks(ptrdiff_t elements) nogil

cdef struct Scalar:  # of a kernel, and how it changes
    double value
    double other
    int change

cdef struct Record:  # one parameter
    char *param
    char *grad
    char *low  # the gap between targets in which the gradient lies
    char *high
    char *states[FASTNN_UPDATE_STATES]
    cnp.npy_intp *shape
    const int64_t *rows  # of a sparse parameter
    ptrdiff_t n
    ptrdiff_t bytes
    ptrdiff_t state_bytes
    ptrdiff_t rule
    int ndim
    int typenum
    int kind
    bint frozen   # never to be moved
    bint skipped  # without a gradient in this step

cdef class UpdateTable:
    cdef fastnn_update u  # what the executor runs: valid after prepare()
    cdef readonly list names
    cdef list sources, arrays, state_memory, foreign
    cdef object __weakref__
    cdef tuple gradients, computed
    cdef public Py_ssize_t taken  # how many steps the last run has taken
    cdef object scalars, sums, norms, starts, ends
    cdef Record *records
    cdef cnp.npy_intp *shapes
    cdef fastnn_segment *segments
    cdef fastnn_rule *rules
    cdef const fastnn_entry **kernels  # of each rule
    cdef Scalar *constants
    cdef double work  # of a step, but for sparse segments
    cdef fastnn_pace pace
    cdef ptrdiff_t scalar_steps
    cdef Py_ssize_t count, target_count
    cdef ptrdiff_t block
    cdef bint targets_moved, gradients_moved, merge, stale, any_frozen

    cdef int _read_targets(self) except -1
    cdef int _sort_targets(self) except -1
    cdef int _look_again(self) except -1
    cdef tuple _trained(self, tuple grads)
    cdef tuple _own_gradients(self)
    cdef int _read_gradients(self) except -1
    cdef object _convert(self, Py_ssize_t i, object grad)
    cdef int _find_gap(self, Record *r) except -1
    cdef bint _follows(self, const fastnn_segment *s, const Record *last, const Record *r) noexcept
    cdef void _begin_segment(self, fastnn_segment *s, const Record *r, ptrdiff_t first,
                             ptrdiff_t slot) noexcept
    cdef bint _is_sparse(self, Py_ssize_t i)
    cdef int _lay_out(self) except -1
    cdef int _fill_scalars(self, list scalars, ptrdiff_t t, ptrdiff_t steps) except -1
