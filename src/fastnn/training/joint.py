"""One training step of several ranks, each with its part of the batch."""

from __future__ import annotations

from math import isfinite, nan
from typing import Any
from zlib import crc32

import numpy as np

from fastnn._typing import Array
from fastnn.distributed.exchange import (
    Exchange,
    clear_gradients,
    sum_gradients,
    summed_parameters,
)
from fastnn.distributed.group import Group
from fastnn.layers.parameter import mark_gradients
from fastnn.layers.shared_statistics import catch_up
from fastnn.losses.loss import Loss
from fastnn.training.data import against_infinity
from fastnn.training.state import model_arrays, random_key

__all__ = [
    "agree", "average_statistics", "check_ranks_agree", "expect_alike", "joint_step", "start",
]


def start(trainer: Any) -> None:
    """Give all ranks the first one's model, optimizer and random numbers.

    The streams of random numbers that run inside the model are different ones on each rank.
    """
    group, model = trainer._group, trainer.model
    assert group is not None
    model._built()
    for name, array in model_arrays(model).items():
        group.copy_from_first(array)
        if name.startswith("random."):
            array[0] = random_key(int(array[0]), group.rank)
    optimizer = trainer.optimizer
    if optimizer is not None:
        state = group.comm.bcast(optimizer.state_dict() if group.rank == 0 else None)
        with group.together():
            optimizer.load_state_dict(state)
    trainer.rng = group.comm.bcast(trainer.rng)
    trainer._started = True


def expect_alike(group: Group, **arguments: Any) -> None:
    """Raise ValueError on all ranks unless all have the same arguments."""
    given = group.comm.allgather(arguments)
    for rank, others in enumerate(given):
        for name, first in given[0].items():
            if others[name] != first:
                raise ValueError(
                    f"{name}: expected the same on all ranks, got {first!r} on rank 0 and "
                    f"{others[name]!r} on rank {rank}"
                )


def joint_step(
    trainer: Any, x: Any, y: Any, sample_weight: Any, element_weight: Any, lengths: Any
) -> float:
    """Train on the batch that the ranks' batches are together; returns its loss, on all ranks.

    A rank may have no samples. Where one fails all raise its error, before the update.
    """
    model = trainer._model._built()
    with model.lock:
        if not trainer._started:
            start(trainer)
        if isinstance(trainer._loss, Loss):
            loss = _program_step(trainer, model, x, y, sample_weight, element_weight, lengths)
        else:
            loss = _custom_step(trainer, model, x, y, sample_weight, element_weight, lengths)
        if trainer._l2:
            loss += trainer._penalty()
        if not trainer._accumulates or trainer._accumulation.count >= trainer._accumulate:
            trainer._flush()
    return loss


def _program_step(
    trainer: Any, model: Any, x: Any, y: Any, sample_weight: Any, element_weight: Any,
    lengths: Any,
) -> float:  # fmt: skip
    """Compute and sum the gradients with a loss in C; returns the loss without penalty."""
    group, own, rows, arrays = trainer._group, 0.0, 0, None
    assert group is not None
    error: BaseException | None = None
    program: Any = None
    try:
        rows = len(x)
        if rows:
            program, x, y, weight, arrays = trainer._convert(
                x, y, sample_weight, element_weight, lengths
            )
            if program.class_weight is not None:
                program.class_weight[...] = trainer._loss.class_weight
            if trainer._stateful:
                arrays = {**(arrays or {}), **trainer._carried.arrays(program, rows)}
            model.pending = None  # its memory is used now
            own = program.begin(x, y, weight, arrays)
        else:
            program = trainer._plan(np.shape(x)[1:], trainer._loss.suited_to(y), False)
    except BaseException as raised:
        error = raised
    (total,) = group.sum(own, error=error)
    if trainer._loss.reduction == "sum":
        total = 1.0
    exchange = _exchange(trainer, program)
    waits, schedule = trainer._accumulates, program.schedule
    if not rows:
        _be_absent(program, exchange, waits)
    else:
        program.divide_by(total)
        if waits:
            try:
                program.part(x, 0, len(schedule.calls))
            except BaseException as raised:
                error = raised
                catch_up(schedule.shared)
        else:
            error = exchange.run(program, x)
    summed = program.loss_sum(rows) if rows else 0.0
    if error is None and not isfinite(summed):
        error = _not_finite(summed, x, y, sample_weight)
    (summed,) = group.sum(summed, error=error)
    trainer._end(model, program)
    mark_gradients(exchange.parameters)
    if trainer._stateful and rows:
        trainer._carried.commit()
    if waits:
        trainer._accumulation.add(exchange.parameters, total)
    trainer._joint_total = total
    return summed / total if total else nan


