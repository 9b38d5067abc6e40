"""One step of the trainer against the same step by hand; bad input; memory and threads."""

import copy
import gc
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim

from .optimizers import every_rule
from .trainer_cases import LABELS, RNG, W, X, Y, assert_same, by_hand, make, mlp, state

TARGETS = {
    "mse": Y, "l1": Y, "huber": Y, "binary_cross_entropy_with_logits": Y > 0,
    "cross_entropy": LABELS,
}  # fmt: skip
LOSSES = [partial(getattr(losses, name), **options)
          for name in TARGETS for options in ({}, {"reduction": "sum"})]  # fmt: skip
LOSSES += [
    partial(losses.huber, delta=0.3),
    partial(losses.cross_entropy, label_smoothing=0.1),
    partial(losses.cross_entropy, class_weight=[1.0, 2.0, 0.5]),
    partial(losses.cross_entropy, ignore_index=1),
    partial(losses.cross_entropy, label_smoothing=0.2, class_weight=[0.3, 1, 2], ignore_index=2),
]


@pytest.mark.parametrize("weight", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.func.__name__}-{loss.keywords}")
def test_step_equals_forward_backward_and_update(loss, weight, dtype):
    target = TARGETS[loss.func.__name__]
    trainer, model = make(loss, dtype), mlp(dtype)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for size in (32, 70, 1, 33):
        part = slice(0, size)
        given = None if weight is None else weight[part]
        value = trainer.step(X[part], target[part], given)
        expected = by_hand(model, loss, optimizer, X[part], target[part], given)
        np.testing.assert_allclose(value, expected, rtol=1e-6 if dtype == "float32" else 1e-14)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for a, b in zip(trainer.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.grad, b.grad, rtol=tolerance, atol=tolerance)


def test_step_equals_the_formulas_of_a_textbook():
    model = mlp("float64")
    w1, b1, w2, b2 = (p.data.copy() for p in model.parameters())
    trainer = fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        h = np.tanh(X @ w1.T + b1)
        error = h @ w2.T + b2 - Y
        assert trainer.step(X, Y) == pytest.approx(np.mean(error**2), rel=1e-12)
        dy = 2 * error / error.size
        dh = dy @ w2 * (1 - h**2)
        w2, b2 = w2 - 0.1 * dy.T @ h, b2 - 0.1 * dy.sum(0)
        w1, b1 = w1 - 0.1 * dh.T @ X, b1 - 0.1 * dh.sum(0)
    for parameter, expected in zip(model.parameters(), (w1, b1, w2, b2), strict=True):
        np.testing.assert_allclose(parameter.data, expected, rtol=1e-10)


@pytest.mark.parametrize("weight", [None, W[:8]])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"reduction": "sum"}])
def test_sequences_have_one_label_per_step(options, weight):
    x, labels = RNG.normal(size=(8, 5, 6)), RNG.integers(0, 3, (8, 5))
    loss = partial(losses.cross_entropy, **options)
    trainer, model = make(loss, "float64"), mlp("float64")
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        value = trainer.step(x, labels, weight)
        assert value == pytest.approx(by_hand(model, loss, optimizer, x, labels, weight), rel=1e-12)
    for a, b in zip(trainer.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10)
    manual = make(loss, "float64")
    trained = make(loss, "float64")
    trained.fit(x, labels, epochs=1, batch_size=3, shuffle=False, sample_weight=weight)
    for part in (slice(0, 3), slice(3, 6), slice(6, 8)):
        manual.step(x[part], labels[part], None if weight is None else weight[part])
    assert_same(state(trained), state(manual))


def test_probabilities_as_labels():
    p = RNG.dirichlet(np.ones(3), 70)
    trainer, model = make(dtype="float64"), mlp("float64")
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    value = trainer.step(X, p)
    assert value == pytest.approx(by_hand(model, losses.cross_entropy, optimizer, X, p), rel=1e-12)
    assert trainer.step(X, LABELS) != trainer.step(X, p)  # and back, by another program


