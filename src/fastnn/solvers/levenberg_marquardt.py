"""The Levenberg-Marquardt method, with Bayesian regularization if wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.numbers import above_0, at_least_0, boolean, positive
from fastnn.analysis.backward import RowJacobian, expect_layer, inputs, unchanged
from fastnn.layers.base import Layer
from fastnn.losses.targets import check_target
from fastnn.solvers.objective import refuse_random_numbers
from fastnn.solvers.result import Result

__all__ = ["levenberg_marquardt"]

Vector = NDArray[np.float64]

# What it solves at most: parameters, and bytes of one Jacobian.
PARAMETERS, BYTES = 3000, 10**9
# The ends of the damping.
LEAST, MOST = 1e-20, 1e10


def levenberg_marquardt(
    model: Layer,
    x: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int | None = None,
    damping: float = 1e-3,
    bayesian: bool = False,
    max_iter: int = 100,
    tol: float = 1e-10,
    callback: Callable[[int, float], bool | None] | None = None,
) -> Result:
    r"""Fit a small model by least squares with the Levenberg-Marquardt method.

    With J the Jacobian of the N predictions and r = prediction - y, a step δ solves

    .. math::
        (J^\top J / N + \mu I)\, \delta = -J^\top r / N

    The damping μ grows until a step lowers the mean of squares, and falls after one that lowers it
    as far as the linear model of r says: gradient descent far away, Gauss-Newton near the minimum.

    Parameters
    ----------
    model : Layer
        Of at most 3,000 trainable parameters, changed in place; any layers but those that draw
        random numbers.
    x : array_like, shape (samples, ...)
    y : array_like, shape of the predictions
    batch_size : int, optional
        Samples per step; all by default. Of m batches the j-th has the samples j, j + m, j + 2m...
    damping : float
        The first μ, > 0.
    bayesian : bool
        Whether to add :math:`\alpha \sum w^2` to :math:`\beta \sum r^2`, with α and β as the data
        suggest after each iteration (MacKay's evidence framework).
    max_iter : int
        Largest number of iterations, each a pass over the data.
    tol : float
        It stops when no element of the gradient (of the mean of squares, and the penalty) is
        larger, ≥ 0; with several batches, of their mean over a pass.
    callback : callable, optional
        ``callback(iteration, loss)`` after each iteration, from 1; True ends the training.

    Returns
    -------
    Result
        ``loss`` and ``history`` are means of squares; with `bayesian` there are ``alpha``, ``beta``
        and ``effective_parameters`` too.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or does not fit, the model draws random numbers, as
        `Dropout` does, it has more than 3,000 parameters, or a Jacobian would take more than 1 GB.
        :func:`fastnn.solvers.lbfgs` knows no such limits.

    Notes
    -----
    Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM J. 11,
    1963; Hagan & Menhaj, "Training feedforward networks with the Marquardt algorithm", IEEE Trans.
    Neural Networks 5, 1994, with the Jacobian from one backward pass for each output; the damping
    after Madsen, Nielsen & Tingleff, "Methods for non-linear least squares problems", 2004, section
    3.2, which takes half as many trials as factors of 10. Bayesian
    regularization: MacKay, "Bayesian interpolation", Neural Computation 4, 1992, in the form of
    Foresee & Hagan 1997: :math:`\gamma = \sum \lambda_i / (\lambda_i + \alpha / \beta)` effective
    parameters with λ the eigenvalues of JᵀJ, :math:`\alpha = \gamma / (2 \sum w^2)`,
    :math:`\beta = (N - \gamma) / (2 \sum r^2)`.

    The equations are solved in float64, whatever the model's dtype. The pass is that of training:
    batch normalization uses the statistics of the batch, for which each output takes a backward
    pass of the whole batch. Frozen parameters stay.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> model = fastnn.Sequential(
    ...     fastnn.Linear(1, 8), fastnn.Tanh(), fastnn.Linear(8, 1), dtype="float64", rng=0
    ... )
    >>> result = fastnn.solvers.levenberg_marquardt(model, x, np.sin(5 * x), max_iter=200)
    >>> result.loss < 1e-6
    True
    """
    expect_layer(model)
    refuse_random_numbers(model)
    max_iter, tol = positive("max_iter", max_iter), at_least_0("tol", tol)
    damping, bayesian = above_0("damping", damping), boolean("bayesian", bayesian)
    with unchanged(model, statistics=False):
        problem = _Problem(model, x, y, batch_size, bayesian)
        history = [problem.loss()]
        if not np.isfinite(history[0]):
            raise ValueError(f"model: expected finite predictions at the start, got {history[0]}")
        n_iter, converged = 0, False
        message = "the largest number of iterations is reached"
        try:
            while n_iter < max_iter:
                gradient, moved, damping = problem.iterate(damping, tol)
                converged = gradient <= tol
                if converged:
                    message = "no element of the gradient is larger than tol"
                    break
                if not moved:
                    message = "no step decreases the loss any further at the precision of the model"
                    break
                n_iter += 1
                history.append(problem.loss())
                problem.weigh(history[-1])
                if callback is not None and callback(n_iter, history[-1]) is True:
                    message = "the callback has ended it"
                    break
        finally:
            model.set_flat(problem.theta)
    return Result(
        history[-1], n_iter, problem.n_evaluations, converged, message, history,
        *(problem.precisions if bayesian else ()),
    )  # fmt: skip


class _Problem:
    """The sum of squares, its batches, and where the parameters are."""

    def __init__(
        self, model: Layer, x: Any, y: Any, batch_size: int | None, bayesian: bool
    ) -> None:
        x, single = inputs(model, x)
        if single or not len(x):
            raise ValueError(f"x: expected shape (samples, ...), got {x.shape[single:]}")
        if batch_size is not None:
            batch_size = positive("batch_size", batch_size)
        parameters = model.parameters()
        size = sum(p.size for p in parameters if p.trainable)
        if not 0 < size <= PARAMETERS:
            raise ValueError(
                f"model: expected from 1 to {PARAMETERS} trainable parameters, got {size}; "
                "fastnn.solvers.lbfgs takes any number"
            )
        self.model, self.bayesian = model, bayesian
        self.free = np.repeat([p.trainable for p in parameters], [p.size for p in parameters])
        self.rows = RowJacobian(model, x.shape[1:], predicting=False)
        y = check_target(y, (len(x), *self.rows.output_shape), self.rows.dtype)
        count = 1 if batch_size is None else -(-len(x) // batch_size)
        largest = -(-len(x) // count) * self.rows.outputs * self.free.size * 8
        if largest > BYTES:
            raise ValueError(
                f"batch_size: expected batches whose Jacobian takes at most {BYTES / 1e9:g} GB, "
                f"got one of {largest / 1e9:.1f} GB; fastnn.solvers.lbfgs needs none"
            )
        self.batches = [
            (np.ascontiguousarray(x[i::count]), y[i::count].astype(np.float64).reshape(-1))
            for i in range(count)
        ]
        self.residuals = y.size
        self.theta = model.get_flat().astype(np.float64)
        self.penalty = 0.0  # α / (β N)
        self.precisions = 0.0, 0.0, float(size)
        self.n_evaluations = 0
        self.last = np.nan  # the mean of squares of the last batch where the parameters are
        self.normal: Vector = np.zeros((size, size))  # JᵀJ / N of the last pass

    def loss(self) -> float:
        """Return the mean of squares of all data."""
        if len(self.batches) == 1 and np.isfinite(self.last):
            return self.last
        mean: float = sum(self._squares(*batch) for batch in self.batches) / self.residuals
        return mean

    def _squares(self, x: NDArray[Any], y: Vector) -> float:
        self.n_evaluations += 1
        difference = self.rows.predict(x).reshape(-1) - y
        return float(difference @ difference)

    def iterate(self, damping: float, tol: float) -> tuple[float, bool, float]:
        """Take a step on each batch.

        Returns the largest element of the gradient, whether a step has helped, and the damping.
        No step is taken on a single batch whose gradient is small enough.
        """
        total, moved = np.zeros(len(self.normal)), False
        self.normal[...] = 0
        for x, y in self.batches:
            predicted, jacobian = self.rows(x)
            jacobian = jacobian.reshape(len(y), -1)[:, self.free].astype(np.float64, copy=False)
            difference = predicted.reshape(-1) - y
            normal = jacobian.T @ jacobian / len(y)
            self.normal += normal * (len(y) / self.residuals)
            w = self.theta[self.free]
            slope = jacobian.T @ difference / len(y) + self.penalty * w
            total += 2 * slope / len(self.batches)
            if len(self.batches) == 1 and np.abs(total).max() <= tol:
                break
            before = float(difference @ difference) / len(y) + self.penalty * float(w @ w)
            helped, damping = self._step(x, y, normal, slope, before, damping)
            moved |= helped
        return float(np.abs(total).max()), moved, damping

    def _step(
        self, x: NDArray[Any], y: Vector, normal: Vector, slope: Vector, before: float,
        damping: float,
    ) -> tuple[bool, float]:  # fmt: skip
        """Take a step on a batch; returns whether one has helped, and the damping."""
        start, diagonal, growth, first = self.theta, np.arange(len(slope)), 2.0, damping
        while damping <= MOST:
            matrix = normal.copy()
            matrix[diagonal, diagonal] += self.penalty + damping
            try:
                step = np.linalg.solve(matrix, slope)
            except np.linalg.LinAlgError:
                damping, growth = damping * growth, 2 * growth
                continue
            theta = start.copy()
            theta[self.free] -= step
            self.model.set_flat(theta)
            mean = self._squares(x, y) / len(y)
            w = theta[self.free]
            gain = before - mean - self.penalty * float(w @ w)
            if gain > 0:
                self.theta, self.last = theta, mean
                expected = float(step @ (slope + damping * step))
                return True, max(damping * max(1 / 3, 1 - (2 * gain / expected - 1) ** 3), LEAST)
            damping, growth = damping * growth, 2 * growth
        self.model.set_flat(start)
        return False, first

    def weigh(self, loss: float) -> None:
        """Choose α and β anew for the mean of squares after a pass."""
        if not self.bayesian:
            return
        tiny = float(np.finfo(np.float64).tiny)
        w = self.theta[self.free]
        eigenvalues = np.maximum(np.linalg.eigvalsh(self.normal), 0)
        effective = float(np.sum(eigenvalues / np.maximum(eigenvalues + self.penalty, tiny)))
        alpha = effective / max(2 * float(w @ w), tiny)
        beta = max(self.residuals - effective, 1.0) / max(2 * loss * self.residuals, tiny)
        self.precisions = alpha, beta, effective
        self.penalty = alpha / (beta * self.residuals)
