"""All optimizers on four surfaces: the steps they need, paths of four as a PNG and a moving GIF.

    pip install ".[plot]" && python examples/optimizer_paths.py [--short]

The gradients are written by hand and the optimizers work on one plain float64 array. The table is
for the learning rate of a grid with which each needs the fewest steps without leaving the picture.
The pictures show a third of that rate, with which paths are calmer. `--short` tries fewer rates and
steps and draws fewer frames. Files go to the working directory.
"""

import sys
from functools import partial

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.animation import PillowWriter

from fastnn import optim, plot

OPTIMIZERS = {
    "SGD": optim.SGD, "momentum": partial(optim.SGD, momentum=0.9),
    "Nesterov": partial(optim.SGD, momentum=0.9, nesterov=True),
    "NAG": optim.NAG, "Adagrad": optim.Adagrad, "RMSprop": optim.RMSprop,
    "Adam": optim.Adam, "AdamW": partial(optim.AdamW, weight_decay=1e-3), "LAMB": optim.LAMB,
}  # fmt: skip
DRAWN, SHOWN = ("SGD", "momentum", "RMSprop", "Adam"), 120  # in the pictures, and their steps
TOLERANCE, HOLD = 0.05, 100  # stay as near to the minimum as this for so many steps


def beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def beale_gradient(x, y):
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    dx = 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1))
    return dx, 2 * x * (a + 2 * b * y + 3 * c * y**2)


SURFACES = {  # name: loss, gradient, start, minimum, limits of x and of y
    "Beale": (beale, beale_gradient, (1.0, 1.5), (3.0, 0.5), (-0.5, 4), (-1.5, 2)),
    "Rosenbrock": (lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
                   lambda x, y: (2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2)),
                   (-1.2, 1.0), (1.0, 1.0), (-1.8, 1.8), (-0.8, 2.2)),
    "saddle": (lambda x, y: x**2 / 2 + y**4 / 4 - y**2 / 2,  # between minima at (0, ±1)
               lambda x, y: (x, y**3 - y), (-1.5, 0.01), (0.0, 1.0), (-1.8, 0.8), (-0.6, 1.6)),
    "elongated bowl": (lambda x, y: x**2 / 2 + 25 * y**2, lambda x, y: (x, 50 * y),
                       (-4.0, 1.0), (0.0, 0.0), (-4.5, 1.5), (-1.3, 1.3)),
}  # fmt: skip


def descend(make, gradient, start, limits, lr, steps):
    """Return the points visited, (steps + 1, 2); NaN from where they leave the picture."""
    point, path = np.array(start), np.full((steps + 1, 2), np.nan)
    optimizer, path[0], (low, high) = make([point], lr), start, np.transpose(limits)
    for t in range(steps):
        optimizer.step([np.array(gradient(*point.tolist()))])  # changes point in place
        # NAG's array holds the points where it looks ahead
        path[t + 1] = optimizer.positions()[0] if isinstance(optimizer, optim.NAG) else point
        if not ((low <= path[t + 1]) & (path[t + 1] <= high)).all():
            path[t + 1] = np.nan
            break
    return path


def steps_needed(path, minimum):
    """Return after how many steps the path stays near the minimum; None if it does not."""
    near = np.hypot(*(path - minimum).T) < TOLERANCE
    stays = np.convolve(near, np.ones(HOLD), "valid") == HOLD
    return int(stays.argmax()) if stays.any() else None


def best_rate(make, surface, rates, steps):
    """Return the rate that needs the fewest steps, or that ends nearest; and how many steps."""
    _, gradient, start, minimum, *limits = surface

    def rank(lr):
        path = descend(make, gradient, start, limits, lr, steps)
        end = np.hypot(*(path[-1] - minimum))
        return steps_needed(path, minimum) or len(path), np.nan_to_num(end, nan=np.inf)

    rate = min(rates, key=rank)
    return rate, steps_needed(descend(make, gradient, start, limits, rate, steps), minimum)


def main(short=False):
    rates = np.geomspace(1e-4, 1, 10 if short else 28)
    steps, frames = (400, 8) if short else (2000, 60)
    print(f"{'steps to the minimum':22}" + "".join(f"{name:>10}" for name in OPTIMIZERS))
    pictures, solved = {}, 0
    for title, surface in SURFACES.items():
        loss, gradient, start, minimum, *limits = surface
        found = {name: best_rate(make, surface, rates, steps) for name, make in OPTIMIZERS.items()}
        print(f"{title:22}" + "".join(f"{count or '-':>10}" for _, count in found.values()))
        solved += sum(count is not None for _, count in found.values())
        # The fastest rate is the wildest; at a third of it one sees what the rule does.
        paths = {
            name: descend(OPTIMIZERS[name], gradient, start, limits, found[name][0] / 3, SHOWN)
            for name in DRAWN
        }
        pictures[title] = {"loss": loss, "paths": paths, "minimum": minimum,
                           "xlim": limits[0], "ylim": limits[1]}  # fmt: skip
    plot.optimizer_comparison(pictures).savefig("optimizer_paths.png", dpi=110)
    moving = plot.optimizer_animation(**pictures["Beale"], frames=frames)
    moving.save("optimizer_paths.gif", PillowWriter(fps=12))
    print("wrote optimizer_paths.png and optimizer_paths.gif")
    return 0 if solved >= 24 else 1


if __name__ == "__main__":
    sys.exit(main("--short" in sys.argv[1:]))
