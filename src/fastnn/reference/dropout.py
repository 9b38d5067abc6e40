"""Dropout in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn._typing import Array

__all__ = ["dropout_backward", "dropout_forward", "philox"]


def philox(key: int, step: int, blocks: int) -> NDArray[np.uint64]:
    """The 32-bit words (4 blocks,) of Philox4x32-10 (Salmon et al. 2011).

    Block i is ten rounds of mixing the counter (i, step) with the key, 64 bits each, low word
    first, so that any word can be had without those before it.
    """
    mask = np.uint64(0xFFFFFFFF)
    counter: tuple[Array, ...] = (
        np.arange(blocks, dtype=np.uint64),
        np.zeros(blocks, np.uint64),
        np.full(blocks, step & 0xFFFFFFFF, np.uint64),
        np.full(blocks, step >> 32, np.uint64),
    )
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & mask, p0 >> 32 ^ c3 ^ k1, p0 & mask
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).ravel()


def dropout_forward(
    x: Array, p: float, key: int, step: int
) -> tuple[Array, NDArray[np.uint8]]:
    """x / (1 - p) where the element's word is at least p 2³², else 0; and the mask of the former.

    Srivastava et al. 2014, with the scale in training rather than in prediction.
    """
    words = philox(key, step, (x.size + 3) // 4)[: x.size].reshape(x.shape)
    mask = (words >= int(p * 2**32)).astype(np.uint8)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy: Array, mask: NDArray[np.uint8], p: float) -> Array:
    """dy / (1 - p) where the mask is 1, else 0."""
    return np.where(mask, dy * (1 / (1 - p) if p < 1 else 0), 0)
