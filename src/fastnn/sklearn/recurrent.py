"""Recurrent networks as estimators: samples with steps and features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array, check_X_y

from fastnn._door.numbers import fraction
from fastnn._typing import Array
from fastnn.layers import LSTM, Dropout, Linear, Sequential
from fastnn.layers.base import Layer
from fastnn.sklearn.network import each
from fastnn.sklearn.pointwise import Pointwise

__all__ = ["EXTRA", "Recurrent"]

# Further constraints of parameters.
EXTRA: dict[str, list[Any]] = {"bidirectional": ["boolean"]}


class Recurrent(Pointwise):
    """LSTMs one upon the other, the last step of which goes through a dense layer."""

    normalization = None  # which these have not

    def _make_network(self, X: Array, sizes: list[int]) -> Sequential:
        rates = each("dropout", self.dropout, len(sizes))
        features = X.shape[2] if X.ndim == 3 else 1
        parts: list[Layer] = []
        for i, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
            last = i == len(sizes) - 1
            parts.append(LSTM(features, size, bidirectional=bool(self.bidirectional),
                              return_sequences=not last))  # fmt: skip
            if fraction("dropout", rate):
                parts.append(Dropout(rate))
            features = size * (1 + bool(self.bidirectional))
        seed = int(self._random_state.randint(2**31 - 1))
        network = Sequential(*parts, Linear(features, self._units()), dtype=X.dtype, rng=seed)
        network.build()
        return network

    def _shaped(self, X: Array) -> Array:
        return X[:, :, None] if X.ndim == 2 else X

    def _validate(self, X: Any, *y: Any, reset: bool, **options: Any) -> Any:
        """Check samples with three axes here, with two as scikit-learn does."""
        if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) != 3:
            return super()._validate(X, *y, reset=reset, **options)
        if y:
            X, *y = check_X_y(
                X, *y, dtype=(np.float64, np.float32), allow_nd=True, estimator=self, **options
            )
        else:
            X = check_array(X, allow_nd=True, estimator=self)
        if reset:
            self.n_features_in_ = X.shape[2]
        elif X.shape[2] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[2]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return (X, *y) if y else X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
