"""A graph of ONNX that is being written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastnn._files import write_file
from fastnn._typing import Array

__all__ = ["Axis", "Graph", "Tensor"]

Axis = int | str  # its length, or a name for one that is free

# What protobuf can hold, less what names and nodes may take.
_LARGEST = 2**31 - 2**24


class Tensor(NamedTuple):
    """A name in the graph, and how many axes it has."""

    name: str
    rank: int


class Graph:
    """Nodes, arrays, inputs and outputs.

    Parameters
    ----------
    dtype : numpy.dtype
        Of what is computed.
    opset : int

    Attributes
    ----------
    path : str
        Of the layer whose nodes come next; it begins their names.
    """

    def __init__(self, dtype: np.dtype[Any], opset: int) -> None:
        self.dtype, self.opset, self.path = dtype, opset, ""
        self._nodes: list[Any] = []
        self._arrays: dict[str, Array] = {}
        self._names: set[str] = set()
        self._shared: dict[Any, str] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def _unique(self, name: str) -> str:
        found, count = name, 1
        while found in self._names:
            count += 1
            found = f"{name}_{count}"
        self._names.add(found)
        return found

    def input(self, name: str, dtype: Any, shape: Sequence[Axis]) -> Tensor:
        """Declare an input and return it."""
        name = self._unique(name)
        self._inputs.append(_info(name, np.dtype(dtype), shape))
        return Tensor(name, len(shape))

    def output(self, name: str, of: Tensor, dtype: Any, shape: Sequence[Axis]) -> None:
        """Make a tensor an output of that name."""
        name = self._unique(name)
        self._nodes.append(helper.make_node("Identity", [of.name], [name], name=name))
        self._outputs.append(_info(name, np.dtype(dtype), shape))

    def array(self, name: str, values: Any, dtype: Any = None, owner: Hashable = None) -> str:
        """Keep an array, by default of the graph's dtype; what has the same owner is kept once."""
        if owner is not None and owner in self._shared:
            return self._shared[owner]
        name = self._unique(f"{self.path}.{name}" if self.path else name)
        self._arrays[name] = np.array(values, self.dtype if dtype is None else dtype)
        if owner is not None:
            self._shared[owner] = name
        return name

    def number(self, value: float) -> str:
        """Keep a number of the graph's dtype."""
        return self.array("value", value)

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node and return the name of its output, or of its outputs."""
        name = self._unique(f"{self.path}/{kind}" if self.path else kind)
        names = [name] + [self._unique(f"{name}:{i}") for i in range(1, outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return name if outputs == 1 else names

    def write(self, path: Any, version: str) -> None:
        """Write the graph to a file, whole or not at all."""
        size = sum(array.nbytes for array in self._arrays.values())
        if size > _LARGEST:
            raise ValueError(
                f"model: expected at most {_LARGEST} bytes of parameters, which a file of ONNX "
                f"can hold, got {size}"
            )
        arrays = [numpy_helper.from_array(array, name) for name, array in self._arrays.items()]
        graph = helper.make_graph(self._nodes, "fastnn", self._inputs, self._outputs, arrays)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            graph, opset_imports=opsets, producer_name="fastnn", producer_version=version,
            ir_version=helper.find_min_ir_version_for(opsets),
        )  # fmt: skip
        write_file(path, [model.SerializeToString()])


def _info(name: str, dtype: np.dtype[Any], shape: Sequence[Axis]) -> Any:
    text = dtype.kind in "UO"
    kind = onnx.TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, kind, list(shape))
