"""One training step: forward, loss, backward and update, in one program if the loss allows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from numpy.typing import ArrayLike

from fastnn._door.arrays import without_padding
from fastnn._door.numbers import value_and_gradient
from fastnn._kernels.door import as_input, empty
from fastnn._kernels.program import Program
from fastnn._kernels.training_program import TrainingProgram
from fastnn._kernels.update import Taking
from fastnn._typing import Array
from fastnn.distributed.exchange import sum_gradients
from fastnn.layers.model import IN_LOSS, Model
from fastnn.layers.parameter import Parameter, mark_gradients
from fastnn.losses import l2_penalty
from fastnn.losses.loss import Loss
from fastnn.losses.penalty import penalty_value
from fastnn.training import settings
from fastnn.training.accumulation import Accumulation
from fastnn.training.data import (
    count_samples,
    counted_steps,
    expect_lengths,
    sequences,
)
from fastnn.training.joint import joint_step
from fastnn.training.plan import CustomPlan, make_custom_plan, make_program

__all__ = ["Trainer"]


class Trainer(settings.Trainer):
    """What a trainer does for one batch; see :class:`fastnn.Trainer`."""

    __slots__ = ()

    # One step --------------------------------------------------------------------------------

    def step(
        self,
        x: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None = None,
        element_weight: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array_like, shape (batch, ...)
        y : array_like
            What the loss compares the predictions with. A loss in Python is given what is given
            here.
        sample_weight : array_like, shape (batch,), optional
            Weight of each sample in the loss, Σ w ℓ / Σ w.
        element_weight : array_like, shape of `y`, optional
            Weight of each number that predictions are compared with.
        lengths : array_like of int, shape (batch,), optional
            How many steps of each sequence count, for recurrent models. What lies past them counts
            for nothing, in the loss too if predictions are sequences.

        Returns
        -------
        float
            The loss before the update. NaN if it is a mean over nothing; the gradient is 0 then.

        Raises
        ------
        TypeError
            If an argument is no array of numbers, or labels are not integers.
        ValueError
            If a shape does not fit, a label is out of range, or a weight of a mean is negative.
            Nothing has been changed then.

        Notes
        -----
        C-contiguous arrays of the model's dtype (labels: int64) are used as they are; others are
        converted first.
        """
        if self._group is not None:
            return joint_step(self, x, y, sample_weight, element_weight, lengths)
        model = self._model._model or self._model._built()
        with model.lock:
            program, arrays = self._last, None
            by_element = element_weight is not None
            weight = element_weight if by_element else sample_weight
            if (
                program is None
                or lengths is not None
                or (by_element and sample_weight is not None)
                or not program.accepts(x, y, weight, by_element)
            ):
                if not isinstance(self._loss, Loss):
                    return self._custom_step(model, x, y, sample_weight, element_weight, lengths)
                program, x, y, weight, arrays = self._convert(
                    x, y, sample_weight, element_weight, lengths
                )
            model.pending = None  # its memory is used now
            if program.class_weight is not None:
                program.class_weight[...] = self._loss.class_weight
            if self._stateful:
                rows = len(x)  # type: ignore[arg-type]  # x is an array by now
                arrays = {**(arrays or {}), **self._carried.arrays(program, rows)}
            optimizer = self._optimizer
            in_pieces = optimizer is None or not self._alone
            before = None
            if in_pieces or self._stateful:
                before = _Before(self, program.schedule.changing if in_pieces else ())
            try:
                if in_pieces:
                    loss = program.step(x, y, weight, None, arrays)
                    self._end(model, program)
                    self._update(program.schedule.parameters, program.total)
                else:
                    with Taking(optimizer, True, 1, self._clip_norm, self._clip_value) as table:
                        loss = program.step(x, y, weight, table, arrays)
                    if program.marked != model.forgets:
                        self._end(model, program)
                if self._stateful:
                    self._carried.commit()
            except BaseException:
                if before is not None:
                    before.put_back()
                raise
        return loss

    def _end(self, model: Model, program: Program) -> None:
        """Note what a run has left: gradients, but no states of recurrent layers."""
        mark_gradients(program.schedule.parameters)
        program.schedule.hand_out({})
        # to be done again only when a gradient is forgotten; layers with states may be run alone
        program.marked = -1 if program.schedule.carried else model.forgets

    def _update(self, parameters: Collection[Parameter], weight: float) -> None:
        """Update with the gradients of these, once there are those of enough batches."""
        if self._accumulates:
            self._accumulation.add(parameters, weight)
            if self._accumulation.count < self._accumulate:
                return
        self._flush()

    @property
    def _accumulates(self) -> bool:
        """Whether gradients wait for those of other batches."""
        return self._accumulate > 1 or self._accumulation.count > 0

    def _flush_rest(self) -> None:
        """Update with the gradients that are left at the end of an epoch."""
        before = _Before(self)
        try:
            self._flush()
        except BaseException:
            before.put_back()
            raise

    def _flush(self) -> None:
        """Average the gradients over batches, and update."""
        if self._accumulation.count:
            summed = list(self._accumulation.sums)
            self._accumulation.take()
            self._note_how_to_step()
            if self._group is not None:
                sum_gradients(self._group, summed)
        if self._group is not None and self._l2:
            trained = set(self._trained_parameters())
            l2_penalty([p for p in self._penalized() if p in trained], self._l2)
        if self._optimizer is not None:
            with Taking(self._optimizer, True, 1, self._clip_norm, self._clip_value) as table:
                table.run()

    def _custom_step(
        self, model: Model, x: Any, y: Any, sample_weight: Any, element_weight: Any, lengths: Any,
        part: float = 1.0,
    ) -> float:  # fmt: skip
        """Take a step with a loss in Python.

        One of several ranks computes `part` of the gradients alone.
        """
        if element_weight is not None:
            raise ValueError(
                "element_weight: expected None with a loss in Python, got one; y may be a tuple "
                "that holds it"
            )
        arrays: dict[str, Any] = {}
        if lengths is not None:
            x, arrays["lengths"], _ = sequences(x, lengths)
        x = self._samples(x)
        rows, plan = len(x), self._custom_plan(x.shape[1:])
        program, schedule = plan.program, plan.program.schedule
        if schedule.minimum_rows > rows:
            program.check_rows(rows)
        if arrays:
            expect_lengths(program)
        if self._stateful:
            arrays |= self._carried.arrays(program, rows)
        model.pending = None  # its memory is used now
        before = _Before(self, schedule.changing)
        try:
            pred = empty((rows, *schedule.y.shape), model.dtype)
            program.forward(rows, x, pred, arrays)
            if not program.has_slot("y"):
                program.read(schedule.y, pred)
            loss, gradient = self._ask_loss(model, pred, y, sample_weight)
            program.backward(rows, gradient if part == 1 else part * gradient, None, arrays)
            self._end(model, program)
            if self._group is None:
                if self._l2:
                    loss += plan.penalty(self._l2)
                self._update(schedule.parameters, rows)
            if self._stateful:
                self._carried.commit()
        except BaseException:
            model.pending = None
            before.put_back()
            raise
        return loss

    def _penalty(self) -> float:
        """Return the value of the penalty on the parameters."""
        return penalty_value(self._penalized(), self._l2)

    def _custom_plan(self, shape: tuple[int, ...]) -> CustomPlan:
        """Return what runs samples of this shape, up to the predictions and back from them."""
        plan: CustomPlan | None = self._plans.get(shape)
        if plan is None or not plan.program.current:
            self._plans.pop(shape, None)
            penalized = self._penalized() if self._l2 else ()
            made = make_custom_plan(
                self._model, shape, penalized, self._trained, self._precision
            )
            plan = self._plans.keep(shape, made)
        return plan

    def _ask_loss(self, model: Model, pred: Array, y: Any, weight: Any) -> tuple[float, Array]:
        """Return value and gradient of a loss in Python, or raise if it returns something else."""
        before = model.pending
        model.pending, model.in_loss = IN_LOSS, True
        try:
            result = self._loss(pred, y) if weight is None else self._loss(pred, y, weight)
            if model.pending is not IN_LOSS:
                raise RuntimeError("loss: expected no training of the model inside its own loss")
        finally:
            model.pending, model.in_loss = before, False
        return _checked(result, pred)

    def _samples(self, x: Any) -> Array:
        """Return a batch as the model reads it."""
        samples = self._model._as_input(x, self._model._built().dtype)
        if samples.ndim < 1 + self._model._needs_features:
            way_out = "; x[:, None] has one feature" if samples.ndim == 1 else ""
            raise ValueError(f"x: expected shape (batch, ...), got {samples.shape}{way_out}")
        return samples

    def _convert(
        self, x: Any, y: Any, sample_weight: Any, element_weight: Any, lengths: Any
    ) -> tuple[TrainingProgram, Any, Any, Any, dict[str, Array] | None]:
        """Return the program for such a batch, and its arrays as the program reads them."""
        x, lengths, mask = sequences(x, lengths)
        x = self._some_samples(x)
        program, y, weight, _ = self._fitting(x, y, sample_weight, element_weight, mask)
        self._last = program
        return program, x, y, weight, None if lengths is None else {"lengths": lengths}

    def _some_samples(self, x: Any) -> Array:
        """Return a batch as the model reads it, or raise if it is empty."""
        samples = self._samples(x)
        if len(samples) == 0:
            raise ValueError(f"x: expected at least one sample, got shape {samples.shape}")
        return samples

    def _fitting(
        self, x: Array, y: Any, sample_weight: Any, element_weight: Any, mask: Array | None
    ) -> tuple[TrainingProgram, Array, Array | None, Array | None]:
        """Return the program of a loss in C; target and weight as it reads them; the mask of its
        predictions."""
        count_samples(x, y=y)
        loss = self._loss.suited_to(y)
        program = self._plan(x.shape[1:], loss, element_weight is not None)
        mask = counted_steps(program, mask)
        if mask is not None:
            y = without_padding(y, mask, "y")
            program = self._plan(x.shape[1:], loss, loss.weighs_elements(element_weight, mask))
        layout = loss.layout(program.schedule.y.shape, program.by_element)
        dtype = self._model._built().dtype
        y, weight = loss.check(layout, len(x), dtype, y, sample_weight, element_weight, mask)
        return program, y, weight, mask

    def _plan(
        self, shape: tuple[int, ...], loss: Loss, by_element: bool = False
    ) -> TrainingProgram:
        """Return the program for samples of this shape."""
        key = (shape, loss.target, by_element)
        program: TrainingProgram | None = self._plans.get(key)
        if program is None or not program.current:
            self._plans.pop(key, None)
            # several ranks add the gradient of the penalty to the sum
            l2 = self._l2 if self._group is None else 0.0
            penalized = self._penalized() if l2 else ()
            made = make_program(
                self._model, shape, loss, l2, penalized, self._trained, by_element,
                self._precision, self._group, self._sync_batchnorm,
            )  # fmt: skip
            program = self._plans.keep(key, made)
        return program


