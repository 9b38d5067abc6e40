"""What every layer shares: parameters in one arena, and programs planned on demand."""

from __future__ import annotations

import threading
from math import prod

import numpy as np

from fastnn._door.numbers import generator
from fastnn._kernels.core import call
from fastnn._kernels.door import as_input, empty
from fastnn._kernels.program import Program
from fastnn._planning.builder import BACKWARD, FORWARD, Builder
from fastnn._planning.memory import aligned_zeros
from fastnn._planning.schedule import Schedule
from fastnn.introspection import graph, summary
from fastnn.layers.parameter import Buffer, Parameter, mark_gradients


class _Engine:
    """What belongs to a whole model: arena, random stream, programs, lock."""

    def __init__(self, dtype, rng):
        self.dtype, self.rng = dtype, rng
        self.data = self.grad = None
        self.programs = {}
        self.lock = threading.RLock()
        # (program, rows, output shape, thread) of a training forward without its backward
        self.pending = None


def as_dtype(dtype):
    """Return float32 or float64, or raise."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = None
    if result not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return result


class Layer:
    """Base of all layers and containers.

    A layer made of kernels defines :meth:`plan`. A layer in plain Python overrides
    :meth:`forward` and :meth:`backward` (and :meth:`output_shape` if it changes the shape) and
    can be used anywhere a built-in one can.

    Parameters
    ----------
    dtype : {"float32", "float64"}, optional
        When the layer is used alone; inside a container the container's counts.
    rng : int, numpy.random.Generator or None
        Source of the initial values and of dropout.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> class Square(fastnn.Layer):
    ...     def forward(self, x, training=False):
    ...         self.x = x.copy()
    ...         return x * x
    ...     def backward(self, dy, accumulate=False):
    ...         return 2 * self.x * dy
    >>> model = fastnn.Sequential(fastnn.Linear(3, 2, rng=0), Square())
    >>> model(np.ones((4, 3), np.float32)).shape
    (4, 2)
    """

    def __init__(self, *, dtype=None, rng=None):
        self._dtype = None if dtype is None else as_dtype(dtype)
        self._rng = None if rng is None else generator(rng)
        self._parameters = {}
        self._buffers = {}
        self._random_state = None
        self._engine = self._container = None

    # For subclasses --------------------------------------------------------------------------

    def parameter(self, name, shape, init, sparse=False):
        """Declare a parameter; ``init(shape, rng, dtype)`` gives its first values."""
        parameter = self._parameters[name] = Parameter(self, name, shape, init, sparse)
        return parameter

    def buffer(self, name, shape, value):
        """Declare an array of state that starts with every element at `value`."""
        buffer = self._buffers[name] = Buffer(self, name, shape, value)
        return buffer

    def children(self):
        """Return the layers inside this one by name."""
        return {}

    def uses_random_numbers(self):
        """Return whether the layer draws random numbers while it runs."""
        return False

    def output_shape(self, shape):
        """Return the shape per sample of the output for inputs of `shape` per sample."""
        return shape

    def plan(self, builder, x):
        """Append this layer's operations to `builder` and return its output.

        The base implementation is for layers in plain Python: it calls `forward` and `backward`.
        """
        y = builder.value(self.output_shape(x.shape))

        def python_forward(out, given):
            out[...] = _fitting(self.forward(given, training=builder.training), out, self)

        def python_backward(dx, dy):
            dx[...] = _fitting(self.backward(dy), dx, self)

        builder.python(FORWARD, python_forward, [y, x])
        builder.python(BACKWARD, python_backward, [x.grad, y.grad])
        return y

    # Building --------------------------------------------------------------------------------

    def _layers(self, prefix=""):
        """Yield (path, layer) for this layer and all inside it, each layer once."""
        seen = set()

        def walk(layer, path):
            if id(layer) in seen:
                return
            seen.add(id(layer))
            yield path, layer
            for name, child in layer.children().items():
                yield from walk(child, f"{path}.{name}" if path else name)

        yield from walk(self, prefix)

    def _outermost(self):
        """Return the container of all containers that this layer was put into, or itself."""
        layer = self
        while layer._container is not None:
            layer = layer._container
        return layer

    def _model(self):
        """Return this model's engine, building the model when it is used for the first time."""
        if self._engine is None:
            self._build()
        return self._engine

    def _build(self):
        """Give all parameters their place in one arena and their first values."""
        rng = self._rng if self._rng is not None else np.random.default_rng()
        engine = _Engine(self._dtype or np.dtype(np.float32), rng)
        owned = [
            (f"{path}.{name}" if path else name, parameter, layer)
            for path, layer in self._layers()
            for name, parameter in layer._parameters.items()
        ]
        total = sum(parameter.size for _, parameter, _ in owned)
        engine.data, engine.grad = (aligned_zeros(total, engine.dtype) for _ in range(2))
        start = 0
        for name, parameter, layer in owned:
            end = start + parameter.size
            data = engine.data[start:end].reshape(parameter.shape)
            if parameter.placed:  # the layer has been used before: its values move along
                data[...] = parameter.data
            else:
                own = layer._rng if layer._rng is not None else rng
                data[...] = parameter._init(parameter.shape, own, engine.dtype)
            parameter._place(name, data, engine.grad[start:end].reshape(parameter.shape))
            start = end
        for _, layer in self._layers():
            for buffer in layer._buffers.values():
                old = buffer.data if buffer.placed else buffer.value
                buffer.data = np.full(buffer.shape, old, engine.dtype)
            if layer.uses_random_numbers() and layer._random_state is None:
                own = layer._rng if layer._rng is not None else rng
                key = own.integers(0, 2**64, dtype=np.uint64)
                layer._random_state = np.array([key, 0], np.uint64)
            layer._engine = engine

    def _program(self, shape, training):
        """Return the program for inputs of `shape` per sample, planning it at first use."""
        engine = self._model()
        key = (id(self), shape, training)
        program = engine.programs.get(key)
        if program is None:
            program = engine.programs[key] = Program(self._schedule(shape, training))
        return program

    def _input(self, builder, shape):
        return builder.value(shape, "x", slot="x")

    def _schedule(self, shape, training):
        builder = Builder(self._model().dtype, training)
        x = self._input(builder, shape)
        y = _own(builder, builder.plan(self, x), x)
        y.root.name = "y"
        outputs = [y]
        if training:
            y.grad.root.slot = "dy"
            if x.dtype == builder.dtype:
                outputs.append(x.grad)
                x.grad.slot = "dx"
        # the caller gets what is computed itself, unless he could spoil it for the backward pass
        if not builder.read_later(y):
            y.root.slot = "y"
        schedule = Schedule.of(builder, outputs)
        schedule.x, schedule.y, schedule.keeps_x = x, y, builder.read_later(x)
        schedule.kept_x, schedule.parameters = None, self.parameters()
        return schedule

    def __getstate__(self):
        """Leave out arena and programs, which are made anew: for pickle and copy.deepcopy."""
        state = self.__dict__.copy()
        if self._engine is not None:
            state["_dtype"] = self._engine.dtype
        state["_engine"] = state["_container"] = None
        return state

    # Running ---------------------------------------------------------------------------------

    def forward(self, x, training=False):
        """Compute the layer's output.

        Parameters
        ----------
        x : array_like, shape (batch, ...)
            Converted to the model's dtype where it has another.
        training : bool
            Whether a backward pass follows; dropout and batch statistics depend on it.

        Returns
        -------
        ndarray, shape (batch, ...)
            A new array.

        Raises
        ------
        ValueError
            If the shape of `x` does not fit the layer.
        TypeError
            If `x` is not numeric.
        """
        engine = self._model()
        x = self._as_input(x, engine.dtype)
        if x.ndim == 0:
            raise ValueError("x: expected at least one axis, got a scalar")
        single = x.ndim == 1 and self._needs_features
        if single:
            x = x[None]
        with engine.lock:
            program = self._program(x.shape[1:], bool(training))
            rows = x.shape[0]
            y = empty((rows, *program.schedule.y.shape), engine.dtype)
            if training:
                engine.pending = None
                if program.schedule.keeps_x:
                    x = _kept(program.schedule, x)
            program.bind("x", x)
            program.bind("y", y)
            program.forward(rows)
            if training:
                if not program.has_slot("y"):
                    program.read(program.schedule.y, y)
                engine.pending = (self, program, x, y.shape, single, threading.get_ident())
        return y[0] if single else y

    __call__ = forward

    # Whether a one-dimensional input is one sample with features rather than a batch of scalars.
    _needs_features = False
    _takes_integers = False

    def _as_input(self, x, dtype):
        return as_input(x, "x", dtype)

    def backward(self, dy, accumulate=False):
        """Back-propagate through the last training forward pass.

        Parameters
        ----------
        dy : array_like
            Gradient of the loss with respect to the output, of the output's shape.
        accumulate : bool
            Add to the parameter gradients instead of overwriting them.

        Returns
        -------
        ndarray
            Gradient of the loss with respect to the input. None for integer inputs.

        Raises
        ------
        RuntimeError
            If no training forward pass came before, or another thread made it.
        ValueError
            If `dy` has another shape than the output.
        """
        engine = self._model()
        with engine.lock:
            if engine.pending is None or engine.pending[0] is not self:
                raise RuntimeError(
                    "backward: expected a forward(x, training=True) before it, one for each call"
                )
            _, program, x, shape, single, thread = engine.pending
            if thread != threading.get_ident():
                raise RuntimeError("backward: the forward pass was made by another thread")
            dy = as_input(dy, "dy", engine.dtype)
            if single:
                dy = dy[None]
            if dy.shape != shape:
                raise ValueError(f"dy: expected shape {shape}, got {dy.shape}")
            engine.pending = None
            dx = empty(x.shape, engine.dtype) if program.has_slot("dx") else None
            program.bind("dy", dy)
            program.bind("dx", dx)
            program.set_accumulate(bool(accumulate))
            program.backward(len(x))
            mark_gradients(program.schedule.parameters)
        return dx[0] if single and dx is not None else dx

    # State -----------------------------------------------------------------------------------

    def parameters(self):
        """Return the parameters of this layer and all inside it, each once."""
        self._model()
        return [p for _, layer in self._layers() for p in layer._parameters.values()]

    def _state(self):
        self._model()
        return {
            f"{path}.{name}" if path else name: entry
            for path, layer in self._layers()
            for name, entry in {**layer._parameters, **layer._buffers}.items()
        }

    def state_dict(self):
        """Return copies of all parameters and buffers, keyed as PyTorch keys them."""
        return {name: entry.data.copy() for name, entry in self._state().items()}

    def load_state_dict(self, mapping, strict=True):
        """Copy values into the parameters and buffers.

        Parameters
        ----------
        mapping : mapping of str to array_like
            For example another model's ``state_dict()``, PyTorch's included.
        strict : bool
            Whether the keys must be exactly the model's. ``num_batches_tracked`` is ignored.

        Raises
        ------
        KeyError
            If `strict` and keys are missing or unknown.
        ValueError
            If a shape differs. Nothing is changed in either case.
        """
        state = self._state()
        given = {k: v for k, v in mapping.items() if k.rpartition(".")[2] != "num_batches_tracked"}
        missing = [name for name in state if name not in given]
        unknown = [name for name in given if name not in state]
        if strict and (missing or unknown):
            raise KeyError(f"mapping: missing keys {missing}, unknown keys {unknown}")
        arrays = {}
        for name, entry in state.items():
            if name in given:
                arrays[name] = as_input(given[name], name, entry.data.dtype)
                if arrays[name].shape != entry.data.shape:
                    raise ValueError(
                        f"{name}: expected shape {entry.data.shape}, got {arrays[name].shape}"
                    )
        with self._model().lock:
            for name, array in arrays.items():
                state[name].data[...] = array

    # Description -----------------------------------------------------------------------------

    def summary(self, batch_size=1, input_shape=None):
        """Return a table of layers, shapes, parameters and bytes kept for backward.

        Parameters
        ----------
        batch_size : int
        input_shape : tuple of int, optional
            Shape per sample; taken from the first layer or the last call when not given.
        """
        return summary(self, batch_size, input_shape)

    def graph(self, format="text", input_shape=None):
        """Return the computational graph of forward and backward.

        Parameters
        ----------
        format : {"text", "dot", "svg"}
        input_shape : tuple of int, optional
            Shape per sample; taken from the first layer or the last call when not given.
        """
        return graph(self, format, input_shape)

    def input_shape(self):
        """Return the shape per sample that the layer expects, or None if any will do."""

    def keeps_shape(self):
        """Return whether the output has the shape of the input, whatever that is."""
        return type(self).output_shape is Layer.output_shape


