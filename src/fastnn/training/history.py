"""What `Trainer.fit` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from fastnn._door.numbers import real
from fastnn.callbacks import RISING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]


class History:
    """The losses and metrics of a training, epoch by epoch.

    Attributes
    ----------
    history : dict of str to list of float
        One entry per epoch under each name: "loss", "val_loss", "accuracy", "val_accuracy", the
        learning rate "lr", what callbacks have added, ... NaN for an epoch that lacks it.
    epoch : list of int
        The numbers of the epochs, from 0.
    stopped_epoch : int or None
        The epoch after which a callback stopped the training.
    best_epoch : int or None
        The best epoch of a callback that looks for it, such as `EarlyStopping`.
    reason : str
        Why the training was stopped, if that is known.

    Examples
    --------
    >>> import fastnn
    >>> history = fastnn.History()
    >>> history.append(0, {"loss": 0.5})
    >>> history.append(1, {"loss": 0.25})
    >>> history.history, history.epoch
    ({'loss': [0.5, 0.25]}, [0, 1])
    >>> history["loss"], list(history)
    ([0.5, 0.25], ['loss'])
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.stopped_epoch: int | None = None
        self.best_epoch: int | None = None
        self.reason = ""

    def __getitem__(self, name: str) -> list[float]:
        """Return the values of a name, one per epoch."""
        if name not in self.history:
            raise KeyError(f"name: expected one of {list(self.history)}, got {name!r}")
        return self.history[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.history)

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the logs of one epoch."""
        self.epoch.append(epoch)
        for values in self.history.values():
            values.append(nan)
        self.amend(logs)

    def amend(self, logs: Mapping[str, Any]) -> None:
        """Take the logs of the last epoch for what they are now.

        Raises
        ------
        TypeError
            If one is no number.
        """
        for name, value in logs.items():
            if name not in self.history:
                self.history[name] = [nan] * len(self.epoch)
            if type(value) is not float:
                value = real(f"logs[{name!r}]", value)
            self.history[name][-1] = value

    def plot(self, quantities: Sequence[str] | None = None, ax: Any = None) -> Figure:
        """Draw the learning curves with :func:`fastnn.plot.learning_curves`.

        Parameters
        ----------
        quantities : sequence of str, optional
            What to draw, such as ["loss"]; all by default.
        ax : matplotlib.axes.Axes or sequence of them, optional
            One for each quantity.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no epoch to draw.
        """
        from fastnn.plot import learning_curves

        return learning_curves(self, quantities, ax)

    def _repr_html_(self) -> str:
        from fastnn.introspection.html import of_history

        return of_history(self, RISING)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        stopped = f", stopped: {self.reason}" if self.reason else ""
        return f"History({len(self.epoch)} epochs{', last: ' + last if last else ''}{stopped})"
