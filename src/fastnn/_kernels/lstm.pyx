# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""One step of an LSTM, where handling arrays in Python would take longer than the work."""

cimport numpy as cnp
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.core cimport fastnn_args, fastnn_kernel, find_entry, kernel_of

cdef extern from "recurrent.h":
    ptrdiff_t fastnn_lstm_panel_elements(ptrdiff_t hidden, ptrdiff_t item)

cnp.import_array()


def panel_elements(ptrdiff_t hidden, ptrdiff_t itemsize):
    """Return how many elements the kernel `lstm_pack` needs for each packed weight_hh."""
    return fastnn_lstm_panel_elements(hidden, itemsize)


cdef bint is_matrix(object array, int typenum, cnp.npy_intp rows, cnp.npy_intp cols):
    """Whether kernels can read it as it is, with this dtype and shape."""
    return (type(array) is cnp.ndarray and cnp.PyArray_TYPE(<cnp.ndarray>array) == typenum
            and cnp.PyArray_NDIM(<cnp.ndarray>array) == 2
            and cnp.PyArray_DIM(<cnp.ndarray>array, 0) == rows
            and cnp.PyArray_DIM(<cnp.ndarray>array, 1) == cols
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array))


def lstm_step(x, h, c, weight_ih, weight_hh, bias):
    """Return the new (h, c), or None if an argument must be converted or does not fit."""
    cdef fastnn_args args
    cdef cnp.npy_intp batch, features, hidden
    cdef int typenum
    cdef fastnn_kernel kernel
    cdef void *scratch
    cdef cnp.ndarray new_h, new_c
    if (type(x) is not cnp.ndarray or type(h) is not cnp.ndarray or cnp.PyArray_NDIM(x) != 2
            or cnp.PyArray_NDIM(h) != 2):
        return None
    typenum = cnp.PyArray_TYPE(x)
    batch, features = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1)
    hidden = cnp.PyArray_DIM(h, 1)
    if not ((typenum == cnp.NPY_FLOAT or typenum == cnp.NPY_DOUBLE)
            and is_matrix(x, typenum, batch, features) and is_matrix(h, typenum, batch, hidden)
            and is_matrix(c, typenum, batch, hidden)
            and is_matrix(weight_ih, typenum, 4 * hidden, features)
            and is_matrix(weight_hh, typenum, 4 * hidden, hidden)):
        return None
    if bias is not None and not (
            type(bias) is cnp.ndarray and cnp.PyArray_TYPE(bias) == typenum
            and cnp.PyArray_NDIM(bias) == 1 and cnp.PyArray_DIM(bias, 0) == 4 * hidden
            and cnp.PyArray_ISCARRAY_RO(bias)):
        return None
    kernel = kernel_of(find_entry("lstm_step"), typenum == cnp.NPY_DOUBLE)
    new_h = cnp.PyArray_EMPTY(2, cnp.PyArray_DIMS(h), typenum, 0)
    new_c = cnp.PyArray_EMPTY(2, cnp.PyArray_DIMS(h), typenum, 0)
    memset(&args, 0, sizeof(args))
    args.p[0], args.p[1] = cnp.PyArray_DATA(new_h), cnp.PyArray_DATA(new_c)
    args.p[2], args.p[3] = cnp.PyArray_DATA(x), cnp.PyArray_DATA(h)
    args.p[4] = cnp.PyArray_DATA(c)
    args.p[5], args.p[6] = cnp.PyArray_DATA(weight_ih), cnp.PyArray_DATA(weight_hh)
    if bias is not None:
        args.p[7] = cnp.PyArray_DATA(bias)
    args.n[0], args.n[1] = features, hidden
    scratch = malloc(4 * hidden * sizeof(double) + 64)
    if scratch == NULL:
        raise MemoryError("lstm_step")
    with nogil:
        kernel(&args, 0, batch, scratch)
    free(scratch)
    return new_h, new_c
