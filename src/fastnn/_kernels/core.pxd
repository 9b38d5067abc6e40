"""What the other compiled modules share: all C code is linked into core."""

cdef extern from "table.h":
    int FASTNN_POINTERS
    int FASTNN_SIZES
    enum: FASTNN_SCALARS
    ptrdiff_t FASTNN_SCRATCH
    ctypedef struct fastnn_op
    ctypedef struct fastnn_args:
        void *p[10]
        ptrdiff_t n[8]
        double s[10]
        ptrdiff_t accumulate
        const fastnn_op *then
    ctypedef void (*fastnn_kernel)(const fastnn_args *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
    ctypedef struct fastnn_op:
        fastnn_kernel kernel
        fastnn_args args
    ctypedef struct fastnn_entry:
        const char *name
        fastnn_kernel f32
        fastnn_kernel f64

cdef extern from "update.h":
    ctypedef struct fastnn_update

cdef extern from "program.h":
    int FASTNN_BY_ROWS
    int FASTNN_BY_ITEMS
    int FASTNN_SERIAL
    ctypedef struct fastnn_call:
        fastnn_op op
        int split
        int waits
        ptrdiff_t items
    ctypedef struct fastnn_pace:
        double one
        double credit
        double alone_until
        int probes
        int losses
    ctypedef struct fastnn_run:
        const fastnn_call *calls
        ptrdiff_t count
        fastnn_update *update
        ptrdiff_t rows
        int threads
        fastnn_pace *pace
        char *scratch
        const int *failed
        int keep_denormals

cdef class Scratch:
    cdef void *data
    cdef int blocks

cdef fastnn_kernel find_kernel(str name, bint is_double) except NULL
cdef int thread_limit() noexcept nogil
cdef void execute(const fastnn_run *run) noexcept nogil
cdef double sum_losses(const void *values, ptrdiff_t n, bint is_double) noexcept nogil
cdef Scratch take_scratch(fastnn_run *run)
cdef void give_back(Scratch scratch)
