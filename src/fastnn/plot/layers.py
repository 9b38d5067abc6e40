"""What goes on inside a network: activations, gradients, units that no longer learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import ops
from fastnn._door.numbers import choice, several
from fastnn._kernels.program import Memory, Program, Version
from fastnn._planning.builder import Builder, Value
from fastnn._planning.schedule import Schedule
from fastnn.analysis.backward import expect_layer
from fastnn.introspection.pictures import SVG
from fastnn.layers import ReLU, Sigmoid, Tanh, activation
from fastnn.losses import resolve
from fastnn.ops.activation import ACTIVATIONS
from fastnn.plot.style import ink, new_axes, on_dark, palette, panels_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "activations", "computational_graph", "dead_fractions", "dead_units", "layer_activations",
    "layer_gradients", "saturated_fractions", "saturated_units",
]

ROWS = 1024  # samples at a time, so that memory is bounded


def activations(names: Sequence[str] | None = None, ax: Any = None) -> Figure:
    """Draw activation functions with their gradients, as `fastnn.ops` computes them.

    Parameters
    ----------
    names : sequence of str, optional
        Element-wise functions of `fastnn.ops` that have a ``<name>_backward``; all by default.
    ax : matplotlib.axes.Axes or sequence of them, optional
        One for each function.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel for each function.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If a name is none of these, or `ax` are not as many.

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
    columns = min(len(names), 3 if len(names) <= 6 else 5)
    figure, panels = panels_for(len(names), ax, columns, size=(3.4, 2.7), sharex=True, sharey=True)
    # An even number of points, so that none falls on the kink at 0.
    x = np.linspace(-4, 4, 400)
    for panel, name in zip(panels, names, strict=True):
        y = getattr(ops, name)(x)
        saved = x if known[name].saves_input else y
        slope = getattr(ops, name + "_backward")(np.ones_like(x), saved)
        middle = len(x) // 2
        if abs(slope[middle] - slope[middle - 1]) > 0.1:  # it jumps there
            slope = np.insert(slope, middle, np.nan)
        at = x if len(slope) == len(x) else np.insert(x, middle, 0.0)
        panel.axhline(0, color=ink(panel), linewidth=0.7, alpha=0.5)
        panel.axvline(0, color=ink(panel), linewidth=0.7, alpha=0.5)
        panel.plot(x, y, color=palette(panel)[0], linewidth=2, label="value")
        panel.plot(at, slope, color=palette(panel)[1], linewidth=2, linestyle="--",
                   label="gradient")  # fmt: skip
        panel.set(title=name, ylim=(-1.2, 2.2))
    if ax is None and len(panels) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2,
                      frameon=False)
    else:
        panels[0].legend(loc="upper left", frameon=False)
    return figure


# By layer ----------------------------------------------------------------------------------------


