"""What `Trainer.fit` calls between epochs and batches.

A callback is any object with some of the methods of `Callback`, which finds the trainer in its
attribute `trainer`; or a function ``(epoch, logs)``, which is called after each epoch. `epoch`
counts from 0 and `logs` maps names ("loss", "val_loss", "accuracy", "lr", ...) to numbers; what a
callback adds to it is in the history, and what it adds to the logs of batches is there as a mean
over the epoch. A callback ends the training after the present epoch by
``trainer.stop_training = True``.

>>> from fastnn.callbacks import Callback
>>> class StopAt(Callback):
...     "Stop as soon as the loss is below a threshold."
...     def __init__(self, threshold):
...         self.threshold = threshold
...     def on_epoch_end(self, epoch, logs):
...         if logs["loss"] < self.threshold:
...             self.trainer.stop_training = True
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from contextlib import suppress
from inspect import Parameter, signature
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastnn._door.numbers import at_least_0, boolean, choice, did_you_mean, positive
from fastnn._files import as_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "ModelCheckpoint", "Norms",
    "TerminateOnNaN",
]


def __dir__() -> list[str]:
    return __all__


Logs = MutableMapping[str, float]
Options = Mapping[str, Callable[[str, Any], Any]]  # checks, by the names of attributes
HOOKS = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")

# Names that end so are better when higher; losses and errors are better when lower.
RISING = ("accuracy", "auc", "f1", "precision", "r2", "recall", "score")


class Callback:
    """Base of callbacks: every hook does nothing until overridden.

    Attributes
    ----------
    trainer : Trainer
        The trainer that runs the callback, with its `model` and `optimizer`.
    reason : str
        Why the callback has stopped the training, for people; empty if it has not.

    Examples
    --------
    >>> from fastnn.callbacks import Callback
    >>> class Print(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, logs)
    >>> Print().on_epoch_end(0, {"loss": 0.5})
    0 {'loss': 0.5}
    """

    trainer: Any = None
    reason: str = ""
    # checks of the arguments, which are attributes that may be assigned
    _options: ClassVar[Options] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._options.get(name)
        object.__setattr__(self, name, value if check is None else check(name, value))

    def set_trainer(self, trainer: Any) -> None:
        """Receive the trainer, before any other call."""
        self.trainer = trainer

    def on_train_begin(self) -> None:
        """Run before the first epoch of `fit`."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before each epoch."""

    def on_batch_end(self, step: int, logs: Logs) -> None:
        """Run after each batch, counted from 0 in each epoch, with its loss."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after each epoch and its validation, with the means over the epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch, with its logs."""

    def __repr__(self) -> str:
        """The class with those arguments that are not its defaults."""
        shown = []
        for name, parameter in signature(type(self)).parameters.items():
            value = getattr(self, name, Parameter.empty)
            value = str(value) if isinstance(value, PathLike) else value
            if value is not Parameter.empty and value != parameter.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class _Function(Callback):
    """A function as a callback."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.function(epoch, logs)


class CallbackList:
    """Several callbacks as one; each is called for the hooks that it has, in order.

    Parameters
    ----------
    callbacks : iterable of objects with some of the methods of `Callback`, or of functions
    trainer : Trainer
        Which they find in their attribute `trainer`.
    names : collection of str, optional
        What the logs of an epoch will hold.

    Attributes
    ----------
    follows_batches : bool
        Whether one of them is called after each batch.

    Raises
    ------
    TypeError
        If a callback is neither.
    ValueError
        If one waits for a name that will not be there.

    Examples
    --------
    >>> from fastnn.callbacks import CallbackList
    >>> class Losses(list):
    ...     def on_epoch_end(self, epoch, logs):
    ...         self.append(logs["loss"])
    >>> losses = Losses()
    >>> callbacks = CallbackList([losses], trainer=None)
    >>> callbacks.on_train_begin()
    >>> callbacks.on_epoch_end(0, {"loss": 0.5})
    >>> losses
    [0.5]
    """

    def __init__(
        self, callbacks: Iterable[Any], trainer: Any, names: Collection[str] | None = None
    ) -> None:
        if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
        self._callbacks = [_as_callback(callback) for callback in callbacks]
        for callback in self._callbacks:
            if isinstance(callback, _Monitor) and names is not None:
                callback.expect(names)
            if type(callback).__module__ != __name__ or isinstance(callback, _Function):
                names = None  # it may add any to the logs
        self.follows_batches = any(
            hasattr(callback, "on_batch_end")
            and getattr(type(callback), "on_batch_end", None) is not Callback.on_batch_end
            for callback in self._callbacks
        )
        self._added: dict[str, list[float]] = {}
        for callback in self._callbacks:
            if hasattr(callback, "set_trainer"):
                callback.set_trainer(trainer)
            else:
                with suppress(AttributeError):  # one that has no room for it
                    callback.trainer = trainer

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def on_train_begin(self) -> None:
        """Run before the first epoch."""
        self._call("on_train_begin")

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before each epoch."""
        self._call("on_epoch_begin", epoch)

    def on_batch_end(self, step: int, loss: float) -> None:
        """Run after each batch, counted from 0 in each epoch."""
        if not self.follows_batches:
            return
        logs = {"loss": loss}
        self._call("on_batch_end", step, logs)
        for name in logs.keys() - {"loss"}:
            self._added.setdefault(name, []).append(logs[name])

    def added(self) -> dict[str, float]:
        """Return the means of what was added to the logs of batches since the last call."""
        means = {name: sum(values) / len(values) for name, values in self._added.items()}
        self._added = {}
        return means

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after each epoch."""
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch."""
        self._call("on_train_end", logs)

    @property
    def looks_for_nan(self) -> bool:
        """Whether one of them ends the training when numbers are not finite."""
        return any(isinstance(callback, TerminateOnNaN) for callback in self._callbacks)

    @property
    def best_epoch(self) -> int | None:
        """The best epoch of the first callback that looks for it."""
        found = (c.best_epoch for c in self._callbacks if isinstance(c, _Monitor) and c.monitors)
        best = next(found, -1)
        return None if best < 0 else best

    @property
    def reason(self) -> str:
        """Why the training was stopped, if a callback says so."""
        found = (c.reason for c in self._callbacks if isinstance(c, Callback))
        return next(filter(None, found), "")

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(*arguments)


