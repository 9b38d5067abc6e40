"""A graph followed from its input to its output: which layer each of its arrays is the output of.

Shapes are concrete: lengths that a file leaves open get small stand-ins. So whatever depends on
shapes alone is computed, and what reorders or selects elements is done to their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastnn import layers
from fastnn._typing import Array, Shape
from fastnn.onnx.arithmetic import OPERATORS, VIEWS, evaluate, expected_size
from fastnn.onnx.operators import DIRECT
from fastnn.onnx.recognize import recognize
from fastnn.onnx.source import Node, Source
from fastnn.onnx.steps import Affine, Data, Given, Spec, Step, Unknown, above, extend, meeting

__all__ = ["Trace"]

# Lengths that are not known: of the batch, and of further axes.
_BATCH, _LENGTHS = 2, (3, 5, 7)
# What a layer is made of at most, in a file: arrays between its input and output, and nodes.
_FURTHEST, _MOST_NODES = 10, 64
# Elements that small graphs may have besides their parameters.
_ROOM = 2**22
# An input with more elements is none, nor are layers that lie deeper within each other.
_LARGEST, _DEEPEST = 2**31, 100


class Trace:
    """The arrays of a graph, and what they have turned out to be.

    Parameters
    ----------
    source : Source

    Attributes
    ----------
    values : dict of str to ndarray, Data or Given
        The ndarrays are known before the model runs.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.room = source.size + _ROOM
        self.values: dict[str, Any] = dict(source.arrays)
        self.makers: dict[str, Node] = {}
        # the last array through which all that an array is computed from has gone, and how many
        self.before: dict[str, tuple[str | None, int]] = {}
        if not source.inputs:
            raise ValueError("expected a graph with an input, got none")
        for i, (name, (dtype, lengths)) in enumerate(source.inputs.items()):
            self.values[name] = self._input(name, dtype, lengths) if i == 0 else Given()
            if i == 0:
                self.before[name] = (None, 0)
                self.root: Step = self.values[name].step

    def _input(self, name: str, dtype: np.dtype[Any], lengths: Shape) -> Data:
        if not lengths or len(lengths) > 1 + len(_LENGTHS) or dtype.kind not in "fiu":
            raise ValueError(
                f"input {name!r}: expected numbers with a batch and up to {len(_LENGTHS)} further "
                f"axes, got {len(lengths)} axes of {dtype}"
            )
        free = (_BATCH, *_LENGTHS)
        shape = tuple(n or free[i] for i, n in enumerate(lengths))
        if prod(shape) > _LARGEST:
            raise ValueError(f"input {name!r}: expected a shape that fits into memory, got {shape}")
        return Data(Step(None, Spec(layers.Sequential), shape, None), None, shape, dtype)

    def run(self) -> list[Step]:
        """Follow the graph and return the steps to its output."""
        for node in self.source.nodes:
            self._take(node)
        name = self.source.output
        found = self.values.get(name)
        if not isinstance(found, Data):
            raise ValueError(f"output {name!r}: expected one computed from the input, got another")
        step, index = found.step, found.index
        if index is not None:
            flat = found.shape == (step.shape[0], step.shape[0] and index.size // step.shape[0])
            ordered = np.array_equal(index.reshape(-1), np.arange(found.step_size()))
            if flat or not ordered:  # another reshaping is left out at the end
                step = self.whole(self.makers[name], found)
        return above(step, self.root)

    def _take(self, node: Node) -> None:
        for name in filter(None, node.inputs):
            if name not in self.values:
                raise ValueError(
                    f"{node}: expected its input {name!r} from a node before it, got none, or a "
                    "cycle"
                )
        inputs = [self.values[name] if name else None for name in node.inputs]
        if node.kind not in DIRECT and node.kind not in OPERATORS:
            raise ValueError(f"{node}: expected an operator that layers are made of, got "
                             f"{node.kind}, which is not supported")
        if any(isinstance(x, Given) for x in inputs) and node.kind != "LSTM":
            if any(isinstance(x, Data) for x in inputs):
                raise ValueError(f"{node}: expected one input of the graph, and further ones for "
                                 "lengths and states of an LSTM alone, got more")
            found: list[Any] = [Given()] * len(node.outputs)
        elif any(isinstance(x, Data) for x in inputs):
            found = self._of_data(node, inputs)
        else:
            self.spend(node, expected_size(node, inputs))
            found = evaluate(node, inputs)
        data = [name for name in node.inputs if isinstance(self.values.get(name), Data)]
        for name, value in zip(node.outputs, found, strict=False):
            if name:
                self.values[name], self.makers[name] = value, node
                if isinstance(value, Data):
                    base = self._common(data)
                    self.before[name] = base, self.before[base][1] + 1

    def spend(self, node: Node, elements: int) -> None:
        """Count elements that are made beside those of the file."""
        self.room -= elements
        if self.room < 0:
            raise ValueError(f"{node}: expected arrays about as large as the file, got shapes of "
                             "many more elements")

    def _common(self, names: list[str]) -> str:
        """Return the last array through which all of these have gone."""
        here = names[0]
        for other in names[1:]:
            while here != other:
                up, depth = self.before[here]
                up_other, depth_other = self.before[other]
                if depth >= depth_other:
                    assert up is not None
                    here = up
                else:
                    assert up_other is not None
                    other = up_other
        return here

    # Data ------------------------------------------------------------------------------------

    def _of_data(self, node: Node, inputs: list[Any]) -> list[Any]:
        if node.kind in ("Identity", "ZipMap"):
            return [inputs[0]]
        if node.kind == "Shape":
            return evaluate(node, [np.broadcast_to(np.int8(0), inputs[0].shape)])
        if node.kind == "Cast" and inputs[0].step.spec.kind is not Unknown:
            return [self._cast(node, inputs[0])]
        if node.kind in VIEWS and isinstance(inputs[0], Data):
            return self._view(node, inputs[0], inputs[1:])
        if node.kind in DIRECT:
            return DIRECT[node.kind](self, node, inputs)
        return [self._arithmetic(node, inputs)]

    def _cast(self, node: Node, data: Data) -> Data:
        (zero,) = evaluate(node, [np.zeros(1, data.dtype)])
        if zero.dtype.kind not in "fiu" or (zero.dtype.kind != "f" and data.step.depth):
            raise ValueError(f"{node}: expected a cast of real numbers, got one to {zero.dtype}")
        return Data(data.step, data.index, data.shape, zero.dtype)

    def numbers(self, node: Node, data: Data) -> Array:
        """Return the numbers of its elements in the output of its step."""
        if data.index is not None:
            return data.index
        self.spend(node, prod(data.shape))
        return np.arange(prod(data.shape)).reshape(data.shape)

    def _view(self, node: Node, data: Data, others: list[Any]) -> list[Any]:
        if any(isinstance(x, Data) for x in others):
            raise ValueError(f"{node}: expected places that are known, got computed ones")
        self.spend(node, expected_size(node, [np.broadcast_to(0, data.shape), *others]))
        found = evaluate(node, [self.numbers(node, data), *others])
        return [self.seen(data.step, index, data.dtype) for index in found]

    @staticmethod
    def seen(step: Step, index: Array, dtype: np.dtype[Any]) -> Data:
        """Return elements of a step by their numbers."""
        if index.shape == step.shape:
            whole = np.arange(index.size).reshape(index.shape)
            if np.array_equal(index, whole):
                return Data(step, None, step.shape, dtype)
        return Data(step, index, index.shape, dtype)

    def whole(self, node: Node, data: Data) -> Step:
        """Return the step whose output is the data, elements in order."""
        step, index = data.step, data.index
        if index is None:
            return step
        batch = step.shape[0] if step.shape else 1
        size = prod(step.shape)
        ordered = index.size == size and np.array_equal(index.reshape(-1), np.arange(size))
        if ordered and data.shape == (batch, size // batch):
            return extend(step, Spec(layers.Flatten), data.shape, node)
        if step.spec.kind is layers.LSTM and step.spec.config["return_sequences"]:
            # the last step of each direction
            width = step.shape[-1]
            every = np.arange(size).reshape(step.shape)
            last = every[:, -1].copy()
            if step.spec.config["bidirectional"]:
                last[:, width // 2 :] = every[:, 0, width // 2 :]
            if np.array_equal(last, index):
                config = step.spec.config | {"return_sequences": False}
                spec = Spec(layers.LSTM, config, step.spec.arrays, step.spec.keys)
                return Step(step.parent, spec, last.shape, step.node)
        raise ValueError(
            f"{node}: expected the elements in the order of the batch, with nothing but Flatten or "
            "the last step of an LSTM between, got another reshaping or selection"
        )

    def _settled(self, node: Node, data: Data) -> Data:
        """Return the data, of a step that has no more elements than they."""
        if data.index is None or data.index.size == data.step_size():
            return data
        step = self.whole(node, data)
        return Data(step, None, step.shape, data.dtype)

    def on_rows(
        self, node: Node, data: Data, spec: Spec, width: int | None = None
    ) -> Data:
        """Return the output of a layer that works on the last axis, for any leading ones."""
        data = self._settled(node, data)
        rows = data.rows()
        if rows is None:
            data = Data(step := self.whole(node, data), None, step.shape, data.dtype)
            rows = data.rows()
            assert rows is not None
        out = data.step.shape[-1] if width is None else width
        step = extend(data.step, spec, (*data.step.shape[:-1], out), node)
        if data.index is None:
            return Data(step, None, step.shape, data.dtype)
        self.spend(node, rows.size * out)
        return self.seen(step, rows[..., None] * out + np.arange(out), data.dtype)

    def on_elements(self, node: Node, data: Data, spec: Spec) -> Data:
        """Return the output of a layer that works element by element."""
        data = self._settled(node, data)
        step = extend(data.step, spec, data.step.shape, node)
        return Data(step, data.index, data.shape, data.dtype)

    # Arithmetic ------------------------------------------------------------------------------

    def _arithmetic(self, node: Node, inputs: list[Any]) -> Data:
        data = [x for x in inputs if isinstance(x, Data)]
        for x in inputs:
            if isinstance(x, np.ndarray) and x.dtype.kind == "f" == data[0].dtype.kind and (
                x.dtype != data[0].dtype
            ):
                raise ValueError(f"{node}: expected arrays of one dtype, got {data[0].dtype} and "
                                 f"{x.dtype}")
        recognized = self._recognized(node, inputs)
        if recognized is not None:
            return recognized
        if len(data) == 1:
            if (affine := _affine(node, inputs, data[0])) is not None:
                scalar = all(x.ndim == 0 for x in affine.arrays.values())
                return (self.on_elements if scalar else self.on_rows)(node, data[0], affine)
        elif node.kind == "Add" and (summed := self._sum(node, *data[:2])) is not None:
            return summed
        step = data[0].step
        for other in data[1:]:
            step = meeting(step, other.step)
        self.spend(node, 2 * expected_size(node, [_zeros(x) for x in inputs]))
        (result,) = evaluate(node, [_zeros(x) for x in inputs])
        unknown = Step(step, Spec(Unknown), result.shape, node)
        dtype = result.dtype
        if node.kind != "Cast" and dtype.kind == "f" == data[0].dtype.kind:
            dtype = data[0].dtype  # erf is computed in float64
        return Data(unknown, None, result.shape, dtype)

    def _sum(self, node: Node, one: Data, other: Data) -> Data | None:
        """Return what x + f(x) is."""
        alike = one.index is other.index is None or (
            one.index is not None and other.index is not None
            and np.array_equal(one.index, other.index)
        )  # fmt: skip
        if one.shape != other.shape or not alike:
            return None
        base = meeting(one.step, other.step)
        if one.step is other.step or base not in (one.step, other.step):
            return None
        inner = above(other.step if base is one.step else one.step, base)
        if inner[-1].shape != base.shape:
            return None
        step = self.container(node, base, layers.Residual, [inner], base.shape)
        return Data(step, one.index, one.shape, one.dtype)

    def container(
        self, node: Node, base: Step, kind: Any, inside: list[list[Step]], shape: Shape
    ) -> Step:
        """Return the step of a container of these branches."""
        step = Step(base, Spec(kind, inside=tuple(inside)), shape, node)
        if step.level > _DEEPEST:
            raise ValueError(f"{node}: expected at most {_DEEPEST} layers within each other")
        return step

    def _recognized(self, node: Node, inputs: list[Any]) -> Data | None:
        """Return the output of the layer that this node completes, if it does."""
        names = [name for name in node.inputs if name in self.before]
        base: str | None = self._common(names)
        between: dict[int, Node] = {}
        waiting = [node]
        shape = None
        for _ in range(_FURTHEST):
            if base is None:
                return None
            # all nodes between base and this one
            while waiting:
                maker = waiting.pop()
                if maker.place in between:
                    continue
                if maker.kind not in OPERATORS or len(between) >= _MOST_NODES:
                    return None
                between[maker.place] = maker
                waiting += [self.makers[given] for given in maker.inputs
                            if given in self.before and given != base]
            data = self.values[base]
            if shape is None:
                zeros = [_zeros(x) for x in inputs]
                self.spend(node, 2 * expected_size(node, zeros))
                shape = evaluate(node, zeros)[0].shape
            if data.shape == shape:
                order = [between[place] for place in sorted(between)]
                function = self._function(base, node.outputs[0], order)
                spec = recognize(function, shape, data.dtype.kind != "f")
                if spec is not None:
                    return self._apply(node, data, spec)
            further = self.before[base][0]
            if further is not None:
                waiting.append(self.makers[base])
            base = further
        return None

    def _apply(self, node: Node, data: Data, spec: Spec) -> Data:
        if spec.kind is layers.Sequential:
            return data
        arrays = {name: array.astype(data.dtype) for name, array in spec.arrays.items()}
        spec = Spec(spec.kind, spec.config, arrays)
        if spec.kind is layers.LayerNorm and len(spec.config["normalized_shape"]) > 1:
            step = extend(self.whole(node, data), spec, data.shape, node)
            return Data(step, None, step.shape, data.dtype)
        if spec.kind in (layers.LayerNorm, layers.Softmax, layers.LogSoftmax):
            return self.on_rows(node, data, spec)
        return self.on_elements(node, data, spec)

    def _function(
        self, base: str, name: str, nodes: list[Node]
    ) -> Callable[[Array], Array]:
        """Return what these nodes compute of an array, in float64."""

        def function(x: Array) -> Array:
            values: dict[str, Any] = {base: x}
            for node in nodes:
                given = [None if not n else values[n] if n in values else _wide(self.values[n])
                         for n in node.inputs]
                values.update(zip(node.outputs, map(_wide, evaluate(node, given)), strict=False))
            result: Array = values[name]
            return result

        return function


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _zeros(x: Any) -> Any:
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Data) else x


def _affine(node: Node, inputs: list[Any], data: Data) -> Spec | None:
    """Return scale and shift of a node that has one operand in the file."""
    if node.kind == "Neg":
        return Spec(Affine, arrays={"scale": np.asarray(-1.0), "shift": np.asarray(0.0)})
    if node.kind not in ("Add", "Sub", "Mul", "Div") or len(inputs) != 2:
        return None
    place = 1 if inputs[0] is data else 0
    given = inputs[place]
    width = data.shape[-1] if data.shape else 1
    if given.ndim > len(data.shape) or given.dtype.kind not in "fiu":
        return None
    if given.size != 1 and not (given.size == width == given.shape[-1]):
        return None
    number = given.astype(np.float64).reshape(() if given.size == 1 else width)
    one, zero = np.float64(1), np.float64(0)
    keys = {}
    if node.kind == "Add":
        scale, shift, keys = one, number, {"shift": (node.inputs[place], "")}
    elif node.kind == "Sub":
        scale, shift = (one, -number) if place else (-one, number)
    elif node.kind == "Mul":
        scale, shift = number, zero
    elif place:
        with np.errstate(all="ignore"):
            scale, shift = 1 / number, zero
    else:
        return None
    arrays = {"scale": np.asarray(scale), "shift": np.asarray(shift)}
    return Spec(Affine, arrays=arrays, keys=keys)
