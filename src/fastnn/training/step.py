"""One training step: forward, loss, backward and update, in one program if the loss allows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.arrays import describe
from fastnn._door.numbers import number
from fastnn._kernels.training_program import TrainingProgram
from fastnn.layers.base import Layer
from fastnn.layers.parameter import mark_gradients
from fastnn.losses import l2_penalty, resolve
from fastnn.losses.loss import Loss
from fastnn.optim import Optimizer
from fastnn.optim.base import check_hyper_parameter
from fastnn.training.carried import CarriedState
from fastnn.training.history import History
from fastnn.training.plan import make_program

__all__ = ["Stepper"]

Array = NDArray[Any]


class Stepper:
    """What `Trainer` does for one batch; see there for the parameters.

    Programs are planned at the first batch of its shape, and again when the model's parameters
    have moved because it became part of another model.
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss | Callable[..., tuple[float, ArrayLike]],
        optimizer: Optimizer | None,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
        comm: Any = None,
        stateful: bool = False,
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected a fastnn optimizer, got {describe(optimizer)}")
        if clip_norm is not None:
            check_hyper_parameter("clip_norm", clip_norm)
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.loss = resolve(loss)
        self.l2, self.clip_norm = number("l2", l2), clip_norm
        self.stateful, self._carried = bool(stateful), CarriedState()
        if stateful and any(getattr(layer, "bidirectional", False) for _, layer in model._layers()):
            raise ValueError(
                "stateful: expected recurrent layers that read forwards, got a bidirectional one, "
                "whose second direction starts at the end"
            )
        self.stop_training = False
        self.history = History()
        self._rng: np.random.Generator | None = None
        self._attach()

    def _attach(self) -> None:
        """Take the gradients' addresses from the model as it is now; plans are made anew."""
        self._engine = self.model._model()
        own = {id(parameter) for parameter in self.model.parameters()}
        groups = [] if self.optimizer is None else self.optimizer.groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        for parameter in parameters:
            if id(parameter) not in own:
                what = getattr(parameter, "name", describe(parameter))
                raise ValueError(f"optimizer: expected parameters of the model, got {what}")
        self._gradients = tuple(parameter.grad for parameter in parameters)
        self._plans: dict[Any, tuple[TrainingProgram, tuple[int, ...]]] = {}
        self._last: TrainingProgram | None = None
        self._marked = False
        self._sent = None if self.comm is None else np.empty_like(self._engine.grad)

    @property
    def rng(self) -> np.random.Generator:
        """The stream of random numbers that shuffles; the model's own stream gives its seed."""
        if self._rng is None:
            self._rng = np.random.default_rng(self._engine.rng.integers(2**63))
        return self._rng

    def reset_state(self) -> None:
        """Begin new sequences with the next step, in a trainer with ``stateful=True``."""
        with self.model._model().lock:
            self._carried.reset()

    # One step --------------------------------------------------------------------------------

    def step(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array_like, shape (batch, ...)
        y : array_like
            What the loss compares the predictions with.
        sample_weight : array_like, shape (batch,), optional
            Weight of each sample in the loss, Σ w ℓ / Σ w.

        Returns
        -------
        float
            The loss before the update. NaN if it is a mean over nothing; the gradient is 0 then.

        Raises
        ------
        TypeError
            If an argument is no array of numbers, or labels are not integers.
        ValueError
            If a shape does not fit, or a label is out of range. Nothing has been changed then.

        Notes
        -----
        C-contiguous arrays of the model's dtype (labels: int64) are used as they are; others are
        converted first.
        """
        with self.model._model().lock:
            program = self._last
            if (
                program is None
                or self.model._engine is not self._engine
                or not program.accepts(x, y, sample_weight)
            ):
                if not isinstance(self.loss, Loss):
                    return self._custom_step(x, y, sample_weight)
                program, x, y, sample_weight = self._convert(x, y, sample_weight)
            if self.stateful:
                self._carried.bind(program, len(x))
            optimizer = self.optimizer
            if optimizer is None or self.comm is not None:
                loss = program.step(x, y, sample_weight)
                self._finish_step()
            else:
                with optimizer._lock:
                    table = optimizer._prepare(self._gradients, 1, self.clip_norm)
                    loss = program.step(x, y, sample_weight, table)
                    optimizer._commit()
                if not self._marked:
                    self._mark()
            if self.stateful:
                self._carried.commit()
        return loss

    def _mark(self) -> None:
        mark_gradients(self.model.parameters())
        self._marked = True

    def _finish_step(self) -> None:
        """Average the gradients over all processes, and update."""
        self._mark()
        if self.comm is not None:
            gradient = self._engine.grad
            np.copyto(self._sent, gradient)
            self.comm.Allreduce(self._sent, gradient)
            gradient /= self.comm.Get_size()
            for parameter in self.model.parameters():
                parameter.mark_dense()  # rows that other processes have used
        if self.optimizer is not None:
            with self.optimizer._lock:
                self.optimizer._prepare(self._gradients, 1, self.clip_norm).run()
                self.optimizer._commit()

    def _custom_step(self, x: Any, y: Any, sample_weight: Any) -> float:
        """Take a step with a loss in Python."""
        if self.model._engine is not self._engine:
            self._attach()
        x, model, program = self._samples(x), self.model, None
        forward, backward = model.forward, model.backward
        if self.stateful:
            program = model._program(x.shape[1:], True)
            self._carried.bind(program, len(x))
            # an LSTM's own methods would start at zero
            forward, backward = partial(Layer.forward, model), partial(Layer.backward, model)
        try:
            pred = forward(x, training=True)
            weights = () if sample_weight is None else (sample_weight,)
            loss, gradient = self.loss(pred, y, *weights)
            backward(gradient)
        finally:
            if program is not None:
                self._carried.release(program)
        if self.l2:
            loss += l2_penalty(self.model.parameters(), self.l2)
        self._finish_step()
        if self.stateful:
            self._carried.commit()
        return float(loss)

    def _samples(self, x: Any) -> Array:
        """Return a batch as the model reads it."""
        x = self.model._as_input(x, self._engine.dtype)
        if x.ndim < 1 + self.model._needs_features:
            raise ValueError(f"x: expected shape (batch, ...), got {x.shape}")
        return x

    def _convert(self, x: Any, y: Any, weight: Any) -> tuple[TrainingProgram, Any, Any, Any]:
        """Return the program for such a batch, and its arrays as the program reads them."""
        if self.model._engine is not self._engine:
            self._attach()
        x = self._samples(x)
        if len(x) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {x.shape}")
        loss = self.loss.suited_to(y)
        program, shape = self._plan(x.shape[1:], loss)
        y, weight = loss.check((len(x), *shape), self._engine.dtype, y, weight)
        self._last = program
        return program, x, y, weight

    def _plan(self, shape: tuple[int, ...], loss: Loss) -> tuple[TrainingProgram, tuple[int, ...]]:
        """Return the program for samples of this shape, and the shape of its predictions."""
        key = (shape, loss.target)
        if key not in self._plans:
            self._plans[key] = make_program(self.model, shape, loss, self.l2)
        return self._plans[key]
