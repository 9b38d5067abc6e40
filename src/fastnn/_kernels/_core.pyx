# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""The only door between Python and the C kernels: instruction set, threads, single calls."""

import os

cimport numpy as cnp
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **out, size_t alignment, size_t size)

cdef extern from "dispatch.h":
    ctypedef struct fastnn_table:
        const char *isa
        int vector_bytes
        int count
        const fastnn_entry *entries
    const fastnn_table *fastnn_active
    int fastnn_threads
    int fastnn_dispatch(const char *request)
    const char *fastnn_variant(int i, int *supported)

cdef extern from "program.h" nogil:
    void fastnn_execute(const fastnn_run *run)
    double fastnn_sum(const void *values, ptrdiff_t n, int is_double)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static int processors(void) { return omp_get_num_procs(); }
    static int openmp_threads(void) { return omp_get_max_threads(); }
    static const int has_openmp = 1;
    #else
    static int processors(void) { return 1; }
    static int openmp_threads(void) { return 1; }
    static const int has_openmp = 0;
    #endif
    """
    int processors() nogil
    int openmp_threads() nogil
    const int has_openmp

cnp.import_array()


# Instruction set ------------------------------------------------------------------------------

def variants():
    """Return the instruction sets of this build, best first, each with whether it runs here."""
    cdef int i = 0, supported = 0
    found = {}
    while True:
        name = fastnn_variant(i, &supported)
        if name == NULL:
            return found
        found[name.decode()] = bool(supported)
        i += 1


def select_isa(str name=""):
    """Use the kernels of the instruction set `name`; the best one that runs here if empty."""
    if fastnn_dispatch(name.encode()) != 0:
        known = variants()
        usable = ", ".join(key for key, runs in known.items() if runs)
        reason = "this processor does not run it" if name in known else "there is no such variant"
        raise ValueError(f"FASTNN_ISA: expected one of {usable}, got {name!r} ({reason})")


def isa():
    """Return the name of the instruction set in use."""
    return fastnn_active.isa.decode()


def vector_bytes():
    """Return the width of a vector register of the instruction set in use, in bytes."""
    return fastnn_active.vector_bytes


def kernel_names():
    """Return the names of all kernels in the table."""
    return [fastnn_active.entries[i].name.decode() for i in range(fastnn_active.count)]


# Threads --------------------------------------------------------------------------------------

def set_num_threads(n):
    """Set how many threads a step, a prediction or a function of :mod:`fastnn.ops` may use.

    Parameters
    ----------
    n : int
        At least 1. Work too small to share runs on one thread whatever the limit.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.
    """
    global fastnn_threads
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected an integer, got {type(n).__name__}")
    n = n.__index__()
    if n < 1 or n > 1024:
        raise ValueError(f"n: expected a number of threads from 1 to 1024, got {n}")
    fastnn_threads = n


def get_num_threads():
    """Return how many threads a training step may use."""
    return thread_limit()


def openmp():
    """Return whether this build has OpenMP."""
    return bool(has_openmp)


cdef int thread_limit() noexcept nogil:
    # threadpoolctl lowers OpenMP's own limit; the smaller of the two counts
    cdef int limit = openmp_threads()
    return fastnn_threads if fastnn_threads < limit else limit


def _initialise():
    global fastnn_threads
    select_isa(os.environ.get("FASTNN_ISA", ""))
    fastnn_threads = max(1, processors())
    wanted = os.environ.get("FASTNN_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"FASTNN_NUM_THREADS: expected a positive integer, got {wanted!r}")
        set_num_threads(int(wanted))


_initialise()

# GNU OpenMP's threads do not survive a fork, and its next parallel region would wait for them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: set_num_threads(1))


# For the other compiled modules ---------------------------------------------------------------

# Where each kernel stands in the table, which is in one order for all instruction sets.
cdef dict places = {name: i for i, name in enumerate(kernel_names())}


cdef fastnn_kernel find_kernel(str name, bint is_double) except NULL:
    cdef object place = places.get(name)
    if place is None:
        raise KeyError(f"no kernel named {name!r}")
    cdef const fastnn_entry *entry = &fastnn_active.entries[<Py_ssize_t>place]
    return entry.f64 if is_double else entry.f32


cdef void execute(const fastnn_run *run) noexcept nogil:
    fastnn_execute(run)


cdef double sum_losses(const void *values, ptrdiff_t n, bint is_double) noexcept nogil:
    return fastnn_sum(values, n, is_double)


# Arrays ---------------------------------------------------------------------------------------

# What fits is seen here; what does not, `fastnn._checks` converts or refuses.

cpdef bint ready(x, cnp.dtype dtype):
    """Return whether it is an array of that native dtype which kernels can read as it is."""
    return is_array(x, dtype.type_num) and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)


cdef bint is_array(object x, int typenum):
    return (type(x) is cnp.ndarray and cnp.PyArray_TYPE(<cnp.ndarray>x) == typenum
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>x))


cdef bint is_ready(tuple arrays, Py_ssize_t optional):
    """Whether kernels can use the arrays as they are; the last `optional` may be None."""
    cdef Py_ssize_t i, count = len(arrays)
    cdef int typenum = float_type(arrays[0])
    for i in range(count):
        if arrays[i] is None:
            if i < count - optional:
                return False
        elif not (is_array(arrays[i], typenum)
                  and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>arrays[i])):
            return False
    return True


cdef int float_type(object x):
    """The type number of an array of float32 or float64, else -1."""
    cdef int typenum = cnp.PyArray_TYPE(<cnp.ndarray>x) if type(x) is cnp.ndarray else -1
    return typenum if typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE else -1


cdef bint takes(object out, tuple shape, int typenum, inputs, bint in_place):
    """Whether `out` can take a result as it is: False if that needs a closer look, too."""
    cdef cnp.ndarray x, y
    cdef const char *start
    cdef const char *first
    cdef Py_ssize_t i
    if not (is_array(out, typenum) and cnp.PyArray_ISCARRAY(<cnp.ndarray>out)):
        return False
    y = <cnp.ndarray>out
    if cnp.PyArray_NDIM(y) != len(shape):
        return False
    for i in range(len(shape)):
        if cnp.PyArray_DIM(y, i) != <cnp.npy_intp>shape[i]:
            return False
    start = cnp.PyArray_BYTES(y)
    for x in inputs:
        if x is None:
            continue
        first = cnp.PyArray_BYTES(x)
        if in_place and first == start:
            continue
        if not cnp.PyArray_ISONESEGMENT(x) or (
                first < start + cnp.PyArray_NBYTES(y) and start < first + cnp.PyArray_NBYTES(x)):
            return False
    return True


def floats(tuple names, *arrays, Py_ssize_t optional=0):
    """View arrays as C-contiguous ones of one dtype, converting those that are not.

    It is float64 if any of them is, or is wider; else float32, whatever the integers among them.
    The last `optional` may be None, and stay so.

    Raises
    ------
    TypeError
        If one is no array of real numbers; `names` says what to call it.
    """
    if is_ready(arrays, optional):
        return arrays
    from fastnn._checks import as_floats
    return as_floats(names, arrays, optional)


def linear_shapes(cnp.ndarray x, cnp.ndarray weight):
    """Return rows, in, out and the output's shape of a linear layer, for x (..., in).

    Raises
    ------
    ValueError
        If weight is not (out, in), or x does not fit.
    """
    if cnp.PyArray_NDIM(weight) != 2:
        raise ValueError(f"weight: expected two axes (out, in), got shape {(<object>weight).shape}")
    outs, ins = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
    return rows_of("x", x, ins), ins, outs, with_columns(x, outs)


def product(a, b, out):
    """Return the arrays of the product A B, its sizes as the kernel takes them, and its rows.

    The operands stay where they are if they have one dtype, and elements of rows or of columns
    lie side by side.

    Raises
    ------
    TypeError, ValueError
        As :func:`floats` and :func:`output`, or if a shape does not fit.
    """
    cdef int typenum = float_type(a)
    cdef cnp.npy_intp a_row, a_column, b_row, b_column
    if not (is_array(a, typenum) and is_array(b, typenum)):
        a, b = floats(("a", "b"), a, b)
    if cnp.PyArray_NDIM(b) != 2:
        raise ValueError(f"b: expected two axes (k, n), got shape {b.shape}")
    k, n = cnp.PyArray_DIM(b, 0), cnp.PyArray_DIM(b, 1)
    count = rows_of("a", a, k)
    y = output(out, with_columns(a, n), (<cnp.ndarray>a).descr, (a, b))
    if cnp.PyArray_NDIM(a) != 2:
        a = a.reshape(count, k)
    a, b = operand(a, &a_row, &a_column), operand(b, &b_row, &b_column)
    return (y, a, b), (n, k, a_row, a_column, b_row, b_column), count


cdef cnp.npy_intp rows_of(str name, cnp.ndarray x, cnp.npy_intp columns) except -1:
    """Count the rows of an array, which have so many columns, or raise."""
    cdef int axes = cnp.PyArray_NDIM(x)
    if axes == 0 or cnp.PyArray_DIM(x, axes - 1) != columns:
        raise ValueError(
            f"{name}: expected {columns} elements on the last axis, got shape {(<object>x).shape}")
    return rows(x)


cdef tuple with_columns(cnp.ndarray x, cnp.npy_intp columns):
    """The shape of x with another last axis."""
    cdef int axes = cnp.PyArray_NDIM(x)
    if axes == 2:
        return (cnp.PyArray_DIM(x, 0), columns)
    return (*(<object>x).shape[:-1], columns)


cdef cnp.ndarray operand(cnp.ndarray x, cnp.npy_intp *row, cnp.npy_intp *column):
    """A matrix of which one stride is 1; the strides are counted in elements."""
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(x)
    row[0], column[0] = cnp.PyArray_STRIDE(x, 0), cnp.PyArray_STRIDE(x, 1)
    if not ((row[0] == size or column[0] == size) and row[0] % size == 0
            and column[0] % size == 0 and cnp.PyArray_ISALIGNED(x)):
        x = cnp.PyArray_FROMANY(x, cnp.PyArray_TYPE(x), 2, 2, cnp.NPY_ARRAY_CARRAY_RO)
        row[0], column[0] = cnp.PyArray_DIM(x, 1) * size, size
    row[0] //= size
    column[0] //= size
    return x


cpdef output(out, tuple shape, cnp.dtype dtype, inputs, bint in_place=False):
    """View `out`, the array in which the caller wants the result; a new one if it is None.

    Raises
    ------
    TypeError
        If it is no array, or has another dtype.
    ValueError
        If it has another shape, is read-only, strided, unaligned or byte-swapped, or shares memory
        with an input. With `in_place` it may be an input, but not overlap one in part.
    """
    if out is None:
        return empty(shape, dtype)
    if takes(out, shape, dtype.type_num, inputs, in_place):
        return out
    from fastnn._checks import as_output
    return as_output(out, shape, dtype, inputs, in_place)


cpdef empty(tuple shape, cnp.dtype dtype):
    """Return a new array of float32 or float64."""
    cdef cnp.npy_intp sizes[64]  # the most axes that an array can have
    cdef int i
    for i in range(len(shape)):
        sizes[i] = shape[i]
    return cnp.PyArray_EMPTY(len(shape), sizes, dtype.type_num, 0)


def zeros(tuple shape, cnp.dtype dtype):
    """Return a new array of zeros of float32 or float64."""
    cdef cnp.ndarray x = empty(shape, dtype)
    memset(cnp.PyArray_DATA(x), 0, cnp.PyArray_NBYTES(x))
    return x


cpdef Py_ssize_t rows(cnp.ndarray x):
    """Return the number of rows of an array, along its last axis."""
    cdef cnp.npy_intp count = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(x) - 1):
        count *= cnp.PyArray_DIM(x, i)
    return count


def total(cnp.ndarray x):
    """Return the sum of an array of float32 or float64, in order and in double precision."""
    cdef bint is_double = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    return fastnn_sum(cnp.PyArray_DATA(x), cnp.PyArray_SIZE(x), is_double)


cdef bint labels_in_range(const int64_t *labels, ptrdiff_t count, int64_t classes, bint ignores,
                          int64_t ignored) noexcept nogil:
    """Whether all labels are classes, or to be ignored."""
    cdef ptrdiff_t i
    for i in range(count):
        if not (0 <= labels[i] < classes or (ignores and labels[i] == ignored)):
            return False
    return True


def are_labels(cnp.ndarray labels, Py_ssize_t classes, ignore_index):
    """Return whether all of the int64 labels are in [0, classes), or equal to ignore_index."""
    cdef int64_t ignored = 0 if ignore_index is None else ignore_index
    return labels_in_range(<const int64_t *>cnp.PyArray_DATA(labels), cnp.PyArray_SIZE(labels),
                           classes, ignore_index is not None, ignored)


# Single calls ---------------------------------------------------------------------------------

cdef class Scratch:
    """Aligned memory for the kernels' packing, `blocks` times FASTNN_SCRATCH bytes."""
    cdef void *data
    cdef int blocks

    def __cinit__(self, int blocks=1):
        self.data = NULL
        self.blocks = blocks
        if posix_memalign(&self.data, 64, <size_t>(blocks * FASTNN_SCRATCH)) != 0:
            raise MemoryError("scratch memory for the kernels")

    def __dealloc__(self):
        free(self.data)

    @property
    def address(self):
        return <uintptr_t>self.data


