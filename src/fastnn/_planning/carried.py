"""What recurrent layers hand on from one batch to the next."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._door.arrays import as_any, describe
from fastnn._typing import Array

__all__ = ["CarriedState", "State"]

State = None | tuple[Any, ...]  # (h, c), or a tuple of such pairs


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

    def __copy__(self) -> CarriedState:
        """Return one with states of its own."""
        return CarriedState({slot: values.copy() for slot, values in self.states.items()})

    def reset(self) -> None:
        """Forget: the next batch begins at zero, with any number of sequences."""
        self.states, self._next = {}, {}

    def state(self, model: Any) -> State:
        """Return copies of h and c of the model's recurrent layers; None before the first batch."""
        if not self.states:
            return None
        pairs = tuple(
            tuple(self.states[slot][:, :, part].copy() for part in range(2))
            for slot, _ in _places(model)
        )
        return pairs[0] if len(pairs) == 1 else pairs

    def set_state(self, model: Any, state: State) -> None:
        """Go on from the h and c given, or at zero if they are None."""
        if state is None:
            self.reset()
            return
        places = _places(model)
        pairs = (state,) if len(places) == 1 else state
        each = f"a pair (h, c) for each of {len(places)} recurrent layers"
        if not isinstance(pairs, (tuple, list)):
            raise TypeError(f"state: expected {each}, got {describe(state)}")
        if len(pairs) != len(places):
            raise ValueError(f"state: expected {each}, got {len(pairs)}")
        states = {}
        for (slot, layer), pair in zip(places, pairs, strict=True):
            if not isinstance(pair, (tuple, list)):
                raise TypeError(f"state: expected a pair (h, c), got {describe(pair)}")
            if len(pair) != 2:
                raise ValueError(f"state: expected a pair (h, c), got {len(pair)} members")
            shape = as_any(pair[0], "h").shape
            rows = shape[1] if len(shape) == 3 else 0
            states[slot] = layer._states(("h", "c"), pair, rows, model._built().dtype)
        self.reset()
        self.states = states

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
        """Take the states after the run for those to go on from; interrupted, it was not called."""
        self.states, self._next = self._next, self.states


def _places(model: Any) -> list[tuple[str, Any]]:
    """Return the recurrent layers by the names under which programs read their states."""
    return [
        (f"{path}.initial" if path else "initial", layer)
        for path, layer in model._places()
        if hasattr(type(layer), "final_state")
    ]
