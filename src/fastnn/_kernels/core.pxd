"""What the other compiled modules share: all C code is linked into core."""

cdef extern from "table.h":
    enum: FASTNN_POINTERS
    enum: FASTNN_SIZES
    enum: FASTNN_SCALARS
    ptrdiff_t FASTNN_SCRATCH
    int FASTNN_IN_PLACE
    int FASTNN_ACCUMULATES
    int FASTNN_TAKES_THEN
    int FASTNN_WHOLE
    int FASTNN_NARROWS
    ctypedef struct fastnn_op
    ctypedef struct fastnn_args:
        void *p[FASTNN_POINTERS]
        ptrdiff_t n[FASTNN_SIZES]
        double s[FASTNN_SCALARS]
        ptrdiff_t accumulate
        const fastnn_op *then
        void *python
    ctypedef void (*fastnn_kernel)(const fastnn_args *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
    ctypedef struct fastnn_op:
        fastnn_kernel kernel
        fastnn_args args
    ctypedef struct fastnn_entry:
        const char *name
        fastnn_kernel f32
        fastnn_kernel f64
        int outputs
        int pointers
        int sizes
        int scalars
        int flags
        double (*cost)(const ptrdiff_t *n) noexcept nogil

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

cdef const fastnn_entry *find_entry(str name) except NULL
cdef fastnn_kernel kernel_of(const fastnn_entry *entry, bint is_double) noexcept nogil
cdef int check_counts(const fastnn_entry *entry, Py_ssize_t pointers, Py_ssize_t sizes,
                      Py_ssize_t scalars) except -1
cdef int threads_for(double work, Py_ssize_t meetings) noexcept nogil
cdef int execute(const fastnn_run *run) noexcept nogil
cdef double sum_losses(const void *values, ptrdiff_t n, bint is_double) noexcept nogil
cdef Scratch take_scratch(fastnn_run *run)
cdef void give_back(Scratch scratch)
