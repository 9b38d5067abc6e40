"""What tests/test_distributed.py runs on several ranks: python distributed_cases.py NAME ..."""

import json
import os
import signal
import sys
import threading

import numpy as np
from mpi4py import MPI

import fastnn
from fastnn import losses
from fastnn.distributed import map_trainers

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.Get_rank(), COMM.Get_size()

rng = np.random.default_rng(5)
X = rng.normal(size=(47, 6))
LABELS = rng.integers(0, 4, 47)
W = rng.uniform(0.1, 3, 47)
SEQUENCES = rng.normal(size=(29, 5, 3))
LENGTHS = rng.integers(1, 6, 29)
TOKENS = rng.integers(0, 200, (37, 3))
TOKEN_LABELS = rng.integers(0, 4, 37)
RULES = ("SGD", "NAG", "Adagrad", "RMSprop", "Adam", "AdamW", "LAMB", "Lion")


def mlp(dtype="float64", *more):
    layers = fastnn.Linear(6, 40), fastnn.Tanh(), *more, fastnn.Linear(40, 30), fastnn.ReLU()
    return fastnn.Sequential(*layers, fastnn.Linear(30, 4), dtype=dtype, rng=3)


class Shift(fastnn.Layer):
    """A layer in Python with a parameter."""

    def __init__(self, n):
        super().__init__()
        self.n = n
        self.shift = self.parameter("shift", (n,), fastnn.initializers.zeros)

    def forward(self, x, training=False):
        return x + self.shift.data

    def backward(self, dy, accumulate=False):
        self.shift.grad = dy.sum(0)
        return dy


def half_squares(pred, target):
    return 0.5 * float(np.mean((pred - target) ** 2)), (pred - target) / pred.size


def case(model=mlp, loss="cross_entropy", rule="Adam", data=(X, LABELS), tolerance=1e-10,
         weights=None, lengths=None, lr=0.01, sync=False, **options):  # fmt: skip
    return locals()


CASES = {rule: case(rule=rule) for rule in RULES} | {
    "float32": case(lambda: mlp("float32"), tolerance=1e-5, lr=0.001),
    "clip_norm": case(clip_norm=0.05, rule="SGD"),
    "clip_value": case(clip_value=0.001, rule="SGD"),
    "l2": case(l2=0.1),
    "l2 on all": case(l2=0.1, l2_on="all", rule="SGD"),
    "weights": case(weights=W),
    "weights and l2": case(weights=W, l2=0.3, rule="SGD"),
    "ignored labels": case(loss=losses.cross_entropy(ignore_index=1)),
    "class weights": case(loss=losses.cross_entropy(class_weight=[1, 2, 0.5, 3])),
    "sum": case(loss=losses.mse(reduction="sum"), data=(X, X[:, :4]), rule="SGD", lr=1e-4),
    "sum and l2": case(
        loss=losses.mse(reduction="sum"), data=(X, X[:, :4]), rule="SGD", lr=1e-4, l2=0.5
    ),
    "batch": case(loss=losses.mse(reduction="batch"), data=(X, X[:, :4])),
    "in Python": case(loss=half_squares, data=(X, X[:, :4]), l2=0.1),
    "accumulate": case(accumulate=2, rule="SGD", l2=0.1),
    "accumulate in Python": case(loss=half_squares, data=(X, X[:, :4]), accumulate=3),
    "batch norm": case(lambda: mlp("float64", fastnn.BatchNorm1d(40)), sync=True),
    "batch norm first": case(
        lambda: fastnn.Sequential(
            fastnn.BatchNorm1d(6, affine=False), fastnn.Linear(6, 4), dtype="float64", rng=3
        ),
        sync=True,
    ),
    "layer norm": case(lambda: mlp("float64", fastnn.LayerNorm(40))),
    "LSTM": case(
        lambda: fastnn.Sequential(
            fastnn.LSTM(3, 8, num_layers=2, bidirectional=True, return_sequences=False),
            fastnn.Linear(16, 1), dtype="float64", rng=1,
        ),
        "mse", data=(SEQUENCES, SEQUENCES[:, 0, :1]), lengths=LENGTHS, clip_norm=0.1,
    ),
    "layer in Python": case(lambda: mlp("float64", Shift(40))),
    "layer in Python, loss in Python": case(
        lambda: mlp("float64", Shift(40)), half_squares, data=(X, X[:, :4])
    ),
    "residual": case(lambda: mlp("float64", fastnn.Residual(fastnn.Linear(40, 40), fastnn.GELU()))),
    "embedding": case(
        lambda: fastnn.Sequential(
            fastnn.Embedding(200, 5), fastnn.Flatten(), fastnn.Linear(15, 4), dtype="float64", rng=1
        ),
        data=(TOKENS, TOKEN_LABELS),
    ),
    **{
        f"sparse {name}": case(
            lambda: fastnn.Sequential(
                fastnn.Embedding(200, 5, sparse=True), fastnn.Flatten(), fastnn.Linear(15, 4),
                dtype="float64", rng=1,
            ),
            data=(TOKENS, TOKEN_LABELS), rule=rule, **options,
        )
        for name, rule, options in (
            ("Adam", "Adam", {}), ("LAMB", "LAMB", {}), ("clipped", "SGD", {"clip_norm": 0.01}),
            ("l2", "Adam", {"l2": 0.1}), ("accumulated", "Adam", {"accumulate": 2}),
        )
    },
}  # fmt: skip