def _as_callback(callback: Any) -> Any:
    way_out = ""
    if isinstance(callback, type):
        way_out = f"; {callback.__name__}() makes one"
    else:
        if any(callable(getattr(callback, hook, None)) for hook in HOOKS):
            return callback
        if callable(callback):
            return _Function(callback)
    raise TypeError(
        f"callbacks: expected objects with some of {', '.join(HOOKS)}, or functions "
        f"(epoch, logs), got {callback!r}{way_out}"
    )


def _name_in_logs(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a name in the logs, got {value!r}")
    return value


def _path(name: str, value: Any) -> Path:
    from pathlib import Path  # takes as long to import as a tenth of fastnn

    return Path(as_path(value))


class _Monitor(Callback):
    """Follows the best value of one entry of the logs; NaN is never the best."""

    monitor: str
    min_delta: float
    _mode = "auto"
    _options: ClassVar[Options] = {"monitor": _name_in_logs, "min_delta": at_least_0}

    @property
    def monitors(self) -> bool:
        """Whether `monitor` is used."""
        return True

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "monitors":
            raise AttributeError("monitors: cannot be assigned; save_best_only and monitor can")
        super().__setattr__(name, value)
        if name in ("monitor", "mode"):  # the best value so far was that of another
            self._forget()

    @property
    def mode(self) -> str:
        """Whether lower or higher is better: "min" or "max"."""
        if self._mode != "auto":
            return self._mode
        return "max" if self.monitor.endswith(RISING) else "min"

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = choice("mode", mode, ("auto", "min", "max"))

    def _forget(self) -> None:
        self.best, self.best_epoch = math.inf if self.mode == "min" else -math.inf, -1

    def expect(self, names: Collection[str]) -> None:
        """Raise ValueError unless the monitor is among the names."""
        if self.monitors and self.monitor not in names:
            way_out = did_you_mean(self.monitor, names)
            if self.monitor.startswith("val_") and not any(n.startswith("val_") for n in names):
                way_out = "; it needs validation_data or validation_split"
            raise ValueError(
                f"monitor: expected one of {list(names)}, got {self.monitor!r}{way_out}"
            )

    def _improved(self, epoch: int, logs: Logs) -> bool:
        """Compare with the best value so far; keep the present one if it is better."""
        self.expect(logs)
        value = float(logs[self.monitor])
        gain = self.best - value if self.mode == "min" else value - self.best
        better = gain > self.min_delta
        if better:
            self.best, self.best_epoch = value, epoch
        return better


class EarlyStopping(_Monitor):
    """Stop when a quantity has not improved for a number of epochs.

    Parameters
    ----------
    monitor : str
        Name in the logs; "val_loss" needs `validation_data`.
    patience : int
        Epochs in a row without improvement that end the training, at least 1.
    min_delta : float
        A change of no more than this is no improvement; at least 0.
    mode : {"auto", "min", "max"}
        Whether lower or higher is better. "auto": higher for names that end in "accuracy", "auc",
        "f1", "precision", "r2", "recall" or "score", lower for all others.
    restore_best : bool
        Whether to put back the parameters of the best epoch when the training ends, for whatever
        reason. The optimizer's state stays as it is.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value and its epoch, -1 if there was none.
    stopped_epoch : int or None
        The epoch after which the training was stopped.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range; before the training, if `monitor` will
        not be in the logs.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastnn.callbacks import EarlyStopping
    >>> stopping, trainer = EarlyStopping("loss", patience=2), SimpleNamespace()
    >>> stopping.set_trainer(trainer)
    >>> for epoch, loss in enumerate([0.9, 0.5, 0.6, 0.7]):
    ...     stopping.on_epoch_end(epoch, {"loss": loss})
    >>> trainer.stop_training, stopping.best, stopping.best_epoch
    (True, 0.5, 1)
    """

    patience: int
    restore_best: bool
    _options: ClassVar[Options] = {
        **_Monitor._options, "patience": positive, "restore_best": boolean
    }  # fmt: skip

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0,
        mode: str = "auto", restore_best: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.on_train_begin()

    def on_train_begin(self) -> None:
        """Forget an earlier training."""
        self._forget()
        self._waited = 0
        self._parameters: dict[str, np.ndarray] = {}
        self.stopped_epoch: int | None = None
        self.reason = ""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Stop the training if it is time, and remember the parameters if they are the best."""
        if self._improved(epoch, logs):
            self._waited = 0
            if self.restore_best:
                state = self.trainer.model.state_dict()
                self._parameters = {name: np.array(value) for name, value in state.items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = epoch
            self.reason = f"{self.monitor} has not improved for {_count(self._waited)}"
            if self.best_epoch >= 0:
                self.reason += f", best {self.best:.4g} after {_count(self.best_epoch + 1)}"
            self.trainer.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        """Put back the best parameters."""
        if self._parameters:
            self.trainer.model.load_state_dict(self._parameters)


class ModelCheckpoint(_Monitor):
    """Save the trainer after every epoch, or after those that improved a quantity.

    Calling `fit` again does not forget the best value, so a better file is never overwritten.

    Parameters
    ----------
    path : str or path
        Where to save. It may hold fields for the epoch and the logs, as in
        ``"runs/{epoch:03d}-{val_loss:.4f}"``. Missing folders are made.
    monitor, mode : str
        As of `EarlyStopping`; used when `save_best_only`.
    save_best_only : bool
        Whether to save only if `monitor` is better than ever before.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value and its epoch, -1 if there was none; kept when `save_best_only`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range; before the training, if `monitor` or a
        field of `path` will not be in the logs.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastnn.callbacks import ModelCheckpoint
    >>> checkpoint = ModelCheckpoint("best-{epoch}", monitor="loss", save_best_only=True)
    >>> checkpoint.set_trainer(SimpleNamespace(save=print))
    >>> for epoch, loss in enumerate([0.9, 0.5, 0.6, 0.4]):
    ...     checkpoint.on_epoch_end(epoch, {"loss": loss})
    best-0
    best-1
    best-3
    """

    path: Path
    save_best_only: bool
    _options: ClassVar[Options] = {**_Monitor._options, "path": _path, "save_best_only": boolean}

    def __init__(
        self, path: str | PathLike[str], monitor: str = "val_loss", mode: str = "auto",
        save_best_only: bool = False,
    ) -> None:
        super().__init__(monitor, mode)
        self.path, self.save_best_only = path, save_best_only  # type: ignore[assignment]  # converted

    @property
    def monitors(self) -> bool:
        """Whether `monitor` is used."""
        return self.save_best_only

    def expect(self, names: Collection[str]) -> None:
        """Raise ValueError unless the monitor and all fields of the path are among the names."""
        super().expect(names)
        self._filled(0, dict.fromkeys(names, 0.0))

    def _filled(self, epoch: int, logs: Logs) -> Path:
        try:
            return type(self.path)(str(self.path).format(epoch=epoch, **logs))
        except (KeyError, IndexError) as error:
            fields = ["epoch", *logs]
            raise ValueError(f"path: expected fields from {fields}, got {self.path}") from error

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save the trainer if it is time."""
        if self.save_best_only and not self._improved(epoch, logs):
            return
        path = self._filled(epoch, logs)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.trainer.save(path)


class CSVLogger(Callback):
    """Write the logs of each epoch as a row of a CSV file, with the epoch in the first column.

    The columns are those of the first epoch, and of the file if it is continued. Each row is on
    disk when its epoch ends.

    Parameters
    ----------
    path : str or path
    append : bool
        Whether to continue an existing file instead of replacing it.

    Raises
    ------
    OSError
        When the training begins, if the file cannot be written.
    ValueError
        After an epoch, if its logs have an entry without a column.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastnn.callbacks import CSVLogger
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(os.path.join(folder, "log.csv"))
    ...     logger.on_train_begin()
    ...     logger.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.75})
    ...     print(logger.path.read_text())
    epoch,loss,accuracy
    0,0.5,0.75
    <BLANKLINE>
    """

    path: Path
    append: bool
    _options: ClassVar[Options] = {"path": _path, "append": boolean}

    def __init__(self, path: str | PathLike[str], append: bool = False) -> None:
        self.path, self.append = path, append  # type: ignore[assignment]  # converted
        self._writes = True

    def set_trainer(self, trainer: Any) -> None:
        """Receive the trainer; of several ranks the first one writes."""
        super().set_trainer(trainer)
        self._writes = getattr(trainer, "rank", 0) == 0

    def on_train_begin(self) -> None:
        """Open the file, so that a wrong path is found before the first epoch."""
        if not self._writes:
            return
        with self.path.open("a" if self.append else "w", encoding="utf-8"):
            pass

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write one row."""
        if not self._writes:
            return
        row = {"epoch": epoch, **logs}
        with self.path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            columns = next(csv.reader(file), None)
            writer = csv.DictWriter(file, columns or list(row))
            if columns is None:
                writer.writeheader()
            writer.writerow(row)


class Norms(Callback):
    """Record the norms of all parameters and of their gradients, for :func:`fastnn.plot.norms`.

    Parameters
    ----------
    every : int
        Steps from one record to the next.

    Attributes
    ----------
    steps : list of int
        After which steps norms were recorded, counted from 1 over all epochs.
    parameters, gradients : dict of str to list of float
        Euclidean norms by name of the parameter, one for each of `steps`. The gradients are those
        of the step before the update, penalty included; NaN for parameters that are not trained.

    Notes
    -----
    A callback of batches: `fit` goes to Python after each step, which costs some microseconds.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn.callbacks import Norms
    >>> model = fastnn.Linear(2, 1, rng=0)
    >>> trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    >>> record, x = Norms(every=2), np.ones((64, 2))
    >>> _ = trainer.fit(x, x[:, :1], epochs=3, batch_size=32, callbacks=[record])
    >>> record.steps, list(record.gradients)
    ([2, 4, 6], ['weight', 'bias'])
    """

    every: int
    _options: ClassVar[Options] = {"every": positive}

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.on_train_begin()

    def on_train_begin(self) -> None:
        """Forget an earlier training."""
        self._taken = 0
        self.steps: list[int] = []
        self.parameters: dict[str, list[float]] = {}
        self.gradients: dict[str, list[float]] = {}

    def on_batch_end(self, step: int, logs: Logs) -> None:
        """Record the norms if it is time."""
        self._taken += 1
        if self._taken % self.every:
            return
        self.steps.append(self._taken)
        for p in self.trainer.model.parameters():
            moved = p.trainable and p.grad_ready
            gradient = float(np.linalg.norm(p.grad_array)) if moved else math.nan
            self.parameters.setdefault(p.name, []).append(float(np.linalg.norm(p.array)))
            self.gradients.setdefault(p.name, []).append(gradient)


class TerminateOnNaN(Callback):
    """Stop when the loss or the validation loss is NaN or infinite.

    `fit` ends the epoch at the first batch whose loss or gradient is not finite, without a step
    for it: the parameters stay as they were before. For that it looks at every gradient.

    Attributes
    ----------
    stopped_epoch : int or None
        The epoch after which the training was stopped.
    reason : str
        At which step, and which layer first produced a number that is not finite, in which pass:
        ``"loss is nan at step 12: layer 3 (LayerNorm) first produced nan in forward"``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastnn.callbacks import TerminateOnNaN
    >>> guard, trainer = TerminateOnNaN(), SimpleNamespace(stop_training=False)
    >>> guard.set_trainer(trainer)
    >>> guard.on_epoch_end(0, {"loss": float("nan")})
    >>> trainer.stop_training, guard.stopped_epoch
    (True, 0)
    """

    stopped_epoch: int | None = None

    def on_train_begin(self) -> None:
        """Forget an earlier training."""
        self.stopped_epoch, self.reason = None, ""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Stop the training if a loss is not finite."""
        found = [f"{name} is {value}" for name in ("loss", "val_loss")
                 if not math.isfinite(value := logs.get(name, 0.0))]  # fmt: skip
        if reason := getattr(self.trainer, "not_finite", "") or ", ".join(found):
            self.stopped_epoch, self.reason = epoch, reason
            self.trainer.stop_training = True


def _count(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs != 1 else ''}"
