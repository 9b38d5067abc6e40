"""Activations, softmaxes and the exponential."""

from functools import partial
from typing import Any

from fastnn import reference

from .table import EDGES, FINITE_EDGES, NON_FINITE, Case, Draw, Row, finite_magnitude, wide


def forward(name: str, draw: Draw, size: int, *options: float) -> Case:
    x = draw.normal(3, size, scale=3)
    y = getattr(reference, f"{name}_forward")(*wide(x), *options)
    return Case((x,), (y,), (size,), options or (0,), 3, scale=(1 if name == "log_softmax" else 0,))


def backward(name: str, draw: Draw, size: int, *options: float) -> Case:
    dy, saved = draw.normal(3, size), draw.normal(3, size, scale=3)
    if name not in ("gelu", "gelu_tanh", "silu"):  # they save the input, the others the output
        twin = getattr(reference, f"{name}_forward")
        saved = twin(*wide(saved), *options).astype(draw.dtype)
    dx = getattr(reference, f"{name}_backward")(*wide(dy, saved), *options)
    # slopes cancel near their zeros, and the softmaxes subtract what the row has in common
    scale = finite_magnitude(dy)
    if "softmax" in name:
        scale = scale.max(axis=1, keepdims=True, initial=0)
    return Case((dy, saved), (dx,), (size,), options or (0,), 3, scale=(scale,))


def activation(name: str, tolerance: Any, *options: float, special: Any = EDGES) -> list[Row]:
    """The rows of a pair of kernels."""
    twins = (partial(forward, name), partial(backward, name))
    calls = [lambda draw, size, twin=twin: twin(draw, size, *options) for twin in twins]
    return [
        Row(f"{name}_forward", calls[0], tolerance, special),
        Row(f"{name}_backward", calls[1], tolerance, special),
    ]


ROWS = [
    *activation("relu", 0),
    *activation("leaky_relu", 1, 0.3),
    *activation("sigmoid", 4),
    *activation("tanh", 4),
    # the twins are ∞ · 0 at -∞ and, far out, no better than the rounding of x² / 2 in double
    *activation("gelu", (4, 400), special=FINITE_EDGES),
    *activation("gelu_tanh", (4, 400), special=FINITE_EDGES),
    *activation("silu", 8, special=FINITE_EDGES),
    Row("exp_forward", partial(forward, "exp"), 4, EDGES),
    *activation("softmax", 12, special=NON_FINITE),
    *activation("log_softmax", 8, special=NON_FINITE),
]
