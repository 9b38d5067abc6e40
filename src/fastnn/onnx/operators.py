"""Operators of ONNX that are layers by themselves, and what they need to be so."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastnn import layers
from fastnn._typing import Array
from fastnn.onnx.nodes import gates
from fastnn.onnx.source import Node
from fastnn.onnx.steps import Affine, Data, Given, Spec, Step, above, extend, meeting

__all__ = ["DIRECT"]

Inputs = list[Any]

# Gates i, o, f, c of ONNX in PyTorch's order i, f, g, o.
_GATES = (0, 2, 3, 1)
_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]


def _refuse(node: Node, expected: str, got: Any) -> ValueError:
    return ValueError(f"{node}: expected {expected}, got {got}")


def _data(node: Node, inputs: Inputs, place: int = 0) -> Data:
    if len(inputs) <= place or not isinstance(inputs[place], Data):
        raise _refuse(node, f"its input {place} to be computed from the graph's", "another")
    found: Data = inputs[place]
    return found


def _array(
    node: Node, inputs: Inputs, place: int, ndim: int, dtype: np.dtype[Any] | None = None
) -> Array:
    """Return an input that is a parameter, of that many axes and of the data's dtype."""
    array = inputs[place] if len(inputs) > place else None
    if not isinstance(array, np.ndarray) or array.ndim != ndim:
        raise _refuse(node, f"its input {place} to be an array in the file with {ndim} axes",
                      getattr(array, "shape", "another"))
    if dtype is not None and array.dtype != dtype:
        raise _refuse(node, f"arrays of one dtype, {dtype} as its data", str(array.dtype))
    return array


# Dense layers ----------------------------------------------------------------------------------


def _linear(
    trace: Any, node: Node, data: Data, weight: Array, bias: Array | None, keys: dict[str, Any]
) -> list[Any]:
    out, features = weight.shape
    if not data.shape or data.shape[-1] != features:
        raise _refuse(node, f"{features} features", f"shape {data.shape}")
    config = {"in_features": features, "out_features": out, "bias": bias is not None}
    arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return [trace.on_rows(node, data, Spec(layers.Linear, config, arrays, keys), out)]


