"""Model, loss and penalty as one program."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._kernels.training_program import TrainingProgram
from fastnn._planning.builder import GRADIENT, SERIAL, Builder, Scalar
from fastnn._planning.schedule import Schedule
from fastnn.layers.base import Layer
from fastnn.losses.loss import Loss

Array = NDArray[Any]


def make_program(
    model: Layer, shape: tuple[int, ...], loss: Loss, l2: float = 0.0
) -> tuple[TrainingProgram, tuple[int, ...]]:
    """Plan a model, its loss and the backward pass for samples of this shape.

    Returns the program and the shape of the predictions for one sample.
    """
    dtype = model._model().dtype
    builder = Builder(dtype, training=True, dense=l2 > 0)
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
    class_weight = loss.class_weights(cols, dtype)
    pointers = [row_loss, pred.grad, pred, target, weight]
    if not loss.elementwise:
        pointers.append(class_weight)
    builder.forward(
        loss.kernel, pointers,
        sizes=loss.sizes(cols), scalars=(Scalar("scale"), *loss.scalars), rows=rows, outputs=2,
        flops=20 * pred.size,
    )  # fmt: skip
    squares = _plan_penalty(builder, model, l2) if l2 else None
    program = TrainingProgram(
        Schedule.of(builder, [row_loss]), row_loss, cols if loss.elementwise else 1,
        cols if loss.target == "labels" else 0, class_weight, loss.ignore_index, loss.reduction,
        squares, l2,
    )  # fmt: skip
    return program, pred.shape


def _plan_penalty(builder: Builder, model: Layer, l2: float) -> Array:
    """Append the gradients of the penalty, and the sum of squares, which is returned."""
    engine, squares = model._model(), np.zeros(2)
    pairs = [(p.data.ravel(), p.grad.ravel()) for p in model.parameters()]
    if sum(data.size for data, _ in pairs) == engine.data.size:
        pairs = [(engine.data, engine.grad)]
    factor = np.full(1, l2, engine.dtype)
    for data, grad in pairs:
        n = data.size
        sums = builder._append(GRADIENT, "square_sum", [squares, data], rows=n, split=SERIAL)
        adds = builder._append(  # a product of λ and the row of data, added to the gradient
            GRADIENT, "matmul", [grad, factor, data], sizes=(n, 1, 1, 1, n, 1), split=SERIAL
        )
        for operation in (sums, adds):
            operation.parameters = operation.accumulate = True
    return squares
