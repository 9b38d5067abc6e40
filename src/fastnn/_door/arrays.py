"""Anyone's arrays at the door: what is written stays where it is, what is read may be converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def describe(obj: Any) -> str:
    """What an object is, for the end of an error message."""
    if isinstance(obj, np.ndarray):
        return f"an array of dtype {obj.dtype} and shape {obj.shape}"
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")


def view(obj: Any) -> NDArray[Any] | None:
    """An array on the memory of `obj`, without a copy; None if it offers none."""
    if isinstance(obj, np.ndarray):
        return obj
    if isinstance(obj, np.generic):  # has the buffer protocol, but on a copy
        return None
    if hasattr(obj, "__dlpack__"):
        detach = getattr(obj, "detach", None)  # a PyTorch leaf that requires a gradient
        try:
            return np.from_dlpack(detach() if callable(detach) else obj)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return None  # another device, or a dtype that NumPy does not have
    try:
        return np.asarray(memoryview(obj))
    except (TypeError, ValueError):
        return None


def as_target(obj: Any, name: str) -> NDArray[Any]:
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
        If `obj` is no such object, or its dtype is neither float32 nor float64.
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


def as_array(obj: Any, name: str) -> NDArray[Any]:
    """View an array of real numbers that is only read, whatever its dtype and order.

    Raises
    ------
    TypeError
        If `obj` is no array of real numbers.
    """
    array = view(obj)
    if array is None:
        try:
            array = np.asarray(obj)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {describe(obj)}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {describe(obj)} ({array.dtype})")
    return array


def convert(obj: Any, name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
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
        dtype = array.dtype.newbyteorder("=") if keep else np.dtype(np.float64)
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, dtype, ["C", "A"])


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
    inputs: Sequence[NDArray[Any] | None],
    in_place: bool,
) -> NDArray[Any]:
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


def expect_shape(name: str, array: NDArray[Any] | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the array, if there is one, has this shape."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
