"""Summaries and graphs, printed from a model's own program."""

from __future__ import annotations

from html import escape

from fastnn.builder import BACKWARD, FORWARD, GRADIENT


def _schedule(layer, input_shape):
    engine = layer._model()
    if input_shape is None:
        input_shape = layer.input_shape()
    if input_shape is None and engine.programs:
        input_shape = next(reversed(engine.programs))[1]
    if input_shape is None:
        raise ValueError("input_shape: expected a shape per sample, for no layer tells it")
    return layer._schedule(tuple(input_shape), training=True)


def _shape(shape):
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def summary(layer, batch_size=1, input_shape=None):
    """Return a table of layers, output shapes, parameters and bytes kept for backward."""
    schedule = _schedule(layer, input_shape)
    kept = schedule.kept_for_backward()
    # a value is kept on account of the layer whose operation writes it
    writer = {}
    for op in schedule.operations:
        for value in op.written:
            writer.setdefault(value, op.scope)
    rows = [("layer", "output", "parameters", "kept for backward")]
    for scope in schedule.scopes:
        own = list(scope.layer._parameters.values())
        here = [v for v in kept if writer.get(v) == scope.path and not scope.layer.children()]
        parameters = sum(p.size for p in own)
        rows.append((
            "  " * (scope.path.count(".") + bool(scope.path)) + _name(scope),
            _shape((batch_size, *scope.output.shape)),
            f"{parameters:,}" if own else "",
            f"{batch_size * sum(v.row_bytes for v in here):,} B" if here else "",
        ))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w)
                  for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    engine = layer._model()
    count = sum(p.size for p in layer.parameters())
    per_sample = sum(value.row_bytes for value in kept)
    storages = {v.storage: v.row_bytes for v in schedule.values if v.storage is not None}
    return "\n".join([
        lines[0], rule, *lines[1:], rule,
        f"{count:,} parameters of {engine.dtype}, {2 * count * engine.dtype.itemsize:,} bytes "
        "with their gradients",
        f"kept for backward: {per_sample:,} bytes per sample, {batch_size * per_sample:,} for a "
        f"batch of {batch_size} (the input included)",
        f"buffers of the program: {batch_size * sum(storages.values()):,} bytes",
    ])


def _name(scope):
    text = type(scope.layer).__name__ if scope.layer.children() else repr(scope.layer)
    last = scope.path.rpartition(".")[2]
    return f"{last}: {text}" if last else text


def graph(layer, format="text", input_shape=None):
    """Return the computational graph of forward and backward as text, Graphviz or SVG."""
    formats = {"text": _text, "dot": _dot, "svg": _svg}
    if format not in formats:
        raise ValueError(f"format: expected one of {', '.join(formats)}, got {format!r}")
    return formats[format](_schedule(layer, input_shape))


def _stages(schedule):
    titles = {FORWARD: "forward", BACKWARD: "backward", GRADIENT: "parameter gradients"}
    for stage, title in titles.items():
        operations = [op for op in schedule.operations if op.stage == stage]
        if operations:
            yield title, operations


def _notes(op, fused):
    in_place = op.in_place and any(
        v.storage is not None and v.storage is op.written[0].storage for v in op.read
    )
    return [*(["fused with the operation before"] if op in fused else []),
            *(["in place"] if in_place else [])]


def _text(schedule):
    fused = {op.then for op in schedule.operations if op.then is not None}
    lines = []
    for title, operations in _stages(schedule):
        lines.append(f"{title}:")
        for op in operations:
            notes = _notes(op, fused)
            where = f"  [{op.scope}]" if op.scope else ""
            lines.append(f"  {op!r}{where}" + (f"  ({', '.join(notes)})" if notes else ""))
    return "\n".join(lines)


def _dot(schedule):
    """Operations as boxes by stage; an arrow for every value that one writes and another reads."""
    numbers = {op: i for i, op in enumerate(schedule.operations)}
    lines = ["digraph program {", "  rankdir=TB;", "  node [shape=box, fontname=monospace];"]
    for title, operations in _stages(schedule):
        lines.append(f'  subgraph "cluster_{title}" {{')
        lines.append(f'    label="{title}";')
        lines += [f'    op{numbers[op]} [label="{op.kernel}\\n{op.scope}"];' for op in operations]
        lines.append("  }")
    for source, target, value in _edges(schedule):
        lines.append(f'  op{numbers[source]} -> op{numbers[target]} [label="{value!r}"];')
    lines.append("}")
    return "\n".join(lines)


def _edges(schedule):
    """Yield (writer, reader, value), writers being the last before the reader."""
    last = {}
    for op in schedule.operations:
        for value in dict.fromkeys(op.read):
            if value in last:
                yield last[value], op, value
        for value in op.written:
            last[value] = op


def _svg(schedule):
    """One column per stage, one box per operation, curves for the values between them."""
    width, height, gap_x, gap_y, top = 250, 40, 130, 22, 56
    place, parts, columns = {}, [], list(_stages(schedule))
    most = max(len(operations) for _, operations in columns)
    for column, (title, operations) in enumerate(columns):
        x = 20 + column * (width + gap_x)
        parts.append(f'<text class="title" x="{x + width / 2}" y="32">{title}</text>')
        # the backward pass runs upwards, beside the layers that it passes
        rows = range(len(operations)) if title == "forward" else range(len(operations))[::-1]
        for row, op in zip(rows, operations, strict=True):
            y = top + row * (height + gap_y)
            place[op] = (x, y)
            parts.append(
                f'<rect class="{title.split()[0]}" x="{x}" y="{y}" width="{width}" '
                f'height="{height}" rx="6"/>'
                f'<text x="{x + width / 2}" y="{y + 17}">{escape(op.kernel)}</text>'
                f'<text class="note" x="{x + width / 2}" y="{y + 32}">{escape(op.scope)}</text>'
            )
    curves = []
    for source, target, value in _edges(schedule):
        (x0, y0), (x1, y1) = place[source], place[target]
        if x0 == x1:
            down = y1 > y0
            start, end = (y0 + height, y1) if down else (y0, y1 + height)
            bend = 0 if abs(y1 - y0) <= height + gap_y else width * 0.62
            middle = x0 + width / 2
            path = (f"M{middle},{start} C{middle + bend},{start + (end - start) / 3} "
                    f"{middle + bend},{end - (end - start) / 3} {middle},{end}")
        else:
            start, end = x0 + width, x1
            path = (f"M{start},{y0 + height / 2} C{start + gap_x / 2},{y0 + height / 2} "
                    f"{end - gap_x / 2},{y1 + height / 2} {end},{y1 + height / 2}")
        curves.append(f'<path d="{path}"><title>{escape(repr(value))}</title></path>')
    total_x = 40 + len(columns) * width + (len(columns) - 1) * gap_x
    total_y = top + most * (height + gap_y)
    style = (
        "text{font:12px monospace;text-anchor:middle;fill:#222}.title{font-weight:bold;"
        "font-size:14px}.note{fill:#666;font-size:10px}rect{stroke:#555;fill:#e8f0fe}"
        "rect.backward{fill:#fdeee0}rect.parameter{fill:#e9f5e6}"
        "path{fill:none;stroke:#999;marker-end:url(#tip)}"
    )
    marker = (
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#999;stroke:none;'
        'marker-end:none"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_x} {total_y}" '
        f'width="{total_x}" height="{total_y}"><style>{style}</style><defs>{marker}</defs>'
        f'{"".join(curves)}{"".join(parts)}</svg>'
    )
