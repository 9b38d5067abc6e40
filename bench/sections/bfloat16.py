"""Training steps whose products read bfloat16."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from bench.networks import STEPS, Network
from bench.peers import Autocast, FastNN
from bench.sections.steps import training
from bench.timing import Record, Run, record

# gain over float32
TARGETS = {Network((1024,) * 4, 1024): 1.5, Network((784, 256, 128, 10), 512): 1.35}


def bfloat16(run: Run) -> Iterator[Record]:
    """Training steps whose products read bfloat16, beside our own in float32 and PyTorch's"""
    for network in run.some(n for n in STEPS if n.update):
        weights, data = network.initial_weights(), network.data()
        runs = {
            "fastnn": partial(FastNN(network, weights, precision="bfloat16").run, *data),
            "float32": training(FastNN, network),
        }
        if find_spec("torch"):
            runs["autocast"] = training(Autocast, network)
        yield record(str(network), run.times(runs), target=TARGETS.get(network, 1))
