"""A model's computational graph as a picture, drawn without any library.

Each layer is a band. Its forward operations stand in the first column, to be read downwards, its
backward operations beside them in the second, upwards, and the gradients of its parameters in the
third.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn._planning.builder import BACKWARD, FORWARD, GRADIENT, Operation

if TYPE_CHECKING:
    from fastnn.introspection.graph import Graph

__all__ = ["draw"]

WIDTH, HEIGHT = 210, 38  # of a box
GAP, PADDING = 22, 16  # between boxes, and around them in a band
LABELS, BETWEEN = 190, 96  # the column of layers, and between the other columns
COLUMNS = {FORWARD: 0, BACKWARD: 1, GRADIENT: 2}
COLORS = {FORWARD: "#0072B2", BACKWARD: "#D55E00", GRADIENT: "#009E73"}
TITLES = {FORWARD: "forward ↓", BACKWARD: "backward ↑", GRADIENT: "parameter gradients"}
TOP = 100

STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:11px;fill:#222}"
    ".small{font-size:10px;fill:#555}.title{font-size:13px;font-weight:bold}"
    ".band{fill:#f6f6f6}.box{fill:#fff;stroke-width:1.5}.pill{fill:#eee;stroke:#777}"
    ".edge{fill:none;stroke:#555;stroke-width:1.3;marker-end:url(#arrow)}"
    ".kept{stroke:#bbb;stroke-dasharray:4 3}"
)


def escape(text: str) -> str:
    """Return text as it stands in XML; the standard library's comes with its network client."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Box:
    """Where an operation, or an array of the caller, stands."""

    def __init__(self, column: int, y: float) -> None:
        self.left = LABELS + column * (WIDTH + BETWEEN)
        self.top, self.column = y, column

    @property
    def middle(self) -> float:
        return self.left + WIDTH / 2

    @property
    def right(self) -> float:
        return self.left + WIDTH

    @property
    def bottom(self) -> float:
        return self.top + HEIGHT

    @property
    def level(self) -> float:
        return self.top + HEIGHT / 2


def draw(graph: Graph) -> str:
    """Return the picture as SVG."""
    bands = _bands(graph.schedule.operations)
    boxes: dict[Any, Box] = {}
    parts: list[str] = []
    y = TOP
    for scope, stages in bands:
        rows = max(map(len, stages.values()))
        height = rows * (HEIGHT + GAP) - GAP + 2 * PADDING
        width = LABELS + 3 * WIDTH + 2 * BETWEEN
        parts.append(f'<rect class="band" x="8" y="{y}" width="{width}" height="{height}" rx="6"/>')
        parts += _layer_text(graph, scope, y + height / 2)
        for stage, operations in stages.items():
            # backward reads upwards
            ordered = operations[::-1] if stage == BACKWARD else operations
            start = y + (height - len(ordered) * (HEIGHT + GAP) + GAP) / 2
            for i, op in enumerate(ordered):
                boxes[id(op)] = Box(COLUMNS[stage], start + i * (HEIGHT + GAP))
        y += height + GAP
    boxes["x"], boxes["dx"] = Box(0, TOP - HEIGHT - GAP), Box(1, TOP - HEIGHT - GAP)
    boxes["y"], boxes["dy"] = Box(0, y), Box(1, y)
    total = LABELS + 3 * WIDTH + 2 * BETWEEN + 16
    parts += _edges(graph, boxes)
    for op in graph.schedule.operations:
        parts += _operation(graph, op, boxes[id(op)])
    parts += _pills(graph, boxes)
    for stage, column in COLUMNS.items():
        x = Box(column, 0).middle
        parts.append(
            f'<text class="title" x="{x}" y="22" text-anchor="middle" style="fill:{COLORS[stage]}">'
            f"{TITLES[stage]}</text>"
        )
    height = y + HEIGHT + GAP
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height:g}" '
        f'width="{total}" height="{height:g}" role="img">',
        f"<title>{escape(graph.title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0,1 L7,4 L0,7 z" fill="#555"/>'
        "</marker></defs>",
        f'<rect width="{total}" height="{height:g}" fill="#fff"/>',
        f'<text class="title" x="16" y="22">{escape(graph.title)}</text>',
        *parts,
        "</svg>",
    ])  # fmt: skip


