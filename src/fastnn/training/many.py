"""Many trainers at once, one on each processor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from fastnn._door.arrays import describe
from fastnn._door.numbers import integer
from fastnn._kernels.core import get_num_threads, one_thread
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

__all__ = ["fit_many", "on_threads"]

Item = TypeVar("Item")
Done = TypeVar("Done")


def fit_many(
    trainers: Iterable[Trainer],
    x: ArrayLike,
    y: Any,
    *,
    rng: int | None = None,
    callbacks: Iterable[Any] = (),
    progress: bool | str = False,
    **options: Any,
) -> list[History]:
    """Train many models on the same data, on as many threads as there are processors.

    Each is trained by one thread and gets the bits of its own ``trainer.fit``.

    Parameters
    ----------
    trainers : list of Trainer
        Each with a model and an optimizer of its own.
    x, y : array_like
    rng : int, optional
        Each trainer shuffles as with ``fit(rng=rng)``; with None its own stream goes on.
    callbacks : list
        Each trainer gets a shallow copy of every object.
    progress : {"auto", True, False, "epochs"}
        What each shows of its own progress, as of `Trainer.fit`.
    **options
        `epochs`, which must be given, and whatever else ``Trainer.fit`` takes.

    Returns
    -------
    list of History
        In the order of `trainers`.

    Raises
    ------
    TypeError
        If one is no Trainer, or `rng` is neither an integer nor None.
    ValueError
        If a trainer, a model, an optimizer or a random generator occurs twice.
    Exception
        Whatever a `fit` raises, the first one in order. Trainers that have begun end their epoch
        before, no others begin.

    Notes
    -----
    Ctrl-C, or a signal whose handler raises, stops all after the steps that they are at.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> def trainer(seed):
    ...     model = fastnn.Sequential(fastnn.Linear(2, 8), fastnn.Tanh(), fastnn.Linear(8, 1),
    ...                               rng=seed)
    ...     return fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=0.01))
    >>> x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    >>> histories = fastnn.fit_many([trainer(seed) for seed in range(4)], x, x[:, :1] * x[:, 1:],
    ...                             epochs=3, rng=0)
    >>> len(histories), len(histories[0].history["loss"])
    (4, 3)
    """
    several = _checked(trainers)
    if rng is not None:
        rng = integer("rng", rng, 0)
    else:
        _expect_apart("rng", [trainer.rng for trainer in several])
    given = list(callbacks)

    def fit(trainer: Trainer) -> History:
        own = [copy.copy(callback) for callback in given]
        return trainer.fit(x, y, rng=rng, callbacks=own, progress=progress, **options)

    def stop(interrupted: bool) -> None:
        for trainer in several:
            trainer.stop_training = True
            trainer._abandoned = interrupted  # not to the end of the epoch

    try:
        return on_threads(fit, several, stop)
    finally:
        for trainer in several:
            trainer._abandoned = False


def on_threads(
    task: Callable[[Item], Done], items: Sequence[Item], stop: Callable[[bool], None] | None = None
) -> list[Done]:
    """Return what `task` makes of each item, on as many threads as there are processors.

    Inside, kernels run on one thread. What a task raises is raised, the first one in order: then
    no other task begins, and those that have begun are waited for. `stop`, called before that, is
    told whether it was the calling thread that was interrupted.
    """
    threads = min(get_num_threads(), len(items))
    if threads <= 1:
        return [task(item) for item in items]
    with ThreadPoolExecutor(threads, initializer=one_thread) as pool:
        futures: list[Future[Done]] = []
        try:
            futures += [pool.submit(task, item) for item in items]
            return [future.result() for future in futures]
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            own = any(f.done() and not f.cancelled() and f.exception() is error for f in futures)
            if stop is not None:
                stop(not own)
            raise


def _checked(trainers: Iterable[Trainer]) -> list[Trainer]:
    """Return the trainers, their models built in order, or raise unless each stands alone."""
    several = list(trainers)
    for i, trainer in enumerate(several):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainers[{i}]: expected a Trainer, got {describe(trainer)}")
    _expect_apart("trainer", several)
    _expect_apart("optimizer", [t.optimizer for t in several if t.optimizer is not None])
    layers: list[Any] = []
    for trainer in several:
        trainer.model._built()
        layers += [layer for _, layer in trainer.model._layers()]
    _expect_apart("layer", layers)
    parameters = [p for t in several for p in t.model.parameters()]
    _expect_apart("parameter", parameters)
    return several


def _expect_apart(kind: str, things: Iterable[Any]) -> None:
    """Raise ValueError if something is there twice."""
    seen: set[int] = set()
    for thing in things:
        if id(thing) in seen:
            raise ValueError(
                f"trainers: expected each with a {kind} of its own, got one twice; copy.deepcopy "
                "gives another"
            )
        seen.add(id(thing))
