"""Text that is shown as what it is: a table or a list by any prompt, a picture by notebooks."""

from __future__ import annotations

from os import PathLike


def escape(text: str) -> str:
    """Return text as it stands in XML; the standard library's comes with its network client."""
    for sign, name in {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}.items():
        text = text.replace(sign, name)
    return text


class Text(str):
    """Text of several lines, which prompts and notebooks show as it is printed."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        # lines stay whole, and a wide table scrolls
        style = "white-space:pre;overflow-x:auto;line-height:1.3"
        return f'<pre style="{style}">{escape(self)}</pre>'


class SVG(str):
    """The text of an SVG picture, which notebooks show as a picture.

    Examples
    --------
    >>> from fastnn.plot import SVG
    >>> SVG("<svg></svg>")
    '<svg></svg>'
    """

    def __new__(cls, text: str = "") -> SVG:
        """Return `text` as a picture."""
        return super().__new__(cls, text)

    def _repr_svg_(self) -> str:
        return str(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self)
