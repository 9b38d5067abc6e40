"""From layers to a flat list of kernel calls.

A layer's ``plan(builder, x)`` asks the builder for symbolic values and appends operations; it
computes nothing. :meth:`Schedule.of` then orders the operations (forward, backward, weight
gradients), drops those whose result nobody reads, lets element-wise operations work in place,
attaches them to the matrix product before them, and assigns the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias
from weakref import ref

import numpy as np
from numpy.typing import DTypeLike

from fastnn._kernels.core import Contract, contract
from fastnn._kernels.program import ITEMS, ROWS, SERIAL, RowCount, Scalar
from fastnn._planning.watched import Watcher
from fastnn._typing import Array, Shape

__all__ = [
    "BACKWARD", "FORWARD", "GRADIENT", "ITEMS", "ROWS", "SERIAL", "Builder", "Operation",
    "Room", "RowCount", "Scalar", "Scope", "Storage", "Value",
]

FORWARD, BACKWARD, GRADIENT = "forward", "backward", "gradient"


class Value:
    """A symbolic array with one row per sample of the batch.

    Attributes
    ----------
    shape : tuple of int
        Shape of one sample, without the batch axis.
    dtype : numpy.dtype
    grad : Value
        The gradient of the loss with respect to this value, made when first asked for.
    slot : str or None
        The name under which the caller supplies or receives this array.
    part : int
        Which of the arrays that lie behind one another in what the caller supplies.
    size, row_bytes : int
        Elements and bytes of one sample.
    """

    __slots__ = (
        "_grad", "base", "dtype", "name", "part", "row_bytes", "shape", "size", "slot", "storage",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        shape: Iterable[int],
        dtype: DTypeLike,
        slot: str | None = None,
        base: Value | None = None,
    ) -> None:
        self.name, self.shape, self.dtype = name, tuple(shape), np.dtype(dtype)
        self.size = prod(self.shape)
        self.row_bytes = self.size * self.dtype.itemsize
        self.slot, self.base, self.part = slot, base, 0
        self.storage: Storage | None = None
        self._grad: Value | None = None

    @property
    def root(self) -> Value:
        """The value that owns the memory: itself, unless this is a reshaped view."""
        return self.base.root if self.base is not None else self

    @property
    def grad(self) -> Value:
        if self._grad is None:
            if self.base is not None:
                self._grad = Value(f"d{self.name}", self.shape, self.dtype, base=self.base.grad)
            else:
                self._grad = Value(f"d{self.name}", self.shape, self.dtype)
        return self._grad

    def __repr__(self) -> str:
        shape = ", ".join(["batch", *map(str, self.shape)])
        return f"{self.name} ({shape})"


class Storage:
    """Memory that one or several values use one after the other."""

    __slots__ = ("bytes", "row_bytes")

    def __init__(self, row_bytes: int, size: int = 0) -> None:
        self.row_bytes, self.bytes = row_bytes, size


class Room:
    """A symbolic array whose size does not depend on the batch, such as packed weights.

    Its contents last as long as those of a value; who writes and reads it does not move calls.
    """

    __slots__ = ("dtype", "name", "shape", "storage")
    slot: None = None

    def __init__(self, name: str, size: int, dtype: DTypeLike) -> None:
        self.name, self.shape, self.dtype = name, (size,), np.dtype(dtype)
        self.storage = Storage(0, size * self.dtype.itemsize)

    @property
    def root(self) -> Room:
        return self


# What an operation gets: symbolic, or an array of a layer's own.
Pointer: TypeAlias = Value | Room | Array | None

# What a function in Python promises: one output, and a place of its own for it.
PYTHON = Contract(1, 0, 1, 0, False, False, False, True, False)


class Operation:
    """One kernel call: the kernel's name and its arguments, with values still symbolic."""

    __slots__ = (
        "_pointers", "_read", "_written", "accumulate", "contract", "items", "kernel",
        "parameters", "python", "scalars", "scope", "sizes", "split", "stage", "then",
    )

    def __init__(
        self,
        stage: str,
        kernel: str,
        pointers: Iterable[Pointer],
        sizes: Iterable[int | RowCount],
        scalars: Iterable[float | Scalar],
        split: str,
        items: int,
        scope: str,
        python: Callable[..., None] | None = None,
    ) -> None:
        self.stage, self.kernel, self.scope, self.python = stage, kernel, scope, python
        self.sizes, self.scalars = tuple(sizes), tuple(scalars)
        self.split, self.items = split, items
        self.contract = PYTHON if python is not None else contract(kernel)
        self.pointers = pointers
        self.accumulate = False  # adds to its output in every run
        self.parameters = False  # writes gradients of parameters
        self.then: Operation | None = None

    @property
    def pointers(self) -> tuple[Pointer, ...]:
        """Its arguments, results first."""
        return self._pointers

    @pointers.setter
    def pointers(self, pointers: Iterable[Pointer]) -> None:
        self._pointers = pointers = tuple(pointers)
        outputs = self.contract.outputs
        self._written = [p.root for p in pointers[:outputs] if isinstance(p, Value)]
        self._read = [p.root for p in pointers[outputs:] if isinstance(p, Value)]

    def replace(self, place: int, pointer: Pointer) -> None:
        """Put another pointer in that place."""
        self.pointers = (*self._pointers[:place], pointer, *self._pointers[place + 1 :])

    @property
    def outputs(self) -> tuple[Pointer, ...]:
        """The pointers that are written, which come first."""
        return self._pointers[: self.contract.outputs]

    @property
    def inputs(self) -> tuple[Pointer, ...]:
        """The pointers that are read."""
        return self._pointers[self.contract.outputs :]

    @property
    def written(self) -> list[Value]:
        """The values that it writes."""
        return self._written

    @property
    def read(self) -> list[Value]:
        """The values that it reads."""
        return self._read + self._written if self.accumulate else self._read

    def waits_after(self, before: Operation) -> bool:
        """Return whether threads must wait for each other between the call `before` and this one.

        Rows stay with their thread, and gradients of parameters are read by none of them. Any
        other share of the work may need what another thread has computed.
        """
        if self.split != before.split:
            return True
        return self.split != ROWS and not self.stage == before.stage == GRADIENT

    def __repr__(self) -> str:
        def show(p: Pointer) -> str:
            return repr(p) if isinstance(p, Value) else "-" if p is None else f"{p.shape}"

        left = ", ".join(show(p) for p in self.outputs)
        right = ", ".join(show(p) for p in self.inputs)
        sign = "+=" if self.accumulate else "="
        return f"{left} {sign} {self.kernel}({right})"


