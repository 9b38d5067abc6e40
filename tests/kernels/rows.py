"""Sums, copies and choices of rows."""

import numpy as np

from fastnn import reference

from .table import EDGES, Case, Draw, Row, wide


def add(draw: Draw, size: int) -> Case:
    a, b = draw.normal(3, size), draw.normal(3, size)
    return Case((a, b), (reference.add_forward(*wide(a, b)),), (size,), (), 3)


def clip(draw: Draw, size: int) -> Case:
    x, limit = draw.normal(3 * size), 0.5
    return Case((x,), (reference.clip(x, limit, 0.25),), scalars=(limit, 0.25), items=3 * size)


def copy(draw: Draw, size: int) -> Case:
    x, y = draw.normal(4, size + 5), draw.normal(4, size + 3)
    expected = reference.copy_columns(y, x, size, y_start=1, x_start=2)
    return Case((x,), (expected,), (size, size + 3, size + 5, 1, 2), (), 4, initial=(y,))


def gather(draw: Draw, size: int) -> Case:
    x, index = draw.normal(7, size), draw.integers(7, 11)
    expected = reference.gather_rows(x, index)
    return Case((x, index), (expected,), (size * draw.dtype.itemsize,), (), 11)


def square_sum(draw: Draw, size: int) -> Case:
    x = draw.normal(3 * size)
    sums = np.array(reference.square_sum(x))
    return Case((x,), (sums,), items=3 * size, initial=(np.zeros(2),))


ROWS = [
    Row("add_forward", add, 1, EDGES),
    Row("clip", clip, 0, EDGES),
    Row("copy_columns", copy, 0, EDGES),
    Row("gather_rows", gather, 0, EDGES),
    Row("square_sum", square_sum, 8),
]
