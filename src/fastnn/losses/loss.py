"""What a loss is: its kernel and its options, and the checks of what it compares with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import nan, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._door.arrays import INT64, as_array, as_integers
from fastnn._door.numbers import above_0, choice, fraction, integer
from fastnn._kernels.core import call, total
from fastnn._kernels.door import are_labels, as_input, empty, floats, ready
from fastnn._typing import Array

__all__ = ["Loss", "check_labels", "check_target", "make_loss"]



@dataclass(frozen=True, eq=False)
class Loss:
    """A loss with its options, as a program or a function needs it to call the kernel.

    Made by :func:`resolve`, which checks the options.

    Attributes
    ----------
    name : str
        Name of the function.
    kernel : str
        Name in the kernel table.
    target : {"values", "labels", "probabilities"}
        What it compares with: numbers or probabilities of the prediction's shape, or one label for
        each of its rows.
    elementwise : bool
        Whether the mean is over all elements, else over rows.
    scalars : tuple of float
        The kernel's scalars after `scale`.
    reduction : {"mean", "sum"}
    class_weight : ndarray or None
        One weight per class.
    ignore_index : int or None
        The label of rows that do not count.
    """

    name: str
    kernel: str
    target: str = "values"
    elementwise: bool = True
    scalars: tuple[float, ...] = ()
    reduction: str = "mean"
    class_weight: Array | None = None
    ignore_index: int | None = None

    def suited_to(self, target: Any) -> Loss:
        """Return the loss for this target: cross entropy takes labels or probabilities."""
        if self.target != "labels" or ready(target, INT64):
            return self
        array = as_array(target, "labels")
        if array.dtype.kind != "f" or array.ndim < 2:
            return self
        if self.ignore_index is not None:
            raise ValueError("ignore_index: expected None for labels that are probabilities")
        return replace(self, kernel="cross_entropy_probabilities_loss", target="probabilities")

    def sizes(self, cols: int) -> tuple[int, ...]:
        """Return the kernel's sizes for rows of `cols` elements."""
        if self.target != "labels":
            return (cols,)
        return (cols, self.ignore_index is not None, self.ignore_index or 0)

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

    def check(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], target: Any, sample_weight: Any = None
    ) -> tuple[Array, Array | None]:
        """Return target and weights as the kernel reads them, for predictions of this shape.

        Raises
        ------
        TypeError
            If `target` or `sample_weight` is no array of numbers, or labels are not integers.
        ValueError
            If a shape does not fit, or a label is out of range.
        """
        if self.target == "labels":
            target = check_labels(target, shape[-1], self.ignore_index, shape[:-1])
        else:
            name = "labels" if self.target == "probabilities" else "target"
            target = check_target(target, shape, dtype, name)
        if sample_weight is None:
            return target, None
        weight = as_input(sample_weight, "sample_weight", dtype)
        if weight.shape != shape[:1]:
            raise ValueError(
                f"sample_weight: expected shape {shape[:1]}, one weight per sample, "
                f"got {weight.shape}"
            )
        if not self.elementwise and len(shape) > 2:
            weight = np.repeat(weight, prod(shape[1:-1]))
        return target, weight

    def __call__(
        self, pred: Any, target: Any, sample_weight: Any = None
    ) -> tuple[float, Array]:
        """Return the loss and the gradient of the predictions."""
        name = "logits" if "cross_entropy" in self.name else "pred"
        (pred,) = floats((name,), pred)
        least = 1 if self.elementwise else 2
        if pred.ndim < least:
            axes = "(batch, ...)" if self.elementwise else "(batch, ..., classes)"
            raise ValueError(f"{name}: expected shape {axes}, got {pred.shape}")
        loss = self.suited_to(target)
        shape, dtype = pred.shape, pred.dtype
        target, weight = loss.check(shape, dtype, target, sample_weight)
        cols = prod(shape[1:]) if self.elementwise else shape[-1]
        rows = shape[0] if self.elementwise else prod(shape[:-1])
        classes = loss.class_weights(cols, dtype)
        divisor = loss._total_weight(rows, cols, target, weight, classes)
        scale = 1 / divisor if divisor else 0.0  # a mean over nothing has no value, no gradient
        row_loss, gradient = empty((rows,), dtype), empty(shape, dtype)
        pointers: tuple[Array | None, ...] = (row_loss, gradient, pred, target, weight)
        if not self.elementwise:
            pointers += (classes,)
        call(loss.kernel, dtype, pointers, loss.sizes(cols), (scale, *loss.scalars), rows)
        return total(row_loss) / divisor if divisor else nan, gradient

    def _total_weight(
        self, rows: int, cols: int, target: Array, weight: Array | None, classes: Array | None
    ) -> float:
        """What the sum of the losses is divided by."""
        if self.reduction == "sum":
            return 1.0
        if self.target == "labels" and (classes is not None or self.ignore_index is not None):
            labels = target.ravel()
            weights = np.ones(rows) if weight is None else weight.astype(np.float64)
            if self.ignore_index is not None:
                kept = labels != self.ignore_index
                labels, weights = labels[kept], weights[kept]
            return float(weights.sum() if classes is None else np.dot(weights, classes[labels]))
        divisor = float(rows if weight is None else weight.sum(dtype=np.float64))
        return divisor * cols if self.elementwise else divisor


