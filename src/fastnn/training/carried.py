"""What recurrent layers hand on from one batch to the next."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._typing import Array

__all__ = ["CarriedState"]


class CarriedState:
    """The states in which the sequences of a batch have ended, for the batch that continues them.

    A run starts from `states` and writes the ones after it elsewhere: they count from `commit` on,
    so that a batch that failed leaves nothing behind.

    Attributes
    ----------
    states : dict of str to ndarray, shape (cells, batch, 2, hidden)
        h and c by the names under which a program reads them; empty before the first batch.
    """

    def __init__(self, states: dict[str, Array] | None = None) -> None:
        self.states: dict[str, Array] = states or {}
        self._next: dict[str, Array] = {}

    def reset(self) -> None:
        """Forget: the next batch begins at zero, with any number of sequences."""
        self.states, self._next = {}, {}

    def arrays(self, program: Any, rows: int) -> dict[str, Array]:
        """Return what lets a program take `rows` sequences on from here, by slot.

        Raises
        ------
        ValueError
            If the state is that of another number of sequences, or of another model.
        """
        bound = {}
        dtype = program.schedule.dtype
        for start, end, parts, shape, _ in program.schedule.carried:
            state, shape = self.states.get(start), (parts, rows, *shape)
            if state is None:
                state = self.states[start] = np.zeros(shape, dtype)
            if (state.shape, state.dtype) != (shape, dtype):
                raise ValueError(
                    f"x: expected sequences that continue the state of {start}, "
                    f"{state.dtype} {state.shape}, got a batch for {dtype} {shape}; "
                    "reset_state() lets new ones begin"
                )
            after = self._next.setdefault(start, np.empty_like(state))
            after[...] = state
            # a sequence reads its state before it writes it, so that one array serves for both
            bound[start] = bound[end] = after
        return bound

    def commit(self) -> None:
        """Take the states after the run for those to go on from."""
        self.states, self._next = self._next, self.states
