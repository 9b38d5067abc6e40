"""LSTM."""

from functools import partial

import numpy as np

from fastnn import reference
from fastnn._kernels import core

from .table import Case, Draw, Row, wide

BATCH, STEPS = 5, 3
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
    weight, x = weight_hh(draw, hidden), draw.normal(BATCH, STEPS, 4, hidden)
    initial, lengths = draw.normal(BATCH, 2, hidden), LENGTHS if padded else None
    expected = reference.lstm_forward(
        *wide(x, initial), LENGTHS if padded else [STEPS] * BATCH, *wide(weight), reverse
    )
    # what lies past a length is cleared in previous, final and y, and left alone in the others
    start = tuple(np.full(e.shape, float(i > 1)) for i, e in enumerate(expected))
    return Case(
        (x, initial, lengths, packed(draw, weight)[0]), expected,
        (hidden, STEPS, hidden, 0, reverse, 0), (), BATCH, start if padded else None, (1,) * 5,
    )  # fmt: skip


def lstm_back(draw: Draw, size: int, padded: bool, reverse: bool) -> Case:
    hidden = hidden_units(size)
    weight, dy = weight_hh(draw, hidden), draw.normal(BATCH, STEPS, hidden)
    gates = np.abs(np.tanh(draw.normal(BATCH, STEPS, 4, hidden)))
    cells, dfinal = np.tanh(draw.normal(BATCH, STEPS, 2, hidden)), draw.normal(BATCH, 2, hidden)
    expected = reference.lstm_backward(
        *wide(gates, cells, dy, dfinal), LENGTHS if padded else [STEPS] * BATCH, *wide(weight),
        reverse,
    )  # fmt: skip
    inputs = (gates, cells, dy, dfinal, LENGTHS if padded else None, packed(draw, weight)[1])
    sizes = (hidden, STEPS, hidden, 0, reverse, 0)
    return Case(inputs, expected, sizes, (), BATCH, scale=(4, 4))


def lstm_step(draw: Draw, size: int, has_bias: bool) -> Case:
    features, hidden = size, hidden_units(size)
    x, h, c = draw.normal(3, features), draw.normal(3, hidden), draw.normal(3, hidden)
    weight_ih = draw.normal(4 * hidden, features, scale=1 / max(features, 1) ** 0.5)
    bias = draw.normal(4 * hidden) if has_bias else None
    inputs = (x, h, c, weight_ih, weight_hh(draw, hidden), bias)
    expected = reference.lstm_step(*wide(*inputs))
    return Case(inputs, expected, (features, hidden), (), 3, scale=(2, 2))


def lstm_single(draw: Draw, size: int, padded: bool, last: bool) -> Case:
    features, hidden = size, hidden_units(size)
    x, initial = draw.normal(BATCH, features), draw.normal(BATCH, 2, hidden) if padded else None
    weight_ih = draw.normal(4 * hidden, features, scale=1 / max(features, 1) ** 0.5)
    weights = weight_ih, weight_hh(draw, hidden), draw.normal(4 * hidden), draw.normal(4 * hidden)
    lengths = np.minimum(LENGTHS, 1) if padded else None
    ih, hh, *biases = wide(*weights)
    state = np.zeros((BATCH, 2, hidden)) if initial is None else initial.astype(np.float64)
    final = np.stack(
        reference.lstm_step(*wide(x), state[:, 0], state[:, 1], ih, hh, sum(biases)), axis=1
    )
    h = final[:, 0].copy()
    if padded:
        final[lengths == 0] = state[lengths == 0]
        h[lengths == 0] = state[lengths == 0, 0] if last else 0
    y, room = np.zeros((BATCH, hidden + 2)), np.zeros((BATCH, 5, hidden))
    y[:, 1:-1] = h
    room[:, :4] = (wide(x)[0] @ ih.T + state[:, 0] @ hh.T).reshape(BATCH, 4, hidden)
    expected = y, final, room
    return Case(
        (x, initial, lengths, *weights), expected, (features, hidden, hidden + 2, 1, last), (),
        BATCH, tuple(map(np.zeros_like, expected)), (2, 2, 2),
    )  # fmt: skip


def lstms() -> list[Row]:
    """The rows of whole sequences, forwards and in reverse, and of single steps."""
    rows = [Row("lstm_pack", pack, 1, by_register=True)]
    for padded in (False, True):
        for reverse in (False, True):
            options = {"padded": padded, "reverse": reverse}
            variant = ("padded" if padded else "full") + ("-reverse" if reverse else "")
            rows += [
                Row("lstm_forward", partial(lstm, **options), 16, variant=variant,
                    by_register=True),
                Row("lstm_backward", partial(lstm_back, **options), 32, variant=variant,
                    by_register=True),
            ]  # fmt: skip
    for flag in (False, True):
        variant = "bias" if flag else "plain"
        rows.append(Row("lstm_step", partial(lstm_step, has_bias=flag), 16, variant=variant))
    for padded in (False, True):
        for last in (False, True):
            variant = ("padded" if padded else "full") + ("-last" if last else "")
            make = partial(lstm_single, padded=padded, last=last)
            rows.append(Row("lstm_single", make, 16, variant=variant))
    return rows


ROWS = lstms()
