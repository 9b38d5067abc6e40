"""What a graph has turned out to compute so far: layers, one upon the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import layers
from fastnn._typing import Array, Shape
from fastnn.onnx.source import Node

__all__ = [
    "Affine", "Data", "Given", "Spec", "Step", "Unknown", "above", "extend", "flatten", "meeting",
]


class Unknown:
    """In the place of a layer: a node that is none, though it may be part of one."""


class Affine:
    """In the place of a layer: scale x + shift, for a neighbour to take over."""


class Given:
    """In the place of data: an input besides the first, such as the lengths of sequences."""


@dataclass(frozen=True)
class Spec:
    """A layer that is not made yet.

    Attributes
    ----------
    kind : class
    config : dict
        Its arguments.
    arrays : dict of str to ndarray
        Its parameters and buffers.
    keys : dict
        For those that are arrays of the file what they are; the same is one parameter.
    inside : tuple of list of Step
        Of a container the layers of each of its branches.
    """

    kind: Any
    config: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    inside: tuple[list[Step], ...] = ()


class Step:
    """A layer, on the output of another.

    Attributes
    ----------
    parent : Step or None
        What it reads; None for the input of the graph.
    spec : Spec
    shape : tuple of int
        Of its output, with the batch first and stand-ins for lengths that are not known.
    node : Node or None
        Where it comes from, for messages.
    level : int
        How many layers there are within each other.
    """

    def __init__(self, parent: Step | None, spec: Spec, shape: Shape, node: Node | None) -> None:
        self.parent, self.spec, self.shape, self.node = parent, spec, shape, node
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.level: int = 1 + max((s.level for part in spec.inside for s in part), default=0)


@dataclass(frozen=True)
class Data:
    """An array of the graph: elements of a step's output in some order.

    Attributes
    ----------
    step : Step
    index : ndarray of int or None
        For each element its number in the output; None for the output as it is.
    shape : tuple of int
    dtype : numpy.dtype
    """

    step: Step
    index: Array | None
    shape: Shape
    dtype: np.dtype[Any]

    def rows(self) -> Array | None:
        """Return the number of each row, if the last axis is that of the output; else None."""
        width = self.step.shape[-1]
        if self.index is None:
            return np.arange(self.step_size() // max(1, width)).reshape(self.shape[:-1])
        if not self.shape or self.shape[-1] != width or not width:
            return None
        rows = self.index[..., 0] // width
        whole = rows[..., None] * width + np.arange(width)
        return rows if np.array_equal(whole, self.index) else None

    def step_size(self) -> int:
        """Return how many elements the step has."""
        return int(np.prod(self.step.shape))


def meeting(one: Step, other: Step) -> Step:
    """Return the last step that both read."""
    while one is not other:
        if one.depth >= other.depth:
            assert one.parent is not None
            one = one.parent
        else:
            assert other.parent is not None
            other = other.parent
    return one


def above(step: Step, base: Step) -> list[Step]:
    """Return the steps that lead from `base` to `step`, without `base`."""
    found = []
    while step is not base:
        found.append(step)
        assert step.parent is not None
        step = step.parent
    return found[::-1]


# An affine map is taken over by the dense layer or LSTM beside it ---------------------------------


def extend(step: Step, spec: Spec, shape: Shape, node: Node | None) -> Step:
    """Return the step of a layer on `step`, joined to that where one of them is affine."""
    before, base = step.spec, step.parent
    if spec.kind is Affine and base is not None:
        scale, shift = spec.arrays["scale"], spec.arrays["shift"]
        if before.kind is layers.Linear:
            return Step(base, _scaled(before, spec), shape, node)
        if before.kind is Affine:
            arrays = {"scale": before.arrays["scale"] * scale,
                      "shift": before.arrays["shift"] * scale + shift}
            return Step(base, Spec(Affine, arrays=arrays), shape, node)
    if before.kind is Affine:
        scale, shift = before.arrays["scale"], before.arrays["shift"]
        taken = None
        if spec.kind is layers.Linear:
            taken = _taken(spec, [("weight", "bias")], scale, shift)
        elif spec.kind is layers.LSTM:
            names = [name for name in spec.arrays if name.startswith("weight_ih")]
            pairs = [(name, name.replace("weight", "bias")) for name in names]
            taken = _taken(spec, pairs, scale, shift)
        if taken is not None:
            return Step(base, taken, shape, node)
    return Step(step, spec, shape, node)


def _scaled(linear: Spec, affine: Spec) -> Spec:
    """Return the dense layer that also does what comes after it."""
    scale, shift = affine.arrays["scale"], affine.arrays["shift"]
    weight, bias = linear.arrays["weight"], linear.arrays.get("bias")
    keys: dict[str, Any] = {}
    if (scale == 1).all():
        if "weight" in linear.keys:
            keys["weight"] = linear.keys["weight"]
        if bias is None and "shift" in affine.keys:
            keys["bias"] = affine.keys["shift"]
    else:
        weight = np.asarray(weight * np.reshape(scale, (-1, 1)), weight.dtype)
    out = weight.shape[0]
    shifted = (0 if bias is None else bias) * np.float64(1) * scale + shift
    arrays = {"weight": weight, "bias": np.broadcast_to(shifted, out).astype(weight.dtype)}
    return Spec(linear.kind, linear.config | {"bias": True}, arrays, keys)


def _taken(spec: Spec, pairs: list[tuple[str, str]], scale: Array, shift: Array) -> Spec:
    """Return the layer whose weights also do what comes before it."""
    arrays = dict(spec.arrays)
    for weight, bias in pairs:
        old = arrays[weight]
        arrays[weight] = np.asarray(old * scale, old.dtype)
        moved = old.astype(np.float64) @ np.broadcast_to(shift, old.shape[1])
        arrays[bias] = np.asarray(moved + arrays.get(bias, 0), old.dtype)
    config = spec.config | ({"bias": True} if "bias" in spec.config else {})
    return Spec(spec.kind, config, arrays)


def flatten(steps: list[Step]) -> Iterator[Step]:
    """Yield the steps of a branch and all inside them."""
    for step in steps:
        yield step
        for branch in step.spec.inside:
            yield from flatten(branch)
