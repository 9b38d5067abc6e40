"""What a step takes beside its kernels."""

from collections.abc import Iterator
from functools import partial

import fastnn
from bench.networks import EPOCHS, LEARNING_RATE, STEPS, Network
from bench.peers import FastNN
from bench.sections.epochs import EPOCH, fitting
from bench.sections.steps import training
from bench.timing import Record, Run, loop, record

ALLOWED_OVERHEAD = 2e-6  # seconds
ALLOWED_FREEZING = 245 / 235  # times of two models, of which one is trained


def overhead(run: Run) -> Iterator[Record]:
    """A step beside its kernels + 2 µs, and a step of fit beside one alone + 2 µs"""
    for network in run.some((n for n in STEPS[:6] if n.update), 1):
        peer = FastNN(network, network.initial_weights())
        data = network.data()
        runs = {"step": partial(peer.run, *data), "kernels": partial(peer.kernels, *data)}
        times = run.times(runs)
        times = {"fastnn": times["step"], "allowed": times["kernels"] + ALLOWED_OVERHEAD}
        yield record(f"step of {network}", times, target=1)
    for network in run.some(EPOCHS, 1):
        runs = fitting(network, *network.data(EPOCH), [FastNN])
        times = run.times({"fit": runs["fastnn"], "step": training(FastNN, network)})
        times = {"fastnn": times["fit"] / EPOCH, "allowed": times["step"] + ALLOWED_OVERHEAD}
        yield record(f"fit of {network}", times, target=1)
    yield freezing(run)


def freezing(run: Run) -> Record:
    """Training the last layer alone, beside the same by hand: what is below only runs forward."""
    network = Network((784, 256, 10), 128)
    x, y = network.data()

    def layers() -> list[fastnn.Layer]:
        return FastNN(network, network.initial_weights()).model.layers

    def head(model: fastnn.Layer, trained: fastnn.Layer) -> fastnn.Trainer:
        optimizer = fastnn.optim.Adam(trained.parameters(), lr=LEARNING_RATE)
        return fastnn.Trainer(model, network.loss, optimizer)

    whole, (*below, last) = fastnn.Sequential(*layers()), layers()
    one, two, features = head(whole, whole[-1]), head(last, last), fastnn.Sequential(*below)
    runs = {"one": loop(partial(one.step, x, y)), "two": loop(lambda: two.step(features(x), y))}
    times = run.times(runs)
    times = {"fastnn": times["one"], "allowed": ALLOWED_FREEZING * times["two"]}
    return record(f"last layer of {network}", times, target=1)
