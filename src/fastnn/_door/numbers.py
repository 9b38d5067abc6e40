"""Numbers at the door: of the right kind and in range, or an error that names the argument."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastnn._door.arrays import describe


def number(name: str, value: Any, low: float = 0.0, high: float = float("inf")) -> float:
    """Return a finite number of the range [low, high] as a float.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is out of range, infinite or NaN.
    """
    result = value
    if type(value) is not float:  # asking for Real takes ten times as long
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name}: expected a number, got {describe(value)}")
        result = float(value)
    if not (isfinite(result) and low <= result <= high):
        raise ValueError(f"{name}: expected a finite number in [{low}, {high}], got {value!r}")
    return result


def positive(name: str, value: Any) -> int:
    """Return `value` as a positive int, or raise."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    value = int(value.__index__())
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    return value


def generator(rng: Any) -> np.random.Generator:
    """Return the generator that an int, a Generator or None (fresh entropy) stands for.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it is a negative int.
    """
    valid = rng is None or isinstance(rng, Integral | np.random.Generator)
    if not valid or isinstance(rng, bool):
        raise TypeError(
            f"rng: expected an int, a numpy.random.Generator or None, got {describe(rng)}"
        )
    if isinstance(rng, Integral) and rng < 0:
        raise ValueError(f"rng: expected an int >= 0, got {rng}")
    return np.random.default_rng(rng)
