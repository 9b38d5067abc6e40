"""Many small models at once: by threads, by Dask and by Ray, where these are installed.

    pip install ".[examples]" "dask[distributed]" ray
    python examples/sweep.py [--short]

A fit holds no interpreter lock while it computes, so that threads are enough on one machine: no
copy of the data, no processes. Dask and Ray bring the same function to a cluster; give their
workers one thread each, or limit fastnn's own, as here.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from sklearn.datasets import load_digits

import fastnn

EPOCHS, MODELS = (1, 4) if "--short" in sys.argv else (20, 64)


def train(seed, x, y):
    """Return the training loss that a network reaches from the weights of a seed."""
    fastnn.set_num_threads(1)  # models are what is done at the same time
    model = fastnn.Sequential(fastnn.Linear(64, 32), fastnn.ReLU(), fastnn.Linear(32, 10), rng=seed)
    trainer = fastnn.Trainer(
        model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=3e-3)
    )
    return trainer.fit(x, y, epochs=EPOCHS, progress=False, rng=seed).history["loss"][-1]


def one_by_one(x, y):
    return [train(seed, x, y) for seed in range(MODELS)]


def threads(x, y):
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(train, x=x, y=y), range(MODELS)))


def dask(x, y):
    import dask

    return list(dask.compute(*(dask.delayed(train)(seed, x, y) for seed in range(MODELS)),
                             scheduler="threads"))  # fmt: skip


def ray(x, y):
    import ray

    ray.init(logging_level="error", log_to_driver=False)
    x, y = ray.put(x), ray.put(y)  # once for all; workers read them in place
    remote = ray.remote(train)
    return ray.get([remote.remote(seed, x, y) for seed in range(MODELS)])


if __name__ == "__main__":
    x, y = load_digits(return_X_y=True)
    x = np.asarray(x / 16, np.float32)
    found = {}
    for way in (one_by_one, threads, dask, ray):
        start = time.perf_counter()
        try:
            found[way.__name__] = way(x, y)
        except ImportError as error:
            print(f"{way.__name__:12} left out: {error}")
            continue
        print(f"{way.__name__:12} {MODELS} models in {time.perf_counter() - start:.2f} s")
        assert found[way.__name__] == found["one_by_one"]  # the same bits
