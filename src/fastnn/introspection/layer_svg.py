"""A model's graph of layers as a picture.

Each layer is a row: its parameters, what it computes, to be read downwards, its part of the
backward pass, upwards, and the gradients of its parameters. Arrows that do not lead to a neighbour
go through lanes beside the columns, so that none runs under a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastnn.introspection.canvas import COLORS, LANE, Box, Lanes, arrow, box, legend, page

if TYPE_CHECKING:
    from fastnn.introspection.graph import Graph
    from fastnn.introspection.layer_graph import Node

__all__ = ["draw_layers"]

FORWARD, BACKWARD, SIDE = 232, 150, 142  # widths of the columns; SIDE: parameters and gradients
HEIGHT, PILL, GAP = 50, 20, 26
SHOWN = 4  # parameters of a layer that are drawn; of more there is a count
TOP = 52


class _Picture:
    """Where everything stands, before it is drawn."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.layers = graph, graph.by_layer
        self.notes: set[str] = set()
        self.forward: dict[Node, Box] = {}
        self.backward: dict[Node, Box] = {}
        self.parameters: list[tuple[Node, Box, str, str]] = []  # and names, and tips
        self.places: dict[int, Box] = {}  # of parameters
        self.row: dict[Node, int] = {}
        self.left, self.middle, self.right = Lanes(), Lanes(), Lanes()
        self.edges = self._lanes()
        bus = 14 if graph.penalized else 0
        self.x_side = 16 + bus
        self.x_forward = self.x_side + SIDE + 26 + LANE * self.lanes[0]
        self.x_backward = self.x_forward + FORWARD + 44 + LANE * self.lanes[1]
        self.x_gradient = self.x_backward + BACKWARD + 26 + LANE * self.lanes[2]
        self.width = self.x_gradient + SIDE + 16

    def _lanes(self) -> dict[tuple[str, Node, Node], int]:
        """Give arrows between rows that are no neighbours a lane; their heights are rows here."""
        nodes = [*self.layers.nodes]
        self.row = {node: i for i, node in enumerate(nodes)}
        found: dict[tuple[str, Node, Node], int] = {}
        counts = [0, 0, 0]
        for node in nodes:
            for start in node.inputs:
                if self.row[node] - self.row[start] > 1:
                    rows = 10.0 * self.row[start] + 5, 10.0 * self.row[node] - 5
                    found["forward", start, node] = lane = self.left.take(*rows)
                    counts[0] = max(counts[0], lane + 1)
                    if start.backward and node.backward:
                        found["backward", start, node] = lane = self.right.take(*rows)
                        counts[2] = max(counts[2], lane + 1)
        for maker, reader in self.layers.kept:
            if maker is not reader:
                rows = 10.0 * self.row[maker] + 2, 10.0 * self.row[reader] - 2
                found["kept", maker, reader] = lane = self.middle.take(*rows)
                counts[1] = max(counts[1], lane + 1)
        self.lanes = counts
        return found


def draw_layers(graph: Graph) -> str:
    """Return the picture as SVG."""
    picture, parts = _Picture(graph), []
    layers = picture.layers
    y = float(TOP + 22)
    for node in layers.nodes:
        pills = min(len(node.parameters), SHOWN + 1)
        height = HEIGHT if node is not layers.input else 36
        row = max(height, pills * (PILL + 4) - 4)
        top = y + (row - height) / 2
        picture.forward[node] = Box(picture.x_forward, top, FORWARD, height)
        if node.backward:
            picture.backward[node] = Box(picture.x_backward, top, BACKWARD, height)
        parts += _parameters(picture, node, y, row)
        parts += _node(picture, node)
        y += row + GAP
    ends, y = _ends(picture, y)
    titles = {"parameters": (picture.x_side + SIDE / 2, "gradient"),
              "forward ↓": (picture.x_forward + FORWARD / 2, "forward"),
              "backward ↑": (picture.x_backward + BACKWARD / 2, "backward"),
              "gradients": (picture.x_gradient + SIDE / 2, "gradient")}  # fmt: skip
    heads = [
        f'<text class="title" x="{x:g}" y="{TOP}" text-anchor="middle" '
        f'style="fill:{COLORS[color]}">{title}</text>'
        for title, (x, color) in titles.items()
    ]
    if graph.note:
        heads.append(f'<text class="small" x="{picture.width - 16:g}" y="22" text-anchor="end">'
                     f"{graph.note}</text>")  # fmt: skip
    y += 8
    explained = legend(16, y, picture.notes)
    arrows = _arrows(picture)
    foot = y + (34 if picture.notes else 16)
    return page(graph.title, picture.width, foot, [*heads, *arrows, *ends, *parts, *explained])


