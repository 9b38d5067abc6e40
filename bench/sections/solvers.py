"""Solvers, derivatives and the bridge to SciPy, beside their goals and beside scikit-learn."""

import time
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from statistics import median

import numpy as np

from bench.networks import Network
from bench.timing import Record, Run, loop, record

ITERATIONS = 50
SINC, SINC_ERROR = 0.15, 3e-8  # seconds until the mean squared error is as small
STEP, JACOBIAN = 2e-6, 4e-6  # seconds


def lbfgs_runs(name: str, dtype: str) -> tuple[dict, Network, int]:
    """Return functions that take 50 n iterations on a set of scikit-learn's.

    And what ours evaluates, and how often.
    """
    from sklearn import datasets, neural_network

    import fastnn

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-3)
    if name == "digits":
        kind, loss, outputs, target = neural_network.MLPClassifier, "cross_entropy", 10, y
    else:
        y = (y - y.mean()) / y.std()
        kind, loss, outputs, target = neural_network.MLPRegressor, "mse", 1, y[:, None]
    x, target = x.astype(dtype), target.astype(dtype if outputs == 1 else "int64")

    def ours() -> int:
        model = fastnn.Sequential(
            fastnn.Linear(x.shape[1], 100), fastnn.ReLU(), fastnn.Linear(100, outputs),
            dtype=dtype, rng=0,
        )  # fmt: skip
        options = {"l2": 1 / len(x), "max_iter": ITERATIONS, "tol": 0}
        return fastnn.solvers.lbfgs(model, loss, x, target, **options).n_evaluations

    def sklearn() -> None:
        with warnings.catch_warnings(action="ignore"):
            kind(solver="lbfgs", alpha=1.0, max_iter=ITERATIONS, tol=0, random_state=0).fit(x, y)

    whole = Network((x.shape[1], 100, outputs), len(x), dtype=dtype, update=False)
    return {"fastnn": loop(ours), "sklearn": loop(sklearn)}, whole, ours()


def sinc_seconds(seed: int) -> float:
    """Return how long Levenberg-Marquardt takes to fit 20,000 points of sin(10 x) / 10 x."""
    import fastnn

    x = np.linspace(-1, 1, 20_000)[:, None]
    model = fastnn.Sequential(
        fastnn.Linear(1, 20), fastnn.Tanh(), fastnn.Linear(20, 1), dtype="float64", rng=seed
    )
    start = time.perf_counter()
    fastnn.solvers.levenberg_marquardt(
        model, x, np.sinc(10 * x / np.pi), batch_size=1000,
        callback=lambda iteration, error: error <= SINC_ERROR,
    )  # fmt: skip
    return time.perf_counter() - start


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return value and gradient."""
    a, b = x[:-1], x[1:]
    valley = b - a * a
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * a * valley - 2 * (1 - a)
    gradient[1:] += 200 * valley
    return float(100 * valley @ valley + (1 - a) @ (1 - a)), gradient


def solvers(run: Run) -> Iterator[Record]:
    """Solvers and derivatives"""
    import fastnn

    for name in ("digits", "diabetes"):
        for dtype in ("float64", "float32"):
            runs, whole, passes = lbfgs_runs(name, dtype)
            least = passes * run.machine.seconds(whole.flops(), whole.bytes(), dtype)
            case = f"{ITERATIONS} iterations of L-BFGS, {name}, {dtype}"
            yield record(case, run.times(runs), target=10, limit=least)
    seconds = median(sinc_seconds(seed) for seed in range(min(run.rounds, 5)))
    yield record("sinc by Levenberg-Marquardt", {"fastnn": seconds, "allowed": SINC}, target=1)

    start = np.full(100, -1.0)
    runs = {
        "steps": lambda n: fastnn.optim.minimize(rosenbrock, start, lr=1e-3, max_iter=max(n, 1)),
        "calls": lambda n: [rosenbrock(start) for _ in repeat(None, n)],
    }
    times = run.times(runs)
    times = {"fastnn": times["steps"], "allowed": times["calls"] + STEP}
    yield record("a step of optim.minimize, beside the function + 2 µs", times, target=1)

    for dtype in ("float32", "float64"):
        model = fastnn.Sequential(
            fastnn.Linear(10, 64), fastnn.Tanh(), fastnn.Linear(64, 64), fastnn.Tanh(),
            fastnn.Linear(64, 3), dtype=dtype, rng=0,
        )  # fmt: skip
        row = np.linspace(-1, 1, 10)[None].astype(dtype)
        runs = {"fastnn": loop(partial(fastnn.analysis.jacobian, model, row))}
        times = run.times(runs) | {"allowed": JACOBIAN}
        yield record(f"Jacobian of 10-64-64-3 for one row, {dtype}", times, target=1)
