"""What `Trainer.fit` calls between epochs, and how it shows its progress.

A callback is any object with ``on_epoch_end(epoch, logs)``; `epoch` counts from 0 and `logs` maps
names ("loss", "val_loss", "accuracy", ...) to numbers. It may have the other methods of `Callback`
too. A callback ends the training after the present epoch by ``trainer.stop_training = True``.

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
import sys
import time
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fastnn._door.numbers import at_least_0, boolean, choice, did_you_mean, positive

__all__ = [
    "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "ModelCheckpoint", "ProgressBar",
    "TerminateOnNaN",
]


def __dir__() -> list[str]:
    return __all__


Logs = Mapping[str, float]

# Names that end so are better when higher; losses and errors are better when lower.
RISING = ("accuracy", "auc", "f1", "precision", "r2", "recall", "score")


class Callback:
    """Base of callbacks: every hook does nothing until overridden.

    Attributes
    ----------
    trainer : Trainer
        The trainer that runs the callback, with its `model` and `optimizer`.

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

    def set_trainer(self, trainer: Any) -> None:
        """Receive the trainer, before any other call."""
        self.trainer = trainer

    def on_train_begin(self) -> None:
        """Run before the first epoch of `fit`."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before each epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after each epoch and its validation, with the means over the epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch, with its logs."""


class CallbackList:
    """Several callbacks as one; each is called for the hooks that it has, in order.

    Parameters
    ----------
    callbacks : iterable of objects with ``on_epoch_end(epoch, logs)``
    trainer : Trainer
        Given to those that have ``set_trainer``.

    Raises
    ------
    TypeError
        If a callback has no method ``on_epoch_end``.

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

    def __init__(self, callbacks: Iterable[Any], trainer: Any) -> None:
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if isinstance(callback, type) or not callable(getattr(callback, "on_epoch_end", None)):
                wanted = "objects with on_epoch_end(epoch, logs)"
                raise TypeError(f"callbacks: expected {wanted}, got {callback!r}")
        self._call("set_trainer", trainer)

    def on_train_begin(self) -> None:
        """Run before the first epoch."""
        self._call("on_train_begin")

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before each epoch."""
        self._call("on_epoch_begin", epoch)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after each epoch."""
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch."""
        self._call("on_train_end", logs)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(*arguments)


