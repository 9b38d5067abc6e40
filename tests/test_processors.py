"""How many processors a container leaves to the process, read from folders as Linux has them."""

from math import inf

import pytest

import fastnn
from fastnn._kernels import core
from fastnn._processors import quota

V2 = "35 24 0:30 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "36 24 0:31 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "37 24 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
ROOT = "24 1 0:22 / / rw - ext4 /dev/sda1 rw\n"


def machine(root, groups, mounts, **files):
    """Write what a process sees; `files` by folder below the mount, slashes as `__`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(ROOT + OTHER + mounts)
    point = "sys/fs/cgroup/cpu,cpuacct" if "cpuacct" in mounts else "sys/fs/cgroup"
    for path, content in files.items():
        folder = root / point / path.replace("__", "/").removeprefix("top")
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (folder / "cpu.max").write_text(content + "\n")
        else:
            for name, value in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), content, strict=True):
                (folder / name).write_text(f"{value}\n")
    return str(root)


@pytest.mark.parametrize(
    ("group", "top", "files", "expected"),
    [
        ("/", "/", {"top": "200000 100000"}, 2),  # a container with a view of its own
        ("/", "/", {"top": "max 100000"}, inf),
        ("/", "/", {"top": "150000 100000"}, 1.5),
        ("/", "/", {}, inf),  # the outermost group has no such file
        ("/a/b", "/", {"a__b": "max 100000", "a": "400000 100000"}, 4),
        ("/a/b", "/", {"a__b": "300000 100000", "a": "400000 100000"}, 3),
        ("/a/b", "/", {"a__b": "800000 100000", "a": "40000 10000"}, 4),
        ("/a/b", "/", {"c": "100000 100000"}, inf),
        ("/docker/1", "/docker/1", {"top": "200000 100000"}, 2),  # a part of the tree is mounted
        ("/docker/1/x", "/docker/1", {"top": "max 100000", "x": "50000 100000"}, 0.5),
        ("/docker/12", "/docker/1", {"top": "200000 100000", "2": "100000 100000"}, 2),
        ("/../other", "/", {"top": "200000 100000", "other": "1 100"}, 2),
        ("/", "/", {"top": "much of it"}, inf),
        ("/", "/", {"top": "100000 0"}, inf),
        ("/", "/", {"top": ""}, inf),
    ],
)
def test_version_2(group, top, files, expected, tmp_path):
    root = machine(tmp_path, f"0::{group}\n", V2.format(top=top), **files)
    assert quota(root) == expected


@pytest.mark.parametrize(
    ("group", "top", "files", "expected"),
    [
        ("/docker/1", "/docker/1", {"top": (200000, 100000)}, 2),
        ("/docker/1", "/", {"docker__1": (250000, 100000), "docker": (-1, 100000)}, 2.5),
        ("/", "/", {"top": (-1, 100000)}, inf),
        ("/", "/", {"top": ("", 100000)}, inf),
    ],
)
def test_version_1(group, top, files, expected, tmp_path):
    groups = f"5:memory:/elsewhere\n4:cpu,cpuacct:{group}\n1:name=systemd:/x\n0::/x\n"
    root = machine(tmp_path, groups, V1.format(top=top), **files)
    assert quota(root) == expected


def test_both_versions_at_once(tmp_path):
    mounts = V2.format(top="/") + V1.format(top="/")
    root = machine(tmp_path, "4:cpu:/\n0::/\n", mounts, top=(300000, 100000))
    assert quota(root) == 3
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("100000 100000")
    assert quota(root) == 1


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"0:/\n", b"a\nb\n"])
def test_what_cannot_be_read_limits_nothing(content, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    if content is not None:
        for name in ("cgroup", "mountinfo"):
            (tmp_path / "proc/self" / name).write_bytes(content)
    assert quota(str(tmp_path)) == inf


@pytest.mark.parametrize(("given", "expected"), [(1.0, 1), (1.9, 1), (0.1, 1), (inf, None)])
def test_the_default_number_of_threads(given, expected, threads, isa, monkeypatch):
    """Whole processors, at least one: threads that wait for one that is held back gain nothing."""
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setenv("FASTNN_ISA", isa)
    monkeypatch.setattr(core, "quota", lambda: given)
    core._initialise()
    found = fastnn.get_num_threads()
    monkeypatch.setattr(core, "quota", lambda: inf)
    core._initialise()
    assert found == (expected or fastnn.get_num_threads())
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")
    core._initialise()
    assert fastnn.get_num_threads() == 1
