"""How `Trainer.fit` shows its progress."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

from fastnn._door.numbers import boolean, choice

__all__ = ["ProgressBar", "kind_of_progress"]

Kind = bool | str
KINDS = ("auto", "epochs")  # besides True and False

# What a bar shows, from all to least: the first that leaves room for it. {bar} is the bar itself.
FORMATS = (
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]",
    "{l_bar}{bar}| {elapsed}{postfix}",
)
LEAST = 10  # columns of a bar


def kind_of_progress(name: str, value: Any) -> Kind:
    """Return what to show, or raise TypeError or ValueError unless it can be."""
    kind: Kind = choice(name, value, KINDS) if isinstance(value, str) else boolean(name, value)
    return kind


class ProgressBar:
    """What `fit` shows: a bar if tqdm is installed, else a line for each epoch.

    Parameters
    ----------
    stream : file
        If not given, standard error, and in notebooks standard output.
    kind : {"auto", True, "epochs"}
        "auto": on terminals and in notebooks, and nothing elsewhere; True: elsewhere a line for
        each epoch; "epochs": such a line everywhere.

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

    def __init__(self, stream: TextIO | None = None, kind: Kind = "auto") -> None:
        self.enabled = False
        self._stream, self._kind = stream, kind
        self._bar: Any = None

    def start(self, epochs: int, steps_per_epoch: int) -> None:
        """Begin to show `epochs` epochs of `steps_per_epoch` steps."""
        file = sys.stderr if self._stream is None else self._stream
        self._notebook = type(file).__module__.startswith("ipykernel.")
        if self._notebook and self._stream is None:
            file = sys.stdout  # what goes to standard error looks like one there
        seen = file is not None and (self._notebook or file.isatty())
        self.enabled = file is not None and (seen or self._kind != "auto")
        if not self.enabled:
            return
        self._file = file
        self._epochs, self._steps = epochs, steps_per_epoch
        self._epoch = self._done = self._width = 0
        self._logs: Mapping[str, float] = {}
        self._began = self._drawn = time.monotonic()
        if not seen or self._kind == "epochs":
            return
        try:
            if self._notebook:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that without ipywidgets it is text
                    from tqdm.auto import tqdm
            else:
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
            self._write(f"{title}: {_text(logs)} ({seconds:.2f} s)")
            self._began = now
        self._epoch = epoch + 1

    def close(self, last_words: str = "") -> None:
        """End the display; what was shown last stays, and is followed by `last_words`."""
        if self._bar is not None:
            self._draw()
            self._bar.close()
        if self.enabled and self._width:
            print(file=self._file, flush=True)
        if self.enabled and last_words:
            print(last_words, file=self._file, flush=True)
        self._bar, self.enabled = None, False

    def _write(self, line: str) -> None:
        """Write a line for an epoch; in a notebook over the one before, but for "epochs"."""
        if self._notebook and self._kind != "epochs":
            print(f"\r{line:<{self._width}}", end="", file=self._file, flush=True)
            self._width = len(line)
        else:
            print(line, file=self._file, flush=True)

    def _draw_sometimes(self) -> None:
        now = time.monotonic()
        if now >= self._drawn + self._interval:
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        bar = self._bar
        bar.n = self._done
        epoch = -(-self._done // self._steps)
        bar.set_description_str(f"epoch {epoch}/{self._epochs}", refresh=False)
        bar.set_postfix_str(_text(self._logs), refresh=False)
        if not hasattr(bar, "container"):  # text, and no widget of a notebook
            bar.ncols = self._columns()
            bar.bar_format = self._format(bar)
        bar.refresh()

    def _columns(self) -> int:
        """Return how wide the terminal is."""
        try:
            return os.get_terminal_size(self._file.fileno()).columns - 1
        except (OSError, ValueError, AttributeError):
            return int(os.environ.get("COLUMNS") or 80) - 1

    @staticmethod
    def _format(bar: Any) -> str:
        """Return the fullest format that leaves room for the bar."""
        for form in FORMATS:
            rest = bar.format_meter(**(bar.format_dict | {"bar_format": form.replace("{bar}", "")}))
            if len(rest) + LEAST <= bar.ncols:
                break
        return form


def _text(logs: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in logs.items())