@every_rule
@pytest.mark.parametrize(
    "options", [{"l2": 0.3}, {"clip_norm": 0.05}, {"l2": 0.3, "clip_norm": 0.05}]
)
def test_penalty_and_clipping(rule, options):
    def trainer(loss):
        model = mlp("float64")
        return fastnn.Trainer(model, loss, rule.optimizer(model.parameters(), lr=0.01), **options)

    in_c, in_python = trainer("mse"), trainer(lambda pred, y: losses.mse(pred, y))
    before = [p.data.copy() for p in in_c.model.parameters()]
    plain = losses.mse(in_c.predict(X), Y)[0]
    value = in_c.step(X, Y)
    penalty = options.get("l2", 0) / 2 * sum(float((p**2).sum()) for p in before)
    assert value == pytest.approx(plain + penalty, rel=1e-12)
    assert in_python.step(X, Y) == pytest.approx(value, rel=1e-12)
    for _ in range(3):
        assert in_c.step(X, Y) == pytest.approx(in_python.step(X, Y), rel=1e-10)
    for a, b in zip(in_c.model.parameters(), in_python.model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_penalty_of_a_part_of_a_model():
    inner = mlp("float64")
    fastnn.Sequential(fastnn.Linear(2, 6), inner, dtype="float64", rng=1).parameters()
    trainer = fastnn.Trainer(inner, "mse", optim.SGD(inner.parameters(), lr=0.1), l2=1.0)
    plain = losses.mse(trainer.predict(X), Y)[0]
    penalty = sum(float((p.data**2).sum()) for p in inner.parameters()) / 2
    assert trainer.step(X, Y) == pytest.approx(plain + penalty)


def test_some_parameters_may_stay_as_they_are():
    model = mlp()
    first, _, last, _ = model.parameters()
    trainer = fastnn.Trainer(model, "mse", optim.SGD([last], lr=0.1))
    frozen, trained = first.data.copy(), last.data.copy()
    trainer.step(X, Y)
    np.testing.assert_array_equal(first.data, frozen)
    assert (last.data != trained).all()


def test_without_an_optimizer_there_are_gradients_only():
    model = mlp()
    before = model.state_dict()
    trainer = fastnn.Trainer(model, "mse", None)
    assert trainer.step(X, Y) == trainer.step(X, Y)
    assert_same(before, model.state_dict())
    optim.SGD(model.parameters(), lr=0.1).step()  # they are ready
    with pytest.raises(ValueError, match="optimizer"):
        trainer.fit(X, Y, epochs=1)


def test_a_mean_over_nothing_has_no_gradient():
    trainer = make(partial(losses.cross_entropy, ignore_index=1))
    before = trainer.model.state_dict()
    assert np.isnan(trainer.step(X, np.ones(70, int)))
    assert_same(before, trainer.model.state_dict())
    history = trainer.fit(X, np.where(LABELS == 0, 0, 1), epochs=1, batch_size=4)
    assert np.isfinite(history.history["loss"][0])


def test_any_array_will_do():
    torch = pytest.importorskip("torch")
    expected = make()
    expected.step(X, LABELS)
    for x, y in (
        (X.tolist(), LABELS.tolist()),
        (np.asfortranarray(X), LABELS.astype(np.int16)),
        (X.astype(">f8"), LABELS.astype("u1")),
        (np.repeat(X, 2, axis=0)[::2], np.repeat(LABELS, 2)[::2]),
        (torch.tensor(X), torch.tensor(LABELS)),
    ):
        trainer = make()
        trainer.step(x, y)
        assert_same(state(trainer), state(expected))


def test_a_custom_layer_and_a_custom_loss():
    class Double(fastnn.Layer):
        def forward(self, x, training=False):
            return 2 * x

        def backward(self, dy, accumulate=False):
            return 2 * dy

    def trainer(layer, loss):
        model = fastnn.Sequential(fastnn.Linear(6, 3), layer, dtype="float64", rng=0)
        return fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1))

    one = trainer(Double(), "mse")
    other = trainer(Double(), lambda pred, y, w=1.0: (np.sum(w * (pred - y) ** 2) / y.size,
                                                      2 * w * (pred - y) / y.size))
    for _ in range(3):
        assert one.step(X, Y) == pytest.approx(other.step(X, Y), rel=1e-12)
    h1 = one.fit(X, Y, epochs=2, rng=0, validation_data=(X, Y), metrics=["mse"])
    h2 = other.fit(X, Y, epochs=2, rng=0, validation_data=(X, Y), metrics=["mse"])
    for name, values in h1.history.items():
        np.testing.assert_allclose(values, h2.history[name], rtol=1e-10)
    other.step(X, Y, 2.0)


def test_an_error_in_a_custom_layer_changes_nothing():
    class Broken(fastnn.Layer):
        def forward(self, x, training=False):
            return x

        def backward(self, dy, accumulate=False):
            raise ZeroDivisionError("on purpose")

    model = fastnn.Sequential(fastnn.Linear(6, 3), Broken(), rng=0)
    trainer = fastnn.Trainer(model, "mse", optim.Adam(model.parameters()))
    before = state(trainer)
    for train in (trainer.step, partial(trainer.fit, epochs=1)):
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            train(X, Y)
        assert_same(before, state(trainer))


