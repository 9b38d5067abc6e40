"""How `Trainer.fit` shows its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["ProgressBar"]


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
    >>> from fastnn.training.progress import ProgressBar
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
        self._logs: Mapping[str, float] = {}
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

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
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

    def close(self, last_words: str = "") -> None:
        """End the display; what was shown last stays, and is followed by `last_words`."""
        if self._bar is not None:
            self._draw()
            self._bar.close()
        if self.enabled and last_words:
            print(last_words, file=self._file, flush=True)
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


def _text(logs: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in logs.items())
