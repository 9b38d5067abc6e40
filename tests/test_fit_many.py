"""Many trainers at once: each as alone."""

import numpy as np
import pytest

import fastnn

X = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
Y = X[:, :1] * X[:, 1:2]


def trainer(seed, **options):
    model = fastnn.Sequential(
        fastnn.Linear(4, 9), fastnn.Tanh(), fastnn.Dropout(0.1), fastnn.Linear(9, 1), rng=seed
    )
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.01 * (1 + seed))
    return fastnn.Trainer(model, "mse", optimizer, **options)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(request.param)
    yield request.param
    fastnn.set_num_threads(before)


@pytest.mark.parametrize("rng", [None, 3])
def test_each_has_the_bits_of_its_own_fit(threads, rng):
    together, alone = ([trainer(seed) for seed in range(7)] for _ in range(2))
    options = {"epochs": 3, "batch_size": 16, "validation_split": 0.2, "metrics": ["r2"]}
    histories = fastnn.fit_many(together, X, Y, rng=rng, **options)
    for one, other, history in zip(together, alone, histories, strict=True):
        assert history is one.history
        assert history.history == other.fit(X, Y, rng=rng, progress=False, **options).history
        np.testing.assert_array_equal(one.model.get_flat(), other.model.get_flat())


def test_callbacks_are_copied(threads):
    several = [trainer(seed) for seed in range(3)]
    stopping, seen = fastnn.EarlyStopping("loss", patience=1, min_delta=1e9), []
    histories = fastnn.fit_many(
        several, X, Y, epochs=9, callbacks=[stopping, lambda epoch, logs: seen.append(epoch)]
    )
    assert [len(history.history["loss"]) for history in histories] == [2, 2, 2]
    assert sorted(seen) == [0, 0, 0, 1, 1, 1]


def test_whatever_is_shared_is_refused():
    one, other = trainer(0), trainer(1)
    before = one.model.get_flat()
    with pytest.raises(ValueError, match="a trainer of its own"):
        fastnn.fit_many([one, other, one], X, Y, epochs=1)
    shared = fastnn.Trainer(one.model, "mse", fastnn.optim.SGD(one.model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="a layer of its own"):
        fastnn.fit_many([one, shared], X, Y, epochs=1)
    other.rng = one.rng
    with pytest.raises(ValueError, match="a rng of its own"):
        fastnn.fit_many([one, other], X, Y, epochs=1)
    with pytest.raises(TypeError, match="rng: expected"):
        fastnn.fit_many([one], X, Y, epochs=1, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"trainers\[1\]: expected a Trainer"):
        fastnn.fit_many([one, one.model], X, Y, epochs=1)
    np.testing.assert_array_equal(one.model.get_flat(), before)


def test_errors_come_through(threads):
    several = [trainer(seed) for seed in range(3)]
    with pytest.raises(ValueError, match="epochs: expected"):
        fastnn.fit_many(several, X, Y, epochs=0)
    with pytest.raises(ValueError, match="as many samples"):
        fastnn.fit_many(several, X, Y[:-1], epochs=1)
    assert fastnn.fit_many([], X, Y, epochs=1) == []
