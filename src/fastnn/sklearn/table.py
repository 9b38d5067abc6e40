"""Columns of a table as numbers for a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._typing import Array

__all__ = ["Columns", "as_objects"]


class Columns:
    """Categories as 0 and 1, and numbers scaled robustly and clipped smoothly.

    Parameters
    ----------
    categorical : ndarray of bool, shape (n_features,)
        Which columns hold categories.

    Notes
    -----
    Holzmüller, Grinsztajn & Steinwart 2024, "Better by default", section 3 and appendix B: a number
    becomes :math:`z / \\sqrt{1 + (z / 3)^2}` with :math:`z = (x - median) / (q_{75} - q_{25})`, by
    the range where the quartiles are the same, and 0 where all are. A category has a column of its
    own, two categories have one of ±1; one that is not known has zeros.
    """

    def __init__(self, categorical: Array) -> None:
        self.categorical = categorical

    def fit(self, X: Array, sample_weight: Array | None = None) -> Columns:
        """Learn medians, quartiles and categories."""
        numbers = X[:, ~self.categorical].astype(np.float64)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        low, self.median, high = quantiles(numbers, weight, (0.25, 0.5, 0.75))
        width = high - low
        width = np.where(width > 0, width, 0.5 * np.ptp(numbers, axis=0))
        self.factor = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
        self.known = [np.unique(column) for column in X[:, self.categorical].T]
        return self

    def transform(self, X: Array, dtype: Any) -> Array:
        """Return columns of that dtype, the numbers first."""
        z = (X[:, ~self.categorical].astype(np.float64) - self.median) * self.factor
        parts = [z / np.sqrt(1 + (z / 3) ** 2)]
        for column, known in zip(X[:, self.categorical].T, self.known, strict=True):
            found = (column[:, None] == known).astype(np.float64)
            parts.append(found[:, :1] - found[:, 1:] if len(known) == 2 else found)
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype)


def quantiles(x: Array, weight: Array, levels: Sequence[float]) -> Array:
    """Return quantiles of each column, (levels, columns).

    The means of both values between which the weight below reaches the level, if it does there: a
    sample with the weight 2 counts as two.
    """
    order = np.argsort(x, axis=0)
    found = np.empty((len(levels), x.shape[1]))
    for j in range(x.shape[1]):
        column, below = x[order[:, j], j], np.cumsum(weight[order[:, j]])
        for i, level in enumerate(levels):
            reached = level * below[-1] * np.array([1 - 1e-12, 1 + 1e-12])
            found[i, j] = column[np.searchsorted(below, reached)].mean()
    return found


def as_objects(X: Any) -> tuple[Array, Array]:
    """Return a data frame as an array of objects, and which columns hold no numbers."""
    kinds = [str(kind) for kind in X.dtypes]
    categorical = np.array(
        [not kind.lower().startswith(("int", "uint", "float", "bool")) for kind in kinds]
    )
    table = np.empty(X.shape, object)
    for i, words in enumerate(categorical):
        column = X.iloc[:, i]
        table[:, i] = column.astype(str) if words else column.astype(float)
    return table, categorical
