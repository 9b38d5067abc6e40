"""Is a training step as fast beside the idle threads of another library as alone?

    python bench/beside.py                  # a table: the step beside each, by its time alone
    python bench/beside.py --rounds 1       # does it run?

For each round and library a new process measures the step, lets the library work on all its
threads, waits until they sleep and measures again. Ratios are medians over the rounds. The first
row has no other library, so it shows what the machine itself changes meanwhile. The last column is
the processor time that the whole process takes in a second in which nobody calls anything.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

import numpy as np
from others import OTHERS

SIZES = {"small": (32, 30, 64), "medium": (256, 256, 256)}  # rows, inputs, units
IDLE = 0.5  # seconds after which threads that wait for work have gone to sleep


def trainers():
    """Return a function that takes a step for each size."""
    import fastnn

    found = {}
    for name, (rows, inputs, units) in SIZES.items():
        model = fastnn.Sequential(
            fastnn.Linear(inputs, units), fastnn.ReLU(), fastnn.Linear(units, 10), rng=0
        )
        trainer = fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=1e-6))
        x = np.random.default_rng(0).normal(size=(rows, inputs)).astype(np.float32)
        found[name] = lambda step=trainer.step, x=x: step(x, x[:, :10])
    return found


def measured(steps):
    """Return the seconds of a step, by size and number of threads."""
    import fastnn

    found = {}
    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        # one thread's own time is that of its work, whatever else runs on the machine
        clock = time.thread_time if threads == 1 else time.perf_counter
        for name, step in steps.items():
            times = []
            for _ in range(40):
                start, count, taken = clock(), 0, 0.0
                while taken < 0.005:
                    step()
                    count += 1
                    taken = clock() - start
                times.append(taken / count)
            found[name, threads] = min(times)  # what other processes have disturbed least
    return found


def work(name):
    """Print the ratios of one process."""
    steps = trainers()
    measured(steps)  # learns when threads pay
    before = measured(steps)
    if name in OTHERS and not OTHERS[name]():
        sys.exit(f"{name}: wrong numbers")
    if name == "all" and not all(work() for work in OTHERS.values()):
        sys.exit("wrong numbers")
    time.sleep(IDLE)
    start = time.process_time()
    time.sleep(1)
    idle = 1000 * (time.process_time() - start)
    after = measured(steps)
    print(*(after[key] / before[key] for key in before), idle)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    names = ["nothing", *OTHERS, "all"]
    ratios = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            command = [sys.executable, __file__, "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            ratios[name].append([float(word) for word in done.stdout.split()])
    columns = [f"{size}, {threads} thread{'s' * (threads > 1)}"
               for threads in (1, 2) for size in SIZES] + ["ms of an idle second"]  # fmt: skip
    print(f"| beside | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name in names:
        cells = [f"{median(column):.2f}" for column in zip(*ratios[name], strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
