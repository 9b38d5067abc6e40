"""Attributes of layers: options, which may be changed, and what stays as the constructor set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from fastnn._planning.watched import Watched

__all__ = ["fixed", "option"]

Kept = TypeVar("Kept")


class option(Generic[Kept]):
    """An attribute of a layer that takes effect at the next call.

    Parameters
    ----------
    check : callable
        Called with the attribute's name and a value; returns the value to keep, or raises.
    """

    def __init__(self, check: Callable[[str, Any], Kept]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Watched, owner: type) -> Kept: ...
    def __get__(self, layer: Watched | None, owner: type | None = None) -> Any:
        return self if layer is None else layer.__dict__[self.name]

    def __set__(self, layer: Watched, value: Kept) -> None:
        layer.__dict__[self.name] = self.check(self.name, value)
        layer.changed()


class fixed(Generic[Kept]):
    """An attribute that gives a layer its shape: set by the constructor, and then no more."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Watched, owner: type) -> Kept: ...
    def __get__(self, layer: Watched | None, owner: type | None = None) -> Any:
        if layer is None:
            return self
        try:
            return layer.__dict__[self.name]
        except KeyError:
            raise AttributeError(f"{type(layer).__name__} has no {self.name} yet") from None

    def __set__(self, layer: Watched, value: Kept) -> None:
        if self.name in layer.__dict__:
            raise AttributeError(
                f"{self.name}: expected to stay {layer.__dict__[self.name]!r}, which gives the "
                f"{type(layer).__name__} its shape, got {value!r}; make a new layer"
            )
        layer.__dict__[self.name] = value
