"""Matrix products in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

from fastnn._typing import Array

__all__ = ["linear_backward_input", "linear_backward_weight", "linear_forward", "matmul"]


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
