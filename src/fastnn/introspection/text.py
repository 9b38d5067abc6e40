"""A model's computational graph in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn._door.numbers import choice
from fastnn._planning.builder import BACKWARD, FORWARD, GRADIENT, Operation
from fastnn.introspection.graph import Graph, drawn_shape, shape_text
from fastnn.introspection.layer_graph import Node
from fastnn.introspection.pictures import SVG, Text

TITLES = {FORWARD: "forward", BACKWARD: "backward", GRADIENT: "parameter gradients"}
DETAILS = ("layers", "kernels")


def graph(
    layer: Any,
    format: str = "text",
    input_shape: tuple[int, ...] | None = None,
    detail: str = "layers",
) -> str:
    """Return what a model computes in forward and backward pass, and what is passed on.

    Parameters
    ----------
    layer : Layer
    format : {"text", "dot", "svg"}
        A list in the order of execution, with how threads share the work (by rows of the batch,
        by items whose number the batch does not change, or not: serial) and where they wait for
        each other; the language of Graphviz; a picture.
    input_shape : tuple of int, optional
        Shape per sample; taken from the first layer or the last call when not given. Before the
        first call a number stands in for a free length.
    detail : {"layers", "kernels"}
        Layers, with their parameters and what they keep for the backward pass; or each operation.

    Returns
    -------
    str
        Which prompts and notebooks show as it is meant.

    Raises
    ------
    ValueError
        If the format is unknown, or the shape is not known or does not fit.
    """
    check(format, detail)
    shape, note = drawn_shape(layer, input_shape)
    return written(Graph(layer, layer._schedule(shape, training=True), note), format, detail)


def check(format: str, detail: str) -> None:
    """Raise ValueError unless there is such a format and such a detail."""
    choice("format", format, FORMATS)
    choice("detail", detail, DETAILS)


def written(graph: Graph, format: str, detail: str) -> str:
    """Return a graph in one of the formats."""
    text = FORMATS[format][DETAILS.index(detail)](graph)
    return SVG(text) if format == "svg" else Text(text)


# As text -----------------------------------------------------------------------------------------


def _heading(graph: Graph) -> str:
    note = f"  ({graph.note})" if graph.note else ""
    x, y = graph.shaped(graph.schedule.x), graph.shaped(graph.schedule.y)
    return f"{graph.title}: {x} -> {y}{note}"


def _layers_text(graph: Graph) -> str:
    """Write a line for each layer, forward and then backward."""
    layers = graph.by_layer
    rows: list[tuple[str, ...]] = [("forward", "", "", "")]
    before: list[Operation] = []

    def shared(node: Node, later: bool) -> str:
        """How threads share a layer's calls; a wait before it is a line of its own."""
        calls = [op for op in node.operations if (op.stage != FORWARD) == later]
        calls = [op for op in calls if id(op) not in graph.fused]
        if before and calls and calls[0].waits_after(before[-1]):
            rows.append(("-- wait --",))
        before.extend(calls[-1:])
        return ", ".join(dict.fromkeys(op.split for op in calls))

    def kept(node: Node) -> str:
        return f"keeps {node.kept:,} bytes a sample" if node.kept else ""

    rows.append(("", "x", shape_text(graph.schedule.x.shape), kept(layers.input)))
    for node in layers.nodes[1:]:
        split = shared(node, False)
        inputs = ", ".join(graph.name(before.value) for before in node.inputs)
        parameters = ", ".join(p.name for p in node.parameters)
        needs = f"{inputs}; {parameters}" if parameters else inputs
        notes = ", ".join([*graph.notes(node.forward), *filter(None, [kept(node)])])
        rows.append((split, node.title, f"{graph.shaped(node.value)} = f({needs})", notes))
    for title, formula in _ends(graph):
        rows.append(("", title, formula, ""))
    rows.append(("backward", "", "", ""))
    before.clear()
    for node in reversed(layers.nodes[1:]):
        if not node.backward:
            continue
        split = shared(node, True)
        results = [f"d{graph.name(n.value)}" for n in node.inputs if n.backward]
        results += [f"d{p.name}" for p in graph.gradients(node)]
        read = [f"d{graph.name(node.value)}"]
        read += [
            graph.name(pair[0].value) if pair in layers.outputs_read else f"kept by {pair[0].scope}"
            for pair in layers.kept if pair[1] is node
        ]  # fmt: skip
        read += [p.name for p in node.parameters if len(p.shape) > 1 and results]
        text = f"{', '.join(results)} = f'({', '.join(dict.fromkeys(read))})"
        rows.append((split, node.title, text, ""))
    lines = [_heading(graph)]
    widths = [max((len(row[i]) for row in rows if len(row) == 4 and row[1]), default=0)
              for i in range(3)]  # fmt: skip
    for row in rows:
        if len(row) == 1:
            lines.append(f"  {row[0]}")
        elif not any(row[1:]):
            lines.append(row[0])
        else:
            cells = (cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def _ends(graph: Graph) -> list[tuple[str, str]]:
    """Return what a trainer adds: the loss, the penalty and their sum."""
    if not graph.loss:
        return []
    rows = [("loss", f"{graph.loss}(y, target)")]
    if graph.penalized:
        weights = ", ".join(p.name for p in graph.penalized)
        rows.append(("penalty", f"{graph.l2:g}/2 · Σ‖W‖² of {weights}"))
    return rows


def _text(graph: Graph) -> str:
    """Write a line for each operation: who shares it among threads, and where they meet."""
    lines = [_heading(graph)]
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


# For Graphviz ------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _dot_header(graph: Graph) -> list[str]:
    return [
        "digraph model {",
        f"  label={_quoted(graph.title)}; labelloc=t; fontname=Helvetica; rankdir=TB;",
        "  node [shape=box, style=rounded, fontname=Helvetica, fontsize=10];",
        "  edge [fontname=Helvetica, fontsize=9];",
    ]


def _layers_dot(graph: Graph) -> str:
    """Write the graph of layers: dashed what is kept for backward."""
    layers = graph.by_layer
    ids = {node: f"f{i}" for i, node in enumerate(layers.nodes)}
    back = {node: f"b{i}" for i, node in enumerate(layers.nodes)}
    lines = _dot_header(graph)
    arrows: list[str] = []
    for node in layers.nodes:
        shape = ", shape=ellipse" if node is layers.input else ""
        kept = f"\nkeeps {node.kept:,} bytes a sample" if node.kept else ""
        value = graph.shaped(node.value)
        label = value if node is layers.input else f"{node.title}\n{value}"
        lines.append(f"  {ids[node]} [label={_quoted(label + kept)}{shape}];")
        if node.backward:
            title = f"d{value}" if node is layers.input else f"backward of {node.title}"
            lines.append(f"  {back[node]} [label={_quoted(title)}{shape}];")
        arrows += [f"  {ids[start]} -> {ids[node]};" for start in node.inputs]
        arrows += [f"  {back[node]} -> {back[end]};" for end in node.inputs
                   if node.backward and end.backward]  # fmt: skip
        for i, p in enumerate(node.parameters):
            lines.append(f"  {ids[node]}p{i} [label={_quoted(f'{p.name} {p.shape}')}, "
                         "shape=ellipse];")  # fmt: skip
            arrows.append(f"  {ids[node]}p{i} -> {ids[node]};")
            if p in graph.gradients(node):
                lines.append(f"  {back[node]}d{i} [label={_quoted(f'd{p.name}')}, shape=ellipse];")
                arrows.append(f"  {back[node]} -> {back[node]}d{i};")
    arrows += [f"  {ids[maker]} -> {back[reader]} [style=dashed];" for maker, reader in layers.kept]
    last = layers.nodes[-1]
    if graph.loss:
        lines.append(f"  loss [label={_quoted(f'loss: {graph.loss}')}];")
        lines.append("  target [shape=ellipse];")
        arrows += [f"  {ids[last]} -> loss;", "  target -> loss;"]
        if last.backward:
            arrows.append(f"  loss -> {back[last]};")
        if graph.penalized:
            lines.append(f"  penalty [label={_quoted(f'penalty {graph.l2:g}/2 · Σ‖W‖²')}];")
            arrows += [f"  {ids[node]}p{i} -> penalty;" for node in layers.nodes
                       for i, p in enumerate(node.parameters) if p in graph.penalized]  # fmt: skip
    elif last.backward:
        lines.append(f"  dy [label={_quoted(f'd{graph.shaped(last.value)}')}, shape=ellipse];")
        arrows.append(f"  dy -> {back[last]};")
    return "\n".join([*lines, *arrows, "}"])


def _dot(graph: Graph) -> str:
    """Write the graph for Graphviz: a cluster for each stage, dashed what is kept for backward."""
    operations = graph.schedule.operations
    ids = {id(op): f"op{i}" for i, op in enumerate(operations)}
    lines = _dot_header(graph)
    for stage, title in TITLES.items():
        lines.append(f"  subgraph cluster_{stage} {{")
        lines.append(f"    label={_quoted(title)}; color=gray;")
        for op in operations:
            if op.stage == stage:
                then = "then " if id(op) in graph.fused else ""
                results = ", ".join(map(graph.shaped, graph.results(op)))
                label = _quoted(f"{op.scope} {then}{op.kernel}\n{results}".strip())
                lines.append(f"    {ids[id(op)]} [label={label}];")
        lines.append("  }")
    for source, op, value in graph.edges:
        if isinstance(source, str):
            lines.append(f"  {_quoted(source)} [shape=ellipse];")
            start, kept = _quoted(source), source == "x" and op.stage != FORWARD
        else:
            start, kept = ids[id(source)], source.stage == FORWARD != op.stage
        style = ", style=dashed" if kept else ""
        label = _quoted(graph.shaped(value))
        lines.append(f"  {start} -> {ids[id(op)]} [label={label}{style}];")
    for slot, writers in graph.outputs.items():
        lines.append(f"  {_quoted(slot)} [shape=ellipse];")
        lines += [f"  {ids[id(op)]} -> {_quoted(slot)};" for op in writers]
    return "\n".join([*lines, "}"])


# As a picture: what draws it takes as long to import as all the rest here ------------------------


def _layers_svg(graph: Graph) -> str:
    from fastnn.introspection.layer_svg import draw_layers

    return draw_layers(graph)


def _svg(graph: Graph) -> str:
    from fastnn.introspection.svg import draw

    return draw(graph)


# By detail, in the order of DETAILS.
FORMATS: dict[str, tuple[Callable[[Graph], str], Callable[[Graph], str]]] = {
    "text": (_layers_text, _text), "dot": (_layers_dot, _dot), "svg": (_layers_svg, _svg),
}  # fmt: skip
