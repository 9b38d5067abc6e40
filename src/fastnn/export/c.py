"""A model as one file of C, that predicts and may go on learning."""

from __future__ import annotations

import re
from math import prod
from os import PathLike
from typing import Any

import numpy as np

from fastnn._door.arrays import describe
from fastnn._door.numbers import shape as checked_shape
from fastnn._files import as_path, write_file
from fastnn._planning.builder import Operation, Room, RowCount
from fastnn._planning.schedule import Schedule
from fastnn._typing import Array, Shape
from fastnn.export.pieces import ACTIVATIONS, PIECES, functions
from fastnn.export.rules import Rules
from fastnn.introspection.graph import known_shape
from fastnn.layers.base import Layer
from fastnn.losses import resolve
from fastnn.losses.loss import Loss
from fastnn.optim.base import Optimizer
from fastnn.training.plan import make_program

__all__ = ["export_c"]

_LINEAR = ("linear_forward", "linear_backward_input", "linear_backward_weight")


def export_c(
    model: Layer,
    path: str | PathLike[str],
    *,
    optimizer: Optimizer | None = None,
    loss: str | Loss = "mse",
    name: str = "net",
    input_shape: Shape | None = None,
) -> None:
    """Write a model as one file of C99 that holds its weights and needs math.h alone.

    With T for ``float`` or ``double``, the model's dtype, the file defines

    - ``void net_predict(const T *x, T *y)``: the model as it predicts, for one sample; for a
      recurrent model the next step of a sequence, from (features,) to (outputs,);
    - ``void net_reset(void)``, for recurrent models: a new sequence begins;
    - ``T net_train(const T *x, const T *target)``, with an optimizer: one step on one sample, as
      ``Trainer(model, loss, optimizer).step`` takes it; returns the loss before the update.

    Nothing is allocated. What changes lies in static arrays, so that one thread at a time may call.

    Parameters
    ----------
    model : Layer
    path : str or path
    optimizer : Optimizer, optional
        Over parameters of the model, with constant hyper-parameters. Its states and its step count
        are written, too. Not for recurrent layers and `BatchNorm1d`.
    loss : str or Loss
        As a `Trainer` takes it. A label of cross entropy is one number, and so are indices of an
        `Embedding`.
    name : str
        What the names of the functions begin with.
    input_shape : tuple of int, optional
        Of one sample, or of one step, where the model takes several shapes; by default what the
        first layer expects.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a part of the model is in Python.
    ValueError
        If `name` is no identifier, the shape is not known or does not fit, or the model, the loss
        or the optimizer cannot be exported. Nothing is written then.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastnn, tempfile, pathlib
    >>> model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.ReLU(), fastnn.Linear(8, 2), rng=0)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.c"
    >>> fastnn.export_c(model, path, optimizer=fastnn.optim.SGD(model.parameters(), lr=0.1))
    >>> "float net_train(const float *x, const float *target)" in path.read_text()
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a fastnn layer, got {describe(model)}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"name: expected an identifier of C, got {name!r}")
    as_path(path)
    with model._built().lock:
        text = _File(model, name, input_shape, optimizer, loss).text()
    write_file(path, [text.encode()])


class _File:
    """The text of an exported model, as it is put together."""

    def __init__(
        self,
        model: Layer,
        name: str,
        input_shape: Shape | None,
        optimizer: Optimizer | None,
        loss: Any,
    ) -> None:
        self.model, self.name, self.dtype = model, name, model._built().dtype
        self.rules: Rules | None = None
        self.needed: dict[str, None] = {}
        self.declared: dict[Any, str] = {}  # arrays and storages by what they are
        self.definitions: list[str] = []
        self.moving: set[int] = set()  # values of parameters that are trained
        self.states: list[tuple[str, int]] = []
        self.known: dict[Room, Any] = {}
        recurrent = [
            (path, layer) for path, layer in model._places()
            if hasattr(type(layer), "final_state")
        ]  # fmt: skip
        for path, layer in recurrent:
            if getattr(layer, "bidirectional", False):
                raise ValueError(
                    f"layer {path or type(layer).__name__}: expected one that reads sequences "
                    "forwards, got bidirectional=True"
                )
        shape = self._sample_shape(input_shape, [layer for _, layer in recurrent])
        given = (1, *shape) if recurrent else shape
        schedule = model._schedule(given, False, frozen=True)
        training, self.scale = None, 0.0
        if optimizer is not None:
            if not isinstance(optimizer, Optimizer):
                raise TypeError(
                    f"optimizer: expected a fastnn optimizer, got {describe(optimizer)}"
                )
            training = self._training(optimizer, loss, shape, recurrent)
        self.transposed = self._layouts([schedule, *([training] if training else [])])
        self.predict = self._statements(schedule)
        self.train = None if training is None else self._statements(training)
        self.updates: list[str] = [] if self.rules is None else self.rules.statements(self._of_rule)
        self.shapes = shape, schedule.y.shape[1:] if len(schedule.y.shape) > 1 and recurrent else (
            schedule.y.shape)  # fmt: skip

    def _sample_shape(self, given: Shape | None, recurrent: list[Any]) -> Shape:
        """The shape of a sample or, of a recurrent model, of a step."""
        if given is not None:
            return checked_shape("input_shape", given)
        if recurrent and self.model.input_shape() is None:
            if self.model._takes_integers:
                return ()
            first: Any = recurrent[0]
            if getattr(self.model, "layers", recurrent)[0] is recurrent[0]:
                return (int(first.input_size),)
        return known_shape(self.model, None)

    def _training(
        self, optimizer: Optimizer, loss: Any, shape: Shape, recurrent: list[Any]
    ) -> Schedule:
        """The schedule of a training step, with the loss as its last forward operation."""
        if recurrent:
            raise ValueError(
                f"optimizer: expected None for a model with recurrent layers, got "
                f"{type(optimizer).__name__}"
            )
        found = resolve(loss)
        if not isinstance(found, Loss):
            raise TypeError(
                f"loss: expected a name or a loss of fastnn.losses, got {describe(loss)}"
            )
        self.rules, self.loss = Rules(optimizer), found
        held = {p for group in optimizer.groups for p in group["params"]}
        if not held <= set(self.model.parameters()):
            raise ValueError("optimizer: expected parameters of the model, got others")
        self.moving = {id(p.array) for p in held if p.trainable}
        schedule: Schedule = make_program(
            self.model, shape, found, trained=frozenset(held)
        ).schedule
        layout = found.layout(schedule.y.shape)
        if found.target == "labels" and found.reduction == "mean" and (
            found.class_weight is not None or found.ignore_index is not None
        ):  # fmt: skip
            self.scale = 0.0  # a mean over what the labels weigh
        elif found.reduction == "mean":
            self.scale = 1 / (layout.weights * layout.elements)
        else:
            self.scale = 1.0
        self.target_size = prod(layout.target)
        return schedule

    # Arrays ----------------------------------------------------------------------------------

    def _layouts(self, schedules: list[Schedule]) -> set[int]:
        """The arrays that products read with an input's weights side by side."""
        products: set[int] = set()
        others: set[int] = set()
        for op in [op for schedule in schedules for op in schedule.operations]:
            for place, pointer in enumerate(op.pointers):
                if isinstance(pointer, np.ndarray):
                    matrix = {
                        "linear_forward": 2,
                        "linear_backward_input": 2,
                        "linear_backward_weight": 0,
                        "lstm_pack": 3,
                    }.get(op.kernel)
                    (products if place == matrix else others).add(id(pointer))
        for op in [op for schedule in schedules for op in schedule.operations]:
            both = [p for p in op.pointers if id(p) in products & others]
            if both:
                raise ValueError(
                    f"layer {op.scope}: expected a weight of its own, got one that a Linear shares "
                    "with a layer of another kind"
                )
        for parameter in self.model.parameters():
            if id(parameter.array) in products:
                products.add(id(parameter.grad_array))
        return products

    def _array(self, array: Array) -> str:
        """The name of an array of the model's own, declared at first use."""
        if id(array) not in self.declared:
            name = f"a{len(self.declared)}"
            for parameter in self.model.parameters():
                for kind, own in (("", parameter.array), ("d_", parameter.grad_array)):
                    if own is array:
                        name = f"{kind}{re.sub(r'[^A-Za-z0-9]', '_', parameter.name)}"
                        name = f"p_{name}"
                        if kind:
                            self._define(name, "real", array.size)
                            self.declared[id(array)] = name
                            return name
            if name in self.declared.values():
                name = f"{name}_{len(self.declared)}"
            values = array.T if id(array) in self.transposed else array
            self._define(
                name, "unsigned long long" if array.dtype == np.uint64 else "real", array.size,
                values, const=array.dtype != np.uint64 and id(array) not in self.moving,
            )  # fmt: skip
            self.declared[id(array)] = name
        return self.declared[id(array)]

    def _of_rule(self, parameter: Any, kind: str, array: Array | None) -> str:
        if kind == "data":
            return self._array(parameter.array)
        if kind == "grad":
            return self._array(parameter.grad_array)
        assert array is not None
        key = (id(parameter), kind)
        if key not in self.declared:
            self.declared[key] = f"{self._array(parameter.array)}_{kind}"
            values = array.T if id(parameter.array) in self.transposed else array
            self._define(self.declared[key], "real", array.size, values if array.any() else None)
        return self.declared[key]

    def _define(
        self, name: str, kind: str, size: int, values: Array | None = None, const: bool = False
    ) -> None:
        line = f"static {'const ' if const else ''}{kind} {name}[{max(size, 1)}]"
        if values is not None:
            line += " = {\n" + _wrapped([self._number(v) for v in values.ravel()]) + "}"
        self.definitions.append(line + ";")

    def _number(self, value: Any) -> str:
        if value.dtype.kind == "u":
            return f"{int(value)}ULL"
        if np.isnan(value):
            return "NAN"
        if np.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        text = f"{value:.9g}" if self.dtype.itemsize == 4 else f"{value:.17g}"
        text += "" if set(".e") & set(text) else ".0"
        return text + ("f" if self.dtype.itemsize == 4 else "")

    def _pointer(self, p: Any) -> str:
        """What stands for a pointer of an operation in a call."""
        p = self.known.get(p, p) if isinstance(p, Room) else p
        if p is None:
            return "0"
        if isinstance(p, np.ndarray):
            return self._array(p)
        if isinstance(p, Room):
            return self._buffer(p.storage, p.dtype, p.storage.bytes)
        root = p.root
        if root.slot is not None:
            return root.slot if root.slot in ("x", "y", "target") else "0"
        return self._buffer(root.storage, root.dtype, root.row_bytes)

    def _buffer(self, storage: Any, dtype: Any, size: int) -> str:
        key = (id(storage), dtype.num)
        if key not in self.declared:
            self.declared[key] = f"b{len(self.declared)}"
            kind = "unsigned char" if dtype == np.uint8 else "real"
            self._define(self.declared[key], kind, size // dtype.itemsize)
            self.kept = [*getattr(self, "kept", []), storage]  # whose address is a key
        return self.declared[key]

    # Statements ------------------------------------------------------------------------------

    def _statements(self, schedule: Schedule) -> list[str]:
        lines = []
        for state in schedule.random_states:
            lines.append(f"{self._array(state)}[1]++;")
        for op in schedule.operations:
            lines += self._statement(schedule, op)
        return lines

    def _statement(self, schedule: Schedule, op: Operation) -> list[str]:
        sizes = [s.per_sample if isinstance(s, RowCount) else int(s) for s in op.sizes]
        if op.python is not None:
            raise TypeError(
                f"model: expected a fastnn layer of kernels alone, got one with "
                f"{op.kernel} in Python"
            )
        if op.kernel == "lstm_pack":
            weight, bias_ih, bias_hh = op.pointers[3:]
            assert isinstance(bias_ih, np.ndarray)
            assert isinstance(bias_hh, np.ndarray)
            packed, bias = op.pointers[0], op.pointers[2]
            assert isinstance(packed, Room)
            assert isinstance(bias, Room)
            self.known[packed], self.known[bias] = weight, bias_ih + bias_hh
            return []
        if op.kernel == "lstm_forward":
            return self._lstm(op, sizes)
        if op.kernel not in PIECES:
            trained = " and trained" if self.rules else ""
            raise ValueError(
                f"model: expected layers that can be exported{trained}, got layer "
                f"{op.scope or type(self.model).__name__} ({op.kernel})"
            )
        self.needed[op.kernel] = None
        if op.kernel.endswith("_loss"):
            return self._loss_call(op, sizes)
        p = [self._pointer(pointer) for pointer in op.pointers]
        numbers: list[Any] = [*sizes, *op.scalars]
        base = op.kernel.rpartition("_")[0]
        lines: list[str] = []
        if base in ACTIVATIONS:
            n = sizes[0] * op.items
            alpha = [op.scalars[0]] if "double alpha" in PIECES[op.kernel][1] else []
            numbers = [n, *alpha]
            if op.kernel.endswith("_forward"):
                (y, x), p = p, p[:1]
                if x != y:
                    self.needed["copy"] = None
                    lines.append(f"copy({y}, {x}, {n});")
        elif op.kernel == "add_forward":
            numbers = [sizes[0] * op.items]
        elif op.kernel == "gather_rows":
            numbers = [sizes[0] // self.dtype.itemsize, op.items]
        elif base in ("softmax", "log_softmax"):
            numbers = [sizes[0], op.items]
        elif op.kernel == "batch_norm_inference":
            pass
        elif op.contract.accumulates:
            if op.kernel == "linear_backward_input":
                numbers.append(op.items)
            numbers.append(op.accumulate)
        else:
            numbers.append(op.items)
        return [*lines, f"{op.kernel}({', '.join(p)}, {', '.join(map(_text, numbers))});"]

    def _loss_call(self, op: Operation, sizes: list[int]) -> list[str]:
        """The gradient of the predictions, and the loss."""
        gradient, pred = (self._pointer(p) for p in op.pointers[1:3])
        constants = [self._pointer(p) for p in op.pointers[5:]]
        if op.kernel == "gaussian_nll_loss":
            sizes = sizes[:1]
        numbers = [*sizes, self.scale, *op.scalars[1:], op.items]
        arguments = [gradient, pred, "target", *constants, *map(_text, numbers)]
        return [f"loss = {op.kernel}({', '.join(arguments)});"]

    def _lstm(self, op: Operation, sizes: list[int]) -> list[str]:
        """A step: the gates' sums, then gates and cell."""
        hidden, _, _, start = sizes[:4]
        gates, products = self._pointer(op.pointers[0]), self._pointer(op.pointers[5])
        if gates == products:  # in place in a program, but not in a product
            gates = self._buffer(op, self.dtype, 4 * hidden * self.dtype.itemsize)
        weight = self._pointer(op.pointers[8])
        h, c = f"h{len(self.states)}", f"c{len(self.states)}"
        for state in (h, c):
            self._define(state, "real", hidden)
            self.states.append((state, hidden))
        self.needed |= dict.fromkeys(("linear_forward", "lstm_cell"))
        y = self._pointer(op.pointers[4])
        return [
            f"linear_forward({gates}, {h}, {weight}, {products}, {hidden}, {4 * hidden}, 1);",
            f"lstm_cell({y}{f' + {start}' if start else ''}, {h}, {c}, {gates}, {hidden});",
        ]

    # The file --------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the file."""
        real, single = ("float", True) if self.dtype.itemsize == 4 else ("double", False)
        n_in, n_out = (prod(shape) for shape in self.shapes)
        heads = [f"void {self.name}_predict(const {real} *x, {real} *y)"]
        bodies = [self.predict]
        if self.states:
            heads.append(f"void {self.name}_reset(void)")
            bodies.append(
                [
                    "int i;",
                    *(
                        f"for (i = 0; i < {size}; i++) {state}[i] = 0;"
                        for state, size in self.states
                    ),
                ]
            )
        what = f"x: {n_in}, y: {n_out}"
        if self.train is not None and self.rules is not None:
            heads.append(f"{real} {self.name}_train(const {real} *x, const {real} *target)")
            bodies.append(["double loss;", *self.rules.variables, *self.train, *self.updates,
                           "return (real)loss;"])  # fmt: skip
            what += f", target: {self.target_size}"
            self.needed |= dict.fromkeys(self.rules.needs)
        macro = f"#define FN(name) name{'##f' if single else ''}"
        code = functions(self.needed, single)
        parts = [
            f"/* A neural network, written by fastnn.export_c. Elements of {what} */",
            "#include <math.h>",
            "\n".join(f"{head};" for head in heads),
            f"typedef {real} real;",
        ]
        if "FN(" in code:
            parts.append(macro)
        parts += self.definitions
        if self.train is not None and self.rules is not None:
            parts += self.rules.declarations()
        parts.append(code)
        for head, body in zip(heads, bodies, strict=True):
            parts.append(f"{head} {{\n" + "\n".join(f"    {line}" for line in body) + "\n}")
        return "\n\n".join(parts) + "\n"


def _text(number: Any) -> str:
    if isinstance(number, (bool, int, np.integer)):
        return str(int(number))
    return repr(float(number))


def _wrapped(words: list[str]) -> str:
    """Numbers in lines of up to 100 characters."""
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 97:
            lines.append(line)
            line = ""
        line += f"{word}, "
    lines.append(line)
    return "\n".join(line.rstrip() for line in lines).rstrip(",")
