"""Arrays in dicts and nested lists: their names, and gradients of the same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from fastnn._door.arrays import as_list, describe, view

__all__ = ["Form", "collect", "gradients"]

# The form of nested arrays: a dict by key, a list by position, None where an array stands.
Form: TypeAlias = dict[Any, Any] | list[Any] | None


def _is_node(obj: Any) -> bool:
    """Whether it holds arrays, rather than being one or what someone has taken for one."""
    if isinstance(obj, np.ndarray) or hasattr(obj, "grad_array"):  # as most are
        return False
    if isinstance(obj, Mapping):
        return True
    single = isinstance(obj, (str, bytes)) or hasattr(obj, "__array__") or view(obj) is not None
    return not single and isinstance(obj, Iterable)


def collect(tree: Any) -> tuple[Form, list[Any], list[str | None]]:
    """Take arrays in dicts and nested lists apart.

    Returns
    -------
    form : Form
        What `gradients` expects gradients to look like.
    arrays : list
        The arrays in order.
    names : list of (str or None)
        Their keys joined by dots, and their positions; None in a list of arrays and nothing else.

    Examples
    --------
    >>> w, b = np.ones(2), np.ones(1)
    >>> collect({"layer": [w, b]})[2]
    ['layer[0]', 'layer[1]']
    """
    arrays: list[Any] = []
    names: list[str | None] = []
    form = _walk(tree, "", arrays, names)
    flat = form is None or (isinstance(form, list) and all(part is None for part in form))
    return form, arrays, [None] * len(names) if flat else names


def _walk(node: Any, name: str, arrays: list[Any], names: list[str | None]) -> Form:
    # no closure: one that calls itself would keep the arrays until the cyclic collector runs
    if not _is_node(node):
        arrays.append(node)
        names.append(name)
        return None
    if isinstance(node, Mapping):
        return {
            key: _walk(part, f"{name}.{key}" if name else str(key), arrays, names)
            for key, part in node.items()
        }
    return [
        _walk(part, f"{name or 'params'}[{i}]", arrays, names) for i, part in enumerate(node)
    ]


def gradients(form: Form, given: Any, name: str = "grads") -> list[Any]:
    """Return gradients in the order of the arrays; None for those that have none.

    Raises
    ------
    TypeError, ValueError
        If they are not of that form.

    Examples
    --------
    >>> gradients({"w": None, "b": [None, None]}, {"b": None, "w": [1.0]})
    [[1.0], None, None]
    """
    if form is None:
        return [given]
    keys = list(form) if isinstance(form, dict) else list(range(len(form)))
    if given is None:  # for all that are in there
        given = dict.fromkeys(keys)
    elif isinstance(form, dict):
        if not isinstance(given, Mapping):
            raise TypeError(f"{name}: expected a dict, as params is one, got {describe(given)}")
        if given.keys() != form.keys():
            raise ValueError(
                f"{name}: expected the keys {_listed(form)}, as params has, got {_listed(given)}"
            )
    else:
        given = as_list(given, name)
        if len(given) != len(form):
            raise ValueError(
                f"{name}: expected {len(form)} members, as params has, got {len(given)}"
            )
    return [
        gradient
        for key in keys
        for gradient in gradients(form[key], given[key], f"{name}[{key!r}]")
    ]


def _listed(keys: Iterable[Any]) -> str:
    return ", ".join(map(repr, keys))
