"""The losses as functions on arrays. See :mod:`fastnn.losses`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_target, describe, mark_written
from fastnn._door.numbers import at_least_0, choice
from fastnn._kernels.core import call
from fastnn._kernels.door import as_input
from fastnn._typing import Array
from fastnn.losses.loss import Loss, make_loss


def mse(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """Mean squared error: ℓ = (pred - target)².

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    reduction : {"mean", "sum"}
        What becomes of the losses of all elements.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `pred`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> mse([1.0, 2.0], [1.0, 4.0])
    (2.0, array([ 0., -2.]))
    """
    return make_loss("mse", reduction=reduction)(pred, target, sample_weight)


def l1(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """Mean absolute error: ℓ = |pred - target|, with gradient 0 where they are equal.

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    reduction : {"mean", "sum"}
        What becomes of the losses of all elements.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `pred`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> l1([1.0, 2.0], [1.0, 4.0])
    (1.0, array([ 0. , -0.5]))
    """
    return make_loss("l1", reduction=reduction)(pred, target, sample_weight)


def huber(
    pred: ArrayLike,
    target: ArrayLike,
    delta: float = 1.0,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """Huber's loss: ℓ = e² / 2 where the error |e| <= delta, else delta (|e| - delta / 2).

    Huber 1964, Robust estimation of a location parameter.

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    delta : float
        Where the square passes into a straight line, greater than 0.
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    reduction : {"mean", "sum"}
        What becomes of the losses of all elements.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `pred`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> huber([1.0, 2.0], [1.5, 4.0])
    (0.8125, array([-0.25, -0.5 ]))
    """
    return make_loss("huber", delta=delta, reduction=reduction)(pred, target, sample_weight)


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """Cross entropy of the softmax: ℓ = -Σ c t log softmax(logits), a mean over rows.

    t is 1 for the label and 0 for other classes, or the given probabilities, and then smoothed; c
    is the class weight. The last axis holds the classes (PyTorch: the second).

    Parameters
    ----------
    logits : array_like, shape (batch, ..., classes)
    labels : array_like, shape (batch, ...) of int or (batch, ..., classes) of float
        Class numbers, or the probabilities of all classes.
    label_smoothing : float
        Share of the target, in [0, 1], that is spread evenly over the classes.
    class_weight : array_like, shape (classes,), optional
        Factor of each class. A mean over labels is then weighted: Σ c ℓ / Σ c.
    ignore_index : int, optional
        Rows with this label count nothing and have a gradient of 0.
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    reduction : {"mean", "sum"}
        What becomes of the losses of all rows.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `logits`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> loss, gradient = cross_entropy([[0.0, 0.0], [0.0, 1000.0]], [0, 1])
    >>> round(loss, 6)
    0.346574
    >>> gradient
    array([[-0.25,  0.25],
           [ 0.  ,  0.  ]])
    """
    loss = make_loss(
        "cross_entropy", label_smoothing=label_smoothing, class_weight=class_weight,
        ignore_index=ignore_index, reduction=reduction,
    )  # fmt: skip
    return loss(logits, labels, sample_weight)


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float, Array]:
    """Cross entropy of the sigmoid: ℓ = -t log s - (1 - t) log(1 - s), s = sigmoid(logits).

    The target t is a probability in [0, 1], or a class, 0 or 1.

    Parameters
    ----------
    logits : array_like, shape (batch, ...)
    target : array_like, shape of `logits`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    reduction : {"mean", "sum"}
        What becomes of the losses of all elements.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `logits`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> loss, gradient = binary_cross_entropy_with_logits([0.0, 1000.0], [1, 1])
    >>> round(loss, 6)
    0.346574
    >>> gradient
    array([-0.25,  0.  ])
    """
    loss = make_loss("binary_cross_entropy_with_logits", reduction=reduction)
    return loss(logits, target, sample_weight)


_FUNCTIONS = {
    function.__name__: function
    for function in (mse, l1, huber, cross_entropy, binary_cross_entropy_with_logits)
}


def resolve(loss: Any) -> Loss | Callable[..., tuple[float, Array]]:
    """Return what a trainer's `loss` stands for.

    Parameters
    ----------
    loss : str, Loss or callable
        The name of a function of this module, that function, or a :func:`functools.partial` of it
        with options by keyword; or anything else with ``loss(pred, target) -> (loss, gradient)``.

    Returns
    -------
    Loss
        If it is one of this module.
    callable
        Else the callable itself.

    Raises
    ------
    TypeError
        If it is neither, or an option is unknown or of the wrong kind.
    ValueError
        If there is no loss of that name, or an option is out of range.

    Examples
    --------
    >>> resolve(partial(huber, delta=2.0))
    Loss(name='huber', kernel='huber_loss', target='values', elementwise=True, scalars=(2.0,), \
reduction='mean', class_weight=None, ignore_index=None)
    """
    if isinstance(loss, str):
        return make_loss(choice("loss", loss, _FUNCTIONS))
    if isinstance(loss, Loss):
        return loss
    if not callable(loss):
        raise TypeError(f"loss: expected a name or a callable, got {describe(loss)}")
    function, options = loss, {}
    if isinstance(loss, partial) and not loss.args:
        function, options = loss.func, loss.keywords
    name = next((name for name, known in _FUNCTIONS.items() if function is known), None)
    if name is None:
        own: Callable[..., tuple[float, Array]] = loss
        return own
    signature(function).bind_partial(**options)
    return make_loss(name, **options)


def l2_penalty(parameters: Iterable[Any], lam: float) -> float:
    r"""Add the gradient of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` and return its value.

    Parameters
    ----------
    parameters : iterable of Parameter
        Or of any objects with arrays `data` and `grad`. Each `grad` grows by λ `data`, in place.
    lam : float
        λ, at least 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If one of `parameters` has no such arrays, or `lam` is no number.
    ValueError
        If `lam` is negative or not finite, or arrays do not fit.
    RuntimeError
        If one has no gradient yet. No gradient has been changed then.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> weight = SimpleNamespace(data=np.array([1.0, 2.0]), grad=np.array([0.0, 1.0]))
    >>> l2_penalty([weight], lam=0.1)
    0.25
    >>> weight.grad
    array([0.1, 1.2])
    """
    lam, parameters = at_least_0("lam", lam), list(parameters)
    pairs = [_data_and_grad(p, f"parameters[{i}]") for i, p in enumerate(parameters)]
    sums = np.zeros(2)
    for data, grad in pairs:
        call("square_sum", data.dtype, (sums, data), (), (), data.size)
        grad += lam * data
    for parameter in parameters:
        if hasattr(parameter, "mark_dense"):
            parameter.mark_dense()
        else:
            mark_written([parameter.grad])
    return 0.5 * lam * float(sums[0])


def _data_and_grad(parameter: Any, name: str) -> tuple[Array, Array]:
    if not hasattr(parameter, "data") or not hasattr(parameter, "grad"):
        raise TypeError(f"{name}: expected a Parameter, got {describe(parameter)}")
    if parameter.grad is None or not getattr(parameter, "grad_ready", True):
        raise RuntimeError(f"{name} has no gradient yet: call backward first")
    grad = as_target(parameter.grad, f"{name}.grad")
    data = as_input(parameter.data, f"{name}.data", grad.dtype)
    if data.shape != grad.shape:
        raise ValueError(f"{name}.grad: expected shape {data.shape}, got {grad.shape}")
    return data, grad
