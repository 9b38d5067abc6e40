"""The directive `picture`: draws what the name after it stands for, where there is a drawing."""

from docutils import nodes
from docutils.parsers.rst import Directive


class Picture(Directive):
    """`.. picture:: fastnn.layers.ReLU` is a figure, or nothing."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        return []


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True}
