"""What a trainer can measure beside the loss; each metric takes (y_true, y_pred) of a whole set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import nan
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._door.numbers import choice
from fastnn._typing import Array
from fastnn.losses.loss import Loss

Metric = Callable[[Array, Array], float]


def accuracy(
    y_true: Array,
    y_pred: Array,
    *,
    ignore_index: int | None = None,
    threshold: float | None = None,
) -> float:
    """Share of right classes.

    The class is the largest of the last axis, against labels or the largest probability; with a
    `threshold`, or one column, it is whether the prediction lies above it (0.5 if not given). NaN
    if there is one where it matters.
    """
    if y_true.shape == y_pred.shape[:-1] and y_true.dtype.kind in "biu":
        if ignore_index is not None:
            kept = y_true != ignore_index
            y_true, y_pred = y_true[kept], y_pred[kept]
        right = y_pred.argmax(axis=-1) == y_true
    elif y_true.shape != y_pred.shape:
        raise ValueError(
            f"accuracy: expected labels of shape {y_pred.shape[:-1]} or targets of shape "
            f"{y_pred.shape}, got {describe(y_true)}"
        )
    elif threshold is None and y_pred.ndim > 1 and y_pred.shape[-1] > 1:
        right = y_pred.argmax(axis=-1) == y_true.argmax(axis=-1)
    else:
        right = (y_pred > (0.5 if threshold is None else threshold)) == (y_true > 0.5)
    unknown = np.isnan(y_pred).any() or np.isnan(y_true).any()
    return float(right.mean()) if right.size and not unknown else nan


def _errors(name: str, y_true: Array, y_pred: Array) -> Array:
    if y_true.shape != y_pred.shape:
        raise ValueError(f"{name}: expected targets of shape {y_pred.shape}, got {y_true.shape}")
    return y_pred.astype(np.float64) - y_true


def mae(y_true: Array, y_pred: Array) -> float:
    """Mean absolute error."""
    return float(np.abs(_errors("mae", y_true, y_pred)).mean())


def mse(y_true: Array, y_pred: Array) -> float:
    """Mean squared error."""
    return float(np.square(_errors("mse", y_true, y_pred)).mean())


def rmse(y_true: Array, y_pred: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(mse(y_true, y_pred)))


def r2(y_true: Array, y_pred: Array) -> float:
    """Coefficient of determination, averaged over the outputs.

    1 - Σ e² / Σ (y - mean y)² of each output; for a constant output 1 if it is met, else 0.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.square(_errors("r2", y_true, y_pred)).sum(axis=0)
        spread = np.square(y_true - y_true.mean(axis=0, dtype=np.float64)).sum(axis=0)
        constant = np.where(error > 0, 0.0, 1 + error)  # NaN of NaN
        return float(np.mean(np.where(spread == 0, constant, 1 - error / spread)))


METRICS = {function.__name__: function for function in (accuracy, mae, mse, rmse, r2)}


def resolve_metrics(metrics: Iterable[Any], loss: Any) -> dict[str, Metric]:
    """Return metrics by name: from names and callables ``(y_true, y_pred) -> float``.

    Raises
    ------
    TypeError
        If one is neither.
    ValueError
        If a name is unknown, or two have the same.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics: expected a list of names or callables, got {metrics!r}")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if not isinstance(metric, str) and not callable(metric):
            raise TypeError(f"metrics: expected names or callables, got {describe(metric)}")
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
        if isinstance(metric, str):
            metric = METRICS[choice("metrics", metric, METRICS)]
        if metric is accuracy and isinstance(loss, Loss):
            binary = loss.name == "binary_cross_entropy_with_logits"
            metric = partial(
                accuracy, ignore_index=loss.ignore_index, threshold=0.0 if binary else None
            )
        if name in found or name == "loss":
            raise ValueError(f"metrics: expected names that differ, got {name!r} twice")
        found[name] = metric
    return found
