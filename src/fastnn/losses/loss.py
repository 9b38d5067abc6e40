"""What a loss is: its kernel and its options, and the checks of what it compares with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import nan, prod
from typing import Any, NamedTuple

import numpy as np

from fastnn._door.arrays import INT64, as_array, describe, expect_shape
from fastnn._door.numbers import above_0, choice, fraction, integer, number
from fastnn._kernels.core import call, total
from fastnn._kernels.door import as_input, empty, floats, ready
from fastnn._typing import Array
from fastnn.losses.targets import check_labels, check_target

__all__ = ["Layout", "Loss", "make_loss"]

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How a kernel sees the predictions of a sample."""

    rows: int
    cols: int
    target: Shape  # of a sample
    weights: int  # of a sample
    elements: int  # of the mean that a weight stands for


@dataclass(repr=False, eq=False)
class Loss:
    """A loss with its options, as a program or a function needs it to call the kernel.

    Made by a function of :mod:`fastnn.losses` that is called with options only; it is called as
    that function is, with these options. It stays as it was made.

    Attributes
    ----------
    name : str
        Name of the function.
    kernel : str
        Name in the kernel table.
    target : {"values", "labels", "probabilities", "quantiles", "moments"}
        What the prediction is: as many numbers or probabilities as are compared with; scores of
        classes, for a label; several quantiles of each number; or means and variances.
    scalars : tuple of float
        The kernel's scalars after `scale`.
    reduction : {"mean", "sum", "batch"}
    class_weight : ndarray or None
        One weight per class; what is written into it counts.
    ignore_index : int or None
        The label of rows that do not count.
    quantiles : tuple of float
    options : dict
        Those that are not the function's defaults.
    elementwise : bool
        Whether the mean is over elements, each of which may have a weight, else over rows.
    """

    name: str
    kernel: str
    target: str = "values"
    scalars: tuple[float, ...] = ()
    reduction: str = "mean"
    class_weight: Array | None = None
    ignore_index: int | None = None
    quantiles: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    elementwise: bool = field(init=False)

    def __post_init__(self) -> None:
        self.elementwise = self.target not in ("labels", "probabilities")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ or name not in self.__dataclass_fields__:
            raise AttributeError(
                f"{name}: expected {self!r} to stay as it is; make another one, such as "
                f"fastnn.losses.{self.name}(reduction='sum')"
            )
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})"

    def suited_to(self, target: Any) -> Loss:
        """Return the loss for this target: cross entropy takes labels or probabilities."""
        if self.target != "labels" or ready(target, INT64):
            return self
        array = as_array(target, "labels", "numbers of classes")
        if array.dtype.kind != "f" or array.ndim < 2:
            return self
        if self.ignore_index is not None:
            raise ValueError("ignore_index: expected None for labels that are probabilities")
        return replace(self, kernel="cross_entropy_probabilities_loss", target="probabilities")

    # The kernel ------------------------------------------------------------------------------

    def layout(self, shape: Shape, by_element: bool = False) -> Layout:
        """Return how the kernel sees predictions of `shape` per sample.

        With `by_element` there is a weight for each element of the target, else for each row.

        Raises
        ------
        ValueError
            If predictions of this loss have another shape.
        """
        return _layout(self.name, self.target, len(self.quantiles), shape, by_element)

    def sizes(self, layout: Layout) -> tuple[int, ...]:
        """Return the kernel's sizes."""
        if self.target == "labels":
            return (layout.cols, self.ignore_index is not None, self.ignore_index or 0)
        if self.target == "moments":
            return (layout.cols, layout.weights // layout.rows if layout.rows else 1)
        return (layout.cols,)

    def constants(self, cols: int, dtype: np.dtype[Any]) -> tuple[Array | None, ...]:
        """Return what the kernel reads after the weights of rows: the weights of classes, if any,
        or the quantiles."""
        if not self.elementwise:
            return (self.class_weights(cols, dtype),)
        return (np.array(self.quantiles, dtype),) if self.quantiles else ()

    def class_weights(self, classes: int, dtype: np.dtype[Any]) -> Array | None:
        """Return the weights of the classes as the kernel reads them."""
        if self.class_weight is None:
            return None
        if self.class_weight.shape != (classes,):
            raise ValueError(
                f"class_weight: expected shape ({classes},), one weight per class, "
                f"got {self.class_weight.shape}"
            )
        return as_input(self.class_weight, "class_weight", dtype)

    # What is given ---------------------------------------------------------------------------

    def weighs_elements(self, element_weight: Any, mask: Array | None = None) -> bool:
        """Return whether the layout must have a weight for each element."""
        return element_weight is not None or (mask is not None and self.target == "values")

    def check(
        self,
        layout: Layout,
        samples: int,
        dtype: np.dtype[Any],
        target: Any,
        sample_weight: Any = None,
        element_weight: Any = None,
        mask: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Return target and weights as the kernel reads them, for predictions of this layout.

        With `mask`, shape (batch, time), only some of the steps of a sequence count.

        Raises
        ------
        TypeError
            If an argument is no array of numbers, or labels are not integers.
        ValueError
            If a shape does not fit, a label is out of range, or a weight is negative where the
            loss is divided by their sum.
        """
        wanted = (samples, *layout.target)
        if self.target == "labels":
            target = check_labels(target, layout.cols, self.ignore_index, wanted)
        else:
            name = "labels" if self.target == "probabilities" else "target"
            target = check_target(target, wanted, dtype, name)
        weight = None
        if sample_weight is not None:
            weight = self._weights(sample_weight, "sample_weight", dtype)
            if weight.shape != (samples,):
                raise ValueError(
                    f"sample_weight: expected shape {(samples,)}, one weight per sample, "
                    f"got {weight.shape}"
                )
            if layout.weights != 1:
                weight = np.repeat(weight, layout.weights)
        if element_weight is not None:
            if not self.elementwise:
                raise ValueError(
                    f"element_weight: expected None for {self.name}, which has rows and no "
                    "elements; sample_weight and class_weight are for it"
                )
            of_elements = self._weights(element_weight, "element_weight", dtype)
            expect_shape("element_weight", of_elements, wanted)
            of_elements = of_elements.reshape(-1)
            weight = of_elements if weight is None else weight * of_elements
        if mask is not None:
            counted = np.repeat(mask.astype(dtype).reshape(-1), layout.weights // mask.shape[1])
            weight = counted if weight is None else weight * counted
        return target, weight

    def _weights(self, weight: Any, name: str, dtype: np.dtype[Any]) -> Array:
        array: Array = as_input(weight, name, dtype)
        if self.reduction == "mean" and bool((array < 0).any()):
            raise ValueError(
                f"{name}: expected numbers >= 0, for a mean is divided by their sum, got "
                f'{array.min():g}; a loss with reduction="sum" or "batch" takes any'
            )
        return array

    # As a function ---------------------------------------------------------------------------

    def __call__(
        self,
        pred: Any,
        target: Any,
        sample_weight: Any = None,
        element_weight: Any = None,
        mask: Array | None = None,
    ) -> tuple[float, Array]:
        """Return the loss and the gradient of the predictions."""
        name = _FIRST.get(self.name, "pred")
        (pred,) = floats((name,), pred)
        if pred.ndim < (1 if self.target == "values" else 2):
            axes = ["batch", "..."]
            if self.target != "values":
                axes.append("classes" if not self.elementwise else self.target)
            raise ValueError(f"{name}: expected shape ({', '.join(axes)}), got {pred.shape}")
        loss = self.suited_to(target)
        shape, dtype = pred.shape, pred.dtype
        layout = loss.layout(shape[1:], loss.weighs_elements(element_weight, mask))
        target, weight = loss.check(
            layout, shape[0], dtype, target, sample_weight, element_weight, mask
        )
        constants = loss.constants(layout.cols, dtype)
        divisor = loss._divisor(layout, shape[0], dtype, target, weight, constants)
        scale = 1 / divisor if divisor else 0.0  # a mean over nothing has no value, no gradient
        rows = shape[0] * layout.rows
        row_loss, gradient = empty((rows,), dtype), empty(shape, dtype)
        pointers = (row_loss, gradient, pred, target, weight, *constants)
        call(loss.kernel, dtype, pointers, loss.sizes(layout), (scale, *loss.scalars), rows)
        return total(row_loss) / divisor if divisor else nan, gradient

    def _divisor(
        self,
        layout: Layout,
        samples: int,
        dtype: np.dtype[Any],
        target: Array,
        weight: Array | None,
        constants: tuple[Array | None, ...],
    ) -> float:
        """What the sum of the losses is divided by; 0 if that has no inverse."""
        if self.reduction != "mean":
            return 1.0 if self.reduction == "sum" else float(samples)
        classes = None if self.elementwise else constants[0]
        if self.target == "labels" and (classes is not None or self.ignore_index is not None):
            labels = target.ravel()
            weights = np.ones(labels.size) if weight is None else weight.astype(np.float64)
            if self.ignore_index is not None:
                kept = labels != self.ignore_index
                labels, weights = labels[kept], weights[kept]
            divisor = float(weights.sum() if classes is None else np.dot(weights, classes[labels]))
        elif weight is None:
            return float(samples * layout.weights * layout.elements)
        else:
            divisor = float(weight.sum(dtype=np.float64))
        return divisor * layout.elements if abs(divisor) >= np.finfo(dtype).tiny else 0.0


@lru_cache
def _layout(name: str, target: str, quantiles: int, shape: Shape, by_element: bool) -> Layout:
    if target == "values":
        size = prod(shape)
        return Layout(size, 1, shape, size, 1) if by_element else Layout(1, size, shape, 1, size)
    by_row = target in ("labels", "probabilities")
    if not shape:
        last = "classes" if by_row else target
        raise ValueError(
            f"model: expected predictions of shape (batch, ..., {last}) for {name}, got ('batch',)"
        )
    rows, cols = prod(shape[:-1]), shape[-1]
    if by_row:
        return Layout(rows, cols, shape[:-1] if target == "labels" else shape, rows, 1)
    each = quantiles or 2
    if cols % each:
        what = "the quantiles" if quantiles else "mean and variance"
        raise ValueError(
            f"model: expected predictions with {what} of each output, a multiple of {each} "
            f"on the last axis, got shape {('batch', *shape)}"
        )
    outputs = cols // each
    wanted = (*shape[:-1], outputs)
    if quantiles:
        return Layout(rows * outputs, each, wanted, rows * outputs, each)
    if by_element:
        return Layout(rows, outputs, wanted, rows * outputs, 1)
    return Layout(rows, outputs, wanted, rows, outputs)


# Making one ----------------------------------------------------------------------------------

# What functions call their predictions, if not pred.
_FIRST = {
    "cross_entropy": "logits", "binary_cross_entropy_with_logits": "logits",
    "poisson_nll": "log_rate",
}  # fmt: skip
_TARGETS = {"cross_entropy": "labels", "quantile": "quantiles", "gaussian_nll": "moments"}
_DEFAULTS = {
    "quantiles": [], "reduction": "mean", "delta": 1.0, "label_smoothing": 0.0,
    "ignore_index": None,
}  # fmt: skip


def make_loss(
    name: str,
    *,
    reduction: str = "mean",
    delta: float = 1.0,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
    ignore_index: int | None = None,
    quantiles: Any = None,
) -> Loss:
    """The loss of that name with its options, checked; each has only its own."""
    if name == "quantile":
        quantiles = _levels(quantiles)
    options = (name, reduction, delta, label_smoothing, ignore_index, quantiles)
    try:
        loss = _made(*options)
    except TypeError:  # an option is of the wrong kind, or cannot be looked up
        loss = _made.__wrapped__(*options)
    if class_weight is None or name != "cross_entropy":
        return loss
    weights = as_array(class_weight, "class_weight")
    if weights.ndim != 1:
        raise ValueError(
            f"class_weight: expected one axis, one weight per class, got shape {weights.shape}"
        )
    shown = {**loss.options, "class_weight": weights.tolist()}
    return replace(loss, class_weight=weights, options=shown)


def _levels(quantiles: Any) -> tuple[float, ...]:
    if quantiles is None:
        raise TypeError(
            "quantiles: expected numbers in (0, 1), got None; fastnn.losses.quantile("
            "quantiles=[0.1, 0.5, 0.9]) is a loss for a Trainer"
        )
    if isinstance(quantiles, str) or not np.iterable(quantiles):
        quantiles = (quantiles,)
    levels = tuple(
        number(f"quantiles[{i}]", level, high=1.0, above=True, below=True)
        for i, level in enumerate(quantiles)
    )
    if not levels:
        raise ValueError(f"quantiles: expected at least one number, got {describe(quantiles)}")
    return levels


@lru_cache(typed=True)
def _made(
    name: str,
    reduction: str,
    delta: float,
    label_smoothing: float,
    ignore_index: int | None,
    quantiles: tuple[float, ...] | None,
) -> Loss:
    choice("reduction", reduction, ("mean", "sum", "batch"))
    delta = above_0("delta", delta)
    label_smoothing = fraction("label_smoothing", label_smoothing)
    if ignore_index is not None:
        ignore_index = integer("ignore_index", ignore_index, -(2**63), 2**63 - 1)
    given = {"quantiles": list(quantiles or ()), "reduction": reduction, "delta": delta,
             "label_smoothing": label_smoothing, "ignore_index": ignore_index}  # fmt: skip
    options = {key: value for key, value in given.items() if value != _DEFAULTS[key]}
    scalars = {"huber": (delta,), "cross_entropy": (label_smoothing,)}.get(name, ())
    return Loss(
        name, f"{name}_loss", _TARGETS.get(name, "values"), scalars, reduction, None,
        ignore_index, quantiles or (), options,
    )  # fmt: skip
