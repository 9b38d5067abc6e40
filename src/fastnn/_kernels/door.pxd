"""Checks of arrays for the other compiled modules."""

cimport numpy as cnp
from libc.stdint cimport int64_t

cpdef as_input(obj, str name, cnp.dtype dtype=*)
cpdef bint ready(x, cnp.dtype dtype)
cdef bint is_array(object x, int typenum)
cdef bint is_ready(tuple arrays, Py_ssize_t optional)
cdef int float_type(object x)
cdef bint takes(object out, tuple shape, int typenum, inputs, bint in_place)
cdef cnp.npy_intp rows_of(str name, cnp.ndarray x, cnp.npy_intp columns) except -1
cdef tuple with_columns(cnp.ndarray x, cnp.npy_intp columns)
cdef cnp.ndarray operand(cnp.ndarray x, cnp.npy_intp *row, cnp.npy_intp *column)
cpdef output(out, tuple shape, cnp.dtype dtype, inputs, bint in_place=*)
cpdef empty(tuple shape, cnp.dtype dtype)
cpdef Py_ssize_t rows(cnp.ndarray x)
cdef bint labels_in_range(const int64_t *labels, ptrdiff_t count, int64_t classes, bint ignores,
                          int64_t ignored) noexcept nogil
