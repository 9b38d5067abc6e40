"""Ways of optimizers over surfaces of two parameters: one picture, several, moving, solid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_array, describe
from fastnn._door.numbers import positive
from fastnn.plot.style import ground, ink, line_styles, new_axes, on_dark, pyplot, subplots

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "optimizer_animation", "optimizer_comparison", "optimizer_paths", "path_losses", "surface",
]

Loss = Callable[[np.ndarray, np.ndarray], ArrayLike]
Limits = tuple[float, float]

LEVELS = 18  # bands of colour
DOTS = 80  # at most on a path; more are a line


def optimizer_paths(
    loss: Loss,
    paths: Mapping[str, ArrayLike],
    minimum: tuple[float, float] | None = None,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    ax: Axes | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the ways that optimizers take over a loss surface with two parameters.

    Parameters
    ----------
    loss : callable
        ``loss(x, y)`` for arrays `x` and `y`, element by element.
    paths : mapping of str to array_like, shape (points, 2)
        For each optimizer the points it visited. A path ends where it is not finite.
    minimum : (float, float), optional
        Where to draw a star; heights are counted from there.
    xlim, ylim : (float, float), optional
        Part of the surface to show; by default where the paths are, and a margin. Paths that go
        much farther than the others do not count, and are cut off at the border.
    ax : matplotlib.axes.Axes, optional
    colorbar : bool
        Whether to draw a scale of the heights.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no path, or one has another shape.

    Notes
    -----
    The bands are those of the logarithm of the height above the minimum, or above the lowest
    point. Dots are steps: each of them, or each second, fifth, tenth, ... of a long path. The
    legend says where paths leave the picture.

    Examples
    --------
    >>> from fastnn import plot
    >>> path = [(4 * 0.8**t, 2 * 0.5**t) for t in range(20)]
    >>> ax = plot.optimizer_paths(lambda x, y: x**2 + 4 * y**2, {"sgd": path}, minimum=(0, 0))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['sgd']
    """
    points = _checked(paths)
    ax = new_axes(figsize=(6.4, 5.2)) if ax is None else ax
    view = _View(loss, points, minimum, xlim, ylim)
    bands = view.draw_surface(ax)
    view.draw_paths(ax, dict(zip(points, line_styles(ax, len(points)), strict=True)))
    if colorbar:
        from matplotlib.ticker import LogFormatterSciNotation, LogLocator

        bar = ax.figure.colorbar(
            bands, ax=ax, shrink=0.9, pad=0.02, aspect=28, ticks=LogLocator(),
            format=LogFormatterSciNotation(),
        )  # fmt: skip
        bar.set_label("loss above the minimum" if minimum else "loss above its lowest")
        bar.outline.set_visible(False)
    legend = ax.legend(frameon=True, framealpha=0.85, fontsize="small")
    legend.get_frame().set(facecolor=ground(ax), edgecolor="none")
    return ax


