"""Estimators of `fastnn.sklearn` as graphs of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.layers import LSTM
from fastnn.onnx.graph import Axis, Graph, Tensor
from fastnn.onnx.nodes import Recurrence, write
from fastnn.sklearn.base import BaseNetwork
from fastnn.sklearn.classification import Classifier
from fastnn.sklearn.tabular import Tabular
from fastnn.sklearn.tabular_regressor import TabularRegressor

__all__ = ["of_estimator"]

_DOUBLE = np.dtype(np.float64)


def of_estimator(estimator: Any, opset: int, batch: Axis) -> Graph:
    """Return the graph of a fitted estimator."""
    if not hasattr(estimator, "_network"):
        raise ValueError(
            f"model: expected a fitted {type(estimator).__name__}, got one that is not"
        )
    members = getattr(estimator, "estimators_", None) if estimator.n_members > 1 else None
    members = members or [estimator]
    for member in members:
        member._take_over()
    graph = Graph(estimator._network._built().dtype, opset)
    x = _input(graph, estimator, batch)
    outputs = [_outputs(graph, member, x, f"members.{i}" if len(members) > 1 else "")
               for i, member in enumerate(members)]
    graph.path = "outputs"
    name, dtype = outputs[0]
    if len(outputs) > 1:
        total = graph.add("Sum", *(name for name, _ in outputs))
        name = graph.add("Div", total, graph.array("members", len(members), dtype))
    if isinstance(estimator, Classifier):
        _classes(graph, estimator, name, batch)
    else:
        _numbers(graph, estimator, name, dtype, batch)
    return graph


def _input(graph: Graph, estimator: BaseNetwork, batch: Axis) -> Tensor:
    """Return samples as the network reads them."""
    features = int(estimator.n_features_in_)
    if isinstance(estimator, Tabular):
        return _columns(graph, estimator, batch)
    first = estimator._network[0]
    if not isinstance(first, LSTM):
        return graph.input("x", graph.dtype, [batch, features])
    if features == first.input_size:
        return graph.input("x", graph.dtype, [batch, "time", features])
    x = graph.input("x", graph.dtype, [batch, features])  # steps with one feature
    return Tensor(graph.add("Unsqueeze", x.name, graph.array("axes", [2], np.int64)), 3)


def _columns(graph: Graph, estimator: Tabular, batch: Axis) -> Tensor:
    """Return what `Columns.transform` makes of a table of numbers."""
    columns = estimator._columns
    if any(known.dtype.kind not in "fiu" for known in columns.known):
        raise ValueError("model: expected one fitted to a table of numbers, got one with words; "
                         "number the categories before and name them in categorical_features")
    x = graph.input("x", _DOUBLE, [batch, len(columns.categorical)])
    graph.path = "columns"

    def number(value: Any) -> str:
        return graph.array("value", value, _DOUBLE)

    def chosen(mask: Any) -> str:
        name: str = graph.add("Gather", x.name, graph.array("chosen", np.flatnonzero(mask),
                                                            np.int64), axis=1)
        return name

    parts = []
    if not columns.categorical.all():
        z = graph.add("Sub", chosen(~columns.categorical), number(columns.median))
        z = graph.add("Mul", z, number(columns.factor))
        third = graph.add("Div", z, number(3))
        square = graph.add("Add", graph.add("Mul", third, third), number(1))
        parts.append(graph.add("Div", z, graph.add("Sqrt", square)))
    for i, known in zip(np.flatnonzero(columns.categorical), columns.known, strict=True):
        column = chosen(np.arange(len(columns.categorical)) == i)
        found = graph.add("Cast", graph.add("Equal", column, number(known)), to=11)
        if len(known) == 2:  # one column of ±1
            found = graph.add("MatMul", found, number([[1.0], [-1.0]]))
        parts.append(found)
    whole = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    return Tensor(graph.add("Cast", whole, to=1), 2)


def _outputs(
    graph: Graph, member: Any, x: Tensor, path: str
) -> tuple[str, np.dtype[Any]]:
    """Return a network's output after its activation, and its dtype."""
    recurrence = Recurrence(graph, 1, lengths=False, states=False)
    z = write(graph, member._network, x, recurrence, path)
    graph.path = f"{path}.output" if path else "output"
    if isinstance(member, TabularRegressor):
        wide = graph.add("Cast", z.name, to=11)
        scale, shift = (graph.array(name, values, _DOUBLE) for name, values in (
            ("spread", member._spread), ("mean", member._mean)))  # fmt: skip
        return graph.add("Add", graph.add("Mul", wide, scale), shift), _DOUBLE
    kinds = {"softmax": "Softmax", "logistic": "Sigmoid", "exp": "Exp"}
    kind = kinds.get(member.out_activation_)
    return z.name if kind is None else graph.add(kind, z.name), graph.dtype


def _classes(graph: Graph, estimator: Any, name: str, batch: Axis) -> None:
    """Declare labels and probabilities."""
    classes, units = estimator.classes_, int(estimator.n_outputs_)
    several = estimator._codes.several
    if several:
        half = graph.array("half", 0.5)
        labels = graph.add("Cast", graph.add("Greater", name, half), to=7)
        graph.output("label", Tensor(labels, 2), np.int64, [batch, units])
        graph.output("probabilities", Tensor(name, 2), graph.dtype, [batch, units])
        return
    if units == 1:
        opposite = graph.add("Sub", graph.array("one", 1), name)
        name = graph.add("Concat", opposite, name, axis=1)
    which = graph.add("ArgMax", name, axis=1, keepdims=0)
    if classes.dtype.kind in "UO":
        kept = np.dtype(object)
    else:
        kept = classes.dtype
    # there are as many outputs as classes, or two for a single class
    table = classes[np.arange(max(units, 2)).clip(max=len(classes) - 1)]
    labels = graph.add("Gather", graph.array("classes", table, kept), which)
    graph.output("label", Tensor(labels, 1), kept, [batch])
    graph.output("probabilities", Tensor(name, 2), graph.dtype, [batch, max(units, 2)])


def _numbers(
    graph: Graph, estimator: Any, name: str, dtype: np.dtype[Any], batch: Axis
) -> None:
    """Declare what a regressor's `predict` returns."""
    outputs, loss = int(estimator.n_outputs_), estimator._criterion().loss
    kind = getattr(loss, "target", "values")
    shape: list[int]
    if kind == "quantiles":
        each = len(loss.quantiles)
        shape = [each] if outputs == 1 else [outputs, each]
    else:
        if kind == "moments":
            bounds = [graph.array("bounds", [k], np.int64) for k in (0, outputs, 1)]
            name = graph.add("Slice", name, *bounds)
        shape = [] if outputs == 1 else [outputs]
    y = graph.add("Reshape", name, graph.array("shape", [-1, *shape], np.int64))
    graph.output("y", Tensor(y, 1 + len(shape)), dtype, [batch, *shape])
