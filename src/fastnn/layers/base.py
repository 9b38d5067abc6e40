"""What every layer shares: declaring, planning, running, and the state dict."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping
from contextlib import nullcontext
from inspect import Parameter as Argument, signature
from math import prod
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn._door.arrays import as_array, describe, expect_shape
from fastnn._door.numbers import boolean, float_dtype, generator
from fastnn._kernels.door import as_input, empty, output
from fastnn._kernels.program import Program
from fastnn._planning.builder import BACKWARD, FORWARD, Builder, Value
from fastnn._planning.memory import aligned_zeros
from fastnn._planning.moment import state_of_one_moment, without_moment
from fastnn._planning.schedule import Schedule
from fastnn._planning.watched import Watched, new_lock
from fastnn._typing import Array, Rng, Shape
from fastnn.introspection import graph, summary
from fastnn.layers.model import BUILDING, Model, Pending, new_random_state
from fastnn.layers.parameter import Buffer, Entry, Initializer, Parameter, mark_gradients
from fastnn.preprocessing import Statistics

if TYPE_CHECKING:
    from fastnn.prediction import Predictor, Stream

TYPICAL_LENGTH = 10  # of a sequence, where a model is described before it has met one
Arrays = dict[str, Array]  # of the caller, by the slots of a program


class LoadedKeys(NamedTuple):
    """What `load_state_dict` found: keys without a value, and values without a place."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _Missing:
    """Stands for what ``Layer.__init__`` makes, and explains that it has not been called."""

    def __get__(self, layer: Layer | None, owner: type) -> Any:
        if layer is None:
            return self
        raise AttributeError(
            f"{owner.__name__}: expected an __init__ that calls super().__init__() first, "
            "got one without"
        )


MISSING: Any = _Missing()


