"""Which rows of a data set make the batches of a rank."""

from __future__ import annotations

import numpy as np

from fastnn._typing import Array
from fastnn.distributed.group import Group

__all__ = ["Shares"]


class Shares:
    """The batches of an epoch on this rank.

    Parameters
    ----------
    group : Group or None
        None for a process alone.
    samples : int
        That this rank has.
    batch_size : int
        Of one rank.
    sharded : bool
        Whether the samples are this rank's alone; else all ranks have the same.

    Attributes
    ----------
    steps : int
        Batches of an epoch, the same on all ranks.
    batch : int
        Samples of a batch that are taken from the order in which this rank sees the samples.

    Raises
    ------
    ValueError
        If the ranks have different numbers of samples that should be the same.
    """

    def __init__(
        self, group: Group | None, samples: int, batch_size: int, sharded: bool = False
    ) -> None:
        self.group, self.samples, self.sharded = group, samples, sharded
        self._cuts = group is not None and not sharded
        self.batch = batch_size * group.size if group is not None and not sharded else batch_size
        self.steps = -(-samples // self.batch)
        if group is not None:
            counts = group.comm.allgather(samples)
            if not sharded and len(set(counts)) > 1:
                raise ValueError(
                    f"x: expected the same samples on every rank, got {counts} of them; "
                    "sharded=True is for ranks that have samples of their own"
                )
            self.steps = -(-max(counts) // self.batch)

    @property
    def last(self) -> int:
        """Samples of the smallest batch of this rank that has any."""
        last = self.samples % self.batch or min(self.batch, self.samples)
        return max(1, last // self.group.size) if self.group is not None and self._cuts else last

    def order(self, stream: np.random.Generator | None) -> Array:
        """Return the order of the samples in an epoch; that in which they lie without a stream."""
        if stream is None:
            return np.arange(self.samples)
        if self.group is not None and self.sharded:  # the common stream goes on alike on all ranks
            stream = np.random.default_rng([stream.integers(2**63), self.group.rank])
        return stream.permutation(self.samples)

    def rows(self, order: Array, first: int, count: int) -> Array:
        """Return the rows of `count` batches from `first` on."""
        rows = order[first * self.batch : (first + count) * self.batch]
        return rows[self.group.share(len(rows))] if self.group is not None and self._cuts else rows