class PlannedParameter(Protocol):
    """What a plan needs to know of a parameter."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def trainable(self) -> bool: ...
    @property
    def grad_array(self) -> Array: ...
    def watch(self, watcher: Watcher) -> None: ...


class PlannedBuffer(Protocol):
    """What a plan needs to know of a buffer."""

    @property
    def array(self) -> Array: ...


class PlannedLayer(Protocol):
    """What a plan needs to know of a layer."""

    @property
    def _takes_integers(self) -> Any: ...
    @property
    def _parameters(self) -> Mapping[str, PlannedParameter]: ...
    @property
    def _buffers(self) -> Mapping[str, PlannedBuffer]: ...
    def watch(self, watcher: Watcher) -> None: ...
    def plan(self, builder: Builder, x: Value) -> Value: ...
    def children(self) -> Mapping[str, Any]: ...


class Scope:
    """What one layer contributed, for summaries and graphs."""

    __slots__ = ("_layer", "depth", "input", "output", "path")
    output: Value  # known when the layer is planned

    def __init__(self, path: str, layer: PlannedLayer, depth: int, x: Value) -> None:
        self.path, self.depth, self.input = path, depth, x
        self._layer = ref(layer)  # a plan does not keep its model alive

    @property
    def layer(self) -> PlannedLayer | None:
        return self._layer()


class Carried(NamedTuple):
    """The states of a recurrent layer at a sequence's start and at its end."""

    start: str  # slots
    slot: str
    parts: int  # of the arrays
    shape: Shape  # of a part, for one sample
    layer: Callable[[], Any]  # a weak reference, as in Scope


