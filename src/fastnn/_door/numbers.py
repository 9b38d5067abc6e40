"""Numbers, switches and names at the door: right as they are, or an error that names the argument.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from math import inf, isfinite, prod
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastnn._door.arrays import FLOATS, describe


def number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = inf,
    *,
    above: bool = False,
    below: bool = False,
    finite: bool = True,
) -> float:
    """Return a number of a range as a float.

    Parameters
    ----------
    name : str
        What to call it in an error message.
    value : float
        What was given; Python's and NumPy's real numbers are.
    low, high : float
        The range, from `low` to `high`.
    above, below : bool
        Whether `low` and `high` themselves are left out.
    finite : bool
        Whether infinity is left out.

    Raises
    ------
    TypeError
        If it is no number; True and False are none.
    ValueError
        If it is out of range or NaN.

    Examples
    --------
    >>> number("p", np.float32(0.5), high=1)
    0.5
    >>> number("p", 1, high=1, below=True)
    Traceback (most recent call last):
    ValueError: p: expected a number in [0, 1), got 1
    """
    result: float = value
    if type(value) is not float:  # asking for Real takes ten times as long
        real = isinstance(value, Real) and not isinstance(value, bool)
        if not real:
            shown = f" {value!r}" if isinstance(value, str | bool) else ""
            raise TypeError(f"{name}: expected a number, got {describe(value)}{shown}")
        try:
            result = float(value)
        except OverflowError:  # an int beyond all floats
            result = inf if value > 0 else -inf
    inside = (low < result if above else low <= result) and (
        result < high if below else result <= high
    )
    if not inside or (finite and not isfinite(result)):
        kind = "a finite number" if finite and high == inf else "a number"
        if high < inf:
            ends = f" in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
        else:
            ends = "" if low == -inf else f" {'>' if above else '>='} {low:g}"
        raise ValueError(f"{name}: expected {kind}{ends}, got {value!r}")
    return result


# What most arguments are.


def any_number(name: str, value: Any) -> float:
    """Return a finite number as a float, or raise as :func:`number` does."""
    return number(name, value, -inf)


def real(name: str, value: Any) -> float:
    """Return a number, NaN or infinite ones included, as a float; TypeError if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {describe(value)}") from None


def at_least_0(name: str, value: Any) -> float:
    """Return a finite number >= 0 as a float, or raise as :func:`number` does."""
    return number(name, value)


def above_0(name: str, value: Any) -> float:
    """Return a finite number > 0 as a float, or raise as :func:`number` does."""
    return number(name, value, above=True)


def limit(name: str, value: Any) -> float:
    """Return a number > 0, infinity included, as a float, or raise as :func:`number` does."""
    return number(name, value, above=True, finite=False)


def fraction(name: str, value: Any) -> float:
    """Return a number in [0, 1] as a float, or raise as :func:`number` does."""
    return number(name, value, 0.0, 1.0)


def below_1(name: str, value: Any) -> float:
    """Return a number in [0, 1) as a float, or raise as :func:`number` does."""
    return number(name, value, 0.0, 1.0, below=True)


def integer(name: str, value: Any, low: float = 1, high: float = inf) -> int:
    """Return an integer of the range from `low` to `high` as an int.

    Raises
    ------
    TypeError
        If it is no integer; True and False are none.
    ValueError
        If it is out of range.
    """
    if type(value) is int and low <= value <= high:  # as most are
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {describe(value)}") from None
    if not low <= result <= high:
        if high < inf:
            wanted = f"an integer from {low} to {high}"
        else:
            wanted = "a positive integer" if low == 1 else f"an integer >= {low}"
        raise ValueError(f"{name}: expected {wanted}, got {result}")
    return result


def positive(name: str, value: Any) -> int:
    """Return an integer of at least 1 as an int, or raise as :func:`integer` does."""
    return integer(name, value)


