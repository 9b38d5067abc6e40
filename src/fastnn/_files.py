"""Files that are written whole or not at all, where a path leads and with the mode that they had.

A new file is written beside its place under a name of its own and then takes the place. Its writer
holds a lock on it meanwhile, so that the next one tells what a killed writer has left. On Windows
nobody can remove a file that is open.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastnn._door.arrays import describe

if sys.platform != "win32":
    import fcntl

# How the names of temporary files begin and end.
_BEGIN, _END = ".fastnn-", ".tmp"

# What keeps a file from being replaced, though it can perhaps be written: a folder or its name, an
# owner that the new file cannot have, a mount on the file itself.
_IN_PLACE = frozenset({
    errno.EACCES, errno.EBUSY, errno.ENAMETOOLONG, errno.EPERM, errno.EROFS, errno.EXDEV,
})  # fmt: skip


def as_path(path: Any) -> str:
    """Return a path as text; TypeError if it is none."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"path: expected a str or a path, got {describe(path)}")
    return os.fsdecode(path)


def status(path: str) -> os.stat_result:
    """Return the status of a regular file; OSError if it is something else, or not there."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, got a pipe, socket or device", path)
    return found


def write_file(path: Any, parts: Sequence[Any]) -> None:
    """Write bytes to a file, which is on disk in the end.

    Symbolic links are followed. A file that is there keeps its mode and owner, and its content
    until the new one is complete; where it cannot be replaced it is written in place.

    Parameters
    ----------
    path : str or path
    parts : sequence of bytes-like

    Raises
    ------
    OSError
        If it cannot be written, is read-only or no regular file. It names `path`.
    """
    path = as_path(path)
    try:
        try:
            old = status(path)
        except FileNotFoundError:
            old = None
        target = path
        while os.path.islink(target):
            target = os.path.join(os.path.dirname(target), os.readlink(target))
        # to root every file is writable
        if old is not None and not (old.st_mode & 0o222 and os.access(target, os.W_OK)):
            raise PermissionError(errno.EACCES, "expected a writable file, got a read-only one")
        if not _replace(target, old, parts):
            with open(target, "wb" if old is None else "r+b") as file:
                _write(file, parts)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from None


def _write(file: Any, parts: Sequence[Any]) -> None:
    for part in parts:
        file.write(part)
    file.truncate()
    os.fsync(file.fileno())


def _replace(target: str, old: os.stat_result | None, parts: Sequence[Any]) -> bool:
    """Put a new file in the place of `target`; return False if only it itself can be written."""
    folder = _with_room(os.path.dirname(target) or os.curdir)
    _remove_left_over(folder)
    temporary = None
    try:
        descriptor, temporary = _open_temporary(folder, 0o666 if old is None else old.st_mode)
        with open(descriptor, "wb") as file:
            if old is not None:
                _keep_owner_and_mode(descriptor, old)
            _write(file, parts)
            if sys.platform == "win32":
                file.close()  # an open file has no other name there
            os.replace(temporary, target)
    except OSError as error:
        if error.errno not in _IN_PLACE:
            raise
        return False
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    _sync(folder)
    return True


def _open_temporary(folder: str, mode: int) -> tuple[int, str]:
    """Return a new file in a folder, locked, and its path."""
    while True:
        path = os.path.join(folder, f"{_BEGIN}{os.urandom(8).hex()}{_END}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, mode & 0o777)
        _hold(descriptor)
        if os.path.exists(path):
            return descriptor, path
        os.close(descriptor)  # another writer took it for left over before it was locked


def _remove_left_over(folder: str) -> None:
    """Remove temporary files that nobody is writing."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if not (name.startswith(_BEGIN) and name.endswith(_END)):
            continue
        with suppress(OSError):
            _remove_unless_held(os.path.join(folder, name))


if sys.platform == "win32":

    def _with_room(folder: str) -> str:
        """The form that longer paths than 259 characters need, if temporary ones are so long."""
        full = os.path.abspath(folder)
        if len(full) + 32 < 260 or full.startswith("\\\\?\\"):
            return folder
        return "\\\\?\\UNC" + full[1:] if full.startswith("\\\\") else "\\\\?\\" + full

    def _keep_owner_and_mode(descriptor: int, old: os.stat_result) -> None:
        """The folder gives the owner, and a file that is replaced is writable as the new one is."""

    def _hold(descriptor: int) -> None:
        """That it is open is enough."""

    def _remove_unless_held(path: str) -> None:
        # it may have been closed only now, to take its place
        if time.time() - os.stat(path).st_mtime > 60:
            os.unlink(path)

    def _sync(folder: str) -> None:
        """Folders cannot be written to disk by themselves."""

else:

    def _with_room(folder: str) -> str:
        return folder

    def _keep_owner_and_mode(descriptor: int, old: os.stat_result) -> None:
        new = os.fstat(descriptor)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))

    def _hold(descriptor: int) -> None:
        with suppress(OSError):  # a file system without locks: then none is ever left over
            fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _remove_unless_held(path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(descriptor)

    def _sync(folder: str) -> None:
        """Make sure that a new name is on disk, which it is when its folder is."""
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:  # one that may be written but not read
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
