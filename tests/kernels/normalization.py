"""Layer and batch normalization."""

from functools import partial
from typing import Any

import numpy as np

from fastnn import reference

from .table import Case, Draw, Row, accumulated, wide


def affine(draw: Draw, channels: int, wanted: bool) -> tuple[np.ndarray | None, ...]:
    return (draw.positive(channels), draw.normal(channels)) if wanted else (None, None)


def statistics(x: np.ndarray, axis: Any, eps: float) -> tuple[np.ndarray, ...]:
    """mean, tail and rstd as a forward kernel saves them."""
    exact = x.astype(np.float64)
    mean, rstd = exact.mean(axis=axis), 1 / np.sqrt(exact.var(axis=axis) + eps)
    head = mean.astype(x.dtype)
    return head, (mean - head).astype(x.dtype), rstd.astype(x.dtype)


def layer_norm(draw: Draw, size: int, has_affine: bool, shift: float = 0) -> Case:
    cols = max(size, 1)
    x, pair = draw.normal(3, cols) + draw.dtype.type(shift), affine(draw, cols, has_affine)
    expected = reference.layer_norm_forward(*wide(x, *pair), eps=1e-3)
    scale = (2, 1 + np.abs(shift), 1 + np.abs(shift), 0)
    return Case((x, *pair), expected, (cols,), (1e-3,), 3, scale=scale)


def layer_norm_input(draw: Draw, size: int, has_affine: bool, shift: float = 0) -> Case:
    cols = max(size, 1)
    dy, x = draw.normal(3, cols), draw.normal(3, cols) + draw.dtype.type(shift)
    weight, saved = affine(draw, cols, has_affine)[0], statistics(x, 1, 1e-3)
    dx = reference.layer_norm_backward(*wide(dy, x, weight, *saved))
    return Case((dy, x, weight, *saved), (dx,), (cols,), (), 3, scale=(3 * saved[2][:, None],))


def layer_norm_weight(draw: Draw, size: int, accumulate: bool) -> Case:
    rows, cols = 7, size
    dy, x = draw.normal(rows, cols), draw.normal(rows, cols)
    saved = draw.normal(rows), draw.normal(rows, scale=1e-3), draw.positive(rows)
    gradients = reference.layer_norm_backward_weight(*wide(dy, x, *saved))
    case = Case((dy, x, *saved), gradients, (cols, rows), (), cols, scale=(4 * rows, 4 * rows))
    return accumulated(draw, case) if accumulate else case


def batch_shape(size: int, along: str) -> tuple[int, int, int]:
    """rows, channels and length"""
    shapes = {"rows": (size + 2, 5, 1), "channels": (5, size, 1), "length": (3, 4, size + 1)}
    return shapes[along]


def batch_norm(draw: Draw, size: int, along: str, has_affine: bool, shift: float = 0) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    x, pair = draw.normal(*shape) + draw.dtype.type(shift), affine(draw, channels, has_affine)
    running = draw.normal(channels), draw.positive(channels)
    expected = reference.batch_norm_forward(*wide(*running, x, *pair), eps=1e-3, momentum=0.3)
    initial = (*[np.zeros_like(y) for y in expected[:4]], *running)
    sizes, scale = (channels, length, rows), (2, *[1 + np.abs(shift)] * 2, 0, 1 + np.abs(shift), 1)
    return Case((x, *pair), expected, sizes, (1e-3, 0.3), channels, initial, scale)


def batch_norm_input(
    draw: Draw, size: int, along: str, has_affine: bool, accumulate: bool = False
) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    dy, x = draw.normal(*shape), draw.normal(*shape) + draw.dtype.type(100)
    weight, saved = affine(draw, channels, has_affine)[0], statistics(x, (0, 2), 1e-3)
    dx, *sums = reference.batch_norm_backward(*wide(dy, x, weight, *saved))
    initial = [draw.normal(channels) * accumulate for _ in sums]
    expected = (dx, *[y + start for y, start in zip(sums, wide(*initial), strict=True)])
    terms = 4 * rows * length
    return Case(
        (dy, x, weight, *saved), expected, (channels, length, rows), (), channels,
        (np.zeros_like(dx), *initial), (3 * saved[2][:, None], terms, terms), accumulate,
    )  # fmt: skip


def batch_norm_inference(draw: Draw, size: int, along: str, has_affine: bool) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    x, running = draw.normal(*shape), (draw.normal(channels), draw.positive(channels))
    pair = affine(draw, channels, has_affine)
    y = reference.batch_norm_inference(*wide(x, *running, *pair), eps=1e-3)
    return Case((x, *running, *pair), (y,), (channels, length), (1e-3,), rows, scale=(2,))


def normalizations() -> list[Row]:
    """The rows of layer and batch normalization, with and without weights."""
    rows = []
    for flag in (False, True):
        weight, sums = ("weight" if flag else "plain"), ("accumulate" if flag else "plain")
        rows += [
            Row("layer_norm_forward", partial(layer_norm, has_affine=flag), 8, variant=weight),
            Row("layer_norm_backward", partial(layer_norm_input, has_affine=flag), 8,
                variant=weight),
            Row("layer_norm_backward_weight", partial(layer_norm_weight, accumulate=flag), 8,
                variant=sums),
        ]  # fmt: skip
        for along in ("rows", "channels", "length"):
            options: dict[str, Any] = {"along": along, "has_affine": flag}
            rows += [
                Row("batch_norm_forward", partial(batch_norm, **options), 8,
                    variant=f"{along}-{weight}"),
                Row("batch_norm_backward", partial(batch_norm_input, **options, accumulate=flag), 8,
                    variant=f"{along}-{weight}"),
                Row("batch_norm_inference", partial(batch_norm_inference, **options), 8,
                    variant=f"{along}-{weight}"),
            ]  # fmt: skip
    # where a mean in float32 costs three digits, which it does cost the twin in double
    far, tolerance = {"shift": 1000.0, "has_affine": True}, (8, 6000)
    return [
        *rows,
        Row("layer_norm_forward", partial(layer_norm, **far), tolerance, variant="far"),
        Row("layer_norm_backward", partial(layer_norm_input, **far), tolerance, variant="far"),
        Row("batch_norm_forward", partial(batch_norm, along="rows", **far), tolerance,
            variant="far"),
    ]  # fmt: skip


ROWS = normalizations()
