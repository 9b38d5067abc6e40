"""What a trainer computes without training: predictions, losses and metrics of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.numbers import positive
from fastnn._kernels.door import as_input, output
from fastnn._planning.carried import CarriedState
from fastnn._typing import Array
from fastnn.losses.loss import Loss
from fastnn.training import step
from fastnn.training.data import (
    Data,
    counted_steps,
    expect_lengths,
    sequences,
    several,
)
from fastnn.training.metrics import METRICS, Metric, resolve_metrics

__all__ = ["PREDICTED", "Trainer", "check_metrics"]

# Samples that are predicted at a time.
PREDICTED = 256


class Trainer(step.Trainer):
    """What a trainer does for data sets; see :class:`fastnn.Trainer`."""

    __slots__ = ()

    def predict(
        self,
        x: ArrayLike,
        batch_size: int = PREDICTED,
        out: Array | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> Array:
        """Compute the model's output, batch by batch, as it is outside training.

        Parameters
        ----------
        x : array_like, shape (samples, ...)
        batch_size : int
            Samples at a time; the memory for what lies between the layers is as large. With
            `stateful` the number of sequences that continue.
        out : ndarray, shape (samples, ...), optional
            Where the result goes: C-contiguous, of the model's dtype.
        lengths : array_like of int, shape (samples,), optional
            How many steps of each sequence count, for recurrent models.

        Returns
        -------
        ndarray, shape (samples, ...)

        Raises
        ------
        TypeError
            If `x` is no array of numbers, or `out` has another dtype.
        ValueError
            If a shape does not fit, or `out` is read-only, strided or shares memory with `x`.
        """
        x, lengths, _ = sequences(x, lengths)
        return self._predict(x, lengths, positive("batch_size", batch_size), out)

    def _predict(
        self, x: Any, lengths: Array | None, batch_size: int, out: Array | None = None
    ) -> Array:
        model = self.model._built()
        with model.lock:
            x = self._samples(x)
            program = self.model._program(x.shape[1:], False, self._precision)
            if lengths is not None:
                expect_lengths(program)
            shape = (len(x), *program.schedule.y.shape)
            y = output(out, shape, model.dtype, [x])
            self._check_continuing(len(x), batch_size)
            if len(x) <= batch_size and lengths is None and not program.schedule.carried:
                program.forward(len(x), x, y, None)
                return y
            carried = CarriedState()
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                arrays = carried.arrays(program, batch_size) if self.stateful else {}
                if lengths is not None:
                    arrays["lengths"] = lengths[rows]
                program.forward(len(x[rows]), x[rows], y[rows], arrays or None)
                carried.commit()
            if program.schedule.carried:
                program.schedule.hand_out({})
        return y

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        element_weight: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        batch_size: int = PREDICTED,
        metrics: Iterable[str | Metric] = (),
    ) -> dict[str, float]:
        """Measure the loss, with its penalty, and metrics on a data set.

        Parameters
        ----------
        x, y, sample_weight, element_weight, lengths
            As of `fit`.
        batch_size : int
            Samples at a time; the result does not depend on it, save with `stateful`, where it is
            the number of sequences that continue.
        metrics : list of str or callable
            As of `fit`.

        Returns
        -------
        dict of str to float
            "loss" and the metrics.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or does not fit.
        """
        measured = resolve_metrics(metrics, self.loss)
        batch_size = positive("batch_size", batch_size)
        with self.model._built().lock:
            data = self._data(x, y, sample_weight, element_weight, lengths)
        check_metrics(measured, data.y)
        with self.model._built().lock:
            pred = self._predict(data.x, data.lengths, batch_size)
            return self._score(data, measured, pred)

    def _predict_joined(
        self, data: Data, batch_size: int, sharded: bool
    ) -> tuple[Data, Array]:
        """Return a data set and the predictions for it, joined from those of all ranks."""
        group = self._group
        if group is None or (self.stateful and not sharded):
            return data, self._predict(data.x, data.lengths, batch_size)
        part = slice(None) if sharded else group.share(len(data.x))
        with group.together():
            lengths = None if data.lengths is None else data.lengths[part]
            pred = self._predict(data.x[part], lengths, batch_size)
        if sharded:
            names = ("y", "sample_weight", "element_weight", "mask")
            data = data._replace(**{name: group.join(getattr(data, name)) for name in names})
        return data, group.join(pred)

    def _score(
        self, data: Data, metrics: Mapping[str, Metric], pred: Array
    ) -> dict[str, float]:
        with self.model._built().lock:
            if isinstance(self.loss, Loss):
                weights = data.sample_weight, data.element_weight, data.mask
                loss = float(self.loss(pred, data.y, *weights)[0])
            else:
                model = self.model._built()
                loss, _ = self._ask_loss(model, pred, data.y, data.sample_weight)
            if self.l2:
                loss += self._penalty()
        return {"loss": loss, **self._measure(metrics, data, pred)}

    @staticmethod
    def _measure(metrics: Mapping[str, Metric], data: Data, pred: Array) -> dict[str, float]:
        y = data.y
        if data.mask is not None and isinstance(y, np.ndarray):
            y, pred = y[data.mask], pred[data.mask]
        return {name: float(metric(y, pred)) for name, metric in metrics.items()}

    # Data sets -------------------------------------------------------------------------------

    def _data(
        self, x: Any, y: Any, sample_weight: Any = None, element_weight: Any = None,
        lengths: Any = None,
    ) -> Data:  # fmt: skip
        """Return a data set, converted and checked."""
        dtype, program = self.model._built().dtype, None
        x, lengths, mask = sequences(x, lengths)
        x = self._some_samples(x)
        if isinstance(self.loss, Loss):
            program, y, row_weight, mask = self._fitting(
                x, y, sample_weight, element_weight, mask
            )
        else:
            mask = counted_steps(self._custom_plan(x.shape[1:]).program, mask)
            y, row_weight = several(y, len(x)), None
            if element_weight is not None:
                raise ValueError(
                    "element_weight: expected None with a loss in Python, got one; y may be a "
                    "tuple that holds it"
                )
        if sample_weight is not None:
            sample_weight = as_input(sample_weight, "sample_weight", dtype)
            if sample_weight.shape != x.shape[:1]:
                raise ValueError(
                    f"sample_weight: expected shape {x.shape[:1]}, one weight per sample, "
                    f"got {sample_weight.shape}"
                )
        if element_weight is not None:
            element_weight = as_input(element_weight, "element_weight", dtype)
        return Data(
            x, y, sample_weight, element_weight, lengths, mask, row_weight, self.loss, program
        )

    def _refreshed(self, data: Data) -> Data:
        """Return a data set checked anew if the loss or the model has changed since."""
        if data.loss is self.loss:
            if data.program is None:
                return data
            loss = self.loss.suited_to(data.y)
            by_element = loss.weighs_elements(data.element_weight, data.mask)
            if self._plan(data.x.shape[1:], loss, by_element) is data.program:
                return data
        return self._data(*data[:5])

    def _check_continuing(self, samples: int, batch_size: int) -> None:
        if self.stateful and samples % batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of the {samples} samples with stateful=True, "
                f"got {batch_size}"
            )


def check_metrics(metrics: Mapping[str, Metric], y: Any) -> None:
    if not isinstance(y, np.ndarray) and (known := [name for name in metrics if name in METRICS]):
        raise ValueError(
            f"metrics: expected functions (y_true, y_pred) of your own for y of several arrays, "
            f"got {known[0]!r}"
        )
