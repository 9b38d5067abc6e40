"""The loss of a model as a function of one vector, with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.numbers import at_least_0, choice
from fastnn._kernels.door import as_input
from fastnn._typing import Array
from fastnn.layers.base import Layer
from fastnn.layers.model import arenas
from fastnn.layers.parameter import Parameter
from fastnn.losses.loss import Loss
from fastnn.training import Trainer

__all__ = ["Objective", "objective"]

Vector = NDArray[np.float64]
AnyLoss = str | Loss | Callable[..., tuple[float, ArrayLike]]


class Objective:
    """What :func:`objective` returns; called with a vector it gives loss and gradient.

    Attributes
    ----------
    model : Layer
    n_evaluations : int
        How often it has been called.
    """

    def __init__(
        self,
        model: Layer,
        loss: AnyLoss,
        x: ArrayLike,
        y: ArrayLike,
        l2: float = 0.0,
        l2_on: str = "weights",
        sample_weight: ArrayLike | None = None,
    ) -> None:
        self._trainer = Trainer(model, loss, None)
        refuse_random_numbers(model)
        self.model, self._l2, self._planned = model, at_least_0("l2", l2), -1
        self._l2_on = choice("l2_on", l2_on, ("weights", "all"))
        with model._built().lock:
            self._data = self._trainer._data(x, y, sample_weight)[:3]
        self.n_evaluations = 0

    def __call__(self, theta: ArrayLike) -> tuple[float, Vector]:
        """Return the loss at `theta` and a new float64 array with its gradient."""
        theta = as_input(theta, "theta", np.dtype(np.float64))
        built = self.model._built()
        with built.lock:
            if self._planned != built.version.value:
                self._look_at_parameters()
                self._planned = built.version.value
            if self._values is None or theta.shape != self._values.shape:
                self.model.set_flat(theta)
            else:
                self._values[...] = theta
            loss = self._trainer.step(*self._data)
            if self._gradient is not None:
                gradient = self._gradient.astype(np.float64)
            elif any(p.trainable for p in self.model.parameters()):
                gradient = self.model.get_flat_grad().astype(np.float64)
            else:
                gradient = np.zeros(theta.shape)
            if self._l2:
                decay = self._decay * theta
                loss += 0.5 * float(decay @ theta)
                gradient += decay if self._moves is None else np.where(self._moves, decay, 0)
        self.n_evaluations += 1
        return loss, gradient

    def _look_at_parameters(self) -> None:
        """Note where they lie, which move, and which are penalized."""
        parameters = self.model.parameters()
        sizes = [p.size for p in parameters]
        penalized = [self._l2 * (self._l2_on == "all" or len(p.shape) > 1) for p in parameters]
        self._decay: Vector = np.repeat(penalized, sizes)
        moves = [p.trainable for p in parameters]
        self._moves = None if all(moves) else np.repeat(moves, sizes)
        self._values, self._gradient = None, None
        if all(p.trainable and not p.sparse for p in parameters):
            self._values, self._gradient = in_one_piece(parameters)


def in_one_piece(parameters: Sequence[Parameter]) -> tuple[Array | None, Array | None]:
    """Return views of all values and gradients as vectors, or None where they lie apart."""
    found = arenas(parameters)
    starts = [p.array.ctypes.data for p in parameters]
    if len(found) != 1 or starts != sorted(starts):
        return None, None
    return found[0]


def objective(
    model: Layer,
    loss: AnyLoss,
    x: ArrayLike,
    y: ArrayLike,
    l2: float = 0.0,
    l2_on: str = "weights",
    *,
    sample_weight: ArrayLike | None = None,
) -> Objective:
    r"""Return a model's loss on a data set as a function of all its parameters.

    Parameters
    ----------
    model : Layer
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

    Returns
    -------
    callable
        ``f(theta) -> (loss, gradient)`` with `theta` in the order of ``model.get_flat()`` and a new
        float64 gradient at each call; 0 for frozen parameters.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or does not fit, or the model draws random numbers, as
        `Dropout` does: its loss is not a function of the parameters alone.

    Notes
    -----
    A call leaves `theta` in the model, rounded to the model's dtype; line searches want float64.
    The pass is that of training: batch normalization uses the statistics of the batch, and moves
    its running ones. The arrays are converted once, here.

    Examples
    --------
    >>> import numpy as np, fastnn, scipy.optimize
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> model = fastnn.Linear(1, 1, dtype="float64", rng=0)
    >>> f = fastnn.objective(model, "mse", x, 2 * x + 1)
    >>> found = scipy.optimize.minimize(f, model.get_flat(), jac=True)
    >>> model.set_flat(found.x)
    >>> print(found.x.round(4))
    [2. 1.]
    """
    return Objective(model, loss, x, y, l2, l2_on, sample_weight)


def refuse_random_numbers(model: Layer) -> None:
    """Raise ValueError if a layer draws random numbers in training."""
    for path, layer in model._layers():
        if layer.uses_random_numbers():
            raise ValueError(
                f"model: expected no layer that draws random numbers, got {layer!r} at "
                f"{path or 'the top'}; its loss changes from call to call, so train with Trainer "
                "or leave the layer out"
            )
