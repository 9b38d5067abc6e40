"""Labels as columns of zeros and ones, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target, unique_labels

from fastnn._typing import Array

__all__ = ["Labels"]

# Samples of each class, on average, from which on classes are not many.
FEW = 8


class Labels:
    """The labels of a classifier: two classes, several, or several labels at once.

    As scikit-learn's ``LabelBinarizer``, which asks what kind of labels they are at every call and
    takes as long as a small network takes to be fitted.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)

    Attributes
    ----------
    kind : {"binary", "multiclass", "multilabel-indicator"}
    classes : ndarray of shape (n_classes,)
        In ascending order.

    Raises
    ------
    ValueError
        If they are no labels, such as numbers of any size.
    """

    def __init__(self, y: Any) -> None:
        self.kind: str
        self.classes: Array
        if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biu":
            self.classes = distinct(y)
            if FEW * len(self.classes) <= len(y):  # else scikit-learn may warn that they are many
                self.kind = "binary" if len(self.classes) <= 2 else "multiclass"
                return
        self.kind = type_of_target(y, input_name="y")
        if "multioutput" in self.kind:
            raise ValueError(
                "Multioutput target data is not supported with label binarization"
            )
        if self.kind in ("binary", "multiclass") and np.asarray(y).dtype.kind in "bfiuU":
            self.classes = np.unique(y)
        else:
            self.classes = unique_labels(y)

    @property
    def several(self) -> bool:
        """Whether a sample may have several labels at once."""
        return self.kind.startswith("multilabel")

    @property
    def width(self) -> int:
        """How many columns there are: one for each class, but one alone for two classes."""
        return 1 if self.kind == "binary" and len(self.classes) <= 2 else len(self.classes)

    def encode(self, y: Any) -> Array:
        """Return labels among `classes` as bool, shape (n_samples, `width`)."""
        if self.several:
            if type_of_target(y) != self.kind:
                raise ValueError("The object was not fitted with multilabel input.")
            return np.asarray(y.toarray() if issparse(y) else y, bool)
        flat = isinstance(y, np.ndarray) and y.ndim == 1
        codes = np.searchsorted(self.classes, y if flat else column_or_1d(y))
        if self.width == 1:
            return np.asarray(codes.astype(bool)[:, np.newaxis])
        columns: Array = np.eye(self.width, dtype=bool).take(codes, axis=0)
        return columns

    def decode(self, columns: Array) -> Array:
        """Return the most probable labels for outputs of shape (n_samples, `width`)."""
        if self.several:
            return np.asarray(columns > 0.5, int)
        if self.width > 1:
            return np.asarray(self.classes[columns.argmax(axis=1)])
        codes = (columns.ravel() > 0.5).astype(int)
        return np.asarray(self.classes[np.minimum(codes, len(self.classes) - 1)])


def distinct(y: Array) -> Array:
    """Return the different ones of some integers in ascending order."""
    if np.can_cast(y.dtype, np.intp) and len(y) and y.min() >= 0 and y.max() < len(y):
        return np.flatnonzero(np.bincount(y)).astype(y.dtype)
    return np.unique(y)
