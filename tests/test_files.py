"""Writing a file: where its path leads, whole or not at all, whatever happens meanwhile."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

import fastnn

fcntl = pytest.importorskip("fcntl")
resource = pytest.importorskip("resource")

OLD, NEW = {"a": np.zeros(3)}, {"a": np.ones(3)}


def holds(path, tensors):
    return fastnn.load_safetensors(path)["a"].tobytes() == tensors["a"].tobytes()


@pytest.fixture
def path(tmp_path):
    fastnn.save_safetensors(tmp_path / "a", OLD)
    return tmp_path / "a"


def test_links_are_written_through(path):
    (path.parent / "models").mkdir()
    first, second, new = (path.parent / name for name in ("latest", "models/best", "models/new"))
    second.symlink_to("../a")
    first.symlink_to("models/best")
    fastnn.save_safetensors(first, NEW)
    assert first.is_symlink()
    assert second.is_symlink()
    assert holds(path, NEW)
    new.symlink_to("that")  # which is not there yet
    fastnn.save_safetensors(new, NEW)
    assert holds(path.parent / "models/that", NEW)
    new.unlink()
    new.symlink_to("new")
    with pytest.raises(OSError, match=str(new)) as caught:
        fastnn.save_safetensors(new, NEW)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_the_mode_stays(path, mode):
    path.chmod(mode)
    fastnn.save_safetensors(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert holds(path, NEW)


def test_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "other").touch()
    fastnn.save_safetensors(tmp_path / "a", {})
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_read_only_file_is_honoured(path):
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=rf"writable.*{path}"):
        fastnn.save_safetensors(path, NEW)
    assert holds(path, OLD)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", errno.EINVAL), (tmp_path, errno.EISDIR),
                       ("/dev/null", errno.EINVAL)):  # fmt: skip
        for call in (fastnn.load_safetensors, lambda p: fastnn.save_safetensors(p, NEW)):
            with pytest.raises(OSError, match=str(path)) as caught:
                call(path)
            assert caught.value.errno == kind
    assert os.listdir(tmp_path) == ["pipe"]
    with pytest.raises(TypeError, match="path: expected a str or a path, got int"):
        fastnn.save_safetensors(3, NEW)


@pytest.mark.parametrize("name", ["open", "fchown", "fchmod", "replace"])
def test_what_cannot_be_replaced_is_written_in_place(path, name, monkeypatch):
    """A folder that may not be written, a file of another owner, one on which a mount lies."""
    if name == "fchown":
        os.chown(path, os.getuid() or 1000, os.getgid())
    number, other = path.stat().st_ino, os.stat
    larger = {"a": np.ones(3), "b": np.ones(1000)}

    def refuse(*arguments, **options):
        raise OSError(errno.EBUSY if name == "replace" else errno.EPERM, "no", "hidden")

    if name == "fchown":
        real = os.fstat
        monkeypatch.setattr(os, "fstat", lambda fd: _of_another(real(fd)))
    monkeypatch.setattr(os, name, refuse)
    for tensors in (larger, NEW):  # one longer and one shorter than what is there
        fastnn.save_safetensors(path, tensors)
        assert fastnn.load_safetensors(path).keys() == tensors.keys()
    assert other(path).st_ino == number
    assert os.listdir(path.parent) == ["a"]


def _of_another(status):
    return os.stat_result((*status[:4], status.st_uid + 1, *status[5:10]))


def test_long_names(tmp_path):
    path = tmp_path / ("ä" * 127 + "b")
    for tensors in (OLD, NEW):
        fastnn.save_safetensors(path, tensors)
        assert holds(path, tensors)


def test_errors_name_the_path_that_was_given(path, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=rf"'{tmp_path}/none/a'$"):
        fastnn.save_safetensors(tmp_path / "none" / "a", NEW)
    with pytest.raises(OSError, match=r"/b{300}'$"):
        fastnn.save_safetensors(tmp_path / ("b" * 300), NEW)
    (tmp_path / "link").symlink_to("a")

    def fail(*arguments):
        raise OSError(errno.EIO, "broken", *arguments)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=rf"broken: '{tmp_path}/link'$") as caught:
        fastnn.save_safetensors(tmp_path / "link", NEW)
    assert caught.value.__suppress_context__
    assert holds(path, OLD)
    assert sorted(os.listdir(tmp_path)) == ["a", "link"]


def test_a_full_disk_leaves_the_old_file(path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=str(path)) as caught:
            fastnn.save_safetensors(path, {"a": np.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert holds(path, OLD)
    assert os.listdir(path.parent) == ["a"]


def test_only_what_is_left_over_is_removed(path):
    left, busy, other = (path.parent / f for f in (".fastnn-1.tmp", ".fastnn-2.tmp", ".other.tmp"))
    for file in (left, busy, other):
        file.touch()
    with busy.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fastnn.save_safetensors(path, NEW)
        assert sorted(path.parent.iterdir()) == sorted([busy, other, path])
    fastnn.save_safetensors(path, NEW)
    assert sorted(path.parent.iterdir()) == sorted([other, path])


def test_a_writer_whose_file_was_removed_begins_anew(path, monkeypatch):
    real, calls = fcntl.flock, []

    def flock(descriptor, operation):
        if not calls:  # another writer came between the file and its lock
            calls.extend(path.parent.glob(".fastnn-*"))
            calls[0].unlink()
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    fastnn.save_safetensors(path, NEW)
    assert holds(path, NEW)
    assert len(calls) == 1


WRITER = """
import sys
import numpy as np, fastnn
values = np.zeros(300_000)
while True:
    values += 1
    fastnn.save_safetensors(sys.argv[1], {"a": values})
    print(flush=True)
