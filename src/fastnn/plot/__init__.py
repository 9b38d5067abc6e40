"""Pictures of training, optimizers and networks; needs matplotlib: pip install matplotlib.

Every function returns what it has drawn, a matplotlib figure or axes. A notebook shows it; else
call ``matplotlib.pyplot.show()`` or ``figure.savefig(path)``. Those with `ax` draw there, and on a
new figure if it is not given; where there are several panels, `ax` is as many axes. On dark ground,
``matplotlib.pyplot.style.use("dark_background")``, lines are of lighter colours. All colours are
those that colour-blind people can tell apart.
"""

from fastnn.introspection.pictures import SVG
from fastnn.plot.curves import learning_curves, norms, schedule_values
from fastnn.plot.decisions import decision_boundary
from fastnn.plot.layers import (
    activations,
    computational_graph,
    dead_fractions,
    dead_units,
    layer_activations,
    layer_gradients,
    saturated_fractions,
    saturated_units,
)
from fastnn.plot.style import COLORS as COLORS
from fastnn.plot.surfaces import (
    optimizer_animation,
    optimizer_comparison,
    optimizer_paths,
    path_losses,
    surface,
)

__all__ = [
    "SVG", "activations", "computational_graph", "dead_fractions", "dead_units",
    "decision_boundary", "layer_activations", "layer_gradients", "learning_curves", "norms",
    "optimizer_animation", "optimizer_comparison", "optimizer_paths", "path_losses",
    "saturated_fractions", "saturated_units", "schedule_values", "surface",
]


def __dir__() -> list[str]:
    return __all__
