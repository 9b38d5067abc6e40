"""Anyone's arrays at the door: what is written stays where it is, what is read may be converted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastnn._typing import Array

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INT64 = np.dtype(np.int64)
_LONG = np.dtype(np.longdouble)


class NotFiniteError(ValueError):
    """A gradient holds NaN or infinity, and the step has not been taken."""


def describe(obj: Any) -> str:
    """What an object is, for the end of an error message."""
    if isinstance(obj, np.ndarray):
        return f"an array of dtype {obj.dtype} and shape {obj.shape}"
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")


def view(obj: Any) -> Array | None:
    """An array on the memory of `obj`, without a copy; None if it offers none."""
    if isinstance(obj, np.ndarray):
        if obj.dtype.num == _LONG.num and _LONG.itemsize == 8:  # Windows: float64 by another number
            return obj.view(FLOATS[1].newbyteorder(obj.dtype.byteorder))
        return obj
    if isinstance(obj, np.generic):  # has the buffer protocol, but on a copy
        return None
    if callable(getattr(obj, "detach", None)) and hasattr(obj, "numpy"):
        # of PyTorch, a parameter too; a third of the time of its __dlpack__
        try:
            array: Array = obj.detach().numpy()
        except (RuntimeError, TypeError):
            return None  # elsewhere, sparse, negated, or of a dtype that NumPy does not have
        return array
    if hasattr(obj, "__dlpack__"):
        try:
            return np.from_dlpack(obj)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return None  # another device, or a dtype that NumPy does not have
    try:
        return np.asarray(memoryview(obj))
    except (TypeError, ValueError):
        return None


def is_masked(obj: Any) -> bool:
    """Whether an array has a mask, which everything here would drop."""
    # looked for in subclasses alone, since NumPy imports its masked arrays when they are asked for
    subclass = isinstance(obj, np.ndarray) and type(obj) is not np.ndarray
    return subclass and isinstance(obj, np.ma.MaskedArray)


def _refuse_mask(name: str) -> NoReturn:
    raise TypeError(
        f"{name}: expected an array without a mask, got a masked array; {name}.filled(value) or "
        f"{name}.compressed()"
    )


def as_target(obj: Any, name: str) -> Array:
    """View an array that is to be changed in place, without ever copying it.

    Parameters
    ----------
    obj : array_like
        A NumPy array (a memmap too), or anything with the buffer protocol or ``__dlpack__`` on the
        CPU, such as a PyTorch tensor.
    name : str
        What to call it in an error message.

    Returns
    -------
    numpy.ndarray
        float32 or float64, writable, C-contiguous, aligned and in native byte order, on the memory
        of `obj`.

    Raises
    ------
    TypeError
        If `obj` is no such object, or masked, or its dtype is neither float32 nor float64.
    ValueError
        If it is read-only, strided, unaligned or byte-swapped.

    Examples
    --------
    >>> import array
    >>> buffer = array.array("f", [1, 2])
    >>> as_target(buffer, "params[0]")[:] = 5
    >>> buffer
    array('f', [5.0, 5.0])
    """
    target = view(obj)
    if target is None:
        raise TypeError(
            f"{name}: expected an array in CPU memory (NumPy, the buffer protocol or __dlpack__), "
            f"got {describe(obj)}"
        )
    if is_masked(target):
        _refuse_mask(name)
    if target.dtype.kind != "f" or target.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name}: expected dtype float32 or float64, got {target.dtype}")
    if not target.dtype.isnative:
        raise ValueError(f"{name}: expected native byte order, got dtype {target.dtype.str!r}")
    if not target.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    if not target.flags.c_contiguous:
        raise ValueError(
            f"{name}: expected a C-contiguous array, got shape {target.shape} with strides "
            f"{target.strides}; updating a copy would leave it unchanged"
        )
    if not target.flags.aligned:
        raise ValueError(f"{name}: expected memory aligned to its elements, got unaligned memory")
    return target


def mark_written(objects: Iterable[Any]) -> None:
    """Tell PyTorch's autograd which tensors have been changed in place, if any are among these."""
    torch: Any = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", ())
    tensors = [obj for obj in objects if isinstance(obj, tensor) and not obj.is_inference()]
    if tensors:
        torch.autograd.graph.increment_version(tensors)


