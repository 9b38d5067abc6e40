"""What a loss compares with, at the door."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._door.arrays import INT64, as_integers
from fastnn._kernels.door import are_labels, as_input, ready
from fastnn._typing import Array

__all__ = ["check_labels", "check_target"]


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
        way_out = _way_to(shape, result.shape, "labels", len(shape) > 1)
        if result.shape == (*shape, classes) and classes > 1:
            way_out = "; labels.argmax(-1) numbers classes, and probabilities are floats"
        raise ValueError(
            f"labels: expected shape {shape} for integers, got {result.shape}{way_out}"
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
    """Return a target of this shape as the kernel reads it, C-contiguous and of that dtype.

    Raises
    ------
    TypeError
        If it is no array of real numbers.
    ValueError
        If it has another shape; nothing is broadcast.
    """
    array = as_input(target, name, dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape} for these predictions, got {array.shape}"
            f"{_way_to(shape, array.shape, name, len(shape) > 2)}"
        )
    return array
