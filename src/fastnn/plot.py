"""Pictures of training, optimizers and networks; needs matplotlib: pip install matplotlib.

Every function returns what it has drawn, a matplotlib figure or axes, and shows nothing: call
``matplotlib.pyplot.show()`` or ``figure.savefig(path)``. Those with `ax` draw there, and on a new
figure if it is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import ops
from fastnn._door.arrays import as_array, describe
from fastnn._door.numbers import choice, positive, several
from fastnn._kernels.program import Memory, Program, Version
from fastnn._planning.builder import Builder
from fastnn._planning.schedule import Schedule
from fastnn.analysis.backward import expect_layer
from fastnn.callbacks import RISING
from fastnn.layers import ReLU
from fastnn.ops.activation import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "SVG", "activations", "computational_graph", "dead_fractions", "dead_units",
    "learning_curves", "optimizer_paths", "schedule_values",
]


def __dir__() -> list[str]:
    return __all__


# Okabe & Ito's colours, which colour-blind people can tell apart.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"]
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {COLORS})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.3,
}


def learning_curves(history: Any) -> Figure:
    """Draw each quantity of a training against the epoch, training beside validation.

    Parameters
    ----------
    history : History or mapping of str to sequence of float
        What `Trainer.fit` returns, or its `history`. "val_loss" shares a panel with "loss", and so
        on; the best validation epoch is marked, and a learning rate that stays is left out. Losses
        that fall by more than a factor of 100 get a logarithmic axis.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel for each quantity.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `history` is neither.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> from fastnn import plot
    >>> figure = plot.learning_curves({"loss": [0.9, 0.4, 0.2], "val_loss": [1.0, 0.5, 0.6]})
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    curves: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    if not isinstance(curves, Mapping):
        raise TypeError(
            f"history: expected a History or a mapping of names to lists, got {describe(history)}"
        )
    names = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    if "lr" in names and len(set(curves["lr"])) == 1:
        names.remove("lr")  # nothing to see
    if not names:
        raise ValueError("history: expected at least one quantity, got an empty history")
    figure, panels = _subplots(1, len(names))
    for ax, name in zip(panels.flat, names, strict=True):
        training = np.asarray(curves.get(name, ()), float)
        validation = np.asarray(curves.get("val_" + name, ()), float)
        for values, label in (training, "training"), (validation, "validation"):
            dots = "o" if len(values) == 1 else None
            ax.plot(np.arange(1, len(values) + 1), values, label=label, marker=dots)
        if np.isfinite(validation).any():
            _mark_best(ax, validation, rising=name.endswith(RISING))
            ax.legend()
        drawn = np.concatenate([training, validation])
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size and 0 < 100 * drawn.min() < drawn.max():
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel=name)
        ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _mark_best(ax: Any, values: np.ndarray, rising: bool) -> None:
    best = int(np.nanargmax(values) if rising else np.nanargmin(values))
    ax.plot(best + 1, values[best], "o", color=COLORS[1])
    ax.annotate(
        f"{values[best]:.4g}", (best + 1, values[best]), xytext=(0, -14 if rising else 8),
        textcoords="offset points", ha="center", color=COLORS[1],
    )


