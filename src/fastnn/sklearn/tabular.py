"""What the estimators for tables share: columns, network, rates."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_X_y

from fastnn import optim, schedules
from fastnn._typing import Array
from fastnn.layers import Linear, Scale, Sequential
from fastnn.sklearn.base import BaseNetwork
from fastnn.sklearn.network import make_network
from fastnn.sklearn.table import Columns, as_objects
from fastnn.training import Trainer

__all__ = ["Tabular"]

# Of the rate: what the factors of features have, and biases (Holzmüller et al. 2024, table A.2).
OF_SCALE, OF_BIAS = 6.0, 0.1
# Samples without which none are held out, and precision costs nothing.
FEWEST = 50


class Tabular(BaseNetwork):
    """A perceptron after RealMLP-TD-S."""

    solver, alpha, learning_rate, power_t = "adam", 0.0, "constant", 0.5
    shuffle, warm_start, normalization, dropout = True, False, None, 0.0
    tol = 0.0
    optimizer = schedule = None
    _warns, _takes_the_last = False, True
    activation: Any
    categorical_features: Any

    @property
    def early_stopping(self) -> bool:
        """Whether the best epoch of a part that is held out counts: unless there are too few."""
        return bool(getattr(self, "_holds_out", True))

    def _validate(self, X: Any, *y: Any, reset: bool, **options: Any) -> Any:
        """Check samples; a data frame may have words."""
        words: Any = None
        if hasattr(X, "iloc"):
            table, words = as_objects(X)
            if not words.any():
                words = None
        if words is None:
            found = super()._validate(X, *y, reset=reset, **options)
            features = found[0].shape[1] if y else found.shape[1]
            words = np.zeros(features, bool)
        else:
            names = np.asarray(X.columns, object)
            if reset:
                self.feature_names_in_, self.n_features_in_ = names, len(names)
            elif list(names) != list(getattr(self, "feature_names_in_", [])):
                raise ValueError(
                    "The feature names should match those that were passed during fit."
                )
            found = table
            if y:
                _, target = check_X_y(np.zeros((len(table), 1)), *y, **options)
                found = table, target
        if reset:
            if not isinstance(self.categorical_features, str):
                words[list(self.categorical_features or ())] = True
            self._categorical = words
        return found

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, reset: bool
    ) -> tuple[Array, Array, Array | None]:
        X, y, sample_weight = super()._checked(X, y, sample_weight, incremental, reset)
        if reset:
            if sample_weight is not None:
                counts = sample_weight > 0
                X, y, sample_weight = X[counts], y[counts], sample_weight[counts]
            self._columns = Columns(self._categorical).fit(X, sample_weight)
            self._holds_out = len(X) >= FEWEST or self.validation_data is not None
            self._dtype = np.dtype(np.float64 if len(X) < FEWEST else np.float32)
        return self._columns.transform(X, self._dtype), y, sample_weight

    def _inputs(self, X: Any) -> Array:
        X = super()._inputs(X)
        return self._columns.transform(X, self._dtype)

    def _make_network(self, X: Array, sizes: list[int]) -> Sequential:
        """Weights N(0, 1) / √in and biases N(0, 1); 0 in the last layer."""
        units = [X.shape[1], *sizes, self._units()]
        network, self._dense = make_network(units, self.activation, X.dtype)
        self._factors = Scale(X.shape[1])
        network.layers = [self._factors, *network.layers]
        random = self._random_state
        for layer in self._dense[:-1]:
            assert layer.bias is not None
            weight = random.standard_normal(layer.weight.shape)
            layer.weight.data = weight / sqrt(layer.in_features)
            layer.bias.data = random.standard_normal(layer.bias.shape)
        return network

    def _make_trainer(self, steps: int) -> Trainer:
        def rate(factor: float) -> schedules.Schedule:
            return schedules.cosine_cycles(factor * self.learning_rate_init, steps)

        dense: list[Linear] = self._dense
        groups = [{"params": [self._factors.weight], "lr": rate(OF_SCALE)}]
        for layer in dense:
            groups.append({"params": [layer.weight], "lr": rate(1 / sqrt(layer.in_features))})
        groups.append({"params": [layer.bias for layer in dense], "lr": rate(OF_BIAS)})
        optimizer = optim.Adam(groups, betas=(0.9, 0.95))
        return Trainer(self._network, self._criterion().loss, optimizer)

    def _is_stuck(self) -> bool:
        return False  # all epochs are run

    def _least(self, batch_size: int) -> int:
        return batch_size  # a smaller last batch is left out

    def _hold_out(self, X: Array, y: Array, sample_weight: Array | None) -> Any:
        if self.validation_data is not None:
            return super()._hold_out(X, y, sample_weight)
        rows, strata = np.arange(len(X)), None
        if is_classifier(self):
            counts = y.sum(0)
            size = int(np.ceil(self.validation_fraction * len(X)))
            if counts.min() >= 2 and len(counts) <= min(size, len(X) - size):
                strata = np.argmax(y, axis=1)
        train, held = train_test_split(
            rows, random_state=self._random_state, test_size=self.validation_fraction,
            stratify=strata,
        )  # fmt: skip
        weights = [None if sample_weight is None else sample_weight[part] for part in (train, held)]
        part = X[held], self._labels(y[held]), self._targets(y[held]), weights[1]
        return X[train], y[train], weights[0], part
