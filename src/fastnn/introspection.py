"""Summaries and pictures of a model, read from the very schedule that its program runs."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from fastnn._graph_svg import draw
from fastnn._kernels._program import Program
from fastnn.builder import BACKWARD, FORWARD, GRADIENT, Operation, Schedule, Value

__all__ = ["graph", "summary"]

TITLES = {FORWARD: "forward", BACKWARD: "backward", GRADIENT: "parameter gradients"}


def summary(layer: Any, batch_size: int = 1, input_shape: tuple[int, ...] | None = None) -> str:
    """Return a table of a model's layers, and what they take of memory.

    Parameters
    ----------
    layer : Layer
    batch_size : int
        For which the bytes are counted.
    input_shape : tuple of int, optional
        Shape per sample; taken from the first layer or the last call when not given.

    Returns
    -------
    str
        One row for each layer: its name and options, the shape of its output, its parameters, and
        the bytes of what it computes (or gets, in the row of x) that the backward pass reads.

    Raises
    ------
    ValueError
        If the shape is not known or does not fit, or `batch_size` is not positive.
    """
    if not isinstance(batch_size, Integral) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size: expected an integer, got {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected a positive integer, got {batch_size}")
    schedule = layer._schedule(_known_shape(layer, input_shape), training=True)
    program = Program(schedule)
    program.reserve(int(batch_size))
    kept = _kept_bytes(schedule, batch_size)
    header = ("layer", "output", "parameters", "bytes kept for backward")
    rows = [("x", _shape(schedule.x.shape, batch_size), "", f"{kept.get(None, 0):,}")]
    seen: set[int] = set()
    for scope in schedule.scopes:
        own = [p for p in scope.layer._parameters.values() if id(p) not in seen]
        seen.update(map(id, own))
        count = sum(p.size for p in own)
        inside = bool(scope.layer.children())
        what = type(scope.layer).__name__ if inside else repr(scope.layer)
        name = "  " * (scope.depth - 1) + f"{scope.path.rpartition('.')[2]} {what}".strip()
        size = kept.get(scope.path, 0)
        rows.append((
            name, _shape(scope.output.shape, batch_size),
            f"{count:,}" if count or not inside else "", f"{size:,}" if size or not inside else "",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]

    def line(row: tuple[str, ...]) -> str:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        return "  ".join(left + right).rstrip()

    rule = "-" * (sum(widths) + 6)
    parameters = sum(p.size for p in layer.parameters())
    arena = parameters * schedule.dtype.itemsize
    totals = [
        ("parameters", f"{parameters:,} {schedule.dtype}: {arena:,} bytes, and for their gradients "
                       f"{arena:,}"),
        ("kept for backward", f"{sum(kept.values()):,} bytes for a batch of {batch_size}"),
        ("program", f"{program.nbytes:,} bytes for a batch of {batch_size}; "
                    f"{len(schedule.operations)} operations in {len(schedule.calls)} calls"),
    ]  # fmt: skip
    return "\n".join([
        line(header), rule, *map(line, rows), rule,
        *(f"{title + ':':<19}{text}" for title, text in totals),
    ])  # fmt: skip


def graph(layer: Any, format: str = "text", input_shape: tuple[int, ...] | None = None) -> str:
    """Return the operations of a model's forward and backward pass, and what they pass on.

    Parameters
    ----------
    layer : Layer
    format : {"text", "dot", "svg"}
        A list in the order of execution; the language of Graphviz; a picture.
    input_shape : tuple of int, optional
        Shape per sample; taken from the first layer or the last call when not given.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the format is unknown, or the shape is not known or does not fit.
    """
    formats = {"text": _text, "dot": _dot, "svg": draw}
    if format not in formats:
        raise ValueError(f"format: expected one of {', '.join(formats)}, got {format!r}")
    schedule = layer._schedule(_known_shape(layer, input_shape), training=True)
    return formats[format](Graph(layer, schedule))


def _known_shape(layer: Any, given: Any) -> tuple[int, ...]:
    if given is not None:
        extents = (given,) if isinstance(given, Integral) else tuple(given)
        if not all(isinstance(n, Integral) and n >= 0 for n in extents):
            raise ValueError(f"input_shape: expected integers >= 0, got {given!r}")
        return tuple(map(int, extents))
    if (shape := layer.input_shape()) is not None:
        return shape
    shapes = [key[1] for key in layer._model().programs if key[0] == id(layer)]
    if not shapes:
        raise ValueError(
            f"input_shape: expected the shape of one sample, since {type(layer).__name__} takes "
            "any and has not been called yet; got None"
        )
    return shapes[-1]


def _kept_bytes(schedule: Schedule, batch_size: int) -> dict[str | None, int]:
    """Return the bytes kept for backward by the scope that computes them; None: the caller's."""
    maker = {}
    for op in schedule.operations:
        for value in op.written:
            maker.setdefault(value, op.scope)
    kept: dict[str | None, int] = {}
    counted = set()
    for value in schedule.kept_for_backward():
        place, others = value.storage or value, value.slot and value is not schedule.x
        if place not in counted and not others:
            counted.add(place)
            scope = maker.get(value)
            kept[scope] = kept.get(scope, 0) + value.row_bytes * batch_size
    return kept