def make(row, comm=None):
    model = row["model"]()
    optimizer = getattr(fastnn.optim, row["rule"])(model.parameters(), lr=row["lr"])
    sync = row["sync"] and comm is not None
    return fastnn.Trainer(
        model, row["loss"], optimizer, comm=comm, sync_batchnorm=sync, **row["options"]
    )


def difference(one, other):
    """Largest difference of the models of two trainers, relative to the largest number."""
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3)) for a, b in pairs)


def same_on_all(trainer):
    mine = [array.tobytes() for array in trainer.model.state_dict().values()]
    return all(other == mine for other in COMM.allgather(mine))


def equality():
    """Steps and fits of the ranks beside those of one process on all samples."""
    found = {}
    for name, row in CASES.items():
        x, y = row["data"]
        given = {"sample_weight": row["weights"], "lengths": row["lengths"]}
        together, alone = make(row, COMM), make(row)
        errors = []
        for start in (0, 20):  # parts that are not equal, one of them empty
            rows = np.arange(start, min(start + 20, len(x)))
            mine = np.array_split(rows, [3, 3] if SIZE == 3 else [13])[RANK]
            cut = {key: value if value is None else value[mine] for key, value in given.items()}
            whole = {key: value if value is None else value[rows] for key, value in given.items()}
            a = together.step(x[mine], y[mine], **cut)
            b = alone.step(x[rows], y[rows], **whole)
            errors += [abs(a - b) / max(abs(b), 1e-3)]
        settings = {"epochs": 2, "rng": 7, "progress": False, "metrics": [],
                    "validation_data": (x[:10], y[:10])}  # fmt: skip
        if row["options"].get("accumulate"):  # of the steps before
            together, alone = make(row, COMM), make(row)
        a = together.fit(x, y, batch_size=9, check_ranks=1, **given, **settings).history
        b = alone.fit(x, y, batch_size=9 * SIZE, **given, **settings).history
        assert a.keys() == b.keys()
        for key in a:
            scale = max(np.abs(b[key]).max(), 1e-3)
            errors += [np.abs(np.subtract(a[key], b[key])).max() / scale]
        errors += [difference(together, alone)]
        error = max(map(float, errors))
        same = same_on_all(together)
        found[name] = "" if same and error < row["tolerance"] else f"{same} {errors}"
    if RANK == 0:
        print("FOUND", json.dumps(found))