class Layer(Watched):
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

    Notes
    -----
    A layer may belong to any number of models. Its parameters keep the place that they got first,
    and every model sees every change. ``copy.copy`` gives a layer that shares them,
    ``copy.deepcopy`` and ``pickle`` one with its own.

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

    # Whether a one-dimensional input is one sample with features rather than a batch of scalars.
    _needs_features: ClassVar[Any] = False
    _takes_integers: ClassVar[Any] = False
    # Attributes that follow from others, and what to do instead of assigning them.
    _derived: ClassVar[dict[str, str]] = {
        "random_state": "a layer made with another rng draws other random numbers"
    }

    _buffers: dict[str, Buffer]
    _absent: set[str]
    _parameters: dict[str, Parameter] = MISSING
    _dtype: np.dtype[Any] | None
    _rng: np.random.Generator | None
    _random_state: Array | None
    # set when its arrays get their place: the stream of random numbers, and the lock
    _stream: np.random.Generator | None
    _lock: Any = MISSING
    _container: Layer | None  # that it was put into last, until then
    _model: Model | None = None
    _preprocessing: Statistics | None

    def __init__(self, *, dtype: DTypeLike | None = None, rng: Rng = None) -> None:
        self.__dict__.update(  # past __setattr__, for what users assign
            _watchers=(),
            _buffers={},
            _absent=set(),
            _parameters={},
            _dtype=None if dtype is None else float_dtype(dtype),
            _rng=None if rng is None else generator(rng),
            _random_state=None,
            _stream=None,
            _lock=None,
            _container=None,
            _model=None,
            _preprocessing=None,
        )

    # For subclasses --------------------------------------------------------------------------

    def parameter(
        self, name: str, shape: Shape, init: Initializer, sparse: bool = False
    ) -> Parameter:
        """Declare a parameter; ``init(shape, rng, dtype)`` gives its first values."""
        parameter = self._parameters[name] = Parameter(self, name, shape, init, sparse)
        return parameter

    def no_parameter(self, name: str) -> None:
        """Declare that the layer was made without a parameter that others of its kind have."""
        self._absent.add(name)

    def buffer(self, name: str, shape: Shape, value: float) -> Buffer:
        """Declare an array of state that starts with every element at `value`."""
        buffer = self._buffers[name] = Buffer(self, name, shape, value)
        return buffer

    def children(self) -> dict[str, Layer]:
        """Return the layers inside this one by name."""
        return {}

    def uses_random_numbers(self) -> bool:
        """Return whether the layer draws random numbers while it runs."""
        return False

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape per sample of the output for inputs of `shape` per sample."""
        return shape

    def plan(self, builder: Builder, x: Value) -> Value:
        """Append this layer's operations to `builder` and return its output.

        The base implementation is for layers in plain Python: it calls `forward` and `backward`.
        """
        y = builder.value(self.output_shape(x.shape))
        layer, training = ref(self), builder.training  # a plan does not keep its model alive

        def python_forward(out: Array, given: Array) -> None:
            me: Any = layer()
            out[...] = _fitting(me.forward(given, training=training), out, me)

        def python_backward(dx: Array, dy: Array) -> None:
            me: Any = layer()
            dx[...] = _fitting(me.backward(dy), dx, me)

        builder.python(FORWARD, python_forward, [y, x])
        own = any(builder.trains(p) for p in self._parameters.values())
        builder.python(BACKWARD, python_backward, [x.grad, y.grad], parameters=own)
        return y

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which `fastnn.load` makes the layer again.

        These are the attributes of the arguments' names, but for `dtype`, `rng` and the layers
        inside; what has no attribute is left to its default. A layer in Python whose attributes
        have other names or other values defines it anew.

        Returns
        -------
        dict of str to object
            Numbers, text, lists and dicts, as JSON has them.

        Raises
        ------
        TypeError
            If an argument without a default has no attribute.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Linear(3, 2, bias=False).config()
        {'in_features': 3, 'out_features': 2, 'bias': False}
        """
        found: dict[str, Any] = {}
        for name, argument in arguments(type(self)).items():
            declared = name in self._parameters or name in self._absent
            if declared and isinstance(argument.default, bool):  # such as bias=True
                found[name] = name in self._parameters
            elif name in self.__dict__ and not declared:
                found[name] = self.__dict__[name]
            elif argument.default is Argument.empty:
                raise TypeError(
                    f"expected an attribute {name}, as the argument of {type(self).__name__}, "
                    "got none; define config(self)"
                )
        return found

    # Attributes ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        declared = self.__dict__.get("_parameters")
        if declared is not None and value is not self.__dict__.get(name, self):
            if name in declared:
                value = self._parameter_for(name, value)
            elif name in self._buffers and value is not self._buffers[name]:
                self._buffers[name].data = value
                return
            elif name in self._absent and value is not None:
                raise AttributeError(
                    f"{name}: expected None, for this {type(self).__name__} was made without, got "
                    f"{type(value).__name__}; make a new layer"
                )
        if name in self._derived:
            raise AttributeError(f"{name}: cannot be assigned; {self._derived[name]}")
        object.__setattr__(self, name, value)

    def _parameter_for(self, name: str, value: Any) -> Parameter:
        """Return the parameter of that name after `value` was assigned: copied, or tied."""
        own = self._parameters[name]
        if value is None:
            raise AttributeError(
                f"{name}: expected an array or a Parameter, got None; make a "
                f"{type(self).__name__} without it"
            )
        if not isinstance(value, Parameter):
            own.data = value
            return own
        if value is own:
            return own
        if value.shape != own.shape:
            raise ValueError(f"{name}: expected shape {own.shape}, got {value.shape}")
        used = self._lock is not None or value.placed
        if used and value.array.dtype != own.array.dtype:
            raise ValueError(f"{name}: expected {own.array.dtype}, got {value.array.dtype}")
        self._parameters[name] = value
        own._uses -= 1
        value._uses += 1
        own.changed()
        self.changed()
        return value

    @property
    def trainable(self) -> bool:
        """Whether all parameters of this layer, and of those inside it, are trained."""
        return all(p.trainable for _, layer in self._layers() for p in layer._parameters.values())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        value = boolean("trainable", value)
        for _, layer in self._layers():
            for parameter in layer._parameters.values():
                parameter.trainable = value

    def freeze(self) -> None:
        """Train none of the parameters of this layer and those inside it."""
        self.trainable = False

    def unfreeze(self) -> None:
        """Train all parameters of this layer and those inside it."""
        self.trainable = True

    # Building --------------------------------------------------------------------------------

    def _places(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for this layer and all inside it, for every place."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child._places(f"{prefix}.{name}" if prefix else name)

    def _layers(self) -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for this layer and all inside it, each layer once."""
        seen: set[Layer] = set()
        for path, layer in self._places():
            if layer not in seen:
                seen.add(layer)
                yield path, layer

    def _entries(self) -> dict[str, Entry]:
        return {**self._parameters, **self._buffers}

    def _outermost(self) -> Layer:
        """Return the container of all containers that this layer was put into, or itself."""
        layer = self
        while layer._container is not None:
            layer = layer._container
        return layer

    def build(self) -> None:
        """Give all arrays a place and their first values, where they have none yet."""
        _build(self)

    def _built(self) -> Model:
        """Return what it takes to run, building the model when it is used for the first time."""
        model = self._model
        if model is None:
            if self._lock is None:
                self._outermost().build()
            layers = [layer for _, layer in self._layers()]
            if any(layer._lock is None for layer in layers):  # some have come since
                self.build()
            with BUILDING:
                model = self._model
                if model is None:
                    assert self._dtype is not None
                    model = Model(self._dtype, {layer._lock for layer in layers})
                    self._model = model
        return model

    @property
    def random_state(self) -> Array:
        """The (key, step) pair of the layer's own random numbers, for plans."""
        if self._random_state is None:
            stream = self._rng if self._rng is not None else self._stream
            assert stream is not None
            self._random_state = new_random_state(stream)
        return self._random_state

    def _program(self, shape: Shape, training: bool, precision: str = "float32") -> Program:
        """Return the program for inputs of `shape` per sample, planning it at first use."""
        model = self._model or self._built()
        model.last_shape = shape
        key = (shape, training, precision)
        program: Program | None = model.programs.get(key)
        if program is None:
            schedule = self._schedule(shape, training, precision=precision)
            program = Program(schedule, model.memory[training], model.version)
            model.programs.keep(key, program)
        return program

    def _input(self, builder: Builder, shape: Shape) -> Value:
        return builder.value(shape, "x", slot="x")

    def _schedule(
        self,
        shape: Shape,
        training: bool,
        trained: Container[Parameter] | None = None,
        wants_dx: bool = True,
        frozen: bool = False,
        precision: str = "float32",
        kept: bool = False,
    ) -> Schedule:
        """Plan for inputs of `shape` per sample, with gradients of `trained`, all if None.

        With `frozen`, for parameters that will not change. Products read operands of `precision`.
        With `kept`, the outputs of all layers inside, and their gradients, stay to be read.
        """
        model = self._built()
        builder = Builder(
            model.dtype, training, model=model, trained=trained, precision=precision,
            frozen=frozen,
        )  # fmt: skip
        x = self._input(builder, shape)
        y = _own(builder, builder.plan(self, x), x)
        y.root.name = "y"
        outputs = [y]
        if training:
            y.grad.root.name = y.grad.root.slot = "dy"
            if x.dtype == builder.dtype and wants_dx:
                outputs.append(x.grad)
                x.grad.slot = "dx"
            if builder.read_later(x):
                builder.keep_input(x)
        if kept:
            for scope in builder.scopes:
                outputs += [scope.output, scope.output.grad]
        # the caller gets what is computed itself, unless he could spoil it for the backward pass
        if not builder.read_later(y):
            y.root.slot = "y"
        return Schedule.of(builder, outputs, x, y)

    # Copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy.deepcopy take: this layer and all inside it at one step."""
        lock = nullcontext() if self._lock is None else self._built().lock
        return state_of_one_moment(self, lock, self._pieces)

    def _own_state(self) -> dict[str, Any]:
        """Leave out programs and locks, which are made anew."""
        made_anew = dict.fromkeys(("_lock", "_container", "_model"))
        return self.__dict__ | made_anew | {"_watchers": ()}

    def _pieces(self) -> Iterator[Layer | Entry]:
        """Yield what a copy is made of: layers, parameters and buffers."""
        for _, layer in self._layers():
            yield layer
            yield from layer._entries().values()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(without_moment(state))
        for entry in self._entries().values():
            if not entry.placed and entry._layer is None:
                entry._layer = self

    def __copy__(self) -> Self:
        """Return a layer that shares parameters, buffers and layers inside."""
        self._built()
        result = object.__new__(type(self))
        result.__dict__.update(self.__dict__)
        own = {name: copy.copy(self.__dict__[name]) for name in ("_parameters", "_buffers")}
        result.__dict__.update(own, _model=None, _watchers=())
        for parameter in result._parameters.values():
            parameter._uses += 1
        return result

    # Running ---------------------------------------------------------------------------------

    def forward(self, x: ArrayLike, training: bool = False) -> Array:
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
        return self._run(x, training)

    # for a layer in Python this is its own forward with the checks around it
    __call__ = forward

    def _run(self, x: Any, training: bool, arrays: Arrays | None = None) -> Array:
        """Run the forward pass; `arrays` are for further slots of the program."""
        model = self._model or self._built()
        x = self._as_input(x, model.dtype)
        if x.ndim == 0:
            raise ValueError("x: expected at least one axis, got a scalar")
        single = x.ndim == 1 and self._needs_features
        if single:
            x = x[None]
        with model.lock:
            program = self._program(x.shape[1:], bool(training))
            schedule, rows = program.schedule, x.shape[0]
            y = empty((rows, *schedule.y.shape), model.dtype)
            if schedule.carried:
                arrays = {} if arrays is None else arrays
                for carried in schedule.carried:
                    if carried.slot not in arrays:
                        shape = (carried.parts, rows, *carried.shape)
                        arrays[carried.slot] = empty(shape, model.dtype)
            if training:
                if model.in_loss:
                    raise RuntimeError(
                        "forward: expected no training pass of the model inside its own loss; "
                        "training=False computes its output"
                    )
                model.pending = None
            program.forward(rows, x, y, arrays)
            if schedule.carried:
                schedule.hand_out(arrays)
            if training:
                if not program.has_slot("y"):
                    program.read(schedule.y, y)
                model.pending = Pending(
                    program, rows, x.shape, y.shape, single, arrays, get_ident()
                )
        return y[0] if single else y

    def _as_input(self, x: Any, dtype: np.dtype[Any]) -> Array:
        return as_input(x, "x", dtype)

    def backward(self, dy: ArrayLike, accumulate: bool = False) -> Array | None:
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
        if type(self).forward is not Layer.forward and type(self).plan is Layer.plan:
            raise RuntimeError(f"backward: {type(self).__name__} has a forward of its own but no "
                               "backward; define backward(self, dy, accumulate=False)")
        model = self._model or self._built()
        with model.lock:
            return self._run_back(model.awaited(), dy, accumulate)

    def _run_back(
        self, pending: Pending, dy: Any, accumulate: bool, arrays: Arrays | None = None
    ) -> Array | None:
        """Run the backward pass; `arrays` are for further slots of the program."""
        model, program = self._model or self._built(), pending.program
        dy = as_input(dy, "dy", model.dtype)
        if pending.single:
            dy = dy[None]
        if dy.shape != pending.output_shape:
            raise ValueError(f"dy: expected shape {pending.output_shape}, got {dy.shape}")
        dx = empty(pending.input_shape, model.dtype) if program.has_slot("dx") else None
        model.pending = None
        if pending.arrays:
            arrays = {**pending.arrays, **(arrays or {})}
        program.backward(pending.rows, dy, dx, arrays, bool(accumulate))
        if program.marked != model.forgets:
            mark_gradients(program.schedule.parameters)
            program.marked = model.forgets
        return dx[0] if pending.single and dx is not None else dx

    @property
    def preprocessing(self) -> Statistics | None:
        """What `predict` does to its input first, statistics of :mod:`fastnn.preprocessing`."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Statistics | None) -> None:
        if value is not None and not isinstance(value, Statistics):
            raise TypeError(
                f"preprocessing: expected Statistics of fastnn.preprocessing or None, got "
                f"{describe(value)}"
            )
        self._preprocessing = value

    def predict(self, x: ArrayLike) -> Array:
        """Return the output for data as they come, to which `preprocessing` is applied first.

        Parameters
        ----------
        x : array_like, shape (batch, ...)

        Returns
        -------
        ndarray, shape (batch, ...)
            A new array; without `preprocessing` that of calling the layer.

        Raises
        ------
        TypeError, ValueError
            If `x` is not numeric, or its shape does not fit.
        """
        return self(x if self._preprocessing is None else self._preprocessing.apply(x))

    def predictor(self, input_shape: Shape | None = None) -> Predictor:
        """Return a frozen copy that is packed for prediction, of a row or of many.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Of one row, where the model takes several and C is to call it by its address.

        Returns
        -------
        Predictor
            ``p(x)`` and ``p(x, out=y)`` give the bits of ``model(x)``.

        Raises
        ------
        TypeError, ValueError
            If `input_shape` is no shape, or does not fit.
        """
        from fastnn.prediction import Predictor

        return Predictor(self, input_shape)

    def stream(self, batch: int = 1) -> Stream:
        """Return a frozen copy that goes step by step, ``s(x_t) -> y_t``.

        Parameters
        ----------
        batch : int
            How many sequences go on side by side.

        Returns
        -------
        Stream
            With their `state`, which can be read and set.

        Raises
        ------
        TypeError, ValueError
            If `batch` is no positive integer, or a layer reads sequences backwards.
        """
        from fastnn.prediction import Stream

        return Stream(self, batch)

    # State -----------------------------------------------------------------------------------

    def parameters(self) -> list[Parameter]:
        """Return the parameters of this layer and all inside it, each once."""
        self._built()
        found = (p for _, layer in self._layers() for p in layer._parameters.values())
        return list(dict.fromkeys(found))

    def get_flat(self, out: Array | None = None) -> Array:
        """Return all parameters as one vector, in the order of :meth:`parameters`.

        Parameters
        ----------
        out : ndarray, shape (P,), optional
            Where to write them: C-contiguous, of the model's dtype.

        Returns
        -------
        ndarray, shape (P,)
            A copy, or `out`.

        Raises
        ------
        TypeError, ValueError
            If `out` is of another dtype or shape.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Linear(2, 1, rng=0)
        >>> model.set_flat([1, 2, 3])
        >>> model.weight.data, model.get_flat()
        (array([[1., 2.]], dtype=float32), array([1., 2., 3.], dtype=float32))
        """
        return self._flat([p.array for p in self.parameters()], out)

    def get_flat_grad(self, out: Array | None = None) -> Array:
        """Return all gradients as one vector, in the order of :meth:`parameters`.

        Parameters
        ----------
        out : ndarray, shape (P,), optional
            Where to write them: C-contiguous, of the model's dtype.

        Returns
        -------
        ndarray, shape (P,)
            A copy, or `out`; 0 for parameters without a gradient, as frozen ones are.

        Raises
        ------
        TypeError, ValueError
            If `out` is of another dtype or shape.
        RuntimeError
            If no parameter has a gradient.
        """
        parameters = self.parameters()
        ready = [p.trainable and p.grad_ready for p in parameters]
        if parameters and not any(ready):
            raise RuntimeError("get_flat_grad: expected a backward pass before it")
        return self._flat(
            [p.grad_array if there else np.zeros(p.shape, p.array.dtype)
             for p, there in zip(parameters, ready, strict=True)],
            out,
        )

    def set_flat(self, theta: ArrayLike) -> None:
        """Copy one vector into all parameters, frozen ones too.

        Parameters
        ----------
        theta : array_like, shape (P,)
            In the order of :meth:`parameters`; converted to the model's dtype.

        Raises
        ------
        TypeError
            If `theta` is no array of real numbers.
        ValueError
            If it has another shape. Nothing is changed then.
        """
        model, parameters = self._built(), self.parameters()
        theta = as_input(theta, "theta", model.dtype)
        expect_shape("theta", theta, (sum(p.size for p in parameters),))
        start = 0
        with model.lock:
            for parameter in parameters:
                end = start + parameter.size
                parameter.array[...] = theta[start:end].reshape(parameter.shape)
                start = end

    def _flat(self, arrays: list[Array], out: Array | None) -> Array:
        model = self._built()
        out = output(out, (sum(a.size for a in arrays),), model.dtype, arrays)
        with model.lock:
            return np.concatenate([a.ravel() for a in arrays], out=out) if arrays else out

    def _state(self) -> dict[str, Entry]:
        """Return parameters and buffers by their keys: one for every place."""
        self._built()
        return {
            f"{path}.{name}" if path else name: entry
            for path, layer in self._places()
            for name, entry in layer._entries().items()
        }

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers, keyed as PyTorch keys them.

        What is in several places has a key for each.
        """
        with self._built().lock:
            return {name: entry.array.copy() for name, entry in self._state().items()}

    def load_state_dict(self, mapping: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy values into the parameters and buffers.

        Parameters
        ----------
        mapping : mapping of str to array_like
            For example another model's ``state_dict()``, PyTorch's included.
        strict : bool
            Whether the keys must be exactly the model's. ``num_batches_tracked`` is ignored.

        Returns
        -------
        LoadedKeys
            ``missing_keys``, those of the model that `mapping` has not, and ``unexpected_keys``,
            the reverse; both empty if `strict`.

        Raises
        ------
        KeyError
            If `strict` and keys are missing or unknown.
        TypeError
            If `mapping` is none, or holds something that is no array of real numbers.
        ValueError
            If a shape differs, or a parameter that is in two places has two values. Nothing is
            changed in either case.
        """
        state = self._state()
        if not isinstance(mapping, Mapping):
            raise TypeError(f"mapping: expected names with arrays, got {describe(mapping)}")
        given = {
            key: value for key, value in mapping.items()
            if str(key).rpartition(".")[2] != "num_batches_tracked"
        }  # fmt: skip
        keys = LoadedKeys([name for name in state if name not in given],
                          [name for name in given if name not in state])
        if strict and (keys.missing_keys or keys.unexpected_keys):
            raise KeyError(
                f"mapping: missing keys {keys.missing_keys}, unknown keys {keys.unexpected_keys}"
            )
        values: dict[Entry, tuple[str, Array]] = {}
        for name, entry in state.items():
            if name not in given:
                continue
            array = as_input(given[name], name, entry.array.dtype)
            if array.shape != entry.shape:
                raise ValueError(f"{name}: expected shape {entry.shape}, got {array.shape}")
            other, known = values.setdefault(entry, (name, array))
            if known is not array and not np.array_equal(known, array, equal_nan=True):
                raise ValueError(
                    f"{name}: expected the values of {other}, which is the same "
                    f"{type(entry).__name__.lower()}, got others"
                )
        with self._built().lock:
            for entry, (_, array) in values.items():
                entry.array[...] = array
        return keys

    # Description -----------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        from fastnn.introspection.html import of_model

        return of_model(self)

    def summary(self, batch_size: int = 1, input_shape: Shape | None = None) -> str:
        """Return a table of layers, shapes, parameters and bytes kept for backward.

        Parameters
        ----------
        batch_size : int
        input_shape : tuple of int, optional
            Shape per sample; taken from the first layer or the last call when not given. Before
            the first call a number stands in for a free length.
        """
        return summary(self, batch_size, input_shape)

    def graph(
        self,
        format: str = "text",
        input_shape: Shape | None = None,
        detail: str = "layers",
    ) -> str:
        """Return the computational graph of forward and backward, which notebooks show.

        Parameters
        ----------
        format : {"text", "dot", "svg"}
        input_shape : tuple of int, optional
            Shape per sample; taken from the first layer or the last call when not given. Before
            the first call a number stands in for a free length.
        detail : {"layers", "kernels"}
            Layers, with their parameters and what they keep for the backward pass; or each
            operation of the program.
        """
        return graph(self, format, input_shape, detail)

    def input_shape(self) -> Shape | None:
        """Return the shape per sample that the layer expects, or None if any will do."""
        return None

    def _typical_shape(self) -> Shape | None:
        """Return a shape to describe the layer for: `input_shape`, or one with a free length."""
        return self.input_shape()

    def keeps_shape(self) -> bool:
        """Return whether the output has the shape of the input, whatever that is."""
        return type(self).output_shape is Layer.output_shape


def arguments(cls: type[Layer]) -> dict[str, Argument]:
    """Return the constructor's arguments, but for `dtype`, `rng` and the layers inside."""
    several = (Argument.VAR_POSITIONAL, Argument.VAR_KEYWORD)
    return {
        name: argument for name, argument in signature(cls).parameters.items()
        if argument.kind not in several and name not in ("dtype", "rng")
    }  # fmt: skip


def rows_and_columns(shape: Shape) -> tuple[int, int]:
    """Split a shape per sample into rows and columns (the last axis)."""
    return (prod(shape[:-1]), shape[-1]) if shape else (1, 1)


def _own(builder: Builder, y: Value, x: Value) -> Value:
    """Copy `y` if it is nothing but a view of `x`, which belongs to the caller."""
    if y.root is not x.root:
        return y
    copied = builder.value(y.shape)
    builder.copy(copied, y)
    return copied


def _build(root: Layer) -> None:
    """Give all arrays of a layer, and of those inside it, a place and their first values.

    Those that have a place keep it; the others are put into one arena, in order.
    """
    with BUILDING:
        layers = list(root._layers())
        if root._stream is None:
            root._stream = np.random.default_rng() if root._rng is None else root._rng
        dtype, stream = root._dtype or np.dtype(np.float32), root._stream
        for path, layer in layers:
            for entry in layer._entries().values():
                if entry.placed and entry.array.dtype != dtype:
                    raise ValueError(
                        f"layer {path} ({type(layer).__name__}): expected {dtype} arrays, as the "
                        f"container has, got {entry.array.dtype} from an earlier use; make the "
                        f"container with dtype={str(entry.array.dtype)!r}"
                    )
        values: dict[Parameter, tuple[str, Array]] = {}
        for path, layer in layers:
            own = stream if layer._rng is None else layer._rng
            for name, parameter in layer._parameters.items():
                full = f"{path}.{name}" if path else name
                if parameter.placed:
                    # it was used on its own before it became part of something larger
                    if full.endswith(f".{parameter.name}"):
                        parameter._name = full
                elif parameter not in values:
                    try:
                        first = parameter.first_values(own, dtype)
                    except MemoryError:
                        raise MemoryError(
                            f"{full}: expected values that memory can hold, got shape "
                            f"{parameter.shape}"
                        ) from None
                    if first.shape != parameter.shape:
                        raise ValueError(
                            f"{full}: expected initial values of shape {parameter.shape}, "
                            f"got {first.shape}"
                        )
                    values[parameter] = full, first
        states = {
            layer: new_random_state(stream if layer._rng is None else layer._rng)
            for _, layer in layers
            if layer.uses_random_numbers() and layer._random_state is None
        }
        # from here on nothing can fail
        total = sum(parameter.size for parameter in values)
        data, grad = (aligned_zeros(total, dtype) for _ in range(2))
        start = 0
        for parameter, (full, first) in values.items():
            end = start + parameter.size
            place = data[start:end].reshape(parameter.shape)
            place[...] = first
            parameter.place(full, place, grad[start:end].reshape(parameter.shape))
            start = end
        for layer, state in states.items():
            layer._random_state = state
        locks = {layer._lock for _, layer in layers} - {None}
        lock = locks.pop() if len(locks) == 1 else new_lock()
        for _, layer in layers:
            for buffer in layer._buffers.values():
                if not buffer.placed:
                    buffer.place(dtype)
            if layer._lock is None:
                layer.__dict__.update(_dtype=dtype, _lock=lock, _stream=stream)
            layer.__dict__["_container"] = None


def _fitting(result: Any, expected: Array, layer: Layer) -> Array:
    array = as_array(result, type(layer).__name__)
    if array.shape != expected.shape:
        raise ValueError(
            f"{type(layer).__name__}: expected a result of shape {expected.shape}, "
            f"got {array.shape}"
        )
    return array
