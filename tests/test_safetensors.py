"""Safetensors files: what is written comes back, and nothing that is damaged gets through."""

import json
import os
import re

import numpy as np
import pytest

import fastnn
from fastnn import safetensors

ARRAYS = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f64": np.array([np.nan, np.inf, -0.0, 5e-324]),
    "f16": np.float16([1.5]),
    "scalar": np.array(7, np.int64),
    "empty": np.empty((0, 3), np.float32),
    "bool": np.array([[True], [False], [True]]),
    "i8": np.int8([-1]),
    "u64": np.array([2**64 - 1], np.uint64),
    "c64": np.array([1 + 2j], np.complex64),
    "größe": np.uint16([1, 2, 3]),
}


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)


def test_there_and_back(tmp_path):
    path = tmp_path / "a.safetensors"
    fastnn.save_safetensors(path, ARRAYS, {"made by": "a test"})
    loaded, metadata = safetensors.read_safetensors(path)
    assert metadata == {"made by": "a test"}
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable
        assert loaded[name].flags.aligned
    fastnn.save_safetensors(path, {})
    assert fastnn.load_safetensors(path) == {}


def test_other_orders_are_converted(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    arrays = {"swapped": array.astype(">f8"), "fortran": np.asfortranarray(array),
              "part": array[:, ::2], "list": array.tolist()}  # fmt: skip
    fastnn.save_safetensors(tmp_path / "a", arrays)
    loaded = fastnn.load_safetensors(tmp_path / "a")
    for name, given in arrays.items():
        np.testing.assert_array_equal(loaded[name], given)
        assert loaded[name].dtype.isnative


def test_data_that_are_not_aligned_can_be_read(tmp_path):
    header = {
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "number": {"dtype": "F64", "shape": [], "data_offsets": [1, 9]},
    }
    write(tmp_path / "a", header, b"\x05" + np.float64(2.5).tobytes())
    loaded = fastnn.load_safetensors(tmp_path / "a")
    assert loaded["number"] == 2.5
    assert loaded["number"].flags.aligned


def test_the_reference_implementation_reads_and_writes_the_same_files(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    arrays = {name: array for name, array in ARRAYS.items() if name != "c64"}
    fastnn.save_safetensors(ours, arrays, {"key": "value"})
    safetensors.save_file(safetensors.load_file(ours), theirs)
    loaded = fastnn.load_safetensors(theirs)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def entry(dtype="F32", shape=(1,), start=0, stop=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


DAMAGED = {
    "no object": [1, 2],
    "no JSON": b"{not json",
    "no text": b"\xff\xfe\xfd",
    "twice": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {}}',
    "deep": b"[" * 100_000,
    "no entry": {"a": 3},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
    "dtype": {"a": entry("BF16", start=0, stop=2)},
    "dtype no text": {"a": entry(["F32"])},
    "negative extent": {"a": entry(shape=(-1,))},
    "extent no integer": {"a": entry(shape=(1.0,))},
    "extent a bool": {"a": entry(shape=(True,))},
    "huge extent": {"a": entry(shape=(2**63, 0), stop=0), "b": entry()},
    "extents too large for NumPy": {"a": entry(shape=(2**61, 0), stop=0), "b": entry()},
    "many axes": {"a": entry(shape=(1,) * 65)},
    "size": {"a": entry(shape=(2,))},
    "backwards": {"a": entry(start=4, stop=0)},
    "negative offset": {"a": entry(start=-4, stop=0)},
    "three offsets": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}},
    "overlap": {"a": entry(), "b": entry()},
    "hole": {"a": entry(start=4, stop=8)},
    "too little data": {"a": entry(), "b": entry(start=4, stop=8)},
    "too much data": {},
    "metadata": {"__metadata__": {"a": 1}, "b": entry()},
    "metadata no object": {"__metadata__": "text", "b": entry()},
    "bool": {"a": entry("BOOL", (4,))},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused(case, tmp_path):
    write(tmp_path / "a", DAMAGED[case], b"\x00\x00\x00\x02")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "a"))):
        fastnn.load_safetensors(tmp_path / "a")


@pytest.mark.parametrize("length", [3, 2**40, 2**64 - 1])
def test_wrong_lengths_of_the_header_are_refused(length, tmp_path):
    write(tmp_path / "a", {"a": entry()}, b"\0\0\0\0", length)
    with pytest.raises(ValueError, match="header"):
        fastnn.load_safetensors(tmp_path / "a")


def test_a_file_that_was_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a"
    fastnn.save_safetensors(path, {"a": ARRAYS["f32"], "b": ARRAYS["bool"]})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            fastnn.load_safetensors(path)


@pytest.mark.parametrize("arrays", [{"a": ARRAYS["f32"], "b": ARRAYS["bool"]}, {}])
def test_a_flipped_bit_anywhere_is_noticed(arrays, tmp_path, long):
    path = tmp_path / "a"
    fastnn.save_safetensors(path, arrays, {"key": "value"})
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8) if long or place < 8 else [place % 8]:
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=re.escape(str(path))):
                fastnn.load_safetensors(path)


def test_a_tail_of_zeros_is_noticed(tmp_path):
    """As a file system may leave after a crash, in a file that was written in place."""
    path = tmp_path / "a"
    fastnn.save_safetensors(path, {"a": ARRAYS["f32"], "b": np.ones(3)})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length].ljust(len(content), b"\0"))
        with pytest.raises(ValueError, match=re.escape(str(path))):
            fastnn.load_safetensors(path)


def test_an_array_keeps_only_itself_alive(tmp_path):
    fastnn.save_safetensors(tmp_path / "a", ARRAYS)
    for array in fastnn.load_safetensors(tmp_path / "a").values():
        assert array.flags.owndata


def test_metadata_do_not_show_the_hashes_and_can_be_written_again(tmp_path):
    from_safetensors = {"fastnn.sha256.header": "0" * 64, "fastnn.sha256.tensors": "{}", "a": "b"}
    fastnn.save_safetensors(tmp_path / "a", ARRAYS, from_safetensors)
    assert safetensors.read_safetensors(tmp_path / "a")[1] == {"a": "b"}


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    fastnn.save_safetensors(path, {"a": np.ones(2)})
    before = path.read_bytes()
    for tensors, metadata in (
        ({"a": np.array(["text"])}, None),
        ({"a": np.array([None])}, None),
        ({"a": np.complex128([1])}, None),
        ({3: np.ones(1)}, None),
        ({"__metadata__": np.ones(1)}, None),
        ({"a": np.ones(1)}, {"a": 1}),
    ):
        with pytest.raises(TypeError):
            fastnn.save_safetensors(path, tensors, metadata)

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        fastnn.save_safetensors(path, {"a": np.zeros(2)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]
