"""Changes that others must learn of, and locks that survive a fork."""

from __future__ import annotations

import os
from threading import RLock
from typing import Any, Protocol
from weakref import WeakSet, ref

_locks: WeakSet[Any] = WeakSet()


def new_lock() -> Any:
    """Return a lock that a forked child finds open, whoever held it in the parent."""
    lock = RLock()
    _locks.add(lock)
    return lock


def _open_locks() -> None:
    for lock in _locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_locks)


# Held while somebody is added to those who watch.
_watching = new_lock()


class Watcher(Protocol):
    """Who has captured something that may be changed: a model, a trainer, an optimizer's table.

    Those who watch a parameter also have `forgotten`, called when its gradient has been.
    """

    def invalidate(self) -> None:
        """Read it again before the next run."""


class Watched:
    """Something whose changes others must learn of; they are held weakly."""

    __slots__ = ()
    # weak references, a tuple of mostly one or two, in a slot of the subclass or in its __dict__
    _watchers: Any

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of all changes to come."""
        new = ref(watcher)
        with _watching:
            known = self._watchers
            if new not in known:
                self._watchers = (*(old for old in known if old() is not None), new)

    def watchers(self) -> list[Any]:
        """Return who watches."""
        return [watcher for old in self._watchers if (watcher := old()) is not None]

    def changed(self) -> None:
        """Tell all watchers."""
        for watcher in self.watchers():
            watcher.invalidate()
