"""A figure that a notebook shows once; imported when the first one is made."""

from __future__ import annotations

from typing import Any

from fastnn.plot.style import pyplot

plt = pyplot()
from matplotlib.figure import Figure  # noqa: E402  # after the message that it is missing


class ShownOnce(Figure):
    """A figure that is no longer open when it has been shown as the result of a cell.

    The inline backend shows all open figures at the end of a cell; one that the cell has returned
    would be there twice.
    """

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Close the figure where it is shown inline; the picture comes from the usual formatter."""
        if "inline" in plt.get_backend():
            plt.close(self)
        return {}
