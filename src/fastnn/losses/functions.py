"""The losses as functions on arrays. See :mod:`fastnn.losses`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, overload

from numpy.typing import ArrayLike

from fastnn._door.arrays import describe
from fastnn._door.numbers import choice
from fastnn._typing import Array
from fastnn.losses.loss import Loss, make_loss

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll", "huber", "l1", "mse",
    "poisson_nll", "quantile", "resolve",
]


@overload
def mse(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def mse(*, reduction: str = ...) -> Loss: ...
def mse(
    pred: ArrayLike | None = None,
    target: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Mean squared error: ℓ = (pred - target)².

    .. math::
        \ell = (p - t)^2, \qquad \frac{\partial \ell}{\partial p} = 2 (p - t)

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all elements; "batch" is their sum over the batch size.

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
    loss = make_loss("mse", reduction=reduction)
    return _applied(loss, pred, target, sample_weight, element_weight)


@overload
def l1(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def l1(*, reduction: str = ...) -> Loss: ...
def l1(
    pred: ArrayLike | None = None,
    target: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Mean absolute error: ℓ = abs(pred - target), with gradient 0 where they are equal.

    .. math::
        \ell = |p - t|, \qquad \frac{\partial \ell}{\partial p} = \operatorname{sign}(p - t)

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all elements; "batch" is their sum over the batch size.

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
    loss = make_loss("l1", reduction=reduction)
    return _applied(loss, pred, target, sample_weight, element_weight)


@overload
def huber(
    pred: ArrayLike,
    target: ArrayLike,
    delta: float = ...,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def huber(*, delta: float = ..., reduction: str = ...) -> Loss: ...
def huber(
    pred: ArrayLike | None = None,
    target: ArrayLike | None = None,
    delta: float = 1.0,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Huber's loss: ℓ = e² / 2 where abs(e) <= delta, else delta (abs(e) - delta / 2).

    .. math::
        e &= p - t, \qquad \frac{\partial \ell}{\partial p} = \max(-\delta, \min(e, \delta)) \\
        \ell &= \begin{cases} e^2 / 2 & |e| \le \delta \\ \delta (|e| - \delta / 2) & \text{else}
        \end{cases}

    Huber 1964, Robust estimation of a location parameter.

    Parameters
    ----------
    pred : array_like, shape (batch, ...)
    target : array_like, shape of `pred`
    delta : float
        Where the square passes into a straight line, greater than 0.
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all elements; "batch" is their sum over the batch size.

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
    loss = make_loss("huber", delta=delta, reduction=reduction)
    return _applied(loss, pred, target, sample_weight, element_weight)


@overload
def poisson_nll(
    log_rate: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def poisson_nll(*, reduction: str = ...) -> Loss: ...
def poisson_nll(
    log_rate: ArrayLike | None = None,
    target: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Negative log likelihood of counts: ℓ = e^log_rate - target · log_rate.

    .. math::
        \ell = e^r - t r, \qquad \frac{\partial \ell}{\partial r} = e^r - t

    The term log(target!), which no prediction changes, is left out.

    Parameters
    ----------
    log_rate : array_like, shape (batch, ...)
        Logarithm of the expected count.
    target : array_like, shape of `log_rate`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all elements; "batch" is their sum over the batch size.

    Returns
    -------
    loss : float
    gradient : ndarray, shape of `log_rate`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.losses`.

    Examples
    --------
    >>> poisson_nll([0.0, 0.0], [1.0, 4.0])
    (1.0, array([ 0. , -1.5]))
    """
    loss = make_loss("poisson_nll", reduction=reduction)
    return _applied(loss, log_rate, target, sample_weight, element_weight)