"""


def killed(command, waits, path):
    """Kill a writer after each of these times and yield what it has left."""
    for wait in waits:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
        yield fastnn.load_safetensors(path)["a"]


def moments(long):
    return np.random.default_rng(0).uniform(0, 0.02, 200) if long else [0.0, 0.003, 0.01]


def test_a_killed_writer_leaves_a_whole_file(tmp_path, long):
    path, left = tmp_path / "a", 0
    for values in killed([sys.executable, "-c", WRITER, path], moments(long), path):
        assert len(set(values)) == 1
        left += len(os.listdir(tmp_path)) > 1
        assert len(os.listdir(tmp_path)) <= 2  # what the writer before has left is gone
    assert left or not long
    fastnn.save_safetensors(path, NEW)
    assert os.listdir(tmp_path) == ["a"]


WINDOWS = """
import os, sys, time
import numpy
# what is loaded before is not of Windows
import asyncio, concurrent.futures, multiprocessing, platform, subprocess, tempfile
sys.platform = "win32"
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fchown", "fork", "getuid",
             "register_at_fork", "sched_getaffinity"):
    delattr(os, name)
import fastnn
model = fastnn.Sequential(fastnn.Linear(3, 2), rng=0)
held, left = ".fastnn-0.tmp", ".fastnn-1.tmp"
for name in (held, left):
    open(name, "w").close()
os.utime(left, (0, 0))
for _ in range(2):
    fastnn.save("model.safetensors", model)
x = numpy.ones((1, 3), numpy.float32)
assert (fastnn.load("model.safetensors")(x) == model(x)).all()
assert sorted(os.listdir()) == [held, "model.safetensors"]
assert fastnn.get_num_threads() >= 1
fastnn.show_config()
"""


def test_without_what_windows_lacks(tmp_path):
    """The import, threads and files; natively the workflow runs everything."""
    subprocess.run([sys.executable, "-c", WINDOWS], check=True, timeout=60, cwd=tmp_path)


def test_the_order_in_which_a_file_reaches_the_disk(path, monkeypatch):
    """The data, then the name, then the folder that holds it."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "data"
        calls.append((kind, os.fstat(descriptor).st_size if kind == "data" else None))
        fsync(descriptor)

    def note_replace(source, target):
        calls.append(("name", os.path.dirname(source) == os.path.dirname(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    fastnn.save_safetensors(path, NEW)
    assert calls == [("data", path.stat().st_size), ("name", True), ("folder", None)]


# What only another user or a disk of one's own can show ----------------------------------------

NOBODY = 65534


@pytest.fixture
def folder_of_another(long):
    """A folder that may not be written, with a file that may, for a user without rights."""
    if not long or not hasattr(os, "seteuid") or os.geteuid() != 0:
        pytest.skip("needs --long, and root, to become someone without rights")
    folder = tempfile.mkdtemp(dir="/tmp")
    path = os.path.join(folder, "a")
    fastnn.save_safetensors(path, OLD)
    os.chown(path, NOBODY, NOBODY)
    os.chmod(folder, 0o755)
    os.seteuid(NOBODY)
    yield folder
    os.seteuid(0)
    shutil.rmtree(folder)


def test_a_writable_file_in_a_read_only_folder(folder_of_another):
    path = os.path.join(folder_of_another, "a")
    number = os.stat(path).st_ino
    for tensors in ({"a": np.ones(3), "b": np.ones(1000)}, NEW):
        fastnn.save_safetensors(path, tensors)
        assert fastnn.load_safetensors(path).keys() == tensors.keys()
    assert os.stat(path).st_ino == number
    assert os.listdir(folder_of_another) == ["a"]
    with pytest.raises(PermissionError, match=f"{folder_of_another}/b"):
        fastnn.save_safetensors(os.path.join(folder_of_another, "b"), NEW)
    os.chmod(path, 0o444)
    with pytest.raises(PermissionError, match=f"writable.*{path}"):
        fastnn.save_safetensors(path, OLD)
    assert holds(path, NEW)


@pytest.fixture
def small_disk(tmp_path, long):
    """A folder on a file system of 64 kB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]
    if not long or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs --long, and the right to mount a small file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_is_full(small_disk, monkeypatch):
    """The old file stays; one that must be written in place is refused afterwards."""
    path = small_disk / "a"
    fastnn.save_safetensors(path, {"a": np.zeros(2000)})
    for count in (6500, 10_000, 100_000):
        with pytest.raises(OSError, match=str(path)) as caught:
            fastnn.save_safetensors(path, {"a": np.ones(count)})
        assert caught.value.errno == errno.ENOSPC
        assert not fastnn.load_safetensors(path)["a"].any()
        assert os.listdir(small_disk) == ["a"]
    fastnn.save_safetensors(path, {"a": np.zeros(3500)})

    def refuse(*arguments):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=str(path)):
        fastnn.save_safetensors(path, {"a": np.ones(10_000)})
    with pytest.raises(ValueError, match=str(path)):
        fastnn.load_safetensors(path)
