r"""Schedules: a hyper-parameter as a function of the step, for learning rate and momentum alike.

Every function here returns a `Schedule`, a callable ``f(step) -> float`` with steps counted from 0.
Its value depends on the step alone, so training that resumes sees the same sequence as training
that never stopped. Schedules compare by value, can be pickled, compose and plot themselves:

>>> from fastnn import schedules
>>> lr = schedules.warmup(schedules.cosine_decay(0.1, steps=900), steps=100)
>>> lr
warmup(schedule=cosine_decay(initial=0.1, steps=900, final=0.0), steps=100)
>>> [round(lr(step), 4) for step in (0, 50, 100, 550, 1000, 5000)]
[0.0, 0.05, 0.1, 0.05, 0.0, 0.0]

PyTorch's schedulers give the same values up to rounding, except where Notes say otherwise.
"""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastnn._door.numbers import (
    above_0,
    any_number,
    at_least_0,
    choice,
    fraction,
    integer,
    positive,
    several,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Schedule", "constant", "cosine_cycles", "cosine_decay", "cyclic", "exponential_decay",
    "inverse_time_decay", "linear", "one_cycle", "piecewise_constant", "polynomial_decay",
    "step_decay", "warmup",
]


def __dir__() -> list[str]:
    return __all__


@dataclass(unsafe_hash=True, repr=False)
class Schedule:
    """A formula and its arguments: ``schedule(step)`` is ``formula(step, *arguments)``."""

    formula: Callable[..., float]
    arguments: tuple[Any, ...]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__annotations__ or name in self.__dict__:
            raise AttributeError(f"{name}: expected {self!r} to stay as it is; make a new one")
        object.__setattr__(self, name, value)

    def __call__(self, step: float) -> float:
        """Return the value; TypeError if `step` is no number, ValueError unless 0 ≤ step < ∞."""
        at_least_0("step", step)
        return float(self.formula(step, *self.arguments))

    def __repr__(self) -> str:
        _step, *names = inspect.signature(self.formula).parameters
        arguments = (f"{key}={value!r}" for key, value in zip(names, self.arguments, strict=True))
        return f"{self.formula.__name__.removeprefix('_')}({', '.join(arguments)})"

    def plot(self, steps: int, ax: Axes | None = None) -> Axes:
        """Draw the values of steps 0 to `steps` - 1.

        Parameters
        ----------
        steps : int
            How many steps, at least 1.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `steps` is not an integer ≥ 1.

        Examples
        --------
        >>> from fastnn import schedules
        >>> ax = schedules.cyclic(0.001, 0.01, step_size_up=50).plot(400)
        >>> ax.get_xlabel()
        'step'
        """
        from fastnn.plot import schedule_values

        return schedule_values(self, positive("steps", steps), ax)


def constant(v: float) -> Schedule:
    """Return `v` at every step.

    Parameters
    ----------
    v : float
        Finite.

    Raises
    ------
    TypeError, ValueError
        If `v` is not a finite number.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedules.constant(0.1)(1000)
    0.1
    """
    return Schedule(_constant, (any_number("v", v),))


def _constant(t: float, v: float) -> float:
    return v


def exponential_decay(initial: float, k: float) -> Schedule:
    r"""Decay by the same ratio at every step: :math:`f(t) = initial \cdot e^{-kt}`.

    Parameters
    ----------
    initial, k : float
        Value at step 0, and decay rate per step, at least 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a finite number or `k` is negative.

    Notes
    -----
    PyTorch's ``ExponentialLR(gamma)`` has k = -log(gamma).

    Examples
    --------
    >>> from fastnn import schedules
    >>> round(schedules.exponential_decay(0.1, k=0.01)(100), 6)
    0.036788
    """
    return Schedule(_exponential_decay, (any_number("initial", initial), at_least_0("k", k)))


def _exponential_decay(t: float, initial: float, k: float) -> float:
    return initial * math.exp(-k * t)


