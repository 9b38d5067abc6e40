"""Networks from scikit-learn's parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._door.numbers import did_you_mean, fraction
from fastnn._typing import Array
from fastnn.layers import Dropout, LayerNorm, Linear, Sequential, activation
from fastnn.layers.base import Layer
from fastnn.layers.normalization import BatchNorm1d

__all__ = ["ACTIVATIONS", "each", "initial_values", "make_network"]

# By scikit-learn's names, and all of ours that work element by element.
ACTIVATIONS: dict[str, type[Layer] | None] = {
    {"LeakyReLU": "leaky_relu"}.get(name, name.lower()): getattr(activation, name)
    for name in activation.__all__
    if name not in ("Softmax", "LogSoftmax")
} | {"identity": None, "logistic": activation.Sigmoid}


def initial_values(
    units: Sequence[int], kind: Any, random_state: np.random.RandomState
) -> list[tuple[Array, Array]]:
    """Return weights (in, out) and biases of each layer, drawn as scikit-learn draws them.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    2010; with logistic activations a third of the variance.
    """
    factor = 2.0 if isinstance(kind, str) and kind == "logistic" else 6.0
    values = []
    for fan_in, fan_out in pairwise(units):
        bound = np.sqrt(factor / (fan_in + fan_out))
        weight = random_state.uniform(-bound, bound, (fan_in, fan_out))
        values.append((weight, random_state.uniform(-bound, bound, fan_out)))
    return values


def make_network(
    units: Sequence[int],
    kind: Any,
    dtype: Any,
    *,
    dropout: float | Sequence[float] = 0.0,
    normalization: str | None = None,
    seed: int = 0,
) -> tuple[Sequential, list[Linear]]:
    """Return a network of dense layers, whose output is linear, and its dense layers."""
    hidden = len(units) - 2
    activations = each("activation", kind, hidden)
    rates = each("dropout", dropout, hidden)
    parts: list[Layer] = []
    dense = [Linear(n_in, n_out, init="zeros") for n_in, n_out in pairwise(units)]
    for linear, name, rate in zip(dense, activations, rates, strict=False):
        parts.append(linear)
        if normalization is not None:
            kind = LayerNorm if normalization == "layer" else BatchNorm1d
            parts.append(kind(linear.out_features))
        if (layer := _activation(name)) is not None:
            parts.append(layer)
        if fraction("dropout", rate):
            parts.append(Dropout(rate))
    return Sequential(*parts, dense[-1], dtype=dtype, rng=seed), dense


def each(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each hidden layer."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"{name}: expected one for each of the {count} hidden layers, got {len(value)}"
        )
    return list(value)


def _activation(given: Any) -> Layer | None:
    """Return a new layer for a name, a class or a layer."""
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected one of {', '.join(ACTIVATIONS)}, got {given!r}"
                f"{did_you_mean(given, ACTIVATIONS)}"
            )
        kind = ACTIVATIONS[given]
        return None if kind is None else kind()
    if isinstance(given, type) and issubclass(given, Layer):
        return given()
    if isinstance(given, Layer):
        return copy.deepcopy(given)
    raise TypeError(f"activation: expected a name or a fastnn layer, got {describe(given)}")
