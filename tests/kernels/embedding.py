"""Gradients of embeddings."""

from functools import partial

import numpy as np

from fastnn import reference

from .table import Case, Draw, Row, accumulated, wide


def embedding_back(draw: Draw, size: int, accumulate: bool) -> Case:
    dy, index = draw.normal(9, size), draw.integers(6, 9)
    expected = (reference.embedding_backward(*wide(dy), index, 6),)
    case = Case((dy, index), expected, (size, 9, 6), (), 6, scale=(9,))
    return accumulated(draw, case) if accumulate else case


def embedding_rows(draw: Draw, size: int, accumulate: bool, dense: bool) -> Case:
    """The gradient of one batch after that of another, in which other rows were used."""
    first, dy, index = draw.normal(6, size), draw.normal(9, size), draw.integers(6, 9)
    before, rows, used = np.array([4, 1]), np.full(7, -1), np.zeros(6, np.uint8)
    first[[0, 2, 3, 5]] = 0
    rows[: len(before) + 1] = len(before), *before
    used[before] = 1
    expected = (
        first.astype(np.float64) * accumulate + reference.embedding_backward(*wide(dy), index, 6)
    )
    order = dict.fromkeys((*before, *index) if accumulate else index)
    found, marks = rows.copy(), np.zeros(6, np.uint8)
    found[: len(order) + 1] = len(order), *order
    marks[list(order)] = 1
    if dense:
        found[0] = -1
    return Case(
        (dy, index), (expected, found, marks), (size, 9, 6, dense), (), 1, (first, rows, used),
        (9,), accumulate,
    )  # fmt: skip


def embeddings() -> list[Row]:
    """The rows of all gradients: written or added, of the rows that a batch uses, or dense."""
    rows = []
    for flag in (False, True):
        variant = "accumulate" if flag else "plain"
        make = partial(embedding_back, accumulate=flag)
        rows.append(Row("embedding_backward", make, 2, variant=variant))
        for dense in (False, True):
            make = partial(embedding_rows, accumulate=flag, dense=dense)
            name = variant + "-dense" * dense
            rows.append(Row("embedding_backward_rows", make, 2, variant=name))
    return rows


ROWS = embeddings()
