"""The rows of recurrence and embeddings, and with them the whole table."""

from functools import partial

import numpy as np

from fastnn import reference
from fastnn._kernels import core

from .kernel_table import TABLE as OTHERS
from .kernel_table import Case, Draw, Row, accumulated, wide

ROWS, STEPS = 5, 3
LENGTHS = np.array([3, 0, 1, 2, 3])


def hidden_units(size: int) -> int:
    return min(max(size, 1), 130)


def packed(draw: Draw, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    bias = np.zeros(len(weight), weight.dtype)
    lanes = core.vector_bytes() // draw.dtype.itemsize
    return reference.lstm_pack(weight, bias, bias, lanes)


def pack(draw: Draw, size: int) -> Case:
    hidden = hidden_units(size)
    given = draw.normal(4 * hidden, hidden), draw.normal(4 * hidden), draw.normal(4 * hidden)
    lanes = core.vector_bytes() // draw.dtype.itemsize
    expected = reference.lstm_pack(*given, lanes)
    return Case(given, expected, (hidden,), (), hidden)


def weight_hh(draw: Draw, hidden: int) -> np.ndarray:
    return draw.normal(4 * hidden, hidden, scale=1 / hidden**0.5)


def lstm(draw: Draw, size: int, padded: bool, reverse: bool) -> Case:
    hidden = hidden_units(size)
    weight, x = weight_hh(draw, hidden), draw.normal(ROWS, STEPS, 4, hidden)
    initial, lengths = draw.normal(ROWS, 2, hidden), LENGTHS if padded else None
    expected = reference.lstm_forward(
        *wide(x, initial), LENGTHS if padded else [STEPS] * ROWS, *wide(weight), reverse
    )
    # what lies past a length is cleared in previous, final and y, and left alone in the others
    start = tuple(np.full(e.shape, float(i > 1)) for i, e in enumerate(expected))
    return Case(
        (x, initial, lengths, packed(draw, weight)[0]), expected,
        (hidden, STEPS, hidden, 0, reverse, 0), (), ROWS, start if padded else None, (1,) * 5,
    )  # fmt: skip


def lstm_back(draw: Draw, size: int, padded: bool, reverse: bool) -> Case:
    hidden = hidden_units(size)
    weight, dy = weight_hh(draw, hidden), draw.normal(ROWS, STEPS, hidden)
    gates = np.abs(np.tanh(draw.normal(ROWS, STEPS, 4, hidden)))
    cells, dfinal = np.tanh(draw.normal(ROWS, STEPS, 2, hidden)), draw.normal(ROWS, 2, hidden)
    expected = reference.lstm_backward(
        *wide(gates, cells, dy, dfinal), LENGTHS if padded else [STEPS] * ROWS, *wide(weight),
        reverse,
    )  # fmt: skip
    inputs = (gates, cells, dy, dfinal, LENGTHS if padded else None, packed(draw, weight)[1])
    sizes = (hidden, STEPS, hidden, 0, reverse, 0)
    return Case(inputs, expected, sizes, (), ROWS, scale=(4, 4))


def lstm_step(draw: Draw, size: int, has_bias: bool) -> Case:
    features, hidden = size, hidden_units(size)
    x, h, c = draw.normal(3, features), draw.normal(3, hidden), draw.normal(3, hidden)
    weight_ih = draw.normal(4 * hidden, features, scale=1 / max(features, 1) ** 0.5)
    bias = draw.normal(4 * hidden) if has_bias else None
    inputs = (x, h, c, weight_ih, weight_hh(draw, hidden), bias)
    expected = reference.lstm_step(*wide(*inputs))
    return Case(inputs, expected, (features, hidden), (), 3, scale=(2, 2))


def embedding_back(draw: Draw, size: int, accumulate: bool) -> Case:
    dy, index = draw.normal(9, size), draw.integers(6, 9)
    expected = (reference.embedding_backward(*wide(dy), index, 6),)
    case = Case((dy, index), expected, (size, 9), (), 6, scale=(9,))
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


def sequences() -> list[Row]:
    """The rows of LSTM and embeddings."""
    rows = [Row("lstm_pack", pack, 1)]
    for padded in (False, True):
        for reverse in (False, True):
            options = {"padded": padded, "reverse": reverse}
            variant = ("padded" if padded else "full") + ("-reverse" if reverse else "")
            rows += [
                Row("lstm_forward", partial(lstm, **options), 16, variant=variant,
                    in_place=() if padded else (0,)),
                Row("lstm_backward", partial(lstm_back, **options), 32, variant=variant,
                    in_place=(0,)),
            ]  # fmt: skip
    for flag in (False, True):
        variant = "bias" if flag else "plain"
        rows.append(Row("lstm_step", partial(lstm_step, has_bias=flag), 16, variant=variant))
        variant = "accumulate" if flag else "plain"
        make = partial(embedding_back, accumulate=flag)
        rows.append(Row("embedding_backward", make, 2, variant=variant))
        for dense in (False, True):
            make = partial(embedding_rows, accumulate=flag, dense=dense)
            name = variant + "-dense" * dense
            rows.append(Row("embedding_backward_rows", make, 2, variant=name))
    return rows


TABLE = [*OTHERS, *sequences()]
