"""Random states as scikit-learn makes them, in less time."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import MT19937, RandomState
from numpy.random.bit_generator import ISeedSequence
from sklearn.utils import check_random_state

from fastnn._typing import Array

__all__ = ["random_state"]


class Unseeded(ISeedSequence):
    """Stands in for the system's entropy in a state that is seeded right away."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        """Return zeros."""
        return np.zeros(n_words, dtype)


def random_state(seed: Any) -> RandomState:
    """Return what ``check_random_state`` returns.

    ``RandomState(seed)`` first fills itself from the system, which takes as long as fifty steps of
    a small network.
    """
    if not isinstance(seed, Integral):
        state: RandomState = check_random_state(seed)
        return state
    state = RandomState(MT19937(Unseeded()))  # type: ignore[arg-type]
    state.seed(seed)  # type: ignore[arg-type]
    return state
