"""Names of types that signatures share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Rng", "Shape"]

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
# Where random numbers come from. As text: NumPy imports numpy.random when it is first asked for.
Rng: TypeAlias = "int | np.random.Generator | None"