def boolean(name: str, value: Any) -> bool:
    """Return True or False, Python's or NumPy's, as a bool; TypeError if it is neither."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def several(name: str, value: Any, what: str = "numbers") -> tuple[Any, ...]:
    """Return the members of a list, whatever they are; TypeError if it is none."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected a list of {what}, got {describe(value)}")
    return tuple(value)


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return the two elements of a sequence; TypeError if it is none, or has not two."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name}: expected a pair of numbers, got {value!r}")
    return value[0], value[1]


def value_and_gradient(name: str, result: Any, what: str = "value") -> tuple[float, Any]:
    """Return the two things that a function of someone's own is to return, the first as a float.

    Raises
    ------
    TypeError
        If it has returned something else.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: expected ({what}, gradient), got {describe(result)}")
    value, gradient = result
    try:
        return float(value), gradient
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected a number and a gradient, got {describe(value)}"
        ) from None


def choice(name: str, value: Any, allowed: Collection[str | None]) -> Any:
    """Return `value` if it is one of the names that are allowed.

    Raises
    ------
    ValueError
        If it is not, with what a misspelt name may have been meant to be.

    Examples
    --------
    >>> choice("mode", "mim", ("auto", "min", "max"))
    Traceback (most recent call last):
    ValueError: mode: expected 'auto', 'min' or 'max', got 'mim'; did you mean 'min'?
    """
    if (isinstance(value, str) or value is None) and value in allowed:
        return value
    if len(allowed) > 3:
        wanted = f"one of {', '.join(map(str, allowed))}"
    else:
        *first, last = map(repr, allowed)
        wanted = f"{', '.join(first)} or {last}" if first else last
    raise ValueError(f"{name}: expected {wanted}, got {value!r}{did_you_mean(value, allowed)}")


# What PyTorch and Keras call some things.
_ELSEWHERE = {
    "bce": "binary_cross_entropy_with_logits",
    "binary_crossentropy": "binary_cross_entropy_with_logits",
    "bce_with_logits": "binary_cross_entropy_with_logits", "mae": "l1", "smooth_l1": "huber",
    "categorical_crossentropy": "cross_entropy", "sparse_categorical_crossentropy": "cross_entropy",
    "mean_squared_error": "mse", "mean_absolute_error": "l1", "acc": "accuracy",
    "glorot_normal": "xavier_normal", "glorot_uniform": "xavier_uniform",
    "kaiming_normal": "he_normal", "kaiming_uniform": "he_uniform",
}  # fmt: skip


def did_you_mean(value: Any, allowed: Iterable[Any]) -> str:
    """The end of a message: which of the names that are allowed is most like a misspelt one."""
    from difflib import get_close_matches

    names = [name for name in allowed if isinstance(name, str)]
    if not isinstance(value, str):
        return ""
    plain = value.lower()
    close = [_ELSEWHERE[plain]] if _ELSEWHERE.get(plain) in names else []
    close = close or get_close_matches(value, names, n=1) or get_close_matches(plain, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype; TypeError if it is neither."""
    try:
        result: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        result = None
    if dtype is None or result is None or result not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return result


def shape(name: str, value: Any, low: int = 0) -> tuple[int, ...]:
    """Return an int, or several, as a tuple of sizes of at least `low`.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If a size is less than `low`, or they are of more elements than there are addresses.
    """
    if isinstance(value, str) or (type(value) is not tuple and not np.iterable(value)):
        value = (value,)
    sizes = tuple([integer(name, size, low) for size in value])
    if prod(sizes) >= 2**60:  # of 8 bytes each
        raise ValueError(f"{name}: expected fewer than 2**60 elements, got shape {sizes}")
    return sizes


def generator(rng: Any) -> np.random.Generator:
    """Return the generator that an int, a Generator or None (fresh entropy) stands for.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it is a negative int.
    """
    if type(rng) is np.random.Generator:
        return rng
    valid = rng is None or isinstance(rng, Integral | np.random.Generator)
    if not valid or isinstance(rng, bool):
        raise TypeError(
            f"rng: expected an int, a numpy.random.Generator or None, got {describe(rng)}"
        )
    if isinstance(rng, Integral) and rng < 0:
        raise ValueError(f"rng: expected an int >= 0, got {rng}")
    return np.random.default_rng(rng)
