"""A model's computational graph in words."""

from __future__ import annotations

from typing import Any

from fastnn._door.numbers import choice
from fastnn._planning.builder import BACKWARD, FORWARD, GRADIENT
from fastnn.introspection.graph import Graph, known_shape
from fastnn.introspection.svg import draw

TITLES = {FORWARD: "forward", BACKWARD: "backward", GRADIENT: "parameter gradients"}


def graph(layer: Any, format: str = "text", input_shape: tuple[int, ...] | None = None) -> str:
    """Return the operations of a model's forward and backward pass, and what they pass on.

    Parameters
    ----------
    layer : Layer
    format : {"text", "dot", "svg"}
        A list in the order of execution, with how threads share each operation (by rows of the
        batch, by items whose number the batch does not change, or not: serial) and where they wait
        for each other; the language of Graphviz; a picture.
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
    choice("format", format, formats)
    schedule = layer._schedule(known_shape(layer, input_shape), training=True)
    return formats[format](Graph(layer, schedule))


def _text(graph: Graph) -> str:
    """Write a line for each operation: who shares it among threads, and where they meet."""
    lines = [f"{graph.title}: {graph.shaped(graph.schedule.x)} -> {graph.shaped(graph.schedule.y)}"]
    width = max((len(op.scope) for op in graph.schedule.operations), default=0)
    stage, before = None, None
    for op in graph.schedule.operations:
        fused = id(op) in graph.fused
        if op.stage != stage:
            stage = op.stage
            lines.append(TITLES[stage])
        elif before is not None and not fused and op.waits_after(before):
            lines.append("  -- wait --")
        before = before if fused else op
        left = ", ".join(map(graph.shaped, graph.results(op)))
        right = ", ".join(map(graph.name, op.inputs))
        sign = "+=" if op.accumulate else "="
        then = "then " if fused else ""
        note = "  (in place)" if graph.in_place(op) else ""
        lines.append(
            f"  {op.split:<6}  {op.scope:<{width}}  {then}{left} {sign} {op.kernel}({right}){note}"
        )
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
