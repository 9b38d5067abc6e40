"""Layers as nodes of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import pi, sqrt
from typing import Any

import numpy as np

from fastnn import layers
from fastnn._door.arrays import describe
from fastnn._typing import Array
from fastnn.layers import Layer
from fastnn.onnx.graph import Graph, Tensor

__all__ = ["WRITERS", "Recurrence", "gates", "write"]

Writer = Callable[[Graph, Any, Tensor, "Recurrence"], Tensor]

# Blocks of PyTorch's gates i, f, g, o in the order of ONNX: i, o, f, c.
_GATES = (0, 3, 1, 2)
_SELU = 1.6732632423543772, 1.0507009873554805  # alpha and scale


class Recurrence:
    """What the recurrent layers of a graph have beside their input.

    Parameters
    ----------
    batch : int or str
    lengths : bool
        Whether an input tells the length of each sequence.
    states : bool
        Whether inputs and outputs are their states.
    """

    def __init__(self, graph: Graph, batch: int | str, lengths: bool, states: bool) -> None:
        self.graph, self.batch, self.states = graph, batch, states
        self.lengths, self.count = "", 0
        if lengths:
            given = graph.input("lengths", np.int64, [batch])
            self.lengths = graph.add("Cast", given.name, to=6)  # to int32
        self.final: list[tuple[str, Tensor, list[int | str]]] = []

    def initial(self, layer: layers.LSTM) -> tuple[str, str]:
        """Return the names of the states that a layer starts with; empty ones for zeros."""
        self.count += 1
        if not self.states:
            return "", ""
        graph, before = self.graph, f"{self.graph.path}." if self.graph.path else ""
        shape = [len(layer._suffixes), self.batch, layer.hidden_size]
        h0, c0 = (graph.input(f"{before}{name}", graph.dtype, shape) for name in ("h0", "c0"))
        return h0.name, c0.name

    def ends(self, layer: layers.LSTM, h: list[str], c: list[str]) -> None:
        """Keep the states that a layer ends with, those of its parts one upon the other."""
        if self.states:
            graph, before = self.graph, f"{self.graph.path}." if self.graph.path else ""
            shape = [len(layer._suffixes), self.batch, layer.hidden_size]
            for name, parts in (("h_n", h), ("c_n", c)):
                whole = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=0)
                self.final.append((f"{before}{name}", Tensor(whole, 3), shape))


def write(
    graph: Graph, layer: Layer, x: Tensor, recurrence: Recurrence, path: str = ""
) -> Tensor:
    """Append the nodes of a layer that reads `x`, and return its output."""
    graph.path = path
    writer = WRITERS.get(type(layer))
    if writer is None:
        raise TypeError(
            f"layer {path or '(itself)'}: expected a built-in one, got {describe(layer)}"
        )
    return writer(graph, layer, x, recurrence)


def _inside(layer: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    for name, child in layer.children().items():
        yield f"{path}.{name}" if path else name, child


# Containers ------------------------------------------------------------------------------------


def _sequential(graph: Graph, layer: Layer, x: Tensor, recurrence: Recurrence) -> Tensor:
    for path, child in _inside(layer, graph.path):
        x = write(graph, child, x, recurrence, path)
    return x


def _residual(graph: Graph, layer: Layer, x: Tensor, recurrence: Recurrence) -> Tensor:
    path = graph.path
    inner = _sequential(graph, layer, x, recurrence)
    graph.path = path
    return Tensor(graph.add("Add", x.name, inner.name), x.rank)


def _concat(graph: Graph, layer: Layer, x: Tensor, recurrence: Recurrence) -> Tensor:
    path = graph.path
    parts = [write(graph, child, x, recurrence, name) for name, child in _inside(layer, path)]
    graph.path = path
    return Tensor(graph.add("Concat", *(p.name for p in parts), axis=-1), parts[0].rank)


# Layers with parameters ------------------------------------------------------------------------


def _linear(graph: Graph, layer: layers.Linear, x: Tensor, _: Recurrence) -> Tensor:
    weight, bias = layer.weight, layer.bias
    bias_name = "" if bias is None else graph.array("bias", bias.array, owner=bias)
    if x.rank == 2:
        name = graph.array("weight", weight.array, owner=weight)
        given = [x.name, name] + [bias_name] * (bias is not None)
        return Tensor(graph.add("Gemm", *given, transB=1), 2)
    # a product of more axes takes the weight as it stands in the formula, (in, out)
    name = graph.array("weight.T", weight.array.T, owner=(weight, "T"))
    y = graph.add("MatMul", x.name, name)
    return Tensor(y if bias is None else graph.add("Add", y, bias_name), x.rank)


def _scale(graph: Graph, layer: layers.Scale, x: Tensor, _: Recurrence) -> Tensor:
    weight = graph.array("weight", layer.weight.array, owner=layer.weight)
    return Tensor(graph.add("Mul", x.name, weight), x.rank)


def _embedding(graph: Graph, layer: layers.Embedding, x: Tensor, _: Recurrence) -> Tensor:
    weight = graph.array("weight", layer.weight.array, owner=layer.weight)
    return Tensor(graph.add("Gather", weight, x.name, axis=0), x.rank + 1)


def _affine(graph: Graph, layer: Any, shape: tuple[int, ...]) -> list[str]:
    """Return the names of a weight and a bias, of ones and zeros where there are none."""
    return [
        graph.array(name, np.full(shape, value)) if own is None
        else graph.array(name, own.array, owner=own)
        for name, own, value in (("weight", layer.weight, 1), ("bias", layer.bias, 0))
    ]  # fmt: skip


def _layer_norm(graph: Graph, layer: layers.LayerNorm, x: Tensor, _: Recurrence) -> Tensor:
    shape = layer.normalized_shape
    given = _affine(graph, layer, shape)[: 2 if layer.elementwise_affine else 1]
    y = graph.add("LayerNormalization", x.name, *given, axis=-len(shape), epsilon=layer.eps)
    return Tensor(y, x.rank)


def _batch_norm(graph: Graph, layer: layers.BatchNorm1d, x: Tensor, _: Recurrence) -> Tensor:
    affine = _affine(graph, layer, (layer.num_features,))
    running = [graph.array(name, getattr(layer, name).array, owner=getattr(layer, name))
               for name in ("running_mean", "running_var")]
    y = graph.add("BatchNormalization", x.name, *affine, *running, epsilon=layer.eps,
                  momentum=1 - layer.momentum)
    return Tensor(y, x.rank)


def gates(array: Array, order: tuple[int, ...]) -> Array:
    """Return an array with the blocks of its first axis, one for each gate, in another order."""
    blocks = np.split(array, 4)
    return np.concatenate([blocks[k] for k in order])


def _lstm(graph: Graph, layer: layers.LSTM, x: Tensor, recurrence: Recurrence) -> Tensor:
    directions = 2 if layer.bidirectional else 1
    h0, c0 = recurrence.initial(layer)
    name = graph.add("Transpose", x.name, perm=[1, 0, 2])
    last_h, last_c, y = [], [], Tensor("", 3)
    for number in range(layer.num_layers):
        start = number * directions
        suffixes = layer._suffixes[start : start + directions]

        def packed(kind: str, suffixes: list[str] = suffixes) -> list[Array]:
            return [gates(getattr(layer, f"{kind}_{s}").array, _GATES) for s in suffixes]

        own = tuple(p for name, p in layer._parameters.items() if name.endswith(tuple(suffixes)))
        biases = zip(packed("bias_ih"), packed("bias_hh"), strict=True)
        arrays = [
            graph.array(f"{kind}_l{number}", np.stack(values), owner=(kind, *own))
            for kind, values in (
                ("W", packed("weight_ih")), ("R", packed("weight_hh")),
                ("B", [np.concatenate(pair) for pair in biases]),
            )
        ]  # fmt: skip
        initial = [h0, c0]
        if h0 and layer.num_layers > 1:
            bounds = [graph.array("bounds", [k], np.int64) for k in (start, start + directions, 0)]
            initial = [graph.add("Slice", state, *bounds) for state in (h0, c0)]
        given = [name, *arrays, recurrence.lengths, *initial]
        while not given[-1]:
            given.pop()
        direction = "bidirectional" if layer.bidirectional else "forward"
        steps, h, c = graph.add("LSTM", *given, outputs=3, hidden_size=layer.hidden_size,
                                direction=direction)
        last_h.append(h)
        last_c.append(c)
        # what comes is (time, directions, batch, units), and (directions, batch, units)
        if number < layer.num_layers - 1:
            steps = graph.add("Transpose", steps, perm=[0, 2, 1, 3])
            name = graph.add("Reshape", steps, graph.array("shape", [0, 0, -1], np.int64))
        elif layer.return_sequences:
            steps = graph.add("Transpose", steps, perm=[2, 0, 1, 3])
            shape = graph.array("shape", [0, 0, -1], np.int64)
            y = Tensor(graph.add("Reshape", steps, shape), 3)
        else:
            h = graph.add("Transpose", h, perm=[1, 0, 2])
            y = Tensor(graph.add("Reshape", h, graph.array("shape", [0, -1], np.int64)), 2)
    recurrence.ends(layer, last_h, last_c)
    return y


# Layers without --------------------------------------------------------------------------------


def _nothing(graph: Graph, layer: Layer, x: Tensor, _: Recurrence) -> Tensor:
    return x


def _flatten(graph: Graph, layer: Layer, x: Tensor, _: Recurrence) -> Tensor:
    return Tensor(graph.add("Flatten", x.name, axis=1), 2)


def _node(kind: str, **attributes: Any) -> Writer:
    def writer(graph: Graph, layer: Layer, x: Tensor, _: Recurrence) -> Tensor:
        return Tensor(graph.add(kind, x.name, **attributes), x.rank)

    return writer


# Attributes are float32, and ONNX Runtime has neither Elu, Selu nor Softplus for float64: there
# the same is written by what it has, with all digits.


def _exponential(graph: Graph, x: Tensor, alpha: float) -> str:
    """Max(x, 0) + alpha (e^min(x, 0) - 1)."""
    power = graph.add("Exp", graph.add("Min", x.name, graph.number(0)))
    negative = graph.add("Mul", graph.add("Sub", power, graph.number(1)), graph.number(alpha))
    return str(graph.add("Add", graph.add("Relu", x.name), negative))


def _elu(graph: Graph, layer: layers.ELU, x: Tensor, _: Recurrence) -> Tensor:
    if graph.dtype == np.float32:
        return Tensor(graph.add("Elu", x.name, alpha=layer.alpha), x.rank)
    return Tensor(_exponential(graph, x, layer.alpha), x.rank)


def _selu(graph: Graph, layer: layers.SELU, x: Tensor, _: Recurrence) -> Tensor:
    if graph.dtype == np.float32:
        return Tensor(graph.add("Selu", x.name), x.rank)
    alpha, scale = _SELU
    return Tensor(graph.add("Mul", _exponential(graph, x, alpha), graph.number(scale)), x.rank)


def _leaky_relu(graph: Graph, layer: layers.LeakyReLU, x: Tensor, _: Recurrence) -> Tensor:
    if graph.dtype == np.float32:
        return Tensor(graph.add("LeakyRelu", x.name, alpha=layer.negative_slope), x.rank)
    below = graph.add("Min", x.name, graph.number(0))
    below = graph.add("Mul", below, graph.number(layer.negative_slope))
    return Tensor(graph.add("Add", graph.add("Relu", x.name), below), x.rank)


def _soft(graph: Graph, x: str) -> str:
    """log(1 + e^x)."""
    if graph.dtype == np.float32:
        return str(graph.add("Softplus", x))
    power = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    logarithm = graph.add("Log", graph.add("Add", power, graph.number(1)))
    return str(graph.add("Add", graph.add("Relu", x), logarithm))


def _softplus(graph: Graph, layer: layers.Softplus, x: Tensor, _: Recurrence) -> Tensor:
    if layer.beta == 1:
        return Tensor(_soft(graph, x.name), x.rank)
    beta = graph.number(layer.beta)
    y = _soft(graph, graph.add("Mul", x.name, beta))
    return Tensor(graph.add("Div", y, beta), x.rank)


def _gelu(graph: Graph, layer: layers.GELU, x: Tensor, _: Recurrence) -> Tensor:
    if layer.approximate == "none":
        inner = graph.add("Erf", graph.add("Mul", x.name, graph.number(sqrt(0.5))))
    else:
        cube = graph.add("Mul", graph.add("Mul", x.name, x.name), x.name)
        cube = graph.add("Mul", cube, graph.number(0.044715))
        inner = graph.add("Add", x.name, cube)
        inner = graph.add("Tanh", graph.add("Mul", inner, graph.number(sqrt(2 / pi))))
    factor = graph.add("Add", inner, graph.number(1))
    half = graph.add("Mul", x.name, graph.number(0.5))
    return Tensor(graph.add("Mul", half, factor), x.rank)


def _silu(graph: Graph, layer: layers.SiLU, x: Tensor, _: Recurrence) -> Tensor:
    return Tensor(graph.add("Mul", x.name, graph.add("Sigmoid", x.name)), x.rank)


def _mish(graph: Graph, layer: layers.Mish, x: Tensor, _: Recurrence) -> Tensor:
    factor = graph.add("Tanh", _soft(graph, x.name))
    return Tensor(graph.add("Mul", x.name, factor), x.rank)


# For each built-in layer what writes its nodes.
WRITERS: dict[type[Layer], Any] = {
    layers.BatchNorm1d: _batch_norm,
    layers.Concat: _concat,
    layers.Dropout: _nothing,
    layers.ELU: _elu,
    layers.Embedding: _embedding,
    layers.Flatten: _flatten,
    layers.GELU: _gelu,
    layers.LSTM: _lstm,
    layers.LayerNorm: _layer_norm,
    layers.LeakyReLU: _leaky_relu,
    layers.Linear: _linear,
    layers.LogSoftmax: _node("LogSoftmax", axis=-1),
    layers.Mish: _mish,
    layers.ReLU: _node("Relu"),
    layers.Residual: _residual,
    layers.SELU: _selu,
    layers.Scale: _scale,
    layers.Sequential: _sequential,
    layers.SiLU: _silu,
    layers.Sigmoid: _node("Sigmoid"),
    layers.Softmax: _node("Softmax", axis=-1),
    layers.Softplus: _softplus,
    layers.Tanh: _node("Tanh"),
}