def _bands(operations: list[Operation]) -> list[tuple[str, dict[str, list[Operation]]]]:
    """Group the operations by layer, in the order of the forward pass."""
    bands: list[tuple[str, dict[str, list[Operation]]]] = []
    last: dict[str, dict[str, list[Operation]]] = {}
    for op in operations:
        if op.stage == FORWARD and (not bands or bands[-1][0] != op.scope):
            bands.append((op.scope, {stage: [] for stage in COLUMNS}))
            last[op.scope] = bands[-1][1]
        elif op.scope not in last:  # a layer that computes nothing forward
            last[op.scope] = {stage: [] for stage in COLUMNS}
            bands.insert(0, (op.scope, last[op.scope]))
        last[op.scope][op.stage].append(op)
    return bands


def _layer_text(graph: Graph, scope: str, y: float) -> list[str]:
    layer = graph.layers.get(scope)
    what = type(layer).__name__ if layer is None or layer.children() else repr(layer)
    lines = [scope, "" if layer is None else what]
    if len(what) > 28:
        lines[1] = what[:27] + "…"
    return [
        f'<text x="16" y="{y - 3 + 15 * i:g}" class="{"small" if i else ""}">{escape(text)}</text>'
        for i, text in enumerate(filter(None, lines))
    ]


def _operation(graph: Graph, op: Operation, box: Box) -> list[str]:
    notes = []
    if id(op) in graph.fused:
        notes.append("fused")
    if graph.in_place(op):
        notes.append("in place")
    if op.accumulate:
        notes.append("adds")
    results = ", ".join(map(graph.shaped, graph.results(op)))
    note = f" ({', '.join(notes)})" if notes else ""
    return _box("box", f'stroke="{COLORS[op.stage]}"', box, op.kernel + note, results)


def _pills(graph: Graph, boxes: dict[Any, Box]) -> list[str]:
    x, y = graph.schedule.x, graph.schedule.y
    shapes = {"x": x, "y": y, "dy": y, "dx": x}
    return [
        part
        for slot, value in shapes.items()
        if slot != "dx" or slot in graph.outputs
        for part in _box("pill", "", boxes[slot], slot, graph.shaped(value).partition(" ")[2])
    ]


def _box(kind: str, stroke: str, box: Box, first: str, second: str) -> list[str]:
    text = f'x="{box.middle:g}" text-anchor="middle"'
    longest = int(WIDTH / 5.3)
    second = second if len(second) <= longest else second[: longest - 1] + "…"
    radius = HEIGHT / 2 if kind == "pill" else 5
    return [
        f'<rect class="{kind}" {stroke} x="{box.left}" y="{box.top:g}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="{radius:g}"/>',
        f'<text {text} y="{box.top + 16:g}">{escape(first)}</text>',
        f'<text class="small" {text} y="{box.top + 30:g}">{escape(second)}</text>',
    ]


def _edges(graph: Graph, boxes: dict[Any, Box]) -> list[str]:
    pairs = [
        (boxes[source if isinstance(source, str) else id(source)], boxes[id(op)])
        for source, op, _ in graph.edges
        if not isinstance(source, str) or source in boxes
    ]
    for slot, writers in graph.outputs.items():
        pairs += [(boxes[id(op)], boxes[slot]) for op in writers]
    # what is kept for the backward pass lies behind the rest
    pairs.sort(key=lambda pair: pair[0].column == pair[1].column or pair[0].column > 0)
    return [_edge(start, end) for start, end in dict.fromkeys(pairs)]


def _edge(a: Box, b: Box) -> str:
    if a.column != b.column:  # to the right, from side to side
        kept = " kept" if a.column == 0 else ""
        bend = BETWEEN / 2
        path = (
            f"M{a.right},{a.level:g} C{a.right + bend},{a.level:g} "
            f"{b.left - bend},{b.level:g} {b.left},{b.level:g}"
        )
        return f'<path class="edge{kept}" d="{path}"/>'
    down = a.top < b.top
    start, end = (a.bottom, b.top) if down else (a.top, b.bottom)
    if abs(end - start) <= 2 * PADDING + GAP:  # neighbours
        return f'<path class="edge" d="M{a.middle:g},{start:g} L{b.middle:g},{end:g}"/>'
    side = a.left + 14 if a.column == 0 else a.right - 14
    out = min(60, 24 + abs(end - start) / 12) * (-1 if a.column == 0 else 1)
    rise = 20 if down else -20
    path = (
        f"M{side},{start:g} C{side + out},{start + rise:g} {side + out},{end - rise:g} "
        f"{side},{end:g}"
    )
    return f'<path class="edge" d="{path}"/>'
