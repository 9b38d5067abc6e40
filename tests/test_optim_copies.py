"""Pickled and copied optimizers go on bit for bit, with the model they were copied with."""

import copy
import io
import pickle
import threading

import numpy as np
import pytest

import fastnn
from fastnn import optim, schedules

from .optimizers import every_rule, every_storage, every_variant


def by_pickle(obj):
    return pickle.loads(pickle.dumps(obj))


def by_joblib(obj):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(obj, file)
    file.seek(0)
    return joblib.load(file)


duplicates = pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, by_pickle, by_joblib], ids=["deepcopy", "pickle", "joblib"]
)


def steps(optimizer, count=3):
    for t in range(count):
        grads = [np.full(np.shape(p), t + 1.0) for g in optimizer.groups for p in g["params"]]
        optimizer.step(grads)


def snapshot(optimizer):
    params = [np.asarray(p) for group in optimizer.groups for p in group["params"]]
    return [a.tobytes() for a in [*params, *(v for s in optimizer.state for v in s.values())]]


@duplicates
@every_variant
def test_copies_of_an_optimizer_of_arrays(rule, variant, duplicate):
    params = [np.linspace(-1, 1, 1500), np.ones((2, 3), "float32"), np.array(0.5)]
    optimizer = rule.optimizer(params, **{"lr": 0.1} | variant.options, clip_norm=1e3)
    steps(optimizer)
    arrays, other = duplicate((params, optimizer))
    assert repr(other) == repr(optimizer)
    assert other.t == 3
    before = snapshot(optimizer)
    steps(other)
    assert snapshot(optimizer) == before
    steps(optimizer)
    assert snapshot(other) == snapshot(optimizer)
    if duplicate is not by_joblib:  # which pickles an array once for each place
        members = other.groups[0]["params"]
        assert all(a is b for a, b in zip(arrays, members, strict=True))  # still belong together


@every_rule
@every_storage
def test_copies_that_nobody_has_used_yet(rule, state_dtype):
    """A copy of a copy, its states, and what is assigned to it first."""
    optimizer = rule.make([np.ones(600), np.ones(3)], state_dtype=state_dtype)
    steps(optimizer)
    other = by_pickle(by_pickle(optimizer))
    assert snapshot(other) == snapshot(optimizer)
    for one in (optimizer, by_pickle(other)):
        one.lr = 0.5
        one.maximize = True
        one.add_param_group({"params": np.ones(2)})
        steps(one)
        found = snapshot(one)
    steps(other)
    assert found == snapshot(one)
    one.load_state_dict(by_pickle(one).state_dict())
    assert found == snapshot(one)


@duplicates
@every_rule
def test_copies_of_a_model_with_its_optimizer(rule, duplicate):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 16, 3)).astype("f")

    def train(model, optimizer):
        found = []
        for _ in range(3):
            loss, dy = fastnn.losses.mse(model.forward(x, training=True), y)
            model.backward(dy)
            optimizer.step()
            found.append(loss)
        return found

    for first in ("model", "optimizer"):
        model = fastnn.Sequential(
            fastnn.Linear(3, 4), fastnn.Dropout(0.3), fastnn.Linear(4, 3), rng=0
        )
        optimizer = rule.make(model.parameters())
        train(model, optimizer)
        if first == "model":
            again = duplicate((model, optimizer))
        else:
            again = duplicate((optimizer, model))[::-1]
        assert train(*again) == train(model, optimizer)
        mine, theirs = (m.parameters() for m in (model, again[0]))
        assert all(np.array_equal(a.data, b.data) for a, b in zip(mine, theirs, strict=True))


@duplicates
def test_copies_of_a_trainer(duplicate):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 3)).astype("f"), rng.integers(0, 2, 64)
    model = fastnn.Sequential(
        fastnn.Linear(3, 8), fastnn.BatchNorm1d(8), fastnn.ReLU(), fastnn.Linear(8, 2), rng=0
    )
    lr = schedules.cosine_decay(0.1, 30)
    optimizer = optim.AdamW(model.parameters(), lr=lr, clip_value=1.0)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer, l2=1e-3, clip_value=0.5)
    trainer.fit(x, y, epochs=2, batch_size=16, progress=False)
    other = duplicate(trainer)
    assert other.clip_value == 0.5
    mine, theirs = (
        t.fit(x, y, epochs=3, batch_size=16, progress=False).history["loss"]
        for t in (trainer, other)
    )
    assert mine == theirs
    other.model[0].freeze()  # of no concern to the first
    before = trainer.model[0].weight.data.copy()
    trainer.step(x, y)
    assert not np.array_equal(trainer.model[0].weight.data, before)


def test_pickles_hold_parameters_and_states():
    model = fastnn.Linear(100, 100, rng=0)
    optimizer = optim.Adam(model.parameters())
    trainer = fastnn.Trainer(model, "mse", optimizer)
    for _ in range(2):
        trainer.step(np.ones((50, 100), "f"), np.ones((50, 100), "f"))
    size = 4 * 100 * 101
    assert len(pickle.dumps(optimizer)) < 3 * size + 3000
    assert len(pickle.dumps((model, optimizer))) < 3 * size + 4000
    assert len(pickle.dumps(trainer)) < 3 * size + 6000


def test_a_copy_is_of_one_step():
    """States and the count of steps, while another thread takes steps."""
    optimizer = optim.SGD([np.zeros(1000)], lr=1.0, momentum=1.0)
    done = threading.Event()

    def train():
        while not done.is_set():
            optimizer.step([np.ones(1000)])

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for duplicate in [by_pickle, copy.deepcopy] * 25:
            other = duplicate(optimizer)
            assert set(other.state[0]["momentum_buffer"]) == {float(other.t)}
            if duplicate is copy.deepcopy:
                assert set(other.groups[0]["params"][0]) == {-other.t * (other.t + 1) / 2}
    finally:
        done.set()
        thread.join()


def test_a_shallow_copy_shares_the_parameters():
    x = np.ones(3)
    optimizer = optim.Adam([x], lr=0.5)
    other = copy.copy(optimizer)
    other.lr = 0.25
    other.step([np.ones(3)])
    assert (x != 1).all()
    assert (optimizer.lr, optimizer.t) == (0.5, 0)
    assert not optimizer.state[0]["exp_avg"].any()


def test_copies_of_an_optimizer_of_tensors():
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p])
    optimizer.step([np.ones(3)])
    for duplicate in (copy.deepcopy, by_pickle):
        q, other = duplicate((p, optimizer))
        other.step([np.ones(3)])
        assert not torch.equal(p, q)
