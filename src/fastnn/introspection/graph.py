"""The operations of a schedule, and what flows from one to the other."""

from __future__ import annotations

import re
from typing import Any

from fastnn._door.numbers import shape as checked
from fastnn._planning.builder import Operation, Room, Value
from fastnn._planning.schedule import Schedule
from fastnn._typing import Shape
from fastnn.introspection.layer_graph import LayerGraph


def known_shape(layer: Any, given: Any) -> Shape:
    """Return the shape of one sample: as given, wanted by the first layer, or called with last."""
    if given is not None:
        return checked("input_shape", given)
    shape: Shape | None = layer.input_shape()
    if shape is not None:
        return shape
    last: Shape | None = layer._built().last_shape
    if last is None:
        raise ValueError(
            f"input_shape: expected the shape of one sample, since {type(layer).__name__} takes "
            "any and has not been called yet; got None"
        )
    return last


def drawn_shape(layer: Any, given: Any) -> tuple[Shape, str]:
    """Return the shape of one sample for a description, and what to say about a free axis.

    Where the model has not been called, a length stands in for one that is free.
    """
    if given is None and layer.input_shape() is None and layer._built().last_shape is None:
        shape: Shape | None = layer._typical_shape()
        if shape is not None:
            return shape, f"{shape[0]} steps stand for any number"
    return known_shape(layer, given), ""


def shape_text(shape: Shape, batch: Any = "batch") -> str:
    """Return a shape with the axis of the batch."""
    return f"({', '.join(map(str, (batch, *shape)))}{',' if not shape else ''})"


def kept_bytes(schedule: Schedule, batch_size: int) -> dict[str | None, int]:
    """Return the bytes kept for backward by the scope that computes them; None: the caller's."""
    maker: dict[Value, str] = {}
    for op in schedule.operations:
        for value in op.written:
            maker.setdefault(value, op.scope)
    kept: dict[str | None, int] = {}
    counted = set()
    for value in schedule.kept_for_backward():
        place, others = value.storage or value, value.slot and value is not schedule.x
        if place not in counted and not others:
            counted.add(place)
            scope = None if value is schedule.x.root else maker.get(value)
            kept[scope] = kept.get(scope, 0) + value.row_bytes * batch_size
    return kept


class Graph:
    """The operations of a schedule with names, and what flows from one to the other.

    Parameters
    ----------
    layer : Layer
    schedule : Schedule
    note : str
        About a free axis.
    loss : str
        What the trainer's loss is called.
    l2 : float
        Of its penalty.
    penalized : list of Parameter
        That the penalty is on.
    """

    def __init__(
        self,
        layer: Any,
        schedule: Schedule,
        note: str = "",
        loss: str = "",
        l2: float = 0.0,
        penalized: Any = (),
    ) -> None:
        self.schedule, self.loss, self.l2 = schedule, loss, l2
        self.penalized = list(penalized) if l2 else []
        self.title = f"{type(layer).__name__} ({schedule.dtype})"
        self.note = note
        self.fused = {id(op) for op in schedule.operations} - {id(op) for op in schedule.calls}
        self._arrays: dict[int, str] = {}
        for path, part in layer._layers():
            before = f"{path}." if path else ""
            for p in part._parameters.values():
                self._arrays[p.array.ctypes.data] = p.name
                self._arrays[p.grad_array.ctypes.data] = f"d{p.name}"
            for name, buffer in part._buffers.items():
                self._arrays[buffer.array.ctypes.data] = before + name
        for name, array in schedule.arrays:
            self._arrays[array.ctypes.data] = name
        self.layers = {scope.path: scope.layer for scope in schedule.scopes}
        self.by_layer = LayerGraph(schedule, kept_bytes(schedule, 1))
        self._names = self._named()
        self._connect()

    def _named(self) -> dict[str, str]:
        """Return better names for values that were only numbered: h1, h2, ... for what layers
        give, z1, z2, ... for what is between."""
        names = {"v0": "v0", self.schedule.x.root.name: "x", self.schedule.y.root.name: "y"}
        for node in self.by_layer.nodes[1:]:
            assert node.value is not None
            own = node.value.root.name
            if own not in names:
                count = sum(name.startswith("h") for name in names.values())
                names[own] = f"h{count + 1}"
        between = 0
        for op in self.schedule.operations:
            for value in op.written:
                if re.fullmatch(r"v\d+", value.name) and value.name not in names:
                    names[value.name] = f"z{(between := between + 1)}"
        return names | {f"d{old}": f"d{new}" for old, new in names.items()}

    def _connect(self) -> None:
        """Find who computes what each operation reads: an operation, or the caller."""
        writers: dict[Any, list[Operation]] = {}
        self.edges: list[tuple[Operation | str, Operation, Any]] = []
        for op in self.schedule.operations:
            rooms: list[Any] = [p for p in op.inputs if isinstance(p, Room)]
            for value in dict.fromkeys([*op.read, *rooms]):
                sources = writers.get(value, [value.slot] if value.slot else [])
                self.edges += [(source, op, value) for source in sources]
            written = [p for p in op.outputs if isinstance(p, Room)]
            for value in dict.fromkeys([*op.written, *written]):
                if op.accumulate:
                    writers[value] = []
                # more than one: each writes a part
                writers.setdefault(value, []).append(op)
        results = {"y": self.schedule.y.root, "dx": self.schedule.x.grad.root}
        # the operations that compute what the caller gets
        self.outputs = {slot: writers[value] for slot, value in results.items() if value in writers}

    def name(self, pointer: Any) -> str:
        """What to call a value, a parameter, or nothing."""
        if pointer is None:
            return "-"
        if isinstance(pointer, Value):
            return self._names.get(pointer.name, pointer.name)
        if isinstance(pointer, Room):
            return pointer.name
        return self._arrays.get(pointer.ctypes.data, "constant")

    def shaped(self, pointer: Any) -> str:
        """Its name and shape."""
        shape = shape_text(pointer.shape) if isinstance(pointer, Value) else str(pointer.shape)
        return f"{self.name(pointer)} {shape}"

    def results(self, op: Operation) -> list[Any]:
        """What an operation writes."""
        return [p for p in op.outputs if p is not None]

    def in_place(self, op: Operation) -> bool:
        """Whether an operation writes over what it reads."""
        read = {v.storage for v in op.read if v not in op.written}
        return any(value.storage in read for value in op.written if value.storage)

    def notes(self, operations: list[Operation]) -> list[str]:
        """What is special about how operations run."""
        found = []
        if operations and all(id(op) in self.fused for op in operations):
            found.append("fused")
        if any(self.in_place(op) for op in operations):
            found.append("in place")
        return found

    def gradients(self, node: Any) -> list[Any]:
        """The parameters of a node whose gradients it computes."""
        wanted = set(map(id, self.schedule.parameters))
        return [p for p in node.parameters if id(p) in wanted]

    @property
    def custom_loss(self) -> bool:
        """Whether a trainer's loss is a function in Python, that no operation computes."""
        return bool(self.loss) and self.by_layer.loss is None


