"""What notebooks show of models, trainers, optimizers and histories: tables that fold open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from fastnn.introspection.graph import drawn_shape, kept_bytes, shape_text
from fastnn.introspection.pictures import escape

__all__ = ["of_history", "of_model", "of_optimizer", "of_trainer"]

CELL = "text-align:{};padding:2px 12px 2px 0;font-family:monospace;white-space:pre"
LINES = ("#0072B2", "#D55E00")  # of training and of validation


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first `left` columns are text; cells are HTML."""
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} style="{CELL.format("left" if i < left else "right")}">{cell}</{tag}>'
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (f"<table><thead><tr>{line(header, 'th')}</tr></thead>"
            f"<tbody>{body}</tbody></table>")  # fmt: skip


def folded(title: str, inside: str, opened: bool = False) -> str:
    """Return what shows its title, and the rest when it is clicked on."""
    return (f"<details{' open' if opened else ''}><summary>{title}</summary>"
            f'<div style="margin-left:1em">{inside}</div></details>')  # fmt: skip


def named(kind: str, text: str) -> str:
    """Return the title of an object."""
    return f"<b>{escape(kind)}</b> {escape(text)}"


def of_model(layer: Any) -> str:
    """Return the layers of a model; what it has not used yet is not made for that."""
    places = list(layer._places())
    parameters = {id(p): p for _, part in places for p in part._parameters.values()}
    count = sum(p.size for p in parameters.values())
    schedule = None
    if all(part._lock is not None for _, part in places):
        try:
            schedule = layer._schedule(drawn_shape(layer, None)[0], training=True)
        except ValueError:  # any shape will do, and there has been none yet
            schedule = None
    shapes = {s.path: shape_text(s.output.shape) for s in schedule.scopes} if schedule else {}
    kept = kept_bytes(schedule, 1) if schedule else {}
    rows, seen = [], set()
    for path, part in places:
        own = [p for p in part._parameters.values() if id(p) not in seen]
        seen |= {id(p) for p in own}
        inside = bool(part.children())
        what = type(part).__name__ if inside else " ".join(repr(part).split())
        indent = "  " * (path.count(".") + bool(path))
        size = sum(p.size for p in own)
        frozen = " (frozen)" if own and not any(p.trainable for p in own) else ""
        rows.append((
            indent + escape(f"{path.rpartition('.')[2]} {what}".strip()), shapes.get(path, ""),
            f"{size:,}{frozen}" if size or not inside else "",
            f"{kept[path]:,}" if kept.get(path) else "",
        ))  # fmt: skip
    header = ("layer", "output", "parameters", "bytes kept for backward, a sample")
    dtype = f", {layer._dtype}" if layer._dtype is not None else ""
    title = named(type(layer).__name__, f"{count:,} parameters{dtype}")
    return folded(title, table(header, rows, left=2))


def of_optimizer(optimizer: Any) -> str:
    """Return the hyper-parameters of an optimizer, a column for each group."""
    groups = optimizer._groups
    rows = [
        (name, *(escape(_number(group[name])) for group in groups))
        for name in optimizer._ranges if all(name in group for group in groups)
    ]  # fmt: skip
    for name in ("clip_norm", "clip_value", "maximize", "state_dtype"):
        value = getattr(optimizer, name)
        if value not in (None, False):
            rows.append((name, escape(_number(value)), *[""] * (len(groups) - 1)))
    header = ("", *(f"group {i}" for i in range(len(groups)))) if len(groups) > 1 else ("", "")
    count = len(optimizer._names)
    title = named(type(optimizer).__name__, f"{count} arrays, {optimizer.t:,} steps taken")
    return folded(title, table(header, rows, left=len(header)))


def of_trainer(trainer: Any, options: dict[str, Any]) -> str:
    """Return what a trainer is made of."""
    rows = [("loss", escape(repr(trainer.loss)))]
    rows += [(name, escape(_number(value))) for name, value in options.items()]
    optimizer = trainer.optimizer
    parts = [table(("", ""), rows, left=2), of_model(trainer.model)]
    if optimizer is not None:
        parts.append(of_optimizer(optimizer))
    kind = "no optimizer" if optimizer is None else type(optimizer).__name__
    title = named("Trainer", f"{type(trainer.model).__name__}, {trainer.loss!r}, {kind}")
    return folded(title, "".join(parts))


def of_history(history: Any, rising: tuple[str, ...]) -> str:
    """Return the last and the best value of each quantity, and its curve."""
    rows = []
    for name, values in history.history.items():
        finite = [v for v in values if isfinite(v)]
        best = ""
        if finite and name != "lr":
            value = (max if name.endswith(rising) else min)(finite)
            best = f"{value:.4g} (epoch {values.index(value) + 1})"
        last = f"{values[-1]:.4g}" if values else ""
        rows.append((escape(name), curve(values, LINES[name.startswith("val_")]), last, best))
    epochs = len(history.epoch)
    stopped = f", stopped: {history.reason}" if history.reason else ""
    title = named("History", f"{epochs} epoch{'s' if epochs != 1 else ''}{stopped}")
    return folded(title, table(("", "", "last", "best"), rows, left=2), opened=True)


def curve(values: Sequence[float], color: str) -> str:
    """Return a small curve as SVG, with gaps where a value is not finite."""
    width, height = 160, 32
    finite = [v for v in values if isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    path, pen_down = [], False
    for i, v in enumerate(values):
        if isfinite(v):
            x = 3 + (width - 6) * i / max(len(values) - 1, 1)
            y = height - 3 - (height - 6) * ((v - low) / (high - low) if high > low else 0.5)
            path.append(f"{'L' if pen_down else 'M'}{x:.1f},{y:.1f}")
        pen_down = isfinite(v)
    return (f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
            f'<path d="{" ".join(path)}" fill="none" stroke="{color}" stroke-width="1.5" '
            'stroke-linejoin="round" stroke-linecap="round"/></svg>')  # fmt: skip


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
