"""States of optimizers in fewer bits: what the numbers in `Optimizer.state` mean.

``"bfloat16"`` is the upper half of a float32, as uint16. ``"int8"`` is block-wise: uint8 codes with
one float32 scale, a power of two, for 256 elements. A code is the exponent above that of the scale
and three bits of mantissa, below a sign where the state has one, so that it is precise to 1/16 of
itself over 2¹⁵ (2³¹ for states without a sign). Kernels round by thresholds that are exact on
average over the steps; see ``_kernels/c/optim_states.inc``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastnn._kernels.update import STATE_BLOCK as BLOCK
from fastnn._planning.memory import aligned_zeros
from fastnn._typing import Array

__all__ = ["BLOCK", "DTYPES", "SCALE", "UNSIGNED", "Arena", "pack", "unpack"]

SCALE = "_scale"  # what the name of a state's scales ends with
DTYPES: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype(np.uint16), "int8": np.dtype(np.uint8)}
# States that are never negative; the kernels have them in the enumerations of optim.inc.
UNSIGNED = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"})


def unpack(name: str, packed: Array, scale: Array | None = None) -> Array:
    """Return the values of a state, float32.

    Parameters
    ----------
    name : str
        The state's name, which says whether it has a sign.
    packed : array
        As in `Optimizer.state`; one of float32 or float64 comes back as it is.
    scale : array of float32, optional
        For ``"int8"``: the scales, one for each 256 elements.

    Examples
    --------
    >>> unpack("exp_avg", np.array([0x3F80, 0xC020], np.uint16))
    array([ 1. , -2.5], dtype=float32)
    """
    if packed.dtype.kind == "f":
        return packed
    if scale is None:
        bits: Array = packed.astype(np.uint32) << 16
        return bits.view(np.float32)
    code = packed.reshape(-1).astype(np.uint32)
    marked = np.repeat(scale, BLOCK)[: code.size]
    base = np.abs(marked)
    largest = 255 if name in UNSIGNED else 127
    values: Array = (base.view(np.uint32) + ((code & largest) << 20)).view(np.float32)
    if name not in UNSIGNED:
        values = np.where(code & 128, base - values, values - base)
    values[(marked < 0) & ((code & largest) == largest)] = np.nan
    return values.reshape(packed.shape)


def pack(
    name: str, values: Array, dtype: str, threshold: float = 0.5
) -> tuple[Array, Array | None]:
    """Return finite values as they are stored, and their scales for ``"int8"``.

    Parameters
    ----------
    name : str
        The state's name, which says whether it has a sign.
    values : array
        What to store.
    dtype : {"bfloat16", "int8"}
        The format.
    threshold : float or array
        From which fraction below the next code to round up: 0.5 is the nearest code.

    Examples
    --------
    >>> unpack("sum", *pack("sum", np.array([1.0, 1.1, 3.0]), "int8"))
    array([1.   , 1.125, 3.   ], dtype=float32)
    """
    values = np.asarray(values, np.float32, order="C")
    if dtype == "bfloat16":
        part = np.asarray(np.asarray(threshold) * 2**16, np.uint32)
        return ((values.view(np.uint32) + part) >> 16).astype(np.uint16), None
    part = np.asarray(np.asarray(threshold) * 2**20, np.uint32)
    flat = values.reshape(-1)
    blocks = -(-flat.size // BLOCK)
    size = np.zeros(blocks * BLOCK, np.float32)
    size[: flat.size] = np.abs(flat)
    exponent = size.reshape(blocks, BLOCK).max(axis=1).view(np.uint32) & 0x7F800000
    room = np.uint32((30 if name in UNSIGNED else 14) << 23)
    scale = np.where(exponent > room, exponent - room, np.uint32(1 << 23)).view(np.float32)
    base = np.repeat(scale, BLOCK)[: flat.size]
    size = size[: flat.size]
    size = np.maximum(size, base) if name in UNSIGNED else size + base
    code = (size.view(np.uint32) - base.view(np.uint32) + part.reshape(-1)) >> 20
    if name not in UNSIGNED:
        code |= flat.view(np.uint32) >> 24 & 128
    return code.astype(np.uint8).reshape(values.shape), scale


class Arena:
    """Memory of many arrays, one block for each key, in which arrays follow one another.

    Neighbours among the parameters then have neighbouring states, and are updated as one.
    """

    def __init__(self) -> None:
        self._size: dict[Any, int] = {}
        self._dtype: dict[Any, np.dtype[Any]] = {}
        self._memory: dict[Any, Array] = {}

    def reserve(
        self, key: Any, dtype: np.dtype[Any], size: int, multiple: int = 1, phase: int = 0
    ) -> tuple[Any, int]:
        """Return the place of `size` elements, at an index that is `phase` modulo `multiple`."""
        start = self._size.get(key, 0)
        start += (phase - start) % multiple
        self._size[key], self._dtype[key] = start + size, dtype
        return key, start

    def array(self, place: tuple[Any, int], shape: tuple[int, ...]) -> Array:
        """Return the array at a reserved place, zeros at first."""
        key, start = place
        if key not in self._memory:
            self._memory[key] = aligned_zeros(self._size[key], self._dtype[key])
        return self._memory[key][start : start + prod(shape)].reshape(shape)

    def blocks(self) -> list[Array]:
        """Return all memory that arrays have been taken from."""
        return list(self._memory.values())
