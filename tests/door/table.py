"""What a row of the table of bad calls is, and the ways in which an argument can be bad.

Most rows are made by crossing: a good call, each of its arguments, and each value that such an
argument must refuse. The rest are written out.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Arguments = dict[str, Any]
Refusal = type[Exception] | tuple[type[Exception], ...]


@dataclass(frozen=True)
class Row:
    """A call that must be refused.

    Attributes
    ----------
    name : str
        Of the public function, then what is wrong.
    make : callable
        Gives the call, without arguments, and all whose change would show.
    error : type or tuple of types
    message : str
        Regular expression for how the message begins.
    """

    name: str
    make: Callable[[], tuple[Callable[[], Any], list[Any]]]
    error: Refusal
    message: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Bad:
    """A value that an argument must refuse.

    Attributes
    ----------
    what : str
        For people.
    change : callable
        Makes it from the argument's good value.
    error : type or tuple of types
    message : str
        Regular expression for what follows the argument's name.
    """

    what: str
    change: Callable[[Any], Any]
    error: Refusal
    message: str = ""


Kind = Iterable[Bad]


@dataclass(frozen=True)
class Good:
    """A call that works, and in what ways its arguments can be bad.

    Attributes
    ----------
    name : str
        Of the public function.
    make : callable
        Gives the function and its keyword arguments, new ones each time.
    kinds : dict of str to iterable of Bad
        By the argument's name.
    names : dict of str to str
        What messages call an argument, where that is not its name.
    """

    name: str
    make: Callable[[], tuple[Callable[..., Any], Arguments]]
    kinds: dict[str, Kind]
    names: dict[str, str]

    def __str__(self) -> str:
        return self.name

    def run(self) -> Any:
        """Make the good call."""
        function, arguments = self.make()
        return function(**arguments)

    def rows(self) -> Iterator[Row]:
        """Yield a row for each bad value of each argument."""
        for argument, kind in self.kinds.items():
            for bad in kind:
                called = re.escape(self.names.get(argument, argument))
                yield Row(
                    f"{self.name}({argument}={bad.what})",
                    lambda argument=argument, bad=bad: self._with(argument, bad),
                    bad.error,
                    rf"(layer [\d.]+ \(\w+\): )?{called}: expected .*(?:{bad.message})",
                )

    def _with(self, argument: str, bad: Bad) -> tuple[Callable[[], Any], list[Any]]:
        function, arguments = self.make()
        good = dict(arguments)
        arguments[argument] = bad.change(good[argument])
        owner = getattr(function, "__self__", None)
        return lambda: function(**arguments), [owner, *good.values(), *arguments.values()]


def good(name: str, make: Callable[[], Any], /, **kinds: Kind) -> Good:
    """A good call: `make` gives (function, arguments), and `kinds` say what each refuses."""
    return Good(name, make, kinds, {})


def always(value: Any) -> Callable[[Any], Any]:
    """Whatever the good value is."""
    return lambda _: value


# Arrays ----------------------------------------------------------------------------------------


def masked(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) == 0)


def unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


def longer(array: Any) -> np.ndarray:
    """One more on the first axis, or an axis where there is none."""
    array = np.asarray(array)
    return np.concatenate([array, array[:1]]) if array.ndim else array[None]


def deeper(array: Any) -> np.ndarray:
    """One more axis."""
    return np.asarray(array)[..., None]


def wider(array: Any) -> np.ndarray:
    """One more on the last axis."""
    array = np.asarray(array)
    return np.concatenate([array, array[..., :1]], -1)


def huge(array: Any) -> np.ndarray:
    """More rows than memory could hold, all at the same place."""
    array = np.asarray(array)
    return np.broadcast_to(array.reshape(-1)[:1].copy(), (2**33, *array.shape[1:], 2**14))


class Stranger:
    """An object that is nothing that anyone could take."""


NO_ARRAY = (
    Bad("text", always("abc"), TypeError),
    Bad("names", lambda a: np.full(np.shape(a), "a"), TypeError, "numbers|integers"),
    Bad("objects", lambda a: np.asarray(a, object), TypeError),
    Bad("complex", lambda a: np.asarray(a) + 1j, TypeError),
    Bad("dates", lambda a: np.zeros(np.shape(a), "datetime64[s]"), TypeError),
    Bad("records", lambda a: np.zeros(np.shape(a), "f4,f4"), TypeError),
    Bad("masked", masked, TypeError, r"without a mask, got a masked array; .*\.filled\(value\)"),
    Bad("ragged", always([[1.0, 2.0], [3.0]]), TypeError),
    Bad("stranger", always(Stranger()), TypeError),
    Bad("dict", lambda a: {"a": a}, TypeError),
)
NONE = (Bad("None", always(None), TypeError),)
# far beyond 2**31 elements: refused for its shape, or for the copy that it would take
HUGE = (Bad("huge", huge, (MemoryError, ValueError), "shape|elements|axes|axis"),)
WIDER = (Bad("wider", wider, ValueError, "shape|elements|axes"), *HUGE)
SHAPE = (
    Bad("longer", longer, ValueError, "shape|elements|axes"),
    Bad("deeper", deeper, ValueError, "shape|elements|axes"),
    *WIDER,
)

READ = (*NO_ARRAY, *NONE)  # an array of any real dtype and order
FITTING = (*READ, *SHAPE)  # whose shape follows from other arguments
OPTIONAL = (*NO_ARRAY, *SHAPE)  # that may be None

INDEX = (
    *NO_ARRAY,
    Bad("fractions", lambda a: a + 0.5, TypeError, "integers"),
    Bad("whole numbers", lambda a: a + 0.0, TypeError, r"integers, .*astype\(int\)"),
    Bad("-1", always(np.array([0, -1])), ValueError, "from 0 to 4"),
    Bad("5", always(np.array([0, 5])), ValueError, r"from 0 to 4|in \[0, 5\)"),
    Bad("2**63", always(np.array([0, 2**63], np.uint64)), ValueError, "9223372036854775808"),
)

WRITTEN = (
    Bad("list", lambda a: a.tolist(), TypeError, "an array in CPU memory"),
    Bad("stranger", always(Stranger()), TypeError, "an array in CPU memory"),
    Bad("scalar", always(np.float32(1)), TypeError, "an array in CPU memory"),
    Bad("integers", lambda a: a.astype(np.int32), TypeError, "dtype"),
    Bad("half", lambda a: a.astype(np.float16), TypeError, "dtype"),
    *([Bad("extended", lambda a: a.astype(np.longdouble), TypeError, "dtype")]
      if np.dtype(np.longdouble).itemsize > 8 else []),
    Bad("complex", lambda a: a.astype(complex), TypeError, "dtype"),
    Bad("objects", lambda a: a.astype(object), TypeError, "dtype"),
    Bad("masked", masked, TypeError, "without a mask"),
    Bad("byte order", swapped, ValueError, "native byte order"),
    Bad("unaligned", unaligned, ValueError, "aligned"),
    Bad("strided", strided, ValueError, "C-contiguous"),
    Bad("backwards", lambda a: a[..., ::-1], ValueError, "C-contiguous"),
    Bad("read-only", read_only, ValueError, "writable"),
    Bad("bytes", lambda a: memoryview(a.tobytes()).cast("f"), ValueError, "writable"),
)
TRANSPOSED = (Bad("Fortran order", np.asfortranarray, ValueError, "C-contiguous"),)
OTHER_DTYPE = (Bad("float64", lambda a: a.astype(np.float64), TypeError, "float32"),)
OTHER_SHAPE = (
    Bad("longer", longer, ValueError, "shape"),
    Bad("deeper", deeper, ValueError, "shape"),
    Bad("flat", np.ravel, ValueError, "shape"),
)
OUT = (*WRITTEN, *OTHER_DTYPE, *OTHER_SHAPE, *TRANSPOSED)
# a state, whose dtype and shape are those of the parameter
STATE = (
    *WRITTEN,
    *TRANSPOSED,
    *(Bad(b.what, b.change, ValueError, "as param has") for b in (*OTHER_DTYPE, *OTHER_SHAPE)),
)


def overlapping(array: np.ndarray) -> np.ndarray:
    """An array as large that begins one element later in the same memory."""
    start = array.ctypes.data - array.base.ctypes.data
    flat = array.base.view(np.uint8)[start + array.itemsize :][: array.nbytes]
    return flat.view(array.dtype).reshape(array.shape)


def in_memory(values: Any, dtype: Any = np.float32) -> np.ndarray:
    """A copy with room behind it, for one that overlaps it."""
    values = np.asarray(values, dtype)
    room = np.zeros(values.size + 64, dtype)
    array = room[: values.size].reshape(values.shape)
    array[...] = values
    return array


# Numbers ---------------------------------------------------------------------------------------

NO_NUMBER = (
    Bad("text", always("0.5"), TypeError, "number|integer"),
    Bad("None", always(None), TypeError, "number|integer"),
    Bad("True", always(True), TypeError, "number|integer"),
    Bad("complex", always(1j), TypeError, "number|integer"),
    Bad("array", always(np.ones(2)), TypeError, "number|integer"),
    Bad("list", always([1.0]), TypeError, "number|integer"),
)
NOT_FINITE = (
    Bad("nan", always(float("nan")), ValueError, "number"),
    Bad("inf", always(float("inf")), ValueError, "number"),
)
NEGATIVE = (Bad("-1", always(-1), ValueError),)
ANY_NUMBER = (*NO_NUMBER, *NOT_FINITE)
AT_LEAST_0 = (*NO_NUMBER, *NOT_FINITE, *NEGATIVE)
ABOVE_0 = (*AT_LEAST_0, Bad("0", always(0), ValueError, "> 0"))
LIMIT = (*NO_NUMBER, NOT_FINITE[0], *NEGATIVE, Bad("0", always(0), ValueError, "> 0"))
FRACTION = (*AT_LEAST_0, Bad("1.5", always(1.5), ValueError, r"\[0, 1\]"))
BELOW_1 = (*AT_LEAST_0, Bad("1", always(1), ValueError, r"\[0, 1\)"))
INTEGER = (*NO_NUMBER, Bad("1.5", always(1.5), TypeError, "an integer"),
           Bad("2.0", always(2.0), TypeError, "an integer"))  # fmt: skip
COUNT = (*INTEGER, Bad("0", always(0), ValueError), *NEGATIVE)
SWITCH = (
    Bad("1", always(1), TypeError, "True or False, got 1"),
    Bad("None", always(None), TypeError, "True or False, got None"),
    Bad("text", always("yes"), TypeError, "True or False, got 'yes'"),
)
CHOICE = (
    Bad("unknown", always("no such name"), ValueError, "got 'no such name'"),
    Bad("number", always(3), ValueError, "got 3"),
    Bad("list", always(["a"]), ValueError, r"got \['a'\]"),
)
RNG = (
    Bad("text", always("seed"), TypeError, "an int, a numpy.random.Generator or None"),
    Bad("-1", always(-1), ValueError),
    Bad("1.5", always(1.5), TypeError),
    Bad("True", always(True), TypeError),
    Bad("RandomState", always(np.random.RandomState(0)), TypeError),
)
DTYPE = (
    Bad("float16", always("float16"), TypeError, "float32 or float64, got 'float16'"),
    Bad("int", always(int), TypeError, "float32 or float64"),
    Bad("no dtype", always("no such dtype"), TypeError, "float32 or float64"),
)


def optional(kind: Kind) -> Kind:
    """Without None, which such an argument may be."""
    return tuple(bad for bad in kind if bad.what != "None")
