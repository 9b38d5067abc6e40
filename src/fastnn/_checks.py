"""What functions on arrays check before they call a kernel, which checks nothing."""

from collections.abc import Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._arrays import as_input, as_target, describe, view
from fastnn._kernels._core import floats, output

__all__ = [
    "FLOATS", "as_array", "as_floats", "as_output", "floats", "generator", "number", "output",
    "positive",
]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_array(obj: Any, name: str) -> NDArray[Any]:
    """View an array of real numbers that is only read, whatever its dtype and order.

    Raises
    ------
    TypeError
        If `obj` is no array of real numbers.
    """
    array = view(obj)
    if array is None:
        try:
            array = np.asarray(obj)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {describe(obj)}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {describe(obj)} ({array.dtype})")
    return array


def as_floats(names: Sequence[str], arrays: Sequence[Any], optional: int) -> tuple[Any, ...]:
    """Convert arrays as :func:`floats` does; the last `optional` may be None."""
    required = len(arrays) - optional
    found = [
        None if x is None and i >= required else as_array(x, names[i])
        for i, x in enumerate(arrays)
    ]
    given = [x for x in found if x is not None]
    dtype = FLOATS[any(x.dtype.kind == "f" and x.dtype.itemsize >= 8 for x in given)]
    return tuple(
        None if x is None else np.asarray(as_input(x, name, dtype))
        for x, name in zip(found, names, strict=True)
    )


def as_output(
    out: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Sequence[NDArray[Any] | None],
    in_place: bool,
) -> NDArray[Any]:
    """View `out` as :func:`output` does, or tell what keeps it from taking the result."""
    y = as_target(out, "out")
    if y.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {y.dtype}")
    if y.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {y.shape}")
    for x in inputs:
        if x is None or (x is y and in_place):
            continue
        if np.may_share_memory(x, y) and not (in_place and x.ctypes.data == y.ctypes.data):
            allowed = "its own memory or exactly that of an input" if in_place else "its own memory"
            raise ValueError(f"out: expected {allowed}, got memory that overlaps an input")
    return y


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
