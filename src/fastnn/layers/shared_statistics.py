"""Batch normalization with the statistics of the batches of all ranks."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from fastnn._typing import Array

__all__ = ["SharedStatistics", "catch_up"]


class SharedStatistics:
    """The training pass of a BatchNorm1d over the samples of all ranks, for one plan.

    Sums over a channel are made in float64 and added over the ranks before they are used; ranks
    without samples add nothing.

    Parameters
    ----------
    layer : BatchNorm1d
    group : Group
    trained : list of Parameter
        Those of weight and bias whose gradients are wanted.

    Attributes
    ----------
    gone_forward : bool
        Whether the batch has gone forward and not yet back.
    """

    def __init__(self, layer: Any, group: Any, trained: list[Any]) -> None:
        self._layer, self.group, self.trained = ref(layer), group, trained
        self.gone_forward = False
        self.channels = layer.num_features
        self.count = 0.0
        self.normal = np.empty(0)  # the input with mean 0 and variance 1
        self.scale = np.empty(0)  # 1 / standard deviation

    def _sums(self, *sums: Array, count: float = 0.0) -> tuple[float, Array]:
        """Add up a count and sums of channels over the ranks."""
        numbers = np.concatenate([[count], *sums])
        self.group.comm.Allreduce(self.group.in_place, numbers)
        return float(numbers[0]), numbers[1:].reshape(len(sums), -1)

    def forward(self, y: Array, x: Array) -> None:
        """Normalize a batch, and note its statistics in the running ones."""
        layer: Any = self._layer()
        mean = self._meet(_sum(x), x.size / self.channels)
        centred = x - _column(mean, x)
        variance = self._spread(_sum(centred * centred))
        self.gone_forward = True
        self.scale = 1 / np.sqrt(variance + layer.eps)
        self.normal = centred * _column(self.scale, x)
        y[...] = self.normal
        if layer.affine:
            y *= _column(layer.weight.array, x)
            y += _column(layer.bias.array, x)

    def _meet(self, sums: Array, count: float) -> Array:
        """Return the mean over all ranks."""
        self.count, ((*total,),) = self._sums(sums, count=count)
        if self.count < 2:
            raise ValueError(
                "x: expected at least 2 samples on all ranks for the statistics of the batch, "
                f"got {self.count:.0f}"
            )
        self.mean = np.array(total) / self.count
        return self.mean

    def _spread(self, sums: Array) -> Array:
        """Return the variance over all ranks, and note it and the mean in the running ones."""
        layer: Any = self._layer()
        _, (total,) = self._sums(sums)
        share, unbiased = layer.momentum, total / (self.count - 1)
        for running, value in ((layer.running_mean, self.mean), (layer.running_var, unbiased)):
            running.array[...] = (1 - share) * running.array + share * value
        variance: Array = total / self.count
        return variance

    def backward(self, dx: Array, dy: Array) -> None:
        """Compute the gradients, those of weight and bias over this rank's samples alone."""
        layer: Any = self._layer()
        own = _sum(dy * self.normal), _sum(dy)
        for parameter, value in zip((layer.weight, layer.bias), own, strict=True):
            if parameter in self.trained:
                parameter.grad_array[...] = value
        _, (slope, base) = self._sums(*own)
        self.gone_forward = False
        scale = self.scale if not layer.affine else self.scale * layer.weight.array
        along = self.normal * _column(slope / self.count, dy)
        dx[...] = (dy - along - _column(base / self.count, dy)) * _column(scale, dy)


def catch_up(shared: list[SharedStatistics]) -> None:
    """Take part in what is left of a pass without samples; for layers in the order of it."""
    for statistics in shared:
        if not statistics.gone_forward:
            nothing = np.zeros(statistics.channels)
            statistics._meet(nothing, 0)
            statistics._spread(nothing)
            statistics.gone_forward = True
    for statistics in reversed(shared):
        if statistics.gone_forward:
            nothing = np.zeros(statistics.channels)
            statistics._sums(nothing, nothing)
            statistics.gone_forward = False


def _sum(values: Array) -> Array:
    """Sum over the batch, and over the length of channels that have one."""
    axes = (0,) if values.ndim == 2 else (0, 2)
    total: Array = values.sum(axis=axes, dtype=np.float64)
    return total


def _column(channels: Array, like: Array) -> Array:
    """Return numbers of channels as they are added to a batch."""
    column: Array = channels if like.ndim == 2 else channels[:, None]
    return column
