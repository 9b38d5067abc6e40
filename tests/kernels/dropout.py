"""Dropout."""

import numpy as np

from fastnn import reference

from .table import NON_FINITE, Case, Draw, Row, wide


def dropout(draw: Draw, size: int) -> Case:
    x = draw.normal(3, size)
    state = draw.rng.integers(0, 2**64, 2, np.uint64)
    y, mask = reference.dropout_forward(*wide(x), 0.3, int(state[0]), int(state[1]))
    return Case((x, state), (y, mask), (size,), (0.3,), 3, scale=(0, 0))


def dropout_back(draw: Draw, size: int) -> Case:
    dy, mask = draw.normal(3, size), draw.integers(2, 3, size).astype(np.uint8)
    dx = reference.dropout_backward(*wide(dy), mask, 0.3)
    return Case((dy, mask), (dx,), (size,), (0.3,), 3)


ROWS = [
    Row("dropout_forward", dropout, 2, NON_FINITE),
    Row("dropout_backward", dropout_back, 2, NON_FINITE),
]
