"""What the estimators minimize: losses with scikit-learn's factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn import losses
from fastnn._typing import Array
from fastnn.callbacks import CallbackList
from fastnn.distributed.shares import Shares
from fastnn.layers.base import Layer
from fastnn.losses.loss import Loss
from fastnn.solvers.objective import Objective
from fastnn.training import Trainer
from fastnn.training.progress import ProgressBar

__all__ = ["Criterion", "Epochs", "criterion", "minimize_lbfgs"]


class Criterion(NamedTuple):
    """A loss and how its numbers are read.

    Attributes
    ----------
    loss : Loss or callable
        What a trainer is given.
    factor : float or None
        If it is a sum over a batch: what to multiply it by besides 1 / (total weight). None for a
        weighted mean.
    parts : int
        What the reported value is divided by, though the gradient is not.
    """

    loss: Loss | Callable[..., tuple[float, Array]]
    factor: float | None = None
    parts: int = 1

    def weights(self, sample_weight: Array | None, rows: int, dtype: Any) -> Array | None:
        """Return the weights with which a trainer is given a batch of so many rows."""
        if self.factor is None:
            return sample_weight
        if sample_weight is None:
            return np.full(rows, self.factor / rows, dtype)
        return np.asarray(sample_weight * (self.factor / sample_weight.sum()), dtype)


def criterion(loss: Any, outputs: int) -> Criterion:
    """Return the criterion of that name, or for a loss of `fastnn.losses` or a callable."""
    if loss == "squared_error":
        return Criterion(losses.resolve(losses.mse(reduction="sum")), 0.5, outputs)
    if loss == "poisson":
        return Criterion(half_poisson_deviance)
    if loss == "log_loss":
        return Criterion(losses.resolve("cross_entropy"))
    if loss == "binary_log_loss":
        of_logits = losses.binary_cross_entropy_with_logits(reduction="sum")
        return Criterion(losses.resolve(of_logits), 1.0)
    names = {"absolute_error": "l1"}
    return Criterion(losses.resolve(names.get(loss, loss) if isinstance(loss, str) else loss))


def half_poisson_deviance(
    pred: Array, target: Array, sample_weight: Array | None = None
) -> tuple[float, Array]:
    """Half the Poisson deviance of exp(pred), summed over outputs; the mean over samples."""
    weight = np.full(len(pred), 1.0) if sample_weight is None else sample_weight
    weight = (weight / weight.sum()).reshape(-1, *(1,) * (pred.ndim - 1))
    rate, y = np.exp(pred), np.asarray(target, pred.dtype)
    ratio = np.log(np.where(y > 0, y, 1)) - pred  # log(y / rate), times 0 where y is
    deviance = y * ratio - y + rate
    return float((weight * deviance).sum()), (weight * (rate - y)).astype(pred.dtype)


class Epochs:
    """Epochs of a trainer with batches whose penalty is alpha / (2 total weight) ‖W‖².

    Parameters
    ----------
    trainer : Trainer
        With ``l2_on="weights"``.
    criterion : Criterion
    x, y : ndarray
        Converted already.
    sample_weight : ndarray or None
    alpha : float
    batch_size : int
    least : int
        Rows that a batch must have; a smaller last one is left out.
    """

    def __init__(
        self,
        trainer: Trainer,
        criterion: Criterion,
        x: Array,
        y: Array,
        sample_weight: Array | None,
        alpha: float,
        batch_size: int,
        least: int = 1,
    ) -> None:
        self.trainer, self.criterion, self.alpha = trainer, criterion, alpha
        self.x, self.y, self.weight, self.batch_size = x, y, sample_weight, batch_size
        self.least = least
        self._alike: dict[int, Array | None] = {}  # weights of batches without a sample_weight
        trainer._at_once = 1
        self.at_once = (
            sample_weight is None and criterion.parts == 1 and isinstance(criterion.loss, Loss)
        )
        if self.at_once:
            trainer.l2 = alpha / batch_size
            self.whole = len(x) // batch_size * batch_size
            self.shares = Shares(None, self.whole, batch_size)
            self.rest = len(x) - self.whole if len(x) - self.whole >= least else 0
            data = trainer._data(x, y, self._all_weights(batch_size))
            self.data = data, data
            if self.rest and criterion.factor is not None:
                self.data = data, trainer._data(x, y, self._all_weights(self.rest))

    def _all_weights(self, rows: int) -> Array | None:
        """Return a weight for each sample where a batch has so many."""
        factor = self.criterion.factor
        return None if factor is None else np.full(len(self.x), factor / rows, self.x.dtype)

    def run(self, order: Array, callbacks: CallbackList, bar: ProgressBar) -> float:
        """Take the steps of one epoch and return its loss, the penalty included."""
        if not self.at_once:
            return self._one_by_one(order, callbacks)
        (data, last), sums, alpha = self.data, self.criterion.factor is not None, self.alpha
        if alpha and self.rest:
            self.trainer.l2 = alpha / self.batch_size
        loss = self.trainer._epoch(
            data, order[: self.whole], self.shares, callbacks, bar, callbacks.follows_batches
        )
        total = loss * (self.batch_size if sums else self.whole)
        if not self.rest:
            return total / self.whole
        if alpha:
            self.trainer.l2 = alpha / self.rest
        last = self.trainer._refreshed(last)
        one = float(self.trainer._steps(last, order[self.whole :], self.rest, 1)[0][0])
        callbacks.on_batch_end(self.shares.steps, one)
        return (total + one * self.rest) / len(order)

    def _one_by_one(self, order: Array, callbacks: CallbackList) -> float:
        total, used = 0.0, 0
        for step, start in enumerate(range(0, len(order), self.batch_size)):
            rows = order[start : start + self.batch_size]
            if len(rows) < self.least:
                continue
            weight = None if self.weight is None else self.weight[rows]
            loss = self.step(self.x[rows], self.y[rows], weight)
            callbacks.on_batch_end(step, loss)
            total += loss * len(rows)
            used += len(rows)
        return total / used

    def step(self, x: Array, y: Array, weight: Array | None) -> float:
        """Train on one batch; returns its loss, the penalty included."""
        rows, trainer, parts = len(x), self.trainer, self.criterion.parts
        if weight is not None:
            weights = self.criterion.weights(weight, rows, x.dtype)
        elif rows in self._alike:
            weights = self._alike[rows]
        else:
            weights = self._alike[rows] = self.criterion.weights(None, rows, x.dtype)
        if self.alpha:
            strength = self.alpha / (rows if weight is None else float(weight.sum()))
            if trainer.l2 != strength:
                trainer.l2 = strength
        if parts == 1 or not self.alpha:
            return trainer.step(x, y, weights) / parts
        penalty = 0.5 * trainer.l2 * squares(trainer.model)
        return (trainer.step(x, y, weights) - penalty) / parts + penalty


def squares(model: Layer) -> float:
    """Return the sum of squares of all weights."""
    arrays = (p.array.reshape(-1) for p in model.parameters() if len(p.shape) > 1)
    return sum(float(a @ a) for a in arrays)


def minimize_lbfgs(
    model: Layer,
    criterion: Criterion,
    x: Array,
    y: Array,
    sample_weight: Array | None,
    alpha: float,
    order: Array,
    options: dict[str, Any],
) -> Any:
    """Minimize with SciPy's L-BFGS-B, as scikit-learn does; returns SciPy's result.

    `order` says where each element of ``get_flat()`` lies in scikit-learn's vector of parameters.
    """
    from scipy.optimize import minimize

    weights = criterion.weights(sample_weight, len(x), x.dtype)
    f = Objective(model, criterion.loss, x, y, sample_weight=weights)
    mass = len(x) if sample_weight is None else float(sample_weight.sum())
    penalized = np.concatenate(
        [np.full(p.size, alpha / mass * (len(p.shape) > 1)) for p in model.parameters()]
    )
    inverse = np.argsort(order)

    def value_and_gradient(given: Array) -> tuple[float, Array]:
        theta = given.take(order)
        loss, gradient = f(theta)
        decay = penalized * theta
        return loss / criterion.parts + 0.5 * float(decay @ theta), (gradient + decay).take(inverse)

    start = model.get_flat().astype(np.float64)[inverse]
    result = minimize(
        value_and_gradient, start, method="L-BFGS-B", jac=True, options=options
    )
    model.set_flat(result.x[order])
    return result
