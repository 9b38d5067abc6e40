"""Paths and files as users of every system have them."""

import numpy as np
import pytest

import fastnn

OLD, NEW = {"a": np.zeros(3)}, {"a": np.ones(3)}


def holds(path, tensors):
    return fastnn.load_safetensors(path)["a"].tobytes() == tensors["a"].tobytes()


@pytest.mark.parametrize("name", ["модель", "モデル é", "with space & 100 %", "a" * 200])
def test_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for tensors in (OLD, NEW):
        fastnn.save_safetensors(folder / f"{name}.st", tensors)
        assert holds(str(folder / f"{name}.st"), tensors)
    assert [path.name for path in folder.iterdir()] == [f"{name}.st"]


@pytest.mark.parametrize("length", [225, 245, 254])
def test_long_paths(tmp_path, length):
    """Windows takes 259 characters without more ado; temporary names would be longer."""
    missing = length - len(str(tmp_path)) - 2
    if missing < 2:
        pytest.skip("the temporary folder has a long name itself")
    folder = tmp_path / ("a" * (missing // 2))
    folder.mkdir()
    path = folder / ("b" * (length - len(str(folder)) - 1))
    for tensors in (OLD, NEW):
        fastnn.save_safetensors(path, tensors)
        assert holds(path, tensors)
    assert list(folder.iterdir()) == [path]


def test_a_file_that_is_open(tmp_path):
    """Windows does not replace it, so that it is written in place."""
    path = tmp_path / "a"
    fastnn.save_safetensors(path, OLD)
    with path.open("rb"):
        fastnn.save_safetensors(path, NEW)
    assert holds(path, NEW)
    assert list(tmp_path.iterdir()) == [path]


def test_a_read_only_file(tmp_path):
    path = tmp_path / "a"
    fastnn.save_safetensors(path, OLD)
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="read-only"):
        fastnn.save_safetensors(path, NEW)
    assert holds(path, OLD)
    path.chmod(0o644)  # Windows could not remove it otherwise
