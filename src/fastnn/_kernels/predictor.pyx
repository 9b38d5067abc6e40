# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""Forward passes that nothing changes any more: from Python in a call, from C by an address."""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport (
    PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uintptr_t

from fastnn._kernels.core cimport fastnn_call, fastnn_op
from fastnn._kernels.door cimport is_array, labels_in_range
from fastnn._kernels.program cimport Patch, Program

cdef extern from "packed.h":
    ptrdiff_t fastnn_packed_stride(ptrdiff_t out, ptrdiff_t item)

cdef extern from "predict.h" nogil:
    int FASTNN_X, FASTNN_Y, FASTNN_BUFFER, FASTNN_ROWS
    enum: FASTNN_KINDS
    ctypedef struct fastnn_hole:
        ptrdiff_t call
        ptrdiff_t index
        ptrdiff_t value
    ctypedef struct fastnn_buffer:
        ptrdiff_t bytes
        ptrdiff_t row_bytes
    ctypedef struct fastnn_frozen:
        const fastnn_call *calls
        const fastnn_op *epilogues
        ptrdiff_t call_count
        ptrdiff_t epilogue_count
        const fastnn_hole *holes
        ptrdiff_t ends[FASTNN_KINDS]
        const fastnn_buffer *buffers
        ptrdiff_t buffer_count
        ptrdiff_t most_rows
        ptrdiff_t x_bytes
        ptrdiff_t y_bytes
        int is_double
        void *owner
    int fastnn_frozen_run(fastnn_frozen *f, const void *x, ptrdiff_t rows, void *y)
    void fastnn_predict(void *context, const void *x, ptrdiff_t rows, void *y)
    void fastnn_frozen_clear(fastnn_frozen *f)

cdef extern from *:
    """
    static int exchange(int *at, int value) {
        return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL);
    }
    """
    int exchange(int *at, int value) noexcept nogil

cnp.import_array()

# The signature of the C function, as scipy.LowLevelCallable reads it from a capsule's name.
cdef const char *SIGNATURE = "void (void *, void *, ptrdiff_t, void *)"

# Work of a run, in the unit of the costs in the table of kernels, from which on other threads of
# Python may run meanwhile: 20 microseconds. To let them takes a tenth of one.
cdef double LONG_WORK = 2e6

# Rows that are computed at a time: as many as have buffers of so many bytes, within these bounds.
cdef ptrdiff_t BUFFER_BYTES = 1 << 20
cdef ptrdiff_t FEWEST_ROWS = 24
cdef ptrdiff_t MOST_ROWS = 384

ADDRESS = <uintptr_t>&fastnn_predict


def packed_elements(ptrdiff_t ins, ptrdiff_t outs, ptrdiff_t itemsize):
    """Return how many elements the kernel `linear_pack` needs for weights (outs, ins)."""
    return ins * fastnn_packed_stride(outs, itemsize)


cdef struct Form:  # of an array whose first axis counts rows
    int typenum
    int ndim
    cnp.npy_intp shape[64]


cdef Form form_of(dtype, tuple shape):
    cdef Form form
    form.typenum, form.ndim, form.shape[0] = dtype.num, 1 + len(shape), 0
    for i, extent in enumerate(shape):
        form.shape[1 + i] = extent
    return form


cdef bint has_shape(cnp.ndarray array, const Form *form, int first) noexcept:
    """Whether the axes of an array are those of the form, from axis `first` of that on."""
    cdef int i
    if cnp.PyArray_NDIM(array) != form.ndim - first:
        return False
    for i in range(max(first, 1), form.ndim):
        if cnp.PyArray_DIM(array, i - first) != form.shape[i]:
            return False
    return True