# Scratch memory that no call is using. Calls run without the GIL, so each takes its own.
cdef list spare_scratch = []


cdef class Pace:
    """What is known of how fast large calls of one kernel and shape are."""
    cdef fastnn_pace known


# By kernel, sizes and items; learnt anew when they are many.
cdef dict paces = {}
cdef int MOST_PACES = 1000

# Operations of a matrix product below which one thread is about as fast as several: starting and
# joining them takes 3 µs, the time of 0.5e6.
cdef double THREAD_WORK = 3e6


cdef Pace pace_of(tuple key):
    if len(paces) >= MOST_PACES:
        paces.clear()
    return paces.setdefault(key, Pace())


def call(str name, cnp.dtype dtype, tuple pointers, tuple sizes=(), tuple scalars=(),
         Py_ssize_t items=0, bint accumulate=False, Py_ssize_t work=0):
    """Run the kernel `name` on checked arrays, without the GIL.

    Pointers are arrays or None, in the order that the kernel's comment gives. Nothing is
    checked here: `fastnn.ops` does that. Items are shared among threads if their `work`, the
    time of one in operations of a product, is given and adds up to enough.
    """
    cdef fastnn_call single
    cdef fastnn_run run
    cdef fastnn_args *args = &single.op.args
    cdef int never = 0
    cdef Py_ssize_t i
    cdef Scratch scratch = None
    cdef Pace pace
    memset(&single, 0, sizeof(single))
    single.op.kernel = find_kernel(name, dtype.type_num == cnp.NPY_DOUBLE)
    single.split, single.items = FASTNN_BY_ROWS, 1
    for i in range(len(pointers)):
        if pointers[i] is not None:
            args.p[i] = cnp.PyArray_DATA(<cnp.ndarray>pointers[i])
    for i in range(len(sizes)):
        args.n[i] = sizes[i]
    for i in range(len(scalars)):
        args.s[i] = scalars[i]
    args.accumulate = accumulate
    if items <= 0:
        return
    run.calls, run.count, run.update, run.rows = &single, 1, NULL, items
    run.failed, run.keep_denormals = &never, 1
    run.threads = 1
    if items > 1 and <double>work * items >= THREAD_WORK:
        run.threads = thread_limit()
        pace = pace_of((<uintptr_t>single.op.kernel, sizes, items))
        run.pace = &pace.known
    if spare_scratch:
        scratch = <Scratch>spare_scratch.pop()
    if scratch is None or scratch.blocks < run.threads:
        scratch = Scratch(run.threads)
    run.scratch = <char *>scratch.data
    with nogil:
        execute(&run)
    spare_scratch.append(scratch)