def as_any(
    obj: Any, name: str, dtypes: Mapping[np.dtype[Any], str] | None = None
) -> Array:
    """View an array that is only read, whatever its dtype and order.

    Parameters
    ----------
    obj : array_like
        Anything that :func:`as_target` takes, read-only ones too, or a nested sequence.
    name : str
        What to call it in an error message.
    dtypes : mapping of numpy.dtype to str, optional
        What dtypes it may have, and their names.

    Raises
    ------
    TypeError
        If `obj` is no array, or masked, or has another dtype.
    """
    array = view(obj)
    if array is None:
        masked = isinstance(obj, (list, tuple)) and any(map(is_masked, obj))
        try:
            array = None if masked else np.asarray(obj)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {describe(obj)}: {error}") from None
    if array is None or is_masked(array):
        _refuse_mask(name)
    if dtypes is not None and array.dtype.newbyteorder("=") not in dtypes:
        wanted = ", ".join(dtypes.values())
        raise TypeError(f"{name}: expected one of {wanted}, got {describe(array)}")
    return array


def as_array(obj: Any, name: str, wanted: str = "real numbers") -> Array:
    """View an array of real numbers that is only read, whatever its dtype and order.

    `wanted` is what a message says of them.

    Raises
    ------
    TypeError
        If `obj` is no array of real numbers, or masked.
    """
    array = as_any(obj, name)
    if array.dtype.kind == "O" and type(obj).__module__.partition(".")[0] == "pandas":
        array = _of_columns(obj, name)
    if array.dtype.kind not in "biuf":
        what = f"{describe(obj)} ({array.dtype})"
        raise TypeError(f"{name}: expected {wanted}, got {what}{_way_out(obj, array, name)}")
    return array


def _of_columns(obj: Any, name: str) -> Array:
    """Convert what pandas gives as objects: columns of several dtypes, or of those with NA."""
    if not hasattr(obj, "columns"):
        types = [obj.dtype]
        if types[0].kind not in "biuf":
            return np.asarray(obj)
    else:
        types = list(obj.dtypes)
        wrong = [f"{column!r} ({dtype})" for column, dtype in zip(obj.columns, types, strict=True)
                 if dtype.kind not in "biuf"]
        if wrong:
            raise TypeError(
                f"{name}: expected columns of real numbers, got {', '.join(wrong)}; "
                f"{name}.select_dtypes('number') leaves them out"
            )
    dtype = np.result_type(*(getattr(dtype, "numpy_dtype", dtype) for dtype in types))
    try:
        return np.asarray(obj.to_numpy(dtype))
    except ValueError as error:
        raise ValueError(f"{name}: expected no missing values, got {error}") from None


def _way_out(obj: Any, array: Array, name: str) -> str:
    """The end of a message: how to make numbers of what are none."""
    if hasattr(obj, "toarray"):  # a sparse matrix of SciPy
        return f"; {name}.toarray() is an array"
    text = array.dtype.kind in "SUT" or (
        array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)
    )
    if text and array.size and array.ndim:
        return f"; np.unique({name}, return_inverse=True)[1] numbers them"
    return ""


def as_integers(obj: Any, name: str, count: int = 2**63, *, bools: bool = False) -> Array:
    """View an array of integers as C-contiguous int64, converting it if need be.

    Parameters
    ----------
    obj : array_like
        Of integers, of any dtype.
    name : str
        What to call it in an error message.
    count : int
        End of their range, for the message about those that int64 does not have; not checked else.
    bools : bool
        Whether True and False will do.

    Raises
    ------
    TypeError
        If `obj` is no array of integers.
    ValueError
        If an integer is too large for int64.
    """
    array = as_array(obj, name, "integers")
    if array.dtype.kind not in ("biu" if bools else "iu"):
        whole = array.dtype.kind == "f" and array.size and bool((array == np.rint(array)).all())
        way_out = f"; {name}.astype(int) makes them" if whole else ""
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}{way_out}")
    if array.dtype.kind == "u" and array.size and (largest := int(array.max())) >= 2**63:
        raise ValueError(f"{name}: expected integers in [0, {count}), got {largest}")
    return required(array, name, INT64)


def as_indices(obj: Any, name: str, count: int) -> Array:
    """View an array of integers from 0 to `count` - 1 as C-contiguous int64.

    Raises
    ------
    TypeError
        If `obj` is no array of integers.
    ValueError
        If one is out of range.

    Examples
    --------
    >>> as_indices([2, 0], "x", 3)
    array([2, 0])
    """
    array = as_integers(obj, name, count)
    if array.size and not (array.min() >= 0 and array.max() < count):
        raise ValueError(
            f"{name}: expected indices from 0 to {count - 1}, got {array.min()} to {array.max()}"
        )
    return array