class _Monitor(Callback):
    """Follows the best value of one entry of the logs; NaN is never the best."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: expected a name in the logs, got {monitor!r}")
        choice("mode", mode, ("auto", "min", "max"))
        if mode == "auto":
            mode = "max" if monitor.endswith(RISING) else "min"
        self.monitor, self.mode = monitor, mode
        self.min_delta = at_least_0("min_delta", min_delta)
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch = math.inf if self.mode == "min" else -math.inf, -1

    def _improved(self, epoch: int, logs: Logs) -> bool:
        """Compare with the best value so far; keep the present one if it is better."""
        if self.monitor not in logs:
            validated = any(name.startswith("val_") for name in logs)
            way_out = did_you_mean(self.monitor, logs)
            if self.monitor.startswith("val_") and not validated:
                way_out = "; it needs validation_data"
            raise ValueError(
                f"monitor: expected one of {list(logs)}, got {self.monitor!r}{way_out}"
            )
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
        If an argument is of the wrong type or out of range. After an epoch, if its logs lack
        `monitor`.

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

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0,
        mode: str = "auto", restore_best: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience: int = positive("patience", patience)
        self.restore_best: bool = boolean("restore_best", restore_best)
        self.on_train_begin()

    def on_train_begin(self) -> None:
        """Forget an earlier training."""
        self._forget()
        self._waited = 0
        self._parameters: dict[str, np.ndarray] = {}
        self.stopped_epoch: int | None = None

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
        If an argument is of the wrong type or out of range. After an epoch, if its logs lack
        `monitor` or a field of `path`.

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

    def __init__(
        self, path: str | PathLike[str], monitor: str = "val_loss", mode: str = "auto",
        save_best_only: bool = False,
    ) -> None:
        super().__init__(monitor, mode)
        self.path, self.save_best_only = Path(path), boolean("save_best_only", save_best_only)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save the trainer if it is time."""
        if self.save_best_only and not self._improved(epoch, logs):
            return
        try:
            path = Path(str(self.path).format(epoch=epoch, **logs))
        except (KeyError, IndexError) as error:
            fields = ["epoch", *logs]
            raise ValueError(f"path: expected fields from {fields}, got {self.path}") from error
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

    def __init__(self, path: str | PathLike[str], append: bool = False) -> None:
        self.path, self.append = Path(path), boolean("append", append)

    def on_train_begin(self) -> None:
        """Open the file, so that a wrong path is found before the first epoch."""
        with self.path.open("a" if self.append else "w", encoding="utf-8"):
            pass

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write one row."""
        row = {"epoch": epoch, **logs}
        with self.path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            columns = next(csv.reader(file), None)
            writer = csv.DictWriter(file, columns or list(row))
            if columns is None:
                writer.writeheader()
            writer.writerow(row)


class TerminateOnNaN(Callback):
    """Stop when the loss or the validation loss is NaN or infinite.

    Attributes
    ----------
    stopped_epoch : int or None
        The epoch after which the training was stopped.

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
        self.stopped_epoch = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Stop the training if a loss is not finite."""
        if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "val_loss")):
            self.stopped_epoch = epoch
            self.trainer.stop_training = True


class ProgressBar:
    """What `fit` shows on a terminal: a bar if tqdm is installed, else a line for each epoch.

    Shows nothing when the stream is not a terminal.

    Parameters
    ----------
    stream : file
        Standard error if not given.

    Attributes
    ----------
    enabled : bool
        Whether anything is shown; if not, `update` need not be called.

    Examples
    --------
    >>> import io
    >>> from fastnn.callbacks import ProgressBar
    >>> progress = ProgressBar(io.StringIO())
    >>> progress.start(epochs=2, steps_per_epoch=100)
    >>> progress.enabled
    False
    """

    _interval = 0.1  # least seconds between two drawings of the bar

    def __init__(self, stream: TextIO | None = None) -> None:
        self.enabled = False
        self._stream = stream
        self._bar: Any = None

    def start(self, epochs: int, steps_per_epoch: int) -> None:
        """Begin to show `epochs` epochs of `steps_per_epoch` steps."""
        self._file = sys.stderr if self._stream is None else self._stream
        self.enabled = self._file is not None and self._file.isatty()
        if not self.enabled:
            return
        self._epochs, self._steps = epochs, steps_per_epoch
        self._epoch = self._done = 0
        self._logs: Logs = {}
        self._began = self._drawn = time.monotonic()
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=epochs * steps_per_epoch, unit="step", file=self._file)

    def update(self, steps_done: int, loss: float) -> None:
        """Show that `steps_done` steps of the present epoch are done, with the loss so far."""
        if self._bar is not None:
            self._done, self._logs = self._epoch * self._steps + steps_done, {"loss": loss}
            self._draw_sometimes()

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        """Show the logs of an epoch, counted from 0, and go on to the next."""
        if self._bar is not None:
            self._done, self._logs = (epoch + 1) * self._steps, dict(logs)
            self._draw_sometimes()
        elif self.enabled:
            now = time.monotonic()
            title, seconds = f"epoch {epoch + 1}/{self._epochs}", now - self._began
            print(f"{title}: {_text(logs)} ({seconds:.2f} s)", file=self._file, flush=True)
            self._began = now
        self._epoch = epoch + 1

    def close(self) -> None:
        """End the display; what was shown last stays."""
        if self._bar is not None:
            self._draw()
            self._bar.close()
        self._bar, self.enabled = None, False

    def _draw_sometimes(self) -> None:
        now = time.monotonic()
        if now >= self._drawn + self._interval:
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        self._bar.n = self._done
        epoch = -(-self._done // self._steps)
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(_text(self._logs), refresh=True)


def _text(logs: Logs) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in logs.items())