def check_labels(
    labels: Any, classes: int, ignore_index: int | None = None, shape: tuple[int, ...] | None = None
) -> NDArray[np.int64]:
    """Return labels as the kernel reads them, C-contiguous int64.

    Parameters
    ----------
    labels : array_like of int
    classes : int
        Each label must be in [0, classes).
    ignore_index : int, optional
        Or equal to this.
    shape : tuple of int, optional
        What shape they must have.

    Raises
    ------
    TypeError
        If `labels` is no array of integers.
    ValueError
        If it has another shape, or a label is out of range.

    Examples
    --------
    >>> check_labels([2, 0, -1], classes=3, ignore_index=-1)
    array([ 2,  0, -1])
    """
    result: NDArray[np.int64] = labels
    if not ready(labels, INT64):
        result = as_integers(labels, "labels", classes, bools=True)
    if shape is not None and result.shape != shape:
        raise ValueError(
            f"labels: expected shape {shape} for integers, got {result.shape}"
            f"{_way_to(shape, result.shape, 'labels', len(shape) > 1)}"
        )
    if not are_labels(result, classes, ignore_index):
        outside = (result < 0) | (result >= classes)
        if ignore_index is not None:
            outside &= result != ignore_index
        way_out = ""
        if classes == 1:
            way_out = "; binary_cross_entropy_with_logits takes one output for two classes"
        elif result.min() == 1 and result.max() == classes:
            way_out = "; classes count from 0"
        raise ValueError(
            f"labels: expected integers in [0, {classes}), got {result[outside][0]}{way_out}"
        )
    return result


def _way_to(wanted: tuple[int, ...], given: tuple[int, ...], name: str, steps: bool) -> str:
    """The end of a message: what gives an array the shape that is wanted.

    With `steps` the second axis of that may be time.
    """
    if given and wanted and given[0] != wanted[0]:
        return f"; there are {wanted[0]} predictions, but {given[0]} {name.removesuffix('s')}s"
    if given == (*wanted, 1):
        return f"; {name}[..., 0] has it" if len(wanted) > 1 else f"; {name}.ravel() has it"
    if (*given, 1) == wanted:
        return f"; {name}[..., None] has it" if len(given) > 1 else f"; {name}[:, None] has it"
    if steps and wanted[:1] + wanted[2:] == given:
        return "; a recurrent layer with return_sequences=False predicts once for each sequence"
    return ""


def check_target(
    target: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "target"
) -> Array:
    """Return the target as the kernel reads it, C-contiguous and of the predictions' dtype.

    Raises
    ------
    TypeError
        If it is no array of real numbers.
    ValueError
        If it does not have the shape of the predictions; nothing is broadcast.
    """
    array = as_input(target, name, dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape}, that of the predictions, got {array.shape}"
            f"{_way_to(shape, array.shape, name, len(shape) > 2)}"
        )
    return array


def make_loss(
    name: str,
    *,
    reduction: str = "mean",
    delta: float = 1.0,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
    ignore_index: int | None = None,
) -> Loss:
    """The loss of that name with its options, checked; each has only its own."""
    options = (name, reduction, delta, label_smoothing, ignore_index)
    try:
        loss = _made(*options)
    except TypeError:  # an option is of the wrong kind, or cannot be looked up
        loss = _made.__wrapped__(*options)
    if class_weight is None or name != "cross_entropy":
        return loss
    return replace(loss, class_weight=as_input(class_weight, "class_weight"))


@lru_cache(typed=True)
def _made(
    name: str, reduction: str, delta: float, label_smoothing: float, ignore_index: int | None
) -> Loss:
    choice("reduction", reduction, ("mean", "sum"))
    if name == "huber":
        scalars = (above_0("delta", delta),)
        return Loss(name, "huber_loss", scalars=scalars, reduction=reduction)
    if name != "cross_entropy":
        return Loss(name, f"{name}_loss", reduction=reduction)
    scalars = (fraction("label_smoothing", label_smoothing),)
    if ignore_index is not None:
        ignore_index = integer("ignore_index", ignore_index, -(2**63), 2**63 - 1)
    return Loss(
        name, "cross_entropy_loss", "labels", False, scalars, reduction, ignore_index=ignore_index
    )
