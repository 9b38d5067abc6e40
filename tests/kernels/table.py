"""What a row of the kernel table is: a kernel, the arguments of a call and what it must compute."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# One less, one more and exactly a register, or several; 1023 spans blocks of 1024 but one.
SIZES = (0, 1, 3, 7, 8, 9, 15, 17, 31, 33, 63, 65, 1023)

# Values that inputs may hold beside ordinary ones.
NON_FINITE = (np.inf, -np.inf, np.nan)
EDGES = (0.0, -0.0, *NON_FINITE, 1e-42, -1e-42, 5e-324, 3e38, -3e38, 1e-30, 88.0, -104.0, 700.0)
FINITE_EDGES = tuple(value for value in EDGES if np.isfinite(value))


@dataclass(frozen=True)
class Draw:
    """Makes the random arrays of one case.

    With `special`, every third element or so is one of them.
    """

    rng: np.random.Generator
    dtype: np.dtype[Any]
    special: tuple[float, ...] = ()

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Normal numbers, and special ones among them."""
        values = (scale * self.rng.standard_normal(shape)).astype(self.dtype)
        if self.special:
            special = self.rng.choice(np.array(self.special, self.dtype), shape)
            values = np.where(self.rng.random(shape) < 0.3, special, values)
        return values

    def positive(self, *shape: int) -> np.ndarray:
        """Uniform numbers from 0.5 to 2."""
        return self.rng.uniform(0.5, 2, shape).astype(self.dtype)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """Integers in [0, high), int64."""
        return self.rng.integers(0, high, shape)


@dataclass(frozen=True)
class Case:
    """One call of a kernel, and its expected outputs in double precision.

    `scale` holds for each output the magnitude that its absolute error is measured by.
    """

    inputs: tuple[np.ndarray | None, ...]
    expected: tuple[np.ndarray, ...]
    sizes: tuple[int, ...] = ()
    scalars: tuple[float, ...] = ()
    items: int = 0
    initial: tuple[np.ndarray, ...] | None = None  # what the outputs hold, to be added to
    scale: tuple[Any, ...] = (0,)
    accumulate: bool = False


@dataclass(frozen=True)
class Row:
    """A kernel and how to test it.

    Attributes
    ----------
    kernel, variant : str
    make : callable
        ``make(draw, size) -> Case``
    tolerance : float or pair of float
        Relative error in units of the dtype's eps, for (float32, float64).
    special : tuple of float
        Special values that its floating inputs may hold.
    by_register : bool
        Whether its arrays depend on the width of the registers.
    """

    kernel: str
    make: Callable[[Draw, int], Case]
    tolerance: float | tuple[float, float] = 4
    special: tuple[float, ...] = ()
    by_register: bool = field(default=False, kw_only=True)
    variant: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.kernel}-{self.variant}" if self.variant else self.kernel


def wide(*arrays: np.ndarray | None) -> list[Any]:
    """The floating arrays in double precision."""
    return [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]


def finite_magnitude(x: np.ndarray) -> np.ndarray:
    """|x| in double precision, 0 where x is not finite."""
    return np.where(np.isfinite(x), np.abs(x.astype(np.float64)), 0)


def accumulated(draw: Draw, case: Case) -> Case:
    """The same case with results that are added to what the outputs hold."""
    initial = tuple(draw.normal(*y.shape) for y in case.expected)
    expected = tuple(y + start for y, start in zip(case.expected, wide(*initial), strict=True))
    scale = tuple(s + finite_magnitude(i) for s, i in zip(case.scale, initial, strict=True))
    return replace(case, initial=initial, expected=expected, scale=scale, accumulate=True)
