"""A model as it is now, that goes step by step."""

from __future__ import annotations

import copy
from typing import Any

from fastnn._door.numbers import positive
from fastnn._kernels.door import output
from fastnn._kernels.predictor import Caller, Frozen
from fastnn._planning.carried import CarriedState, State, _places
from fastnn._typing import Array, Shape
from fastnn.prediction.packing import Packed, copied


class Stream(Caller):
    """A frozen copy of a model that goes step by step, from ``model.stream()``.

    ``s(x_t) -> y_t`` takes the next step of each sequence: x_t (batch, features) and y_t (batch,
    outputs); with ``batch=1`` also (features,) and (outputs,), as for any model. What recurrent
    layers carry from step to step begins at zero. Weights are packed once; to train the model
    further changes nothing here. A stream is for one thread at a time.

    Parameters
    ----------
    model : Layer
    batch : int
        How many sequences go on side by side.

    Raises
    ------
    TypeError, ValueError
        If `batch` is no positive integer, or a layer reads sequences backwards.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Sequential(fastnn.LSTM(3, 5), fastnn.Linear(5, 1), rng=0)
    >>> s, x = model.stream(), np.ones((1, 7, 3), np.float32)
    >>> steps = [s(x[:, t]) for t in range(7)]
    >>> np.allclose(np.stack(steps, 1), model(x), atol=1e-6)
    True
    """

    def __init__(self, model: Any, batch: int = 1) -> None:
        batch = positive("batch", batch)
        for path, layer in model._places():
            if getattr(layer, "bidirectional", False):
                raise ValueError(
                    f"layer {path or type(layer).__name__} ({type(layer).__name__}): expected one "
                    "that reads sequences forwards, got bidirectional=True"
                )
        model._built()  # a copy made before would draw first values of its own
        self._model, self._batch = copy.deepcopy(model), batch
        dtype = self._model._built().dtype
        self._layers = _places(self._model)
        # an array for each layer's state, which its kernel reads before it writes it
        self._states = {
            slot: layer._states(("h", "c"), (None, None), batch, dtype)
            for slot, layer in self._layers
        }
        self._packed = Packed()
        self._made: dict[Shape, Frozen | None] = {}
        self.single = batch == 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the model and the state."""
        return type(self), (self._model, self._batch), self.state

    def __setstate__(self, state: State) -> None:
        self.state = state

    @property
    def state(self) -> State:
        """A copy of h and c, each (layers, batch, hidden).

        A pair, or a tuple of pairs if there are several recurrent layers. What is assigned, such as
        the state of another stream, is copied; None is zero.
        """
        return CarriedState(self._states).state(self._model)

    @state.setter
    def state(self, state: State) -> None:
        if state is None or not self._layers:
            self.reset()
            return
        given = CarriedState()
        given.set_state(self._model, state)
        for slot, place in self._states.items():
            if given.states[slot].shape != place.shape:
                raise ValueError(
                    f"state: expected that of {self._batch} sequences, got one of "
                    f"{given.states[slot].shape[1]}"
                )
        for slot, place in self._states.items():
            place[...] = given.states[slot]

    def reset(self) -> None:
        """Begin new sequences, with a state of zero."""
        for place in self._states.values():
            place[...] = 0

    def _frozen(self, shape: Shape) -> Frozen | None:
        """Return the step for rows of this shape; None if a part of it is in Python."""
        if shape not in self._made:
            schedule = self._model._schedule(
                (1, *shape) if self._layers else shape, False, frozen=True
            )
            if any(op.python for op in schedule.operations):
                self._made[shape] = None
            else:
                self._made[shape] = Frozen(
                    self._packed.program(schedule),
                    shape,
                    self._without_time(schedule.y.shape),
                    self._batch,
                    self._arrays(),
                )
        return self._made[shape]

    def _arrays(self) -> dict[str, Array]:
        """The states by the names under which programs read and write them."""
        ends = {f"{slot.removesuffix('initial')}final": a for slot, a in self._states.items()}
        return self._states | ends

    def _without_time(self, shape: Shape) -> Shape:
        """The shape of a step of the output, which is a sequence or the last step of one."""
        return shape[1:] if self._layers and len(shape) > 1 else shape

    def _answer(self, x: Any, out: Any) -> Array:
        """Take a first step, or one that must be converted or refused."""
        model, dtype = self._model, self._model._built().dtype
        x = model._as_input(x, dtype)
        single = self.single and x.ndim == (0 if model._takes_integers else 1)
        rows = x[None] if single else x
        if rows.ndim == 0 or len(rows) != self._batch:
            raise ValueError(
                f"x: expected a step of {self._batch} sequences, ({self._batch}, ...), got shape "
                f"{x.shape}"
            )
        found = self._frozen(rows.shape[1:])
        if found is None:
            return self._step_in_python(rows, single, out)
        y = output(out, found.y_shape if single else (len(rows), *found.y_shape), dtype, (x,))
        found(rows, y[None] if single else y)
        self.last = found
        return y

    def _step_in_python(self, rows: Array, single: bool, out: Any) -> Array:
        y = self._model._run(rows[:, None] if self._layers else rows, False, self._arrays())
        y = y.reshape(len(rows), *self._without_time(y.shape[1:]))
        y = y[0] if single else y
        return y if out is None else copied(output(out, y.shape, y.dtype, (rows,)), y)
