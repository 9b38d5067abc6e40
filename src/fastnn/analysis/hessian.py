"""Products of the Hessian and a vector: by formula where there is one, else by differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.arrays import convert
from fastnn._typing import Array
from fastnn.analysis.along import Along, forward, sigmoid, softmax
from fastnn.analysis.backward import Pass, columns_of, expect_layer, inputs, unchanged
from fastnn.layers.base import Layer
from fastnn.losses import resolve
from fastnn.losses.loss import Loss

__all__ = ["HessianProduct", "hessian_vector_product"]

Vector = NDArray[np.float64]
AnyLoss = str | Loss | Callable[..., tuple[float, ArrayLike]]


class HessianProduct(np.ndarray[Any, Any]):
    """A float64 vector that knows how it was computed.

    Attributes
    ----------
    exact : bool
        Whether by formula; else by differences of gradients.
    """

    exact: bool | None

    def __array_finalize__(self, other: Any) -> None:
        self.exact = getattr(other, "exact", None)


def hessian_vector_product(
    model: Layer, loss: AnyLoss, x: ArrayLike, y: ArrayLike, v: ArrayLike
) -> HessianProduct:
    r"""Multiply the Hessian of a loss with respect to all parameters by a vector.

    Parameters
    ----------
    model : Layer
        As it predicts: without dropout, with running statistics.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (batch, ...)
    y : array_like, shape (batch, ...) or (batch,)
        What the loss compares the predictions with.
    v : array_like, shape (P,)
        In the order of ``model.get_flat()``; frozen parameters count too.

    Returns
    -------
    HessianProduct, shape (P,)
        A float64 vector whose attribute ``exact`` says whether it was computed by formula.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994: the
    derivative along v of every equation of the forward and the backward pass, in float64 whatever
    the model's dtype. Recurrent layers, layers in Python and losses in Python have no such
    equations here; then it is :math:`(g(\theta + \epsilon v) - g(\theta - \epsilon v)) / 2\epsilon`
    in the model's dtype, with :math:`\epsilon \|v\| = u^{1/3} (1 + \|\theta\|)` and u the machine
    epsilon.

    Examples
    --------
    A mean of squares over n samples has the Hessian 2 XᵀX / n:

    >>> import numpy as np, fastnn
    >>> x = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    >>> product = fastnn.analysis.hessian_vector_product(
    ...     model, "mse", x, np.zeros((2, 1)), [1.0, 1.0]
    ... )
    >>> print(product, product.exact)
    [9. 1.] True
    """
    model, resolved = expect_layer(model), resolve(loss)
    x, single = inputs(model, x)
    if single:
        raise ValueError(f"x: expected shape (batch, ...), got {x.shape[1:]}")
    model._program(x.shape[1:], False)  # refuses a shape that does not fit
    parameters = model.parameters()
    columns = columns_of(parameters)
    v = convert(v, "v", np.dtype(np.float64))
    size = sum(p.size for p in parameters)
    if v.shape != (size,):
        raise ValueError(f"v: expected shape ({size},), got {v.shape}")
    with unchanged(model):
        along = Along(columns, v)
        try:
            exact = _by_formula(model, resolved, x, y, along)
        except NotImplementedError:
            along.result[...] = _by_differences(model, resolved, x, y, v)
            exact = False
    result = along.result.view(HessianProduct)
    result.exact = exact
    return result


def _by_formula(model: Layer, loss: Any, x: Array, y: Any, along: Along) -> bool:
    """Add the product to `along`; returns whether the loss has a formula too."""
    given = x if x.dtype.kind in "iu" else x.astype(np.float64)
    pred, rpred, back = forward(model, given, np.zeros(given.shape), along)
    dpred = np.asarray(loss(pred, y)[1], np.float64)
    curvature = _CURVATURES.get(loss.name) if isinstance(loss, Loss) else None
    if curvature is None:
        step = float(np.finfo(np.float64).eps) ** (1 / 3)
        step *= 1 + float(np.abs(pred).max(initial=0))
        step /= max(float(np.abs(rpred).max(initial=0)), 1e-100)
        ends = [np.asarray(loss(pred + sign * step * rpred, y)[1]) for sign in (1, -1)]
        rdpred = (ends[0] - ends[1]) / (2 * step)
    else:
        rdpred = curvature(loss, pred, rpred, y)
    back(dpred, rdpred)
    return curvature is not None


def _by_differences(model: Layer, loss: Any, x: Array, y: Any, v: Vector) -> Vector:
    run = Pass(model, x.shape[1:], gradients=True)
    theta = model.get_flat()
    length = float(np.linalg.norm(v))
    if length == 0:
        return np.zeros(v.size)
    unit = float(np.finfo(run.dtype).eps)
    step = unit ** (1 / 3) * (1 + float(np.linalg.norm(theta))) / length
    ends = []
    try:
        for sign in (1, -1):
            model.set_flat(theta + sign * step * v)
            run.backward(np.asarray(loss(run.forward(x), y)[1], run.dtype))
            gradients = [p.grad_array.ravel() for p in model.parameters()]
            ends.append(np.concatenate(gradients).astype(np.float64))
    finally:
        model.set_flat(theta)
    product: Vector = (ends[0] - ends[1]) / (2 * step)
    return product


# Losses: the derivative of the gradient along a change of the predictions. How the gradient is
# scaled by options is read from gradients where the rest of the formula is known.


def _squares(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    target = np.broadcast_to(np.asarray(y, np.float64), pred.shape)
    return np.asarray(loss(target + 1, y)[1] * rpred)


def _huber(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    target, (delta,) = np.broadcast_to(np.asarray(y, np.float64), pred.shape), loss.scalars
    scale = loss(target + delta, y)[1] / delta
    return np.asarray(scale * (np.abs(pred - target) <= delta) * rpred)


def _absolute(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    return np.zeros(pred.shape)


def _poisson(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    scale = loss(np.zeros(pred.shape), y)[1] - loss(np.full(pred.shape, -1e3), y)[1]
    return np.asarray(scale * np.exp(pred) * rpred)


def _logistic(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    scale = loss(np.full(pred.shape, 1e3), y)[1] - loss(np.full(pred.shape, -1e3), y)[1]
    s = sigmoid(pred)
    return np.asarray(scale * s * (1 - s) * rpred)


def _cross_entropy(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    """The gradient of a row is m softmax - q; m from where the softmax is known."""
    classes = pred.shape[-1]
    if classes == 1:
        return np.zeros(pred.shape)
    certain = np.zeros(pred.shape)
    certain[..., 0] = 1e3
    difference = loss(certain, y)[1] - loss(np.zeros(pred.shape), y)[1]
    mass = difference[..., :1] / (1 - 1 / classes)
    s = softmax(pred)
    return np.asarray(mass * s * (rpred - (s * rpred).sum(-1, keepdims=True)))


_CURVATURES: dict[str, Callable[[Loss, Vector, Vector, Any], Vector]] = {
    "mse": _squares,
    "huber": _huber,
    "l1": _absolute,
    "quantile": _absolute,
    "poisson_nll": _poisson,
    "binary_cross_entropy_with_logits": _logistic,
    "cross_entropy": _cross_entropy,
}
