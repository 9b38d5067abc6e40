"""Arrays that belong to a layer and keep the place that they got first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np

from fastnn._door.arrays import as_array, expect_shape
from fastnn._door.numbers import boolean, shape as sizes
from fastnn._kernels.door import as_input
from fastnn._planning.moment import known_state
from fastnn._planning.watched import Watched
from fastnn._typing import Array

Initializer: TypeAlias = "Callable[[tuple[int, ...], np.random.Generator, np.dtype[Any]], Any]"


class Owner(Protocol):
    """The layer to which an array belongs."""

    def _outermost(self) -> Owner:
        """Return the container that holds all others around it."""

    def build(self) -> None:
        """Give all arrays their place."""


if TYPE_CHECKING:
    readonly = property
else:

    class readonly(property):
        """A property that cannot be assigned, and says what can be."""

        def __set__(self, entry: Entry, value: Any) -> None:
            name = self.fget.__name__
            raise AttributeError(
                f"{name}: cannot be assigned; of a {type(entry).__name__} "
                f"{' and '.join(entry._settable)} can, and a new layer has another {name}"
            )


class Entry(Watched):
    """An array of a layer's state, which gets its place when the model is built.

    That is at the latest when someone reads it; from then on it never moves.
    """

    __slots__ = ("__weakref__", "_layer", "_name", "_shape", "_start", "_values", "_watchers")
    _settable: ClassVar[tuple[str, ...]] = ("data",)

    def __init__(self, layer: Owner, name: str, shape: Iterable[int]) -> None:
        # the layer, which holds this, only until the arrays are there: no cycle keeps them alive
        self._layer: Owner | None = layer
        self._name, self._shape = name, sizes(name, shape)
        self._values: Array | None = None
        self._start: Array | None = None  # what to start with, in a copy that is not built yet
        self._watchers = ()

    @readonly
    def name(self) -> str:
        """Its key in the state dict of the model that it got its place in."""
        return self._name

    @readonly
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._shape

    @readonly
    def placed(self) -> bool:
        """Whether the array is there."""
        return self._values is not None

    @readonly
    def array(self) -> Array:
        """The values, for plans."""
        if self._values is None:
            if self._layer is not None:
                self._layer._outermost().build()
            if self._values is None:  # a copy without its layer
                assert self._start is not None
                self._settle(self._start.copy())
        assert self._values is not None
        return self._values

    @property
    def data(self) -> Array:
        """The values, C-contiguous; an array that is assigned is copied into place."""
        return self.array

    @data.setter
    def data(self, values: Any) -> None:
        place = self.array
        place[...] = self._fitting(values, "data")

    def _fitting(self, values: Any, what: str) -> Array:
        array = as_input(values, f"{self.name}.{what}", self.array.dtype)
        expect_shape(f"{self.name}.{what}", array, self.shape)
        return array

    def _settle(self, values: Array) -> None:
        """Take `values` as the place for good."""
        self._values, self._start, self._layer = values, None, None

    @readonly
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.shape})"

    def __getstate__(self) -> dict[str, Any]:
        return known_state(self) or self._own_state()

    def _own_state(self) -> dict[str, Any]:
        return {
            "_name": self._name, "_shape": self._shape, "_layer": self._layer, "_watchers": (),
            "_values": None, "_start": self._start if self._values is None else self._values,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        if self._start is not None:  # a copy of one array, not of the arena in which it lies
            self._start = np.array(self._start, order="C")


class Parameter(Entry):
    """A trainable array of a layer and its gradient.

    Attributes
    ----------
    name : str
        Its key in ``state_dict()``, such as ``"0.weight"``.
    data : ndarray
        The values, C-contiguous. To read it first gives the whole model its initial values; what is
        assigned is converted and copied into place.
    grad : ndarray or None
        The gradient of the last backward pass, same shape. One that is assigned, or written into
        this array, counts for the next step of an optimizer; the next backward pass overwrites it.
        None after ``grad = None``, which forgets it until then.
    shape : tuple of int
    grad_ready : bool
        Whether there is a gradient: from a backward pass, assigned, or handed out by `grad`.
    trainable : bool
        Whether it is trained. No gradient is computed for a frozen parameter and nothing moves it.
    sparse : bool
        Whether backward passes touch only some rows of `grad`, which `rows` names.
    """

    __slots__ = (
        "_forgotten", "_gradient", "_init", "_ready", "_rows", "_sparse", "_trainable", "_used",
        "_uses",
    )  # fmt: skip
    _settable = ("data", "grad", "trainable")

    def __init__(
        self,
        layer: Owner,
        name: str,
        shape: Iterable[int],
        init: Initializer | None,
        sparse: bool = False,
    ) -> None:
        super().__init__(layer, name, shape)
        self._init, self._sparse = init, sparse
        self._gradient: Array | None = None
        self._rows: Array | None = None
        self._used: Array | None = None
        self._ready = self._forgotten = False
        self._trainable = True
        self._uses = 1  # places that it has in layers

    def first_values(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
        """Return what to start with."""
        if self._start is not None:
            return self._start
        assert self._init is not None
        return as_array(self._init(self.shape, rng, dtype), self._name)

    def place(self, name: str, values: Array, gradient: Array) -> None:
        """Take the arrays for good; there is no gradient yet."""
        self._name, self._gradient = name, gradient
        if self._sparse:  # as the kernel embedding_backward_rows keeps them
            self._rows = np.zeros(1 + self.shape[0], np.int64)
            self._used = np.zeros(self.shape[0], np.uint8)
        super()._settle(values)

    def _settle(self, values: Array) -> None:
        self.place(self.name, values, np.zeros_like(values))

    @readonly
    def grad_array(self) -> Array:
        """The gradient, for plans: reading it does not hand it out."""
        if self._gradient is None:
            self.array  # noqa: B018 (builds the model)
        assert self._gradient is not None
        return self._gradient

    @property
    def grad(self) -> Array | None:
        gradient = self.grad_array
        if self._forgotten:
            return None
        if not self._ready:  # whoever has the array may write into it
            self._ready = True
        return gradient

    @grad.setter
    def grad(self, values: Any) -> None:
        if values is None:
            self._ready, self._forgotten = False, True
            for watcher in self.watchers():
                watcher.forgotten()
            return
        place, values = self.grad_array, self._fitting(values, "grad")
        place[...] = values
        self.mark_dense()
        self._ready, self._forgotten = True, False

    @readonly
    def replaced(self) -> bool:
        """Whether other parameters have been tied to all its places."""
        return self._uses == 0

    @readonly
    def grad_ready(self) -> bool:
        return self._ready

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if boolean("trainable", value) != self._trainable:
            self._trainable = bool(value)
            self.changed()

    @readonly
    def sparse(self) -> bool:
        return self._sparse

    @readonly
    def rows(self) -> Array | None:
        """Indices of the rows of `grad` that may differ from zero; None if all may."""
        if self._rows is None or self._rows[0] < 0:
            return None
        return self._rows[1 : 1 + self._rows[0]].copy()

    def set_rows(self, rows: Array) -> None:
        """Say that `grad` differs from zero in these rows alone."""
        assert self._rows is not None
        assert self._used is not None
        self._rows[0], self._rows[1 : 1 + len(rows)] = len(rows), rows
        self._used[:] = 0
        self._used[rows] = 1

    def mark_dense(self) -> None:
        """Make the next update read all rows of `grad`, after something was added to them."""
        if self._rows is not None:
            self._rows[0] = -1

    def _own_state(self) -> dict[str, Any]:
        # without the gradient; once there are values, the initializer has done its work
        init = self._init if self._values is None and self._start is None else None
        return super()._own_state() | {
            "_init": init, "_sparse": self._sparse, "_trainable": self._trainable,
            "_uses": self._uses, "_gradient": None, "_rows": None, "_used": None,
            "_ready": False, "_forgotten": False,
        }  # fmt: skip


class Buffer(Entry):
    """A named array that is part of a layer's state but is not trained.

    Attributes
    ----------
    name : str
    data : ndarray
        The values; what is assigned is converted and copied into place.
    shape : tuple of int
    """

    __slots__ = ("_first",)

    def __init__(self, layer: Owner, name: str, shape: Iterable[int], value: float) -> None:
        super().__init__(layer, name, shape)
        self._first = value

    def place(self, dtype: np.dtype[Any]) -> None:
        """Take an array of that dtype for good."""
        start = self._first if self._start is None else self._start
        self._settle(np.full(self.shape, start, dtype))

    def _own_state(self) -> dict[str, Any]:
        return super()._own_state() | {"_first": self._first}


def mark_gradients(parameters: Iterable[Parameter]) -> None:
    """Note that a backward pass has written the gradients of `parameters`."""
    for parameter in parameters:
        if not parameter._ready or parameter._forgotten:
            parameter._ready, parameter._forgotten = True, False