cdef class Frozen:
    """A forward pass for one shape of inputs, that reads weights which nothing changes.

    Parameters
    ----------
    program : Program
        Without layers in Python. Its arrays of the caller but for x and y stay as they are bound.
    x_shape, y_shape : tuple of int
        Of a row.
    rows : int, optional
        How many rows there are in every run; any number of them if 0.
    """
    cdef fastnn_frozen f
    cdef fastnn_hole *holes
    cdef fastnn_buffer *buffers
    cdef object program, states
    cdef readonly object dtype
    cdef readonly tuple x_shape, y_shape
    cdef Form x, y
    cdef Py_ssize_t rows
    cdef int64_t index_limit
    cdef double work, work_per_row
    cdef int busy  # whether a run is under way, if runs are one after the other

    def __init__(self, Program program, tuple x_shape, tuple y_shape, Py_ssize_t rows=0,
                 states=None):
        cdef Py_ssize_t i, row_bytes = 0
        schedule = program.schedule
        self.program, self.states, self.rows = program, states, rows
        if states is not None:
            program._bind_others(states, rows)
        self.dtype, self.x_shape, self.y_shape = schedule.dtype, x_shape, y_shape
        self.x, self.y = form_of(schedule.x.dtype, x_shape), form_of(schedule.y.dtype, y_shape)
        self.work, self.work_per_row = program.work, program.work_per_row
        f = &self.f
        f.calls, f.call_count = program.calls, program.call_count
        f.epilogues = program.epilogues
        f.epilogue_count = len(schedule.operations) - len(schedule.calls)
        f.x_bytes, f.y_bytes = schedule.x.row_bytes, schedule.y.row_bytes
        self.index_limit = schedule.index_limit or 0
        f.is_double = schedule.dtype.itemsize == 8
        f.owner = <void *>self
        f.buffer_count = len(program.storages)
        self.buffers = <fastnn_buffer *>PyMem_Calloc(f.buffer_count + 1, sizeof(fastnn_buffer))
        self.holes = <fastnn_hole *>PyMem_Calloc(program.size_end + 1, sizeof(fastnn_hole))
        if self.buffers == NULL or self.holes == NULL:
            raise MemoryError("predictor")
        f.buffers, f.holes = self.buffers, self.holes
        for i, storage in enumerate(program.storages):
            self.buffers[i].bytes, self.buffers[i].row_bytes = storage.bytes, storage.row_bytes
            row_bytes += storage.row_bytes
        f.most_rows = max(FEWEST_ROWS, min(MOST_ROWS, BUFFER_BYTES // max(1, row_bytes)))
        if rows:
            f.most_rows = rows
        self._fill(program)

    def _fill(self, Program program):
        """Note where the addresses and numbers go that differ between sets of buffers."""
        cdef Py_ssize_t i, count = 0
        cdef int kind
        cdef Patch *patch
        for kind in range(FASTNN_KINDS):
            for i in range(program.size_end):
                patch = &program.patches[i]
                if kind != (
                    FASTNN_ROWS if i >= program.storage_end else
                    FASTNN_BUFFER if i >= program.slot_end else
                    FASTNN_X if patch.value == program.x_slot else
                    FASTNN_Y if patch.value == program.y_slot else -1
                ):
                    continue
                self.holes[count].call = self._place(program, <char *>patch.args)
                self.holes[count].index, self.holes[count].value = patch.index, patch.value
                count += 1
            self.f.ends[kind] = count

    cdef ptrdiff_t _place(self, Program program, const char *args):
        """Bytes from the first operation to these arguments, once epilogues lie behind calls."""
        cdef ptrdiff_t size = self.f.call_count * sizeof(fastnn_call)
        cdef ptrdiff_t place = args - <const char *>program.calls
        if 0 <= place < size:
            return place
        return size + (args - <const char *>program.epilogues)

    def __dealloc__(self):
        fastnn_frozen_clear(&self.f)
        PyMem_Free(self.holes)
        PyMem_Free(self.buffers)

    @property
    def context(self):
        """The address of what the C function gets first."""
        return <uintptr_t>&self.f

    def capsule(self):
        """Return a PyCapsule of the C function and its context, which keeps this alive."""
        capsule = PyCapsule_New(<void *>&fastnn_predict, SIGNATURE, let_go)
        PyCapsule_SetContext(capsule, &self.f)
        Py_INCREF(self)
        return capsule

    cdef int run(self, cnp.ndarray x, Py_ssize_t rows, cnp.ndarray y) except -1:
        """Compute y from x, both checked."""
        cdef int failed
        if self.rows and exchange(&self.busy, 1):
            raise RuntimeError("stream: expected one call at a time, got another from a second "
                               "thread; make a stream for each")
        if self.work + rows * self.work_per_row < LONG_WORK:
            failed = fastnn_frozen_run(&self.f, cnp.PyArray_DATA(x), rows, cnp.PyArray_DATA(y))
        else:
            with nogil:
                failed = fastnn_frozen_run(&self.f, cnp.PyArray_DATA(x), rows, cnp.PyArray_DATA(y))
        if self.rows:
            exchange(&self.busy, 0)
        if failed:
            raise MemoryError("predictor")
        return 0

    def __call__(self, x, y):
        """Compute y from x, (rows, ...) both, which the caller has checked."""
        self.run(x, cnp.PyArray_DIM(x, 0), y)


cdef void let_go(object capsule) noexcept:
    cdef fastnn_frozen *f = <fastnn_frozen *>PyCapsule_GetContext(capsule)
    Py_DECREF(<object>f.owner)


cdef class Caller:
    """What is called with an array: the last forward pass takes it as it is, if it fits.

    Whatever does not, a subclass answers in `_answer(x, out)`.

    Attributes
    ----------
    last : Frozen or None
    single : bool
        Whether an input without an axis for rows is one row.
    """
    cdef Frozen _last
    cdef public bint single

    @property
    def last(self):
        """The forward pass that answered last."""
        with cython.critical_section(self):
            return self._last

    @last.setter
    def last(self, Frozen f):
        with cython.critical_section(self):
            self._last = f

    def __call__(self, x, *, out=None):
        cdef Frozen f
        cdef cnp.ndarray y
        cdef cnp.npy_intp shape[64]
        cdef int axis, first = 0
        cdef Py_ssize_t rows = 1
        with cython.critical_section(self):  # another thread may put another in its place
            f = self._last
        if (f is None or not is_array(x, f.x.typenum)
                or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)):
            return self._answer(x, out)
        if has_shape(x, &f.x, 0):
            rows = cnp.PyArray_DIM(<cnp.ndarray>x, 0)
        elif self.single and has_shape(x, &f.x, 1):
            first = 1
        else:
            return self._answer(x, out)
        if (f.rows and rows != f.rows) or (f.index_limit and not labels_in_range(
                <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>x),
                cnp.PyArray_SIZE(<cnp.ndarray>x), f.index_limit, False, 0)):
            return self._answer(x, out)
        if out is None:
            shape[0] = rows
            for axis in range(1, f.y.ndim):
                shape[axis] = f.y.shape[axis]
            y = cnp.PyArray_EMPTY(f.y.ndim - first, shape + first, f.y.typenum, 0)
        elif (is_array(out, f.y.typenum) and cnp.PyArray_ISCARRAY(<cnp.ndarray>out)
                and has_shape(out, &f.y, first)
                and (first or cnp.PyArray_DIM(<cnp.ndarray>out, 0) == rows)
                and apart(x, out)):
            y = out
        else:
            return self._answer(x, out)
        f.run(x, rows, y)
        return y


cdef bint apart(cnp.ndarray x, cnp.ndarray y) noexcept:
    """Whether two contiguous arrays share no memory."""
    cdef const char *a = cnp.PyArray_BYTES(x)
    cdef const char *b = cnp.PyArray_BYTES(y)
    return a + cnp.PyArray_NBYTES(x) <= b or b + cnp.PyArray_NBYTES(y) <= a
