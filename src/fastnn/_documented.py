"""Docstring sections that many functions share, written once."""

from collections.abc import Callable, Mapping
from inspect import cleandoc, signature
from typing import Any, TypeVar

__all__ = ["documented"]

Function = TypeVar("Function", bound=Callable[..., Any])


def documented(parameters: Mapping[str, str], shared: str) -> Callable[[Function], Function]:
    """Insert a Parameters section and the sections `shared` in front of a function's examples.

    Parameters
    ----------
    parameters : mapping of str to str
        The entry of each parameter of the function.
    shared : str
        The sections that follow.

    Returns
    -------
    callable
        A decorator, which returns the function itself.
    """

    def decorate(function: Function) -> Function:
        if function.__doc__:  # there is none under python -OO
            entries = [cleandoc(parameters[name]) for name in signature(function).parameters]
            sections = "\n".join(["Parameters", "----------", *entries, "", cleandoc(shared)])
            doc = cleandoc(function.__doc__)
            function.__doc__ = doc.replace("Examples\n", sections + "\n\nExamples\n")
        return function

    return decorate