def rows_and_columns(shape):
    """Split a shape per sample into rows and columns (the last axis)."""
    return (prod(shape[:-1]), shape[-1]) if shape else (1, 1)


def _own(builder, y, x):
    """Copy `y` if it is nothing but a view of `x`, which belongs to the caller."""
    if y.root is not x.root:
        return y
    copy = builder.value(y.shape)
    sizes = (y.size, y.size, y.size, 0, 0)
    builder.forward("copy_columns", [copy, y], sizes=sizes)
    builder.backward("copy_columns", [y.grad, copy.grad], sizes=sizes)
    return copy


def _kept(schedule, x):
    """Copy the input, for the caller may write into his before the backward pass."""
    if schedule.kept_x is None or len(schedule.kept_x) < len(x):
        schedule.kept_x = np.empty_like(x)
    copy = schedule.kept_x[: len(x)]
    if x.nbytes >= 1 << 18 and x.dtype == schedule.dtype:
        # by the threads that go on with it: what one processor has read is slow to write by another
        columns = schedule.x.size
        call("copy_columns", x.dtype, (copy, x), (columns, columns, columns, 0, 0), (), len(x))
    else:
        copy[...] = x
    return copy


def _fitting(result, expected, layer):
    result = np.asarray(result)
    if result.shape != expected.shape:
        raise ValueError(
            f"{type(layer).__name__}: expected a result of shape {expected.shape}, "
            f"got {result.shape}"
        )
    return result
