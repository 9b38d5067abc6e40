"""The estimators beside scikit-learn's own, beside the trainer, and one sample at a time."""

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import repeat

import numpy as np

from bench.networks import Network
from bench.timing import Record, Run, loop, record

WRAPPING = 50e-6  # seconds that a fit may take beside the trainer's
ONE, ONE_THROUGH_THE_ESTIMATOR = 2.5e-6, 8e-6  # seconds to learn and to predict one sample
EPOCHS = 20


def digits(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 handwritten digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(dtype), y


def fits(kinds: dict, x: np.ndarray, y: np.ndarray, **options: object) -> dict:
    """Return for each kind of estimator the function that fits n new ones."""

    def fit(kind: type) -> None:
        with warnings.catch_warnings(action="ignore"):
            kind(random_state=0, **options).fit(x, y)

    return {name: loop(partial(fit, kind)) for name, kind in kinds.items()}


def limit(run: Run, x: np.ndarray, batch: int) -> float:
    """Return the seconds in which the machine could do the steps of a fit."""
    network = Network((64, 100, 10), batch, dtype=str(x.dtype))
    step = run.machine.seconds(network.flops(), network.bytes(), network.dtype)
    return EPOCHS * len(x) / batch * step


def trainer_fit(x: np.ndarray, y: np.ndarray, batch: int) -> None:
    """Fit what an MLPClassifier fits, by hand."""
    import fastnn

    model = fastnn.Sequential(
        fastnn.Linear(64, 100), fastnn.ReLU(), fastnn.Linear(100, 10), dtype=x.dtype, rng=0
    )
    optimizer = fastnn.optim.Adam(model.parameters(), eps_uncorrected=True)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer, l2=1e-4 / batch)
    trainer.fit(x, y, epochs=EPOCHS, batch_size=batch, progress=False, rng=0)


def estimators(run: Run) -> Iterator[Record]:
    """Estimators: whole fits of digits, 64-100-10, and one sample at a time"""
    from sklearn import neural_network

    from fastnn.sklearn import MLPClassifier, MLPRegressor

    kinds = {"fastnn": MLPClassifier, "sklearn": neural_network.MLPClassifier}
    for dtype in ("float64", "float32"):
        for batch in (32, 200):
            x, y = digits(dtype)
            times = run.times(fits(kinds, x, y, max_iter=EPOCHS, batch_size=batch))
            least = limit(run, x, batch)
            case = f"{EPOCHS} epochs, batch {batch}, {dtype}"
            yield record(case, times, target=12, limit=least)
    runs = fits(kinds, *digits("float64"), solver="lbfgs", max_iter=50)
    yield record("solver='lbfgs', 50 iterations", run.times(runs))

    x, y = digits("float32")
    runs = fits({"fit": MLPClassifier}, x, y, max_iter=EPOCHS, batch_size=32)
    runs["trainer"] = loop(partial(trainer_fit, x, y, 32))
    times = run.times(runs)
    times = {"fastnn": times["fit"], "allowed": times["trainer"] + WRAPPING}
    yield record("a fit, beside the trainer's + 50 µs", times, target=1)
    yield from one_sample(MLPRegressor, neural_network.MLPRegressor, run)


def one_sample(ours: type, theirs: type, run: Run) -> Iterator[Record]:
    """Learn and predict one sample of 10 features, 30 hidden units."""
    import fastnn

    x = np.linspace(-1, 1, 10)[None]
    named = dict(zip("abcdefghij", x[0].tolist(), strict=True))
    options = {"hidden_layer_sizes": (30,), "solver": "sgd", "random_state": 0}
    one, other = ours(**options), theirs(**options)
    model = fastnn.Sequential(fastnn.Linear(10, 30), fastnn.ReLU(), fastnn.Linear(30, 1), rng=0)
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=1e-3))
    single, target = x.astype("float32"), np.zeros((1, 1), "float32")

    def by_estimator(n: int) -> None:
        for _ in repeat(None, n):
            one.learn_one(named, 0.0)
            one.predict_one(named)

    def by_trainer(n: int) -> None:
        for _ in repeat(None, n):
            trainer.step(single, target)
            model(single)

    def by_sklearn(n: int) -> None:
        for _ in repeat(None, n):
            other.partial_fit(x, [0.0])
            other.predict(x)

    times = run.times({"t": by_trainer, "e": by_estimator, "sklearn": by_sklearn})
    yield record("one sample, trainer", {"fastnn": times["t"], "allowed": ONE}, target=1)
    allowed = {"fastnn": times["e"], "allowed": ONE_THROUGH_THE_ESTIMATOR}
    yield record("one sample, learn_one and predict_one", allowed, target=1)
    yield record("the same", {"fastnn": times["e"], "sklearn": times["sklearn"]})
