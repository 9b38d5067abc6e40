"""What a classifier makes of two features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.numbers import positive
from fastnn.plot.style import MARKERS, ground, ink, new_axes, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["decision_boundary"]


def decision_boundary(
    model: Any,
    x: ArrayLike,
    labels: ArrayLike,
    ax: Axes | None = None,
    resolution: int = 200,
) -> Axes:
    """Draw which class a model gives to each point of the plane, and the samples.

    Parameters
    ----------
    model : Layer, Trainer, estimator of scikit-learn, or callable
        Of two features. Several outputs are logits of classes, or probabilities; a single one is
        the logit of class 1. What gives labels, such as the ``predict`` of an estimator without
        probabilities, is drawn without shades.
    x : array_like, shape (samples, 2)
    labels : array_like, shape (samples,)
        The class of each sample.
    ax : matplotlib.axes.Axes, optional
    resolution : int
        Points along each axis.

    Returns
    -------
    matplotlib.axes.Axes
        Regions have the colours of their classes, stronger where the model is surer, and classes
        have dots of different form too.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `model` cannot predict.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn import plot
    >>> model = fastnn.Sequential(fastnn.Linear(2, 8), fastnn.Tanh(), fastnn.Linear(8, 2), rng=0)
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> ax = plot.decision_boundary(model, x, x[:, 0] > 0, resolution=20)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['False', 'True']
    """
    points, known = np.asarray(x, float), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"x: expected shape (samples, 2), got {points.shape}")
    if known.shape != points.shape[:1]:
        raise ValueError(f"labels: expected shape {points.shape[:1]}, got {known.shape}")
    resolution = positive("resolution", resolution)
    classes = list(np.unique(known))
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    across, up = (np.linspace(*limits, resolution)
                  for limits in zip(low - margin, high + margin, strict=True))  # fmt: skip
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    classes, chances = _chances(model, grid, classes)
    ax = new_axes(figsize=(5.6, 4.6)) if ax is None else ax
    from matplotlib.colors import to_rgb

    colors = [palette(ax)[i % len(palette(ax))] for i in range(len(classes))]
    winner = chances.argmax(axis=1)
    sure = (chances.max(axis=1) - 1 / len(classes)) / (1 - 1 / len(classes))
    shade = (0.12 + 0.33 * np.clip(sure, 0, 1))[:, None]
    region = np.array([to_rgb(color) for color in colors])[winner]
    picture = shade * region + (1 - shade) * np.array(to_rgb(ground(ax)))
    shape = (resolution, resolution)
    ax.imshow(picture.reshape(*shape, 3), origin="lower", aspect="auto", zorder=0,
              extent=(across[0], across[-1], up[0], up[-1]), interpolation="bilinear")  # fmt: skip
    for i in range(len(classes)):
        others = np.delete(chances, i, axis=1).max(axis=1)
        lead = (chances[:, i] - others).reshape(shape)
        if lead.min() < 0 < lead.max():
            ax.contour(across, up, lead, [0.0], colors=[ink(ax)], linewidths=1.0)
    for i, (name, color) in enumerate(zip(classes, colors, strict=True)):
        across, up = points[known == name].T
        ax.scatter(across, up, s=26, color=color, marker=MARKERS[i % len(MARKERS)],
                   edgecolors=ground(ax), linewidths=0.7, label=str(name))  # fmt: skip
    ax.set(xlabel="feature 0", ylabel="feature 1")
    ax.grid(False)
    ax.legend(title="class", loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    return ax


def _chances(model: Any, grid: np.ndarray, classes: list[Any]) -> tuple[list[Any], np.ndarray]:
    """Return the classes and the probabilities, or scores, that a model gives to points."""
    if hasattr(model, "predict_proba"):
        return list(model.classes_), np.asarray(model.predict_proba(grid), float)
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(f"model: expected a model or a function, got {type(model).__name__}")
    output = np.asarray(predict(grid))
    if output.shape[:1] != (len(grid),) or output.ndim > 2:
        raise ValueError(
            f"model: expected an output of shape ({len(grid)}, classes), got {output.shape}"
        )
    if output.ndim == 1:
        classes = list(np.unique(np.concatenate([np.asarray(classes), output])))
        return classes, (output[:, None] == np.asarray(classes)).astype(float)
    if output.shape[1] == 1:
        if len(classes) > 2:
            raise ValueError(f"labels: expected two classes for one output, got {len(classes)}")
        classes = classes if len(classes) == 2 else [0, 1]
        output = np.concatenate([np.zeros_like(output), output], axis=1)
    elif output.shape[1] != len(classes):
        classes = list(range(output.shape[1]))
    output = output.astype(float)
    if not (output.min() >= 0 and np.allclose(output.sum(axis=1), 1, atol=1e-4)):
        output = np.exp(output - output.max(axis=1, keepdims=True))
        output /= output.sum(axis=1, keepdims=True)
    return classes, output
