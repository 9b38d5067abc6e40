"""Losses, with their gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastnn import reference

from .table import NON_FINITE, Case, Draw, Row, wide

VALUES, SHARES, LABELS, PROBABILITIES = "values", "shares", "labels", "probabilities"

CLASS_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"label_smoothing": 0.2},
    {"class_weight": True},
    {"class_weight": True, "label_smoothing": 0.2},
)
LABEL_OPTIONS = (
    *CLASS_OPTIONS,
    {"ignore_index": 1},
    {"ignore_index": -100},
    {"ignore_index": 1, "class_weight": True, "label_smoothing": 0.1},
)


@dataclass(frozen=True)
class Loss:
    """A kernel and its twin, and the function of :mod:`fastnn.losses` that leads to them.

    Attributes
    ----------
    kernel : str
        ``<kernel>_loss`` in C and in :mod:`fastnn.reference`.
    target : {"values", "shares", "labels", "probabilities"}
        What predictions are compared with: any numbers, numbers from 0 to 1, classes, or
        probabilities of classes.
    options : tuple of dict
        Keyword arguments that the function is tested with. A `class_weight` is drawn.
    function : str
        Where it is not `kernel`.
    per_output : int
        How many predictions are compared with the same number.
    special : tuple of float
        Special values that kernel and twin agree on.
    """

    kernel: str
    target: str = VALUES
    options: tuple[dict[str, Any], ...] = ({},)
    function: str = ""
    per_output: int = 1
    special: tuple[float, ...] = NON_FINITE

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function or self.kernel

    @property
    def has_classes(self) -> bool:
        """Whether the last axis is one of classes."""
        return self.target in (LABELS, PROBABILITIES)

    def draw_target(self, draw: Draw, *shape: int) -> np.ndarray:
        """A target for predictions of this shape."""
        shape = (*shape[:-1], shape[-1] // self.per_output)
        if self.target == LABELS:
            return draw.integers(shape[-1], *shape[:-1])
        if self.target == PROBABILITIES:
            return reference.softmax_forward(draw.normal(*shape))
        if self.target == SHARES:
            return draw.rng.random(shape).astype(draw.dtype)
        return draw.normal(*shape, scale=3)

    def of_elements(self, draw: Draw, size: int, column: bool, weighted: bool) -> Case:
        """For (3, size) predictions, or for (size, 1) with `column`."""
        rows, cols = (size, 1) if column else (3, size)
        options, scale = self.options[-1], 0.7
        pred, weight = draw.normal(rows, cols, scale=3), draw.positive(rows) if weighted else None
        inputs = (pred, self.draw_target(draw, rows, cols), weight)
        expected = self.twin(*wide(*inputs), scale=scale, **options)
        scalars = (scale, *options.values())
        return Case(inputs, expected, (cols,), scalars, rows, scale=(2 * cols, 1))

    def of_quantiles(self, draw: Draw, size: int, weighted: bool) -> Case:
        """For 3 rows of as many quantiles."""
        rows, scale = 3, 0.7
        weight, quantiles = draw.positive(rows) if weighted else None, draw.positive(size) / 3
        inputs = (draw.normal(rows, size, scale=3), draw.normal(rows, scale=3), weight, quantiles)
        expected = self.twin(*wide(*inputs), scale=scale)
        return Case(inputs, expected, (size,), (scale,), rows, scale=(2 * size, 1))

    def of_moments(self, draw: Draw, size: int, weights: int | None) -> Case:
        """For 3 rows of means and variances, with so many weights for a row, or one for each."""
        rows, scale = 3, 0.7
        weights = size if weights is None else weights
        pred, target = draw.normal(rows, 2 * size), draw.normal(rows, size)
        inputs = (pred, target, draw.positive(rows, weights) if weights else None)
        expected = self.twin(*wide(*inputs), scale=scale)
        magnitude = 1 + max(float(np.abs(y[np.isfinite(y)]).max(initial=0)) for y in expected)
        return Case(inputs, expected, (size, weights), (scale,), rows, scale=(magnitude, magnitude))

    def of_classes(
        self,
        draw: Draw,
        size: int,
        weighted: bool = False,
        label_smoothing: float = 0.0,
        ignore: bool = False,
    ) -> Case:
        """For 3 rows of predictions."""
        rows, cols, scale = 3, max(size, 1), 0.7  # there is no label without a class
        pred, weight = draw.normal(rows, cols, scale=3), draw.positive(rows) if weighted else None
        inputs = (
            pred, self.draw_target(draw, rows, cols), weight,
            draw.positive(cols) if weighted else None,
        )  # fmt: skip
        options: dict[str, Any] = {"scale": scale, "label_smoothing": label_smoothing}
        sizes: tuple[int, ...] = (cols,)
        if self.target == LABELS:
            ignored = int(inputs[1][0])
            options["ignore_index"] = ignored if ignore else None
            sizes = (cols, ignore, ignored)
        expected = self.twin(*wide(*inputs), **options)
        return Case(inputs, expected, sizes, (scale, label_smoothing), rows, scale=(2 * cols, 1))

    @property
    def twin(self) -> Callable[..., Any]:
        """The function in NumPy."""
        return getattr(reference, f"{self.kernel}_loss")

    def rows(self) -> list[Row]:
        """By rows, by single elements and weighted; or with each of the options for classes."""
        make: Callable[..., Case]
        special: tuple[float, ...]
        variants: dict[str, dict[str, Any]]
        if self.kernel == "quantile":
            make, tolerance, special = self.of_quantiles, 8, self.special
            variants = {"rows": {"weighted": False}, "weighted": {"weighted": True}}
        elif self.kernel == "gaussian_nll":
            make, tolerance, special = self.of_moments, 16, self.special
            variants = {"rows": {"weights": 0}, "weighted": {"weights": 1},
                        "elements": {"weights": None}}  # fmt: skip
        elif not self.has_classes:
            make, tolerance, special = self.of_elements, 8, self.special
            variants = {
                ("column" if column else "rows") + "weighted" * weighted: {
                    "column": column, "weighted": weighted
                }
                for column in (False, True) for weighted in (False, True)
            }  # fmt: skip
        else:
            make, tolerance, special = self.of_classes, 12, (np.nan, np.inf)
            variants = {
                "plain": {},
                "weighted": {"weighted": True},
                "smooth": {"label_smoothing": 0.2},
                "smooth-weighted": {"label_smoothing": 0.2, "weighted": True},
            }
            if self.target == LABELS:
                variants["ignore"] = {"label_smoothing": 0.2, "ignore": True}
        return [
            Row(f"{self.kernel}_loss", partial(make, **options), tolerance, special, variant=name)
            for name, options in variants.items()
        ]


LOSSES = [
    Loss("mse"),
    Loss("l1"),
    Loss("huber", options=({}, {"delta": 0.4})),
    Loss("poisson_nll", special=(np.nan,)),
    Loss("gaussian_nll", per_output=2),
    Loss("quantile", options=({"quantiles": (0.1, 0.5, 0.8)},), per_output=3),
    Loss("binary_cross_entropy_with_logits", SHARES),
    Loss("cross_entropy", LABELS, LABEL_OPTIONS),
    Loss("cross_entropy_probabilities", PROBABILITIES, CLASS_OPTIONS, "cross_entropy"),
]
ROWS = [row for loss in LOSSES for row in loss.rows()]
