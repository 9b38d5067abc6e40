# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=True, embedsignature=False
"""Streams and short sequences, where handling arrays in Python would take longer than the work."""

cimport numpy as cnp
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.core cimport fastnn_args, fastnn_kernel, find_entry, kernel_of
from fastnn._kernels.door cimport empty
from fastnn._kernels.program cimport Program

cnp.import_array()


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


cdef void bind(Program program, str name, cnp.ndarray array):
    """Point the slot `name` at an array, or at nothing."""
    program._bind(program.slots.get(name, -1), NULL if array is None else cnp.PyArray_DATA(array))


cdef void bind_cells(Program program, list names, cnp.ndarray states):
    """Point the slot of each cell at its part of `states`, or all at nothing."""
    cdef Py_ssize_t i
    cdef char *address = NULL
    for i in range(len(names)):
        if states is not None:
            address = cnp.PyArray_BYTES(states) + i * cnp.PyArray_STRIDE(states, 0)
        program._bind(program.slots.get(names[i], -1), address)


def lstm_forward(Program program, dict slots, tuple shape, cnp.ndarray x, cnp.ndarray initial,
                 cnp.ndarray lengths):
    """Run whole sequences through `program`; return y and the final states, interleaved.

    `slots` has for each kind of state the slot of each cell, `shape` is that of the states of one
    kind.
    """
    cdef Py_ssize_t rows = cnp.PyArray_DIM(x, 0)
    cdef cnp.ndarray y = empty((rows, *program.schedule.y.shape), x.descr)
    cdef cnp.ndarray final = empty((shape[0], shape[1], 2, shape[2]), x.descr)
    try:
        bind(program, "x", x)
        bind(program, "y", y)
        bind(program, "lengths", lengths)
        bind_cells(program, slots["initial"], initial)
        bind_cells(program, slots["final"], final)
        program.forward(rows)
    finally:  # others run this program too: Trainer.predict does
        bind(program, "lengths", None)
        bind_cells(program, slots["initial"], None)
        bind_cells(program, slots["final"], None)
    return y, final


def lstm_backward(Program program, dict slots, tuple shape, cnp.ndarray x, cnp.ndarray dy,
                  cnp.ndarray dfinal, cnp.ndarray lengths, bint accumulate):
    """Run the backward pass of `lstm_forward`; return dx and the initial states' gradients."""
    cdef cnp.ndarray dx = empty((<object>x).shape, x.descr)
    cdef cnp.ndarray dinitial = empty((shape[0], shape[1], 2, shape[2]), x.descr)
    try:
        bind(program, "dy", dy)
        bind(program, "dx", dx)
        bind(program, "lengths", lengths)
        bind_cells(program, slots["dfinal"], dfinal)
        bind_cells(program, slots["dinitial"], dinitial)
        program.set_accumulate(accumulate)
        program.backward(cnp.PyArray_DIM(x, 0))
    finally:
        bind(program, "lengths", None)
        bind_cells(program, slots["dfinal"], None)
        bind_cells(program, slots["dinitial"], None)
    return dx, dinitial
