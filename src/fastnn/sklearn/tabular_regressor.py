"""The perceptron for tables that tells numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._typing import Array
from fastnn.sklearn.objective import Criterion, criterion
from fastnn.sklearn.regression import Regressor
from fastnn.sklearn.tabular import Tabular

__all__ = ["TabularRegressor"]


class TabularRegressor(Tabular, Regressor):
    """Multi-layer perceptron with settings that suit tables, without any tuning.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(256, 256, 256)
    activation : str, layer, or list of these, default="mish"
    batch_size : int, default=256
    learning_rate_init : float, default=0.07
        The peak of the rate, which goes up and down four times.
    max_iter : int, default=256
        Epochs, all of which are run.
    random_state : int, RandomState instance or None, default=None
    verbose : bool, default=False
    validation_fraction : float, default=0.2
        What is held out to find the best epoch; none of fewer than 50 samples.
    validation_data : (X, y) or (X, y, sample_weight), default=None
        Data of your own instead.
    categorical_features : list of int or "auto", default="auto"
        Columns that hold categories; by default those of a data frame that hold no numbers.
    n_members : int, default=1
        Networks with different seeds, whose predictions are averaged.
    callbacks : list, default=()
    progress : bool, default=False

    Attributes
    ----------
    loss_curve_, validation_loss_curve_, validation_scores_, best_validation_score_
        As of `MLPRegressor`; scores are R², losses of targets with unit variance.
    n_features_in_, feature_names_in_, n_iter_, n_outputs_, out_activation_

    Notes
    -----
    RealMLP-TD-S as :class:`TabularClassifier`, with targets of zero mean and unit variance and the
    mean squared error.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastnn.sklearn import TabularRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TabularRegressor(max_iter=30, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4
    True
    >>> lower, upper = model.predict_interval(X, coverage=0.9)
    """

    _parameter_constraints = {  # noqa: RUF012
        **Regressor._parameter_constraints,
        "activation": "no_validation",
        "categorical_features": ["array-like", str],
    }
    loss = "squared_error"

    def __init__(
        self,
        hidden_layer_sizes: Any = (256, 256, 256),
        activation: Any = "mish",
        *,
        batch_size: int = 256,
        learning_rate_init: float = 0.07,
        max_iter: int = 256,
        random_state: Any = None,
        verbose: bool = False,
        validation_fraction: float = 0.2,
        validation_data: Any = None,
        categorical_features: Any = "auto",
        n_members: int = 1,
        callbacks: Any = (),
        progress: bool = False,
    ) -> None:
        self._store(locals())

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, reset: bool
    ) -> tuple[Array, Array, Array | None]:
        X, y, sample_weight = super()._checked(X, y, sample_weight, incremental, reset)
        if reset:
            self._mean = np.average(y, axis=0, weights=sample_weight)
            spread = np.sqrt(np.average((y - self._mean) ** 2, axis=0, weights=sample_weight))
            self._spread = np.where(spread > 0, spread, 1.0)
        return X, y, sample_weight

    def _criterion(self) -> Criterion:
        return criterion("mse", self.n_outputs_)

    def _targets(self, y: Array) -> Array:
        return np.ascontiguousarray((y - self._mean) / self._spread, self._dtype)

    def _activated(self, z: Array) -> Array:
        return np.asarray(z * self._spread + self._mean)
