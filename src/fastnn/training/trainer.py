"""Training: a model, a loss and an optimizer together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from math import nan
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_any, describe
from fastnn._door.numbers import generator, positive
from fastnn._kernels.door import as_input, output
from fastnn._kernels.update import Taking
from fastnn._typing import Array, Rng
from fastnn.callbacks import CallbackList, ProgressBar
from fastnn.layers.base import Layer
from fastnn.losses.loss import Loss
from fastnn.optim import Optimizer
from fastnn.training.carried import CarriedState
from fastnn.training.history import History
from fastnn.training.metrics import Metric, resolve_metrics
from fastnn.training.state import restore_trainer, save_trainer
from fastnn.training.step import Stepper

__all__ = ["History", "Trainer"]


# Samples that are predicted at a time.
_PREDICTED = 256
# Seconds that `fit` stays in C before it looks for signals and shows its progress.
_AT_A_TIME = 0.05


class Trainer(Stepper):
    r"""Trains a model: forward, loss, backward and update as one program.

    Parameters
    ----------
    model : Layer
    loss : str or callable
        What :func:`fastnn.losses.resolve` takes: the name of a loss ("mse", "cross_entropy", ...),
        a function of :mod:`fastnn.losses` or a :func:`functools.partial` of one, all of which run
        in C; or any callable ``(pred, target) -> (loss, gradient)``, which is also given the
        sample weights if there are any.
    optimizer : Optimizer or None
        Over parameters of the model, or some of them. With None, `step` computes gradients only.
    l2 : float
        λ of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` that is part of the loss and of the
        gradients.
    l2_on : {"all", "weights"}
        Whether the penalty is on all parameters, or on those with two axes and more: no biases.
    clip_norm : float, optional
        Largest norm of all gradients together; larger ones are scaled down. It goes before the
        optimizer's own.
    clip_value : float, optional
        Largest size of an element of a gradient; larger ones are brought to it, before `clip_norm`.
        It goes before the optimizer's own.
    stateful : bool
        Whether recurrent layers start a batch in the state in which they ended the one before:
        sequence j of a batch continues sequence j of the last one, and gradients end at the
        borders (truncated back-propagation through time). See Notes.
    comm : mpi4py.MPI.Comm, optional
        Processes that train copies of the model together, each on its own data: gradients are
        averaged before every update. Give the models the same `rng`, and every process as many
        batches.

    Attributes
    ----------
    model, loss, optimizer, l2, l2_on, clip_norm, clip_value, comm, stateful
        As given; `loss` is resolved.
    stop_training : bool
        Set by callbacks to end `fit` after the present epoch.
    history : History
        Of the last `fit`, even if it was interrupted.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the optimizer has arrays that are
        not the model's parameters.

    Notes
    -----
    Threads may share a trainer: each call locks model and optimizer.

    With `stateful`, `fit` starts each epoch with new sequences and takes them in order
    (``shuffle=False``) in batches of equal size, as
    :func:`fastnn.preprocessing.continue_rows` cuts them; `step` goes on until `reset_state`.
    `predict` and `evaluate` start at zero and carry a state of their own from batch to batch.
    Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", Neural Computation 2(4), 1990.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Linear(1, 1, rng=0)
    >>> trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    >>> x = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> history = trainer.fit(x, 2 * x + 1, epochs=100, rng=0)
    >>> print(model.weight.data.round(2), model.bias.data.round(2))
    [[2.]] [1.]
    """

    __slots__ = ("_at_once",)

    # Many steps ------------------------------------------------------------------------------

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[ArrayLike, ...] | None = None,
        metrics: Iterable[str | Metric] = (),
        callbacks: Iterable[Any] = (),
        progress: bool = True,
        rng: Rng = None,
    ) -> History:
        """Train for some epochs; each sees every sample once.

        Parameters
        ----------
        x : array_like, shape (samples, ...)
        y : array_like, shape (samples, ...)
        epochs : int
        batch_size : int
            Samples per step; the last batch of an epoch has those that are left.
        shuffle : bool
            Whether every epoch goes through the samples in a new random order.
        sample_weight : array_like, shape (samples,), optional
        validation_data : (x, y) or (x, y, sample_weight), optional
            Evaluated after each epoch, as "val_loss" and so on.
        metrics : list of str or callable
            "accuracy", "mae", "mse", "rmse", "r2", or ``metric(y_true, y_pred) -> float``. They
            are measured after each epoch on the training and the validation data, unweighted.
        callbacks : list
            Objects with ``on_epoch_end(epoch, logs)``; see :mod:`fastnn.callbacks`.
        progress : bool
            Whether to show the progress, if standard error is a terminal.
        rng : int, numpy.random.Generator or None
            Shuffles. Without it the trainer's own stream goes on, which `save` keeps: 3 epochs,
            `restore` and 3 epochs more equal 6.

        Returns
        -------
        History
            "loss" is the mean over the epoch of the loss before each update (the sum, for losses
            with ``reduction="sum"``).

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or does not fit. Nothing has been changed then.

        Notes
        -----
        Arrays of the model's dtype (labels: int64) that are C-contiguous are not copied. Batches
        run in C without the interpreter's lock; a few times per second `fit` looks for signals. An
        interrupted training leaves model and optimizer as they were after the last step.
        """
        epochs, batch_size = positive("epochs", epochs), positive("batch_size", batch_size)
        if self.optimizer is None:
            raise ValueError("optimizer: expected one to train with, got None")
        measured = resolve_metrics(metrics, self.loss)
        stream = None if rng is None else generator(rng)
        if self.stateful and shuffle:
            raise ValueError("shuffle: expected False with stateful=True, got True")
        with self.model._built().lock:
            in_c = isinstance(self.loss, Loss) and self.comm is None
            data = self._data(x, y, sample_weight, in_c)
            self._check_batches(data, batch_size)
            validation = self._validation(validation_data)
            if validation is not None:
                self._check_continuing(len(validation[0]), batch_size)
        samples, self._at_once = len(data[0]), 1
        at_a_time = batch_size if self.stateful else _PREDICTED
        hooks = CallbackList(callbacks, self)
        bar = ProgressBar()
        if progress:
            bar.start(epochs, -(-samples // batch_size))
        self.history, self.stop_training = History(), False
        logs: dict[str, float] = {}
        try:
            hooks.on_train_begin()
            for epoch in range(epochs):
                hooks.on_epoch_begin(epoch)
                self._carried.reset()
                if shuffle:
                    order = (self.rng if stream is None else stream).permutation(samples)
                else:
                    order = np.arange(samples)
                logs = {"loss": self._epoch(data, order, batch_size, in_c, bar)}
                if measured:
                    logs |= self._measure(measured, data[1], self.predict(data[0], at_a_time))
                if validation is not None:
                    score = self._score(validation, measured, at_a_time)
                    logs |= {f"val_{name}": value for name, value in score.items()}
                self.history.append(epoch, logs)
                hooks.on_epoch_end(epoch, logs)
                bar.epoch_end(epoch, logs)
                if self.stop_training:
                    break
        finally:
            bar.close()
            hooks.on_train_end(logs)
        return self.history

    def _data(
        self, x: Any, y: Any, weight: Any, each_row: bool = False
    ) -> tuple[Array, Array, Array | None]:
        """Return samples, targets and weights of a data set, converted and checked.

        There is one weight for each sample or, with `each_row`, for each row of its prediction.
        """
        dtype = self.model._built().dtype
        x = self._samples(x)
        if len(x) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {x.shape}")
        if weight is not None:
            weight = as_input(weight, "sample_weight", dtype)
            if weight.shape != x.shape[:1]:
                raise ValueError(
                    f"sample_weight: expected shape {x.shape[:1]}, one weight per sample, "
                    f"got {weight.shape}"
                )
        if isinstance(self.loss, Loss):
            loss = self.loss.suited_to(y)
            shape = (len(x), *self._plan(x.shape[1:], loss).schedule.y.shape)
            y, row_weight = loss.check(shape, dtype, y, weight)
            return x, y, row_weight if each_row else weight
        y = as_any(y, "y")
        if y.ndim == 0 or len(y) != len(x):
            raise ValueError(f"y: expected {len(x)} samples, as x has, got shape {y.shape}")
        return x, y, weight

    def _check_batches(self, data: tuple[Array, Array, Array | None], batch_size: int) -> None:
        """Raise if the last batch is too small, for its statistics or to go on from the others."""
        self._check_continuing(len(data[0]), batch_size)
        shape = data[0].shape[1:]
        if isinstance(self.loss, Loss):
            program: Any = self._plan(shape, self.loss.suited_to(data[1]))
        else:
            program = self.model._program(shape, True)
        least, last = program.schedule.minimum_rows, len(data[0]) % batch_size or batch_size
        if min(last, len(data[0])) < least:
            raise ValueError(
                f"batch_size: expected batches of at least {least} samples for the statistics of "
                f"the batch, got {batch_size}, which leaves {last} for the last one"
            )

    def _check_continuing(self, samples: int, batch_size: int) -> None:
        if self.stateful and samples % batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of the {samples} samples with stateful=True, "
                f"got {batch_size}"
            )

    def _validation(self, given: Any) -> tuple[Array, Array, Array | None] | None:
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise TypeError(
                f"validation_data: expected (x, y) or (x, y, sample_weight), got {describe(given)}"
            )
        return self._data(*given, *(None,) * (3 - len(given)))

    def _epoch(
        self, data: Any, order: Array, batch_size: int, in_c: bool, bar: ProgressBar
    ) -> float:
        """Take the steps of one epoch and return its mean loss."""
        steps, done = -(-len(order) // batch_size), 0
        losses, totals = np.empty(steps), np.empty(steps)
        while done < steps:
            began = time.perf_counter()
            count = min(self._at_once, steps - done)
            rows, part = order[done * batch_size :][: count * batch_size], slice(done, done + count)
            if in_c:
                losses[part], totals[part] = self._steps(data, rows, batch_size, count)
            else:
                losses[part], totals[part] = self._one_step(data, rows)
            done += count
            if bar.enabled:
                bar.update(done, _mean(losses[:done], totals[:done]))
            if in_c:
                passed = max(time.perf_counter() - began, 1e-9)
                self._at_once = max(1, min(int(count * _AT_A_TIME / passed), 16 * count))
        if getattr(self.loss, "reduction", "mean") == "sum":
            return float(losses.sum())
        return _mean(losses, totals)

    def _steps(self, data: Any, rows: Array, batch_size: int, count: int) -> tuple[Array, Array]:
        """Take `count` steps in C; returns their losses, and by what these were divided."""
        x, y, weight = data
        optimizer = self.optimizer
        assert optimizer is not None
        assert isinstance(self.loss, Loss)
        model = self.model._built()
        with model.lock:
            program = self._plan(x.shape[1:], self.loss.suited_to(y))
            model.pending = None  # its memory is used now
            if program.class_weight is not None:
                program.class_weight[...] = self._loss.class_weight
            carried = self._carried.arrays(program, batch_size) if self.stateful else None
            with Taking(optimizer, True, count, self.clip_norm, self.clip_value) as table:
                try:
                    return program.steps(x, y, weight, rows, batch_size, table, carried)
                finally:
                    if table.taken:
                        self._end(model, program)
                        if self.stateful:
                            self._carried.commit()

    def _one_step(self, data: Any, rows: Array) -> tuple[float, float]:
        """Take one step through Python; returns its loss, and by what that was divided."""
        batch: list[Any] = [None if array is None else array[rows] for array in data]
        loss = self.step(*batch)
        return loss, self._last.total if self._last else len(rows)

    # Without training ------------------------------------------------------------------------

    def predict(
        self, x: ArrayLike, batch_size: int = _PREDICTED, out: Array | None = None
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
        batch_size = positive("batch_size", batch_size)
        model = self.model._built()
        with model.lock:
            x = self._samples(x)
            program = self.model._program(x.shape[1:], False)
            shape = (len(x), *program.schedule.y.shape)
            y = output(out, shape, model.dtype, [x])
            self._check_continuing(len(x), batch_size)
            carried = CarriedState()
            for start in range(0, len(x), batch_size):
                batch = x[start : start + batch_size]
                arrays = carried.arrays(program, batch_size) if self.stateful else None
                program.forward(len(batch), batch, y[start : start + batch_size], arrays)
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
        batch_size: int = _PREDICTED,
        metrics: Iterable[str | Metric] = (),
    ) -> dict[str, float]:
        """Measure the loss, with its penalty, and metrics on a data set.

        Parameters
        ----------
        x, y, sample_weight
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
        with self.model._built().lock:
            data = self._data(x, y, sample_weight)
        return self._score(data, measured, batch_size)

    def _score(
        self, data: Any, metrics: Mapping[str, Metric], batch_size: int = _PREDICTED
    ) -> dict[str, float]:
        x, y, weight = data
        with self.model._built().lock:
            pred = self.predict(x, batch_size)
            loss = float(self.loss(pred, y, *(() if weight is None else (weight,)))[0])
            if self.l2:
                arrays = (parameter.data for parameter in self._penalized())
                loss += 0.5 * self.l2 * sum(float(np.sum(a * a, dtype=np.float64)) for a in arrays)
        return {"loss": loss, **self._measure(metrics, y, pred)}

    @staticmethod
    def _measure(metrics: Mapping[str, Metric], y: Array, pred: Array) -> dict[str, float]:
        return {name: float(metric(y, pred)) for name, metric in metrics.items()}

    # Saving ----------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write all that a resumed training needs to a safetensors file.

        That is the model's parameters and buffers, the states, step counts and hyper-parameters of
        the optimizer, `l2`, `l2_on`, `clip_norm`, `clip_value`, all random states and the state of
        sequences that go on. Schedules, which are functions, and the loss are given anew to
        `restore`. An existing file is replaced only by a complete one.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        save_trainer(self, path)

    @classmethod
    def restore(
        cls,
        path: str | PathLike[str],
        model: Layer,
        loss: str | Loss | Callable[..., tuple[float, ArrayLike]],
        optimizer: Optimizer,
        *,
        comm: Any = None,
    ) -> Trainer:
        """Read what `save` wrote into a model and an optimizer, and go on from there bit for bit.

        Parameters
        ----------
        path : str or path
        model : Layer
            Made as the saved one was.
        loss : str or callable
        optimizer : Optimizer
            Of the saved one's class, over the same parameters. Its schedules are kept; its other
            hyper-parameters become the saved ones.
        comm : mpi4py.MPI.Comm, optional

        Returns
        -------
        Trainer

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or the model or the optimizer do not fit. They are unchanged then.
        """
        return restore_trainer(cls, path, model, loss, optimizer, comm)


def _mean(losses: Array, totals: Array) -> float:
    """Mean of batch losses that were divided by `totals`; NaN is the loss of an empty batch."""
    there = totals != 0
    return float(np.dot(losses[there], totals[there]) / totals[there].sum()) if there.any() else nan
