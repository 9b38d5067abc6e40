"""The states of one parameter, whose arrays stay where they are."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, NoReturn

import numpy as np

from fastnn._door.arrays import as_array, describe
from fastnn._typing import Array
from fastnn.optim.storage import SCALE, UNSIGNED, pack

__all__ = ["State"]


class State(MutableMapping[str, Array]):
    """The states of one parameter by name: live arrays, which a step changes in place.

    What is assigned is copied into place: an array of any real dtype and of the same shape. With a
    `state_dtype`, one of the stored dtype is taken for what is stored, and any other for values,
    which are rounded to the nearest that can be stored (a scale of "int8" is computed then). No
    state can be removed, and none added: `Optimizer.reset_state` lets them start anew.

    Raises
    ------
    AttributeError
        From ``del``, `pop`, `clear` and the like, and for a name that is not there.
    TypeError, ValueError
        If what is assigned is no such array. Nothing has been changed then.
    """

    __slots__ = ("_arrays", "_packed")

    def __init__(self, arrays: dict[str, Array], packed: str | None) -> None:
        self._arrays, self._packed = arrays, packed

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __setitem__(self, name: str, values: Any) -> None:
        place = self._arrays.get(name)
        if place is None:
            there = ", ".join(self._arrays) or "none"
            raise AttributeError(f"state[{name!r}]: expected one of its states ({there})")
        array = as_array(values, name)
        if array.shape != place.shape:
            raise ValueError(f"{name}: expected {describe(place)}, got {describe(array)}")
        if self._packed is None or name.endswith(SCALE) or array.dtype == place.dtype:
            place[...] = array
            return
        if self._packed == "int8":
            largest = np.finfo(np.float32).max
            least = 0 if name in UNSIGNED else -largest
            if not ((array >= least) & (array <= largest)).all():
                raise ValueError(
                    f"{name}: expected numbers from {least:g} to {largest:g}, which 'int8' "
                    "can store"
                )
        place[...], scale = pack(name, array, self._packed)
        if scale is not None:
            self._arrays[name + SCALE][...] = scale

    def __delitem__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"state[{name!r}]: a state cannot be removed; assign 0 * state[{name!r}], or let all "
            "start anew by reset_state()"
        )

    def clear(self) -> NoReturn:
        """Refuse, by an AttributeError: `Optimizer.reset_state` lets all states start anew."""
        raise AttributeError("state: cannot be cleared; reset_state() lets all states start anew")

    def __repr__(self) -> str:
        return repr(self._arrays)