class Builder:
    """Collects the operations of one model for one input shape.

    Parameters
    ----------
    dtype : dtype
        float32 or float64: of every value unless stated otherwise.
    training : bool
        Whether layers plan their training behaviour and a backward pass.
    dense : bool
        Whether every element of every gradient counts, for something is added to all of them.
    model : Model, optional
        Who learns of changes of what the plan has captured.
    trained : collection of Parameter, optional
        Those to compute gradients for, if they are trainable; all by default.
    precision : {"float32", "bfloat16"}
        What products read their operands as.
    group : Group, optional
        The ranks that sum gradients: each is computed as early as it can be, to be on its way.
    share : bool
        Whether statistics of the batch are those of all ranks.
    frozen : bool
        Whether parameters will not change: what is made of them alone is then made once.
    """

    def __init__(
        self,
        dtype: DTypeLike,
        training: bool,
        dense: bool = False,
        model: Watcher | None = None,
        trained: Container[PlannedParameter] | None = None,
        precision: str = "float32",
        frozen: bool = False,
        group: Any = None,
        share: bool = False,
    ) -> None:
        self.dtype, self.training, self.dense = np.dtype(dtype), training, dense
        self.model, self.trained, self.precision = model, trained, precision
        self.frozen = frozen
        self.group = group
        self.shared: list[Any] | None = [] if share else None
        self.parameters: dict[PlannedParameter, None] = {}  # whose gradients are computed
        self._gradients: dict[int, PlannedParameter] = {}  # parameters by their gradients
        self.scopes: list[Scope] = []
        self.random_states: list[Array] = []
        self.carried: list[Carried] = []
        self.changing: list[Array] = []  # arrays that a training pass changes besides gradients
        self.minimum_rows = 0
        self.index_limit: int | None = None
        self._paths = [""]  # of the layers that are being planned, from the outermost
        self._operations: dict[str, list[Operation]] = {FORWARD: [], BACKWARD: [], GRADIENT: []}
        self.arrays: list[tuple[str, Array]] = []
        self._count = 0

    # For layers ------------------------------------------------------------------------------

    def value(
        self,
        shape: Iterable[int],
        name: str | None = None,
        dtype: DTypeLike | None = None,
        slot: str | None = None,
    ) -> Value:
        """Ask for an array of `shape` per sample; `name` is for graphs."""
        self._count += 1
        name = self._qualified(name) if name else f"v{self._count}"
        return Value(name, shape, dtype or self.dtype, slot)

    def room(self, name: str, size: int, dtype: DTypeLike | None = None) -> Room:
        """Ask for an array whose size does not depend on the batch; `name` is for graphs."""
        return Room(self._qualified(name), size, dtype or self.dtype)

    def trains(self, parameter: PlannedParameter) -> bool:
        """Return whether a gradient of `parameter` is wanted."""
        return parameter.trainable and (self.trained is None or parameter in self.trained)

    def array(self, name: str, array: Array) -> Array:
        """Return `array`, one of the layer's own that is no parameter, named for graphs."""
        self.arrays.append((self._qualified(name), array))
        return array

    def view(self, x: Value, shape: Iterable[int]) -> Value:
        """Return `x` with another shape per sample, sharing its memory and its gradient."""
        return Value(x.name, shape, x.dtype, base=x)

    def forward(
        self, kernel: str, pointers: Iterable[Pointer], **details: Any
    ) -> Operation | None:
        """Append an operation to the forward pass.

        Parameters
        ----------
        kernel : str
            Name in the kernel table.
        pointers : list of Value, ndarray or None
            In the order of the kernel's comment: results first.
        sizes, scalars : tuple
            May hold :class:`RowCount` and :class:`Scalar`.
        items : int
            Items per sample, for operations shared by rows; else in all.
        split : {"rows", "serial"}
        python : callable
            Called with arrays for all pointers instead of a kernel.
        """
        return self._append(FORWARD, kernel, pointers, **details)

    def backward(
        self, kernel: str, pointers: Iterable[Pointer], **details: Any
    ) -> Operation | None:
        """Append an operation to the backward pass, which runs in reverse order of planning."""
        return self._append(BACKWARD, kernel, pointers, **details)

    def gradient(
        self,
        kernel: str,
        pointers: Iterable[Pointer],
        items: int,
        split: str = ITEMS,
        **details: Any,
    ) -> Operation | None:
        """Append a parameter gradient: `items` are shared by threads after the backward pass.

        With `parameters` it counts as one although its outputs are no parameter's.
        """
        return self._append(GRADIENT, kernel, pointers, split=split, items=items, **details)

    def copy(self, to: Value, source: Value) -> None:
        """Copy a value of the same shape, and its gradient back."""
        sizes = (*(source.size,) * 3, 0, 0)
        self.forward("copy_columns", [to, source], sizes=sizes)
        self.backward("copy_columns", [source.grad, to.grad], sizes=sizes)

    def keep_input(self, x: Value) -> None:
        """Read the input from a copy, for the caller may write into his before the backward pass.

        By the threads that go on with it: what one processor has read is slow to write by another.
        """
        given, x.root.slot = Value("given", x.shape, x.dtype, x.root.slot), None
        size = x.size * x.dtype.itemsize // self.dtype.itemsize
        self.forward("copy_columns", [x, given], sizes=(size, size, size, 0, 0))
        planned = self._operations[FORWARD]
        planned.insert(0, planned.pop())

    def require_rows(self, rows: int) -> None:
        """Refuse batches of fewer rows."""
        self.minimum_rows = max(self.minimum_rows, rows)

    def require_indices(self, count: int) -> None:
        """Refuse inputs that are no indices below `count`."""
        self.index_limit = count if self.index_limit is None else min(count, self.index_limit)

    def python(
        self,
        stage: str,
        function: Callable[..., None],
        pointers: Iterable[Pointer],
        parameters: bool = False,
    ) -> None:
        """Append a call of a Python function that gets an array for every pointer.

        With `parameters` it also writes gradients of parameters.
        """
        self._append(stage, function.__qualname__, pointers, sizes=(RowCount(),), split=SERIAL,
                     python=function, parameters=parameters)

    def states(self, name: str, suffixes: Iterable[str], shape: Shape) -> list[Value]:
        """Ask for several arrays that are parts of one of the caller's, (parts, batch, *shape)."""
        slot, values = self._qualified(name), []
        for part, suffix in enumerate(suffixes):
            values.append(self.value(shape, f"{name}_{suffix}", slot=slot))
            values[-1].part = part
        return values

    def carry(
        self, layer: PlannedLayer, suffixes: list[str], shape: Shape
    ) -> tuple[list[Value], list[Value]]:
        """Ask for states at a sequence's start and at its end, both parts of arrays of the caller.

        A trainer that continues sequences hands on the second as the first of the next batch.
        """
        start, end = (self.states(name, suffixes, shape) for name in ("initial", "final"))
        slots = self._qualified("initial"), self._qualified("final")
        self.carried.append(Carried(*slots, len(suffixes), tuple(shape), ref(layer)))
        return start, end

    def random_state(self, state: Array) -> Array:
        """Register a `(key, step)` pair whose step advances at every training forward pass."""
        self.random_states.append(state)
        self.changing.append(state)
        return self.array("random_state", state)

    def _qualified(self, name: str) -> str:
        """Return a name within the layer that is being planned."""
        path = self._paths[-1]
        return f"{path}.{name}" if path and name else path or name

    def plan(self, layer: PlannedLayer, x: Value, name: str = "") -> Value:
        """Plan a layer inside a scope of that name; shapes that do not fit name the layer."""
        path = self._qualified(name)
        scope = Scope(path, layer, len(self._paths), x)
        self.scopes.append(scope)
        if self.model is not None:
            layer.watch(self.model)
        self.changing += [buffer.array for buffer in layer._buffers.values()]
        for parameter in layer._parameters.values():
            self._gradients[id(parameter.grad_array)] = parameter
            if self.model is not None:
                parameter.watch(self.model)
        self._paths.append(path)
        try:
            if x.dtype != self.dtype and not layer._takes_integers:
                raise ValueError(f"x: expected {self.dtype} numbers, got {x.dtype}")
            scope.output = layer.plan(self, x)
        except ValueError as error:
            if not path or getattr(error, "located", False):
                raise
            located: Any = ValueError(f"layer {path} ({type(layer).__name__}): {error}")
            located.located = True
            raise located from None
        finally:
            self._paths.pop()
        return scope.output

    def _append(
        self,
        stage: str,
        kernel: str,
        pointers: Iterable[Pointer],
        sizes: Iterable[int | RowCount] = (),
        scalars: Iterable[float | Scalar] = (),
        items: int = 1,
        split: str = ROWS,
        python: Callable[..., None] | None = None,
        parameters: bool = False,
    ) -> Operation | None:
        if stage != FORWARD and not self.training:
            return None
        if self.precision == "bfloat16" and python is None and contract(kernel).narrows:
            kernel += "_bfloat16"
        op = Operation(stage, kernel, pointers, sizes, scalars, split, items, self._paths[-1],
                       python)
        op.parameters = parameters
        found = {i: self._gradients[id(p)] for i, p in enumerate(op.outputs)
                 if id(p) in self._gradients}
        if found:
            trained = [p for p in found.values() if self.trains(p)]
            if not trained and not op.written:
                return None
            for i, parameter in found.items():
                if parameter not in trained:
                    op.replace(i, self.room(f"d{parameter.name}", parameter.size))
            self.parameters.update(dict.fromkeys(trained))
            op.parameters = parameters or bool(trained)
        self._operations[stage].append(op)
        return op

    def read_later(self, value: Value) -> bool:
        """Return whether a backward or gradient operation reads `value`."""
        return any(
            value.root in op.read
            for stage in (BACKWARD, GRADIENT)
            for op in self._operations[stage]
        )

    def operations(self) -> list[Operation]:
        """Return all operations in the order of execution."""
        backward, gradient = self._operations[BACKWARD][::-1], self._operations[GRADIENT]
        if self.group is not None:
            return self._operations[FORWARD] + _early(backward, gradient)
        return self._operations[FORWARD] + backward + gradient


def _early(backward: list[Operation], gradient: list[Operation]) -> list[Operation]:
    """Put each gradient of parameters behind the last operation that writes what it reads."""
    written: dict[int, int] = {}  # arrays: after how many operations of the backward pass
    behind: list[list[Operation]] = [[] for _ in range(len(backward) + 1)]

    def write(op: Operation, place: int) -> None:
        for pointer in op.pointers if op.python else op.outputs:
            written[id(getattr(pointer, "root", pointer))] = place

    for place, op in enumerate(backward, 1):
        write(op, place)
    for op in gradient:
        used = (id(getattr(pointer, "root", pointer)) for pointer in op.pointers)
        place = max(written.get(array, 0) for array in used)
        behind[place].append(op)
        write(op, place)
    order = behind[0]
    for op, early in zip(backward, behind[1:], strict=True):
        order += [op, *early]
    return order
