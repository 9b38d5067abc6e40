# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""The fast front of the door: what fits is seen here; what does not, `_door` converts or refuses.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastnn._door.arrays import as_floats, as_output, convert

cnp.import_array()


cpdef as_input(obj, str name, cnp.dtype dtype=None):
    """View an array that is only read, converting it if need be; see `_door.arrays.convert`."""
    if dtype is not None and ready(obj, dtype):
        return obj
    return convert(obj, name, dtype)


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
    return (*(<object>x).shape[:axes - 1], columns)


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


def fill_row(x, tuple names, cnp.ndarray out):
    """Write the numbers of a mapping into an array of float32 or float64, in the order of `names`.

    Raises
    ------
    KeyError
        If there is no such name.
    """
    cdef Py_ssize_t i
    cdef bint double = cnp.PyArray_TYPE(out) == cnp.NPY_DOUBLE
    for i in range(len(names)):
        if double:
            (<double *>cnp.PyArray_DATA(out))[i] = x[names[i]]
        else:
            (<float *>cnp.PyArray_DATA(out))[i] = x[names[i]]


def repeat_rows(cnp.ndarray x, Py_ssize_t times, cnp.ndarray out):
    """Copy each row of an array, along its first axis, so many times to the start of `out`."""
    cdef Py_ssize_t i, count = cnp.PyArray_DIM(x, 0)
    cdef Py_ssize_t size = cnp.PyArray_NBYTES(x) // max(count, 1)
    cdef char *source = cnp.PyArray_BYTES(x)
    cdef char *place = cnp.PyArray_BYTES(out)
    for i in range(count * times):
        memcpy(place + i * size, source + i // times * size, size)


cpdef Py_ssize_t rows(cnp.ndarray x):
    """Return the number of rows of an array, along its last axis."""
    cdef cnp.npy_intp count = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(x) - 1):
        count *= cnp.PyArray_DIM(x, i)
    return count


# Labels ---------------------------------------------------------------------------------------

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
