"""Losses, with their gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import reference

from .table import NON_FINITE, Case, Draw, Row, wide


def loss(
    name: str,
    draw: Draw,
    size: int,
    weighted: bool = False,
    column: bool = False,
    class_weighted: bool = False,
    label_smoothing: float = 0.0,
    ignore: bool = False,
) -> Case:
    """A loss for (3, size) predictions, or for (size, 1) with `column`."""
    rows, cols = (size, 1) if column else (3, size)
    pred, weight = draw.normal(rows, cols, scale=3), draw.positive(rows) if weighted else None
    scale, sizes, classes = 0.7, (cols,), ()
    options: dict[str, Any] = {"scale": scale}
    if name == "cross_entropy":
        target = draw.integers(max(cols, 1), rows)
        options["ignore_index"] = int(target[0]) if ignore and rows else None
        sizes = (cols, ignore, options["ignore_index"] or 0)
    elif name == "cross_entropy_probabilities":
        target = reference.softmax_forward(draw.normal(rows, cols))
    elif name == "binary_cross_entropy_with_logits":
        target = draw.rng.random((rows, cols)).astype(draw.dtype)
    else:
        target = draw.normal(rows, cols, scale=3)
    scalars: tuple[float, ...] = (scale,)
    if name == "huber":
        options["delta"] = 1.3
        scalars = (scale, 1.3)
    if name.startswith("cross_entropy"):
        classes = (draw.positive(cols) if class_weighted else None,)
        options |= {"class_weight": wide(*classes)[0], "label_smoothing": label_smoothing}
        scalars = (scale, label_smoothing)
    inputs = (pred, target, weight)
    expected = getattr(reference, f"{name}_loss")(*wide(*inputs), **options)
    return Case((*inputs, *classes), expected, sizes, scalars, rows, scale=(2 * cols, 1))


def losses() -> list[Row]:
    """The rows of all losses: by rows, by single elements and weighted."""
    rows = []
    for name in ("mse", "l1", "huber", "binary_cross_entropy_with_logits"):
        for column in (False, True):
            for weighted in (False, True):
                make = partial(loss, name, column=column, weighted=weighted)
                variant = ("column" if column else "rows") + ("weighted" if weighted else "")
                rows.append(Row(f"{name}_loss", make, 8, NON_FINITE, variant=variant))
    for name in ("cross_entropy", "cross_entropy_probabilities"):
        variants: dict[str, dict[str, Any]] = {
            "plain": {},
            "weighted": {"weighted": True, "class_weighted": True},
            "smooth": {"label_smoothing": 0.2},
            "smooth-weighted": {"label_smoothing": 0.2, "weighted": True, "class_weighted": True},
        }
        if name == "cross_entropy":
            variants["ignore"] = {"ignore": True, "label_smoothing": 0.2}
        for variant, options in variants.items():
            make = partial(with_classes, partial(loss, name, **options))
            rows.append(Row(f"{name}_loss", make, 12, (np.nan, np.inf), variant=variant))
    return rows


def with_classes(make: Callable[[Draw, int], Case], draw: Draw, size: int) -> Case:
    """There is no label without a class."""
    return make(draw, max(size, 1))


ROWS = losses()