def inverse_time_decay(initial: float, k: float) -> Schedule:
    r"""Decay as one over time: :math:`f(t) = initial / (1 + kt)`.

    Parameters
    ----------
    initial, k : float
        Value at step 0, and decay rate per step, at least 0. It takes 1 / k steps to halve.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a finite number or `k` is negative.

    Notes
    -----
    Robbins & Monro 1951, A stochastic approximation method: the sum of all rates is infinite, that
    of their squares is not. Bottou 2012, Stochastic gradient descent tricks.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedules.inverse_time_decay(0.1, k=0.01)(100)
    0.05
    """
    return Schedule(_inverse_time_decay, (any_number("initial", initial), at_least_0("k", k)))


def _inverse_time_decay(t: float, initial: float, k: float) -> float:
    return initial / (1 + k * t)


def step_decay(initial: float, factor: float, every: int) -> Schedule:
    r"""Decay in stairs: :math:`f(t) = initial \cdot factor^{⌊t / every⌋}`.

    Parameters
    ----------
    initial, factor : float
        Value at step 0, and what it is multiplied by at each stair, in [0, 1].
    every : int
        Steps per stair, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    PyTorch's ``StepLR(step_size=every, gamma=factor)``.

    Examples
    --------
    >>> from fastnn import schedules
    >>> [schedules.step_decay(1.0, factor=0.5, every=2)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    factor = fraction("factor", factor)
    return Schedule(_step_decay, (any_number("initial", initial), factor, positive("every", every)))


def _step_decay(t: float, initial: float, factor: float, every: int) -> float:
    rate: float = initial * factor ** (t // every)
    return rate


def linear(start: float, end: float, steps: int) -> Schedule:
    r"""Go in a straight line: :math:`f(t) = start + (end - start) \cdot t / steps`, then `end`.

    Parameters
    ----------
    start, end : float
        Value at step 0, and at `steps` and ever after.
    steps : int
        Length of the line, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> from fastnn import schedules
    >>> [round(schedules.linear(0.5, 0.9, steps=2)(step), 3) for step in range(4)]
    [0.5, 0.7, 0.9, 0.9]
    """
    start, end = any_number("start", start), any_number("end", end)
    return Schedule(_linear, (start, end, positive("steps", steps)))


def _linear(t: float, start: float, end: float, steps: int) -> float:
    return end if t >= steps else start + (end - start) * (t / steps)


def polynomial_decay(
    initial: float, steps: int, final: float = 0.0, power: float = 1.0
) -> Schedule:
    r"""Decay as a power of the time left, then hold the final value.

    .. math:: f(t) = final + (initial - final) (1 - t / steps)^{power}

    Parameters
    ----------
    initial, final : float
        Value at step 0, and at `steps` and ever after.
    steps : int
        Length of the decay, at least 1.
    power : float
        At least 0; 1 is a straight line.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    The "poly" policy of Chen et al. 2018, DeepLab (arXiv 1606.00915), which has power 0.9.

    Examples
    --------
    >>> from fastnn import schedules
    >>> [schedules.polynomial_decay(1.0, steps=2, power=2)(step) for step in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """
    initial, final = any_number("initial", initial), any_number("final", final)
    steps, power = positive("steps", steps), at_least_0("power", power)
    return Schedule(_polynomial_decay, (initial, steps, final, power))


def _polynomial_decay(t: float, initial: float, steps: int, final: float, power: float) -> float:
    return final if t >= steps else final + (initial - final) * (1 - t / steps) ** power


def cosine_decay(initial: float, steps: int, final: float = 0.0) -> Schedule:
    r"""Decay along half a cosine wave, then hold the final value.

    .. math:: f(t) = final + (initial - final) (1 + \cos(\pi t / steps)) / 2

    Parameters
    ----------
    initial, final : float
        Value at step 0, and at `steps` and ever after.
    steps : int
        Length of the decay, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Loshchilov & Hutter 2017, SGDR (arXiv 1608.03983), equation 5 without restarts. PyTorch's
    ``CosineAnnealingLR(T_max=steps, eta_min=final)`` climbs again after `steps`.

    Examples
    --------
    >>> from fastnn import schedules
    >>> [round(schedules.cosine_decay(1.0, steps=4)(step), 4) for step in range(6)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """
    initial, final = any_number("initial", initial), any_number("final", final)
    return Schedule(_cosine_decay, (initial, positive("steps", steps), final))


def _cosine_decay(t: float, initial: float, steps: int, final: float) -> float:
    return final if t >= steps else _half_wave(initial, final, t / steps)


def cosine_cycles(peak: float, steps: int, cycles: int = 4) -> Schedule:
    r"""Rise from 0 and fall back to it several times, each time for twice as long, then hold 0.

    .. math:: f(t) = \frac{peak}{2} (1 - \cos(2 \pi \log_2(1 + (2^{cycles} - 1)\, t / steps)))

    Parameters
    ----------
    peak : float
        The value at the top of each cycle.
    steps : int
        Length of all cycles together, at least 1.
    cycles : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Holzmüller, Grinsztajn & Steinwart 2024, Better by default (arXiv 2407.04491), "coslog".

    Examples
    --------
    >>> from fastnn import schedules
    >>> [round(schedules.cosine_cycles(1.0, steps=15)(step), 4) for step in (0, 1, 2, 3, 15)]
    [0.0, 0.0, 0.9304, 0.0, 0.0]
    """
    peak, steps = any_number("peak", peak), positive("steps", steps)
    return Schedule(_cosine_cycles, (peak, steps, positive("cycles", cycles)))


def _cosine_cycles(t: float, peak: float, steps: int, cycles: int) -> float:
    if t >= steps:
        return 0.0
    done = math.log2(1 + (2**cycles - 1) * t / steps)
    return peak * (1 - math.cos(2 * math.pi * done)) / 2


def _half_wave(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def warmup(schedule: Callable[[float], float], steps: int) -> Schedule:
    r"""Rise in a straight line from 0 to a schedule's first value, then follow the schedule.

    .. math:: f(t) = g(0) \cdot t / steps \text{ while } t < steps, \text{ then } g(t - steps)

    Parameters
    ----------
    schedule : callable
        The schedule :math:`g`.
    steps : int
        Length of the rise; 0 for none.

    Raises
    ------
    TypeError, ValueError
        If `schedule` is not callable or `steps` is not an integer ≥ 0.

    Notes
    -----
    Goyal et al. 2017, Accurate, large minibatch SGD (arXiv 1706.02677), section 2.2, "gradual
    warmup".

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedule = schedules.warmup(schedules.step_decay(1.0, 0.5, every=2), steps=4)
    >>> [schedule(step) for step in range(9)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    """
    if not callable(schedule):
        raise TypeError(f"schedule: expected a schedule, got {schedule!r}")
    return Schedule(_warmup, (schedule, integer("steps", steps, 0)))


def _warmup(t: float, schedule: Callable[[float], float], steps: int) -> float:
    value = any_number("schedule", schedule(max(t - steps, 0)))
    return value * (t / steps) if t < steps else value


def cyclic(
    base: float, peak: float, step_size_up: int, step_size_down: int | None = None,
    mode: str = "triangular", gamma: float = 1.0,
) -> Schedule:
    r"""Swing between base and peak in straight lines.

    .. math:: f(t) = base + (peak - base) \cdot h(t) \cdot a(t)

    The height :math:`h` rises from 0 to 1 in `step_size_up` steps and falls in `step_size_down`;
    the amplitude :math:`a` is 1 in mode ``"triangular"``, halves with every cycle in
    ``"triangular2"`` and is :math:`\gamma^t` in ``"exp_range"``.

    Parameters
    ----------
    base, peak : float
        Value at the start of each cycle, and at the top of the first. A peak below the base makes
        the inverse cycle, for momentum.
    step_size_up, step_size_down : int
        Steps of the rise and of the fall, at least 1; the fall is as long as the rise by default.
    mode : {"triangular", "triangular2", "exp_range"}
        How the amplitude changes.
    gamma : float
        In [0, 1]; used by ``"exp_range"`` alone.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Smith 2017, Cyclical learning rates for training neural networks (arXiv 1506.01186), section 3.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedule = schedules.cyclic(0.0, 1.0, step_size_up=2, mode="triangular2")
    >>> [schedule(step) for step in range(9)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]
    """
    base, peak = any_number("base", base), any_number("peak", peak)
    up = positive("step_size_up", step_size_up)
    down = up if step_size_down is None else positive("step_size_down", step_size_down)
    choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    return Schedule(_cyclic, (base, peak, up, down, mode, fraction("gamma", gamma)))


def _cyclic(
    t: float, base: float, peak: float,
    step_size_up: int, step_size_down: int, mode: str, gamma: float,
) -> float:
    cycle, rest = divmod(t, step_size_up + step_size_down)
    height = min(rest / step_size_up, 1 - (rest - step_size_up) / step_size_down)
    amplitude = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**t}[mode]
    rate: float = base + (peak - base) * height * amplitude
    return rate


def one_cycle(
    peak: float, total_steps: int, pct_start: float = 0.3,
    div_factor: float = 25, final_div_factor: float = 1e4,
) -> Schedule:
    r"""Rise along half a cosine wave, fall along another to far below the start, then hold.

    From peak / div_factor at step 0 to `peak` at step pct_start · total_steps - 1, and down to
    peak / div_factor / final_div_factor at step total_steps - 1. Both ways, with s the share of the
    way that is done,

    .. math:: f = end + (start - end) (1 + \cos(\pi s)) / 2

    Parameters
    ----------
    peak : float
        The value at the top.
    total_steps : int
        Length of the cycle, at least 1.
    pct_start : float
        Fraction of the cycle spent rising, in [0, 1].
    div_factor, final_div_factor : float
        Peak over initial value, and initial over final value; above 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Smith & Topin 2018, Super-convergence (arXiv 1708.07120), as PyTorch's ``OneCycleLR`` with its
    two cosine phases. The momentum that goes with it, 0.95 to 0.85 and back, has peak 0.85,
    div_factor 0.85 / 0.95 and final_div_factor 1.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedule = schedules.one_cycle(1.0, total_steps=100)
    >>> [round(schedule(step), 6) for step in (0, 29, 99, 1000)]
    [0.04, 1.0, 4e-06, 4e-06]
    """
    pct_start = fraction("pct_start", pct_start)
    div_factor = above_0("div_factor", div_factor)
    final_div_factor = above_0("final_div_factor", final_div_factor)
    peak, total_steps = any_number("peak", peak), positive("total_steps", total_steps)
    return Schedule(_one_cycle, (peak, total_steps, pct_start, div_factor, final_div_factor))


def _one_cycle(
    t: float, peak: float, total_steps: int,
    pct_start: float, div_factor: float, final_div_factor: float,
) -> float:
    initial = peak / div_factor
    final = initial / final_div_factor
    top, last = pct_start * total_steps - 1, total_steps - 1
    if top > 0 and t <= top:
        return _half_wave(initial, peak, t / top)
    return final if t >= last else _half_wave(peak, final, (t - top) / (last - top))


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """Hold ``values[i]`` until step ``boundaries[i]``, where ``values[i + 1]`` begins.

    Parameters
    ----------
    boundaries : sequence of int
        Steps at which the value changes: increasing, at least 1.
    values : sequence of float
        One more than boundaries.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, length or order.

    Notes
    -----
    A value begins at its boundary, as in PyTorch's ``MultiStepLR``; in Keras one step later.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedule = schedules.piecewise_constant([2, 4], [0.1, 0.01, 0.001])
    >>> [schedule(step) for step in range(6)]
    [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """
    boundaries = tuple(positive("boundaries", step) for step in several("boundaries", boundaries))
    values = tuple(any_number("values", value) for value in several("values", values))
    if any(a >= b for a, b in pairwise(boundaries)):
        raise ValueError(f"boundaries: expected increasing steps, got {boundaries}")
    if len(values) != len(boundaries) + 1:
        raise ValueError(f"values: expected {len(boundaries) + 1} of them, got {len(values)}")
    return Schedule(_piecewise_constant, (boundaries, values))


def _piecewise_constant(t: float, boundaries: tuple[int, ...], values: tuple[float, ...]) -> float:
    return values[bisect_right(boundaries, t)]
