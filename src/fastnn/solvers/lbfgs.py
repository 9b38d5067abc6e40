"""Limited-memory BFGS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.numbers import at_least_0, positive
from fastnn._kernels.quasi_newton import Pairs
from fastnn.layers.base import Layer
from fastnn.solvers.line_search import Point, search
from fastnn.solvers.objective import AnyLoss, Objective
from fastnn.solvers.result import Result

__all__ = ["lbfgs"]

Vector = NDArray[np.float64]

# Rounding errors of a loss, in units of its last place.
NOISE = 16
# Iterations without a new lowest loss, all but equal in rounding, after which it ends.
PATIENCE = 10


def lbfgs(
    model: Layer,
    loss: AnyLoss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float = 0.0,
    l2_on: str = "weights",
    sample_weight: ArrayLike | None = None,
    max_iter: int = 200,
    tol: float = 1e-5,
    memory: int = 10,
    callback: Callable[[int, float], bool | None] | None = None,
) -> Result:
    r"""Train a model on a whole data set with L-BFGS.

    Each iteration goes from θ along :math:`-H \nabla f(\theta)`, with the inverse Hessian H
    estimated from the last `memory` steps and changes of the gradient, as far as the strong Wolfe
    conditions ask.

    Parameters
    ----------
    model : Layer
        Changed in place.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (samples, ...)
    y : array_like, shape (samples, ...)
    l2 : float
        λ ≥ 0 of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` that is part of the loss.
    l2_on : {"weights", "all"}
        Whether the penalty is on parameters of two or more dimensions only, or on biases too.
    sample_weight : array_like, shape (samples,), optional
        Weight of each sample in the loss, Σ w ℓ / Σ w.
    max_iter : int
        Largest number of iterations.
    tol : float
        It stops when no element of the gradient is larger, ≥ 0.
    memory : int
        Steps that are remembered, each with two vectors as long as the parameters.
    callback : callable, optional
        ``callback(iteration, loss)`` after each iteration, from 1; True ends the training.

    Returns
    -------
    Result
        ``loss``, ``n_iter``, ``n_evaluations``, ``converged``, ``message`` and ``history``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or does not fit, the model draws random numbers, as
        `Dropout` does, or the first loss or gradient is not finite.

    Notes
    -----
    Nocedal, "Updating quasi-Newton matrices with limited storage", Mathematics of Computation 35,
    1980; Nocedal & Wright 2006, algorithms 7.4 and 7.5. Vectors are float64 whatever the model's
    dtype; a float32 model stops where its rounding hides any further decrease. The pass is that of
    training: batch normalization uses the statistics of the batch. Frozen parameters stay. An
    error, or an interruption, leaves the best parameters found so far in the model.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> model = fastnn.Sequential(
    ...     fastnn.Linear(1, 8), fastnn.Tanh(), fastnn.Linear(8, 1), dtype="float64", rng=0
    ... )
    >>> result = fastnn.solvers.lbfgs(model, "mse", x, np.sin(3 * x), max_iter=500)
    >>> result.converged, result.loss < 1e-5
    (True, True)
    """
    max_iter, memory = positive("max_iter", max_iter), positive("memory", memory)
    tol = at_least_0("tol", tol)
    f = Objective(model, loss, x, y, l2, l2_on, sample_weight)
    theta = model.get_flat().astype(np.float64)
    here = Point(0.0, *_first(f, theta))
    history, pairs, lowest = [here.value], Pairs(memory, theta.size), 0
    unit = float(np.finfo(model._built().dtype).eps)
    n_iter, message = 0, "the largest number of iterations is reached"
    try:
        while n_iter < max_iter and not _flat(here.gradient, tol):
            direction = pairs.direction(here.gradient)
            found = _along(f, theta, direction, here, pairs, unit)
            if found is None and pairs:  # once more without what is remembered
                pairs.clear()
                direction = pairs.direction(here.gradient)
                found = _along(f, theta, direction, here, pairs, unit)
            if found is None or n_iter - lowest >= PATIENCE:
                message = "no step decreases the loss any further at the precision of the model"
                break
            step = found.step * direction
            theta = theta + step
            pairs.remember(step, found.gradient - here.gradient)
            here, n_iter = found, n_iter + 1
            history.append(here.value)
            if here.value < history[lowest]:
                lowest = n_iter
            if callback is not None and callback(n_iter, here.value) is True:
                message = "the callback has ended it"
                break
    finally:
        model.set_flat(theta)
    converged = _flat(here.gradient, tol)
    if converged:
        message = "no element of the gradient is larger than tol"
    return Result(here.value, n_iter, f.n_evaluations, converged, message, history)


def _flat(gradient: Vector, tol: float) -> bool:
    return float(np.abs(gradient).max(initial=0.0)) <= tol


def _first(f: Objective, theta: Vector) -> tuple[float, float, Vector]:
    value, gradient = f(theta)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise ValueError("model: expected a finite loss and gradient at the start, got others")
    return value, 0.0, gradient


def _along(
    f: Objective, theta: Vector, direction: Vector, here: Point, pairs: Pairs, unit: float
) -> Point | None:
    """Search along `direction`."""

    def at(step: float) -> Point:
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = f(theta + step * direction)
            return Point(step, value, float(gradient @ direction), gradient)

    start = here._replace(step=0.0, slope=float(here.gradient @ direction))
    if not start.slope < 0:
        return None
    first = 1.0 if pairs else min(1.0, 1 / float(np.abs(here.gradient).sum()))
    return search(at, start, first, NOISE * unit * abs(here.value))
