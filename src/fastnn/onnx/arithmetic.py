"""Operators of ONNX in NumPy: what is known before a model runs, and what recognizes layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import erf, prod
from typing import Any

import numpy as np
from onnx import helper

from fastnn import reference
from fastnn._typing import Array
from fastnn.onnx.source import Node

__all__ = ["OPERATORS", "VIEWS", "evaluate", "expected_size"]

_erf = np.vectorize(erf, otypes=[float])


def evaluate(node: Node, inputs: list[Any]) -> list[Array]:
    """Return a node's outputs; ValueError if it cannot take these inputs."""
    try:
        with np.errstate(all="ignore"):
            result = OPERATORS[node.kind](node.attributes, *inputs)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{node}: expected what {node.kind} takes: {error}") from error
    return [np.asarray(part) for part in (result if isinstance(result, list) else [result])]


def expected_size(node: Node, inputs: list[Any]) -> int:
    """Return how many elements the outputs have, at most."""
    arrays = [x for x in inputs if x is not None]
    if node.kind == "ConstantOfShape":
        return prod(int(n) for n in arrays[0].reshape(-1))
    if node.kind == "Expand":
        given = np.broadcast_shapes(arrays[0].shape, tuple(int(n) for n in arrays[1].reshape(-1)))
        return prod(given)
    if node.kind == "Gather":
        chosen = arrays[0].shape[node.attributes.get("axis", 0)]
        return arrays[1].size * arrays[0].size // max(1, chosen)
    if node.kind == "Concat":
        return sum(x.size for x in arrays)
    if node.kind in VIEWS or node.kind == "Shape":
        return arrays[0].size if arrays else 0
    return prod(np.broadcast_shapes(*(x.shape for x in arrays))) if arrays else 0


def _axes(attributes: dict[str, Any], given: Array | None) -> tuple[int, ...] | None:
    axes = attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return None if axes is None else tuple(int(axis) for axis in axes)


def _constant(a: dict[str, Any]) -> Array:
    (value,) = a.values()
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, np.float32 if "float" in next(iter(a)) else None)


def _cast(a: dict[str, Any], x: Array) -> Array:
    return x.astype(helper.tensor_dtype_to_np_dtype(a["to"]))


def _reshape(a: dict[str, Any], x: Array, given: Array) -> Array:
    shape = [int(n) for n in given.reshape(-1)]
    if not a.get("allowzero"):
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(a: dict[str, Any], x: Array) -> Array:
    axis = a.get("axis", 1)
    return x.reshape(prod(x.shape[:axis]), -1)


def _squeeze(a: dict[str, Any], x: Array, given: Array | None = None) -> Array:
    return x.squeeze(_axes(a, given))


def _unsqueeze(a: dict[str, Any], x: Array, given: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(a, given) or ())


def _slice(a: dict[str, Any], x: Array, *given: Array | None) -> Array:
    def numbers(place: int, name: str) -> list[int] | None:
        if len(given) > place and (array := given[place]) is not None:
            return [int(n) for n in array.reshape(-1)]
        return a.get(name)

    starts, ends = numbers(0, "starts") or [], numbers(1, "ends") or []
    axes = numbers(2, "axes") or list(range(len(starts)))
    steps = numbers(3, "steps") or [1] * len(starts)
    parts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(parts)]


def _split(a: dict[str, Any], x: Array, given: Array | None = None) -> list[Array]:
    axis = a.get("axis", 0)
    sizes = a.get("split") if given is None else given.reshape(-1).tolist()
    if sizes is None:
        return list(np.array_split(x, a.get("num_outputs", 2), axis))
    return list(np.split(x, np.cumsum(sizes)[:-1], axis))


def _shape(a: dict[str, Any], x: Array) -> Array:
    return np.array(x.shape, np.int64)[a.get("start", 0) : a.get("end")]


def _constant_of_shape(a: dict[str, Any], shape: Array) -> Array:
    value = a.get("value", np.zeros(1, np.float32))
    return np.full([int(n) for n in shape.reshape(-1)], value.reshape(()), value.dtype)


