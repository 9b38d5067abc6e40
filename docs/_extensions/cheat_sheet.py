"""Draws the page cheat_sheet.md as one sheet of paper, A4 across, in PDF."""

import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

WIDTH, HEIGHT, MARGIN = 11.69, 8.27, 0.35  # inches
COLUMNS, SIZE = 3, 6.3  # points of the code; titles are larger
LINE = 1.22 * SIZE / 72


def setup(app):
    """Connect to Sphinx; the page links to the file, which must be there before it is read."""
    app.connect("config-inited", lambda app, config: draw(Path(app.srcdir)))
    return {"parallel_read_safe": True}


def draw(folder):
    """Write generated/cheat_sheet.pdf."""
    page = (folder / "cheat_sheet.md").read_text(encoding="utf-8")
    sections = re.findall(r"## (.*?)\n\n```python\n(.*?)```", page, re.S)
    sections = [(title, code.strip("\n").split("\n")) for title, code in sections]
    total = sum(height(lines) for _, lines in sections)
    figure = Figure(figsize=(WIDTH, HEIGHT))
    top = HEIGHT - MARGIN - 0.35
    left, y, room = MARGIN, top, (WIDTH - MARGIN) / COLUMNS
    write = figure.text
    write(left / WIDTH, (HEIGHT - MARGIN) / HEIGHT, "fastnn", size=15, weight="bold", va="top")
    about = "neural networks on a CPU, from NumPy · pip install fastnn-cpu"
    write((left + 0.9) / WIDTH, (HEIGHT - MARGIN - 0.06) / HEIGHT, about, size=8, va="top")
    column, used = 0, 0.0
    for title, lines in sections:
        if column < COLUMNS - 1 and used + height(lines) / 2 > total / COLUMNS:
            column, used = column + 1, 0.0
            left, y = MARGIN + column * room, top
        write(left / WIDTH, y / HEIGHT, title, size=8.5, weight="bold", color="#0072B2", va="top")
        y -= 2.0 * LINE
        for line in lines:
            write(left / WIDTH, y / HEIGHT, paint(line), size=SIZE, family="monospace", va="top",
                  parse_math=False)  # fmt: skip
            y -= LINE
        y -= LINE
        used += height(lines)
        if y < 0 or len(max(lines, key=len)) > 71:
            raise ValueError(f"cheat_sheet.md, {title}: expected to fit on the sheet")
    with mpl.rc_context({"pdf.fonttype": 42}):
        path = folder / "generated" / "cheat_sheet.pdf"
        path.parent.mkdir(exist_ok=True)
        FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None})


def height(lines):
    """Return the inches that a section takes."""
    return (len(lines) + 3) * LINE


def paint(line):
    """Return a line as it is drawn: without marks for the formatter."""
    return line.removesuffix("  # fmt: skip")
