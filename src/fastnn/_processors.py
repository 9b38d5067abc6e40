"""How many processors the control groups of Linux leave to this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import inf

# For each kind of mount: the files of a group that hold its time and the period of that.
_FILES = {"cgroup2": ("cpu.max",), "cgroup": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}


def quota(root: str = "/") -> float:
    """Return how many processors' time the process may use; infinity without a limit.

    The least of its own control group and of those around it counts, in version 2 (`cpu.max`) and
    in version 1 (`cpu.cfs_quota_us`). What cannot be read limits nothing.

    Parameters
    ----------
    root : str
        Where ``proc`` and the mounts are found.
    """
    try:
        groups = list(_groups(root))
    except (OSError, ValueError):  # another system
        return inf
    least = inf
    for kind, folder in groups:
        try:
            words = [word for name in _FILES[kind] for word in _read(folder, name).split()]
            time, period = (int(word) for word in words)
            if time > 0:  # -1 is no limit, as "max" is, which is no number
                least = min(least, time / period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return least


def _groups(root: str) -> Iterator[tuple[str, str]]:
    """Yield kind of mount and folder of the process's control groups, the outermost first."""
    paths, mounts = (_read(root, f"proc/self/{name}") for name in ("cgroup", "mountinfo"))
    mine = {}
    for line in paths.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            mine["cgroup" if controllers else "cgroup2"] = path
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in mine or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top, point = before.split(" ")[3:5]
        folder = os.path.join(root, point.lstrip("/"))
        yield kind, folder
        # a path that does not lie below what is mounted is of another container's view
        top, path = top.rstrip("/"), mine[kind]
        if path.startswith(f"{top}/") and ".." not in (names := path[len(top) :].split("/")):
            for name in filter(None, names):
                folder = os.path.join(folder, name)
                yield kind, folder


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
        return file.read()
