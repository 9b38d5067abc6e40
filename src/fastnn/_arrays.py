"""Anyone's arrays at the door: what is written stays where it is, what is read may be converted."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._kernels._core import ready

__all__ = ["as_input", "as_target", "sort_memory"]


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


def as_input(obj: Any, name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
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
    >>> as_input([1, 2], "x")
    array([1., 2.])
    """
    if dtype is not None and ready(obj, dtype):
        return obj
    array = view(obj)
    if array is None:
        try:
            array = np.asarray(obj)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {describe(obj)}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {describe(obj)} ({array.dtype})")
    if dtype is None:
        keep = array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)
        dtype = array.dtype.newbyteorder("=") if keep else np.dtype(np.float64)
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, dtype, ["C", "A"])


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