def _exchange(trainer: Any, program: Any) -> Exchange:
    """Return how the gradients of a program are summed."""
    schedule = program.schedule
    if schedule.exchange is None:
        assert trainer._group is not None
        schedule.exchange = Exchange(schedule, trainer._group, trainer._trained_parameters())
    exchange: Exchange = schedule.exchange
    return exchange


def _be_absent(program: Any, exchange: Exchange, waits: bool) -> None:
    """Take part in a step without samples."""
    catch_up(program.schedule.shared)
    clear_gradients(exchange.parameters, program.schedule.random_states)
    if not waits:
        exchange.add_nothing()


def _custom_step(
    trainer: Any, model: Any, x: Any, y: Any, sample_weight: Any, element_weight: Any,
    lengths: Any,
) -> float:  # fmt: skip
    """Compute and sum the gradients with a loss in Python; returns the loss without penalty.

    The losses of the ranks are averaged by their numbers of samples.
    """
    group, rows, loss = trainer._group, 0, 0.0
    assert group is not None
    error: BaseException | None = None
    try:
        rows = len(x)
    except TypeError as raised:
        error = raised
    (samples,) = group.sum(rows, error=error)
    part = rows / samples if samples else 0.0
    program: Any = None
    try:
        if rows:
            given = x, y, sample_weight, element_weight, lengths
            loss = trainer._custom_step(model, *given, part)
            if not isfinite(loss):
                error = _not_finite(loss, x, y, sample_weight)
        program = trainer._custom_plan(trainer._samples(x).shape[1:]).program
    except BaseException as raised:
        error = raised
    (loss,) = group.sum(part * loss, error=error)
    parameters = summed_parameters(program.schedule, trainer._trained_parameters())
    if not rows:
        clear_gradients(parameters, program.schedule.random_states)
    mark_gradients(parameters)
    if trainer._accumulates:
        trainer._accumulation.add(parameters, samples)
    else:
        sum_gradients(group, parameters)
    trainer._joint_total = samples
    return loss if samples else nan


def _not_finite(loss: float, x: Any, y: Any, sample_weight: Any) -> FloatingPointError:
    """Return the error that ends the training: later the numbers of all ranks would be lost."""
    way_out = against_infinity(x, y, sample_weight)
    return FloatingPointError(f"loss: expected a finite number, got {loss}; {way_out}")


# Between steps -----------------------------------------------------------------------------------


def average_statistics(trainer: Any) -> None:
    """Make the running statistics of the ranks one."""
    group = trainer._group
    if group is None or trainer.sync_batchnorm:
        return
    for _, layer in trainer.model._layers():
        for buffer in layer._buffers.values():
            group.comm.Allreduce(group.in_place, buffer.array)
            buffer.array[...] /= group.size


def agree(trainer: Any) -> None:
    """Let one rank's wish to stop count for all, and the first one's hyper-parameters."""
    group = trainer._group
    if group is None:
        return
    (stops,) = group.sum(trainer.stop_training)
    trainer.stop_training = stops > 0
    optimizer = trainer.optimizer
    if optimizer is None:
        return
    numbers = [
        {name: value for name, value in entry.items() if not (name == "params" or callable(value))}
        for entry in optimizer.groups
    ]
    for entry, first in zip(optimizer.groups, group.comm.bcast(numbers), strict=True):
        for name, value in first.items():
            if entry[name] != value:
                entry[name] = value


def check_ranks_agree(trainer: Any, every: int) -> None:
    """Raise RuntimeError on all ranks if the parameters are not the same bits after so many steps.

    The states of the optimizer are compared too.
    """
    group, optimizer = trainer._group, trainer.optimizer
    if group is None or optimizer is None or optimizer.t % every:
        return
    arrays: dict[str, Array] = {p.name: p.data for p in trainer.model.parameters()}
    for i, states in enumerate(optimizer.state):
        arrays |= {f"optimizer state {name} [{i}]": array for name, array in states.items()}
    sums = group.comm.allgather([crc32(np.ascontiguousarray(a).data) for a in arrays.values()])
    for name, *others in zip(arrays, *sums, strict=True):
        wrong = [rank for rank, one in enumerate(others) if one != others[0]]
        if wrong:
            raise RuntimeError(
                f"check_ranks: expected the same {name} on all ranks, got another on "
                f"rank {wrong[0]} after step {optimizer.t}; the ranks have been told to do "
                "different things, or a machine computes differently"
            )
