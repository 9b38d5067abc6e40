"""What a trainer is told: its attributes, their checks, and copies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._door.numbers import (
    at_least_0,
    boolean,
    choice,
    did_you_mean,
    generator,
    limit,
    positive,
)
from fastnn._kernels.training_program import TrainingProgram
from fastnn._planning.carried import CarriedState, State
from fastnn._planning.moment import state_of_one_moment, without_moment
from fastnn.distributed.group import group_of
from fastnn.layers.activation import Sigmoid, Softmax
from fastnn.layers.base import Layer
from fastnn.layers.container import Sequential
from fastnn.layers.model import Recent
from fastnn.layers.parameter import Parameter
from fastnn.losses import resolve
from fastnn.losses.loss import Loss
from fastnn.optim import Optimizer
from fastnn.training.accumulation import Accumulation
from fastnn.training.history import History

__all__ = ["LossFunction", "Trainer"]

LossFunction = Callable[..., Any]

_TAKE_LOGITS = ("binary_cross_entropy_with_logits", "cross_entropy")
_DEFAULTS = {
    "l2": 0.0, "l2_on": "weights", "clip_norm": None, "clip_value": None, "accumulate": 1,
    "precision": "float32", "stateful": False, "comm": None, "sync_batchnorm": False,
}  # fmt: skip


class Trainer:
    """The attributes of a trainer; see :class:`fastnn.Trainer`, whose name it has for messages.

    Each takes effect at the next step or is refused. Programs are planned at the first batch of
    their shape, and again when the model or what they depend on has changed.
    """

    __slots__ = (
        "__weakref__", "_abandoned", "_accumulate", "_accumulation", "_alone", "_carried",
        "_clip_norm", "_clip_value", "_comm", "_group", "_history", "_joint_total", "_l2", "_l2_on",
        "_last", "_loss", "_model", "_not_finite", "_optimizer", "_plans", "_precision", "_rng",
        "_started", "_stateful", "_stop_training", "_sync_batchnorm", "_trained",
    )  # fmt: skip
    _accumulate: int
    _loss: Any  # a Loss or a function in Python
    _l2_on: str

    def __init__(
        self,
        model: Layer,
        loss: str | Loss | LossFunction,
        optimizer: Optimizer | None,
        *,
        l2: float = 0.0,
        l2_on: str = "weights",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        precision: str = "float32",
        comm: Any = None,
        stateful: bool = False,
        sync_batchnorm: bool = False,
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
        self._model, self._comm, self._group = model, comm, group_of(comm)
        self._started, self._joint_total = False, 0.0
        self._sync_batchnorm = boolean("sync_batchnorm", sync_batchnorm)
        self._stateful = boolean("stateful", stateful)
        self._carried, self._accumulation = CarriedState(), Accumulation()
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
        self._l2, self._precision = 0.0, "float32"
        self._loss = self._resolved(loss)
        self.l2, self.l2_on = l2, l2_on
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.accumulate, self.optimizer, self.precision = accumulate, optimizer, precision
        self._stop_training, self._history, self._not_finite = False, History(), ""
        self._abandoned = False  # by those who began it, in another thread
        _expect_logits(model, self._loss, 3)

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            object.__setattr__(self, name, value)
        except AttributeError:
            kind = getattr(type(self), name, None)
            if kind is None:
                known = [key for key in dir(type(self)) if not key.startswith("_")]
                raise AttributeError(
                    f"{name}: a Trainer has no such attribute{did_you_mean(name, known)}"
                ) from None
            if isinstance(kind, property) and kind.fset is None:
                of_fit = name in ("history", "not_finite")
                way_out = "each fit begins a new one" if of_fit else "make a new Trainer"
                raise AttributeError(f"{name}: expected to stay as it is; {way_out}") from None
            raise

    def __repr__(self) -> str:
        parts = [repr(self._model), f"loss={self._loss!r}", f"optimizer={self._optimizer!r}"]
        for name, default in _DEFAULTS.items():
            if (value := getattr(self, name)) != default:
                parts.append(f"{name}={value!r}")
        inside = ",\n".join(parts).replace("\n", "\n    ")
        return f"Trainer(\n    {inside},\n)"

    def _repr_html_(self) -> str:
        from fastnn.introspection.html import of_trainer

        options = {name: getattr(self, name) for name in _DEFAULTS}
        return of_trainer(
            self, {name: value for name, value in options.items() if value != _DEFAULTS[name]}
        )

    def invalidate(self) -> None:
        """Plan anew before the next step."""
        self._plans, self._last = Recent(), None
        if self._optimizer is not None:
            self._trained = frozenset(self._parameters_of(self._optimizer))

    # That stay -------------------------------------------------------------------------------

    @property
    def model(self) -> Layer:
        """The model."""
        return self._model

    @property
    def comm(self) -> Any:
        """The processes that train together."""
        return self._comm

    @property
    def rank(self) -> int:
        """The number of this process among those of `comm`, from 0."""
        return 0 if self._group is None else self._group.rank

    @property
    def sync_batchnorm(self) -> bool:
        """Whether BatchNorm has the statistics of the batches of all processes."""
        return self._sync_batchnorm

    @property
    def stateful(self) -> bool:
        """Whether sequences go on from batch to batch."""
        return self._stateful

    @property
    def history(self) -> History:
        """The history of the last `fit`."""
        return self._history

    @property
    def not_finite(self) -> str:
        """What was not finite in the last `fit`, if that looked for it; empty if nothing was."""
        return self._not_finite

    # That count from the next step on --------------------------------------------------------

    @property
    def loss(self) -> Any:
        """The loss, resolved; a name may be assigned too."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss | LossFunction) -> None:
        self._loss = self._resolved(loss)
        self.invalidate()
        _expect_logits(self._model, self._loss, 4)

    def _resolved(self, loss: Any) -> Any:
        loss = resolve(loss)
        if self._sync_batchnorm and not isinstance(loss, Loss):
            raise ValueError(
                "loss: expected one of fastnn.losses with sync_batchnorm=True, got "
                f"{describe(loss)}"
            )
        return loss

    @property
    def l2(self) -> float:
        """Factor of the penalty on the parameters."""
        return self._l2

    @l2.setter
    def l2(self, l2: float) -> None:
        before, self._l2 = self._l2, at_least_0("l2", l2)
        if before and l2 and self._group is None:  # the penalty is planned already
            if not isinstance(self._loss, Loss):
                return
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

    def _trained_parameters(self) -> list[Parameter]:
        """Return the parameters that are trained."""
        return [
            parameter
            for parameter in self._model.parameters()
            if parameter.trainable and (self._trained is None or parameter in self._trained)
        ]

    def _penalized(self) -> list[Parameter]:
        """Return the parameters that the penalty is on."""
        all_of_them = self._l2_on == "all"
        return [p for p in self._model.parameters() if all_of_them or len(p.shape) > 1]

    @property
    def precision(self) -> str:
        """What products read their operands as, in training and in predictions."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        choice("precision", precision, ("float32", "bfloat16"))
        if precision == self._precision:
            return
        if (dtype := self._model._built().dtype) != np.float32:
            raise ValueError(
                f'precision: expected "float32", the default, for a model of {dtype}, got '
                f'{precision!r}; a model made with dtype="float32" may have either'
            )
        self._precision = precision
        self.invalidate()

    @property
    def clip_norm(self) -> float | None:
        """Largest norm of all gradients."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, clip_norm: float | None) -> None:
        self._clip_norm = None if clip_norm is None else limit("clip_norm", clip_norm)

    @property
    def clip_value(self) -> float | None:
        """Largest size of an element of a gradient."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, clip_value: float | None) -> None:
        self._clip_value = None if clip_value is None else limit("clip_value", clip_value)

    @property
    def accumulate(self) -> int:
        """How many batches there are for an update."""
        return self._accumulate

    @accumulate.setter
    def accumulate(self, accumulate: int) -> None:
        self._accumulate = positive("accumulate", accumulate)
        self._note_how_to_step()

    def _note_how_to_step(self) -> None:
        """Note whether a step is one run, with the update."""
        waiting = self._accumulate > 1 or self._accumulation.count > 0
        self._alone = not waiting and self._group is None

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, or None."""
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
    def stop_training(self) -> bool:
        """Whether `fit` ends after the present epoch."""
        return self._stop_training

    @stop_training.setter
    def stop_training(self, stop_training: bool) -> None:
        self._stop_training = boolean("stop_training", stop_training)

    @property
    def rng(self) -> np.random.Generator:
        """The stream of random numbers that shuffles; the model's own stream gives its seed."""
        if self._rng is None:
            self._model._built()
            stream = self._model._stream
            assert stream is not None
            self._rng = np.random.default_rng(stream.integers(2**63))
        return self._rng

    @rng.setter
    def rng(self, rng: Any) -> None:
        self._rng = generator(rng)

    @property
    def state(self) -> State:
        """Where the sequences of a trainer with ``stateful=True`` stand, as copies.

        ``(h, c)`` of the recurrent layer, each (layers, batch, hidden_size); of several layers a
        tuple of such pairs. None before the first batch. What is assigned is what the next batch
        goes on from; None lets new sequences begin.
        """
        self._expect_stateful()
        with self._model._built().lock:
            return self._carried.state(self._model)

    @state.setter
    def state(self, state: State) -> None:
        self._expect_stateful()
        with self._model._built().lock:
            self._carried.set_state(self._model, state)

    def _expect_stateful(self) -> None:
        if not self._stateful:
            raise AttributeError("state: expected a Trainer with stateful=True, got one without")

    def reset_state(self) -> None:
        """Begin new sequences with the next step, in a trainer with ``stateful=True``."""
        with self._model._built().lock:
            self._carried.reset()

    # Copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy.deepcopy take: model, optimizer and all else of one step."""
        return state_of_one_moment(self, self._model._built().lock, self._pieces)

    def _pieces(self) -> list[Any]:
        found = [self, *self._model._pieces()]
        return found if self._optimizer is None else [*found, self._optimizer]

    def _own_state(self) -> dict[str, Any]:
        """Leave out plans."""
        return {
            "model": self._model, "loss": self._loss, "optimizer": self._optimizer, "l2": self._l2,
            "l2_on": self._l2_on, "clip_norm": self._clip_norm, "clip_value": self._clip_value,
            "accumulate": self._accumulate, "precision": self._precision,
            "comm": self._comm, "stateful": self._stateful,
            "sync_batchnorm": self._sync_batchnorm, "_accumulation": copy.copy(self._accumulation),
            "_carried": copy.copy(self._carried), "_rng": self.rng, "_history": self._history,
            "_stop_training": self._stop_training,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = without_moment(state)
        model, loss, optimizer = (state.pop(name) for name in ("model", "loss", "optimizer"))
        private = {name: state.pop(name) for name in list(state) if name.startswith("_")}
        with warnings.catch_warnings():  # of what has been said when the original was made
            warnings.simplefilter("ignore")
            Trainer.__init__(self, model, loss, optimizer, **state)
        for name, value in private.items():
            setattr(self, name, value)
        self._note_how_to_step()


def _expect_logits(model: Layer, loss: Any, stacklevel: int) -> None:
    """Warn of a loss with a softmax or sigmoid of its own behind another."""
    if not isinstance(loss, Loss) or loss.name not in _TAKE_LOGITS:
        return
    last = model
    while isinstance(last, Sequential) and last.layers:
        last = last.layers[-1]
    if isinstance(last, (Softmax, Sigmoid)):
        warnings.warn(
            f"{loss.name} takes logits and has a softmax or sigmoid of its own, but the model ends "
            f"in {last!r}, which makes it learn slowly and badly; leave that layer out, and apply "
            "it to predictions",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
