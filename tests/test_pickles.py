"""A pickle or copy of a model, optimizer or trainer is of one step, whoever trains meanwhile."""

import copy
import gc
import io
import pickle
import threading

import numpy as np
import pytest

import fastnn
from fastnn._planning import moment

X = np.random.default_rng(0).normal(size=(16, 4)).astype("f")
Y = X[:, :2].copy()


class Meddler:
    """Calls something in another thread when it is pickled or copied."""

    def __init__(self):
        self.call = None

    def __reduce__(self):
        if self.call is not None:
            thread = threading.Thread(target=self.call)
            thread.start()
            thread.join()
        return Meddler, ()


class Through(fastnn.Layer):
    """A layer in Python in the middle of a model."""

    def __init__(self):
        super().__init__()
        self.meddler = Meddler()

    def forward(self, x, training=False):
        return x

    def backward(self, dy, accumulate=False):
        return dy


class Rate:
    """A schedule that comes before the parameters."""

    def __call__(self, t):
        return 0.01


def make(**options):
    model = fastnn.Sequential(
        fastnn.Linear(4, 5), fastnn.BatchNorm1d(5), Through(), fastnn.Linear(5, 3),
        fastnn.BatchNorm1d(3), fastnn.Dropout(0.4), fastnn.Linear(3, 2), rng=0,
    )  # fmt: skip
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.01)
    trainer = fastnn.Trainer(model, "mse", optimizer, **options)
    trainer.step(X, Y)
    return trainer


def by_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def by_python(thing):
    """Pickle with the pickler that joblib and others are made of."""
    file = io.BytesIO()
    pickle._Pickler(file).dump(thing)
    return pickle.loads(file.getvalue())


every_way = pytest.mark.parametrize(
    "duplicate", [by_pickle, by_python, copy.deepcopy], ids=["pickle", "python", "deepcopy"]
)


def goes_on(trainer):
    """Return what a trainer computes from here, which all of its state decides."""
    losses = [trainer.step(X, Y) for _ in range(3)]
    return losses, trainer.model.get_flat().tobytes()


@every_way
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}], ids=str)
def test_a_trainer(duplicate, options):
    trainer, twin = make(**options), make(**options)
    trainer.model[2].meddler.call = lambda: trainer.step(X, Y)
    other = duplicate(trainer)
    assert other.optimizer.t == twin.optimizer.t < trainer.optimizer.t
    assert goes_on(other) == goes_on(twin)


@every_way
def test_a_model(duplicate):
    trainer, twin = make(), make()
    before = trainer.model.state_dict()
    trainer.model[2].meddler.call = lambda: trainer.step(X, Y)
    other = duplicate(trainer.model)
    for name, values in other.state_dict().items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    np.testing.assert_array_equal(other.forward(X, training=True),
                                  twin.model.forward(X, training=True))  # the mask of the dropout
    assert (trainer.model[0].weight.data != before["0.weight"]).any()


@pytest.mark.parametrize("duplicate", [by_pickle, by_python])  # a deep copy keeps its lock
def test_an_optimizer(duplicate):
    trainer = make()
    trainer.optimizer.lr = rate = Rate()
    rate.meddler = trainer.model[2].meddler
    before = [p.data.copy() for p in trainer.model.parameters()]
    trainer.model[2].meddler.call = lambda: trainer.step(X, Y)
    other = duplicate(trainer.optimizer)
    for parameter, values in zip(other.groups[0]["params"], before, strict=True):
        np.testing.assert_array_equal(parameter.data, values)
    assert other.t == 1


@every_way
def test_what_comes_later_is_of_its_own_moment(duplicate):
    """Two models in one pickle, a model that holds another, and the same model once more."""
    one, other = make(), make()
    one.model[2].meddler.call = lambda: (one.step(X, Y), other.step(X, Y))
    one.model[2].inside = make().model  # no child, so a model of its own
    first, second = duplicate((one.model, other.model))
    assert goes_on_alike(second, other.model)
    assert not goes_on_alike(first, one.model)
    one.model[2].meddler.call = None
    assert goes_on_alike(duplicate(one.model), one.model)
    assert not hasattr(first, "_moment")


def goes_on_alike(one, other):
    return all(np.array_equal(a, b) for a, b in
               zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@every_way
def test_parts_keep_belonging_together(duplicate):
    trainer = make()
    again, model, first, parameter = duplicate(
        (trainer, trainer.model, trainer.model[0], trainer.model[0].weight)
    )
    assert again.model is model
    assert model[0] is first
    assert first.weight is parameter
    assert again.optimizer.groups[0]["params"][0] is parameter


def test_a_pickle_that_failed_leaves_nothing_behind():
    trainer = make()
    trainer.model[2].bad = lambda: None
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(trainer)
    gc.collect()
    trainer.step(X, Y)
    assert moment.known_state(trainer.model[0]) is None
    again = pickle.loads(pickle.dumps(trainer.model[0]))
    np.testing.assert_array_equal(again.weight.data, trainer.model[0].weight.data)
