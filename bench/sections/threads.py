"""Two threads beside one, and two models at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import fastnn
from bench.networks import STEPS
from bench.peers import FastNN
from bench.sections.steps import training
from bench.timing import Record, Run, record

NEVER_SLOWER = 0.97  # equal times differ by this much from one run to the next


def threads(run: Run) -> Iterator[Record]:
    """Two threads beside one, and two models trained at once beside one after the other"""
    large = next(n for n in STEPS if n.sizes[0] == 784 and n.batch == 512).flops()

    def take(count: int, steps: partial, n: int) -> None:
        fastnn.set_num_threads(count)
        steps(n)

    for network in run.some(STEPS):
        steps = training(FastNN, network)
        runs = {
            "fastnn": partial(take, run.threads, steps),
            "one thread": partial(take, 1, steps),
        }
        target = 1.7 if network.flops() >= large else NEVER_SLOWER
        yield record(str(network), run.times(runs), target=target)
    fastnn.set_num_threads(1)
    with ThreadPoolExecutor(run.threads) as pool:
        for network in run.some(STEPS[:7]):
            models = [training(FastNN, network) for _ in range(run.threads)]
            runs = {
                "fastnn": lambda n, models=models: list(pool.map(lambda steps: steps(n), models)),
                "one by one": lambda n, models=models: [steps(n) for steps in models],
            }
            yield record(f"pool of {network}", run.times(runs), target=1)
