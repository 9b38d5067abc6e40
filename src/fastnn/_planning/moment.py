"""One moment for all that a copy or a pickle takes piece by piece.

pickle and copy.deepcopy ask a trainer, its model, the layers and the parameters for their states,
one after the other, and another thread may train meanwhile. So whoever is asked first takes the
states of all that belongs to it at once, under its lock, and the others find theirs here until that
of the first is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from threading import local
from typing import Any
from weakref import ref

import numpy as np

__all__ = ["known_state", "state_of_one_moment", "without_moment"]

_KEY = "_moment"


class _Moment:
    """States by those that have them; it is the last thing in the state of the first of them."""

    def __init__(self, first: Any, states: dict[Any, dict[str, Any]], outer: Any) -> None:
        self.first, self.states, self.outer = first, states, outer

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave None in the pickle, in which all that belongs together is by now."""
        _here.moment = self.outer
        return type(None), ()


class _Here(local):
    moment: Any = None  # a weak reference: a pickle that has failed leaves none behind


_here = _Here()


def known_state(thing: Any) -> dict[str, Any] | None:
    """Return the state of something in the pickle that this thread is making, if it is taken."""
    found = _here.moment
    while found is not None and (moment := found()) is not None:
        if thing in moment.states and thing is not moment.first:
            state: dict[str, Any] = moment.states[thing]
            return state
        found = moment.outer
    return None


def state_of_one_moment(
    thing: Any, lock: AbstractContextManager[Any], belonging: Callable[[], Iterable[Any]]
) -> dict[str, Any]:
    """Return the state of something with that of all that belongs to it, itself included.

    Each has a method `_own_state`; arrays in what that returns are copied.
    """
    known = known_state(thing)
    if known is not None:
        return known
    with lock:
        states = {each: _copied(each._own_state()) for each in belonging()}
    moment = _Moment(thing, states, _here.moment)
    _here.moment = ref(moment)
    return {**states[thing], _KEY: moment}


def without_moment(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a pickle holds without what is left of its moment."""
    return {name: value for name, value in state.items() if name != _KEY}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
