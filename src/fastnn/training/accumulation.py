"""Gradients of several batches for one update."""

from __future__ import annotations

from collections.abc import Iterable

from fastnn._typing import Array
from fastnn.layers.parameter import Parameter, mark_gradients

__all__ = ["Accumulation"]


class Accumulation:
    """Sums of gradients, whose mean becomes the gradient.

    Attributes
    ----------
    sums : dict of Parameter to ndarray
    total : float
        Of the weights of the batches, which their losses were divided by.
    count : int
        Number of batches.
    """

    def __init__(
        self, sums: dict[Parameter, Array] | None = None, total: float = 0.0, count: int = 0
    ) -> None:
        self.sums = sums or {}
        self.total, self.count = total, count

    def __copy__(self) -> Accumulation:
        """Return one with sums of its own, of the same parameters."""
        sums = {parameter: values.copy() for parameter, values in self.sums.items()}
        return Accumulation(sums, self.total, self.count)

    def add(self, parameters: Iterable[Parameter], weight: float) -> None:
        """Add the present gradients with the weight of their batch."""
        sums = dict(self.sums)
        for parameter in parameters:
            sums[parameter] = weight * parameter.grad_array
            if parameter in self.sums:
                sums[parameter] += self.sums[parameter]
        # all at once: an interruption finds the batch in it or not
        self.sums, self.total, self.count = sums, self.total + weight, self.count + 1

    def take(self) -> None:
        """Put the mean into the gradients, and begin anew."""
        factor = 1 / self.total if self.total else 0.0
        for parameter, values in self.sums.items():
            parameter.grad_array[...] = factor * values
            parameter.mark_dense()
        mark_gradients(self.sums)
        self.sums, self.total, self.count = {}, 0.0, 0