def sharded():
    """Unequal parts of the data, with metrics of all of it."""
    parts = np.split(np.arange(47), [11] if SIZE == 2 else [4, 21])
    mine = parts[RANK]
    settings = {"epochs": 3, "progress": False, "metrics": ["accuracy"], "shuffle": False}
    together, alone = make(case(), COMM), make(case())
    history = together.fit(
        X[mine], LABELS[mine], batch_size=4, sharded=True, check_ranks=1, rng=RANK,
        validation_data=(X[mine], LABELS[mine], W[mine]), **settings,
    ).history  # fmt: skip
    reference = {"loss": [], "accuracy": []}
    for _ in range(3):
        total = 0.0
        for start in range(0, max(map(len, parts)), 4):
            rows = np.concatenate([part[start : start + 4] for part in parts])
            total += alone.step(X[rows], LABELS[rows]) * len(rows)
        reference["loss"].append(total / 47)
        scores = alone.evaluate(X, LABELS, metrics=["accuracy"], sample_weight=W)
        reference["accuracy"].append(scores["accuracy"])
    np.testing.assert_allclose(history["loss"], reference["loss"], rtol=1e-10)
    np.testing.assert_allclose(history["accuracy"], reference["accuracy"], rtol=1e-10)
    np.testing.assert_allclose(history["val_loss"][-1], scores["loss"], rtol=1e-10)
    assert same_on_all(together)
    assert difference(together, alone) < 1e-10
    together.fit(X[mine], LABELS[mine], epochs=2, sharded=True, progress=False, check_ranks=1)
    assert same_on_all(together)
    assert len({tuple(h) for h in COMM.allgather(together.history.history["loss"])}) == 1


def random_streams():
    """Masks differ between the ranks; models and optimizers start as the first one's."""
    model = fastnn.Sequential(fastnn.Linear(6, 50), fastnn.Dropout(0.5), fastnn.Linear(50, 4),
                              rng=RANK)  # fmt: skip
    trainer = fastnn.Trainer(
        model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=0.01 * (1 + RANK)),
        comm=COMM,
    )
    trainer.fit(X, LABELS, epochs=2, batch_size=4, progress=False, check_ranks=1)
    assert same_on_all(trainer)
    assert trainer.optimizer.lr == 0.01
    keys = COMM.allgather(int(model.layers[1]._random_state[0]))
    steps = COMM.allgather(int(model.layers[1]._random_state[1]))
    assert len(set(keys)) == SIZE
    assert len(set(steps)) == 1


def agreement(folder):
    """Decisions of one rank count for all; the first one prints and writes."""

    class OneSided:
        def on_epoch_end(self, epoch, logs):
            if RANK == 0:
                self.trainer.optimizer.lr = 0.5 * self.trainer.optimizer.lr
            if RANK == SIZE - 1 and epoch == 2:
                self.trainer.stop_training = True

    path = f"{folder}/rank{RANK}"
    trainer = make(case(lambda: mlp("float64", fastnn.BatchNorm1d(40))), COMM)
    history = trainer.fit(
        X, LABELS, epochs=9, batch_size=8, metrics=["accuracy"], validation_split=0.2,
        callbacks=[OneSided(), fastnn.ModelCheckpoint(f"{path}.ckpt"),
                   fastnn.CSVLogger(f"{path}.csv"), fastnn.EarlyStopping("val_loss")],
    ).history  # fmt: skip
    assert len(history["loss"]) == 3
    assert trainer.optimizer.lr == 0.01 / 8
    assert same_on_all(trainer)
    assert all(other == history for other in COMM.allgather(history))
    COMM.Barrier()
    assert os.path.exists(f"{path}.ckpt") == os.path.exists(f"{path}.csv") == (RANK == 0)


