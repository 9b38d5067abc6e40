"""What `Trainer.fit` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]


class History:
    """The losses and metrics of a training, epoch by epoch.

    Attributes
    ----------
    history : dict of str to list of float
        One entry per epoch under each name: "loss", "val_loss", "accuracy", "val_accuracy", ...
    epoch : list of int
        The numbers of the epochs, from 0.

    Examples
    --------
    >>> import fastnn
    >>> history = fastnn.History()
    >>> history.append(0, {"loss": 0.5})
    >>> history.append(1, {"loss": 0.25})
    >>> history.history, history.epoch
    ({'loss': [0.5, 0.25]}, [0, 1])
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the logs of one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def plot(self) -> Figure:
        """Draw the learning curves with :func:`fastnn.plot.learning_curves`.

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

        return learning_curves(self)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs{', last: ' + last if last else ''})"
