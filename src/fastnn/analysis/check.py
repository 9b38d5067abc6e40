"""Gradients of the backward pass against differences of the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._typing import Array
from fastnn.analysis.backward import Pass, expect_layer, inputs, own_parameters, unchanged
from fastnn.layers.base import Layer
from fastnn.losses import resolve
from fastnn.losses.loss import Loss

__all__ = ["GradientReport", "gradient_check"]

Vector = NDArray[np.float64]
AnyLoss = str | Loss | Callable[..., tuple[float, ArrayLike]]

# Elements of an array that are checked, evenly spread.
ELEMENTS = 50
# Relative errors that pass.
TOLERANCE = {"float64": 1e-6, "float32": 1e-2}


@dataclass
class GradientReport:
    """What :func:`gradient_check` has found: relative errors.

    Attributes
    ----------
    ok : bool
        Whether no error is larger than `tolerance`.
    loss : float
        Of the loss's gradient with respect to the predictions.
    parameters : dict of str to float
        Of each parameter's gradient, by its name.
    layers : dict of str to float
        By the path of each layer, the largest of the gradients of its input and its parameters when
        it is run alone.
    tolerance : float
    """

    ok: bool
    loss: float
    parameters: dict[str, float]
    layers: dict[str, float]
    tolerance: float

    def __str__(self) -> str:
        found = {"loss": self.loss}
        found |= {f"parameter {name}": error for name, error in self.parameters.items()}
        found |= {f"layer {path or '(the model)'}": error for path, error in self.layers.items()}
        width = max(map(len, found))
        lines = [
            f"{name:{width}}  {error:8.1e}{'' if error <= self.tolerance else '  wrong'}"
            for name, error in found.items()
        ]
        return "\n".join(lines)


def gradient_check(model: Layer, loss: AnyLoss, x: ArrayLike, y: ArrayLike) -> GradientReport:
    r"""Compare the gradients of a model as it predicts with differences of its loss.

    For those who write layers or losses of their own: the report names the layer that is wrong.

    Parameters
    ----------
    model : Layer
        In float64, if it can be chosen: in float32 only gross errors can be seen.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (batch, ...)
        A few samples are enough.
    y : array_like, shape (batch, ...) or (batch,)
        What the loss compares the predictions with.

    Returns
    -------
    GradientReport
        ``ok``, and the errors by parameter and layer; printed, a table.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or does not fit.

    Notes
    -----
    Central differences with a step of :math:`u^{1/3} \max(1, |\theta_i|)`, u the machine epsilon,
    at 50 elements of each parameter. The error is :math:`\|g - d\| / (\|g\| + \|d\|)` of the
    gradient g and the differences d, less what rounding explains. At a kink, as of ReLU, any value
    between the differences to both sides is right. Errors by layer are of each alone, on what it
    reads in the model.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Sequential(fastnn.Linear(2, 3), fastnn.Tanh(), dtype="float64", rng=0)
    >>> report = fastnn.analysis.gradient_check(model, "mse", np.ones((4, 2)), np.zeros((4, 3)))
    >>> report.ok, list(report.parameters)
    (True, ['0.weight', '0.bias'])
    """
    model, resolved = expect_layer(model), resolve(loss)
    x, single = inputs(model, x)
    if single or not len(x):
        raise ValueError(f"x: expected shape (batch, ...), got {x.shape[single:]}")
    rng, read = np.random.default_rng(0), dict[Layer, Array]()
    with unchanged(model):

        def record(layer: Layer, given: Array, _: Array) -> None:
            read.setdefault(layer, given.copy())

        run = Pass(model, x.shape[1:], gradients=True, record=record, recorded=_alone)
        pred = run.forward(x)
        dpred = np.asarray(resolved(pred, y)[1], run.dtype)
        run.backward(dpred)
        gradients = {p: p.grad_array.copy() for p in model.parameters()}
        wide = pred.astype(np.float64)
        errors = _Errors(run.dtype)
        dwide = np.asarray(resolved(wide, y)[1])
        of_loss = errors.of(wide, dwide, lambda: _value(resolved, wide, y))
        parameters = {
            p: errors.of(p.array, gradient, lambda: _value(resolved, run.forward(x), y))
            for p, gradient in gradients.items()
        }
        layers = {
            path: _of_layer(layer, read[layer], errors, rng)
            for path, layer in model._layers() if layer in read
        }  # fmt: skip
    tolerance = TOLERANCE[run.dtype.name]
    every = [of_loss, *parameters.values(), *layers.values()]
    return GradientReport(
        all(error <= tolerance for error in every), of_loss,
        {p.name: error for p, error in parameters.items()}, layers, tolerance,
    )  # fmt: skip


def _alone(layer: Layer) -> bool:
    """Whether a layer computes by itself, and not by the layers inside."""
    return not layer.children() or type(layer).plan is Layer.plan


def _value(loss: Any, pred: Array, y: Any) -> tuple[float, float]:
    """Return the loss in float64, and how large the numbers are whose rounding it has."""
    value = float(loss(pred.astype(np.float64), y)[0])
    return value, abs(value)


def _of_layer(layer: Layer, x: Array, errors: _Errors, rng: np.random.Generator) -> float:
    """Return the largest error of one layer's gradients, for a random dy."""
    run = Pass(layer, x.shape[1:], gradients=True)
    dy = rng.standard_normal((len(x), *run.output_shape)).astype(run.dtype)

    def value() -> tuple[float, float]:
        products = run.forward(x).astype(np.float64) * dy
        return float(products.sum()), float(np.abs(products).sum())

    value()
    dx = run.backward(dy)
    pairs = [(p.array, p.grad_array.copy()) for p in own_parameters(layer)]
    if dx is not None:
        pairs.append((x, dx))
    return max((errors.of(point, gradient, value) for point, gradient in pairs), default=0.0)


class _Errors:
    """Errors of gradients, by differences in arrays of one dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def of(
        self, point: Array, gradient: Array, value: Callable[[], tuple[float, float]]
    ) -> float:
        """Return the error of `gradient` at `point`, an array that `value` reads."""
        unit = float(np.finfo(point.dtype if self.dtype == np.float64 else self.dtype).eps)
        flat, exact = point.reshape(-1), gradient.reshape(-1).astype(np.float64)
        chosen = np.unique(np.linspace(0, flat.size - 1, ELEMENTS).astype(int))
        chosen = chosen[: flat.size]
        here, size = value()
        wrong, total = np.zeros(len(chosen)), np.zeros(len(chosen))
        for i, at in enumerate(chosen):
            given, step = flat[at], unit ** (1 / 3) * max(1.0, abs(float(flat[at])))
            sides = []
            try:
                for sign in (1, -1):
                    flat[at] = given + sign * step
                    sides.append((value()[0] - here) / (float(flat[at]) - float(given)))
            finally:
                flat[at] = given
            middle = 0.5 * (sides[0] + sides[1])
            outside = max(min(sides) - exact[at], exact[at] - max(sides), 0.0)
            noise = 16 * unit * size / step
            wrong[i] = max(min(abs(exact[at] - middle), outside) - noise, 0.0)
            total[i] = abs(exact[at]) + abs(middle)
        if not np.isfinite(wrong).all():
            return float("inf")
        length = float(np.linalg.norm(wrong))
        return length / float(np.linalg.norm(total)) if length else 0.0
