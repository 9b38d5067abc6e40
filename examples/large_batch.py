"""Batches from 32 to 8192 samples on real digits: LAMB with the square-root rule beside others.

Every run sees the training digits as often. Sixteen times the batch is a sixteenth of the updates,
so that each must do more: the learning rate grows with the square root of the batch (LAMB, Adam) or
with the batch (SGD with momentum), as their authors say, warms up during a share of the training
that grows with the batch, and then falls to 0. Rates were chosen once, for batches of 32 samples.

LAMB: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
arXiv 1904.00962. SGD: Goyal et al., "Accurate, large minibatch SGD", arXiv 1706.02677.

    pip install ".[examples]"
    python examples/large_batch.py               # large_batch.png
    mpiexec -n 2 python examples/large_batch.py  # the runs are shared among processes
"""

import sys
from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn
from fastnn.distributed import map_trainers
from fastnn.schedules import polynomial_decay, warmup

BASE = 32  # samples of the batch for which the rates were chosen
RULES = {  # its rate there, and the power of the batch with which it grows
    "LAMB": (0.003, 0.5, lambda p, lr: fastnn.optim.LAMB(p, lr=lr, weight_decay=0.01)),
    "Adam": (0.002, 0.5, lambda p, lr: fastnn.optim.Adam(p, lr=lr)),
    "SGD with momentum": (0.01, 1.0, lambda p, lr: fastnn.optim.SGD(p, lr=lr, momentum=0.9)),
}


def digits():
    """Real digits, 8 by 8 pixels; each of those for training also moved by one pixel each way."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, i : i + 8, j : j + 8].reshape(-1, 64) for i in range(3) for j in range(3)]
    x, y = np.concatenate(moved), np.tile(y, 9)
    x, x_test = (np.asarray(a / 16, np.float32) for a in (x, x_test))
    return x, y, x_test, y_test


def accuracy(rule, batch, seed, epochs):
    """Train once, and return the share of test digits that are recognized."""
    rate, power, make = RULES[rule]
    steps = epochs * -(-len(X) // batch)
    warm = max(1, int(steps * min(0.5, 0.002 * batch / BASE)))
    peak = rate * (batch / BASE) ** power
    model = fastnn.Sequential(
        fastnn.Linear(64, 128, init="he_normal"), fastnn.ReLU(),
        fastnn.Linear(128, 128, init="he_normal"), fastnn.ReLU(),
        fastnn.Linear(128, 10), rng=seed,
    )  # fmt: skip
    optimizer = make(model.parameters(), warmup(polynomial_decay(peak, steps - warm), warm))
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    trainer.fit(X, Y, epochs=epochs, batch_size=batch, progress=False, rng=seed)
    return trainer.evaluate(X_TEST, Y_TEST, metrics=["accuracy"])["accuracy"]


def picture(batches, found):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for rule, scores in found.items():
        errors = 100 * (1 - scores)
        axes.plot(batches, errors.mean(1), "o-", label=rule)
        axes.fill_between(batches, errors.min(1), errors.max(1), alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches, batches)
    axes.set_xlabel("samples of a batch")
    axes.set_ylabel("test digits that are not recognized, %")
    axes.set_title(f"{EPOCHS} epochs whatever the batch; best and worst of the seeds")
    axes.legend()
    figure.savefig("large_batch.png", dpi=150)


if __name__ == "__main__":
    short = "--short" in sys.argv
    batches = [32, 8192] if short else [32, 128, 512, 2048, 8192]
    EPOCHS, seeds = (2, 1) if short else (120, 3)
    X, Y, X_TEST, Y_TEST = digits()
    comm = None
    if find_spec("mpi4py"):
        from mpi4py.MPI import COMM_WORLD as comm
    settings = [(rule, batch, seed) for rule in RULES for batch in batches for seed in range(seeds)]
    scores = map_trainers(lambda setting: accuracy(*setting, EPOCHS), settings, comm)
    if comm is None or comm.Get_rank() == 0:
        table = np.array(scores).reshape(len(RULES), len(batches), seeds)
        found = dict(zip(RULES, table, strict=True))
        print(f"{'test accuracy, batch':20}" + "".join(f"{batch:>8}" for batch in batches))
        for rule, values in found.items():
            print(f"{rule:20}" + "".join(f"{value:8.3f}" for value in values.mean(1)))
        if not short:
            picture(batches, found)
