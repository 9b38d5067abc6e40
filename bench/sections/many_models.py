"""Many small models: all trained at once, and one made from nothing."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat

import numpy as np

import fastnn
from bench.environment import THREADS
from bench.networks import LEARNING_RATE, Network
from bench.peers import JAX
from bench.timing import Record, Run, record

NETWORK = Network((10, 32, 32, 1), 32, loss="mse")
MODELS, ROWS, EPOCHS = 256, 1000, 5


def many_models(run: Run) -> Iterator[Record]:
    """Many small models, 10-32-32-1: 256 of them made and trained, one made"""
    count = 16 if run.quick else MODELS
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, NETWORK.sizes[0]), np.float32)
    y = rng.standard_normal((ROWS, 1), np.float32)
    runs = {"fastnn": partial(together, count, x, y), "one by one": partial(in_turn, count, x, y)}
    compiling = 0.0
    if find_spec("jax"):
        runs["jax"] = vectorized(count, x, y)
        start = time.perf_counter()
        runs["jax"](1)
        compiling = time.perf_counter() - start
    times = run.times(runs)
    case = f"{count} models, {ROWS:,} rows, {EPOCHS} epochs, batch {NETWORK.batch}"
    yield record(case, times)
    if compiling:
        times = {"fastnn": times["fastnn"], "jax": compiling}
        yield record("the same once, compiling included", times)
    makers = {"fastnn": first_step, "torch": torch_first_step}
    makers = {name: make for name, make in makers.items() if find_spec(name)}
    yield record("a model, its optimizer and the first step", run.times(makers))


def trainer(seed: int) -> fastnn.Trainer:
    """Return a trainer of a new model."""
    model = fastnn.Sequential(
        fastnn.Linear(10, 32), fastnn.ReLU(), fastnn.Linear(32, 32), fastnn.ReLU(),
        fastnn.Linear(32, 1), rng=seed,
    )  # fmt: skip
    optimizer = fastnn.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return fastnn.Trainer(model, "mse", optimizer)


def together(count: int, x: np.ndarray, y: np.ndarray, n: int) -> None:
    """Make and train all models, n times."""
    for _ in repeat(None, n):
        trainers = [trainer(seed) for seed in range(count)]
        fastnn.fit_many(trainers, x, y, epochs=EPOCHS, batch_size=NETWORK.batch, rng=0)


def in_turn(count: int, x: np.ndarray, y: np.ndarray, n: int) -> None:
    """The same by a loop."""
    options = {"epochs": EPOCHS, "batch_size": NETWORK.batch, "progress": False, "rng": 0}
    for _ in repeat(None, n):
        for seed in range(count):
            trainer(seed).fit(x, y, **options)


def vectorized(count: int, x: np.ndarray, y: np.ndarray) -> Callable[[int], None]:
    """Return all models made and trained under one vmap and one scan, without last minibatches."""
    import jax

    peer, rng = JAX(NETWORK, NETWORK.initial_weights()), np.random.default_rng(0)
    rows = ROWS // NETWORK.batch * NETWORK.batch
    orders = [rng.permutation(ROWS)[:rows].reshape(-1, NETWORK.batch) for _ in range(EPOCHS)]
    order = jax.device_put(np.concatenate(orders).astype("int32"))
    x, y = peer.convert(x, y)

    def train(key: jax.Array):
        keys = jax.random.split(key, len(NETWORK.shapes))
        parameters = [
            (
                jax.random.normal(key, (ins, outs), x.dtype) / ins**0.5,
                jax.numpy.zeros(outs, x.dtype),
            )
            for key, (outs, ins) in zip(keys, NETWORK.shapes, strict=True)
        ]
        zeros = partial(jax.tree.map, jax.numpy.zeros_like)
        state = (parameters, zeros(parameters), zeros(parameters), jax.numpy.zeros((), "int32"))
        return peer._epoch(state, x, y, order)

    all_models = jax.jit(jax.vmap(train))
    keys = jax.random.split(jax.random.key(0), count)

    def run(n: int) -> None:
        for _ in repeat(None, n):
            jax.block_until_ready(all_models(keys))

    return run


def first_step(n: int) -> None:
    """Make a model with its optimizer and trainer and take a step, n times."""
    x, y = NETWORK.data()
    for _ in repeat(None, n):
        trainer(0).step(x, y)


def torch_first_step(n: int) -> None:
    """The same in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = map(torch.from_numpy, NETWORK.data())
    for _ in repeat(None, n):
        model = nn.Sequential(
            nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