def _matmul(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    data = _data(node, inputs)
    weight = _array(node, inputs, 1, 2, data.dtype)
    return _linear(trace, node, data, weight.T, None, {"weight": (node.inputs[1], "T")})


def _gemm(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    data = _data(node, inputs)
    if node.attributes.get("transA"):
        raise _refuse(node, "transA of 0", 1)
    weight = _array(node, inputs, 1, 2, data.dtype)
    turned = not node.attributes.get("transB")
    weight = weight.T if turned else weight
    keys: dict[str, Any] = {"weight": (node.inputs[1], "T" if turned else "")}
    bias = None
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if len(inputs) > 2 and inputs[2] is not None:
        given = inputs[2]
        if not isinstance(given, np.ndarray) or given.size not in (1, len(weight)):
            raise _refuse(node, f"a bias of {len(weight)} elements", getattr(given, "shape", "one"))
        bias = np.broadcast_to(given.reshape(-1), len(weight))
        if given.size == len(weight):
            keys["bias"] = (node.inputs[2], "")
    if (alpha, beta) != (1, 1):
        weight, keys = np.asarray(weight * alpha, weight.dtype), {}
        bias = None if bias is None else np.asarray(bias * beta, bias.dtype)
    return _linear(trace, node, data, weight, bias, keys)


def _gather(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    data = _data(node, inputs, 1)
    weight = _array(node, inputs, 0, 2)
    if node.attributes.get("axis", 0) or data.step.depth or data.dtype.kind not in "iu":
        raise _refuse(node, "rows of a table by the integers that are the graph's input", "others")
    count, dim = weight.shape
    spec = Spec(layers.Embedding, {"num_embeddings": count, "embedding_dim": dim},
                {"weight": weight}, {"weight": (node.inputs[0], "")})
    step = Step(trace.whole(node, data), spec, (*data.shape, dim), node)
    return [Data(step, None, step.shape, weight.dtype)]


# Normalization ---------------------------------------------------------------------------------


def _layer_norm(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    data = _data(node, inputs)
    axis = node.attributes.get("axis", -1)
    shape = data.shape[axis:] if axis else ()
    if not shape or len(shape) == len(data.shape):
        raise _refuse(node, "axes without that of the batch", f"axis {axis}")
    weight = _array(node, inputs, 1, len(shape), data.dtype)
    bias = None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = _array(node, inputs, 2, len(shape), data.dtype)
    affine = bias is not None or not (weight == 1).all()
    arrays, keys = {}, {}
    if affine:
        arrays = {"weight": weight, "bias": np.zeros_like(weight) if bias is None else bias}
        keys = {"weight": (node.inputs[1], "")}
        if bias is not None:
            keys["bias"] = (node.inputs[2], "")
        if any(array.shape != shape for array in arrays.values()):
            raise _refuse(node, f"parameters of shape {shape}", weight.shape)
    config = {"normalized_shape": shape, "eps": node.attributes.get("epsilon", 1e-5),
              "elementwise_affine": affine}
    spec = Spec(layers.LayerNorm, config, arrays, keys)
    if len(shape) == 1:
        return [trace.on_rows(node, data, spec)]
    step = extend(trace.whole(node, data), spec, data.shape, node)
    return [Data(step, None, step.shape, data.dtype)]


def _batch_norm(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    data = _data(node, inputs)
    if node.attributes.get("training_mode") or len(data.shape) not in (2, 3):
        raise _refuse(node, "(batch, features) or (batch, features, length), as in prediction",
                      f"shape {data.shape}")
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {name: _array(node, inputs, i + 1, 1, data.dtype) for i, name in enumerate(names)}
    features = data.shape[1]
    if any(array.shape != (features,) for array in arrays.values()):
        raise _refuse(node, f"parameters of {features} features", "others")
    config = {"num_features": features, "eps": node.attributes.get("epsilon", 1e-5),
              "momentum": round(1 - node.attributes.get("momentum", 0.9), 9)}
    keys = {name: (node.inputs[i + 1], "") for i, name in enumerate(names[:2])}
    spec = Spec(layers.BatchNorm1d, config, arrays, keys)
    step = extend(trace.whole(node, data), spec, data.shape, node)
    return [Data(step, None, step.shape, data.dtype)]


def _scaler(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    """(x - offset) scale, of ai.onnx.ml."""
    data = _data(node, inputs)
    offset, scale = (np.array(node.attributes.get(name, value), np.float64)
                     for name, value in (("offset", [0.0]), ("scale", [1.0])))
    if any(array.size not in (1, data.shape[-1]) for array in (offset, scale)):
        raise _refuse(node, f"numbers for {data.shape[-1]} features", (offset.size, scale.size))
    spec = Spec(Affine, arrays={"scale": scale, "shift": -offset * scale})
    found = trace.on_rows(node, data, spec)
    return [Data(found.step, found.index, found.shape, np.dtype(np.float32))]


# Recurrent layers ------------------------------------------------------------------------------


def _lstm(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    a, data = node.attributes, _data(node, inputs)
    w, r = (_array(node, inputs, i, 3, data.dtype) for i in (1, 2))
    b, lengths, h, c, peepholes = [*inputs[3:], *[None] * 5][:5]
    directions, hidden = w.shape[0], r.shape[2]
    names = {"forward": 1, "bidirectional": 2}
    if names.get(direction := a.get("direction", "forward")) != directions:
        raise _refuse(node, "a direction of forward or bidirectional", direction)
    given = [f.decode() if isinstance(f, bytes) else str(f) for f in a.get("activations", [])]
    if [f.lower() for f in given] not in ([], _ACTIVATIONS * directions):
        raise _refuse(node, "activations Sigmoid, Tanh, Tanh", given)
    for name in ("clip", "input_forget", "layout"):
        if a.get(name):
            raise _refuse(node, f"no {name}", a[name])
    if peepholes is not None:
        raise _refuse(node, "no peepholes", "some")
    if len(data.shape) != 3:
        raise _refuse(node, "(time, batch, features)", f"shape {data.shape}")
    steps, batch, features = data.shape
    b = np.zeros((directions, 8 * hidden), w.dtype) if b is None else b
    shapes = [getattr(x, "shape", None) for x in (w, r, b)]
    if shapes != [(directions, 4 * hidden, features), (directions, 4 * hidden, hidden),
                  (directions, 8 * hidden)]:
        raise _refuse(node, f"parameters for {features} features and {hidden} units", shapes)
    for state in (h, c):
        if isinstance(state, Data) or (isinstance(state, np.ndarray) and state.any()):
            raise _refuse(node, "initial states of 0 or that are inputs of the graph", "others")
    full = not isinstance(lengths, np.ndarray) or bool((lengths == steps).all())
    if isinstance(lengths, Data) or not full:
        raise _refuse(node, "lengths that are an input of the graph, or none", "others")
    index = trace.numbers(node, data).transpose(1, 0, 2)
    source = trace.whole(node, trace.seen(data.step, index, data.dtype))
    arrays = {}
    for d in range(directions):
        suffix = "l0" + "_reverse" * d
        for kind, values in (("weight_ih", w[d]), ("weight_hh", r[d]),
                             ("bias_ih", b[d, : 4 * hidden]), ("bias_hh", b[d, 4 * hidden :])):
            arrays[f"{kind}_{suffix}"] = gates(values, _GATES)
    keys = {name: (node.inputs[1 + k], name) for name in arrays
            for k, kind in enumerate(("weight_ih", "weight_hh")) if name.startswith(kind)}
    config = {"input_size": features, "hidden_size": hidden, "bidirectional": directions == 2}
    width = directions * hidden
    results: list[Any] = []
    for sequences, shape, order in ((True, (batch, steps, width), (1, 2, 0, 3)),
                                    (False, (batch, width), (1, 0, 2))):
        spec = Spec(layers.LSTM, config | {"return_sequences": sequences}, arrays, keys)
        step = extend(source, spec, shape, node)
        trace.spend(node, prod(shape))
        every = np.arange(prod(shape)).reshape(*shape[:-1], directions, hidden)
        results.append(trace.seen(step, every.transpose(order), data.dtype))
    return [*results, Given()]


# Without parameters ----------------------------------------------------------------------------


def _activation(kind: Any, **options: str) -> Callable[[Any, Node, Inputs], list[Any]]:
    """Return the layer of an element-wise operator; `options` are its arguments by attribute."""
    defaults = {"Elu": 1.0, "LeakyRelu": 0.01}

    def direct(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
        config = {argument: node.attributes.get(name, defaults.get(node.kind))
                  for name, argument in options.items()}
        return [trace.on_elements(node, _data(node, inputs), Spec(kind, config))]

    return direct


def _softmax(kind: Any) -> Callable[[Any, Node, Inputs], list[Any]]:
    def direct(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
        data = _data(node, inputs)
        axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
        if axis % len(data.shape) != len(data.shape) - 1:
            raise _refuse(node, "the last axis", axis)
        return [trace.on_rows(node, data, Spec(kind))]

    return direct


def _dropout(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    ratio = inputs[1] if len(inputs) > 1 and inputs[1] is not None else (
        node.attributes.get("ratio", 0.5))
    spec = Spec(layers.Dropout, {"p": float(np.asarray(ratio).reshape(()))})
    return [trace.on_elements(node, _data(node, inputs), spec), Given()]


def _concat(trace: Any, node: Node, inputs: Inputs) -> list[Any]:
    parts = [_data(node, inputs, i) for i in range(len(inputs))]
    first, axis = parts[0], node.attributes.get("axis", 0)
    if all(part.step is first.step for part in parts) and len(parts) > 1:
        # parts of one array, such as the directions of an LSTM
        trace.spend(node, sum(prod(part.shape) for part in parts))
        index = np.concatenate([trace.numbers(node, part) for part in parts], axis)
        if len(np.unique(index)) == index.size:
            return [trace.seen(first.step, index, first.dtype)]
    if axis % len(first.shape) != len(first.shape) - 1:
        raise _refuse(node, "the last axis", axis)
    steps = [trace.whole(node, part) for part in parts]
    if (both := _both_probabilities(node, steps)) is not None:
        return [Data(both, None, both.shape, first.dtype)]
    base = steps[0]
    for step in steps:
        base = meeting(base, step)
    shape = (*steps[0].shape[:-1], sum(step.shape[-1] for step in steps))
    step = trace.container(node, base, layers.Concat, [above(s, base) for s in steps], shape)
    return [Data(step, None, shape, first.dtype)]


def _both_probabilities(node: Node, steps: list[Step]) -> Step | None:
    """Return softmax of (0, z) for 1 - sigmoid(z) and sigmoid(z), scikit-learn's two classes."""
    if len(steps) != 2 or steps[0].parent is not steps[1] or steps[1].parent is None:
        return None
    (opposite, sigmoid), dense = steps, steps[1].parent
    one_minus = opposite.spec.kind is Affine and (
        (opposite.spec.arrays["scale"] == -1).all() and (opposite.spec.arrays["shift"] == 1).all()
    )
    if not one_minus or sigmoid.spec.kind is not layers.Sigmoid or dense.shape[-1] != 1:
        return None
    if dense.spec.kind is not layers.Linear or dense.parent is None:
        return None
    arrays = {name: np.concatenate([np.zeros_like(values), values])
              for name, values in dense.spec.arrays.items()}
    shape = (*dense.shape[:-1], 2)
    linear = Spec(layers.Linear, dense.spec.config | {"out_features": 2}, arrays)
    return Step(Step(dense.parent, linear, shape, node), Spec(layers.Softmax), shape, node)


# For each such operator what follows it.
DIRECT: dict[str, Callable[[Any, Node, Inputs], list[Any]]] = {
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Dropout": _dropout,
    "Elu": _activation(layers.ELU, alpha="alpha"),
    "Gather": _gather,
    "Gemm": _gemm,
    "LSTM": _lstm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _activation(layers.LeakyReLU, alpha="negative_slope"),
    "LogSoftmax": _softmax(layers.LogSoftmax),
    "MatMul": _matmul,
    "Relu": _activation(layers.ReLU),
    "Scaler": _scaler,
    "Sigmoid": _activation(layers.Sigmoid),
    "Softmax": _softmax(layers.Softmax),
    "Softplus": _activation(layers.Softplus),
    "Tanh": _activation(layers.Tanh),
    "ZipMap": lambda trace, node, inputs: [_data(node, inputs)],
}