def required(array: Array, name: str, dtype: np.dtype[Any]) -> Array:
    """Return the array, or a copy that is of a dtype, C-contiguous and aligned.

    Raises
    ------
    MemoryError
        If there is no room for the copy.
    """
    same = array.dtype == dtype and array.dtype.num == dtype.num
    if same and array.flags.c_contiguous and array.flags.aligned:
        return array
    try:
        return np.require(array, dtype, ["C", "A"])
    except MemoryError:  # for a view that repeats a few numbers, such as np.broadcast_to
        raise MemoryError(
            f"{name}: expected an array of which memory can hold a copy, got shape {array.shape}"
        ) from None


def convert(obj: Any, name: str, dtype: np.dtype[Any] | None = None) -> Array:
    """View an array that is only read, converting it if need be.

    Parameters
    ----------
    obj : array_like
        Anything that :func:`as_target` takes, read-only ones too, or a nested sequence of numbers.
    name : str
        What to call it in an error message.
    dtype : numpy.dtype, optional
        float32 or float64, what to convert to. By default these two stay and other real dtypes
        become float64.

    Returns
    -------
    numpy.ndarray
        float32 or float64, C-contiguous, aligned and in native byte order: on the memory of `obj`
        if that is so already, else a converted copy.

    Raises
    ------
    TypeError
        If `obj` is no array of real numbers.

    Examples
    --------
    >>> convert([1, 2], "x")
    array([1., 2.])
    """
    array = as_array(obj, name)
    if dtype is None:
        keep = array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)
        dtype = FLOATS[array.dtype.itemsize == 8 or not keep]
    return required(array, name, dtype)


def as_floats(names: Sequence[str], arrays: Sequence[Any], optional: int) -> tuple[Any, ...]:
    """Convert arrays as :func:`floats` does; the last `optional` may be None."""
    required = len(arrays) - optional
    found = [
        None if x is None and i >= required else as_array(x, names[i])
        for i, x in enumerate(arrays)
    ]
    given = [x for x in found if x is not None]
    dtype = FLOATS[any(x.dtype.kind == "f" and x.dtype.itemsize >= 8 for x in given)]
    return tuple(
        None if x is None else np.asarray(convert(x, name, dtype))
        for x, name in zip(found, names, strict=True)
    )


def as_output(
    out: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Sequence[Array | None],
    in_place: bool,
) -> Array:
    """View `out` as :func:`output` does, or tell what keeps it from taking the result."""
    y = as_target(out, "out")
    if y.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {y.dtype}")
    if y.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {y.shape}")
    for x in inputs:
        if x is None or (x is y and in_place):
            continue
        if np.may_share_memory(x, y) and not (in_place and x.ctypes.data == y.ctypes.data):
            allowed = "its own memory or exactly that of an input" if in_place else "its own memory"
            raise ValueError(f"out: expected {allowed}, got memory that overlaps an input")
    mark_written([out])
    return y


def sort_memory(
    starts: Sequence[int], sizes: Sequence[int], name_of: Callable[[int], str]
) -> tuple[NDArray[np.uintp], NDArray[np.uintp]]:
    """Sort ranges of memory, of which no two may overlap.

    Parameters
    ----------
    starts, sizes : sequence of int
        Address and bytes of each range; empty ones are left out.
    name_of : callable
        What to call the i-th range in an error message.

    Returns
    -------
    starts, ends : array of uintp
        In ascending order.

    Raises
    ------
    ValueError
        If two ranges overlap.
    """
    first, size = np.array(starts, np.uintp), np.array(sizes, np.uintp)
    order = np.argsort(first, kind="stable")
    order = order[size[order] > 0]
    first, last = first[order], first[order] + size[order]
    clash = np.flatnonzero(first[1:] < last[:-1])
    if clash.size:
        one, other = sorted(order[clash[0] : clash[0] + 2].tolist())
        raise ValueError(
            f"{name_of(other)}: expected memory of its own, got memory of {name_of(one)}"
        )
    return first, last


def as_list(obj: Any, name: str) -> list[Any]:
    """Return the members of a list of arrays; TypeError for what is none, such as an array."""
    one = isinstance(obj, Mapping) or view(obj) is not None
    if one or not isinstance(obj, Iterable):
        way_out = "; its parameters() are one" if hasattr(obj, "parameters") else ""
        raise TypeError(f"{name}: expected a list of arrays, got {describe(obj)}{way_out}")
    return list(obj)


def expect_shape(name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the array, if there is one, has this shape."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def without_padding(values: Any, mask: Array, name: str) -> Any:
    """Return values (samples, time, ...) with zeros in all steps that do not count."""
    array = as_any(values, name)
    if array.shape[:2] != mask.shape or not np.asarray(array[~mask], bool).any():
        return values  # NaN is not zero
    array = array.copy()
    array[~mask] = 0
    return array
