"""Forward and backward passes of a model apart from its own, and its Jacobian row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._kernels.door import empty
from fastnn._kernels.program import Memory, Program
from fastnn._planning.builder import BACKWARD, Builder, PlannedParameter, Value
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array
from fastnn.layers.base import Layer, _own
from fastnn.layers.dropout import Dropout
from fastnn.layers.embedding import Embedding
from fastnn.layers.linear import Linear
from fastnn.layers.normalization import BatchNorm1d, LayerNorm
from fastnn.layers.parameter import Parameter
from fastnn.layers.scale import Scale

__all__ = ["Pass", "RowJacobian", "columns_of", "expect_layer", "inputs", "unchanged"]

Record = Callable[[Layer, Array, Array], None]

# Rows that are computed at a time, so that memory is bounded.
ROWS = 4096


def expect_layer(model: object) -> Layer:
    """Return `model`, or raise TypeError unless it is a layer."""
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
    return model


def inputs(model: Layer, x: Any) -> tuple[Array, bool]:
    """Return a batch as the model reads it, and whether it was one sample without its axis."""
    x = model._as_input(x, model._built().dtype)
    if x.ndim == 0:
        raise ValueError("x: expected at least one axis, got a scalar")
    single = bool(x.ndim == 1 and model._needs_features)
    return (x[None] if single else x), single


def columns_of(parameters: Sequence[Parameter]) -> dict[Parameter, slice]:
    """Return where each parameter lies in one vector of all."""
    ends = np.cumsum([0, *(p.size for p in parameters)]).tolist()
    return {p: slice(*ends[i : i + 2]) for i, p in enumerate(parameters)}


@contextmanager
def unchanged(model: Layer, statistics: bool = True) -> Iterator[None]:
    """Lock a model, and put gradients back in the end; `statistics` and random states too."""
    built = model._built()
    with built.lock:
        parameters = model.parameters()
        layers = [layer for _, layer in model._layers()] if statistics else []
        flags = [(p._ready, p._forgotten) for p in parameters]
        saved = [
            (array, array.copy())
            for array in [
                *(p.grad_array for p in parameters),
                *(buffer.array for layer in layers for buffer in layer._buffers.values()),
                *(layer._random_state for layer in layers if layer._random_state is not None),
                *(array for p in parameters for array in (p._rows, p._used) if array is not None),
            ]
        ]
        try:
            yield
        finally:
            for array, copy in saved:
                array[...] = copy
            for parameter, (ready, forgotten) in zip(parameters, flags, strict=True):
                parameter._ready, parameter._forgotten = ready, forgotten


class _Builder(Builder):
    """Plans a model for training, or as it predicts but with a backward pass.

    Parameters
    ----------
    model : Layer
    predicting : bool
        Whether there is no dropout, and running statistics count.
    gradients : bool
        Whether the gradients of parameters are computed, of frozen ones too.
    record : callable, optional
        ``record(layer, x, dy)`` is called in the backward pass with the arrays at layers.
    recorded : callable
        At which: ``recorded(layer)`` is true.
    """

    def __init__(
        self,
        model: Layer,
        predicting: bool,
        gradients: bool,
        record: Record | None,
        recorded: Callable[[Layer], Any],
    ) -> None:
        built = model._built()
        super().__init__(built.dtype, training=True, model=built)
        self.predicting, self.gradients = predicting, gradients
        self.record, self.recorded = record, recorded
        self.added: list[Parameter] = []  # whose gradients start at 0 and are added to

    def trains(self, parameter: PlannedParameter) -> bool:
        """Return whether a gradient of `parameter` is wanted."""
        return self.gradients

    def plan(self, layer: Any, x: Value, name: str = "") -> Value:
        """Plan a layer, and what `record` asks for."""
        if self.predicting:
            y = self._plan_predicting(layer, x, name)
        else:
            y = super().plan(layer, x, name)
        if self.record is not None and self.recorded(layer):
            record, nothing = self.record, self.value(())

            def python(_: Array, dy: Array, x: Array) -> None:
                record(layer, x, dy)

            self.python(BACKWARD, python, [nothing, y.grad, x], parameters=True)
        return y

    def _plan_predicting(self, layer: Layer, x: Value, name: str) -> Value:
        if isinstance(layer, (Dropout, BatchNorm1d)):
            self.training = False
            try:
                y: Value = super().plan(layer, x, name)
            finally:
                self.training = True
            if isinstance(layer, BatchNorm1d):
                self.python(BACKWARD, _batch_norm_backward(layer), [x.grad, y.grad])
                if self.gradients and layer.weight is not None:
                    self.added += [p for p in (layer.weight, layer.bias) if p is not None]
                    pointers = [self.value(()), y.grad, x]
                    self.python(BACKWARD, _batch_norm_gradients(layer), pointers, parameters=True)
            return y
        dropped = layer.__dict__.get("dropout")  # between recurrent layers
        if not dropped:
            return super().plan(layer, x, name)
        layer.__dict__["dropout"] = 0.0  # while the model is locked, and no plan of its own is made
        try:
            return super().plan(layer, x, name)
        finally:
            layer.__dict__["dropout"] = dropped


def own_parameters(layer: Layer) -> list[Parameter]:
    """Return the parameters that a layer itself uses: in Python also those of layers inside."""
    if type(layer).plan is Layer.plan and layer.children():
        return layer.parameters()
    return list(layer._parameters.values())


def _batch_norm_backward(layer: BatchNorm1d) -> Callable[[Array, Array], None]:
    def python(dx: Array, dy: Array) -> None:
        scale = 1 / np.sqrt(layer.running_var.array + layer.eps)
        if layer.weight is not None:
            scale *= layer.weight.array
        dx[...] = dy * _over_features(scale, dy)

    return python


def _batch_norm_gradients(layer: BatchNorm1d) -> Callable[[Array, Array, Array], None]:
    def python(_: Array, dy: Array, x: Array) -> None:
        for parameter, part in _batch_norm(layer, x, dy):
            parameter.grad_array[...] += part.sum(0)

    return python


def _over_features(values: Array, x: Array) -> Array:
    """Shape one value per feature for (batch, features) or (batch, features, length)."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


