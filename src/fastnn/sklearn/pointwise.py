"""What works with single samples: derivatives by feature, and learning from one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastnn._door.arrays import describe
from fastnn._kernels.door import fill_row
from fastnn._typing import Array
from fastnn.analysis import jacobian
from fastnn.sklearn.base import BaseNetwork
from fastnn.sklearn.objective import Epochs
from fastnn.sklearn.seeding import random_state

__all__ = ["Pointwise"]


class Pointwise(BaseNetwork):
    """An estimator whose network reads the features as they are."""

    _one: Row | None = None  # the last sample of learn_one or predict_one

    def predict_gradient(self, X: Any) -> Array:
        """Return the derivatives of the predictions with respect to the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs or n_classes, n_features)
            Of a classifier those of the probabilities.
        """
        X = self._inputs(X)
        members = getattr(self, "estimators_", None) if self.n_members > 1 else None
        if members:
            return np.asarray(np.mean([m.predict_gradient(X) for m in members], axis=0))
        outputs, slopes = self._outputs(X), jacobian(self._network, self._shaped(X))
        outputs = outputs.reshape(*outputs.shape, *(1,) * (slopes.ndim - 2))
        if self.out_activation_ == "softmax":
            slopes = outputs * (slopes - (outputs * slopes).sum(1, keepdims=True))
        elif self.out_activation_ == "logistic":
            slopes = outputs * (1 - outputs) * slopes
        elif self.out_activation_ == "exp":
            slopes = outputs * slopes
        return self._by_class(slopes.reshape(len(X), -1, *X.shape[1:]))

    def _by_class(self, slopes: Array) -> Array:
        """Return derivatives by class from those by output."""
        return slopes

    # One sample at a time --------------------------------------------------------------------

    def _row(self, x: Mapping[str, float]) -> Array:
        """Return a dict of features as one row, in the order of the first, until the next call."""
        names, row = self.__dict__.get("feature_names_in_"), self._one
        if row is None or row.names is not names:
            if names is None:
                check_is_fitted(self)
                raise ValueError(
                    "x: expected a model that knows the names of its features, from learn_one or a "
                    "data frame, got one fitted to an array"
                )
            row = self._one = Row(names, self.__dict__.get("_dtype", np.dtype(float)))
        return row.fill(x)

    def _learn(self, x: Mapping[str, float], y: Any) -> None:
        """Train on one sample."""
        if "_network" not in self.__dict__:
            self._validate_params()
            self.feature_names_in_ = np.array(list(x), object)
            self.n_features_in_, self.n_outputs_ = len(x), self._outputs_of_one()
            self._random_state = random_state(self.random_state)
            sizes = self.hidden_layer_sizes
            self._initialize(self._row(x), list(sizes) if hasattr(sizes, "__iter__") else [sizes])
        row, target = self._row(x), self._target_of(y)
        self._take_over()
        if self._online is None or self._trainer is None:
            self._online = Epochs(
                self._running_trainer(1), self._criterion(), row, target, None, self.alpha, 1
            )
        self.loss_ = self._online.step(self._shaped(row), target, None)
        self.t_ += 1

    def _outputs_of_one(self) -> int:
        """Return how many numbers a target has."""
        return 1

    def _target_of(self, y: Any) -> Array:
        """Return the target of one sample as the criterion reads it, until the next call."""
        target = self._one.target  # type: ignore[union-attr]
        target[0, 0] = y
        return target


class Row:
    """A row of features that is filled anew from dicts.

    Parameters
    ----------
    names : ndarray of str, shape (n_features,)
    dtype : dtype
    """

    def __init__(self, names: Array, dtype: np.dtype[Any]) -> None:
        self.names, self.keys = names, tuple(names.tolist())
        self.array, self.target = np.empty((1, len(names)), dtype), np.empty((1, 1), dtype)

    def fill(self, x: Mapping[str, float]) -> Array:
        """Return the array with the numbers of a dict."""
        if not (type(x) is dict or isinstance(x, Mapping)) or len(x) != len(self.keys):
            given = f"{len(x)} things" if isinstance(x, Mapping) else describe(x)
            raise ValueError(f"x: expected a dict with the keys {list(self.keys)}, got {given}")
        try:
            fill_row(x, self.keys, self.array)
        except KeyError as error:
            raise ValueError(f"x: expected the key {error}, got {list(x)}") from None
        return self.array
