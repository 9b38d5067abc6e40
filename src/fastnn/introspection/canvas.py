"""Boxes, arrows that go around them, and a legend, as SVG without any library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastnn.introspection.pictures import escape

__all__ = ["COLORS", "Box", "Lanes", "arrow", "box", "fitting", "legend", "page"]

# Okabe & Ito's, for the three parts of a step, and for the loss.
COLORS = {"forward": "#0072B2", "backward": "#D55E00", "gradient": "#009E73", "loss": "#8F5080"}
LANE = 11  # from one vertical line to the next

STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;font-size:12px;fill:#222}"
    ".small{font-size:10.5px;fill:#555}.title{font-size:13px;font-weight:bold}"
    ".band{fill:#f5f5f3}.box{fill:#fff;stroke-width:1.6}.pill{fill:#ececea;stroke:#777}"
    ".edge{fill:none;stroke:#555;stroke-width:1.3;marker-end:url(#arrow)}"
    ".kept{stroke:#999;stroke-dasharray:4 3}"
)


class Box:
    """A rectangle and its sides."""

    def __init__(self, left: float, top: float, width: float, height: float) -> None:
        self.left, self.top, self.width, self.height = left, top, width, height
        self.right, self.bottom = left + width, top + height
        self.middle, self.level = left + width / 2, top + height / 2


class Lanes:
    """Vertical lines beside a column, so that no two that overlap lie on one another."""

    def __init__(self) -> None:
        self._taken: list[list[tuple[float, float]]] = []

    def take(self, one: float, other: float) -> int:
        """Return the number of a line that is free between two heights."""
        low, high = min(one, other) - 4, max(one, other) + 4
        for i, taken in enumerate(self._taken):
            if all(high < start or end < low for start, end in taken):
                taken.append((low, high))
                return i
        self._taken.append([(low, high)])
        return len(self._taken) - 1


def box(kind: str, color: str, place: Box, lines: Sequence[str], tip: str = "") -> str:
    """Return a box with lines of text, the first of them larger; `tip` shows under the mouse."""
    stroke = f' stroke="{color}"' if color else ""
    radius = min(place.height / 2, 14) if kind == "pill" else 5
    step = 14.0
    first = place.level - step * (len(lines) - 1) / 2 + 4
    texts = ""
    for i, line in enumerate(lines):
        small = bool(i) or kind == "pill"
        shown = escape(fitting(line, place.width, 5.6 if small else 6.5))
        texts += (
            f'<text class="{"small" if small else ""}" x="{place.middle:g}" '
            f'y="{first + step * i:g}" text-anchor="middle">{shown}</text>'
        )
    tip = tip or "\n".join(lines)
    return (
        f'<g><title>{escape(tip)}</title><rect class="{kind}"{stroke} x="{place.left:g}" '
        f'y="{place.top:g}" width="{place.width:g}" height="{place.height:g}" rx="{radius:g}"/>'
        f"{texts}</g>"
    )


def fitting(text: str, width: float, per_letter: float) -> str:
    """Return a text that is not longer than there is room."""
    longest = int((width - 6) / per_letter)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def arrow(points: Iterable[tuple[float, float]], kept: bool = False) -> str:
    """Return a line with round corners through points, and a head at the last one."""
    corners: list[tuple[float, float]] = []
    for point in points:
        if not corners or point != corners[-1]:
            corners.append(point)
    path = [f"M{corners[0][0]:g},{corners[0][1]:g}"]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        near, far = _toward(corner, before), _toward(corner, after)
        path.append(f"L{near[0]:g},{near[1]:g} Q{corner[0]:g},{corner[1]:g} {far[0]:g},{far[1]:g}")
    path.append(f"L{corners[-1][0]:g},{corners[-1][1]:g}")
    return f'<path class="edge{" kept" if kept else ""}" d="{" ".join(path)}"/>'


def _toward(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point at which the bend of a corner begins."""
    across, down = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(across), abs(down)) or 1.0
    part = min(6.0, length / 2) / length
    return corner[0] + across * part, corner[1] + down * part


def legend(x: float, y: float, notes: Iterable[str]) -> list[str]:
    """Return what the signs of a picture mean."""
    parts = [
        arrow([(x, y), (x + 34, y)]), _text(x + 40, y, "passed on"),
        arrow([(x + 120, y), (x + 154, y)], kept=True), _text(x + 160, y, "kept for backward"),
    ]  # fmt: skip
    meanings = {
        "fused": "fused: computed with the one before, while that is in the cache",
        "in place": "in place: written over what was read",
        "adds": "adds: to what is there",
    }
    said = "   ·   ".join(meanings[note] for note in meanings if note in set(notes))
    return [*parts, _text(x, y + 18, said)] if said else parts


def _text(x: float, y: float, text: str) -> str:
    return f'<text class="small" x="{x:g}" y="{y + 4:g}">{escape(text)}</text>'


def page(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """Return a picture that is never wider than the place where it is shown."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" style="max-width:100%;height:auto" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0,1 L7,4 L0,7 z" fill="#555"/>'
        "</marker></defs>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>',
        f'<text class="title" x="16" y="22">{escape(title)}</text>',
        *parts,
        "</svg>",
    ])  # fmt: skip