def test_a_model_that_became_part_of_another_still_trains():
    trainer, expected = make(), make()
    trainer.step(X, LABELS)
    classifier = fastnn.Sequential(trainer.model, fastnn.Softmax())
    classifier(X)  # moves the parameters
    trainer.step(X, LABELS)
    trainer.fit(X, LABELS, epochs=2, rng=0)
    for _ in range(2):
        expected.step(X, LABELS)
    expected.fit(X, LABELS, epochs=2, rng=0)
    for a, b in zip(trainer.model.parameters(), expected.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_allclose(classifier(X).sum(1), 1, rtol=1e-5)


# Bad input ---------------------------------------------------------------------------------------

BAD = {
    "features": (ValueError, "6 features", (X[:, :5], LABELS)),
    "one axis": (ValueError, "x", (X[0], LABELS)),
    "empty": (ValueError, "at least one", (X[:0], LABELS[:0])),
    "text": (TypeError, "x", ("text", LABELS)),
    "complex": (TypeError, "x", (X * 1j, LABELS)),
    "label too large": (ValueError, "labels", (X, LABELS + 1)),
    "label negative": (ValueError, "labels", (X, LABELS - 1)),
    "label missing": (ValueError, "x and y: expected as many samples", (X, LABELS[:-1])),
    "labels not integers": (TypeError, "labels", (X, LABELS + 0.5)),
    "probabilities": (ValueError, "labels", (X, np.ones((70, 4)))),
    "weights": (ValueError, "sample_weight", (X, LABELS, W[:3])),
    "weights of text": (TypeError, "sample_weight", (X, LABELS, "heavy")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_changes_nothing(case):
    error, message, arguments = BAD[case]
    trainer = make(dropout=0.5)
    trainer.step(X, LABELS)
    before, gradients = state(trainer), [p.grad.copy() for p in trainer.model.parameters()]
    with pytest.raises(error, match=message):
        trainer.step(*arguments)
    x, y, *weight = arguments
    weight = weight[0] if weight else None
    with pytest.raises(error, match=message):
        trainer.fit(x, y, epochs=1, sample_weight=weight)
    with pytest.raises(error, match=message):
        trainer.fit(X, LABELS, epochs=1, validation_data=arguments)
    with pytest.raises(error, match=message):
        trainer.evaluate(x, y, sample_weight=weight)
    assert_same(before, state(trainer))
    for parameter, gradient in zip(trainer.model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"epochs": 0}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"metrics": "accuracy"}, TypeError),
        ({"metrics": ["beauty"]}, ValueError),
        ({"metrics": ["mse", "mse"]}, ValueError),
        ({"metrics": [3]}, TypeError),
        ({"callbacks": [3]}, TypeError),
        ({"validation_data": 3}, TypeError),
        ({"validation_data": (X,)}, TypeError),
        ({"rng": "seed"}, TypeError),
    ],
)
def test_bad_options_of_fit(options, error):
    trainer = make()
    before = state(trainer)
    with pytest.raises(error, match=next(iter(options))):
        trainer.fit(X, LABELS, **{"epochs": 1, **options})
    assert_same(before, state(trainer))


def test_bad_options_of_the_trainer():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for arguments, options, error, name in (
        ((np.ones(3), "mse", optimizer), {}, TypeError, "model"),
        ((model, "nonsense", optimizer), {}, ValueError, "loss"),
        ((model, 3, optimizer), {}, TypeError, "loss"),
        ((model, "mse", "adam"), {}, TypeError, "optimizer"),
        ((model, "mse", optim.SGD(mlp().parameters(), lr=1)), {}, ValueError, "optimizer"),
        ((model, "mse", optim.SGD([np.ones(3)], lr=1)), {}, ValueError, "optimizer"),
        ((model, "mse", optimizer), {"l2": -1}, ValueError, "l2"),
        ((model, "mse", optimizer), {"l2": np.nan}, ValueError, "l2"),
        ((model, "mse", optimizer), {"clip_norm": 0}, ValueError, "clip_norm"),
    ):
        with pytest.raises(error, match=name):
            fastnn.Trainer(*arguments, **options)


def test_a_refused_step_is_not_counted():
    model = mlp()
    trainer = fastnn.Trainer(model, "mse", optim.Adam(model.parameters(), check_finite=True))
    y = Y.copy()
    y[40] = np.inf
    with pytest.raises(ValueError, match=r"gradient of 0\.weight"):
        trainer.fit(X, y, epochs=1, batch_size=32, shuffle=False)
    assert trainer.optimizer.t == 1  # the first batch was good
    before = state(trainer)
    with pytest.raises(ValueError, match="finite"):
        trainer.step(X, y)
    assert_same(before, state(trainer))


def test_a_last_batch_too_small_for_its_statistics():
    model = fastnn.Sequential(fastnn.Linear(6, 4), fastnn.BatchNorm1d(4), rng=0)
    trainer = fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.1))
    before = state(trainer)
    with pytest.raises(ValueError, match="batch_size: expected batches of at least 2"):
        trainer.fit(X, X[:, :4], epochs=1, batch_size=23)
    assert_same(before, state(trainer))
    trainer.fit(X, X[:, :4], epochs=1, batch_size=35)


