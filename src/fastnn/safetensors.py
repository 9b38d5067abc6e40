"""Files of named arrays in the safetensors format: written whole or not at all, checked when read.

A file is the length of its header (8 bytes, little-endian), the header in JSON (for each array its
dtype, shape and the bytes where its data lie) and the data, little-endian and in C order. PyTorch,
JAX and others read and write the same files: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_any, describe
from fastnn._typing import Array

__all__ = ["load_safetensors", "read_safetensors", "save_safetensors"]


_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2", "U32": "u4",
    "I32": "i4", "F32": "f4", "U64": "u8", "I64": "i8", "F64": "f8", "C64": "c8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # the format's own limit


def save_safetensors(
    path: str | PathLike[str],
    tensors: Mapping[str, ArrayLike],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to a file.

    The file is complete and on disk when it gets its name: a crash or a full disk leaves the file
    of that name as it was.

    Parameters
    ----------
    path : str or path
    tensors : mapping of str to array_like
        Arrays of integers, booleans, real numbers or complex64, of any shape.
    metadata : mapping of str to str, optional
        Any text to keep with them.

    Raises
    ------
    TypeError
        If a name is no string, an array has no dtype of the format, or metadata is no text.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "arrays.safetensors")
    ...     fastnn.save_safetensors(path, {"weight": np.eye(2), "step": [3]})
    ...     arrays = fastnn.load_safetensors(path)
    >>> arrays["weight"]
    array([[1., 0.],
           [0., 1.]])
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors: expected a mapping of names to arrays, got {describe(tensors)}")
    header: dict[str, Any] = {}
    if metadata:
        for key, text in metadata.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise TypeError(f"metadata: expected strings, got {key!r}: {text!r}")
        header["__metadata__"] = dict(metadata)
    arrays = {name: _as_stored(name, tensor) for name, tensor in tensors.items()}
    # by size of the elements, so that all data are aligned to them
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    start = 0
    for name, array in ordered:
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("=")],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    _write(Path(path), [len(text).to_bytes(8, "little"), text, *(a.data for _, a in ordered)])


def _as_stored(name: str, tensor: Any) -> Array:
    """Return an array as it is written: C-contiguous and little-endian."""
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"tensors: expected names that are strings of one's own, got {name!r}")
    array = as_any(tensor, name, _NAMES)
    # ascontiguousarray gives a scalar an axis
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _write(path: Path, parts: list[Any]) -> None:
    """Write a file next to its place, make sure that it is on disk, and give it its name."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # the new name is on disk when its folder is
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_safetensors(path: str | PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict of str to ndarray
        New, writable arrays in the order of the file.

    Raises
    ------
    ValueError
        If the file is no such file, is damaged or cut short, or holds a dtype that NumPy does not
        have (BF16).
    OSError
        If it cannot be read.
    """
    return read_safetensors(path)[0]


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays of a file, and its metadata; see `load_safetensors`."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"{path}: expected a safetensors file, got one without its header")
        header = _parse(path, file.read(length))
        data = np.empty(size - 8 - length, np.uint8)
        if file.readinto(data.data) != data.size:
            raise ValueError(f"{path}: expected {data.size} bytes of data, got fewer")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{path}: expected metadata that map names to text")
    places = {name: _place(path, name, entry) for name, entry in header.items()}
    end = 0
    for start, stop, name in sorted((*place[2:], name) for name, place in places.items()):
        if start != end:
            raise ValueError(f"{path}: {name}: expected its data to start at {end}, got {start}")
        end = stop
    if end != data.size:
        raise ValueError(f"{path}: expected {end} bytes of data, got {data.size}")
    tensors = {}
    for name, (dtype, shape, start, stop) in places.items():
        part = data[start:stop]
        if dtype.kind == "b" and part.max(initial=0) > 1:
            raise ValueError(f"{path}: {name}: expected bytes of 0 or 1")
        if part.ctypes.data % dtype.alignment:
            part = part.copy()
        tensors[name] = part.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    return tensors, metadata


def _parse(path: Any, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name that stands twice")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected a header in JSON, got {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: expected a header that is a JSON object")
    return header


def _place(path: Any, name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return dtype, shape, first and last byte of an array, checked for themselves."""
    def whole(numbers: Any) -> bool:
        return isinstance(numbers, list) and all(
            type(n) is int and 0 <= n < 2**62 for n in numbers
        )

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"{path}: {name}: expected dtype, shape and data_offsets, got {entry!r}")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{path}: {name}: expected one of {', '.join(_DTYPES)}, got {kind!r}")
    if not whole(shape) or not whole(offsets) or len(offsets) != 2 or len(shape) > 64:
        raise ValueError(f"{path}: {name}: expected a shape and two offsets, got {entry!r}")
    dtype = np.dtype("<" + _DTYPES[kind])
    if offsets[1] - offsets[0] != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path}: {name}: expected {prod(shape) * dtype.itemsize} bytes of data, "
            f"got {offsets[1] - offsets[0]}"
        )
    return dtype, tuple(shape), offsets[0], offsets[1]