class Pass:
    """Forward and backward for one shape of inputs, in memory of its own.

    Parameters
    ----------
    model : Layer
    shape : tuple of int
        Of one sample.
    predicting, gradients, record, recorded
        As of the builder.
    """

    def __init__(
        self,
        model: Layer,
        shape: tuple[int, ...],
        predicting: bool = True,
        gradients: bool = False,
        record: Record | None = None,
        recorded: Callable[[Layer], Any] | None = None,
    ) -> None:
        built = model._built()
        builder = _Builder(model, predicting, gradients, record, recorded or own_parameters)
        x = model._input(builder, shape)
        y = _own(builder, builder.plan(model, x), x)
        y.grad.root.slot = "dy"
        outputs = [y]
        self.has_input_gradient = x.dtype == builder.dtype
        if self.has_input_gradient:
            outputs.append(x.grad)
            x.grad.slot = "dx"
        if not builder.read_later(y):
            y.root.slot = "y"
        self.schedule = Schedule.of(builder, outputs, x, y)
        self.program = Program(self.schedule, Memory(), built.version)
        self.dtype, self.output_shape, self._added = built.dtype, tuple(y.shape), builder.added
        self.outputs = prod(self.output_shape)
        self._x: Array = np.empty(0)
        self._arrays: dict[str, Array] = {}

    def forward(self, x: Array) -> Array:
        """Return the prediction for a batch that stays as it is until `backward`."""
        y = empty((len(x), *self.output_shape), self.dtype)
        arrays = {
            carried.slot: empty((carried.parts, len(x), *carried.shape), self.dtype)
            for carried in self.schedule.carried
        }
        self.program.forward(len(x), x, y, arrays)
        self.schedule.hand_out({})
        if not self.program.has_slot("y"):
            self.program.read(self.schedule.y, y)
        self._x, self._arrays = x, arrays  # which the program reads again
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return the gradient of the last batch; None if the input is integers."""
        dx = np.zeros(self._x.shape, self.dtype) if self.has_input_gradient else None
        for parameter in self._added:
            parameter.grad_array[...] = 0
        self.program.backward(len(dy), dy, dx, self._arrays)
        return dx


class RowJacobian:
    """The Jacobian of predictions with respect to parameters, a row for each output of a sample.

    Parameters
    ----------
    model : Layer
    shape : tuple of int
        Of one sample.
    predicting : bool
        Whether there is no dropout, and running statistics count.

    Notes
    -----
    A dense layer's part is the product of what it reads and the gradient that comes back to it, for
    all rows of a batch at once; so it is for normalization and embeddings. Any other layer with
    parameters is run backwards row by row. With the statistics of the batch each prediction
    depends on all rows, and there is a backward pass of the whole model for each output.
    """

    def __init__(self, model: Layer, shape: tuple[int, ...], predicting: bool = True) -> None:
        self.model, self.predicting = model, predicting
        self.columns = columns_of(model.parameters())
        self.coupled = not predicting and any(
            isinstance(layer, BatchNorm1d) for _, layer in model._layers()
        )
        record = None if self.coupled else self._record
        self._pass = Pass(model, shape, predicting, gradients=self.coupled, record=record)
        self._out: Array = np.empty((0, 0))
        self._alone: dict[tuple[Layer, tuple[int, ...]], Pass] = {}

    @property
    def outputs(self) -> int:
        """Numbers in the prediction for one sample."""
        return self._pass.outputs

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the prediction for one sample."""
        return self._pass.output_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the model."""
        return self._pass.dtype

    def predict(self, x: Array) -> Array:
        """Return the predictions alone."""
        return self._pass.forward(x)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Return predictions (n, *outputs) and Jacobian (n, number of outputs, P) of a batch.

        Gradients of parameters are left in any state.
        """
        n, k, size = len(x), self.outputs, sum(p.size for p in self.columns)
        result = np.zeros((n * k, size), self._pass.dtype)
        if self.coupled:
            y = self._backward_for_each(x, result)
        else:
            y = empty((n, *self.output_shape), self._pass.dtype)
            at_a_time = max(1, ROWS // max(k, 1))
            for start in range(0, n, at_a_time):
                part = x[start : start + at_a_time]
                self._out = result[start * k : (start + len(part)) * k]
                predicted = self._pass.forward(np.repeat(part, k, axis=0))
                y[start : start + len(part)] = predicted[::k]
                dy = np.tile(np.eye(k, dtype=self._pass.dtype), (len(part), 1))
                self._pass.backward(dy.reshape(-1, *self.output_shape))
        return y, result.reshape(n, k, size)

    def _backward_for_each(self, x: Array, result: Array) -> Array:
        """Fill the rows one by one, each with a pass over the whole batch."""
        buffers = [b.array for _, layer in self.model._layers() for b in layer._buffers.values()]
        before = [array.copy() for array in buffers]
        dy = np.zeros((len(x), *self.output_shape), self._pass.dtype)
        flat = dy.reshape(-1)
        y = dy
        for i in range(flat.size):
            for array, copy in zip(buffers, before, strict=True):
                array[...] = copy  # one batch moves running statistics once
            y = self._pass.forward(x)
            flat[i] = 1
            self._pass.backward(dy)
            flat[i] = 0
            for parameter, column in self.columns.items():
                result[i, column] = parameter.grad_array.reshape(-1)
        return y

    def _record(self, layer: Layer, x: Array, dy: Array) -> None:
        """Add one layer's part to the Jacobian of the rows of the batch."""
        n = len(x)
        rule = next((rule for kind, rule in _RULES.items() if isinstance(layer, kind)), None)
        if rule is not None and own_parameters(layer):
            for parameter, part in rule(layer, x, dy):
                self._out[:, self.columns[parameter]] += part.reshape(n, -1)
            return
        key = (layer, x.shape[1:])
        if key not in self._alone:
            self._alone[key] = Pass(layer, x.shape[1:], self.predicting, gradients=True)
        alone = self._alone[key]
        for i in range(n):
            alone.forward(x[i : i + 1])
            alone.backward(dy[i : i + 1])
            for parameter in own_parameters(layer):
                self._out[i, self.columns[parameter]] += parameter.grad_array.reshape(-1)
        if type(layer).plan is Layer.plan:  # what it keeps itself is of the whole batch again
            alone.forward(x)


Parts = Iterator[tuple[Parameter, Array]]


def _linear(layer: Linear, x: Array, dy: Array) -> Parts:
    """dW = dyᵀ x of each row, db = dy."""
    n = len(x)
    x, dy = x.reshape(n, -1, x.shape[-1]), dy.reshape(n, -1, dy.shape[-1])
    if x.shape[1] == 1:
        yield layer.weight, dy.reshape(n, -1, 1) * x
    else:
        yield layer.weight, dy.transpose(0, 2, 1) @ x
    if layer.bias is not None:
        yield layer.bias, dy.sum(1)


def _scale(layer: Scale, x: Array, dy: Array) -> Parts:
    yield layer.weight, (dy * x).reshape(len(x), -1, x.shape[-1]).sum(1)


def _layer_norm(layer: LayerNorm, x: Array, dy: Array) -> Parts:
    if layer.weight is None or layer.bias is None:  # it has both or none
        return
    n, shape = len(x), layer.normalized_shape
    x, dy = x.reshape(n, -1, prod(shape)), dy.reshape(n, -1, prod(shape))
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    yield layer.weight, (dy * normal).sum(1)
    yield layer.bias, dy.sum(1)


def _batch_norm(layer: BatchNorm1d, x: Array, dy: Array) -> Parts:
    """With running statistics."""
    if layer.weight is None or layer.bias is None:  # it has both or none
        return
    mean, var = layer.running_mean.array, layer.running_var.array
    normal = (x - _over_features(mean, x)) / _over_features(np.sqrt(var + layer.eps), x)
    axes = tuple(range(2, x.ndim))
    yield layer.weight, (dy * normal).sum(axes)
    yield layer.bias, dy.sum(axes)


def _embedding(layer: Embedding, x: Array, dy: Array) -> Parts:
    n = len(x)
    part = np.zeros((n, layer.num_embeddings, layer.embedding_dim), dy.dtype)
    x = x.reshape(n, -1)
    np.add.at(part, (np.arange(n)[:, None], x), dy.reshape(*x.shape, -1))
    yield layer.weight, part


_RULES: dict[type[Layer], Callable[[Any, Array, Array], Parts]] = {
    Linear: _linear,
    Scale: _scale,
    LayerNorm: _layer_norm,
    BatchNorm1d: _batch_norm,
    Embedding: _embedding,
}
