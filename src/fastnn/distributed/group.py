"""The ranks that train together: what they add up, what they share, and how they fail together."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._kernels import core
from fastnn._typing import Array

__all__ = ["Group", "group_of"]

# Seconds that a rank with an error that nobody catches waits for the others to print theirs.
_GRACE = 2.0


def group_of(comm: Any) -> Group | None:
    """Return the ranks of a communicator; None if there is only one.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    TypeError
        If `comm` is no communicator.
    """
    if comm is None:
        return None
    MPI = _mpi()
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"comm: expected an mpi4py.MPI.Intracomm, got {describe(comm)}")
    if comm.Get_size() == 1:
        return None
    key = _keys.get("group")
    if key is None:
        key = _keys["group"] = MPI.Comm.Create_keyval()
    group: Group | None = comm.Get_attr(key)
    if group is None:
        group = Group(comm)
        comm.Set_attr(key, group)
    return group


_keys: dict[str, int] = {}  # under which a communicator keeps what belongs to it


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            "comm: needs mpi4py, which is not installed: pip install mpi4py, or "
            'pip install "fastnn-cpu[mpi]"'
        ) from error
    return MPI


class Group:
    """The ranks of a communicator, which all call the same methods in the same order.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Is duplicated, so that messages of others cannot be mistaken for these.

    Attributes
    ----------
    comm : mpi4py.MPI.Intracomm
    rank, size : int
    in_place, byte, wait_all, test_all : object
        Of MPI: what says that a sum replaces its argument, a type, and what is done with messages
        under way.
    """

    def __init__(self, comm: Any) -> None:
        MPI = _mpi()
        self.comm, self.rank, self.size = comm.Dup(), comm.Get_rank(), comm.Get_size()
        self.in_place, self.byte, self.wait_all = MPI.IN_PLACE, MPI.BYTE, MPI.Request.Waitall
        self.test_all = MPI.Request.Testall
        _share_processors(self.comm, MPI)
        _end_together(comm.Dup(), MPI)

    # Numbers and errors ----------------------------------------------------------------------

    def sum(self, *values: float, error: BaseException | None = None) -> list[float]:
        """Add up numbers over the ranks; raises the error of the first rank that has one on all."""
        numbers = np.array([*values, error is not None], np.float64)
        self.comm.Allreduce(self.in_place, numbers)
        if numbers[-1]:
            self._raise(error)
        return [float(number) for number in numbers[:-1]]

    def _raise(self, error: BaseException | None) -> None:
        """Raise on every rank the error of the first one that has one."""
        errors = self.comm.allgather(None if error is None else _portable(error))
        rank, raised = next((r, e) for r, e in enumerate(errors) if e is not None)
        if rank == self.rank and error is not None:
            raised = error
        else:
            raised = pickle.loads(raised)
        raised.add_note(f"This happened on rank {rank} of {self.size}.")
        raise raised

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done inside, without messages, fails on all ranks if it fails on one."""
        error = None
        try:
            yield
        except BaseException as raised:
            error = raised
        self.sum(error=error)

    # Arrays ----------------------------------------------------------------------------------

    def share(self, count: int) -> slice:
        """Return which of `count` rows are this rank's; the first ranks have one more."""
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def join(self, rows: Any) -> Any:
        """Return the rows of all ranks one behind the other: of an array, or of each of several."""
        if rows is None:
            return None
        if isinstance(rows, tuple):
            return tuple(self.join(part) for part in rows)
        if isinstance(rows, dict):
            return {name: self.join(part) for name, part in rows.items()}
        array = np.ascontiguousarray(rows)
        row_bytes = prod(array.shape[1:]) * array.itemsize
        counts = self.comm.allgather(len(array))
        joined = np.empty((sum(counts), *array.shape[1:]), array.dtype)
        self.comm.Allgatherv(
            [array, array.nbytes, self.byte],
            [joined, [count * row_bytes for count in counts], self.byte],
        )
        return joined

    def copy_from_first(self, array: Array) -> None:
        """Take the numbers that the first rank has."""
        self.comm.Bcast([array, array.nbytes, self.byte])


def _portable(error: BaseException) -> bytes:
    """Return an error as another process can raise it, with its class where that can be sent."""
    try:
        sent = pickle.dumps(error)
        pickle.loads(sent)
    except Exception:
        sent = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return sent


def _share_processors(comm: Any, MPI: Any) -> None:
    """Let the ranks of a machine use one part of its processors each, unless someone has said."""
    if "FASTNN_NUM_THREADS" in os.environ:
        return
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    mine = set(range(os.cpu_count() or 1))
    if hasattr(os, "sched_getaffinity"):
        mine = os.sched_getaffinity(0)
    available = mine.union(*node.allgather(mine))
    part = max(1, len(available) // node.Get_size())
    node.Free()
    if core.get_num_threads() > part:
        core.set_num_threads(part)


def _end_together(comm: Any, MPI: Any) -> None:
    """Let an error that nobody catches end all ranks, once those that have one too have told it.

    Without this they would wait for the rank that has gone, for ever.
    """
    if "hook" in _keys:
        return
    _keys["hook"] = 1
    before = sys.excepthook

    def hook(kind: Any, error: Any, traceback: Any) -> None:
        before(kind, error, traceback)
        sys.stdout.flush()
        sys.stderr.flush()
        others, end = comm.Ibarrier(), time.monotonic() + _GRACE
        while not others.Test() and time.monotonic() < end:
            time.sleep(0.01)
        MPI.COMM_WORLD.Abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    sys.excepthook = hook
