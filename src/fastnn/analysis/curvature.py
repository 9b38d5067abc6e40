"""The largest curvature of a loss around a model's parameters, and a learning rate from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.numbers import above_0, generator, positive
from fastnn._typing import Array, Rng
from fastnn.analysis.backward import expect_layer, unchanged
from fastnn.layers.base import Layer
from fastnn.losses.loss import Loss
from fastnn.training import Trainer

__all__ = ["dominant_eigenvalue", "suggest_lr"]


def __dir__() -> list[str]:
    return __all__


Vector = NDArray[np.float64]
AnyLoss = str | Loss | Callable[..., tuple[float, ArrayLike]]


def dominant_eigenvalue(
    model: Layer,
    loss: AnyLoss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int = 50,
    tol: float = 1e-3,
    epsilon: float | None = None,
    rng: Rng = None,
) -> float:
    r"""Estimate the Hessian's eigenvalue of largest magnitude, by power iteration.

    With g the gradient of the loss over the batch with respect to all parameters θ, repeat

    .. math::
        Hv \approx \frac{g(\theta + \epsilon v) - g(\theta - \epsilon v)}{2 \epsilon}, \quad
        \lambda = v^T H v, \quad v \leftarrow \frac{Hv}{\|Hv\|}

    from a random unit vector v until :math:`\|Hv - \lambda v\| \le tol \, |\lambda|`, which puts an
    eigenvalue within ``tol * abs(λ)`` of λ.

    Parameters
    ----------
    model : Layer
        A layer or container with parameters.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (batch, ...)
        Inputs of the model.
    y : array_like, shape (batch, ...) or (batch,)
        What the loss compares the predictions with.
    iterations : int
        Largest number of products Hv, each of which takes two gradients, > 0.
    tol : float
        Relative tolerance, > 0.
    epsilon : float, optional
        Length of the step from θ, > 0. By default :math:`u^{1/3} (1 + \|\theta\|)` with u the
        machine epsilon of the model's dtype, which balances truncation and rounding.
    rng : int, numpy.random.Generator or None
        Draws the first v; the result is the same for the same int.

    Returns
    -------
    float
        λ, negative where the loss curves downwards most; 0 if the Hessian vanishes along v. The
        last estimate if the iterations ran out, which a warning tells.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If one is out of range, `x` or `y` do not fit the model, the model has no parameters, or a
        gradient is not finite.

    Warns
    -----
    RuntimeWarning
        If `iterations` products were not enough for `tol`; it names the relative residual
        :math:`\|Hv - \lambda v\| / |\lambda|` that is left.

    Notes
    -----
    LeCun, Simard & Pearlmutter 1992, "Automatic learning rate maximization by on-line estimation of
    the Hessian's eigenvectors", equations 5 and 6, with central in place of one-sided differences.
    Pearlmutter 1994, "Fast exact multiplication by the Hessian", has Hv without differences.

    The loss is that of a training step: batch normalization uses the statistics of the batch, and
    dropout the same masks throughout. Convergence is slow where two eigenvalues have nearly the
    same magnitude; with opposite signs, λ may then lie between them.

    Examples
    --------
    A mean of squares over n samples has the Hessian 2 XᵀX / n:

    >>> import numpy as np, fastnn
    >>> from fastnn.analysis import dominant_eigenvalue
    >>> x = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    >>> round(dominant_eigenvalue(model, "mse", x, np.zeros((2, 1)), rng=0), 3)
    9.0
    """
    iterations, tol, epsilon = _checked(iterations, tol, epsilon)
    with _gradients(model, loss, x, y, epsilon) as gradients:
        return _power_iteration(gradients, iterations, tol, generator(rng))


def suggest_lr(
    model: Layer,
    loss: AnyLoss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int = 50,
    tol: float = 1e-3,
    epsilon: float | None = None,
    rng: Rng = None,
) -> float:
    r"""Return the learning rate :math:`1 / \lambda_{max}` for plain gradient descent.

    It removes the error along the direction of largest curvature in one step; from
    :math:`2 / \lambda_{max}` on, gradient descent diverges (on a quadratic loss).

    Parameters
    ----------
    model : Layer
        A layer or container with parameters.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (batch, ...)
        Inputs of the model; take a batch that is large enough to stand for the data.
    y : array_like, shape (batch, ...) or (batch,)
        What the loss compares the predictions with.
    iterations : int
        Largest number of products Hv of each power iteration, of which there are at most two.
    tol, epsilon : float
        As of `dominant_eigenvalue`.
    rng : int, numpy.random.Generator or None
        Draws the first v; the result is the same for the same int.

    Returns
    -------
    float
        1 / λ_max, of the last estimate if the iterations ran out, which a warning tells.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        As `dominant_eigenvalue`, and if the loss curves upwards in no direction.

    Warns
    -----
    RuntimeWarning
        As `dominant_eigenvalue`. The estimate of λ_max can only be too small then, and the rate
        too large.

    Notes
    -----
    LeCun, Simard & Pearlmutter 1992, section 2. :math:`\lambda_{max}` is the largest eigenvalue,
    not the largest in magnitude: if the power iteration finds a negative λ, a second one on
    :math:`H - \lambda I` finds it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn.analysis import suggest_lr
    >>> x = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    >>> round(suggest_lr(model, "mse", x, np.zeros((2, 1)), rng=0), 3)
    0.111
    """
    iterations, tol, epsilon = _checked(iterations, tol, epsilon)
    rng = generator(rng)
    with _gradients(model, loss, x, y, epsilon) as gradients:
        largest = _power_iteration(gradients, iterations, tol, rng)
        if largest < 0:
            largest = _power_iteration(gradients, iterations, tol, rng, shift=largest)
    # Below that, the inverse overflows.
    if not largest > np.finfo(np.float64).tiny:
        raise ValueError(
            f"loss: expected one that curves upwards in some direction, got λ_max = {largest:.3g}"
        )
    return 1 / largest


def _checked(iterations: Any, tol: Any, epsilon: Any) -> tuple[int, float, float | None]:
    tol, iterations = above_0("tol", tol), positive("iterations", iterations)
    return iterations, tol, None if epsilon is None else above_0("epsilon", epsilon)


def _power_iteration(
    gradients: _Gradients, iterations: int, tol: float, rng: np.random.Generator, shift: float = 0.0
) -> float:
    """Return the eigenvalue λ of the Hessian that has the largest abs(λ - shift)."""
    v = rng.standard_normal(gradients.theta.size)
    v /= np.linalg.norm(v)
    curvature = 0.0
    for _ in range(iterations):
        product = gradients.hessian_times(v)
        curvature = float(v @ product)
        product -= shift * v
        length = float(np.linalg.norm(product))
        residual = float(np.linalg.norm(product - (curvature - shift) * v))
        if length == 0 or residual <= tol * abs(curvature):
            break
        v = product / length
    else:
        left = residual / abs(curvature) if curvature else math.inf
        warnings.warn(
            f"the power iteration has not converged: after {iterations} products a relative "
            f"residual of {left:.2g} is left, above tol = {tol:.2g}; the estimate so far is "
            f"{curvature:.4g}. Allow more iterations or a larger tol",
            RuntimeWarning,
            stacklevel=3,
        )
    return curvature


@contextmanager
def _gradients(
    model: Any, loss: Any, x: Any, y: Any, epsilon: float | None
) -> Iterator[_Gradients]:
    """Give gradients at any parameters; in the end the model is as it was."""
    parameters = expect_layer(model).parameters()
    if not sum(parameter.size for parameter in parameters):
        raise ValueError("model: expected at least one parameter, got none")
    trainer = Trainer(model, loss, None)
    with unchanged(model):
        saved = _copies(parameter.array for parameter in parameters)
        try:
            yield _Gradients(trainer, x, y, epsilon)
        finally:
            _put_back(saved)


class _Gradients:
    """Gradients of the loss at any parameters, which it changes."""

    def __init__(self, trainer: Trainer, x: Any, y: Any, epsilon: float | None) -> None:
        self.trainer, self.x, self.y = trainer, x, y
        built, layers = trainer.model._built(), [layer for _, layer in trainer.model._layers()]
        built.pending = None
        self.parameters = trainer.model.parameters()
        self.random = _copies(r for r in (a._random_state for a in layers) if r is not None)
        self.theta = self._flat("array")
        unit = float(np.finfo(built.dtype).eps)
        self.epsilon = epsilon or unit ** (1 / 3) * (1 + float(np.linalg.norm(self.theta)))

    def _flat(self, what: str) -> Vector:
        arrays = [getattr(parameter, what).ravel() for parameter in self.parameters]
        return np.concatenate(arrays).astype(np.float64)

    def at(self, theta: Vector) -> Vector:
        """Return the gradient at `theta`, with the dropout masks of every other gradient."""
        _put_back(self.random)
        start = 0
        for parameter in self.parameters:
            parameter.array[...] = theta[start : start + parameter.size].reshape(parameter.shape)
            start += parameter.size
        self.trainer.step(self.x, self.y)
        gradient = self._flat("grad_array")
        if not np.isfinite(gradient).all():
            raise ValueError("model: expected finite gradients on this batch, got NaN or infinity")
        return gradient

    def hessian_times(self, v: Vector) -> Vector:
        """Return the product of the Hessian and a unit vector."""
        step = self.epsilon * v
        return (self.at(self.theta + step) - self.at(self.theta - step)) / (2 * self.epsilon)


def _copies(arrays: Any) -> list[tuple[Array, Array]]:
    return [(array, array.copy()) for array in arrays]


def _put_back(saved: list[tuple[Array, Array]]) -> None:
    for array, copy in saved:
        array[...] = copy
