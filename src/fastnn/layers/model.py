"""What it takes to run a layer: a place for its arrays, programs, their memory, a lock."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from threading import get_ident
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastnn._kernels.program import Memory, Program, SeveralLocks, Version
from fastnn._planning.watched import new_lock
from fastnn._typing import Array
from fastnn.layers.parameter import Parameter

Made = TypeVar("Made")

# Plans that a model keeps, for so many shapes of inputs.
PLANS = 64

# Held while arrays get their place, so that a model is built once whoever uses it first.
BUILDING = new_lock()


class Recent(dict[Hashable, Any]):
    """The few plans that have been made last, by what they were made from."""

    def keep(self, key: Hashable, made: Made) -> Made:
        """Keep and return what was made for `key`; the oldest goes if there are many."""
        if len(self) >= PLANS:
            for oldest in list(self)[:1]:  # at once: another thread may clear it
                self.pop(oldest, None)
        self[key] = made
        return made


class Pending(NamedTuple):
    """A training forward pass that waits for its backward pass."""

    program: Program
    rows: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    single: bool  # one sample was given without an axis for the batch
    arrays: dict[str, Array] | None  # of the caller, besides x and y
    thread: int


# Pending while a loss in Python is asked: who runs the model in training meanwhile replaces it.
IN_LOSS: Any = object()


class Model:
    """A layer that is run: programs for its input shapes, their memory, and the version of it all.

    Attributes
    ----------
    dtype : dtype
    lock : context manager
        To be held by whoever runs the layer or writes its arrays; layers that share parameters
        share it.
    version : Version
        Grows when something that plans have captured changes; programs compare it before they run.
    memory : dict of bool to Memory
        The block of all inference programs (False) and that of all training programs (True).
    pending : Pending or None
    last_shape : tuple of int or None
        Of one sample of the last call.
    in_loss : bool
        Whether a trainer waits for a loss in Python.
    forgets : int
        How often the gradient of a parameter has been forgotten.
    """

    def __init__(self, dtype: np.dtype[Any], locks: set[Any]) -> None:
        self.dtype = dtype
        self.lock = locks.pop() if len(locks) == 1 else SeveralLocks(locks)
        self.version = Version()
        self.memory = {False: Memory(), True: Memory()}
        self.programs = Recent()
        self.pending: Pending | None = None
        self.in_loss = False
        self.forgets = 0
        self.last_shape: tuple[int, ...] | None = None

    def awaited(self) -> Pending:
        """Return the forward pass that waits for its backward pass, or raise RuntimeError."""
        if self.in_loss:
            raise RuntimeError(
                "backward: expected no backward pass of the model inside its own loss; the trainer "
                "makes it"
            )
        if self.pending is None:
            raise RuntimeError(
                "backward: expected a forward(x, training=True) before it, one for each call"
            )
        if self.pending.thread != get_ident():
            raise RuntimeError("backward: the forward pass was made by another thread")
        return self.pending

    def forgotten(self) -> None:
        """Note that the gradient of a parameter has been forgotten."""
        self.forgets += 1

    def invalidate(self) -> None:
        """Plan anew before the next run."""
        self.version.value += 1
        self.programs.clear()


def new_random_state(rng: np.random.Generator) -> Array:
    """Return the (key, step) pair with which a layer's own stream of random numbers starts."""
    return np.array([rng.integers(0, 2**64, dtype=np.uint64), 0], np.uint64)


def arenas(parameters: Iterable[Parameter]) -> list[tuple[Array, Array]]:
    """Return values and gradients of parameters as flat arrays; neighbours are joined."""
    runs: list[list[Parameter]] = []
    for parameter in sorted(parameters, key=lambda p: p.array.ctypes.data):
        if runs and _are_neighbours(runs[-1][-1], parameter):
            runs[-1].append(parameter)
        else:
            runs.append([parameter])
    return [
        (_joined([p.array for p in run]), _joined([p.grad_array for p in run])) for run in runs
    ]


def _are_neighbours(one: Parameter, other: Parameter) -> bool:
    return all(
        a.base is not None and a.base is b.base and a.ctypes.data + a.nbytes == b.ctypes.data
        for a, b in ((one.array, other.array), (one.grad_array, other.grad_array))
    )


def _joined(arrays: list[Array]) -> Array:
    first = arrays[0]
    if len(arrays) == 1:
        return first.reshape(-1)
    memory: Any = first.base  # the bytes of an arena
    start = first.ctypes.data - memory.ctypes.data
    joined: Array = memory[start : start + sum(a.nbytes for a in arrays)].view(first.dtype)
    return joined