def resume(path, phase):
    """Save on some ranks, go on with others."""
    row = case(rule="Adam", l2=0.01)
    batch = 12 // SIZE  # the joined batch stays
    if phase == "save":
        trainer = make(row, COMM)
        trainer.fit(X, LABELS, epochs=2, batch_size=batch, progress=False)
        trainer.save(path)
        return
    model = mlp()
    trainer = fastnn.Trainer.restore(
        path, model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=1), comm=COMM
    )
    trainer.fit(X, LABELS, epochs=2, batch_size=batch, progress=False, check_ranks=1)
    whole = make(row)
    whole.fit(X, LABELS, epochs=4, batch_size=12, progress=False)
    assert difference(trainer, whole) < 1e-10


def sweep():
    """Results in the order of settings, the same on all ranks."""

    def train(seed):
        model = fastnn.Sequential(fastnn.Linear(6, 8), fastnn.Tanh(), fastnn.Linear(8, 4), rng=seed)
        trainer = fastnn.Trainer(model, "cross_entropy", fastnn.optim.Adam(model.parameters()))
        trainer.fit(X, LABELS, epochs=1, progress=False, rng=seed)
        return trainer

    trainers = map_trainers(train, range(11), COMM)
    for seed, trainer in enumerate(trainers):
        assert difference(trainer, train(seed)) == 0
    try:
        map_trainers(lambda seed: 1 / (seed - 7), range(11), COMM)
    except ZeroDivisionError as error:
        notes = error.__notes__
    assert f"rank {7 % SIZE} of {SIZE}" in notes[0]
    assert map_trainers(str, range(5), COMM) == list("01234")


def compared():
    """Ranks that have gone apart are noticed."""
    trainer = make(case(), COMM)

    class Apart:
        def on_batch_end(self, step, logs):
            if RANK == 1 and step == 1:
                self.trainer.model.layers[0].weight.data[0, 0] += 1e-12

    trainer.fit(X, LABELS, epochs=2, batch_size=4, progress=False, callbacks=[Apart()],
                check_ranks=2)  # fmt: skip


def caught():
    """An error of one rank is raised on all, and training can go on."""
    trainer = make(case(), COMM)
    bad = LABELS + (RANK == 1) * 3
    for call in (
        lambda: trainer.step(X, bad),
        lambda: trainer.fit(X, bad, epochs=1, progress=False),
        lambda: trainer.fit(X[: 40 + RANK], LABELS[: 40 + RANK], epochs=1, progress=False),
    ):
        try:
            call()
        except ValueError:
            pass
        else:
            raise AssertionError("no error")
    trainer.fit(X, LABELS, epochs=1, progress=False, check_ranks=1)


class Failing:
    """A callback that ends one rank in one way or another."""

    def __init__(self, how, after):
        self.how, self.left = how, after

    def on_batch_end(self, step, logs):
        self.left -= 1
        if RANK != SIZE - 1 or self.left > 0:
            return
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
        if self.how == "raising":
            raise KeyError("the callback of the last rank")


def failing(how, after="3"):
    """End one rank; all must end."""
    x, y = X.copy(), LABELS.copy()
    if RANK == SIZE - 1 and how == "NaN":
        x[20] = np.nan
    if RANK == SIZE - 1 and how == "labels":
        y[20] = 9
    trainer = make(case(), COMM)
    if how == "outside":
        trainer.step(x, y)
        if RANK == SIZE - 1:
            raise OSError("outside of the training")
    callbacks = [Failing(how, int(after))]
    if how == "killed at some time":
        callbacks = []
        if RANK == SIZE - 1:
            threading.Timer(float(after) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
    trainer.fit(x, y, epochs=1_000_000, batch_size=4, progress=False, callbacks=callbacks)


if __name__ == "__main__":
    for call in sys.argv[1:]:
        name, *arguments = call.split(",")
        globals()[name](*arguments)
        if RANK == 0:
            print("DONE", name, flush=True)
