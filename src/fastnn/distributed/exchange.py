"""Sums of gradients over ranks: in buckets, on their way while earlier layers are computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn._typing import Array
from fastnn.distributed.group import Group
from fastnn.layers.model import arenas
from fastnn.layers.parameter import Parameter
from fastnn.layers.shared_statistics import catch_up

__all__ = ["BUCKET", "Exchange", "clear_gradients", "sum_gradients", "summed_parameters"]

# Bytes of gradients that are sent together: enough that latency is little beside them.
BUCKET = 1 << 22


class Exchange:
    """The gradients of a training program, summed over ranks as soon as they are complete.

    Parameters
    ----------
    schedule : Schedule
        With every gradient as early as it can be.
    group : Group
    trained : list of Parameter
        All that the trainer trains.

    Attributes
    ----------
    parameters : list of Parameter
        Whose gradients are summed.
    parts : list of (int, list of ndarray)
        After how many calls which gradients are complete, as flat arrays. What is in the list does
        not depend on the batch, so that ranks with different ones send the same.
    """

    def __init__(self, schedule: Any, group: Group, trained: list[Parameter]) -> None:
        self.schedule, self.group = schedule, group
        self.parameters = summed_parameters(schedule, trained)
        self.sparse = [p for p in self.parameters if p.sparse]
        self.parts: list[tuple[int, list[Array]]] = []
        waiting: list[Parameter] = []
        for calls, complete in schedule.completed():
            waiting += [parameter for parameter in complete if not parameter.sparse]
            if sum(p.grad_array.nbytes for p in waiting) >= BUCKET:
                self.parts.append((calls, _buckets(waiting)))
                waiting = []
        early = {parameter for _, complete in schedule.completed() for parameter in complete}
        waiting += [p for p in self.parameters if p not in early and not p.sparse]
        self.parts.append((len(schedule.calls), _buckets(waiting)))

    def run(self, program: Any, x: Array) -> BaseException | None:
        """Run a training program and sum its gradients; returns the error that ended it."""
        group, first = self.group, 0
        begun: list[Any] = []
        error: BaseException | None = None
        for last, buckets in self.parts:
            if error is None:
                try:
                    program.part(x, first, last)
                except BaseException as raised:  # the others wait for the sums
                    error = raised
                    catch_up(self.schedule.shared)
            first = last
            for bucket in buckets:
                group.test_all(begun)  # which lets the messages go on
                begun.append(group.comm.Iallreduce(group.in_place, bucket))
        group.wait_all(begun)
        _sum_rows(group, self.sparse)
        return error

    def add_nothing(self) -> None:
        """Take part in the sums of the other ranks without a batch."""
        group = self.group
        begun = [
            group.comm.Iallreduce(group.in_place, bucket)
            for _, buckets in self.parts
            for bucket in buckets
        ]
        group.wait_all(begun)
        _sum_rows(group, self.sparse)


def summed_parameters(schedule: Any, trained: list[Parameter]) -> list[Parameter]:
    """Return whose gradients a program computes: all, where a layer in Python has some."""
    in_python = any(op.python is not None and op.parameters for op in schedule.operations)
    return trained if in_python else schedule.parameters


def clear_gradients(parameters: Iterable[Parameter], random_states: Iterable[Array]) -> None:
    """Make the gradients of a batch without samples, and take its step of the random streams."""
    for parameter in parameters:
        parameter.grad_array.fill(0)
        if parameter.sparse:
            parameter.set_rows(np.empty(0, np.int64))
    for state in random_states:
        state[1] += np.uint64(1)


def sum_gradients(group: Group, parameters: Iterable[Parameter]) -> None:
    """Sum complete gradients over the ranks."""
    parameters = list(parameters)
    dense = [parameter for parameter in parameters if not parameter.sparse]
    begun = [group.comm.Iallreduce(group.in_place, bucket) for bucket in _buckets(dense)]
    group.wait_all(begun)
    _sum_rows(group, [parameter for parameter in parameters if parameter.sparse])


def _buckets(parameters: Iterable[Parameter]) -> list[Array]:
    """Return gradients as flat arrays of at most BUCKET bytes."""
    found = []
    for _, gradient in arenas(parameters):
        size = BUCKET // gradient.itemsize
        found += [gradient[start : start + size] for start in range(0, len(gradient), size)]
    return found


def _sum_rows(group: Group, parameters: Iterable[Parameter]) -> None:
    """Sum gradients of which batches use some rows: those rows alone."""
    for parameter in parameters:
        rows, gradient = parameter.rows, parameter.grad_array
        counts = group.comm.allgather(-1 if rows is None else len(rows))
        if min(counts) < 0:  # something has been added to all of them
            group.comm.Allreduce(group.in_place, gradient)
            parameter.mark_dense()
            continue
        used = np.unique(group.join(rows))
        sums = gradient[used]
        group.comm.Allreduce(group.in_place, sums)
        gradient[used] = sums
        parameter.set_rows(used)
