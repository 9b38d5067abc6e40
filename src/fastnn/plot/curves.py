"""What goes on over epochs and steps: learning curves, norms, schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import schedules
from fastnn._door.arrays import describe
from fastnn._door.numbers import choice, positive
from fastnn.callbacks import RISING, Norms
from fastnn.plot.style import (
    MARKERS,
    ink,
    line_styles,
    new_axes,
    palette,
    panels_for,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["learning_curves", "norms", "schedule_values"]

Curves = Mapping[str, Sequence[float]]


def learning_curves(
    history: Any, quantities: Sequence[str] | None = None, ax: Any = None
) -> Figure:
    """Draw each quantity of a training against the epoch, training beside validation.

    Parameters
    ----------
    history : History, mapping of str to sequence of float, or several of them
        What `Trainer.fit` returns, or its `history`. "val_loss" shares a panel with "loss", and so
        on; the best validation epoch is marked. Several, a mapping of names to histories or a list,
        are drawn in one picture to be compared.
    quantities : sequence of str, optional
        What to draw, without ``"val_"``; all by default, but for a learning rate that stays.
    ax : matplotlib.axes.Axes or sequence of them, optional
        One for each quantity. A single one is for the loss unless `quantities` says what.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel for each quantity.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `history` is none of these.
    ValueError
        If there is nothing to draw, a quantity is not there, or `ax` are not as many.

    Notes
    -----
    The loss of training is a mean over the epoch, while the parameters move, and stands at its
    middle; what is measured after the epoch stands at its end, and the learning rate at its
    beginning. A loss that falls by more than a factor of 100 gets a logarithmic axis, a learning
    rate by more than 10.

    Examples
    --------
    >>> from fastnn import plot
    >>> figure = plot.learning_curves({"loss": [0.9, 0.4, 0.2], "val_loss": [1.0, 0.5, 0.6]})
    >>> figure.axes[0].get_ylabel()
    'loss'
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['training', 'validation', 'best: 0.5, epoch 2']
    """
    runs = _runs(history)
    known = list(dict.fromkeys(
        name.removeprefix("val_") for curves in runs.values() for name in curves
    ))  # fmt: skip
    if not known:
        raise ValueError("history: expected at least one quantity, got an empty history")
    names = list(quantities) if quantities is not None else known
    if quantities is None:
        if "lr" in names and all(len(set(curves.get("lr", ()))) <= 1 for curves in runs.values()):
            names.remove("lr")  # nothing to see
        if ax is not None and np.ndim(np.asarray(ax, object)) == 0:
            names = names[:1]
    for name in names:
        choice("quantities", name, known)
    figure, panels = panels_for(len(names), ax, columns=4)
    for panel, name in zip(panels, names, strict=True):
        _draw_quantity(panel, name, runs)
    return figure


def _runs(history: Any) -> dict[str, Curves]:
    """Return the curves of one or several trainings by name; the name of one is empty."""
    curves = getattr(history, "history", history)
    if isinstance(curves, Mapping):
        if not any(hasattr(v, "history") or isinstance(v, Mapping) for v in curves.values()):
            return {"": curves}
        several = curves
    elif isinstance(curves, Iterable) and not isinstance(curves, str):
        several = {f"run {i}": run for i, run in enumerate(curves, 1)}
    else:
        raise TypeError(f"history: expected a History, got {describe(history)}")
    runs: dict[str, Any] = {
        str(name): getattr(run, "history", run) for name, run in several.items()
    }
    for name, run in runs.items():
        if not isinstance(run, Mapping):
            raise TypeError(f"history[{name!r}]: expected a History, got {describe(run)}")
    return runs


def _draw_quantity(ax: Any, name: str, runs: Mapping[str, Curves]) -> None:
    drawn = []
    one = len(runs) == 1
    for i, (run, curves) in enumerate(runs.items()):
        training = np.asarray(curves.get(name, ()), float)
        validation = np.asarray(curves.get("val_" + name, ()), float)
        both = len(training) > 0 and len(validation) > 0
        color = palette(ax)[i % len(palette(ax))]
        before = {"loss": 0.5, "lr": 1.0}.get(name, 0.0)
        for values, shift, held_out in (training, before, False), (validation, 0.0, True):
            if not len(values):
                continue
            epochs = np.arange(1, len(values) + 1) - shift
            label = ("validation" if held_out else "training") if one else run
            look: dict[str, Any] = {"color": palette(ax)[held_out] if one else color}
            if both and not one and not held_out:  # thin and dashed beside its validation
                look |= {"linestyle": "--", "alpha": 0.6, "linewidth": 1.1}
                label = ""
            lonely = len(values) == 1
            ax.plot(epochs, values, label=label or "_", marker="o" if lonely else None, **look)
            drawn.append(values[np.isfinite(values)])
        if np.isfinite(validation).any():
            best = _best(validation, name.endswith(RISING))
            value = f"best: {validation[best]:.4g}, epoch {best + 1}"
            ax.plot(best + 1, validation[best], MARKERS[i % len(MARKERS)], zorder=3, markersize=7,
                    color=palette(ax)[1] if one else color, markeredgecolor=ax.get_facecolor(),
                    label=value if one else f"{run}, {value}")  # fmt: skip
    values = np.concatenate([np.empty(0), *drawn])
    positive = values.size and values.min() > 0
    factor = 10 if name == "lr" else 100
    if positive and factor * values.min() < values.max():
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel="learning rate" if name == "lr" else name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if any(not label.startswith("_") for label in ax.get_legend_handles_labels()[1]):
        if not one and any("val_" + name in curves for curves in runs.values()):
            ax.plot([], [], "--", color=ink(ax), alpha=0.6, linewidth=1.1, label="training")
        ax.legend(fontsize="small", frameon=False)


def _best(values: np.ndarray, rising: bool) -> int:
    return int(np.nanargmax(values) if rising else np.nanargmin(values))


def norms(record: Any, ax: Any = None) -> Figure:
    """Draw how the norms of parameters and of their gradients go over the steps of a training.

    Parameters
    ----------
    record : fastnn.callbacks.Norms
        After a training that it was a callback of.
    ax : sequence of matplotlib.axes.Axes, optional
        Two: for the parameters and for the gradients.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `record` is something else.
    ValueError
        If nothing has been recorded, or `ax` are not two.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> from fastnn.callbacks import Norms
    >>> model = fastnn.Sequential(fastnn.Linear(1, 8), fastnn.Tanh(), fastnn.Linear(8, 1), rng=0)
    >>> trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    >>> record, x = Norms(), np.linspace(-1, 1, 64)[:, None]
    >>> _ = trainer.fit(x, x**2, epochs=5, callbacks=[record], rng=0)
    >>> figure = plot.norms(record)
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['norm of parameter', 'norm of gradient']
    """
    if not isinstance(record, Norms):
        raise TypeError(f"record: expected a callback Norms, got {describe(record)}")
    if not len(record.steps):
        raise ValueError("record: expected the norms of a training, got none yet")
    figure, (left, right) = panels_for(2, ax, columns=2, size=(5.2, 3.6))
    looks = line_styles(left, len(record.parameters))
    for panel, values, of in (
        (left, record.parameters, "parameter"), (right, record.gradients, "gradient")
    ):
        for (name, series), look in zip(values.items(), looks, strict=True):
            dots = "o" if len(series) == 1 else None
            panel.plot(record.steps, _positive(series), label=name, marker=dots, **look)
        panel.set(xlabel="step", ylabel=f"norm of {of}", yscale="log")
    right.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize="small", frameon=False)
    return figure


def _positive(values: Sequence[float]) -> np.ndarray:
    """Return values for a logarithmic axis, with gaps at 0."""
    array = np.asarray(values, float)
    return np.where(array > 0, array, np.nan)


def schedule_values(
    schedule: Any, steps: int, ax: Axes | None = None, label: str | None = None
) -> Axes:
    """Draw the values of a schedule, or any callable of the step, at steps 0 to `steps` - 1.

    Parameters
    ----------
    schedule : callable, or mapping of str to callable
        Several are drawn under their names.
    steps : int
    ax : matplotlib.axes.Axes, optional
    label : str, optional
        Name in the legend; by default that of the formula, and its numbers.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastnn import plot, schedules
    >>> ax = plot.schedule_values(schedules.exponential_decay(0.1, k=0.01), 300)
    >>> ax = plot.schedule_values(schedules.cosine_decay(0.1, steps=300), 300, ax=ax)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['exponential_decay(0.1, 0.01)', 'cosine_decay(0.1, 300)']
    """
    steps = positive("steps", steps)
    several: Mapping[str, Callable[[int], float]]
    if isinstance(schedule, Mapping):
        several = schedule
    else:
        several = {_short(schedule) if label is None else label: schedule}
    for function in several.values():
        if not callable(function):
            raise TypeError(f"schedule: expected a schedule, got {describe(function)}")
    ax = new_axes(figsize=(7.6, 3.6)) if ax is None else ax
    before = len(ax.lines)
    looks = line_styles(ax, before + len(several))[before:]
    for (name, function), look in zip(several.items(), looks, strict=True):
        values = np.array([function(step) for step in range(steps)])
        ax.plot(values, label=name, **look)
    ax.set(xlabel="step", ylabel="value")
    # more than a few names would hide the lines
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize="small", frameon=False)
    return ax


def _short(schedule: Any) -> str:
    """Return what to call a schedule in a legend: its numbers, without what is at its default."""
    if not isinstance(schedule, schedules.Schedule):
        name = getattr(schedule, "__name__", type(schedule).__name__)
        return "schedule" if name == "<lambda>" else name
    _step, *names = signature(schedule.formula).parameters
    name = schedule.formula.__name__.removeprefix("_")
    defaults = signature(getattr(schedules, name)).parameters
    shown = [
        f"{value:g}" if isinstance(value, float) else
        _short(value) if callable(value) else str(value)
        for key, value in zip(names, schedule.arguments, strict=True)
        if key not in defaults or value != defaults[key].default
    ]  # fmt: skip
    return f"{name}({', '.join(shown)})"
