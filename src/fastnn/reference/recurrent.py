"""Recurrence in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np

from fastnn._typing import Array

__all__ = ["lstm_backward", "lstm_cell", "lstm_forward", "lstm_pack", "lstm_step"]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def lstm_cell(
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array,
    bias_hh: Array,
) -> tuple[Array, Array]:
    """One step, gate by gate: the new h and c, for x (..., features) and h, c (..., hidden)."""
    w_i, w_f, w_g, w_o = np.split(weight_ih, 4)
    u_i, u_f, u_g, u_o = np.split(weight_hh, 4)
    b_i, b_f, b_g, b_o = np.split(bias_ih + bias_hh, 4)
    i = _sigmoid(x @ w_i.T + h @ u_i.T + b_i)  # what to write
    f = _sigmoid(x @ w_f.T + h @ u_f.T + b_f)  # what to keep
    g = np.tanh(x @ w_g.T + h @ u_g.T + b_g)  # the candidate
    o = _sigmoid(x @ w_o.T + h @ u_o.T + b_o)  # what to show
    c = f * c + i * g
    return o * np.tanh(c), c


def lstm_step(
    x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None
) -> tuple[Array, Array]:
    """:func:`lstm_cell` with one bias."""
    zero = np.zeros(weight_hh.shape[0], x.dtype)
    return lstm_cell(x, h, c, weight_ih, weight_hh, zero if bias is None else bias, zero)


def lstm_pack(
    weight_hh: Array, bias_ih: Array, bias_hh: Array, lanes: int
) -> tuple[Array, Array, Array]:
    """weight_hh in panels of `lanes` units for the two passes, and the sum of the biases."""
    hidden = weight_hh.shape[1]
    panels = -(-hidden // lanes)
    padded = np.zeros((4, panels * lanes, hidden), weight_hh.dtype)
    padded[:, :hidden] = weight_hh.reshape(4, hidden, hidden)
    packed = padded.reshape(4, panels, lanes, hidden).transpose(1, 3, 0, 2).copy()
    columns = np.zeros((4 * hidden, panels * lanes), weight_hh.dtype)
    columns[:, :hidden] = weight_hh
    transposed = columns.reshape(4 * hidden, panels, lanes).transpose(1, 0, 2).copy()
    return packed, transposed, bias_ih + bias_hh


def lstm_forward(
    x: Array,
    initial: Array,
    lengths: Array,
    weight_hh: Array,
    reverse: bool = False,
) -> tuple[Array, Array, Array, Array, Array]:
    """gates, cells = (c_{t-1}, tanh c_t), previous h, final state and y of a direction.

    x (rows, steps, 4, hidden) is W_ih x + b; states are (rows, 2, hidden). What lies past a
    sequence's length is 0.
    """
    rows, steps = x.shape[:2]
    hidden = weight_hh.shape[1]
    gates, cells = np.zeros((rows, steps, 4, hidden)), np.zeros((rows, steps, 2, hidden))
    previous, y = np.zeros((rows, steps, hidden)), np.zeros((rows, steps, hidden))
    final = initial.copy()
    for r in range(rows):
        order = range(lengths[r])
        for t in reversed(order) if reverse else order:
            h, c = final[r]
            i, f, g, o = (x[r, t].ravel() + weight_hh @ h).reshape(4, hidden)
            i, f, g, o = gates[r, t] = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
            previous[r, t] = h
            cells[r, t, 0] = c
            c = f * c + i * g
            cells[r, t, 1] = np.tanh(c)
            y[r, t] = o * np.tanh(c)
            final[r] = y[r, t], c
    return gates, cells, previous, final, y


def lstm_backward(
    gates: Array,
    cells: Array,
    dy: Array,
    dfinal: Array,
    lengths: Array,
    weight_hh: Array,
    reverse: bool = False,
) -> tuple[Array, Array]:
    """Gradients of the gates' sums, (rows, steps, 4, hidden), and of the initial state."""
    dgates, carried = np.zeros_like(gates), dfinal.copy()
    for r in range(len(gates)):
        order = range(lengths[r])
        for t in order if reverse else reversed(order):
            i, f, g, o = gates[r, t]
            cell, tanh = cells[r, t]
            dh, dc = carried[r, 0] + dy[r, t], carried[r, 1]
            dc = dc + dh * o * (1 - tanh**2)
            dgates[r, t] = (
                dc * g * i * (1 - i), dc * cell * f * (1 - f), dc * i * (1 - g**2),
                dh * tanh * o * (1 - o),
            )  # fmt: skip
            carried[r] = weight_hh.T @ dgates[r, t].ravel(), dc * f
    return dgates, carried
