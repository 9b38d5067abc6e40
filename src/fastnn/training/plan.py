"""Model, loss and penalty as one program."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from fastnn._kernels.program import Program
from fastnn._kernels.training_program import TrainingProgram
from fastnn._planning.builder import SERIAL, Builder, Scalar
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array
from fastnn.distributed.group import Group
from fastnn.layers.base import Layer
from fastnn.layers.model import arenas
from fastnn.layers.parameter import Parameter
from fastnn.losses.loss import Loss
from fastnn.losses.penalty import l2_penalty, penalty_value


def make_program(
    model: Layer,
    shape: tuple[int, ...],
    loss: Loss,
    l2: float = 0.0,
    penalized: Collection[Parameter] = (),
    trained: Collection[Parameter] | None = None,
    by_element: bool = False,
    precision: str = "float32",
    group: Group | None = None,
    share: bool = False,
) -> TrainingProgram:
    """Plan a model, its loss and the backward pass for samples of this shape.

    With `l2` there is a penalty on the parameters `penalized`. Gradients are computed for the
    parameters `trained`, for all that are trainable if it is None. Weights are of rows or, with
    `by_element`, of elements. Products read operands of `precision`. For a `group` gradients come
    early; with `share` statistics of the batch are those of all ranks. The schedule's y are the
    predictions.
    """
    built = model._built()
    builder = Builder(
        built.dtype, training=True, dense=l2 > 0, model=built, trained=trained,
        precision=precision, group=group, share=share,
    )  # fmt: skip
    x = model._input(builder, shape)
    pred = builder.plan(model, x)
    layout = loss.layout(pred.shape, by_element)
    row_loss = builder.value((layout.rows,), "loss")
    labels = loss.target == "labels"
    target = builder.value(
        layout.target, "target", np.int64 if labels else None, slot="target"
    )
    weight = builder.value(
        layout.target if by_element else (layout.weights,)[: layout.weights != 1], "weight",
        slot="weight",
    )  # fmt: skip
    # copies: of a class weight that is changed in place, each step takes the present values
    constants = [a if a is None else a.copy() for a in loss.constants(layout.cols, builder.dtype)]
    builder.forward(
        loss.kernel, [row_loss, pred.grad, pred, target, weight, *constants],
        sizes=loss.sizes(layout), scalars=(Scalar("scale"), *loss.scalars), items=layout.rows,
    )  # fmt: skip
    squares, factor = _plan_penalty(builder, penalized) if l2 else (None, None)
    return TrainingProgram(
        Schedule.of(builder, [row_loss], x, pred), built.memory[True], built.version, row_loss,
        layout.elements, layout.cols if labels else 0,
        constants[0] if constants and not loss.elementwise else None,
        loss.ignore_index, loss.reduction, squares, factor, l2, by_element,
    )  # fmt: skip


class CustomPlan(NamedTuple):
    """What runs a model with a loss in Python."""

    program: Program
    moving: list[Parameter]  # with a penalty and a gradient
    resting: list[Parameter]  # with a penalty alone

    def penalty(self, l2: float) -> float:
        """Add the gradient of the penalty to those of the parameters; returns its value."""
        return l2_penalty(self.moving, l2) + penalty_value(self.resting, l2)


def make_custom_plan(
    model: Layer,
    shape: tuple[int, ...],
    penalized: Collection[Parameter] = (),
    trained: Collection[Parameter] | None = None,
    precision: str = "float32",
) -> CustomPlan:
    """Plan a model for samples of this shape without a loss; arguments as of `make_program`."""
    built = model._built()
    schedule = model._schedule(shape, True, trained, wants_dx=False, precision=precision)
    program = Program(schedule, built.memory[True], built.version)
    moves = [p in schedule.parameters for p in penalized]
    parts = ([p for p, own in zip(penalized, moves, strict=True) if own is part]
             for part in (True, False))  # fmt: skip
    return CustomPlan(program, *parts)


def _plan_penalty(
    builder: Builder, penalized: Collection[Parameter]
) -> tuple[Array, Array]:
    """Append the gradients of the penalty and the sum of squares; returns that, and room for λ."""
    squares, factor = np.zeros(2), np.empty(1, builder.dtype)
    trained: list[Parameter] = []
    frozen: list[Parameter] = []
    for parameter in penalized:
        (trained if builder.trains(parameter) else frozen).append(parameter)
    for data, grad, moves in [(*pair, True) for pair in arenas(trained)] + [
        (*pair, False) for pair in arenas(frozen)
    ]:
        n = data.size
        planned = [
            builder.gradient("square_sum", [squares, data], items=n, split=SERIAL, parameters=True)
        ]
        if moves:  # a product of λ and the row of data, added to the gradient
            planned.append(
                builder.gradient(
                    "matmul",
                    [grad, factor, data],
                    items=1,
                    sizes=(n, 1, 1, 1, n, 1),
                    split=SERIAL,
                    parameters=True,
                )
            )
        for operation in filter(None, planned):
            operation.accumulate = True
    return squares, factor