def _parameters(picture: _Picture, node: Node, y: float, row: float) -> list[str]:
    """Draw the parameters of a layer, their gradients and the arrows to and from them."""
    graph, parts = picture.graph, []
    shown = node.parameters[:SHOWN] if len(node.parameters) > SHOWN + 1 else node.parameters
    rest = node.parameters[len(shown) :]
    count = len(shown) + bool(rest)
    start = y + (row - count * (PILL + 4) + 4) / 2
    trained = graph.gradients(node)
    forward, backward = picture.forward[node], picture.backward.get(node)
    spread = min(10.0, (forward.height - 12) / max(count - 1, 1))
    for i in range(count):
        top, entry = start + i * (PILL + 4), forward.level + (i - (count - 1) / 2) * spread
        group = [shown[i]] if i < len(shown) else rest
        name = group[0].name.rpartition(".")[2]
        size = sum(p.size for p in group)
        label = f"{name} {group[0].shape}" if i < len(shown) else f"{len(rest)} more ({size:,})"
        place = Box(picture.x_side, top, SIDE, PILL)
        tip = "\n".join(f"{p.name} {p.shape}" for p in group)
        frozen = "" if any(p in trained for p in group) or not node.backward else ", not trained"
        parts.append(box("pill", COLORS["gradient"], place, [label], tip + frozen))
        parts.append(arrow(_elbow(place.right, place.level, forward.left, entry)))
        for p in group:
            picture.places[id(p)] = place
        if backward is not None and not frozen:
            right = Box(picture.x_gradient, top, SIDE, PILL)
            penalty = f" + λ·{name}" if any(p in graph.penalized for p in group) else ""
            label = f"d{name}{penalty}" if i < len(shown) else f"{len(rest)} more"
            tip = "\n".join(f"d{p.name} {p.shape}{penalty}" for p in group)
            parts.append(box("pill", COLORS["gradient"], right, [label], tip))
            exit_ = backward.level + (i - (count - 1) / 2) * spread
            parts.append(arrow(_elbow(backward.right, exit_, right.left, right.level, 14)))
    return parts


def _elbow(
    x: float, y: float, to_x: float, to_y: float, out: float = 12
) -> list[tuple[float, float]]:
    """Return a way to the right with one step up or down beside its start."""
    if abs(y - to_y) < 1.5:
        return [(x, to_y), (to_x, to_y)]
    return [(x, y), (x + out, y), (x + out, to_y), (to_x, to_y)]


def _node(picture: _Picture, node: Node) -> list[str]:
    """Draw a layer's boxes of the forward and of the backward pass."""
    graph = picture.graph
    value = graph.shaped(node.value)
    kept = f"keeps {node.kept:,} B/sample" if node.kept else ""
    if node is picture.layers.input:
        lines = [value, *filter(None, [kept])]
        parts = [box("pill", "", picture.forward[node], lines)]
        if node.backward:
            parts.append(box("pill", "", picture.backward[node], [f"d{value}"]))
        return parts
    notes = graph.notes(node.forward)
    picture.notes |= set(notes)
    lines = [node.title, value, ", ".join([*notes, *filter(None, [kept])])]
    kernels = ", ".join(op.kernel for op in node.forward) or "nothing to compute"
    parts = [box("box", COLORS["forward"], picture.forward[node], [*filter(None, lines)],
                 f"{node.title}\n{value}\n{kept or 'keeps nothing'}\n{kernels}")]  # fmt: skip
    if node.backward:
        results = [f"d{graph.name(n.value)}" for n in node.inputs if n.backward]
        kernels = ", ".join(op.kernel for op in node.operations if op.stage != "forward")
        # the gradient that comes in, and what is made of it
        text = ", ".join(results) if results else "gradients alone"
        label = node.scope or "" if node.scope else node.title
        parts.append(box("box", COLORS["backward"], picture.backward[node],
                         [f"backward of {label}".strip(), text],
                         f"backward of {node.title}\n{kernels}"))  # fmt: skip
    return parts


