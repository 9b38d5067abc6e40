"""What a model's layers are, and what they take of memory."""

from __future__ import annotations

from typing import Any

from fastnn._door.numbers import positive
from fastnn._kernels.program import Memory, Program, Version
from fastnn.introspection.graph import drawn_shape, kept_bytes, shape_text
from fastnn.introspection.pictures import Text


def summary(layer: Any, batch_size: int = 1, input_shape: tuple[int, ...] | None = None) -> str:
    """Return a table of a model's layers, and what they take of memory.

    Parameters
    ----------
    layer : Layer
    batch_size : int
        For which the bytes are counted.
    input_shape : tuple of int, optional
        Shape per sample; taken from the first layer or the last call when not given. Before the
        first call a number stands in for a free length.

    Returns
    -------
    str
        One row for each layer: its name and options, the shape of its output, its parameters, and
        the bytes of what it computes (or gets, in the row of x) that the backward pass reads.
        Prompts and notebooks show it as it is printed.

    Raises
    ------
    ValueError
        If the shape is not known or does not fit, or `batch_size` is not positive.
    """
    batch_size = positive("batch_size", batch_size)
    shape, note = drawn_shape(layer, input_shape)
    schedule = layer._schedule(shape, training=True)
    program = Program(schedule, Memory(), Version())
    program.reserve(batch_size)
    kept = kept_bytes(schedule, batch_size)
    header = ("layer", "output", "parameters", "bytes kept for backward")
    rows = [("x", shape_text(schedule.x.shape, batch_size), "", f"{kept.get(None, 0):,}")]
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
            name, shape_text(scope.output.shape, batch_size),
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
    if note:
        totals.append(("input", note))
    return Text("\n".join([
        line(header), rule, *map(line, rows), rule,
        *(f"{title + ':':<19}{text}" for title, text in totals),
    ]))  # fmt: skip