def activations(names: Sequence[str] | None = None) -> Figure:
    """Draw activation functions with their gradients, as `fastnn.ops` computes them.

    Parameters
    ----------
    names : sequence of str, optional
        Element-wise functions of `fastnn.ops` that have a ``<name>_backward``; all by default.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel for each function.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `names` is no list.
    ValueError
        If a name is none of these.

    Examples
    --------
    >>> from fastnn import plot
    >>> figure = plot.activations(["relu", "gelu"])
    >>> [ax.get_title() for ax in figure.axes]
    ['relu', 'gelu']
    """
    known = {
        name: activation for name, activation in ACTIVATIONS.items()
        if not activation.by_row and hasattr(ops, name)
    }  # fmt: skip
    names = tuple(known) if names is None else several("names", names, "names")
    if not names:
        raise ValueError(f"names: expected some of {', '.join(known)}, got {names!r}")
    for name in names:
        choice("names", name, known)
    columns = min(len(names), 3)
    figure, panels = _subplots(-(-len(names) // columns), columns, sharex=True)
    for ax in panels.flat[len(names):]:
        ax.remove()
    # An even number of points, so that none falls on the kink at 0.
    x = np.linspace(-4, 4, 400)
    for ax, name in zip(panels.flat, names, strict=False):
        y = getattr(ops, name)(x)
        saved = x if known[name].saves_input else y
        slope = getattr(ops, name + "_backward")(np.ones_like(x), saved)
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.plot(x, y, color=COLORS[0], label="value")
        ax.plot(x, slope, color=COLORS[1], linestyle="--", label="gradient")
        ax.set(title=name, ylim=(-1.2, 2.2))
    panels.flat[0].legend(loc="upper left")
    return figure


def optimizer_paths(
    loss: Callable[[np.ndarray, np.ndarray], ArrayLike],
    paths: Mapping[str, ArrayLike],
    minimum: tuple[float, float] | None = None,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the ways that optimizers take over a loss surface with two parameters.

    Parameters
    ----------
    loss : callable
        ``loss(x, y)`` for arrays `x` and `y`, element by element.
    paths : mapping of str to array_like, shape (points, 2)
        For each optimizer the points it visited. Those that are not finite are left out.
    minimum : (float, float), optional
        Where to draw a star.
    xlim, ylim : (float, float), optional
        Part of the surface to show; by default what the paths cover, and a margin.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `paths` is no mapping of names to points.
    ValueError
        If there is no path, or one has another shape.

    Examples
    --------
    >>> from fastnn import plot
    >>> path = [(4 * 0.8**t, 2 * 0.5**t) for t in range(20)]
    >>> ax = plot.optimizer_paths(lambda x, y: x**2 + 4 * y**2, {"sgd": path}, minimum=(0, 0))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['sgd']
    """
    if not isinstance(paths, Mapping):
        raise TypeError(f"paths: expected a mapping of names to points, got {describe(paths)}")
    points = {
        name: np.array(as_array(path, f"paths[{name!r}]"), float) for name, path in paths.items()
    }
    if not points:
        raise ValueError("paths: expected at least one path, got none")
    for name, path in points.items():
        if path.ndim != 2 or path.shape[1] != 2 or len(path) == 0:
            raise ValueError(f"paths: expected shape (points, 2) for {name!r}, got {path.shape}")
        path[~np.isfinite(path).all(axis=1)] = np.nan
    everything = np.concatenate([*points.values(), [minimum or (np.nan, np.nan)]])
    xlim, ylim = (
        limits or _with_margin(everything[:, i]) for i, limits in enumerate((xlim, ylim))
    )
    ax = new_axes(figsize=(6.4, 5.2)) if ax is None else ax
    x, y = np.meshgrid(np.linspace(*xlim, 300), np.linspace(*ylim, 300))
    height = np.asarray(loss(x, y), float)
    # Levels at equal shares of the area show a narrow valley and a flat plain alike.
    levels = np.unique(np.quantile(height, np.linspace(0, 1, 25)))
    greys = [str(grey) for grey in np.linspace(0.98, 0.6, len(levels) - 1)]
    ax.contourf(x, y, height, levels, colors=greys)
    ax.contour(x, y, height, levels, colors="white", linewidths=0.5)
    for i, (name, path) in enumerate(points.items()):
        color = COLORS[i % len(COLORS)]
        ax.plot(*path.T, color=color, linewidth=1.8, label=name)
        ax.plot(*path[-1], "o", color=color, markeredgecolor="white", markersize=7)
    ax.plot(*next(iter(points.values()))[0], "s", color="white", markeredgecolor="black")
    if minimum is not None:
        ax.plot(*minimum, "*", color="gold", markeredgecolor="black", markersize=15)
    ax.set(xlim=xlim, ylim=ylim, xlabel="x", ylabel="y")
    ax.grid(False)
    ax.legend()
    return ax


def _with_margin(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.15 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def schedule_values(
    schedule: Callable[[int], float], steps: int, ax: Axes | None = None
) -> Axes:
    """Draw the values of a schedule, or any callable of the step, at steps 0 to `steps` - 1.

    Parameters
    ----------
    schedule : callable
    steps : int
        At least 1.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If `schedule` cannot be called, or `steps` is out of range.

    Examples
    --------
    >>> from fastnn import plot, schedules
    >>> ax = plot.schedule_values(schedules.exponential_decay(0.1, k=0.01), 300)
    >>> ax = plot.schedule_values(schedules.cosine_decay(0.1, steps=300), 300, ax=ax)
    >>> len(ax.lines)
    2
    """
    if not callable(schedule):
        raise TypeError(f"schedule: expected a schedule, got {describe(schedule)}")
    steps = positive("steps", steps)
    ax = new_axes() if ax is None else ax
    ax.plot(range(steps), [schedule(step) for step in range(steps)], label=repr(schedule))
    ax.set(xlabel="step", ylabel="value")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")
    return ax


class SVG(str):
    """The text of an SVG picture, which notebooks show as a picture.

    Examples
    --------
    >>> from fastnn.plot import SVG
    >>> SVG("<svg></svg>")
    '<svg></svg>'
    """

    def __new__(cls, text: str = "") -> SVG:
        """Return `text` as a picture."""
        return super().__new__(cls, text)

    def _repr_svg_(self) -> str:
        return str(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self)


def computational_graph(model: Any, input_shape: tuple[int, ...] | None = None) -> SVG:
    """Draw the forward and backward pass of a model.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int, optional
        Shape of one sample, if the model does not determine it.

    Returns
    -------
    SVG
        Shown by notebooks; ``.save("graph.svg")`` writes it to a file.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.ReLU(), fastnn.Linear(8, 2))
    >>> "<svg" in plot.computational_graph(model)
    True
    """
    return SVG(expect_layer(model).graph(format="svg", input_shape=input_shape))


def dead_fractions(model: Any, x: ArrayLike) -> dict[str, float]:
    """Return for each ReLU layer the fraction of its units that are 0 for every sample.

    Such a unit has no gradient either, so these samples cannot bring it back to life.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (batch, ...)
        At least one sample.

    Returns
    -------
    dict of str to float
        By path of the layer, such as "1".

    Raises
    ------
    TypeError
        If `model` is no layer, or `x` no array of real numbers.
    ValueError
        If `x` is empty or does not fit the model.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> layer = fastnn.Linear(1, 4, rng=0)
    >>> layer.weight.shape
    (4, 1)
    >>> model = fastnn.Sequential(layer, fastnn.ReLU())
    >>> _ = model.load_state_dict({"0.weight": np.ones((4, 1)), "0.bias": [0, 0, 0, -10]})
    >>> plot.dead_fractions(model, np.linspace(-1, 1, 50)[:, None])
    {'1': 0.25}
    """
    dtype = expect_layer(model)._built().dtype
    samples: np.ndarray = model._as_input(x, dtype)
    if samples.ndim < 2 or len(samples) == 0:
        raise ValueError(f"x: expected shape (batch, ...), got {samples.shape}")
    builder = Builder(dtype, training=False)
    builder.plan(model, model._input(builder, samples.shape[1:]))
    outputs = {s.path: s.output for s in builder.scopes if isinstance(s.layer, ReLU)}
    # Planned as results, the outputs of all these layers keep memory of their own.
    schedule = Schedule.of(builder, list(outputs.values()))
    program = Program(schedule, Memory(), Version())
    fired = {path: np.zeros(y.shape[-1], bool) for path, y in outputs.items()}
    for start in range(0, len(samples), 1024):
        batch = samples[start : start + 1024]
        program.forward(len(batch), batch, None)
        for path, y in outputs.items():
            values = np.empty((len(batch), *y.shape), y.dtype)
            program.read(y, values)
            fired[path] |= (values > 0).any(axis=tuple(range(values.ndim - 1)))
    return {path: float(1 - units.mean()) for path, units in fired.items()}


def dead_units(model: Any, x: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw for each ReLU layer the fraction of its units that are 0 for every sample.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (batch, ...)
        At least one sample.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `model` is no layer, or `x` no array of real numbers.
    ValueError
        If `x` is empty or does not fit the model, or the model has no ReLU.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(3, 8, rng=0), fastnn.ReLU())
    >>> plot.dead_units(model, np.ones((5, 3))).get_xlabel()
    'dead units'
    """
    fractions = dead_fractions(model, x)
    if not fractions:
        raise ValueError("model: expected at least one ReLU layer, got none")
    ax = new_axes(figsize=(5.6, 1.4 + 0.4 * len(fractions))) if ax is None else ax
    names, values = [f"ReLU {path}" for path in fractions], list(fractions.values())
    bars = ax.barh(names, values, color=COLORS[0])
    ax.bar_label(bars, fmt="{:.1%}", padding=4)
    ax.set(xlim=(0, 1.12), xlabel="dead units")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return ax


def new_axes(figsize: tuple[float, float] = (6.4, 4.0)) -> Axes:
    """Return the axes of a new figure."""
    axes: Axes = _subplots(1, 1, figsize=figsize)[1].item()
    return axes


def _subplots(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a new figure and its panels, in the style that all pictures here share."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "fastnn.plot needs matplotlib, which is not installed: pip install matplotlib, or "
            'pip install "fastnn-cpu[plot]"'
        ) from error
    options = {"figsize": (4.4 * columns, 3.3 * rows), "layout": "constrained"} | options
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, squeeze=False, **options)
