"""A file of ONNX: its graph as far as the output needs it, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from fastnn._files import status
from fastnn._typing import Array

__all__ = ["Node", "Source", "read"]

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_OLDEST = 7


class Node(NamedTuple):
    """An operator with its inputs and outputs by name."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int
    place: int

    def __str__(self) -> str:
        return f"node {self.name or self.outputs[0]!r} ({self.kind})"


class Source(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    size : int
        Of the file, in bytes.
    nodes : list of Node
        Those that the output needs, in the file's order.
    arrays : dict of str to ndarray
    inputs : dict of str to (dtype, shape)
        With 0 for an axis of any length.
    output : str
    """

    size: int
    nodes: list[Node]
    arrays: dict[str, Array]
    inputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    output: str


def read(path: str) -> Source:
    """Read a file; ValueError if it is none of ONNX, damaged, or has what cannot be read."""
    size = status(path).st_size
    with open(path, "rb") as file:
        data = file.read()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(
            f"expected a file of ONNX, got another or a damaged one: {error}"
        ) from None
    graph = model.graph
    if not graph.output or not graph.node:
        raise ValueError("expected a graph with nodes and outputs, got one without, or a file cut "
                         "short")
    try:
        folder = os.path.dirname(os.path.abspath(path))
        size += sum(_external(tensor, folder) for tensor in graph.initializer)
        load_external_data_for_model(model, folder)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(f"expected its arrays in files beside it: {error}") from error
    opset = max((o.version for o in model.opset_import if o.domain in _DOMAINS[:2]), default=1)
    if opset < _OLDEST:
        raise ValueError(f"expected operators of version {_OLDEST} or later, got {opset}")
    arrays = {tensor.name: as_array(tensor, f"array {tensor.name!r}")
              for tensor in graph.initializer}
    inputs = {info.name: _input(info) for info in graph.input if info.name not in arrays}
    nodes = [_node(proto, opset, i) for i, proto in enumerate(graph.node)]
    makers: dict[str, Node] = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            if name in makers or name in inputs or name in arrays:
                raise ValueError(f"{node}: expected a name of its own for its output, got "
                                 f"{name!r} again")
            makers[name] = node
    output = _output(graph, makers)
    return Source(size, list(_needed(nodes, makers, output)), arrays, inputs, output)


def _external(tensor: Any, folder: str) -> int:
    """Return the size of the file in which an array lies, 0 if that is the model's own."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return 0
    location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    return status(os.path.join(folder, location)).st_size


def as_array(tensor: Any, what: str) -> Array:
    """Return the array of a tensor, whose data must be there."""
    if any(n < 0 for n in tensor.dims):
        raise ValueError(f"{what}: expected lengths of at least 0, got {list(tensor.dims)}")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected the data of shape {tuple(tensor.dims)}, got others: "
                         f"{error}") from error


def _input(info: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        raise ValueError(f"input {info.name!r}: expected one whose number of axes is known")
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        raise ValueError(f"input {info.name!r}: expected numbers, got another type") from None
    return dtype, tuple(max(0, axis.dim_value) for axis in kind.shape.dim)


def _node(proto: Any, opset: int, place: int) -> Node:
    attributes: dict[str, Any] = {}
    kind = proto.op_type
    if proto.domain not in _DOMAINS:
        kind = f"{proto.domain}.{kind}"
    node = Node(kind, proto.name, tuple(proto.input), tuple(proto.output), attributes, opset,
                place)
    if not node.outputs:
        raise ValueError(f"node {proto.name!r} ({kind}): expected an output, got none")
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.TENSOR:
            value = as_array(value, f"{node}: {attribute.name}")
        elif attribute.type == onnx.AttributeProto.FLOAT:
            value = float(str(np.float32(value)))  # as someone has written it
        elif isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        attributes[attribute.name] = value
    return node


def _output(graph: Any, makers: dict[str, Node]) -> str:
    """Return the first output that holds real numbers."""
    for info in graph.output:
        kind = info.type.tensor_type.elem_type
        maker = makers.get(info.name)
        if maker is not None and maker.kind == "ZipMap" and maker.inputs:
            return maker.inputs[0]
        if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            return str(info.name)
    raise ValueError("expected an output of float32 or float64, got "
                     f"{', '.join(info.name for info in graph.output)}")


def _needed(nodes: list[Node], makers: dict[str, Node], output: str) -> Iterator[Node]:
    needed, waiting = set(), [output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name in makers:
                waiting.extend(filter(None, makers[name].inputs))
    for node in nodes:
        if needed.intersection(node.outputs):
            yield node
