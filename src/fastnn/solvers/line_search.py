"""A step length that meets the strong Wolfe conditions."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Point", "search"]

Vector = NDArray[np.float64]

# Sufficient decrease, and by how much the slope must have flattened (Nocedal & Wright, 3.1).
DECREASE, FLATTER = 1e-4, 0.9
# By how much a step that is still too short grows.
GROWTH = 4.0
# How near an end of the bracket a trial may be, as a part of its length.
MARGIN = 0.1


class Point(NamedTuple):
    """A point of the line: the step, the value, its slope along the line and its gradient."""

    step: float
    value: float
    slope: float
    gradient: Vector


def search(
    along: Callable[[float], Point], start: Point, step: float, noise: float, trials: int = 25
) -> Point | None:
    """Find a step that meets the strong Wolfe conditions.

    Parameters
    ----------
    along : callable
        Returns the point of the line at a step.
    start : Point
        Its slope must be negative.
    step : float
        The first to try.
    noise : float
        By how much rounding may change a value: that much higher is not too high.
    trials : int
        How many points are computed at most.

    Returns
    -------
    Point or None
        If they ran out, the lowest point found, as long as it decreases the value sufficiently;
        else None.

    Notes
    -----
    Nocedal & Wright 2006, "Numerical Optimization", algorithms 3.5 and 3.6, with the minimizer of
    the cubic of equation 3.59. A value that is not finite counts as too high. Where the values are
    alike but for rounding, the slopes decide, as in Hager & Zhang 2005, "A new conjugate gradient
    method with guaranteed descent and an efficient line search", equation 27.
    """
    low, high, best = start, None, None
    for _ in range(trials):
        point = along(step)
        rises = not isfinite(point.value) or not isfinite(point.slope)
        if rises or point.value > start.value + noise + DECREASE * point.step * start.slope:
            high = point
        else:
            if best is None or point.value < best.value:
                best = point
            if abs(point.slope) <= -FLATTER * start.slope:
                return point
            if point.value > low.value + noise:
                high = point
            else:
                ahead = 1.0 if high is None else high.step - low.step
                if point.slope * ahead >= 0:
                    high = low
                low = point
        if high is None:
            step = GROWTH * low.step
            continue
        length = abs(high.step - low.step)
        if length <= 1e-16 * max(low.step, high.step):
            break
        step = _between(low, high)
    return best


def _between(one: Point, other: Point) -> float:
    """Return where the cubic through both points and slopes is lowest, away from the ends."""
    left, right = sorted((one.step, other.step))
    margin = MARGIN * (right - left)
    step = _minimizer(one, other)
    return min(max(step, left + margin), right - margin)


def _minimizer(one: Point, other: Point) -> float:
    middle = 0.5 * (one.step + other.step)
    if not (isfinite(other.value) and isfinite(other.slope)):
        return middle
    width = other.step - one.step
    d1 = one.slope + other.slope - 3 * (other.value - one.value) / width
    square = d1 * d1 - one.slope * other.slope
    if square < 0:
        return middle
    d2 = sqrt(square) if width > 0 else -sqrt(square)
    divisor = other.slope - one.slope + 2 * d2
    if divisor == 0:
        return middle
    return other.step - width * (other.slope + d2 - d1) / divisor
