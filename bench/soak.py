"""Does it stay as it is over a long time? Memory, descriptors and results, watched for hours.

    python bench/soak.py             # a million steps, 1e5 fits, 1e4 models, an hour of mixed work
    python bench/soak.py --short     # the same for five minutes
    python bench/soak.py --smoke     # for some seconds: does it run?
    python bench/soak.py fits mixed --minutes 40  # some parts; how long the mixed one takes

After the first fifth of each part the process may grow by 4 MB and no more and may keep no
descriptor open, and every repetition must give the bits of the first. What is printed are lines of
the table in docs/reliability.md; the exit status is 1 if something has changed.
"""

import argparse
import copy
import ctypes
import gc
import os
import pickle
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count

import numpy as np

import fastnn

# How often each part is repeated, and the seconds of the mixed one.
SCALES = {"full": (10**6, 10**5, 10**4, 3600), "short": (10**6, 20_000, 3000, 120),
          "smoke": (20_000, 300, 100, 5)}  # fmt: skip
GROWTH = 4.0  # MB

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype(np.float32)
Y = np.tanh(X[:, :2])
SEQUENCES = RNG.normal(size=(8, 12, 3)).astype(np.float32)


def network(rng=0):
    return fastnn.Sequential(
        fastnn.Linear(6, 16), fastnn.BatchNorm1d(16), fastnn.ReLU(), fastnn.Dropout(0.2),
        fastnn.Linear(16, 2), rng=rng,
    )  # fmt: skip


def trainer_of(model):
    return fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=0.01))


def resident():
    """Return the memory that the process holds, in MB, without what the C library keeps back."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def steps():
    """Take a thousand steps at a time with one model, put back after five thousand.

    This and the others yield how much was done, which repetition it is of, and its result.
    """
    trainer = trainer_of(network())
    start = copy.deepcopy(trainer)
    for turn in count():
        if turn % 5 == 0:
            trainer = copy.deepcopy(start)
        for _ in range(1000):
            loss = trainer.step(X, Y)
        yield 1000, turn % 5, loss


def fits():
    """Fit new tiny models."""
    while True:
        trainer = trainer_of(fastnn.Sequential(fastnn.Linear(6, 3), fastnn.Tanh(),
                                               fastnn.Linear(3, 2), rng=0))  # fmt: skip
        history = trainer.fit(X, Y, epochs=2, rng=0, progress=False)
        yield 1, 0, history.history["loss"]


def models():
    """Make, run and delete models of many sizes."""
    for turn in count():
        width = 10 + turn % 50
        model = fastnn.Sequential(fastnn.Linear(6, width), fastnn.LayerNorm(width), fastnn.GELU(),
                                  fastnn.Linear(width, 2), rng=0)  # fmt: skip
        yield 1, (width, turn % 7), float(model(X[: 1 + turn % 7]).sum())


def mixed():
    """Do nearly all that there is."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        while True:
            model = network()
            trainer = trainer_of(model)
            trainer.fit(X, Y, epochs=2, rng=0, progress=False, validation_split=0.25,
                        metrics=["r2"], callbacks=[fastnn.EarlyStopping("val_loss", patience=9)])
            trainer.save(path)
            again = network(1)
            optimizer = fastnn.optim.Adam(again.parameters())
            fastnn.Trainer.restore(path, again, "mse", optimizer).step(X, Y)
            fastnn.save(path, again)
            loaded = pickle.loads(pickle.dumps(fastnn.load(path)))
            found = [float(loaded.predictor()(X).sum())]
            recurrent = fastnn.Sequential(fastnn.LSTM(3, 8), fastnn.Linear(8, 1), rng=0)
            other = trainer_of(recurrent)
            for length in (3, 7, 12):
                found.append(other.step(SEQUENCES[:, :length], SEQUENCES[:, :length, :1]))
            several = [trainer_of(network(seed)) for seed in range(3)]
            fastnn.fit_many(several, X, Y, epochs=1, rng=0)
            found += [float(one.model.get_flat().sum()) for one in several]
            smooth = fastnn.Sequential(fastnn.Linear(6, 4), fastnn.Tanh(), fastnn.Linear(4, 2),
                                       dtype="float64", rng=0)  # fmt: skip
            found.append(fastnn.solvers.lbfgs(smooth, "mse", X, Y, max_iter=5).loss)
            found.append(float(fastnn.ops.linear(X, np.ones((2, 6), np.float32)).sum()))
            for wrong in (X[:, :5], "text", None):
                try:
                    trainer.step(wrong, Y)
                except (TypeError, ValueError):
                    continue
                raise AssertionError("a bad batch was taken")
            yield 1, 0, found


PARTS = {"steps": steps, "fits": fits, "models": models, "mixed": mixed}


def watch(name, make, number, seconds):
    """Repeat a part; return its row of the table and whether all has stayed as it was."""
    work, first, done, wrong = make(), {}, 0, 0
    began, warm = time.monotonic(), None
    while (done < number) if number else (time.monotonic() - began < seconds):
        units, key, result = next(work)
        done += units
        wrong += first.setdefault(key, result) != result
        share = done / number if number else (time.monotonic() - began) / seconds
        if warm is None and share >= 0.2:
            warm = resident(), descriptors()
    work.close()
    grown, opened = resident() - warm[0], descriptors() - warm[1]
    well = grown <= GROWTH and opened <= 0 and wrong == 0
    what = "rounds of mixed work" if name == "mixed" else name
    print(f"| soak: {done:,} {what} in {time.monotonic() - began:.0f} s | "
          f"{grown:+.1f} MB of {warm[0]:.0f} after the first fifth, {opened:+d} descriptors, "
          f"{wrong} other results | `python bench/soak.py {' '.join(sys.argv[1:])}` |",
          flush=True)  # fmt: skip
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("short", "smoke"):
        parser.add_argument(f"--{name}", action="store_const", const=name, dest="scale")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    given, well = parser.parse_args(), True
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"expected of the parts {', '.join(PARTS)}, got {', '.join(unknown)}")
    for (name, make), number in zip(PARTS.items(), SCALES[given.scale or "full"], strict=True):
        if name not in (given.parts or PARTS):
            continue
        if name == "mixed":
            well &= watch(name, make, 0, 60 * given.minutes if given.minutes else number)
        else:
            well &= watch(name, make, number, 0)
    sys.exit(not well)


if __name__ == "__main__":
    main()
