"""How all pictures look, on light ground and dark, and the figures that they are drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which colour-blind people can tell apart.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"]
# The same hues, light enough for a dark ground.
ON_DARK = ["#56B4E9", "#FF8C42", "#2FD6A3", "#E8A3CB", "#F0C541", "#A8D8F5", "#B5B5B5"]
# When there are more lines than colours.
LINES = ["-", "--", ":", "-."]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def pyplot() -> Any:
    """Return matplotlib.pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "fastnn.plot needs matplotlib, which is not installed: pip install matplotlib, or "
            'pip install "fastnn-cpu[plot]"'
        ) from error
    return plt


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of these pictures.

    Only these settings are put back: `rc_context` would also undo what the first use of pyplot in a
    notebook has set.
    """
    settings = pyplot().rcParams
    before = {name: settings[name] for name in STYLE}
    settings.update(STYLE)
    try:
        yield
    finally:
        settings.update(before)


def subplots(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a new figure and its panels; a notebook shows the figure once."""
    plt = pyplot()
    from fastnn.plot.figure import ShownOnce

    options = {"figsize": (4.4 * columns, 3.3 * rows), "layout": "constrained"} | options
    with style():
        figure, panels = plt.subplots(
            rows, columns, squeeze=False, FigureClass=ShownOnce, **options
        )
    return figure, panels


def new_axes(figsize: tuple[float, float] = (6.4, 4.0), **options: Any) -> Axes:
    """Return the axes of a new figure."""
    axes: Axes = subplots(1, 1, figsize=figsize, **options)[1].item()
    return axes


def panels_for(
    count: int, ax: Any, columns: int, size: tuple[float, float] = (4.4, 3.3), **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return `count` panels and their figure: those given, or new ones in rows of `columns`."""
    if ax is not None:
        given = list(np.ravel(np.asarray(ax, object)))
        if len(given) != count:
            raise ValueError(f"ax: expected {count} axes, one for each panel, got {len(given)}")
        return given[0].figure, given
    columns = min(columns, count)
    rows = -(-count // columns)
    options = {"figsize": (size[0] * columns, size[1] * rows)} | options
    figure, panels = subplots(rows, columns, **options)
    for panel in panels.flat[count:]:
        panel.remove()
    return figure, list(panels.flat[:count])


def on_dark(ax: Any) -> bool:
    """Return whether axes have a dark ground."""
    from matplotlib.colors import to_rgba

    for ground in (ax.get_facecolor(), ax.figure.get_facecolor()):
        red, green, blue, alpha = to_rgba(ground)
        if alpha > 0.5:
            return 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    return False


def palette(ax: Any) -> list[str]:
    """Return the colours of lines on these axes."""
    return ON_DARK if on_dark(ax) else COLORS


def line_styles(ax: Any, count: int) -> list[dict[str, Any]]:
    """Return colour and dashes of so many lines, no two alike."""
    colors = palette(ax)
    return [
        {"color": colors[i % len(colors)], "linestyle": LINES[i // len(colors) % len(LINES)]}
        for i in range(count)
    ]


def ink(ax: Any) -> Any:
    """Return the colour of what is written on these axes."""
    return ax.xaxis.label.get_color()


def ground(ax: Any) -> Any:
    """Return the colour under what is drawn on these axes."""
    return "#1b1b1b" if on_dark(ax) else "white"
