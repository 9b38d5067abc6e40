"""A model's operations as a picture.

Each layer is a band. Its forward operations stand in the first column, to be read downwards, its
backward operations beside them in the second, upwards, and the gradients of its parameters in the
third. Arrows go through lanes beside the columns and between the bands, never under a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn._planning.builder import BACKWARD, FORWARD, GRADIENT, Operation
from fastnn.introspection.canvas import COLORS, LANE, Box, Lanes, arrow, box, fitting, legend, page
from fastnn.introspection.pictures import escape

if TYPE_CHECKING:
    from fastnn.introspection.graph import Graph

__all__ = ["draw"]

WIDTH, HEIGHT = 214, 38  # of a box
GAP, PADDING = 22, 14  # between boxes, and around them in a band
LABELS = 166  # the column of layers
COLUMN = {FORWARD: 0, BACKWARD: 1, GRADIENT: 2}
TITLES = {FORWARD: "forward ↓", BACKWARD: "backward ↑", GRADIENT: "parameter gradients"}
TOP = 100


class _Layout:
    """Where columns, bands and boxes stand; every arrow with the lanes that it takes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bands = _bands(graph.schedule.operations)
        self.boxes: dict[Any, Box] = {}
        self.column: dict[Any, int] = {"x": 0, "y": 0, "dx": 1, "dy": 1}
        self.tops: list[float] = []  # of bands
        heights: dict[Any, float] = {}
        y = float(TOP)
        for _, stages in self.bands:
            rows = max(map(len, stages.values()))
            height = rows * (HEIGHT + GAP) - GAP + 2 * PADDING
            self.tops.append(y)
            for stage, operations in stages.items():
                # backward reads upwards
                ordered = operations[::-1] if stage == BACKWARD else operations
                start = y + (height - len(ordered) * (HEIGHT + GAP) + GAP) / 2
                for i, op in enumerate(ordered):
                    heights[id(op)] = start + i * (HEIGHT + GAP)
                    self.column[id(op)] = COLUMN[stage]
            y += height + GAP
        self.bottom = y
        heights |= {"x": TOP - HEIGHT - GAP, "dx": TOP - HEIGHT - GAP, "y": y, "dy": y}
        self.heights = heights
        self.order = sorted({(top, self.column[key]) for key, top in heights.items()})
        beside = Lanes(), Lanes(), Lanes()  # left of the first column, right of the others
        between = Lanes(), Lanes()  # of the columns
        self.arrows: list[tuple[Any, Any, tuple[int, ...]]] = []
        counts = [0, 0, 0, 0, 0]
        for start, end in self._pairs():
            a, b = self.column[start], self.column[end]
            lanes: tuple[int, ...] = ()
            if a == b:
                if not self._neighbours(start, end):
                    lanes = (beside[a].take(heights[start], heights[end]),)
                    counts[a] = max(counts[a], lanes[0] + 1)
            else:
                first, last = min(a, b), max(a, b)
                passed = range(first, last)
                lanes = tuple(between[i].take(heights[start], heights[end]) for i in passed)
                for i, lane in zip(passed, lanes, strict=True):
                    counts[3 + i] = max(counts[3 + i], lane + 1)
            self.arrows.append((start, end, lanes))
        left: float = LABELS + 20 + LANE * counts[0]
        second = left + WIDTH + 34 + LANE * counts[3]
        third = second + WIDTH + 34 + LANE * (counts[1] + counts[4])
        self.lefts, self.inner = (left, second, third), counts[1]
        self.width = third + WIDTH + 20 + LANE * counts[2]
        for key, top in heights.items():
            self.boxes[key] = Box(self.lefts[self.column[key]], top, WIDTH, HEIGHT)

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Return who passes something to whom."""
        pairs: list[tuple[Any, Any]] = [
            (source if isinstance(source, str) else id(source), id(op))
            for source, op, _ in self.graph.edges
            if not isinstance(source, str) or source in self.heights
        ]
        for slot, writers in self.graph.outputs.items():
            pairs += [(id(op), slot) for op in writers]
        return list(dict.fromkeys(pairs))

    def _neighbours(self, start: Any, end: Any) -> bool:
        """Return whether nothing stands between two boxes of a column."""
        low, high = sorted((self.heights[start], self.heights[end]))
        column = self.column[start]
        return not any(column == c and low < top < high for top, c in self.order)

    def points(self, start: Any, end: Any, lanes: tuple[int, ...]) -> list[tuple[float, float]]:
        """Return the way of an arrow."""
        a, b = self.boxes[start], self.boxes[end]
        c, d = self.column[start], self.column[end]
        down = a.top < b.top
        if c == d and not lanes:
            if down:
                return [(a.middle, a.bottom), (b.middle, b.top)]
            return [(a.middle, a.top), (b.middle, b.bottom)]
        if c == d:
            out = LANE * lanes[0]
            if c == 0:
                x = self.lefts[0] - 16 - out
                return [(a.left, a.level), (x, a.level), (x, b.level), (b.left, b.level)]
            x = self.lefts[c] + WIDTH + 16 + out
            return [(a.right, a.level), (x, a.level), (x, b.level), (b.right, b.level)]
        if abs(c - d) == 1:
            x = self._between(min(c, d), lanes[0])
            if c < d:
                return [(a.right, a.level + 8), (x, a.level + 8), (x, b.level - 8),
                        (b.left, b.level - 8)]  # fmt: skip
            return [(a.left, a.level), (x, a.level), (x, b.level), (b.right, b.level)]
        # past the second column, above the band of the end
        one, other = (self._between(i, lane) for i, lane in enumerate(lanes))
        corridor = max((top for top in self.tops if top <= b.top), default=TOP) - GAP / 2
        return [(a.right, a.level + 8), (one, a.level + 8), (one, corridor), (other, corridor),
                (other, b.level - 8), (b.left, b.level - 8)]  # fmt: skip

    def _between(self, gap: int, lane: int) -> float:
        inner = LANE * self.inner if gap == 1 else 0
        return self.lefts[gap] + WIDTH + 17 + inner + LANE * lane


def draw(graph: Graph) -> str:
    """Return the picture as SVG."""
    layout = _Layout(graph)
    parts: list[str] = []
    for top, (scope, stages) in zip(layout.tops, layout.bands, strict=True):
        height = max(map(len, stages.values())) * (HEIGHT + GAP) - GAP + 2 * PADDING
        parts.append(f'<rect class="band" x="8" y="{top:g}" width="{layout.width - 16:g}" '
                     f'height="{height:g}" rx="6"/>')  # fmt: skip
        parts += _layer_text(graph, scope, top + height / 2)
    # what is kept for the backward pass lies behind the rest
    for start, end, lanes in sorted(layout.arrows, key=lambda a: layout.column[a[0]] > 0):
        kept = layout.column[start] == 0 and layout.column[end] > 0
        parts.append(arrow(layout.points(start, end, lanes), kept))
    notes: set[str] = set()
    for op in graph.schedule.operations:
        said = graph.notes([op]) + (["adds"] if op.accumulate else [])
        notes |= set(said)
        note = f" ({', '.join(said)})" if said else ""
        results = ", ".join(map(graph.shaped, graph.results(op)))
        inputs = ", ".join(map(graph.shaped, filter(_is_there, op.inputs)))
        tip = f"{op.kernel}{note}\nwrites {results}\nreads {inputs}"
        place = layout.boxes[id(op)]
        parts.append(box("box", COLORS[op.stage], place, [op.kernel + note, results], tip))
    parts += _pills(graph, layout)
    for stage, column in COLUMN.items():
        x = layout.lefts[column] + WIDTH / 2
        parts.append(f'<text class="title" x="{x:g}" y="26" text-anchor="middle" '
                     f'style="fill:{COLORS[stage]}">{TITLES[stage]}</text>')  # fmt: skip
    y = layout.bottom + HEIGHT + GAP + 4
    parts += legend(16, y, notes)
    if graph.note:
        parts.append(f'<text class="small" x="16" y="40">{escape(graph.note)}</text>')
    return page(graph.title, layout.width, y + (34 if notes else 16), parts)


def _is_there(pointer: Any) -> bool:
    return pointer is not None


def _bands(operations: list[Operation]) -> list[tuple[str, dict[str, list[Operation]]]]:
    """Group the operations by layer, in the order of the forward pass."""
    bands: list[tuple[str, dict[str, list[Operation]]]] = []
    last: dict[str, dict[str, list[Operation]]] = {}
    for op in operations:
        if op.stage == FORWARD and (not bands or bands[-1][0] != op.scope):
            bands.append((op.scope, {stage: [] for stage in COLUMN}))
            last[op.scope] = bands[-1][1]
        elif op.scope not in last:  # a layer that computes nothing forward
            last[op.scope] = {stage: [] for stage in COLUMN}
            bands.insert(0, (op.scope, last[op.scope]))
        last[op.scope][op.stage].append(op)
    return bands


def _layer_text(graph: Graph, scope: str, y: float) -> list[str]:
    layer = graph.layers.get(scope)
    what = type(layer).__name__ if layer is None or layer.children() else repr(layer)
    lines = filter(None, [scope, "" if layer is None else " ".join(what.split())])
    return [
        f'<g><title>{escape(text)}</title><text x="16" y="{y - 3 + 15 * i:g}" '
        f'class="{"small" if i else ""}">{escape(fitting(text, LABELS, 5.6))}</text></g>'
        for i, text in enumerate(lines)
    ]


def _pills(graph: Graph, layout: _Layout) -> list[str]:
    x, y = graph.shaped(graph.schedule.x), graph.shaped(graph.schedule.y)
    texts = {"x": x, "y": y, "dy": f"d{y}", "dx": f"d{x}"}
    if graph.loss:  # the loss comes after y, and gives dy
        del texts["dy"]
    return [
        box("pill", "", layout.boxes[slot], [text])
        for slot, text in texts.items()
        if slot not in ("dx", "y") or slot in graph.outputs
    ]
