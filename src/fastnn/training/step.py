"""One training step: forward, loss, backward and update, in one program if the loss allows it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import describe
from fastnn._door.numbers import at_least_0, choice, limit
from fastnn._kernels.door import as_input
from fastnn._kernels.training_program import TrainingProgram
from fastnn._kernels.update import Taking
from fastnn._typing import Array
from fastnn.layers.base import Layer
from fastnn.layers.model import Model, Recent, arenas
from fastnn.layers.parameter import Parameter, mark_gradients
from fastnn.losses import l2_penalty, resolve
from fastnn.losses.loss import Loss
from fastnn.optim import Optimizer
from fastnn.training.carried import CarriedState
from fastnn.training.history import History
from fastnn.training.plan import make_program

__all__ = ["Stepper"]

LossFunction = Callable[..., Any]


class Stepper:
    """What `Trainer` does for one batch; see there for the parameters.

    Programs are planned at the first batch of its shape, and again when the model has changed.
    """

    __slots__ = (
        "__weakref__", "_carried", "_clip_norm", "_clip_value", "_comm", "_l2", "_l2_on", "_last",
        "_loss", "_model", "_optimizer", "_plans", "_rng", "_stateful", "_trained", "history",
        "stop_training",
    )  # fmt: skip
    _loss: Any  # a Loss or a function in Python
    _l2_on: str

    def __init__(
        self,
        model: Layer,
        loss: str | Loss | LossFunction,
        optimizer: Optimizer | None,
        *,
        l2: float = 0.0,
        l2_on: str = "all",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        comm: Any = None,
        stateful: bool = False,
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
        self._model, self._comm, self._stateful = model, comm, bool(stateful)
        self._carried = CarriedState()
        self._plans = Recent()
        self._last: TrainingProgram | None = None
        self._trained: frozenset[Parameter] | None = None
        self._optimizer: Optimizer | None = None
        self._rng: np.random.Generator | None = None
        if stateful and any(getattr(layer, "bidirectional", False) for _, layer in model._layers()):
            raise ValueError(
                "stateful: expected recurrent layers that read forwards, got a bidirectional one, "
                "whose second direction starts at the end"
            )
        self._l2 = 0.0
        self.loss, self.l2, self.l2_on = loss, l2, l2_on
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.optimizer = optimizer
        self.stop_training = False
        self.history = History()

    # Attributes ------------------------------------------------------------------------------

    def invalidate(self) -> None:
        """Plan anew before the next step."""
        self._plans, self._last = Recent(), None
        if self._optimizer is not None:
            self._trained = frozenset(self._parameters_of(self._optimizer))

    @property
    def model(self) -> Layer:
        """The model, which stays the same."""
        return self._model

    @property
    def comm(self) -> Any:
        """The processes that train together, which stay the same."""
        return self._comm

    @property
    def stateful(self) -> bool:
        """Whether sequences go on from batch to batch, which stays the same."""
        return self._stateful

    @property
    def loss(self) -> Any:
        """The loss, resolved; what is assigned, a name too, counts from the next step on."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss | LossFunction) -> None:
        self._loss = resolve(loss)
        self.invalidate()

    @property
    def l2(self) -> float:
        """Factor of the penalty on the parameters; counts from the next step on."""
        return self._l2

    @l2.setter
    def l2(self, l2: float) -> None:
        before, self._l2 = self._l2, at_least_0("l2", l2)
        if before and l2:  # the penalty is planned already
            for program in self._plans.values():
                program.set_l2(l2)
        else:
            self.invalidate()

    @property
    def l2_on(self) -> str:
        """Whether the penalty is on all parameters, or on those with two axes and more."""
        return self._l2_on

    @l2_on.setter
    def l2_on(self, l2_on: str) -> None:
        self._l2_on = choice("l2_on", l2_on, ("weights", "all"))
        self.invalidate()

    def _penalized(self) -> list[Parameter]:
        """Return the parameters that the penalty is on."""
        all_of_them = self._l2_on == "all"
        return [p for p in self._model.parameters() if all_of_them or len(p.shape) > 1]

    @property
    def clip_norm(self) -> float | None:
        """Largest norm of all gradients; counts from the next step on."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, clip_norm: float | None) -> None:
        self._clip_norm = None if clip_norm is None else limit("clip_norm", clip_norm)

    @property
    def clip_value(self) -> float | None:
        """Largest size of an element of a gradient; counts from the next step on."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, clip_value: float | None) -> None:
        self._clip_value = None if clip_value is None else limit("clip_value", clip_value)

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer; another one, or None, counts from the next step on."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer | None) -> None:
        trained = None
        if optimizer is not None:
            if not isinstance(optimizer, Optimizer):
                raise TypeError(
                    f"optimizer: expected a fastnn optimizer, got {describe(optimizer)}"
                )
            trained = frozenset(self._parameters_of(optimizer))
            optimizer.watch(self)
        self._optimizer, self._trained = optimizer, trained
        self._plans, self._last = Recent(), None

    def _parameters_of(self, optimizer: Optimizer) -> list[Parameter]:
        own = set(self._model.parameters())
        parameters = [parameter for group in optimizer.groups for parameter in group["params"]]
        for parameter in parameters:
            if not isinstance(parameter, Parameter):
                raise ValueError(
                    f"optimizer: expected parameters of the model, got {describe(parameter)}"
                )
            if parameter not in own:
                raise ValueError(
                    f"optimizer: expected parameters of the model, got {parameter.name}: made over "
                    "another model's parameters, or this one's have been replaced; make it again "
                    "from model.parameters()"
                )
        return parameters

    @property
    def rng(self) -> np.random.Generator:
        """The stream of random numbers that shuffles; the model's own stream gives its seed."""
        if self._rng is None:
            self._model._built()
            stream = self._model._stream
            assert stream is not None
            self._rng = np.random.default_rng(stream.integers(2**63))
        return self._rng

    def reset_state(self) -> None:
        """Begin new sequences with the next step, in a trainer with ``stateful=True``."""
        with self._model._built().lock:
            self._carried.reset()

    # Copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Leave out plans: for pickle and copy.deepcopy."""
        return {
            "model": self._model, "loss": self._loss, "optimizer": self._optimizer, "l2": self._l2,
            "l2_on": self._l2_on, "clip_norm": self._clip_norm, "clip_value": self._clip_value,
            "comm": self._comm, "stateful": self._stateful,
            "carried": self._carried.states, "rng": self.rng, "history": self.history,
            "stop_training": self.stop_training,
        }  # fmt: skip

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return a trainer of its own, as it is between two steps."""
        result = object.__new__(type(self))
        memo[id(self)] = result
        with self._model._built().lock:
            result.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return result

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = ("carried", "rng", "history", "stop_training")
        carried, rng, history, stop = (state.pop(name) for name in own)
        model, loss, optimizer = (state.pop(name) for name in ("model", "loss", "optimizer"))
        Stepper.__init__(self, model, loss, optimizer, **state)
        self._carried, self._rng = CarriedState(carried), rng
        self.history, self.stop_training = history, stop

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
        model = self._model._model or self._model._built()
        with model.lock:
            program = self._last
            if program is None or not program.accepts(x, y, sample_weight):
                if not isinstance(self._loss, Loss):
                    return self._custom_step(model, x, y, sample_weight)
                program, x, y, sample_weight = self._convert(x, y, sample_weight)
            model.pending = None  # its memory is used now
            if program.class_weight is not None:
                program.class_weight[...] = self._loss.class_weight
            carried = None
            if self._stateful:  # x is an array by now
                carried = self._carried.arrays(program, len(x))  # type: ignore[arg-type]
            optimizer = self._optimizer
            if optimizer is None or self._comm is not None:
                loss = program.step(x, y, sample_weight, None, carried)
                self._end(model, program)
                self._update(model)
            else:
                with Taking(optimizer, True, 1, self._clip_norm, self._clip_value) as table:
                    loss = program.step(x, y, sample_weight, table, carried)
                if program.marked != model.forgets:
                    self._end(model, program)
            if self._stateful:
                self._carried.commit()
        return loss

    def _end(self, model: Model, program: TrainingProgram) -> None:
        """Note what a run has left: gradients, but no states of recurrent layers."""
        mark_gradients(program.schedule.parameters)
        program.schedule.hand_out({})
        # to be done again only when a gradient is forgotten; layers with states may be run alone
        program.marked = -1 if program.schedule.carried else model.forgets

    def _update(self, model: Model) -> None:
        """Average the gradients over all processes, and update."""
        if self._comm is not None:
            for _, gradient in arenas(self._model.parameters()):
                sent = gradient.copy()
                self._comm.Allreduce(sent, gradient)
                gradient /= self._comm.Get_size()
            for parameter in self._model.parameters():
                parameter.mark_dense()  # rows that other processes have used
        if self._optimizer is not None:
            with Taking(self._optimizer, True, 1, self._clip_norm, self._clip_value) as table:
                table.run()

    def _custom_step(self, model: Model, x: Any, y: Any, sample_weight: Any) -> float:
        """Take a step with a loss in Python."""
        x, layer = self._samples(x), self._model
        program = layer._program(x.shape[1:], True)
        if program.schedule.minimum_rows > len(x):
            program.check_rows(len(x))
        carried = self._carried.arrays(program, len(x)) if self._stateful else None
        with self._unchanged_if_it_fails(program):
            pred = layer._run(x, True, carried)
            pending, model.in_loss = model.pending, True
            try:
                weights = () if sample_weight is None else (sample_weight,)
                loss, gradient = _checked(self._loss(pred, y, *weights), pred)
            finally:
                model.in_loss = False
            assert pending is not None
            layer._run_back(pending, gradient, False)
            if program.schedule.carried:
                program.schedule.hand_out({})
            if self._l2:
                loss += l2_penalty(self._penalized(), self._l2)
            self._update(model)
        if self._stateful:
            self._carried.commit()
        return loss

    @contextmanager
    def _unchanged_if_it_fails(self, program: Any) -> Iterator[None]:
        """Put statistics and random streams back after an error."""
        arrays = program.schedule.changing
        saved = [array.copy() for array in arrays]
        try:
            yield
        except BaseException:
            self._model._built().pending = None
            for array, copy in zip(arrays, saved, strict=True):
                array[...] = copy
            raise

    def _samples(self, x: Any) -> Array:
        """Return a batch as the model reads it."""
        samples = self._model._as_input(x, self._model._built().dtype)
        if samples.ndim < 1 + self._model._needs_features:
            way_out = "; x[:, None] has one feature" if samples.ndim == 1 else ""
            raise ValueError(f"x: expected shape (batch, ...), got {samples.shape}{way_out}")
        return samples

    def _convert(self, x: Any, y: Any, weight: Any) -> tuple[TrainingProgram, Any, Any, Any]:
        """Return the program for such a batch, and its arrays as the program reads them."""
        x = self._samples(x)
        if len(x) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {x.shape}")
        loss = self._loss.suited_to(y)
        program = self._plan(x.shape[1:], loss)
        shape = (len(x), *program.schedule.y.shape)
        y, weight = loss.check(shape, self._model._built().dtype, y, weight)
        self._last = program
        return program, x, y, weight

    def _plan(self, shape: tuple[int, ...], loss: Loss) -> TrainingProgram:
        """Return the program for samples of this shape."""
        key = (shape, loss.target)
        program: TrainingProgram | None = self._plans.get(key)
        if program is None or not program.current:
            self._plans.pop(key, None)
            penalized = self._penalized() if self._l2 else ()
            made = make_program(self._model, shape, loss, self._l2, penalized, self._trained)
            program = self._plans.keep(key, made)
        return program


def _checked(result: Any, pred: Array) -> tuple[float, Array]:
    """Return loss and gradient, or raise unless a loss in Python returned such a pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"loss: expected (loss, gradient), got {describe(result)}")
    loss, gradient = result
    try:
        value = float(loss)
    except (TypeError, ValueError):
        raise TypeError(f"loss: expected a number and a gradient, got {describe(loss)}") from None
    array = as_input(gradient, "gradient", pred.dtype)
    if array.shape != pred.shape:
        raise ValueError(f"gradient: expected shape {pred.shape}, got {array.shape}")
    return value, array