def _arrows(picture: _Picture) -> list[str]:
    """Draw what layers pass on, back and forth, and what they keep."""
    parts = []
    for maker, reader in picture.layers.kept:
        start, end = picture.forward[maker], picture.backward.get(reader)
        if end is None:
            continue
        if maker is reader:
            parts.append(arrow([(start.right, start.level), (end.left, end.level)], kept=True))
            continue
        lane = picture.x_forward + FORWARD + 20 + LANE * picture.edges["kept", maker, reader]
        down = 9 if picture.row[maker] < picture.row[reader] else -9
        parts.append(arrow([(start.right, start.level + down), (lane, start.level + down),
                            (lane, end.level - down), (end.left, end.level - down)],
                           kept=True))  # fmt: skip
    for node in picture.layers.nodes:
        for before in node.inputs:
            start, end = picture.forward[before], picture.forward[node]
            ahead = picture.edges.get(("forward", before, node))
            if ahead is None:
                parts.append(arrow([(start.middle, start.bottom), (end.middle, end.top)]))
            else:
                x = picture.x_forward - 14 - LANE * ahead
                leave, enter = start.bottom + 9, end.top - 9
                parts.append(arrow([(start.middle - 40, start.bottom), (start.middle - 40, leave),
                                    (x, leave), (x, enter), (end.middle - 40, enter),
                                    (end.middle - 40, end.top)]))  # fmt: skip
            if not (node.backward and before.backward):
                continue
            start, end = picture.backward[node], picture.backward[before]
            back = picture.edges.get(("backward", before, node))
            if back is None:
                parts.append(arrow([(start.middle, start.top), (end.middle, end.bottom)]))
            else:
                x = picture.x_backward + BACKWARD + 24 + LANE * back
                leave, enter = start.top - 9, end.bottom + 9
                parts.append(arrow([(start.middle + 40, start.top), (start.middle + 40, leave),
                                    (x, leave), (x, enter), (end.middle + 40, enter),
                                    (end.middle + 40, end.bottom)]))  # fmt: skip
    return parts


def _ends(picture: _Picture, y: float) -> tuple[list[str], float]:
    """Draw where the forward pass ends and the backward pass begins; returns how far down."""
    graph, last = picture.graph, picture.layers.nodes[-1]
    parts: list[str] = []
    above, beside = picture.forward[last], picture.backward.get(last)
    value = graph.shaped(last.value)
    if not graph.loss:
        if beside is None:
            return parts, y
        given = Box(picture.x_backward, y, BACKWARD, 30)
        parts.append(box("pill", "", given, [f"d{value}"], "given to backward()"))
        parts.append(arrow([(given.middle, given.top), (beside.middle, beside.bottom)]))
        result = Box(picture.x_forward, y, FORWARD, 30)
        parts.append(box("pill", "", result, [value], "returned by forward()"))
        parts.append(arrow([(above.middle, above.bottom), (result.middle, result.top)]))
        return parts, y + 30 + GAP
    color = COLORS["loss"]
    loss = Box(picture.x_forward, y, FORWARD, HEIGHT)
    python = "in Python" if graph.custom_loss else "and its gradient"
    parts.append(box("box", color, loss, [f"loss: {graph.loss}", f"of y and target, {python}"]))
    parts.append(arrow([(above.middle, above.bottom), (loss.middle, loss.top)]))
    target = Box(picture.x_side, loss.level - PILL / 2, SIDE, PILL)
    parts.append(box("pill", "", target, ["target"]))
    parts.append(arrow([(target.right, target.level), (loss.left, loss.level)]))
    if beside is not None:
        given = Box(picture.x_backward, loss.level - 15, BACKWARD, 30)
        parts.append(box("pill", "", given, [f"d{value}"]))
        parts.append(arrow([(loss.right, loss.level), (given.left, loss.level)]))
        parts.append(arrow([(given.middle, given.top), (beside.middle, beside.bottom)]))
    y += HEIGHT + GAP
    if graph.penalized:
        penalty = Box(picture.x_forward, y, FORWARD, 36)
        names = ", ".join(p.name for p in graph.penalized)
        parts.append(box("box", color, penalty, ["penalty λ/2 · Σ‖W‖²", f"λ = {graph.l2:g}"],
                         f"of {names}"))  # fmt: skip
        bus = 12.0
        for p in graph.penalized:
            if id(p) in picture.places:
                place = picture.places[id(p)]
                down = [(place.left, place.level), (bus, place.level), (bus, penalty.level)]
                parts.append(arrow([*down, (penalty.left, penalty.level)]))
        y += 36 + GAP
        total = Box(picture.x_forward, y, FORWARD, 28)
        parts.append(box("pill", color, total, ["loss + penalty"], "what step() returns"))
        parts.append(arrow([(penalty.middle, penalty.bottom), (total.middle, total.top)]))
        x, leave = picture.x_forward + FORWARD + 16, loss.bottom + 9
        start = loss.middle + 60
        parts.append(arrow([(start, loss.bottom), (start, leave), (x, leave), (x, total.level),
                            (total.right, total.level)]))  # fmt: skip
        y += 28 + GAP
    return parts, y
