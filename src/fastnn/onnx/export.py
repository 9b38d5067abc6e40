"""Models and estimators as files of ONNX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from onnx import defs

from fastnn._door.arrays import describe
from fastnn._door.numbers import boolean, integer, positive
from fastnn._files import as_path
from fastnn._planning.builder import Builder
from fastnn._typing import Shape
from fastnn.layers import LSTM, Layer
from fastnn.onnx.graph import Axis, Graph, Tensor
from fastnn.onnx.nodes import Recurrence, write
from fastnn.preprocessing import Statistics

__all__ = ["export"]

# LayerNormalization is there since.
_OLDEST = 17
# Stands in for the length of an axis that may have any.
_LENGTH = 3


def export(
    model: Any,
    path: str | PathLike[str],
    *,
    opset: int = 17,
    dynamic_batch: bool = True,
    input_shape: Sequence[int | None] | None = None,
    lengths: bool = False,
    states: bool = False,
) -> None:
    """Write a model as a file of ONNX, which computes what `model.predict` does.

    Parameters
    ----------
    model : Layer or estimator
        Of built-in layers, or a fitted estimator of `fastnn.sklearn`.
    path : str or path
        A file there is replaced when the new one is complete.
    opset : int
        Version of the operators, from 17 to the latest that `onnx` knows.
    dynamic_batch : bool
        Whether the batch may have any size; else it has one sample.
    input_shape : tuple of int or None, optional
        Shape of one sample, with None for an axis of any length. By default that of the last call,
        or what the first layer expects; axes whose length the model leaves open, such as time, may
        have any.
    lengths : bool
        Whether the graph has an input "lengths" of int64, the steps of each sequence that count for
        all recurrent layers.
    states : bool
        Whether it has the states of recurrent layers as inputs "h0" and "c0" and outputs "h_n" and
        "c_n", inside a container with the layer's path before them, as in "0.h0".

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the model has a layer in Python.
    ValueError
        If `opset` is out of range, the shape is not known or does not fit, there is no recurrent
        layer to have `lengths` or `states`, or the parameters take more than 2 GB.
    OSError
        If the file cannot be written.

    Notes
    -----
    The input is "x", in the model's dtype or int64 for indices, the output "y". A model's
    `preprocessing` is part of the graph. Arrays have the names of the state dict where their values
    are the same. Of a classifier the outputs are "label" and "probabilities", of a regressor "y",
    all as `predict` and `predict_proba` return them.

    ONNX Runtime runs all layers in float32. In float64 it lacks LSTM and the error function of GELU
    (not of ``GELU("tanh")``).

    Examples
    --------
    >>> import fastnn, fastnn.onnx
    >>> model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.Tanh(), fastnn.Linear(8, 2), rng=0)
    >>> fastnn.onnx.export(model, "model.onnx")
    >>> fastnn.onnx.load("model.onnx")
    Sequential(Linear(4, 8), Tanh(), Linear(8, 2))
    """
    path = as_path(path)
    opset = integer("opset", opset, _OLDEST, defs.onnx_opset_version())
    batch: Axis = "batch" if boolean("dynamic_batch", dynamic_batch) else 1
    lengths, states = boolean("lengths", lengths), boolean("states", states)
    if isinstance(model, Layer):
        with model._built().lock:
            graph = _of_model(model, opset, batch, input_shape, lengths, states)
    else:
        module: Any = sys.modules.get("fastnn.sklearn.base")
        if module is None or not isinstance(model, module.BaseNetwork):
            raise TypeError(
                f"model: expected a fastnn layer or an estimator of fastnn.sklearn, got "
                f"{describe(model)}"
            )
        if input_shape is not None or lengths or states:
            raise ValueError(
                f"input_shape, lengths, states: expected none with a {type(model).__name__}, whose "
                "inputs are known"
            )
        from fastnn.onnx.estimators import of_estimator

        graph = of_estimator(model, opset, batch)
    from fastnn import __version__

    graph.write(path, __version__)


def _of_model(
    model: Layer, opset: int, batch: Axis, given: Any, lengths: bool, states: bool
) -> Graph:
    dtype = model._built().dtype
    inputs, outputs = _shapes(model, given)
    graph = Graph(dtype, opset)
    kind = np.dtype(np.int64) if model._takes_integers else dtype
    x = graph.input("x", kind, [batch, *inputs])
    recurrence = Recurrence(graph, batch, lengths, states)
    if model.preprocessing is not None:
        x = prepared(graph, model.preprocessing, x)
    y = write(graph, model, x, recurrence)
    if (lengths or states) and not recurrence.count:
        raise ValueError("lengths, states: expected a model with recurrent layers, got none")
    graph.path = ""
    graph.output("y", y, dtype, [batch, *outputs])
    for name, final, shape in recurrence.final:
        graph.output(name, final, dtype, shape)
    return graph


def prepared(graph: Graph, statistics: Statistics, x: Tensor) -> Tensor:
    """Return (x - shift) / scale, in float64 as `Statistics.apply` computes it."""
    graph.path = "preprocessing"
    name = x.name
    if graph.dtype != np.float64:
        name = graph.add("Cast", name, to=11)
    shift, scale = (graph.array(f, getattr(statistics, f), np.float64) for f in Statistics._fields)
    name = graph.add("Div", graph.add("Sub", name, shift), scale)
    if graph.dtype != np.float64:
        name = graph.add("Cast", name, to=1)
    return Tensor(name, x.rank)


# Shapes ----------------------------------------------------------------------------------------


def _shapes(model: Layer, given: Any) -> tuple[list[Axis], list[Axis]]:
    """Return the shapes of a sample and its output, with names for axes of any length."""
    if given is None:
        shape = _known(model)
        free = [_output(model, _longer(shape, i)) is not None for i in range(len(shape))]
    else:
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(f"input_shape: expected a tuple of int or None, got {given!r}")
        free = [n is None for n in given]
        shape = tuple(_LENGTH if n is None else positive("input_shape", n) for n in given)
    output = _output(model, shape, refuse=True)
    assert output is not None
    sequence = model._takes_integers or len(shape) > 1
    names = ["time" if sequence and i == 0 else f"axis{i + 1}" for i in range(len(shape))]
    inputs: list[Axis] = [names[i] if free[i] else n for i, n in enumerate(shape)]
    outputs: list[Axis] = list(output)
    for i, is_free in enumerate(free):
        if is_free:
            other = _output(model, _longer(shape, i), refuse=True)
            assert other is not None
            for j, (n, m) in enumerate(zip(output, other, strict=True)):
                if n != m:
                    outputs[j] = names[i] if (n, m) == (shape[i], shape[i] + 1) else f"y{j + 1}"
    return inputs, outputs


def _longer(shape: Shape, axis: int) -> Shape:
    return tuple(n + (i == axis) for i, n in enumerate(shape))


def _known(model: Layer) -> Shape:
    """Return a shape of a sample that the model takes."""
    if (last := model._built().last_shape) is not None:
        return last
    if (shape := model.input_shape()) is not None:
        return shape
    first = model
    while inside := first.children():
        first = next(iter(inside.values()))
    if isinstance(first, LSTM):
        return (_LENGTH, first.input_size)
    if first._takes_integers:
        return (_LENGTH,)
    raise ValueError(
        f"input_shape: expected the shape of one sample, since {type(model).__name__} takes any "
        "and has not been called yet; got None"
    )


def _output(model: Layer, shape: Shape, refuse: bool = False) -> Shape | None:
    """Return the shape of a sample's output, None if its own does not fit."""
    builder = Builder(model._built().dtype, False)
    try:
        return builder.plan(model, model._input(builder, shape)).shape
    except ValueError:
        if refuse:
            raise
        return None
