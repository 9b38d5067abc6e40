"""Matrix products in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._typing import Array

__all__ = [
    "linear_backward_input", "linear_backward_input_bfloat16", "linear_backward_weight",
    "linear_backward_weight_bfloat16", "linear_forward", "linear_forward_bfloat16",
    "linear_pack", "linear_packed", "matmul", "round_bfloat16",
]


def round_bfloat16(x: Array) -> Array:
    """The nearest numbers with 8 bits of significand, ties to even; float32 or float64."""
    dropped, word = (16, np.uint32) if x.dtype == np.float32 else (45, np.uint64)
    bits: Any = x.view(word)
    up = bits + word(2 ** (dropped - 1) - 1) + (bits >> word(dropped) & word(1))
    rounded: Array = (up & ~word(2**dropped - 1)).view(x.dtype)
    return np.asarray(np.where(np.isnan(x), x, rounded))


def matmul(a: Array, b: Array) -> Array:
    """A B, for a (m, k) and b (k, n)."""
    return a @ b


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """X Wᵀ + b, for x (rows, in), weight (out, in) and bias (out,)."""
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_backward_input(dy: Array, weight: Array) -> Array:
    """dx = dy W, (rows, in)."""
    return dy @ weight


def linear_backward_weight(dy: Array, x: Array) -> tuple[Array, Array]:
    """dW = dyᵀ x, (out, in), and db = Σ dy over the rows, (out,)."""
    return dy.T @ x, dy.sum(axis=0)


def linear_forward_bfloat16(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """The same of x and W as bfloat16."""
    return linear_forward(round_bfloat16(x), round_bfloat16(weight), bias)


def linear_backward_input_bfloat16(dy: Array, weight: Array) -> Array:
    """The same of dy and W as bfloat16."""
    return linear_backward_input(round_bfloat16(dy), round_bfloat16(weight))


def linear_backward_weight_bfloat16(dy: Array, x: Array) -> tuple[Array, Array]:
    """dW of dy and x as bfloat16, and db of dy as it is."""
    return round_bfloat16(dy).T @ round_bfloat16(x), dy.sum(axis=0)


def linear_pack(weight: Array, columns: int) -> Array:
    """Wᵀ with zeros up to so many columns, (in, columns)."""
    packed: Array = np.pad(weight.T, ((0, 0), (0, columns - len(weight))))
    return packed


def linear_packed(x: Array, packed: Array, bias: Array) -> Array:
    """The product of :func:`linear_forward` with weights from :func:`linear_pack`."""
    return x @ packed[:, : len(bias)] + bias
