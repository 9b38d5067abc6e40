"""Many models over many processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastnn.distributed.group import group_of

__all__ = ["map_trainers"]

Setting = TypeVar("Setting")
Result = TypeVar("Result")

_STOP = 1  # the tag of a message that another rank has failed


def map_trainers(
    make: Callable[[Setting], Result], settings: Iterable[Setting], comm: Any = None
) -> list[Result]:
    """Train a model for each setting, the settings dealt out to the ranks.

    Parameters
    ----------
    make : callable
        ``make(setting) -> result`` makes a trainer, trains it, and returns what is wanted of it: a
        score, a history, parameters, the trainer itself; anything that can be pickled. The trainer
        is one without `comm`.
    settings : iterable
        The same on all ranks.
    comm : mpi4py.MPI.Intracomm, optional
        All of whose ranks make this call. None for this process alone.

    Returns
    -------
    list
        The results in the order of the settings, the same on all ranks.

    Raises
    ------
    Exception
        What `make` raises on one rank is raised on all; the others end the model that they are at.
    ImportError, TypeError
        If `comm` is given and mpi4py is not installed, or it is no communicator.

    Notes
    -----
    Rank r gets settings r, r + ranks, r + 2 ranks, ..., so that settings in the order of their cost
    burden all alike. Nothing is sent before the end.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn.distributed import map_trainers
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> def make(lr):
    ...     model = fastnn.Linear(1, 1, rng=0)
    ...     optimizer = fastnn.optim.Adam(model.parameters(), lr=lr)
    ...     trainer = fastnn.Trainer(model, "mse", optimizer)
    ...     return trainer.fit(x, 2 * x, epochs=50, progress=False, rng=0).history["loss"][-1]
    >>> losses = map_trainers(make, [1e-4, 1e-2])
    >>> losses[1] < losses[0]
    True
    """
    settings, group = list(settings), group_of(comm)
    if group is None:
        return [make(setting) for setting in settings]
    comm, mine, messages = group.comm, list[Result](), []
    others = [rank for rank in range(group.size) if rank != group.rank]
    error: BaseException | None = None
    try:
        for setting in settings[group.rank :: group.size]:
            if comm.Iprobe(tag=_STOP):
                break
            mine.append(make(setting))
    except BaseException as raised:
        error = raised
        messages = [comm.isend(None, rank, _STOP) for rank in others]
    failed = comm.allgather(error is not None)
    for rank in others:
        if failed[rank]:
            comm.recv(source=rank, tag=_STOP)
    group.wait_all(messages)
    group.sum(error=error)
    dealt = comm.allgather(mine)
    return [dealt[i % group.size][i // group.size] for i in range(len(settings))]