@overload
def gaussian_nll(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def gaussian_nll(*, reduction: str = ...) -> Loss: ...
def gaussian_nll(
    pred: ArrayLike | None = None,
    target: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Negative log likelihood of a normal distribution: ℓ = (v + (m - target)² e^-v) / 2.

    .. math::
        \ell &= \tfrac12 \bigl(v + (m - t)^2 e^{-v}\bigr) \\
        \frac{\partial \ell}{\partial m} &= (m - t) e^{-v}, \qquad
        \frac{\partial \ell}{\partial v} = \tfrac12 \bigl(1 - (m - t)^2 e^{-v}\bigr)

    A model predicts the mean m and v, the logarithm of the variance, of each output. The constant
    log(2π) / 2 is left out. Nix and Weigend 1994, Estimating the mean and variance of the target
    probability distribution.

    Parameters
    ----------
    pred : array_like, shape (batch, ..., 2 * outputs)
        The means of all outputs, then the logarithms of their variances.
    target : array_like, shape (batch, ..., outputs)
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all outputs; "batch" is their sum over the batch size.

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
    >>> gaussian_nll([[1.0, 0.0], [1.0, 0.0]], [[1.0], [3.0]])
    (1.0, array([[ 0.  ,  0.25],
           [-1.  , -0.75]]))
    """
    loss = make_loss("gaussian_nll", reduction=reduction)
    return _applied(loss, pred, target, sample_weight, element_weight)


@overload
def quantile(
    pred: ArrayLike,
    target: ArrayLike,
    quantiles: ArrayLike | None = ...,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def quantile(*, quantiles: ArrayLike | None = ..., reduction: str = ...) -> Loss: ...
def quantile(
    pred: ArrayLike | None = None,
    target: ArrayLike | None = None,
    quantiles: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Pinball loss: ℓ = max(q e, (q - 1) e), e = target - pred, least at the quantile q.

    .. math::
        \ell = \max\bigl(q (t - p), (q - 1) (t - p)\bigr), \qquad
        \frac{\partial \ell}{\partial p} = [p > t] - q

    A model predicts several quantiles of each output. The gradient is 0 where they are met.
    Koenker and Bassett 1978, Regression quantiles.

    Parameters
    ----------
    pred : array_like, shape (batch, ..., outputs * number of quantiles)
        All quantiles of the first output, then of the second, and so on.
    target : array_like, shape (batch, ..., outputs)
    quantiles : list of float
        Which ones, in (0, 1).
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all predictions; "batch" is their sum over the batch size.

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
    >>> loss, gradient = quantile([[1.0, 4.0]], [[2.0]], [0.25, 0.75])
    >>> loss
    0.375
    >>> gradient
    array([[-0.125,  0.125]])
    """
    loss = make_loss("quantile", quantiles=quantiles, reduction=reduction)
    return _applied(loss, pred, target, sample_weight, element_weight)


@overload
def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float = ...,
    class_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    *,
    sample_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def cross_entropy(
    *,
    label_smoothing: float = ...,
    class_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: str = ...,
) -> Loss: ...
def cross_entropy(
    logits: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Cross entropy of the softmax: ℓ = -Σ c t log softmax(logits), a mean over rows.

    .. math::
        \ell &= -\sum_k c_k t_k \log p_k, \qquad p = \operatorname{softmax}(z) \\
        \frac{\partial \ell}{\partial z_k} &= p_k \sum_j c_j t_j - c_k t_k

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
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all rows; "batch" is their sum over the batch size.

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
    return _applied(loss, logits, labels, sample_weight)


@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    element_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> tuple[float, Array]: ...
@overload
def binary_cross_entropy_with_logits(*, reduction: str = ...) -> Loss: ...
def binary_cross_entropy_with_logits(
    logits: ArrayLike | None = None,
    target: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    element_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Loss | tuple[float, Array]:
    r"""Cross entropy of the sigmoid: ℓ = -t log s - (1 - t) log(1 - s), s = sigmoid(logits).

    .. math::
        \ell = \log(1 + e^z) - t z, \qquad \frac{\partial \ell}{\partial z} = \sigma(z) - t

    The target t is a probability in [0, 1], or a class, 0 or 1.

    Parameters
    ----------
    logits : array_like, shape (batch, ...)
    target : array_like, shape of `logits`
    sample_weight : array_like, shape (batch,), optional
        Weight of each index of the first axis.
    element_weight : array_like, shape of `target`, optional
    reduction : {"mean", "sum", "batch"}
        What becomes of the losses of all elements; "batch" is their sum over the batch size.

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
    return _applied(loss, logits, target, sample_weight, element_weight)


def _applied(
    loss: Loss, pred: Any, target: Any, sample_weight: Any, element_weight: Any = None
) -> Loss | tuple[float, Array]:
    """Return the loss if it is called with options only, else its value and gradient."""
    if pred is None and target is None:
        for name, weight in (("sample_weight", sample_weight), ("element_weight", element_weight)):
            if weight is not None:
                raise TypeError(f"{name}: expected None without predictions; a Trainer's step and "
                                "fit take it")
        return loss
    return loss(pred, target, sample_weight, element_weight)


_FUNCTIONS = {
    function.__name__: function
    for function in (
        mse, l1, huber, poisson_nll, gaussian_nll, quantile, cross_entropy,
        binary_cross_entropy_with_logits,
    )
}  # fmt: skip


def resolve(loss: Any) -> Loss | Callable[..., tuple[float, Array]]:
    """Return what a trainer's `loss` stands for.

    Parameters
    ----------
    loss : str, Loss or callable
        The name of a function of this module, that function, or what it returns when it is called
        with options only, as ``huber(delta=2.0)``; or anything else with ``loss(pred, target) ->
        (loss, gradient)``.

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
    >>> resolve("mse")
    mse()
    >>> resolve(huber(delta=2.0))
    huber(delta=2.0)
    """
    if isinstance(loss, Loss):
        return loss
    function, options = loss, {}
    if isinstance(loss, str):
        function = _FUNCTIONS[choice("loss", loss, _FUNCTIONS)]
    elif isinstance(loss, partial) and not loss.args:
        function, options = loss.func, loss.keywords
    if not callable(function):
        raise TypeError(f"loss: expected a name or a callable, got {describe(loss)}")
    if function not in _FUNCTIONS.values():
        own: Callable[..., tuple[float, Array]] = loss
        return own
    found: Loss = function(**options)
    return found
