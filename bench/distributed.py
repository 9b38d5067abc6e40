"""Data-parallel training: a step of several ranks, its sum of gradients, and what `comm` costs.

    mpiexec -n 2 python bench/distributed.py              # every section
    mpiexec -n 2 python bench/distributed.py --rounds 1   # does it run?

Each rank has one thread. Times are medians over rounds in which what is compared takes turns; a
rank that has nothing to do in a turn sleeps.
"""

import os

os.environ["FASTNN_NUM_THREADS"] = "1"

import argparse
import json
import time
from itertools import pairwise

import numpy as np
from mpi4py import MPI

import fastnn
from fastnn.distributed.exchange import sum_gradients
from fastnn.distributed.group import group_of

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.Get_rank(), COMM.Get_size()


def meet():
    """Wait for the others asleep, so that their processors are free."""
    others = COMM.Ibarrier()
    while not others.Test():
        time.sleep(1e-3)


def turn(call, repeats, alone=False):
    """Return the seconds of one call, of all ranks together or of the first one alone."""
    meet()
    taken = np.nan
    if RANK == 0 or not alone:
        call()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        taken = (time.perf_counter() - start) / repeats
    meet()
    return COMM.bcast(taken)


def medians(rounds, **calls):
    """Return the median seconds of calls that take turns: (call, repeats, alone)."""
    taken = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, repeats, alone) in calls.items():
            taken[name].append(turn(call, repeats, alone))
    return {name: float(np.median(values)) for name, values in taken.items()}


def trainer_of(widths, comm=None):
    layers = []
    for one, other in pairwise(widths):
        layers += [fastnn.Linear(one, other), fastnn.ReLU()]
    model = fastnn.Sequential(*layers[:-1], rng=0)
    optimizer = fastnn.optim.Adam(model.parameters(), lr=1e-6)
    return fastnn.Trainer(model, "cross_entropy", optimizer, comm=comm)


def step(rounds):
    """A step on 512 samples for each rank, beside one rank on 512."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 784)).astype(np.float32)
    y = rng.integers(0, 10, 512)
    widths = 784, 1024, 1024, 10
    alone, together, after = (trainer_of(widths, comm) for comm in (None, COMM, COMM))
    together.step(x, y)
    after.step(x, y)
    exchange = after._last.schedule.exchange  # all sums behind the last gradient
    buckets = [bucket for _, part in exchange.parts for bucket in part]
    exchange.parts = [(exchange.parts[-1][0], buckets)]
    taken = medians(
        rounds,
        alone=(lambda: alone.step(x, y), 4, True),
        # each rank by itself, for what they take from each other without a word
        apart=(lambda: alone.step(x, y), 4, False),
        overlapped=(lambda: together.step(x, y), 4, False),
        after=(lambda: after.step(x, y), 4, False),
    )
    speeds = {name: SIZE * taken["alone"] / taken[name] for name in taken if name != "alone"}
    return taken | {f"{name}, times one rank": speed for name, speed in speeds.items()}


def reduction(rounds):
    """The sum of the gradients of 10 million parameters, beside a bare Allreduce in place."""
    model = fastnn.Linear(10_000, 1_000, bias=False, init="zeros")
    model.build()
    group, bare = group_of(COMM), np.ones(10_000_000, np.float32)
    taken = medians(
        rounds,
        bare=(lambda: COMM.Allreduce(MPI.IN_PLACE, bare), 4, False),
        ours=(lambda: sum_gradients(group, model.parameters()), 4, False),
    )
    return taken | {"of the bandwidth of a bare one": taken["bare"] / taken["ours"]}


def overhead(rounds):
    """A step of a small model with a communicator of one rank, beside one without."""
    x, y = np.ones((1, 4), np.float32), np.zeros(1, np.int64)
    alone, one = trainer_of((4, 4)), trainer_of((4, 4), MPI.COMM_SELF)
    taken = medians(
        rounds,
        alone=(lambda: alone.step(x, y), 10_000, True),
        one=(lambda: one.step(x, y), 10_000, True),
    )
    return taken | {"seconds more": taken["one"] - taken["alone"]}


def messages(rounds):
    """Seconds of an Allreduce in place by its bytes, for the cost model of docs/distributed.md."""
    found = {}
    for power in range(3, 27, 2):
        array = np.ones(2**power // 4 or 1, np.float32)
        repeats = max(2, 2**16 // 2**power)
        taken = medians(
            rounds, bare=(lambda a=array: COMM.Allreduce(MPI.IN_PLACE, a), repeats, False)
        )
        found[array.nbytes] = taken["bare"]
    return found


SECTIONS = {function.__name__: function for function in (step, reduction, overhead, messages)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="where to write what was measured")
    arguments = parser.parse_args()
    measured = {}
    for name in arguments.sections or SECTIONS:
        measured[name] = SECTIONS[name](arguments.rounds)
        if RANK == 0:
            print(f"\n{name}: {SECTIONS[name].__doc__}")
            for key, value in measured[name].items():
                print(f"  {key!s:32} {value:.4g}")
    if RANK == 0 and arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(measured, file, indent=1)
