"""scikit-learn's attributes of a perceptron: lists of weights and biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, StrOptions

from fastnn._typing import Array
from fastnn.layers import Sequential
from fastnn.sklearn.network import ACTIVATIONS, initial_values, make_network
from fastnn.sklearn.pointwise import Pointwise

__all__ = ["Perceptron"]


class Perceptron(Pointwise):
    """A network of dense layers.

    Its attributes `coefs_` and `intercepts_` are views of the network's parameters, so that what is
    written into them counts; lists that someone has changed are read before the next use.
    """

    _parameter_constraints = {  # noqa: RUF012
        **Pointwise._parameter_constraints,
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple, type, HasMethods("forward")],
    }
    _dense: list[Any]  # Linear layers, all with a bias
    coefs_: list[Array]
    intercepts_: list[Array]

    def _make_network(self, X: Array, sizes: list[int]) -> Sequential:
        units = [X.shape[1], *sizes, self._units()]
        self.n_layers_ = len(units)
        values = initial_values(units, self.activation, self._random_state)
        network, dense = make_network(
            units, self.activation, X.dtype, dropout=self.dropout,
            normalization=self.normalization, seed=self._seed(),
        )  # fmt: skip
        self._dense = list(dense)
        for layer, (weight, bias) in zip(self._dense, values, strict=True):
            layer.weight.data, layer.bias.data = weight.T, bias
        return network

    def _show_parameters(self) -> None:
        self.coefs_ = [layer.weight.data.T for layer in self._dense]
        self.intercepts_ = [layer.bias.data for layer in self._dense]
        self._shown = [*self.coefs_, *self.intercepts_]
        self._places = list(map(id, self._shown))  # theirs as long as they are held

    def _take_over(self) -> None:
        if [*map(id, self.coefs_), *map(id, self.intercepts_)] == self._places:
            return
        for layer, weight, bias in zip(self._dense, self.coefs_, self.intercepts_, strict=True):
            layer.weight.data, layer.bias.data = np.asarray(weight).T, bias
        self._show_parameters()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what only compares identities."""
        state = super().__getstate__()
        return {name: state[name] for name in state if name not in ("_shown", "_places")}

    def _order(self) -> Array:
        """Return the order of scikit-learn: all weights, (in, out), then all biases.

        What it does not know, normalization, comes last.
        """
        shapes = [layer.weight.shape for layer in self._dense]
        starts = np.cumsum([0, *(n_out * n_in for n_out, n_in in shapes)])
        places = {}
        for layer, start, (n_out, n_in) in zip(self._dense, starts, shapes, strict=False):
            numbers = start + np.arange(n_out * n_in).reshape(n_in, n_out)
            places[layer.weight] = numbers.T.reshape(-1)
        end = int(starts[-1])
        parameters = self._network.parameters()
        biases = [layer.bias for layer in self._dense]
        others = [p for p in parameters if p not in places and p not in set(biases)]
        for parameter in [*biases, *others]:
            places[parameter] = end + np.arange(parameter.size)
            end += parameter.size
        return np.concatenate([places[p] for p in parameters])
