"""The directive `picture`: draws what the name after it stands for, on light ground and on dark."""

import doctest
import importlib
from pathlib import Path

import drawings
import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

mpl.use("Agg")
# Okabe and Ito's colours, and lighter ones for a dark ground
GROUNDS = {
    "light": ("default", ["#0072B2", "#D55E00", "#009E73"]),
    "dark": ("dark_background", ["#56B4E9", "#FF8C42", "#2FD6A3"]),
}


class Picture(SphinxDirective):
    """`.. picture:: fastnn.layers.ReLU`; nothing where there is no drawing."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw, and return the images."""
        name = self.arguments[0]
        module, _, last = name.rpartition(".")
        draw = drawings.find(module, last)
        if draw is None and module == "fastnn.plot":
            draw = example(module, last)
        if draw is None:
            return []
        folder = Path(self.env.srcdir) / "generated" / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        alt = f"Picture of {last}"
        text = draw() if draw in drawings.IN_SVG.values() else None
        if text is not None:
            (folder / f"{name}.svg").write_text(text, encoding="utf-8")
            return [nodes.image(uri=f"/generated/pictures/{name}.svg", alt=alt)]
        found = []
        for ground, (style, colors) in GROUNDS.items():
            settings = {"svg.hashsalt": name, "axes.prop_cycle": cycler(color=colors)}
            with plt.style.context(style), mpl.rc_context(settings):
                draw()
                if not plt.get_fignums():
                    return []
                plt.gcf().savefig(
                    folder / f"{name}-{ground}.svg", transparent=True, metadata={"Date": None}
                )
                plt.close("all")
            uri = f"/generated/pictures/{name}-{ground}.svg"
            found.append(nodes.image(uri=uri, alt=alt, classes=[f"only-{ground}"]))
        return found


def example(module, name):
    """Return a function that runs the example of a docstring, which draws."""
    thing = getattr(importlib.import_module(module), name)
    steps = doctest.DocTestParser().get_examples(thing.__doc__ or "")

    def draw():
        names = {}
        for step in steps:
            exec(step.source, names)

    return draw if steps and not isinstance(thing, type) else None


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True}
