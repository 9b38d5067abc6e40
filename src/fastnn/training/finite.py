"""Which layer first produced a number that is not finite: a batch is run once more, and looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn._kernels.door import empty
from fastnn._kernels.program import Memory, Program
from fastnn._planning.builder import FORWARD, Value
from fastnn._planning.carried import CarriedState
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array
from fastnn.analysis.backward import unchanged
from fastnn.losses.loss import Loss
from fastnn.training.data import Data

__all__ = ["explain"]


def explain(trainer: Any, data: Data, rows: Array, back: int) -> tuple[float, str]:
    """Return the loss of a batch, and what first produced a number that is not finite.

    Parameters
    ----------
    trainer : Trainer
        Whose model is as it was before the batch, or as near to it as can be had.
    data : Data
    rows : ndarray of int
        The samples of the batch.
    back : int
        How many runs ago it was run, from 1, by which random numbers are taken back.
    """
    x, y, sample_weight, element_weight, lengths = data.batch(rows)
    model = trainer.model
    with unchanged(model):
        schedule = model._schedule(
            x.shape[1:], True, trainer._trained, wants_dx=False, precision=trainer.precision,
            kept=True,
        )  # fmt: skip
        program = Program(schedule, Memory(), model._built().version)
        for state in schedule.random_states:
            state[1] -= back
        arrays = {} if lengths is None else {"lengths": lengths}
        if trainer.stateful:
            arrays |= CarriedState(dict(trainer._carried.states)).arrays(program, len(x))
        given = {"x": x, "y": y, "sample_weight": sample_weight, "element_weight": element_weight}
        given |= {parameter.name: parameter.array for parameter in model.parameters()}
        pred = empty((len(x), *schedule.y.shape), schedule.dtype)
        program.forward(len(x), x, pred, arrays)
        if not program.has_slot("y"):
            program.read(schedule.y, pred)
        if isinstance(trainer.loss, Loss):
            mask = None if data.mask is None else data.mask[rows]
            loss, dpred = trainer.loss(pred, y, sample_weight, element_weight, mask)
        else:
            loss, dpred = trainer._ask_loss(model._built(), pred, y, sample_weight)
        penalty = trainer._penalty() if trainer.l2 else 0.0
        for name, array in given.items():
            if word := _word(array):
                return loss + penalty, f"{name} holds {word}"
        found = _first(program, schedule, len(x), True, pred)
        if not found and (word := _word(loss)):
            found = f"the loss first produced {word} in forward"
        if not found and (word := _word(penalty)):
            found = f"the penalty first produced {word} in forward"
        if not found and (word := _word(dpred)):
            found = f"the loss first produced {word} in backward"
        if not found:
            program.backward(len(x), dpred, None, arrays)
            found = _first(program, schedule, len(x), False, dpred)
    return loss + penalty, found or "no layer produced one when the batch was run again"


def _first(
    program: Program, schedule: Schedule, rows: int, forward: bool, end: Array
) -> str:
    """Say which layer first wrote what is not finite, in the order of a pass; empty if none.

    Gradients of parameters, which run last, are looked at with the layer that they are of.
    """
    kept = {
        value.root for scope in schedule.scopes for value in (scope.output, scope.output.grad)
    }
    layers: dict[str, Any] = {scope.path: scope.layer for scope in schedule.scopes}
    operations = [op for op in schedule.operations if (op.stage == FORWARD) is forward]
    if not forward:
        last: dict[str, int] = {}  # of the layers inside
        for place, path in enumerate(layers):
            parts = path.split(".")
            last |= {".".join(parts[:depth]): place for depth in range(len(parts) + 1)}
        operations.sort(key=lambda op: -last[op.scope])
    for operation in operations:
        values = [value for value in operation.written if value in kept]
        gradients = [
            p.grad_array for p in layers[operation.scope]._parameters.values()
            if operation.parameters and p in schedule.parameters
        ]  # fmt: skip
        for array in [*_arrays(program, values, rows, end), *gradients]:
            if word := _word(array):
                kind = type(layers[operation.scope]).__name__
                name = f"layer {operation.scope or kind} ({kind})"
                return f"{name} first produced {word} in {'forward' if forward else 'backward'}"
    return ""


def _arrays(program: Program, values: list[Value], rows: int, end: Array) -> Iterator[Array]:
    """Yield what a run has written to some values; `end` is what the caller has."""
    for value in values:
        if value.slot is not None:
            yield end
        elif value.storage is not None:
            array = np.empty((rows, *value.shape), value.dtype)
            program.read(value, array)
            yield array


def _word(numbers: Any) -> str:
    """Return what is not finite among numbers: "nan", "inf", or nothing."""
    if numbers is None or isinstance(numbers, (tuple, dict)):
        return ""
    array = np.asarray(numbers)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    return "nan" if np.isnan(array).any() else "inf"
