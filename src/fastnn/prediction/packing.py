"""What of a forward pass depends on weights alone: computed once, and left out of every run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from fastnn._kernels.core import call, contract
from fastnn._kernels.predictor import packed_elements
from fastnn._kernels.program import Memory, Program, Version
from fastnn._planning.builder import FORWARD, Operation, Room, Value
from fastnn._planning.memory import aligned_zeros
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array


class Packed:
    """The weights of a model that nothing changes any more, as its forward passes read them.

    Those for several shapes of inputs share them.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, list[Array]] = {}
        self._given: list[Array] = []  # whose addresses are keys

    def program(self, schedule: Schedule) -> Program:
        """Return the program of an inference schedule, which is changed, on packed weights."""
        known: dict[Room, Array] = {}
        calls = []
        for first in schedule.calls:
            link: Operation | None = first
            while link is not None:
                link.pointers = [
                    known.get(p, p) if isinstance(p, Room) else p for p in link.pointers
                ]
                if link.kernel == "linear_forward":
                    self._pack_weight(link)
                link = link.then
            if any(isinstance(p, Value) for p in first.pointers):
                calls.append(first)
            else:
                rooms = [p for p in first.outputs if isinstance(p, Room)]
                known.update(zip(rooms, self._computed(first, rooms, schedule.dtype), strict=True))
        gone = {id(op) for op in schedule.calls} - {id(op) for op in calls}
        schedule.operations = [op for op in schedule.operations if id(op) not in gone]
        schedule.calls, schedule.forward_count = calls, len(calls)
        return Program(schedule, Memory(), Version())

    def _pack_weight(self, op: Operation) -> None:
        """Let a product read its weights transposed."""
        y, x, weight, bias = op.pointers
        assert isinstance(weight, np.ndarray)
        outs, ins = weight.shape
        room = Room("weight", packed_elements(ins, outs, weight.dtype.itemsize), weight.dtype)
        pack = Operation(
            FORWARD, "linear_pack", [room, weight], op.sizes, (), op.split, ins, op.scope
        )
        op.kernel, op.contract = "linear_packed", contract("linear_packed")
        op.pointers = [y, x, *self._computed(pack, [room], weight.dtype), bias]

    def _computed(self, op: Operation, rooms: list[Room], dtype: np.dtype[Any]) -> list[Array]:
        """Return what an operation on arrays alone puts into `rooms`."""
        arrays = [p for p in op.inputs if isinstance(p, np.ndarray)]
        key = (op.kernel, op.sizes, *map(id, arrays))
        if key not in self._made:
            made = [aligned_zeros(room.shape[0], room.dtype) for room in rooms]
            where = dict(zip(rooms, made, strict=True))
            pointers: Any = [where[p] if isinstance(p, Room) else p for p in op.pointers]
            call(op.kernel, dtype, tuple(pointers), op.sizes, op.scalars, op.items)  # type: ignore[arg-type]
            self._given += arrays
            self._made[key] = made
        return self._made[key]


def copied(to: Array, y: Array) -> Array:
    """Return `to` with the numbers of y."""
    to[...] = y
    return to
