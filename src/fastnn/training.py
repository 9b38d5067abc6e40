"""Training: a model, a loss and an optimizer together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from math import nan, prod
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._arrays import as_input, describe, view
from fastnn._checks import number, output
from fastnn._kernels._program import LossProgram
from fastnn._loss import Loss
from fastnn._metrics import Metric, resolve_metrics
from fastnn.builder import GRADIENT, SERIAL, Builder, Scalar
from fastnn.callbacks import CallbackList, ProgressBar
from fastnn._trainer_state import restore_trainer, save_trainer
from fastnn.history import History
from fastnn.layers.base import Layer, as_generator
from fastnn.layers.linear import positive
from fastnn.losses import l2_penalty, resolve
from fastnn.optim import Optimizer
from fastnn.optim.base import check_hyper_parameter

__all__ = ["History", "Trainer"]

Array = NDArray[Any]

# Seconds that `fit` stays in C before it looks for signals and shows its progress.
_AT_A_TIME = 0.05


class Trainer:
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
        λ of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` over all parameters, biases
        included, that is part of the loss and of the gradients.
    clip_norm : float, optional
        Largest norm of all gradients together; larger ones are scaled down. It goes before the
        optimizer's own.
    comm : mpi4py.MPI.Comm, optional
        Processes that train copies of the model together, each on its own data: gradients are
        averaged before every update. Give the models the same `rng`, and every process as many
        batches.

    Attributes
    ----------
    model, loss, optimizer, l2, clip_norm, comm
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

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Linear(1, 1, rng=0)
    >>> trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    >>> x = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> history = trainer.fit(x, 2 * x + 1, epochs=50, rng=0)
    >>> print(model.weight.data.round(3), model.bias.data.round(3))
    [[2.]] [1.]
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss | Callable[..., tuple[float, ArrayLike]],
        optimizer: Optimizer | None,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
        comm: Any = None,
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected a fastnn optimizer, got {describe(optimizer)}")
        if clip_norm is not None:
            check_hyper_parameter("clip_norm", clip_norm)
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.loss = resolve(loss)
        self.l2, self.clip_norm = number("l2", l2), clip_norm
        self.stop_training = False
        self.history = History()
        self._rng: np.random.Generator | None = None
        self._attach()

    def _attach(self) -> None:
        """Take the gradients' addresses from the model as it is now; plans are made anew."""
        self._engine = self.model._model()
        own = {id(parameter) for parameter in self.model.parameters()}
        groups = [] if self.optimizer is None else self.optimizer.groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        for parameter in parameters:
            if id(parameter) not in own:
                what = getattr(parameter, "name", describe(parameter))
                raise ValueError(f"optimizer: expected parameters of the model, got {what}")
        self._gradients = tuple(parameter.grad for parameter in parameters)
        self._plans: dict[Any, tuple[LossProgram, tuple[int, ...]]] = {}
        self._last: LossProgram | None = None
        self._marked = False
        self._sent = None if self.comm is None else np.empty_like(self._engine.grad)

    @property
    def rng(self) -> np.random.Generator:
        """The stream of random numbers that shuffles; the model's own stream gives its seed."""
        if self._rng is None:
            self._rng = np.random.default_rng(self._engine.rng.integers(2**63))
        return self._rng

    # One step --------------------------------------------------------------------------------

    def step(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array_like, shape (batch, ...)
        y : array_like
            What the loss compares the predictions with.
        sample_weight : array_like, shape (batch,), optional
            Weight of each sample in the loss, Σ w ℓ / Σ w.

        Returns
        -------
        float
            The loss before the update. NaN if it is a mean over nothing; the gradient is 0 then.

        Raises
        ------
        TypeError
            If an argument is no array of numbers, or labels are not integers.
        ValueError
            If a shape does not fit, or a label is out of range. Nothing has been changed then.

        Notes
        -----
        C-contiguous arrays of the model's dtype (labels: int64) are used as they are; others are
        converted first.
        """
        with self.model._model().lock:
            program = self._last
            if (
                program is None
                or self.model._engine is not self._engine
                or not program.accepts(x, y, sample_weight)
            ):
                if not isinstance(self.loss, Loss):
                    return self._custom_step(x, y, sample_weight)
                program, x, y, sample_weight = self._convert(x, y, sample_weight)
            optimizer = self.optimizer
            if optimizer is None or self.comm is not None:
                loss = program.step(x, y, sample_weight)
                self._finish_step()
                return loss
            with optimizer._lock:
                table = optimizer._prepare(self._gradients, 1, self.clip_norm)
                loss = program.step(x, y, sample_weight, table)
                optimizer._commit()
            if not self._marked:
                self._mark()
        return loss

    def _mark(self) -> None:
        self.model._mark_gradients()
        self._marked = True

    def _finish_step(self) -> None:
        """Average the gradients over all processes, and update."""
        self._mark()
        if self.comm is not None:
            gradient = self._engine.grad
            np.copyto(self._sent, gradient)
            self.comm.Allreduce(self._sent, gradient)
            gradient /= self.comm.Get_size()
        if self.optimizer is not None:
            with self.optimizer._lock:
                self.optimizer._prepare(self._gradients, 1, self.clip_norm).run()
                self.optimizer._commit()

    def _custom_step(self, x: Any, y: Any, sample_weight: Any) -> float:
        """Take a step with a loss in Python."""
        if self.model._engine is not self._engine:
            self._attach()
        pred = self.model.forward(self._samples(x), training=True)
        weights = () if sample_weight is None else (sample_weight,)
        loss, gradient = self.loss(pred, y, *weights)
        self.model.backward(gradient)
        if self.l2:
            loss += l2_penalty(self.model.parameters(), self.l2)
        self._finish_step()
        return float(loss)

    def _samples(self, x: Any) -> Array:
        """Return a batch as the model reads it."""
        x = self.model._as_input(x, self._engine.dtype)
        if x.ndim < 1 + self.model._needs_features:
            raise ValueError(f"x: expected shape (batch, ...), got {x.shape}")
        return x

    def _convert(self, x: Any, y: Any, weight: Any) -> tuple[LossProgram, Any, Any, Any]:
        """Return the program for such a batch, and its arrays as the program reads them."""
        if self.model._engine is not self._engine:
            self._attach()
        x = self._samples(x)
        if len(x) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {x.shape}")
        loss = self.loss.suited_to(y)
        program, shape = self._plan(x.shape[1:], loss)
        y, weight = loss.check((len(x), *shape), self._engine.dtype, y, weight)
        self._last = program
        return program, x, y, weight

    def _plan(self, shape: tuple[int, ...], loss: Loss) -> tuple[LossProgram, tuple[int, ...]]:
        """Return the program for samples of this shape, and the shape of its predictions."""
        key = (shape, loss.target)
        if key not in self._plans:
            self._plans[key] = self._make_program(shape, loss)
        return self._plans[key]

    def _make_program(self, shape: Any, loss: Loss) -> tuple[LossProgram, tuple[int, ...]]:
        engine, builder = self._engine, Builder(self._engine.dtype, training=True)
        pred = builder.plan(self.model, self.model._input(builder, shape))
        if not loss.elementwise and not pred.shape:
            raise ValueError(
                f"model: expected predictions of shape (batch, ..., classes) for {loss.name}, "
                f"got ('batch',)"
            )
        labels = loss.target == "labels"
        rows, cols = (1, pred.size) if loss.elementwise else (prod(pred.shape[:-1]), pred.shape[-1])
        row_loss = builder.value((rows,), "loss")
        target = (
            builder.value(pred.shape[:-1], "target", np.int64, slot="target")
            if labels
            else builder.value(pred.shape, "target", slot="target")
        )
        weight = builder.value(() if rows == 1 else (rows,), "weight", slot="weight")
        classes = loss.class_weights(cols, engine.dtype)
        builder.forward(
            loss.kernel, [row_loss, pred.grad, pred, target, weight, classes],
            sizes=loss.sizes(cols), scalars=(Scalar("scale"), *loss.scalars), rows=rows,
            outputs=2, flops=20 * pred.size,
        )  # fmt: skip
        squares = self._plan_penalty(builder) if self.l2 else None
        program = LossProgram(
            builder.finish([row_loss]), row_loss, cols if loss.elementwise else 1,
            cols if labels else 0, classes, loss.ignore_index, loss.reduction, squares, self.l2,
        )  # fmt: skip
        return program, pred.shape

    def _plan_penalty(self, builder: Builder) -> Array:
        """Append the penalty's gradients, and the sum of squares, which is returned."""
        engine, squares = self._engine, np.zeros(2)
        pairs = [(p.data.ravel(), p.grad.ravel()) for p in self.model.parameters()]
        if sum(data.size for data, _ in pairs) == engine.data.size:
            pairs = [(engine.data, engine.grad)]
        factor = np.full(1, self.l2, engine.dtype)
        for data, grad in pairs:
            n = data.size
            serial = {"split": SERIAL, "outputs": 1}
            sums = builder._append(GRADIENT, "square_sum", [squares, data], rows=n, **serial)
            adds = builder._append(  # the row λ·data of a product, added to the gradient
                GRADIENT, "matmul", [grad, factor, data], sizes=(n, 1, 1, 1, n, 1), **serial
            )
            for operation in (sums, adds):
                operation.parameters = operation.accumulate = True
        return squares

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
        rng: int | np.random.Generator | None = None,
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
        generator = None if rng is None else as_generator(rng)
        with self.model._model().lock:
            in_c = isinstance(self.loss, Loss) and self.comm is None
            data = self._data(x, y, sample_weight, in_c)
            self._check_batches(data, batch_size)
            validation = self._validation(validation_data)
        samples, self._at_once = len(data[0]), 1
        callbacks = CallbackList(callbacks, self)
        bar = ProgressBar()
        if progress:
            bar.start(epochs, -(-samples // batch_size))
        self.history, self.stop_training = History(), False
        logs: dict[str, float] = {}
        try:
            callbacks.on_train_begin()
            for epoch in range(epochs):
                callbacks.on_epoch_begin(epoch)
                if shuffle:
                    order = (self.rng if generator is None else generator).permutation(samples)
                else:
                    order = np.arange(samples)
                logs = {"loss": self._epoch(data, order, batch_size, in_c, bar)}
                if measured:
                    logs |= self._measure(measured, data[1], self.predict(data[0]))
                if validation is not None:
                    logs |= {f"val_{k}": v for k, v in self._score(validation, measured).items()}
                self.history.append(epoch, logs)
                callbacks.on_epoch_end(epoch, logs)
                bar.epoch_end(epoch, logs)
                if self.stop_training:
                    break
        finally:
            bar.close()
            callbacks.on_train_end(logs)
        return self.history

    def _data(
        self, x: Any, y: Any, weight: Any, each_row: bool = False
    ) -> tuple[Array, Array, Array | None]:
        """Return samples, targets and weights of a data set, converted and checked.

        There is one weight for each sample or, with `each_row`, for each row of its prediction.
        """
        if self.model._engine is not self._engine:
            self._attach()
        x = self._samples(x)
        if len(x) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {x.shape}")
        if weight is not None:
            weight = as_input(weight, "sample_weight", self._engine.dtype)
            if weight.shape != x.shape[:1]:
                raise ValueError(
                    f"sample_weight: expected shape {x.shape[:1]}, one weight per sample, "
                    f"got {weight.shape}"
                )
        if isinstance(self.loss, Loss):
            loss = self.loss.suited_to(y)
            shape = (len(x), *self._plan(x.shape[1:], loss)[1])
            y, row_weight = loss.check(shape, self._engine.dtype, y, weight)
            return x, y, row_weight if each_row else weight
        given = view(y)
        y = np.asarray(y) if given is None else given
        if y.ndim == 0 or len(y) != len(x):
            raise ValueError(f"y: expected {len(x)} samples, as x has, got shape {y.shape}")
        return x, y, weight

    def _check_batches(self, data: tuple[Array, Array, Array | None], batch_size: int) -> None:
        """Raise if the last batch is too small for the layers that need statistics of a batch."""
        if not isinstance(self.loss, Loss):
            return
        program, _ = self._plan(data[0].shape[1:], self.loss.suited_to(data[1]))
        least, last = program.schedule.minimum_rows, len(data[0]) % batch_size or batch_size
        if min(last, len(data[0])) < least:
            raise ValueError(
                f"batch_size: expected batches of at least {least} samples for the statistics of "
                f"the batch, got {batch_size}, which leaves {last} for the last one"
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
        assert optimizer is not None and isinstance(self.loss, Loss)
        with self.model._model().lock, optimizer._lock:
            if self.model._engine is not self._engine:
                self._attach()
            program, _ = self._plan(x.shape[1:], self.loss.suited_to(y))
            table = optimizer._prepare(self._gradients, count, self.clip_norm)
            try:
                return program.steps(x, y, weight, rows, batch_size, table)
            finally:
                optimizer._commit(program.steps_done)
                self._mark()

    def _one_step(self, data: Any, rows: Array) -> tuple[float, float]:
        """Take one step through Python; returns its loss, and by what that was divided."""
        loss = self.step(*(None if array is None else array[rows] for array in data))
        return loss, self._last.total if isinstance(self.loss, Loss) else len(rows)

    # Without training ------------------------------------------------------------------------

    def predict(
        self, x: ArrayLike, batch_size: int = 256, out: Array | None = None
    ) -> Array:
        """Compute the model's output, batch by batch, as it is outside training.

        Parameters
        ----------
        x : array_like, shape (samples, ...)
        batch_size : int
            Samples at a time; the memory for what lies between the layers is as large.
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
        with self.model._model().lock:
            if self.model._engine is not self._engine:
                self._attach()
            x = self._samples(x)
            program = self.model._program(x.shape[1:], False)
            shape = (len(x), *program.schedule.y.shape)
            y = output(out, shape, self._engine.dtype, [x])
            for start in range(0, len(x), batch_size):
                batch = x[start : start + batch_size]
                program.bind("x", batch)
                program.bind("y", y[start : start + batch_size])
                program.forward(len(batch))
        return y

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        batch_size: int = 256,
        metrics: Iterable[str | Metric] = (),
    ) -> dict[str, float]:
        """Measure the loss, with its penalty, and metrics on a data set.

        Parameters
        ----------
        x, y, sample_weight
            As of `fit`.
        batch_size : int
            Samples at a time; the result does not depend on it.
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
        with self.model._model().lock:
            data = self._data(x, y, sample_weight)
        return self._score(data, measured, batch_size)

    def _score(
        self, data: Any, metrics: Mapping[str, Metric], batch_size: int = 256
    ) -> dict[str, float]:
        x, y, weight = data
        with self.model._model().lock:
            pred = self.predict(x, batch_size)
            loss = float(self.loss(pred, y, *(() if weight is None else (weight,)))[0])
            if self.l2:
                arrays = (parameter.data for parameter in self.model.parameters())
                loss += 0.5 * self.l2 * sum(float(np.sum(a * a, dtype=np.float64)) for a in arrays)
        return {"loss": loss, **self._measure(metrics, y, pred)}

    @staticmethod
    def _measure(metrics: Mapping[str, Metric], y: Array, pred: Array) -> dict[str, float]:
        return {name: float(metric(y, pred)) for name, metric in metrics.items()}

    # Saving ----------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write all that a resumed training needs to a safetensors file.

        That is the model's parameters and buffers, the states, step counts and hyper-parameters of
        the optimizer, `l2`, `clip_norm` and all random states. Schedules, which are functions, and
        the loss are given anew to `restore`. An existing file is replaced only by a complete one.

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