def _shape(shape: tuple[int, ...], batch: Any = "batch") -> str:
    return f"({', '.join(map(str, (batch, *shape)))}{',' if not shape else ''})"


class Graph:
    """The operations of a schedule with names, and what flows from one to the other."""

    def __init__(self, layer: Any, schedule: Schedule) -> None:
        self.schedule = schedule
        self.title = f"{type(layer).__name__} ({schedule.dtype})"
        self.fused = {id(op) for op in schedule.operations} - {id(op) for op in schedule.calls}
        self._arrays: dict[int, str] = {}
        for path, part in layer._layers():
            before = f"{path}." if path else ""
            for p in part._parameters.values():
                self._arrays[p.data.ctypes.data] = p.name
                self._arrays[p.grad.ctypes.data] = f"d{p.name}"
            for name, buffer in part._buffers.items():
                self._arrays[buffer.data.ctypes.data] = before + name
        for name, array in schedule.arrays:
            self._arrays[array.ctypes.data] = name
        self.layers = {scope.path: scope.layer for scope in schedule.scopes}
        self._connect()

    def _connect(self) -> None:
        """Find who computes what each operation reads: an operation, or the caller."""
        writers: dict[Value, list[Operation]] = {}
        self.edges: list[tuple[Operation | str, Operation, Value]] = []
        for op in self.schedule.operations:
            for value in dict.fromkeys(op.read):
                sources = writers.get(value, [value.slot] if value.slot else [])
                self.edges += [(source, op, value) for source in sources]
            for value in dict.fromkeys(op.written):
                if op.accumulate:
                    writers[value] = []
                # more than one: each writes a part
                writers.setdefault(value, []).append(op)
        results = {"y": self.schedule.y.root, "dx": self.schedule.x.grad.root}
        # the operations that compute what the caller gets
        self.outputs = {slot: writers[value] for slot, value in results.items() if value in writers}

    def name(self, pointer: Any) -> str:
        """What to call a value, a parameter, or nothing."""
        if pointer is None:
            return "-"
        if isinstance(pointer, Value):
            return pointer.slot or pointer.name
        return self._arrays[pointer.ctypes.data]

    def shaped(self, pointer: Any) -> str:
        """Its name and shape."""
        shape = _shape(pointer.shape) if isinstance(pointer, Value) else str(pointer.shape)
        return f"{self.name(pointer)} {shape}"

    def results(self, op: Operation) -> list[Any]:
        """What an operation writes."""
        return [p for p in op.pointers[: op.outputs] if p is not None]

    def in_place(self, op: Operation) -> bool:
        """Whether an operation writes over what it reads."""
        read = {v.storage for v in op.read if v not in op.written}
        return any(value.storage in read for value in op.written if value.storage)



def _text(graph: Graph) -> str:
    lines = [f"{graph.title}: {graph.shaped(graph.schedule.x)} -> {graph.shaped(graph.schedule.y)}"]
    width = max((len(op.scope) for op in graph.schedule.operations), default=0)
    stage = None
    for op in graph.schedule.operations:
        if op.stage != stage:
            stage = op.stage
            lines.append(TITLES[stage])
        left = ", ".join(map(graph.shaped, graph.results(op)))
        right = ", ".join(map(graph.name, op.pointers[op.outputs :]))
        sign = "+=" if op.accumulate else "="
        then = "then " if id(op) in graph.fused else ""
        note = "  (in place)" if graph.in_place(op) else ""
        lines.append(f"  {op.scope:<{width}}  {then}{left} {sign} {op.kernel}({right}){note}")
    return "\n".join(lines)


def _dot(graph: Graph) -> str:
    """Write the graph for Graphviz: a cluster for each stage, dashed what is kept for backward."""
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    operations = graph.schedule.operations
    ids = {id(op): f"op{i}" for i, op in enumerate(operations)}
    lines = [
        "digraph model {",
        f"  label={quoted(graph.title)}; labelloc=t; fontname=Helvetica; rankdir=TB;",
        "  node [shape=box, style=rounded, fontname=Helvetica, fontsize=10];",
        "  edge [fontname=Helvetica, fontsize=9];",
    ]
    for stage, title in TITLES.items():
        lines.append(f"  subgraph cluster_{stage} {{")
        lines.append(f"    label={quoted(title)}; color=gray;")
        for op in operations:
            if op.stage == stage:
                then = "then " if id(op) in graph.fused else ""
                results = ", ".join(map(graph.shaped, graph.results(op)))
                label = quoted(f"{op.scope} {then}{op.kernel}\n{results}".strip())
                lines.append(f"    {ids[id(op)]} [label={label}];")
        lines.append("  }")
    for source, op, value in graph.edges:
        if isinstance(source, str):
            lines.append(f"  {quoted(source)} [shape=ellipse];")
            start, kept = quoted(source), source == "x" and op.stage != FORWARD
        else:
            start, kept = ids[id(source)], source.stage == FORWARD != op.stage
        style = ", style=dashed" if kept else ""
        label = quoted(graph.shaped(value))
        lines.append(f"  {start} -> {ids[id(op)]} [label={label}{style}];")
    for slot, writers in graph.outputs.items():
        lines.append(f"  {quoted(slot)} [shape=ellipse];")
        lines += [f"  {ids[id(op)]} -> {quoted(slot)};" for op in writers]
    return "\n".join([*lines, "}"])
