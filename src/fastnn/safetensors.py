"""Files of named arrays in the safetensors format: written whole or not at all, checked when read.

A file is the length of its header (8 bytes, little-endian), the header in JSON (for each array its
dtype, shape and the bytes where its data lie) and the data, little-endian and in C order. PyTorch,
JAX and others read and write the same files: https://github.com/huggingface/safetensors

What is written here has the SHA-256 of each array in its metadata, and the SHA-256 of the header,
which is computed with zeros in its own place. They are compared when the file is read; files of
other programs have none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_any, describe
from fastnn._files import as_path, status, write_file
from fastnn._typing import Array

__all__ = ["load_safetensors", "read_safetensors", "save_safetensors"]


def __dir__() -> list[str]:
    return __all__


_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2", "U32": "u4",
    "I32": "i4", "F32": "f4", "U64": "u8", "I64": "i8", "F64": "f8", "C64": "c8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # the format's own limit
_HEADER_HASH, _HASHES = "fastnn.sha256.header", "fastnn.sha256.tensors"  # keys of the metadata
_NO_HASH = "0" * 64  # in the place of the header's hash while that is computed


def _sha256(data: Any) -> str:
    from hashlib import sha256  # OpenSSL's library, which a program without files does not need

    return sha256(data).hexdigest()


def save_safetensors(
    path: str | PathLike[str],
    tensors: Mapping[str, ArrayLike],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to a file.

    The file is complete and on disk when it gets its name: a crash or a full disk leaves the file
    of that name as it was. Symbolic links are followed, and the mode of the old file stays. Where a
    file cannot be replaced, for its folder may not be written, it is written in place.

    Parameters
    ----------
    path : str or path
    tensors : mapping of str to array_like
        Arrays of integers, booleans, real numbers or complex64, of any shape.
    metadata : mapping of str to str, optional
        Any text to keep with them. The file also gets hashes of header and arrays, by which
        `load_safetensors` knows whether it is as it was written.

    Raises
    ------
    TypeError
        If a name is no string, an array has no dtype of the format, or metadata is no text.
    OSError
        If the file cannot be written, is read-only, or is no regular file.

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
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata: expected a mapping, got {describe(metadata)}")
    metadata = {} if metadata is None else dict(metadata)
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"metadata: expected strings, got {key!r}: {text!r}")
    arrays = {name: _as_stored(name, tensor) for name, tensor in tensors.items()}
    # by size of the elements, so that all data are aligned to them
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    hashes = {name: _sha256(_bytes(array)) for name, array in ordered}
    # the header's own hash stands first, where it is found whatever the rest holds
    own = {_HEADER_HASH: _NO_HASH, _HASHES: _json(hashes)}
    header: dict[str, Any] = {"__metadata__": own | {k: v for k, v in metadata.items()
                                                     if k not in own}}
    start = 0
    for name, array in ordered:
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("=")],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    encoded = _json(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = _sha256(encoded).encode()
    encoded = encoded.replace(_NO_HASH.encode(), digest, 1)
    data = [_bytes(array) for _, array in ordered]
    write_file(path, [len(encoded).to_bytes(8, "little"), encoded, *data])


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _bytes(array: Array) -> memoryview:
    """View the memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _as_stored(name: str, tensor: Any) -> Array:
    """Return an array as it is written: C-contiguous and little-endian."""
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"tensors: expected names that are strings of one's own, got {name!r}")
    array = as_any(tensor, name, _NAMES)
    # ascontiguousarray gives a scalar an axis
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def load_safetensors(path: str | PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict of str to ndarray
        New, writable arrays in the order of the file, each with memory of its own.

    Raises
    ------
    ValueError
        If the file is no such file, is damaged or cut short, or holds a dtype that NumPy does not
        have (BF16). A file of `save_safetensors` is known to be damaged by any bit.
    OSError
        If it cannot be read, or is no regular file.
    """
    return read_safetensors(path)[0]


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays of a file, and its metadata; see `load_safetensors`."""
    path = as_path(path)
    size = status(path).st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"{path}: expected a safetensors file, got one without its header")
        encoded = file.read(length)
        header = _parse(path, encoded)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError(f"{path}: expected metadata that map names to text")
        hashes = _check_header(path, encoded, metadata)
        places = {name: _place(path, name, entry) for name, entry in header.items()}
        ordered = sorted(places, key=lambda name: places[name][2:])
        end = 0
        for name in ordered:
            start, stop = places[name][2:]
            if start != end:
                raise ValueError(f"{path}: {name}: expected its data at {end}, got {start}")
            end = stop
        if end != size - 8 - length:
            raise ValueError(f"{path}: expected {end} bytes of data, got {size - 8 - length}")
        # nothing has been allocated before the sizes were known to be those of the file
        tensors = {name: np.empty(places[name][1], places[name][0]) for name in header}
        for name in ordered:
            memory = _bytes(tensors[name])
            if file.readinto(memory) != memory.nbytes:
                raise ValueError(f"{path}: {name}: expected {memory.nbytes} bytes, got fewer")
            if hashes is not None and hashes.get(name) != _sha256(memory):
                raise ValueError(f"{path}: {name}: expected the data that were written, got others")
            if tensors[name].dtype.kind == "b" and tensors[name].view(np.uint8).max(initial=0) > 1:
                raise ValueError(f"{path}: {name}: expected bytes of 0 or 1")
    native = {name: array.astype(array.dtype.newbyteorder("="), copy=False)
              for name, array in tensors.items()}
    return native, metadata


def _check_header(
    path: str, encoded: bytes, metadata: dict[str, str]
) -> dict[str, str] | None:
    """Take the hashes out of the metadata and return those of the arrays; None if there are none.

    There are two, so that a damaged key does not make the file one of another program.
    """
    header, hashes = metadata.pop(_HEADER_HASH, None), metadata.pop(_HASHES, None)
    if header is None and hashes is None:
        return None
    if header is not None and hashes is not None:
        blank = encoded.replace(header.encode(), _NO_HASH.encode(), 1)
        if _sha256(blank) == header:
            return _parse(path, hashes.encode())
    raise ValueError(f"{path}: expected the header that was written, got another")


def _parse(path: str, text: bytes) -> dict[str, Any]:
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


def _place(path: str, name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
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
    fits = whole(shape) and len(shape) <= 64 and prod(n or 1 for n in shape) < 2**59
    if not fits or not whole(offsets) or len(offsets) != 2:
        raise ValueError(f"{path}: {name}: expected a shape and two offsets, got {entry!r}")
    dtype = np.dtype("<" + _DTYPES[kind])
    if offsets[1] - offsets[0] != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path}: {name}: expected {prod(shape) * dtype.itemsize} bytes of data, "
            f"got {offsets[1] - offsets[0]}"
        )
    return dtype, tuple(shape), offsets[0], offsets[1]
