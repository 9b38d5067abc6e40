"""Fit sin(10 x) / 10 x by Adam, L-BFGS and Levenberg-Marquardt: the same network, the same start.

    pip install ".[plot]" && python examples/sinc.py [--short]

Twenty thousand points in [-1, 1], a network 1-20-1 with tanh (61 parameters) in float64. Least
squares with few parameters are what Levenberg-Marquardt is for: each of its steps solves for all
parameters at once. Prints the mean squared error and the time of each, and saves errors over time
as sinc.png. `--short` takes fewer points and less time.
"""

import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import solvers

COLOURS = {"Adam": "#0072b2", "L-BFGS": "#e69f00", "Levenberg-Marquardt": "#009e73"}


def network():
    """Return the network as it starts."""
    return fastnn.Sequential(
        fastnn.Linear(1, 20), fastnn.Tanh(), fastnn.Linear(20, 1), dtype="float64", rng=3
    )


class Clock:
    """Seconds and errors so far; a callback of solvers that ends them when time is up."""

    def __init__(self, error, seconds):
        self.limit, self.seconds, self.errors = seconds, [1e-3], [error]
        self.start = time.perf_counter()

    def __call__(self, iteration, error):
        self.seconds.append(time.perf_counter() - self.start)
        self.errors.append(error)
        return self.seconds[-1] > self.limit


def adam(model, x, y, clock):
    """Train in batches of 1,000 for the time there is, the rate falling to a hundredth."""
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.01)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    options = {"batch_size": 1000, "progress": False, "rng": 0}
    trainer.fit(x, y, epochs=2, **options)
    start = time.perf_counter()
    trainer.fit(x, y, epochs=5, **options)
    epochs = int(5 * clock.limit / (time.perf_counter() - start))
    steps = epochs * len(x) // 1000
    optimizer.lr = fastnn.schedules.cosine_decay(0.01, optimizer.t + steps, 1e-4)
    trainer.fit(
        x, y, epochs=epochs, **options,
        callbacks=[lambda epoch, logs: clock(epoch, logs["loss"])],
    )  # fmt: skip


def fit(x, y, seconds):
    """Return the clock of each method and its network."""
    found = {}
    for name in COLOURS:
        model = network()
        clock = Clock(float(np.mean((model(x) - y) ** 2)), seconds)
        if name == "Adam":
            adam(model, x, y, clock)
        elif name == "L-BFGS":
            solvers.lbfgs(model, "mse", x, y, max_iter=100_000, tol=1e-12, callback=clock)
        else:
            solvers.levenberg_marquardt(
                model, x, y, batch_size=1000, max_iter=1000, tol=1e-12, callback=clock
            )
        found[name] = clock, model
    return found


def draw(found, x, y):
    """Save errors over time, and what is left of the function."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for name, (clock, model) in found.items():
        left.loglog(clock.seconds, clock.errors, color=COLOURS[name], label=name)
        right.plot(x, model(x) - y, color=COLOURS[name], lw=1)
    left.set(xlabel="seconds, one thread", ylabel="mean squared error")
    left.legend(frameon=False)
    right.set(xlabel="x", ylabel="network - sin(10 x) / 10 x")
    right.set_yscale("symlog", linthresh=1e-5)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig("sinc.png", dpi=150)


def main(short):
    """Fit, print and draw."""
    fastnn.set_num_threads(1)
    x = np.linspace(-1, 1, 2_000 if short else 20_000)[:, None]
    y = np.sinc(10 * x / np.pi)
    found = fit(x, y, 0.5 if short else 5)
    for name, (clock, model) in found.items():
        error = np.mean((model(x) - y) ** 2)
        print(f"{name:20} mean squared error {error:.1e} after {clock.seconds[-1]:.2f} s")
    clock, _ = found["Levenberg-Marquardt"]
    for seconds, error in zip(clock.seconds, clock.errors, strict=True):
        if error <= 3e-8:
            print(f"Levenberg-Marquardt was below 3e-8 after {seconds:.2f} s")
            break
    draw(found, x[:: len(x) // 2_000], y[:: len(x) // 2_000])


if __name__ == "__main__":
    main("--short" in sys.argv[1:])
