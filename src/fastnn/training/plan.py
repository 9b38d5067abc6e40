"""Model, loss and penalty as one program."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np

from fastnn._kernels.training_program import TrainingProgram
from fastnn._planning.builder import SERIAL, Builder, Pointer, Scalar
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array
from fastnn.layers.base import Layer
from fastnn.layers.model import arenas
from fastnn.layers.parameter import Parameter
from fastnn.losses.loss import Loss


def make_program(
    model: Layer,
    shape: tuple[int, ...],
    loss: Loss,
    l2: float = 0.0,
    penalized: Collection[Parameter] = (),
    trained: Collection[Parameter] | None = None,
) -> TrainingProgram:
    """Plan a model, its loss and the backward pass for samples of this shape.

    With `l2` there is a penalty on the parameters `penalized`. Gradients are computed for the
    parameters `trained`, for all that are trainable if it is None. Its schedule's y are the
    predictions.
    """
    built = model._built()
    builder = Builder(built.dtype, training=True, dense=l2 > 0, model=built, trained=trained)
    pred = builder.plan(model, model._input(builder, shape))
    if not loss.elementwise and not pred.shape:
        raise ValueError(
            f"model: expected predictions of shape (batch, ..., classes) for {loss.name}, "
            f"got ('batch',)"
        )
    rows, cols = (1, pred.size) if loss.elementwise else (prod(pred.shape[:-1]), pred.shape[-1])
    row_loss = builder.value((rows,), "loss")
    if loss.target == "labels":
        target = builder.value(pred.shape[:-1], "target", np.int64, slot="target")
    else:
        target = builder.value(pred.shape, "target", slot="target")
    weight = builder.value(() if rows == 1 else (rows,), "weight", slot="weight")
    given = loss.class_weights(cols, built.dtype)
    class_weight = None if given is None else given.copy()
    pointers: list[Pointer] = [row_loss, pred.grad, pred, target, weight]
    if not loss.elementwise:
        pointers.append(class_weight)
    builder.forward(
        loss.kernel, pointers,
        sizes=loss.sizes(cols), scalars=(Scalar("scale"), *loss.scalars), items=rows,
    )  # fmt: skip
    squares, factor = _plan_penalty(builder, penalized) if l2 else (None, None)
    return TrainingProgram(
        Schedule.of(builder, [row_loss], y=pred), built.memory[True], built.version, row_loss,
        cols if loss.elementwise else 1, cols if loss.target == "labels" else 0, class_weight,
        loss.ignore_index, loss.reduction, squares, factor, l2,
    )  # fmt: skip


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
