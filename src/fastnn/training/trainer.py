"""Training: a model, a loss and an optimizer together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import isfinite, nan
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import NotFiniteError
from fastnn._door.numbers import boolean, generator, number, positive
from fastnn._kernels.update import Taking
from fastnn._typing import Array, Rng
from fastnn.callbacks import CallbackList
from fastnn.distributed.shares import Shares
from fastnn.introspection.graph import Graph, drawn_shape
from fastnn.introspection.text import check, written
from fastnn.layers.base import Layer
from fastnn.losses.loss import Loss
from fastnn.optim import Optimizer
from fastnn.training import evaluation
from fastnn.training.accumulation import Accumulation
from fastnn.training.data import Data, against_infinity, split, validation_arguments
from fastnn.training.evaluation import PREDICTED, check_metrics
from fastnn.training.history import History
from fastnn.training.joint import (
    agree,
    average_statistics,
    check_ranks_agree,
    expect_alike,
    start,
)
from fastnn.training.metrics import Metric, resolve_metrics
from fastnn.training.progress import ProgressBar, kind_of_progress
from fastnn.training.state import restore_trainer, save_trainer

__all__ = ["History", "Trainer"]


# Seconds that `fit` stays in C before it looks for signals and shows its progress.
_AT_A_TIME = 0.05


class Trainer(evaluation.Trainer):
    r"""Trains a model: forward, loss, backward and update as one program.

    Parameters
    ----------
    model : Layer
    loss : str or callable
        The name of a loss ("mse", "cross_entropy", ...), a function of :mod:`fastnn.losses`, or
        what it returns when it is called with options only, as ``losses.huber(delta=2.0)``, all of
        which run in C; or any callable ``(pred, target) -> (loss, gradient)``, which is also given
        the sample weights if there are any.
    optimizer : Optimizer or None
        Over parameters of the model, or some of them. With None, `step` computes gradients only.
    l2 : float
        λ of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` that is part of the loss and of the
        gradients.
    l2_on : {"weights", "all"}
        Whether the penalty is on parameters with two axes and more, so not on biases, or on all.
    clip_norm : float, optional
        Largest norm of all gradients together; larger ones are scaled down. It goes before the
        optimizer's own.
    clip_value : float, optional
        Largest size of an element of a gradient; larger ones are brought to it, before `clip_norm`.
        It goes before the optimizer's own.
    accumulate : int
        How many batches there are for an update, with the mean of their gradients by the weights of
        the batches: for a loss that is a mean, the gradient of one batch as large as all. An epoch
        ends with an update.
    precision : {"float32", "bfloat16"}
        What the products of a float32 model read, in training and in `predict` and `evaluate`:
        with "bfloat16" weights, activations and gradients rounded to 8 bits of significand, the
        sums of which are float32. Biases, recurrent products, statistics, losses, slopes of
        activations and updates stay float32. 1.5 to 2 times as fast for large layers where the
        processor has AVX512_BF16; elsewhere it runs, and saves no time.
    stateful : bool
        Whether recurrent layers start a batch in the state in which they ended the one before:
        sequence j of a batch continues sequence j of the last one, and gradients end at the
        borders (truncated back-propagation through time). See Notes.
    comm : mpi4py.MPI.Intracomm, optional
        Processes, *ranks*, that train copies of the model together: a batch is what their batches
        are together. See Notes, and docs/distributed.md. Needs mpi4py:
        ``pip install mpi4py``.
    sync_batchnorm : bool
        Whether BatchNorm1d has the statistics of the batches of all ranks, as one process would;
        else each rank has those of its own batch, and running ones are averaged after an epoch.

    Attributes
    ----------
    loss, optimizer, l2, l2_on, clip_norm, clip_value, accumulate, precision
        As given; `loss` is resolved. What is assigned counts from the next step on.
    model, comm, stateful, sync_batchnorm
        As given.
    rank : int
        The number of this process among those of `comm`, from 0.
    stop_training : bool
        Set by callbacks to end `fit` after the present epoch.
    history : History
        Of the last `fit`, even if it was interrupted.
    not_finite : str
        At which step of the last `fit` a loss or a gradient was not finite, and which layer first
        produced such a number; empty if none was, or `fit` did not look for it.
    rng : numpy.random.Generator
        Shuffles.
    state : tuple of ndarray
        Where the sequences stand, with `stateful`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the optimizer has arrays that are
        not the model's parameters.

    Warns
    -----
    RuntimeWarning
        If the loss takes logits and the model ends in a Softmax or Sigmoid.

    Notes
    -----
    Threads may share a trainer: each call locks model and optimizer.

    With `stateful`, `fit` starts each epoch with new sequences and takes them in order
    (``shuffle=False``) in batches of equal size, as
    :func:`fastnn.preprocessing.continue_rows` cuts them; `step` goes on until `reset_state`.
    `predict` and `evaluate` start at zero and carry a state of their own from batch to batch.
    Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", Neural Computation 2(4), 1990.

    With `comm` all ranks make the same calls of `fit` and `step`. The model and the optimizer's
    state are those of the first rank when training begins. `step` takes the rank's own batch; `fit`
    cuts every batch of `batch_size` samples for each rank, or has each rank's own with ``sharded``.
    Losses and gradients are exact means over the samples of all ranks, whatever their numbers; a
    rank without samples takes part with none. Logs and metrics are the same on all ranks, one that
    sets `stop_training` stops all, and after an epoch hyper-parameters are the first one's. An
    error of one rank, or a loss that is not finite, is raised on all. Only the first rank shows
    progress, and only there do `save`, `ModelCheckpoint` and `CSVLogger` write. `predict` and
    `evaluate` are each rank's own. Parameters on all ranks stay the same bits.

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
        element_weight: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        metrics: Iterable[str | Metric] = (),
        callbacks: Iterable[Any] = (),
        progress: bool | str = "auto",
        rng: Rng = None,
        sharded: bool = False,
        check_ranks: int | None = None,
        check_finite: bool = False,
    ) -> History:
        """Train for some epochs; each sees every sample once.

        Parameters
        ----------
        x : array_like, shape (samples, ...)
        y : array_like, shape (samples, ...)
            For a loss in Python also a tuple or dict of arrays, which is cut by rows.
        epochs : int
        batch_size : int
            Samples per step; the last batch of an epoch has those that are left.
        shuffle : bool
            Whether every epoch goes through the samples in a new random order.
        sample_weight : array_like, shape (samples,), optional
        element_weight : array_like, shape of `y`, optional
        lengths : array_like of int, shape (samples,), optional
            How many steps of each sequence count; see `step`.
        validation_data : (x, y), (x, y, sample_weight) or dict, optional
            Evaluated after each epoch, as "val_loss" and so on. A dict holds arguments of
            `evaluate`: x, y, sample_weight, element_weight, lengths.
        validation_split : float
            Share of the samples, the last ones, that is held out for that instead; in [0, 1).
        metrics : list of str or callable
            "accuracy", "mae", "mse", "rmse", "r2", or ``metric(y_true, y_pred) -> float``. They
            are measured after each epoch on the training and the validation data, unweighted, and
            without padding.
        callbacks : list
            Functions ``(epoch, logs)``, and objects with some of the methods of
            :class:`fastnn.callbacks.Callback`.
        progress : {"auto", True, False, "epochs"}
            What to show: "auto", a bar where a terminal or a notebook shows it (a line for each
            epoch without tqdm) and nothing elsewhere; True, a line for each epoch elsewhere;
            "epochs", such a line everywhere.
        rng : int, numpy.random.Generator or None
            Shuffles. Without it the trainer's own stream goes on, which `save` keeps: 3 epochs,
            `restore` and 3 epochs more equal 6.
        sharded : bool
            With `comm`: whether the arrays given are this process's own part of the data, those for
            validation too. Else all processes give the same arrays, and every batch is cut.
        check_ranks : int, optional
            With `comm`: after how many updates each the parameters of all processes are compared;
            bits that differ are a RuntimeError.
        check_finite : bool
            Whether to look at the loss and all gradients of every batch, and to end with a
            ValueError at the first that are not finite: ``"loss is nan at step 12: layer 3
            (LayerNorm) first produced nan in forward"``. Steps are counted as schedules do, layers
            named as in ``summary()``. The parameters stay as they were before that step. To find
            the layer, the batch is run once more then; without `comm`.

        Returns
        -------
        History
            "loss" is the mean over the epoch of the loss before each update (the sum, for losses
            with ``reduction="sum"``); "lr" is the learning rate at the start of the epoch, the
            first group's.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or does not fit. Nothing has been changed then.
        ValueError
            If a loss or a gradient is not finite, with `check_finite`.

        Warns
        -----
        RuntimeWarning
            Once, after the first epoch whose loss is not finite.

        Notes
        -----
        Arrays of the model's dtype (labels: int64) that are C-contiguous are not copied. Batches
        run in C without the interpreter's lock; a few times per second `fit` looks for signals. An
        interrupted training leaves model and optimizer as they were after the last step.
        """
        with self._together():
            epochs, batch_size = positive("epochs", epochs), positive("batch_size", batch_size)
            shuffle, kind = boolean("shuffle", shuffle), kind_of_progress("progress", progress)
            sharded = boolean("sharded", sharded)
            check_finite = boolean("check_finite", check_finite)
            every = None if check_ranks is None else positive("check_ranks", check_ranks)
            share = number("validation_split", validation_split, 0.0, 1.0, below=True)
            if self.optimizer is None:
                raise ValueError("optimizer: expected one to train with, got None")
            measured = resolve_metrics(metrics, self.loss)
            stream = None if rng is None else generator(rng)
            if self.stateful and shuffle:
                raise ValueError("shuffle: expected False with stateful=True, got True")
        with self._together(), self.model._built().lock:
            given = {"x": x, "y": y, "sample_weight": sample_weight,
                     "element_weight": element_weight, "lengths": lengths}  # fmt: skip
            data = self._data(**given)
            validation: Data | None = None
            if share:
                if validation_data is not None:
                    raise ValueError(
                        "validation_split: expected 0 with validation_data, got both"
                    )
                whole = dict(zip(given, data, strict=False))
                data, validation = (
                    self._data(**part) for part in split(whole, share, len(data.x))
                )
            elif validation_data is not None:
                validation = self._data(**validation_arguments(validation_data))
            check_metrics(measured, data.y)
        names = ["loss", *measured]
        if validation is not None:
            names += [f"val_{name}" for name in names]
        with self._together():
            following = CallbackList(callbacks, self, [*names, "lr"])
        follows_batches = following.follows_batches
        look = check_finite or following.looks_for_nan
        if self._group is not None:
            expect_alike(self._group, epochs=epochs, batch_size=batch_size, sharded=sharded,
                         shuffle=shuffle, check_ranks=every, check_finite=look,
                         metrics=names)  # fmt: skip
            follows_batches = self._group.sum(follows_batches)[0] > 0
        shares = Shares(self._group, len(data.x), batch_size, sharded)
        with self._together(), self.model._built().lock:
            self._check_batches(data, shares)
            if validation is not None:
                self._check_continuing(len(validation.x), batch_size)
        if self._group is not None:
            start(self)
            stream = self._group.comm.bcast(stream)
        self._at_once = 1
        at_a_time = batch_size if self.stateful else PREDICTED
        bar = ProgressBar(kind=kind)
        if kind and self.rank == 0:
            bar.start(epochs, shares.steps)
        self._history, self.stop_training, self._not_finite = History(), False, ""
        logs: dict[str, float] = {}
        warned = False
        try:
            with self._together():
                following.on_train_begin()
            for epoch in range(epochs):
                with self._together():
                    following.on_epoch_begin(epoch)
                self._carried.reset()
                shuffles = (self.rng if stream is None else stream) if shuffle else None
                order = shares.order(shuffles)
                rate = self._learning_rate()
                with self._checking(look):
                    loss = self._epoch(
                        data, order, shares, following, bar, follows_batches, every, look
                    )
                if self._not_finite:
                    if check_finite:
                        raise ValueError(self._not_finite)
                    self.stop_training = warned = True
                if not warned and not isfinite(loss):
                    warned = True
                    _warn_of(loss, f"epoch {epoch + 1} of {epochs}", data)
                logs = {"loss": loss} | following.added()
                average_statistics(self)
                if measured:
                    known, pred = self._predict_joined(data, at_a_time, sharded)
                    with self._together():
                        logs |= self._measure(measured, known, pred)
                if validation is not None:
                    with self.model._built().lock:
                        held_out, pred = self._predict_joined(validation, at_a_time, sharded)
                        with self._together():
                            score = self._score(held_out, measured, pred)
                    logs |= {f"val_{name}": value for name, value in score.items()}
                logs["lr"] = rate
                self.history.append(epoch, logs)
                with self._together():
                    if following:
                        following.on_epoch_end(epoch, logs)
                        self.history.amend(logs)
                agree(self)
                bar.epoch_end(epoch, logs)
                if self.stop_training:
                    self.history.stopped_epoch, self.history.reason = epoch, following.reason
                    break
        finally:
            self.history.best_epoch = following.best_epoch
            bar.close(_last_words(self.history))
            following.on_train_end(logs)
        return self.history

    def _learning_rate(self) -> float:
        """Return that of the next step, of the first group."""
        assert self.optimizer is not None
        return float(self.optimizer._at(self.optimizer._groups[0], self.optimizer.t)["lr"])

    @property
    def _runs_in_c(self) -> bool:
        return isinstance(self.loss, Loss) and self._alone

    def _together(self) -> AbstractContextManager[None]:
        """Return where an error of one of several processes becomes one of all."""
        return nullcontext() if self._group is None else self._group.together()

    def _check_batches(self, data: Data, shares: Shares) -> None:
        """Raise if the last batch is too small, for its statistics or to go on from the others."""
        self._check_continuing(len(data.x), shares.batch)
        program = data.program or self._custom_plan(data.x.shape[1:]).program
        least = program.schedule.minimum_rows
        if shares.last < least:
            raise ValueError(
                f"batch_size: expected batches of at least {least} samples for the statistics of "
                f"the batch, got {shares.batch}, which leaves {shares.last} for the last one"
            )

    def _epoch(
        self, data: Data, order: Array, shares: Shares, callbacks: CallbackList, bar: ProgressBar,
        follows_batches: bool = False, every: int | None = None, look: bool = False,
    ) -> float:  # fmt: skip
        """Take the steps of one epoch and return its mean loss.

        With `look` it ends at a step whose loss or gradients are not finite, and returns that loss.
        """
        steps, done = shares.steps, 0
        losses, totals = np.empty(steps), np.empty(steps)
        while done < steps:
            if self._abandoned:
                raise CancelledError("fit_many has been interrupted")
            began = time.perf_counter()
            data = self._refreshed(data)
            in_c = self._runs_in_c and data.lengths is None
            count = 1 if follows_batches else min(self._at_once, steps - done)
            if not in_c:
                count = 1
            rows, part = shares.rows(order, done, count), slice(done, done + count)
            before = 0 if self.optimizer is None else self.optimizer.t
            try:
                if in_c:
                    losses[part], totals[part] = self._steps(data, rows, shares.batch, count)
                else:
                    losses[part], totals[part] = self._one_step(data, rows)
                at, back = -1, 0
                if look:
                    wrong = ~np.isfinite(losses[part]) & (totals[part] != 0)
                    if wrong.any():
                        at, back = int(np.argmax(wrong)), count
            except NotFiniteError:
                if not look:
                    raise
                at = self.optimizer.t - before if in_c and self.optimizer else 0
                back = at + 1  # steps that have been run, the last of them in vain
            if at >= 0:
                batch = rows[at * shares.batch :][: shares.batch]
                return self._found(data, batch, before + at, back - at)
            done += count
            if every is not None:
                check_ranks_agree(self, every)
            if follows_batches:
                with self._together():
                    callbacks.on_batch_end(done - 1, float(losses[done - 1]))
            if bar.enabled:
                bar.update(done, _mean(losses[:done], totals[:done]))
            if in_c:
                passed = max(time.perf_counter() - began, 1e-9)
                self._at_once = max(1, min(int(count * _AT_A_TIME / passed), 16 * count))
        if self._accumulation.count:
            self._flush_rest()
        if getattr(self.loss, "reduction", "mean") == "sum":
            return float(losses.sum())
        return _mean(losses, totals)

    @contextmanager
    def _checking(self, look: bool) -> Iterator[None]:
        """Let the optimizer look at its gradients meanwhile."""
        optimizer = self.optimizer
        if not look or optimizer is None or optimizer.check_finite:
            yield
            return
        optimizer.check_finite = True
        try:
            yield
        finally:
            optimizer.check_finite = False

    def _found(self, data: Data, rows: Array, step: int, back: int) -> float:
        """Note what is not finite in a batch, which was run `back` runs ago; returns its loss."""
        from fastnn.training.finite import explain  # seldom needed

        self._accumulation = Accumulation()
        self._note_how_to_step()
        if self._group is not None:
            self._not_finite = f"loss or gradients are not finite at step {step}"
            return nan
        loss, culprit = explain(self, data, rows, back)
        self._not_finite = f"loss is {loss} at step {step}: {culprit}"
        return loss

    def _steps(self, data: Data, rows: Array, batch_size: int, count: int) -> tuple[Array, Array]:
        """Take `count` steps in C; returns their losses, and by what these were divided."""
        optimizer = self.optimizer
        assert optimizer is not None
        model = self.model._built()
        with model.lock:
            program = data.program
            assert program is not None
            model.pending = None  # its memory is used now
            if program.class_weight is not None:
                program.class_weight[...] = self._loss.class_weight
            carried = self._carried.arrays(program, batch_size) if self.stateful else None
            with Taking(optimizer, True, count, self.clip_norm, self.clip_value) as table:
                try:
                    found = program.steps(
                        data.x, data.y, data.row_weight, rows, batch_size, table, carried
                    )
                    self._end_steps(model, program)
                except BaseException:
                    if table.taken:
                        self._end_steps(model, program)
                    raise
        return found

    def _end_steps(self, model: Any, program: Any) -> None:
        """Note what steps in C have left; interrupted, it is done again."""
        self._end(model, program)
        if self.stateful:
            self._carried.commit()

    def _one_step(self, data: Data, rows: Array) -> tuple[float, float]:
        """Take one step through Python; returns its loss, and by what that was divided."""
        loss = self.step(*data.batch(rows))
        if self._group is not None:
            return loss, self._joint_total
        return loss, self._last.total if self._last else len(rows)

    # Description -----------------------------------------------------------------------------

    def graph(
        self,
        format: str = "text",
        input_shape: tuple[int, ...] | None = None,
        detail: str = "layers",
    ) -> str:
        """Return the computational graph of a step: the model's, the loss and the penalty.

        Parameters
        ----------
        format : {"text", "dot", "svg"}
            A list; the language of Graphviz; a picture, which notebooks show.
        input_shape : tuple of int, optional
            Shape per sample; taken from the first layer or the last call when not given. Before
            the first call a number stands in for a free length.
        detail : {"layers", "kernels"}
            Layers, with their parameters and what they keep for the backward pass; or each
            operation of the program.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If the format is unknown, or the shape is not known or does not fit.
        """
        check(format, detail)
        shape, note = drawn_shape(self._model, input_shape)
        with self._model._built().lock:
            if isinstance(self._loss, Loss):
                schedule = self._plan(shape, self._loss).schedule
                name = repr(self._loss).removesuffix("()")
            else:
                schedule = self._custom_plan(shape).program.schedule
                name = getattr(self._loss, "__name__", type(self._loss).__name__)
            drawn = Graph(self._model, schedule, note, name, self._l2, self._penalized())
            return written(drawn, format, detail)

    # Saving ----------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write all that a resumed training needs to a safetensors file.

        Of several ranks the first one writes; any number of them may go on from the file.

        That is the model's parameters and buffers, the states, step counts and hyper-parameters of
        the optimizer, `l2`, `l2_on`, `clip_norm`, `clip_value`, `accumulate`, `precision` and the
        gradients that wait for an update, all random states and the state of sequences that go on.
        Schedules, which are functions, and the loss are given anew to `restore`. An existing file
        is replaced only by a complete one.

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
        comm : mpi4py.MPI.Intracomm, optional
            Of any number of ranks, all of which read the file.

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
    if not totals.all():
        losses, totals = losses[totals != 0], totals[totals != 0]
    return float(np.dot(losses, totals) / totals.sum()) if totals.size else nan


def _warn_of(loss: float, since: str, data: Data) -> None:
    """Say that a loss is not finite, and what usually helps."""
    way_out = against_infinity(data.x, data.y, data.sample_weight)
    warnings.warn(f"loss is {loss} since {since}; {way_out}", RuntimeWarning, stacklevel=3)


def _last_words(history: History) -> str:
    """What to say about a training that was stopped."""
    if history.stopped_epoch is None:
        return ""
    count = history.stopped_epoch + 1
    reason = f": {history.reason}" if history.reason else ""
    return f"stopped after {count} epoch{'s' if count > 1 else ''}{reason}"