def layer_activations(
    model: Any, x: ArrayLike, kinds: type | tuple[type, ...] | None = None, ax: Any = None
) -> Figure:
    """Draw how the outputs of each layer are distributed, with statistics of the batch.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (batch, ...)
    kinds : type or tuple of types, optional
        Of the layers to draw, such as ``fastnn.Linear``. By default activation functions if there
        are any, else all layers that hold no others.
    ax : sequence of matplotlib.axes.Axes, optional
        One for each layer.

    Returns
    -------
    matplotlib.figure.Figure
        With one histogram for each layer, all over the same range, and its standard deviation.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `x` is empty or does not fit the model, or there is no such layer.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(3, 8, rng=0), fastnn.Tanh())
    >>> figure = plot.layer_activations(model, np.ones((5, 3)))
    >>> [ax.get_title() for ax in figure.axes]
    ['1 Tanh']
    """
    values, _ = _by_layer(model, x, kinds)
    finite = np.concatenate([v[np.isfinite(v)].reshape(-1) for v in values.values()])
    low, high = np.quantile(finite, [0.001, 0.999]) if finite.size else (-1.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    bins = np.linspace(low - margin, high + margin, 51)
    figure, panels = panels_for(len(values), ax, columns=6, size=(2.5, 2.5), sharex=True)
    for panel, (name, array) in zip(panels, values.items(), strict=True):
        _histogram(panel, array, bins, palette(panel)[0])
        panel.set(title=name)
        _note(panel, f"std {array.std():.3g}\nmean {array.mean():.3g}")
    _label(figure, ax, panels, "output")
    return figure


def layer_gradients(
    model: Any,
    loss: Any,
    x: ArrayLike,
    y: ArrayLike,
    kinds: type | tuple[type, ...] | None = None,
    ax: Any = None,
) -> Figure:
    """Draw the sizes of the gradients that come back to the outputs of each layer.

    Parameters
    ----------
    model : Layer
    loss : str or callable
        As a Trainer takes it.
    x : array_like, shape (batch, ...)
    y : array_like
        What the loss compares predictions with.
    kinds : type or tuple of types, optional
        Of the layers to draw, as of `layer_activations`.
    ax : sequence of matplotlib.axes.Axes, optional
        One for each layer.

    Returns
    -------
    matplotlib.figure.Figure
        With one histogram for each layer, all over the same logarithmic range, and the root of the
        mean square.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If arrays are empty or do not fit, or there is no such layer.

    Notes
    -----
    Parameters, their gradients, statistics and random states stay as they are. Glorot and Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(
    ...     fastnn.Linear(3, 8, rng=0), fastnn.Tanh(), fastnn.Linear(8, 1, rng=0)
    ... )
    >>> figure = plot.layer_gradients(model, "mse", np.ones((5, 3)), np.ones((5, 1)))
    >>> [ax.get_title() for ax in figure.axes]
    ['1 Tanh']
    """
    _, gradients = _by_layer(model, x, kinds, resolve(loss), y)
    sizes = {name: np.abs(array) for name, array in gradients.items()}
    above = np.concatenate([v[(v > 0) & np.isfinite(v)].reshape(-1) for v in sizes.values()])
    low, high = np.quantile(above, [0.005, 0.9995]) if above.size else (1e-8, 1.0)
    bins = np.geomspace(low / 1.5, high * 1.5, 51)
    figure, panels = panels_for(len(sizes), ax, columns=6, size=(2.5, 2.5), sharex=True)
    for panel, (name, array) in zip(panels, sizes.items(), strict=True):
        _histogram(panel, array[array > 0], bins, palette(panel)[1])
        zero = np.mean(array == 0)
        rest = f"\n{zero:.0%} are 0" if zero else ""
        panel.set(title=name, xscale="log")
        _note(panel, f"rms {np.sqrt(np.mean(np.square(array, dtype=float))):.2g}{rest}")
    _label(figure, ax, panels, "size of the gradient")
    return figure


def _histogram(ax: Any, values: np.ndarray, bins: np.ndarray, color: str) -> None:
    """Draw shares; what lies outside counts in the outermost bins."""
    values = np.clip(values[np.isfinite(values)], bins[0], bins[-1])
    counts, _ = np.histogram(values, bins)
    ax.stairs(counts / max(counts.sum(), 1), bins, fill=True, color=color, alpha=0.85)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(False, axis="y")
    ax.set_ylim(0, 1.45 * max(counts.max() / max(counts.sum(), 1), 1e-12))


def _note(ax: Any, text: str) -> None:
    ax.text(0.97, 0.97, text, transform=ax.transAxes, ha="right", va="top", fontsize="small")


def _label(figure: Figure, ax: Any, panels: Sequence[Any], text: str) -> None:
    """Say what is on the axis that all panels share."""
    if ax is None:
        figure.supxlabel(text, fontsize="medium")
    else:
        for panel in panels:
            panel.set_xlabel(text)


def _by_layer(
    model: Any,
    x: ArrayLike,
    kinds: type | tuple[type, ...] | None,
    loss: Callable[..., Any] | None = None,
    y: Any = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the outputs of layers in a training pass and, with a loss, the gradients there."""
    from fastnn.analysis.backward import unchanged

    samples = _samples(model, x)
    with unchanged(model):
        dtype = model._built().dtype
        builder = Builder(dtype, training=True, trained=())
        given = model._input(builder, samples.shape[1:])
        pred = builder.plan(model, given)
        scopes = {
            s.path: s for s in builder.scopes if s.layer is not None and not s.layer.children()
        }
        activating = tuple(getattr(activation, name) for name in activation.__all__)
        wanted = [s for s in scopes.values() if kinds is None and isinstance(s.layer, activating)]
        if kinds is not None:
            wanted = [s for s in builder.scopes if isinstance(s.layer, kinds)]
        elif not wanted:
            wanted = list(scopes.values())
        if not wanted:
            raise ValueError(f"kinds: expected layers of the model, got {kinds!r}")
        outputs = {f"{s.path} {type(s.layer).__name__}".strip(): s.output for s in wanted}
        kept = [pred, *outputs.values()]
        pred.grad.root.slot = "dy"
        if loss is not None:
            kept += [value.grad for value in outputs.values()]
        program = Program(Schedule.of(builder, kept, given, pred), Memory(), Version())
        n = len(samples)
        program.forward(n, samples, None)

        def read(value: Value) -> np.ndarray:
            array = np.empty((n, *value.shape), value.dtype)
            program.read(value, array)
            return array

        values = {name: read(value) for name, value in outputs.items()}
        if loss is None:
            return values, {}
        _, dy = loss(read(pred), np.asarray(y))
        dy = np.ascontiguousarray(dy, dtype)
        program.backward(n, dy, None)
        gradients = {
            name: dy if value.grad.root is pred.grad.root else read(value.grad)
            for name, value in outputs.items()
        }
    return values, gradients


def _samples(model: Any, x: ArrayLike) -> np.ndarray:
    """Return a batch as the model reads it."""
    dtype = expect_layer(model)._built().dtype
    samples: np.ndarray = model._as_input(x, dtype)
    if samples.ndim < 2 or len(samples) == 0:
        raise ValueError(f"x: expected shape (batch, ...), got {samples.shape}")
    return samples


# Units that no longer learn ----------------------------------------------------------------------


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
    return {path: float(1 - fired.mean()) for path, fired in _fired(model, x).items()}


def _fired(model: Any, x: ArrayLike) -> dict[str, np.ndarray]:
    """Return for each ReLU layer which of its units are above 0 for some sample."""
    fired: dict[str, np.ndarray] = {}

    def look(path: str, values: np.ndarray) -> None:
        seen = np.asarray((values > 0).any(axis=tuple(range(values.ndim - 1))))
        fired[path] = fired[path] | seen if path in fired else seen

    _each_output(model, x, ReLU, look)
    return fired


def saturated_fractions(
    model: Any, x: ArrayLike, slope: float = 0.05
) -> dict[str, float]:
    """Return for each Sigmoid and Tanh layer the fraction of its outputs that hardly move.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (batch, ...)
        At least one sample.
    slope : float
        An output is saturated where the function's slope is below this part of its largest: with
        0.05 outside of ±0.975 for tanh, and of 0.013 to 0.987 for the sigmoid.

    Returns
    -------
    dict of str to float
        By path of the layer, such as "1".

    Raises
    ------
    ValueError
        If `x` is empty or does not fit the model.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(1, 1, rng=0), fastnn.Tanh())
    >>> _ = model.load_state_dict({"0.weight": [[1.0]], "0.bias": [0.0]})
    >>> plot.saturated_fractions(model, [[-5.0], [0.0], [1.0], [5.0]])
    {'1': 0.5}
    """
    counts: dict[str, np.ndarray] = {}

    def look(path: str, values: np.ndarray, sigmoid: bool) -> None:
        slopes = 4 * values * (1 - values) if sigmoid else 1 - values**2
        counts[path] = counts.get(path, 0) + np.array([(slopes < slope).sum(), slopes.size])

    _each_output(model, x, Sigmoid, lambda path, values: look(path, values, True))
    _each_output(model, x, Tanh, lambda path, values: look(path, values, False))
    return {path: float(few / of) for path, (few, of) in sorted(counts.items())}


def _each_output(
    model: Any, x: ArrayLike, kind: type, look: Callable[[str, np.ndarray], None]
) -> None:
    """Call ``look(path, values)`` with the outputs of layers of a kind, some samples at a time."""
    samples = _samples(model, x)
    builder = Builder(model._built().dtype, training=False)
    builder.plan(model, model._input(builder, samples.shape[1:]))
    outputs = {s.path: s.output for s in builder.scopes if isinstance(s.layer, kind)}
    # Planned as results, the outputs of all these layers keep memory of their own.
    program = Program(Schedule.of(builder, list(outputs.values())), Memory(), Version())
    for start in range(0, len(samples), ROWS):
        batch = samples[start : start + ROWS]
        program.forward(len(batch), batch, None)
        for path, y in outputs.items():
            values = np.empty((len(batch), *y.shape), y.dtype)
            program.read(y, values)
            look(path, values)


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
    fired = _fired(model, x)
    if not fired:
        raise ValueError("model: expected at least one ReLU layer, got none")
    fractions = {f"{path} ReLU": float(1 - units.mean()) for path, units in fired.items()}
    notes = [f"{(~units).sum()} of {units.size}" for units in fired.values()]
    return _bars(fractions, notes, "dead units", ax)


def saturated_units(
    model: Any, x: ArrayLike, slope: float = 0.05, ax: Axes | None = None
) -> Axes:
    """Draw for each Sigmoid and Tanh layer the fraction of its outputs that hardly move.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (batch, ...)
        At least one sample.
    slope : float
        An output is saturated where the function's slope is below this part of its largest.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `x` is empty or does not fit the model, or the model has no Sigmoid and no Tanh.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(3, 8, rng=0), fastnn.Tanh())
    >>> plot.saturated_units(model, np.ones((5, 3))).get_xlabel()
    'saturated outputs'
    """
    fractions = saturated_fractions(model, x, slope)
    if not fractions:
        raise ValueError("model: expected at least one Sigmoid or Tanh layer, got none")
    kinds = {path: type(layer).__name__ for path, layer in model._places()}
    named = {f"{path} {kinds[path]}".strip(): value for path, value in fractions.items()}
    return _bars(named, [f"{value:.1%}" for value in named.values()], "saturated outputs", ax)


def _bars(
    fractions: Mapping[str, float], notes: Sequence[str], label: str, ax: Axes | None
) -> Axes:
    ax = new_axes(figsize=(5.6, 1.4 + 0.4 * len(fractions))) if ax is None else ax
    places = np.arange(len(fractions))
    faint = "#333333" if on_dark(ax) else "#EEEEEE"
    ax.barh(places, np.ones(len(fractions)), color=faint, height=0.7)
    bars = ax.barh(places, list(fractions.values()), color=palette(ax)[0], height=0.7)
    ax.bar_label(bars, notes, padding=4)
    ax.set(xlim=(0, 1), xlabel=label, yticks=places, yticklabels=list(fractions))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.invert_yaxis()
    ax.grid(False)
    return ax


# The graph ---------------------------------------------------------------------------------------


def computational_graph(
    model: Any, input_shape: tuple[int, ...] | None = None, detail: str = "layers"
) -> SVG:
    """Draw the forward and backward pass of a model.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int, optional
        Shape of one sample, if the model does not determine it.
    detail : {"layers", "kernels"}
        What a box is: a layer, or one operation of the program.

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
    return SVG(expect_layer(model).graph("svg", input_shape, detail))
