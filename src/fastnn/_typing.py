"""Names of types that signatures share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Rng", "Shape"]

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
Rng: TypeAlias = int | np.random.Generator | None  # where random numbers come from
