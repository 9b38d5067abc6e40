"""A figure that a notebook shows once. The only module here that imports matplotlib by itself."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


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