class _Before:
    """What a step in several pieces changes ahead of its update: an interruption undoes it.

    What comes after the update, the last of the step, is done after all where it is interrupted.
    """

    def __init__(self, trainer: Trainer, changing: Collection[Array] = ()) -> None:
        self.trainer, waiting = trainer, trainer._accumulation
        self.arrays = [(array, array.copy()) for array in changing]  # statistics, random states
        self.waiting = waiting.sums, waiting.total, waiting.count
        self.t = trainer._optimizer and trainer._optimizer.t

    def put_back(self) -> None:
        """Let it be as it was, or the step be whole if the update has been taken."""
        trainer = self.trainer
        if trainer._optimizer is not None and trainer._optimizer.t != self.t:
            if trainer._stateful:
                trainer._carried.commit()
            return
        for array, values in self.arrays:
            array[...] = values
        trainer._accumulation = Accumulation(*self.waiting)
        trainer._note_how_to_step()


def _checked(result: Any, pred: Array) -> tuple[float, Array]:
    """Return loss and gradient, or raise unless a loss in Python returned such a pair."""
    value, gradient = value_and_gradient("loss", result, "loss")
    array = as_input(gradient, "gradient", pred.dtype)
    if array.shape != pred.shape:
        raise ValueError(f"gradient: expected shape {pred.shape}, got {array.shape}")
    return value, array