def path_losses(
    loss: Loss,
    paths: Mapping[str, ArrayLike],
    minimum: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss along paths against the step.

    Parameters
    ----------
    loss, paths, minimum
        As of `optimizer_paths`; with `minimum` it is the loss above it.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        With a logarithmic axis, whose range is that of paths which do not diverge.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no path, or one has another shape.

    Examples
    --------
    >>> from fastnn import plot
    >>> path = [(4 * 0.8**t, 2 * 0.5**t) for t in range(20)]
    >>> ax = plot.path_losses(lambda x, y: x**2 + 4 * y**2, {"sgd": path}, minimum=(0, 0))
    >>> ax.get_yscale()
    'log'
    """
    points = _checked(paths)
    ax = new_axes() if ax is None else ax
    looks = dict(zip(points, line_styles(ax, len(points)), strict=True))
    _draw_losses(ax, loss, points, minimum, looks)
    ax.legend(fontsize="small", frameon=False)
    return ax


def optimizer_comparison(surfaces: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw paths on several surfaces side by side, and below each the loss over the steps.

    Parameters
    ----------
    surfaces : mapping of str to mapping
        By title the arguments of `optimizer_paths`: loss, paths, and where wanted minimum, xlim and
        ylim. An optimizer has the same colour wherever it is; three or four on a surface can be
        told apart.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no surface, or a path has a wrong shape.

    Examples
    --------
    >>> from fastnn import plot
    >>> path = [(4 * 0.8**t, 2 * 0.5**t) for t in range(20)]
    >>> bowl = {"loss": lambda x, y: x**2 + 4 * y**2, "paths": {"SGD": path}, "minimum": (0, 0)}
    >>> figure = plot.optimizer_comparison({"a bowl": bowl})
    >>> [ax.get_title() for ax in figure.axes]
    ['a bowl', '']
    """
    if not isinstance(surfaces, Mapping):
        raise TypeError(f"surfaces: expected a mapping of titles, got {describe(surfaces)}")
    if not surfaces:
        raise ValueError("surfaces: expected at least one, got none")
    for title, one in surfaces.items():
        if not isinstance(one, Mapping) or not {"loss", "paths"} <= one.keys():
            raise ValueError(
                f"surfaces[{title!r}]: expected a dict with 'loss' and 'paths', got {describe(one)}"
            )
    points = {title: _checked(surface["paths"]) for title, surface in surfaces.items()}
    names = list(dict.fromkeys(name for paths in points.values() for name in paths))
    columns = min(4, len(surfaces))
    if len(surfaces) == 1:
        figure, grid = subplots(1, 2, figsize=(11.0, 4.6))
        pairs = [(grid[0, 0], grid[0, 1])]
    else:
        blocks = -(-len(surfaces) // columns)
        figure, grid = subplots(
            2 * blocks, columns, figsize=(3.6 * columns, 5.6 * blocks),
            height_ratios=[1.5, 1] * blocks,
        )  # fmt: skip
        pairs = [(grid[2 * (i // columns), i % columns], grid[2 * (i // columns) + 1, i % columns])
                 for i in range(blocks * columns)]  # fmt: skip
    looks = dict(zip(names, line_styles(pairs[0][0], len(names)), strict=True))
    for (above, below), (title, surface) in zip(pairs, surfaces.items(), strict=False):
        minimum = surface.get("minimum")
        limits = surface.get("xlim"), surface.get("ylim")
        view = _View(surface["loss"], points[title], minimum, *limits)
        view.draw_surface(above)
        view.draw_paths(above, looks)
        above.set_title(title)
        _draw_losses(below, surface["loss"], points[title], minimum, looks)
    for above, below in pairs[len(surfaces):]:
        above.remove()
        below.remove()
    for above, below in pairs[1 : len(surfaces)]:
        above.set(xlabel="", ylabel="")
        below.set(ylabel="")
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", markersize=4, label=name, **looks[name])
               for name in names]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 8),
                  frameon=False)
    return figure


def optimizer_animation(
    loss: Loss,
    paths: Mapping[str, ArrayLike],
    minimum: tuple[float, float] | None = None,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    frames: int = 60,
) -> FuncAnimation:
    """Make a moving picture, 960 pixels wide, of paths and of the loss beside them.

    Parameters
    ----------
    loss, paths, minimum, xlim, ylim
        As of `optimizer_paths`.
    frames : int
        Evenly spaced over the logarithm of the step, since most happens at the beginning; no more
        than there are steps.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        ``.save("paths.gif", writer="pillow", fps=12)`` writes a file, ``.to_jshtml()`` gives a
        player for notebooks.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If there is no path, one has another shape, or `frames` is no positive integer.

    Examples
    --------
    >>> from fastnn import plot
    >>> path = [(4 * 0.8**t, 2 * 0.5**t) for t in range(20)]
    >>> moving = plot.optimizer_animation(lambda x, y: x**2 + 4 * y**2, {"sgd": path}, frames=3)
    >>> len(moving.to_jshtml()) > 1000
    True
    """
    points, frames = _checked(paths), positive("frames", frames)
    figure, grid = subplots(1, 2, figsize=(9.6, 5.4), dpi=100, width_ratios=[1.5, 1])
    left, right = grid.flat
    view = _View(loss, points, minimum, xlim, ylim)
    view.draw_surface(left)
    looks = dict(zip(points, line_styles(left, len(points)), strict=True))
    lines, dots = view.draw_paths(left, looks, dotted=False)
    curves = _draw_losses(right, loss, points, minimum, looks)
    right.legend(fontsize="small", frameon=False)
    title = figure.suptitle(" ")
    longest = max(map(len, points.values()))
    ends = np.unique(np.geomspace(1, longest, frames).round().astype(int))
    whole = [(line, line.get_xydata().copy()) for line in [*lines, *curves]]
    heads = [(dot, line.get_xydata().copy()) for dot, line in zip(dots, lines, strict=True)]

    def draw(frame: int) -> list[Any]:
        end = ends[frame]
        for line, data in whole:
            line.set_data(*data[:end].T)
        for dot, data in heads:
            seen = data[:end][np.isfinite(data[:end]).all(axis=1)]
            dot.set_data(*seen[-1:].T)
        title.set_text(f"step {end - 1}")
        return []

    from matplotlib.animation import FuncAnimation

    moving = FuncAnimation(figure, draw, len(ends), interval=80)
    if "inline" in pyplot().get_backend():
        pyplot().close(figure)  # or it would be there as a still picture too
    return moving


def surface(
    loss: Loss,
    xlim: Limits,
    ylim: Limits,
    paths: Mapping[str, ArrayLike] | None = None,
    minimum: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a surface of two parameters as a solid, with paths over it.

    Parameters
    ----------
    loss : callable
        ``loss(x, y)`` for arrays `x` and `y`, element by element.
    xlim, ylim : (float, float)
        Part of the surface to show.
    paths : mapping of str to array_like, shape (points, 2), optional
    minimum : (float, float), optional
        From where heights are counted; else from the lowest point.
    ax : mpl_toolkits.mplot3d.axes3d.Axes3D, optional

    Returns
    -------
    mpl_toolkits.mplot3d.axes3d.Axes3D

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If a path has a wrong shape.

    Notes
    -----
    Heights over a range of more than a factor of 1000 are drawn by their logarithm.

    Examples
    --------
    >>> from fastnn import plot
    >>> ax = plot.surface(lambda x, y: x**2 + 4 * y**2, (-2, 2), (-1, 1))
    >>> ax.get_zlabel()
    'loss'
    """
    points = _checked(paths) if paths else {}
    if ax is None:
        ax = new_axes(figsize=(7.2, 5.6), subplot_kw={"projection": "3d"})
    view = _View(loss, points, minimum, xlim, ylim, fineness=120)
    height, name = view.height, "loss"
    span = height[np.isfinite(height)]
    logarithmic = bool(span.size and span.max() > 1000 * max(np.median(span) / 100, 1e-300))
    low = max(float(np.quantile(span, 0.03)), 1e-12) if span.size else 1e-12

    def lifted(values: np.ndarray) -> np.ndarray:
        return np.log10(np.maximum(values, low)) if logarithmic else values

    name = "log₁₀ of the loss above the minimum" if logarithmic else "loss"
    solid: Any = ax
    solid.computed_zorder = False  # paths lie on the surface, not half in it
    solid.plot_surface(
        view.x, view.y, lifted(height), cmap=_colors(on_dark(ax)), rstride=3, cstride=3,
        linewidth=0.2, edgecolor=ink(ax), alpha=0.95, antialiased=True,
    )  # fmt: skip
    looks = line_styles(ax, len(points))
    for (title, path), look in zip(points.items(), looks, strict=True):
        inside = _inside(path, view.xlim, view.ylim)
        path = np.where(inside[:, None], path, np.nan)
        heights = lifted(view.heights(path))
        solid.plot(*path.T, heights, label=title, linewidth=2, marker="o", markersize=3,
                   zorder=10, **look)  # fmt: skip
    solid.set(xlabel="x", ylabel="y", zlabel=name)
    for axis in (solid.xaxis, solid.yaxis, solid.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
    solid.view_init(elev=35, azim=-60)
    if points:
        solid.legend(loc="upper left", fontsize="small", frameon=False)
    return ax


# What they share ---------------------------------------------------------------------------------


def _checked(paths: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return paths as arrays that end, in NaN, where they are not finite."""
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
        bad = ~np.isfinite(path).all(axis=1)
        if bad.any():
            path[bad.argmax() :] = np.nan
    return points


class _View:
    """Part of a surface, and how high it is there above its minimum."""

    def __init__(
        self,
        loss: Loss,
        paths: Mapping[str, np.ndarray],
        minimum: tuple[float, float] | None,
        xlim: Limits | None,
        ylim: Limits | None,
        fineness: int = 300,
    ) -> None:
        self.loss, self.paths, self.minimum = loss, paths, minimum
        near = _near(paths.values(), minimum) if xlim is None or ylim is None else None
        if near is not None:
            around = _alike(*(_with_margin(column) for column in near.T))
            xlim, ylim = xlim or around[0], ylim or around[1]
        assert xlim is not None
        assert ylim is not None
        self.xlim, self.ylim = xlim, ylim
        x, y = (np.linspace(*limits, fineness) for limits in (self.xlim, self.ylim))
        self.x, self.y = np.meshgrid(x, y)
        values = _values(loss, self.x, self.y)
        lowest = np.nan if minimum is None else _values(loss, *map(np.array, minimum))
        finite = values[np.isfinite(values)]
        self.lowest = float(lowest) if np.isfinite(lowest) else float(finite.min(initial=0.0))
        self.height = np.where(np.isfinite(values), values - self.lowest, np.nan)

    def heights(self, path: np.ndarray) -> np.ndarray:
        """Return how high the points of a path lie."""
        return _values(self.loss, *path.T) - self.lowest

    def draw_surface(self, ax: Any) -> Any:
        """Draw bands of colour, log-spaced in height."""
        from matplotlib.colors import LogNorm

        above = self.height[np.isfinite(self.height) & (self.height > 0)]
        high = float(above.max(initial=1.0)) if above.size else 1.0
        low = max(float(np.quantile(above, 0.01)) if above.size else 0.0, high * 1e-5)
        levels = np.geomspace(low, high, LEVELS + 1) if low < high else np.array([high / 2, high])
        levels[-1] *= 1 + 1e-9
        shown = np.clip(np.nan_to_num(self.height, nan=high), low / 2, high)
        bands = ax.contourf(
            self.x, self.y, shown, levels, cmap=_colors(on_dark(ax)), extend="min",
            norm=LogNorm(levels[0], levels[-1]),
        )  # fmt: skip
        ax.contour(self.x, self.y, shown, levels, colors=[ground(ax)], linewidths=0.4, alpha=0.6)
        ax.set(xlim=self.xlim, ylim=self.ylim, xlabel="x", ylabel="y")
        ax.grid(False)
        return bands

    def draw_paths(
        self, ax: Any, looks: Mapping[str, Mapping[str, Any]], dotted: bool = True
    ) -> tuple[list[Any], list[Any]]:
        """Draw paths with their steps, and a larger dot where each is at last; both as lines."""
        from matplotlib.patheffects import withStroke

        halo = [withStroke(linewidth=3.2, foreground=ground(ax), alpha=0.7)]
        lines, heads = [], []
        if self.minimum is not None:
            ax.plot(*self.minimum, "*", color="#F0C541", markeredgecolor="black", markersize=15,
                    label="_", zorder=3)  # fmt: skip
        for name, path in self.paths.items():
            path, left = _cut(path, self.xlim, self.ylim)
            label = name if left is None else f"{name}: leaves at step {left}"
            (line,) = ax.plot(*path.T, linewidth=1.6, label=label, path_effects=halo, zorder=4,
                              **looks[name])  # fmt: skip
            if dotted:
                ax.plot(*path[:: _every(len(path))].T, "o", color=looks[name]["color"],
                        markersize=3.2, zorder=4, label="_")  # fmt: skip
            lines.append(line)
            end = path[np.isfinite(path).all(axis=1)][-1:]
            heads += ax.plot(*end.T, "o", color=looks[name]["color"], markersize=7, zorder=5,
                             markeredgecolor=ground(ax), label="_")  # fmt: skip
        start = next(iter(self.paths.values()))[0]
        ax.plot(*start, "s", color=ground(ax), markeredgecolor=ink(ax), zorder=6, label="_")
        return lines, heads


def _draw_losses(
    ax: Any,
    loss: Loss,
    paths: Mapping[str, np.ndarray],
    minimum: tuple[float, float] | None,
    looks: Mapping[str, Mapping[str, Any]],
) -> list[Any]:
    """Draw the loss along paths over the step; returns the lines."""
    lowest = 0.0 if minimum is None else float(_values(loss, *map(np.array, minimum)))
    lines, starts, ends = [], [], []
    for name, path in paths.items():
        values = _values(loss, *path.T) - lowest
        values = np.where((values > 0) & (values < 1e200), values, np.nan)
        lines += ax.plot(values, linewidth=1.6, label=name, **looks[name])
        if np.isfinite(values).any():
            starts.append(values[np.isfinite(values)][0])
            ends.append(np.nanmin(values))
    ax.set(xlabel="step", ylabel="loss" if minimum is None else "loss above the minimum",
           yscale="log")  # fmt: skip
    if starts:  # one that diverges goes out of the picture, one that is exact does not stretch it
        ax.set_ylim(max(min(ends) / 2, max(starts) * 1e-8), max(starts) * 20)
    return lines


def _values(loss: Loss, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the loss, which far away may be infinite, without a warning."""
    with np.errstate(all="ignore"):
        return np.asarray(loss(x, y), float)


def _near(paths: Iterable[np.ndarray], minimum: tuple[float, float] | None) -> np.ndarray:
    """Return the points that the picture should show: of paths that stay near the others."""
    paths = list(paths)
    fixed = np.array([path[0] for path in paths] + ([minimum] if minimum else []))
    center = fixed.mean(axis=0)
    finite = [path[np.isfinite(path).all(axis=1)] for path in paths]
    reach = [np.abs(path - center).max() for path in finite]
    # a path that goes three times as far as the usual one has left
    limit = 3 * max(np.median(reach), np.abs(fixed - center).max())
    if np.abs(fixed - center).max() > 0:
        limit = min(limit, 6 * np.abs(fixed - center).max())
    near = [path[np.abs(path - center).max(axis=1) <= limit] for path in finite]
    return np.concatenate([fixed, *near])


def _with_margin(values: np.ndarray) -> Limits:
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.15 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _alike(xlim: Limits, ylim: Limits) -> tuple[Limits, Limits]:
    """Widen the narrower limits, up to three times, to bring both axes to about one scale."""
    width, height = xlim[1] - xlim[0], 1.2 * (ylim[1] - ylim[0])
    more = min(3.0, max(width, height) / min(width, height)) - 1
    if width < height:
        return (xlim[0] - more * width / 2, xlim[1] + more * width / 2), ylim
    extra = more * (ylim[1] - ylim[0]) / 2
    return xlim, (ylim[0] - extra, ylim[1] + extra)


def _inside(path: np.ndarray, xlim: Limits, ylim: Limits) -> np.ndarray:
    (left, right), (bottom, top) = sorted(xlim), sorted(ylim)
    x, y = path.T
    inside: np.ndarray = (left <= x) & (x <= right) & (bottom <= y) & (y <= top)
    return inside


def _cut(path: np.ndarray, xlim: Limits, ylim: Limits) -> tuple[np.ndarray, int | None]:
    """End a path where it leaves the picture for good, at the step that is returned.

    The last piece ends a little outside, however far its next point lies.
    """
    inside = _inside(path, xlim, ylim)
    if inside[-1] or not inside.any():
        return path, None
    left = int(np.flatnonzero(inside)[-1]) + 1
    result = path.copy()
    result[left + 1 :] = np.nan
    if not np.isfinite(path[left]).all():
        return result, left
    size = np.array([xlim[1] - xlim[0], ylim[1] - ylim[0]])
    step = path[left] - path[left - 1]
    result[left] = path[left - 1] + step * min(1.0, 2 / max(np.abs(step / size).max(), 1e-300))
    return result, left


def _every(points: int) -> int:
    """Return how many steps to go from dot to dot."""
    return next((k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if points <= DOTS * k), 1000)


def _colors(dark: bool) -> Any:
    """Return a map of one light hue, or dark, so that paths stand out; low is the deeper colour."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = (["#06222f", "#0f4354", "#2c6470", "#5f847f"] if dark
             else ["#6fb0cb", "#a6cfd9", "#d5e6df", "#faf6e6"])  # fmt: skip
    return LinearSegmentedColormap.from_list("heights", stops)
