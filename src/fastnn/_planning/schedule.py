"""From planned operations to a schedule: order, drop, sum, place, fuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn._kernels.program import ROWS
from fastnn._planning.builder import (
    BACKWARD,
    FORWARD,
    Builder,
    Operation,
    PlannedParameter,
    Storage,
    Value,
)


class Schedule:
    """The ordered operations of a model: what a Program runs and a summary prints.

    Attributes
    ----------
    operations : list of Operation
        In order of execution.
    calls : list of Operation
        Those that are not an epilogue (``then``) of another.
    x, y : Value or None
        Input and output.
    parameters : list of Parameter
        Whose gradients it computes.
    carried : list of Carried
    random_states : list of ndarray
    changing : list of ndarray
        What a training pass changes besides gradients: statistics and random states.
    minimum_rows : int
    index_limit : int or None
        Indices among the inputs must be below it.
    shared : list of SharedStatistics
        In the order of the forward pass.
    exchange : Exchange or None
        How the gradients are summed over ranks.
    """

    def __init__(
        self,
        builder: Builder,
        operations: list[Operation],
        calls: list[Operation],
        x: Value | None = None,
        y: Value | None = None,
    ) -> None:
        self.operations, self.calls = operations, calls
        self.x: Any = x  # who reads them knows that there are any
        self.y: Any = y
        self.forward_count = sum(op.stage == FORWARD for op in calls)
        self.dtype, self.scopes = builder.dtype, builder.scopes
        self.random_states, self.minimum_rows = builder.random_states, builder.minimum_rows
        self.carried, self.arrays = builder.carried, builder.arrays
        self.changing = builder.changing
        self.parameters, self.index_limit = list(builder.parameters), builder.index_limit
        self.shared: list[Any] = builder.shared or []
        self.exchange: Any = None

    @classmethod
    def of(
        cls,
        builder: Builder,
        outputs: list[Value],
        x: Value | None = None,
        y: Value | None = None,
    ) -> Schedule:
        """Order, prune and place the operations of a builder.

        Parameters
        ----------
        builder : Builder
        outputs : list of Value
            What the caller reads afterwards.
        x, y : Value, optional
            Input and output.
        """
        operations = _sum_gradients(_drop_unread(_add_shared(builder.operations()), outputs))
        _place(operations, outputs)
        return cls(builder, operations, _fuse(operations), x, y)

    def hand_out(self, arrays: Mapping[str, Any]) -> None:
        """Give recurrent layers their states after a run; None if nobody has taken them."""
        for carried in self.carried:
            carried.layer()._last.final = arrays.get(carried.slot)

    def completed(self) -> list[tuple[int, list[PlannedParameter]]]:
        """Return after how many calls the gradients of which parameters are complete.

        In the order of the calls. Those that layers in Python compute are not among them.
        """
        last: dict[PlannedParameter, int] = {}
        gradients = {id(parameter.grad_array): parameter for parameter in self.parameters}
        for count, call in enumerate(self.calls, 1):
            op: Operation | None = call
            while op is not None:
                for output in op.outputs:
                    if id(output) in gradients:
                        last[gradients[id(output)]] = count
                op = op.then
        counts = sorted(set(last.values()))
        return [(count, [p for p in last if last[p] == count]) for count in counts]

    def kept_for_backward(self) -> list[Value]:
        """Return the values that the forward pass writes (or gets) and a later pass reads."""
        forward: dict[Value, None] = {}
        later: set[Value] = set()
        for op in self.operations:
            if op.stage == FORWARD:
                forward.update(dict.fromkeys(op.read + op.written))
            else:
                later.update(op.read)
        return [value for value in forward if value in later]


def _add_shared(operations: list[Operation]) -> list[Operation]:
    """Make the second gradient of a layer that is used twice add to the first."""
    seen: set[int] = set()
    for op in operations:
        if op.parameters:
            written = {id(p) for p in op.outputs if isinstance(p, np.ndarray)}
            op.accumulate = op.accumulate or not seen.isdisjoint(written)
            seen |= written
    return operations


def _sum_gradients(operations: list[Operation]) -> list[Operation]:
    """Make the second and later writers of a gradient add to it."""
    result: list[Operation] = []
    written: set[Value] = set()
    for op in operations:
        result.append(op)
        if op.stage != BACKWARD or not op.written:
            continue
        target = op.written[0]
        if target in written:
            if op.contract.accumulates and not op.parameters:
                op.accumulate = True
            else:
                part = Value(target.name, target.shape, target.dtype)
                op.replace(0, part)
                result.append(Operation(BACKWARD, "add_forward", [target, target, part],
                                        (target.size,), (), ROWS, 1, op.scope))
        written.add(target)
    return result


def _drop_unread(operations: list[Operation], outputs: list[Value]) -> list[Operation]:
    """Keep the operations that lead to an output or a parameter gradient, and those that only
    prepare arrays of a layer's own, such as packed weights."""
    wanted = {value.root for value in outputs}
    kept = []
    for op in reversed(operations):
        needed = not op.written or any(value in wanted for value in op.written)
        if op.parameters or needed or (op.python and op.stage == FORWARD):
            wanted.update(op.read)
            kept.append(op)
    return kept[::-1]


def _place(operations: list[Operation], outputs: list[Value]) -> None:
    """Assign memory; values take over the memory of others that nobody reads any more.

    Only memory with as many bytes per row passes on, so that a thread's rows stay its own and
    no barrier is needed between operations.
    """
    last_read = {}
    for index, op in enumerate(operations):
        for value in op.read + op.written:
            last_read[value] = index
    for value in outputs:
        last_read[value.root] = len(operations)

    free: dict[int, list[Storage]] = {}
    for index, op in enumerate(operations):
        inputs = [v for v in op.read if v.slot is None and last_read[v] == index]
        for value in op.written:
            if value.storage is not None or value.slot is not None:
                continue
            same = [v for v in inputs if v.storage and v.row_bytes == value.row_bytes]
            if op.contract.in_place and same and value is op.written[0]:
                value.storage = same[0].storage
                inputs.remove(same[0])
            elif op.split == ROWS and free.get(value.row_bytes):
                value.storage = free[value.row_bytes].pop()
            else:
                value.storage = Storage(value.row_bytes)
        for value in inputs + [v for v in op.written if last_read[v] == index and not v.slot]:
            if value.storage is not None and value not in outputs and op.split == ROWS:
                free.setdefault(value.row_bytes, []).append(value.storage)


def _fuse(operations: list[Operation]) -> list[Operation]:
    """Attach row-wise operations to the matrix product that computes their input."""
    calls: list[Operation] = []
    chain: list[Operation] = []  # a product and the operations attached to it so far
    for op in operations:
        if (
            chain and op.split == ROWS and op.stage == chain[0].stage
            and op.items == chain[0].items and not op.contract.takes_then
            and any(value in op.read for link in chain for value in link.written)
        ):  # fmt: skip
            chain[-1].then = op
            chain.append(op)
        else:
            calls.append(op)
            chain = [op] if op.contract.takes_then and op.split == ROWS else []
    return calls