def _divide(a: dict[str, Any], x: Array, y: Array) -> Array:
    whole = x.dtype.kind in "iu" and y.dtype.kind in "iu"
    return np.asarray(np.trunc(x / y).astype(x.dtype) if whole else x / y)


def _reducing(f: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(a: dict[str, Any], x: Array, given: Array | None = None) -> Any:
        axes = _axes(a, given)
        if not axes and a.get("noop_with_empty_axes"):
            return x
        return f(x, axis=axes or None, keepdims=bool(a.get("keepdims", 1)))

    return reduced


def _plain(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, *inputs: f(*inputs)


def _clip(a: dict[str, Any], x: Array, low: Any = None, high: Any = None) -> Array:
    low, high = a.get("min") if low is None else low, a.get("max") if high is None else high
    return x if low is None and high is None else np.clip(x, low, high)


def _elu(a: dict[str, Any], x: Array, alpha: float = 1.0, scale: float = 1.0) -> Any:
    alpha, scale = a.get("alpha", alpha), a.get("gamma", scale)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _last(f: Callable[..., Any]) -> Callable[..., Any]:
    def along(a: dict[str, Any], x: Array) -> Any:
        axis = a.get("axis", -1)
        return np.moveaxis(f(np.moveaxis(x, axis, -1)), -1, axis)

    return along


def _softmax(x: Array) -> Any:
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def _gelu(a: dict[str, Any], x: Array) -> Any:
    f = reference.gelu_tanh_forward if a.get("approximate") == "tanh" else reference.gelu_forward
    return f(np.asarray(x, float))


# Of shape and place alone.
VIEWS: dict[str, Callable[..., Any]] = {
    "Expand": _plain(lambda x, shape: np.broadcast_to(
        x, np.broadcast_shapes(x.shape, tuple(int(n) for n in shape.reshape(-1))))),
    "Flatten": _flatten,
    "Gather": lambda a, x, indices: np.take(x, indices, a.get("axis", 0)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": lambda a, x: x.transpose(a.get("perm")),
    "Unsqueeze": _unsqueeze,
}  # fmt: skip

OPERATORS: dict[str, Callable[..., Any]] = VIEWS | {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "And": _plain(np.logical_and),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, *parts: np.concatenate(parts, a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Elu": _elu,
    "Equal": _plain(np.equal),
    "Erf": _plain(_erf),
    "Exp": _plain(np.exp),
    "Gelu": _gelu,
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Identity": _plain(np.asarray),
    "LeakyRelu": lambda a, x: np.where(x > 0, x, a.get("alpha", 0.01) * x),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Log": _plain(np.log),
    "LogSoftmax": _last(lambda x: np.log(_softmax(x))),
    "Max": _plain(lambda *x: reduce(np.maximum, x)),
    "Mean": _plain(lambda *x: sum(x) / len(x)),
    "Min": _plain(lambda *x: reduce(np.minimum, x)),
    "Mish": _plain(reference.mish_forward),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Not": _plain(np.logical_not),
    "Or": _plain(np.logical_or),
    "PRelu": _plain(lambda x, slope: np.where(x > 0, x, slope * x)),
    "Pow": _plain(np.power),
    "Reciprocal": _plain(np.reciprocal),
    "ReduceMax": _reducing(np.max),
    "ReduceMean": _reducing(np.mean),
    "ReduceSum": _reducing(np.sum),
    "Relu": _plain(lambda x: np.maximum(x, 0)),
    "Selu": lambda a, x: _elu(a, x, 1.6732632423543772, 1.0507009873554805),
    "Shape": _shape,
    "Sigmoid": _plain(lambda x: 1 / (1 + np.exp(-x))),
    "Softmax": _last(_softmax),
    "Softplus": _plain(lambda x: np.logaddexp(0, x)),
    "Sqrt": _plain(np.sqrt),
    "Sub": _plain(np.subtract),
    "Sum": _plain(lambda *x: reduce(np.add, x)),
    "Tanh": _plain(np.tanh),
    "Where": _plain(np.where),
}
