"""Many small models: all trained at once, and one made from nothing."""

import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat

import numpy as np

import fastnn
from bench.networks import Network
from bench.peers import JAX, FastNN, PyTorch
from bench.timing import Record, Run, record

NETWORK = Network((10, 32, 32, 1), 32, loss="mse")
MODELS, ROWS, EPOCHS = 256, 1000, 5


def many_models(run: Run) -> Iterator[Record]:
    """Many small models, 10-32-32-1: 256 of them trained, one made"""
    count = 16 if run.quick else MODELS
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, NETWORK.sizes[0]), np.float32)
    y = rng.standard_normal((ROWS, 1), np.float32)
    runs = {"fastnn": partial(together, count, x, y), "one by one": partial(in_turn, count, x, y)}
    compiling = 0.0
    if find_spec("jax"):
        start = time.perf_counter()
        runs["jax"] = vectorized(count, x, y)
        runs["jax"](1)
        compiling = time.perf_counter() - start
    times = run.times(runs)
    case = f"{count} models, {ROWS:,} rows, {EPOCHS} epochs, batch {NETWORK.batch}"
    yield record(case, times)
    if compiling:
        times = {"fastnn": times["fastnn"], "jax": compiling}
        yield record("the same once, compiling included", times)
    makers = {make.name: partial(first_step, make) for make in (FastNN, PyTorch)
              if find_spec(make.needs)}  # fmt: skip
    yield record("a model, its optimizer and the first step", run.times(makers))


def trainers(count: int) -> list[fastnn.Trainer]:
    """Return trainers of models with a seed each."""
    return [FastNN(NETWORK, NETWORK.initial_weights(seed)).trainer for seed in range(count)]


def together(count: int, x: np.ndarray, y: np.ndarray, n: int) -> None:
    """Make and train all models, n times."""
    for _ in repeat(None, n):
        fastnn.fit_many(trainers(count), x, y, epochs=EPOCHS, batch_size=NETWORK.batch, rng=0)


def in_turn(count: int, x: np.ndarray, y: np.ndarray, n: int) -> None:
    """The same by a loop."""
    options = {"epochs": EPOCHS, "batch_size": NETWORK.batch, "progress": False, "rng": 0}
    for _ in repeat(None, n):
        for trainer in trainers(count):
            trainer.fit(x, y, **options)


def vectorized(count: int, x: np.ndarray, y: np.ndarray):
    """Return all epochs of all models under one vmap and one scan; the last minibatch is left out.

    The states are made beforehand.
    """
    import jax

    peers = [JAX(NETWORK, NETWORK.initial_weights(seed)) for seed in range(count)]
    first, rng = peers[0], np.random.default_rng(0)
    rows = ROWS // NETWORK.batch * NETWORK.batch
    orders = [rng.permutation(ROWS)[:rows].reshape(-1, NETWORK.batch) for _ in range(EPOCHS)]
    order = jax.device_put(np.concatenate(orders).astype("int32"))
    x, y = first.convert(x, y)
    states = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *(p.state for p in peers))
    train = jax.jit(jax.vmap(first._epoch, in_axes=(0, None, None, None)))

    def run(n: int) -> None:
        for _ in repeat(None, n):
            jax.block_until_ready(train(states, x, y, order))

    return run


def first_step(make: type, n: int) -> None:
    """Make a model with its optimizer and take a step, n times."""
    weights = NETWORK.initial_weights()
    x, y = NETWORK.data()
    for _ in repeat(None, n):
        peer = make(NETWORK, weights)
        peer.wait(peer.step(*peer.convert(x, y)))
