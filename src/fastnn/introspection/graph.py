"""The operations of a schedule, and what flows from one to the other."""

from __future__ import annotations

from typing import Any

from fastnn._door.numbers import shape as checked
from fastnn._planning.builder import Operation, Room, Value
from fastnn._planning.schedule import Schedule
from fastnn._typing import Shape


def known_shape(layer: Any, given: Any) -> Shape:
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


def shape_text(shape: Shape, batch: Any = "batch") -> str:
    return f"({', '.join(map(str, (batch, *shape)))}{',' if not shape else ''})"


class Graph:
    """The operations of a schedule with names, and what flows from one to the other."""

    def __init__(self, layer: Any, schedule: Schedule) -> None:
        self.schedule = schedule
        self.title = f"{type(layer).__name__} ({schedule.dtype})"
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
        self._connect()

    def _connect(self) -> None:
        """Find who computes what each operation reads: an operation, or the caller."""
        writers: dict[Value, list[Operation]] = {}
        self.edges: list[tuple[Operation | str, Operation, Value]] = []
        for op in self.schedule.operations:
            for value in dict.fromkeys(op.read):
                sources = writers.get(value, [value.slot] if value.slot else [])
                self.edges += [(source, op, value) for source in sources]
            for value in dict.fromkeys(op.written):
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
            return pointer.name
        if isinstance(pointer, Room):
            return pointer.name
        return self._arrays[pointer.ctypes.data]

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