def test_labels_that_change_during_the_training_are_found():
    class Vandal:
        def on_epoch_end(self, epoch, logs):
            labels[3] = 1_000_000_000

    labels = LABELS.copy()
    with pytest.raises(ValueError, match="labels"):
        make().fit(X, labels, epochs=3, callbacks=[Vandal()])


# Memory, threads, floating-point state -----------------------------------------------------------


def test_steps_do_not_allocate():
    trainer = make(dropout=0.1, l2=0.1, clip_norm=1.0)
    x, labels = X.astype(np.float32), LABELS.astype(np.int64)
    for _ in range(10):
        trainer.step(x, labels)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3000):
        trainer.step(x, labels)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 2000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_constant():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    trainer = make()
    x, labels = X.astype(np.float32), LABELS.astype(np.int64)
    for _ in range(2000):
        trainer.step(x, labels)
    before = resident()
    for size in (70, 32, 1):
        for _ in range(5000):
            trainer.step(x[:size], labels[:size])
    assert resident() - before < 2_000_000


def test_models_train_in_parallel():
    def train(seed):
        model = mlp(rng=seed)
        trainer = fastnn.Trainer(model, "cross_entropy", optim.Adam(model.parameters(), lr=0.01))
        trainer.fit(X, LABELS, epochs=20, rng=seed)
        return state(trainer)

    alone = [train(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(train, range(8)), strict=True):
            assert_same(one, other)


def test_threads_that_share_a_trainer_take_turns():
    shared, alone = make(dropout=0.2), make(dropout=0.2)
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        for _ in range(100):
            shared.step(X, LABELS)
            assert shared.predict(X).shape == (70, 3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for _ in range(400):
        alone.step(X, LABELS)
    assert_same(state(shared), state(alone))


def test_denormals_of_the_caller_stay():
    trainer = make()
    tiny = np.full(3, 1e-40, np.float32)
    trainer.step(X, LABELS)
    trainer.fit(X, LABELS, epochs=1)
    assert (tiny * np.float32(0.5) > 0).all()
    assert (tiny + tiny > tiny).all()


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_threads_changes_no_bit(count, threads):
    def train():
        model = fastnn.Sequential(
            fastnn.Linear(64, 128), fastnn.ReLU(), fastnn.Dropout(0.2), fastnn.Linear(128, 10),
            rng=0,
        )  # fmt: skip
        trainer = fastnn.Trainer(model, "cross_entropy", optim.Adam(model.parameters()), l2=0.01)
        x = np.random.default_rng(0).normal(size=(300, 64))
        history = trainer.fit(x, np.arange(300) % 10, epochs=2, batch_size=128, rng=0)
        return history.history, state(trainer)

    history, expected = train()
    threads(count)
    other, result = train()
    assert history == other
    assert_same(expected, result)


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("l2_on", ["all", "weights"])
def test_penalty_on_weights_alone_or_on_all(l2_on, custom, rng):
    """And λ counts from the next step on, without or with a plan anew."""
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    loss = (lambda pred, target: losses.mse(pred, target)) if custom else "mse"
    model = fastnn.Sequential(
        fastnn.Linear(3, 4), fastnn.LayerNorm(4), fastnn.Linear(4, 2), dtype="float64", rng=0
    )
    model[1].bias.data = np.ones(4)
    trainer = fastnn.Trainer(model, loss, None, l2=0.3, l2_on=l2_on)
    plain = fastnn.Trainer(model, loss, None)
    base, gradient = plain.step(x, y), model.get_flat_grad()
    sizes = [p.size for p in model.parameters()]
    chosen = np.repeat([l2_on == "all" or p.data.ndim > 1 for p in model.parameters()], sizes)
    theta = model.get_flat() * chosen
    for l2 in (0.3, 0.7, 0.0, 0.1):
        trainer.l2 = l2
        assert trainer.step(x, y) == pytest.approx(base + l2 / 2 * theta @ theta, rel=1e-12)
        np.testing.assert_allclose(model.get_flat_grad(), gradient + l2 * theta, rtol=1e-12)
        value = trainer.evaluate(x, y)["loss"]
        assert value == pytest.approx(base + l2 / 2 * theta @ theta, rel=1e-12)
    trainer.l2_on = "all"
    theta = model.get_flat()
    assert trainer.step(x, y) == pytest.approx(base + 0.05 * theta @ theta, rel=1e-12)
    with pytest.raises(ValueError, match="l2_on: expected"):
        trainer.l2_on = "biases"
    assert copy.deepcopy(trainer).l2_on == "all"
