"""A network that has converged beside a fresh one."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from bench.networks import DIGITS, LEARNING_RATE, STEPS
from bench.peers import FastNN
from bench.timing import Record, Run, record

NEVER_SLOWER = 0.97  # equal times differ by this much from one run to the next


def denormals(run: Run) -> Iterator[Record]:
    """A converged network beside a fresh one"""
    for network in run.some((STEPS[0], DIGITS), 1):
        x, _ = network.data()
        y = np.arange(len(x)) % network.sizes[-1]
        runs = {}
        for name, steps in {"fastnn": 100_000, "fresh": 1}.items():
            peer = FastNN(network, network.initial_weights(), lr=1e-2)
            peer.run(x, y, steps)
            peer.trainer.optimizer.lr = LEARNING_RATE
            runs[name] = partial(peer.run, x, y)
        yield record(str(network), run.times(runs), target=NEVER_SLOWER)
