"""Losses and gradients that are not finite: where the training ends, and which layer it was."""

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype(np.float32)
Y = RNG.normal(size=(48, 3)).astype(np.float32)
STEP = 2  # whose batch of 8 has the sample that is too large
LARGE = X.copy()
LARGE[8 * STEP + 4, 0] = 1e30


def make(*layers, loss="mse", dtype="float32", **options):
    model = fastnn.Sequential(*layers, dtype=dtype, rng=0)
    return fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=1e-3), **options)


def overflowing(*layers, **options):
    """A model whose first layer takes a large sample to infinity."""
    trainer = make(fastnn.Linear(6, 8), *layers, fastnn.Linear(8, 3), **options)
    trainer.model[0].weight.data[:, 0] = 1e10
    trainer.model[0].weight.trainable = False
    return trainer


def fit(trainer, x=LARGE, y=Y, **options):
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "progress": False, **options}
    return trainer.fit(x, y, **options)


def in_python(pred, y):
    return losses.mse(pred, y)


@pytest.mark.parametrize("loss", ["mse", in_python])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_layer_is_named_and_the_step_not_taken(loss, accumulate):
    other = overflowing(fastnn.LayerNorm(8), loss=loss, accumulate=accumulate)
    # the same without the batch that is not finite
    small = overflowing(fastnn.LayerNorm(8), loss=loss, accumulate=accumulate)
    fit(small, X[: 8 * STEP], Y[: 8 * STEP], epochs=1)
    with pytest.raises(ValueError, match=r"^loss is nan at step \d: layer 0 \(Linear\) first prod"):
        fit(other, check_finite=True)
    taken = STEP // accumulate
    assert (other.optimizer.t, small.optimizer.t) == (taken, taken)
    assert other.not_finite.startswith(f"loss is nan at step {taken}: ")
    for one, two in zip(other.model.parameters(), small.model.parameters(), strict=True):
        np.testing.assert_array_equal(one.data, two.data)
    assert not other.optimizer.check_finite
    fit(other, X, check_finite=True)
    assert other.not_finite == ""


def grow(trainer):
    trainer.model[1].weight.data[:] = 3e38


def holds_nan(trainer):
    trainer.model[1].bias.data[1] = np.nan


def huge_loss(pred, y):
    return 1.0, np.full_like(pred, 3e38)


def nan_gradient(pred, y):
    return 1.0, pred * np.nan


def nan_loss(pred, y):
    return np.nan, pred


class Square(fastnn.Layer):
    """In Python, with a gradient that is not a number for large inputs."""

    def forward(self, x, training=False):
        self.x = x.copy()
        return np.minimum(x, 10)

    def backward(self, dy, accumulate=False):
        return np.where(self.x > 1e6, np.nan, dy)


def dense():
    return fastnn.Linear(6, 8), fastnn.Linear(8, 3)


CASES = {
    "forward": (lambda: make(*dense()), grow, X, "nan|inf", r"layer 1 \(Linear\) .* in forward"),
    "inside a container": (
        lambda: make(fastnn.Linear(6, 8), fastnn.Residual(fastnn.Linear(8, 8))),
        lambda t: t.model[1].layers[0].weight.data.fill(3e38), X, "inf|nan",
        r"layer 1\.0 \(Linear\) first produced (inf|nan) in forward"),
    "dropout before": (
        lambda: make(fastnn.Dropout(0.5), *dense()),
        lambda t: t.model[2].weight.data.fill(3e38), X, "nan|inf",
        r"layer 2 \(Linear\) .* in forward"),
    "backward": (
        lambda: make(*dense(), loss=huge_loss), lambda t: None, X, "1.0",
        r"layer 1 \(Linear\) first produced (inf|nan) in backward"),
    "in Python, backward": (
        lambda: make(fastnn.Linear(6, 6), Square(), fastnn.Linear(6, 3)),
        lambda t: t.model[0].weight.data.fill(1), LARGE, ".*",
        r"layer 1 \(Square\) first produced nan in backward"),
    "the gradient of the loss": (
        lambda: make(*dense(), loss=nan_gradient), lambda t: None, X, "1.0",
        "the loss first produced nan in backward"),
    "the loss": (
        lambda: make(*dense(), loss=nan_loss), lambda t: None, X, "nan",
        "the loss first produced nan in forward"),
    "the penalty": (
        lambda: make(fastnn.Linear(6, 3), loss=lambda p, y: (1.0, p), l2=0.5, dtype="float64"),
        lambda t: t.model[0].weight.data.fill(1e200), X * 1e-150, "inf",
        "the penalty first produced inf in forward"),
    "x": (lambda: make(*dense()), lambda t: None, X * np.float32(np.nan), "nan", "x holds nan"),
    "a parameter": (lambda: make(*dense()), holds_nan, X, "nan", "1.bias holds nan"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("case", CASES)
def test_who_it_was(case):
    make_trainer, change, x, loss, culprit = CASES[case]
    trainer = make_trainer()
    y = np.zeros((len(x), 8), np.float32) if case == "inside a container" else Y
    change(trainer)
    with pytest.raises(ValueError, match=rf"^loss is ({loss}) at step \d: {culprit}"):
        fit(trainer, x, y, check_finite=True)


@pytest.mark.parametrize("options", [{}, {"lengths": np.arange(16) % 6}])
def test_sequences(options):
    model = fastnn.Sequential(fastnn.LSTM(6, 4), fastnn.Linear(4, 3), rng=0)
    model[1].weight.data[:] = 3e38
    trainer = fastnn.Trainer(
        model, "cross_entropy", optim.Adam(model.parameters()), stateful=not options
    )
    x, y = 10 * RNG.normal(size=(16, 5, 6)), RNG.integers(0, 3, (16, 5))
    with pytest.raises(ValueError, match=r"^loss is nan at step \d: layer 1 \(Linear\) first prod"):
        fit(trainer, x, y, batch_size=4, check_finite=True, **options)


@pytest.mark.parametrize("callback_too", [False, True])
def test_terminate_on_nan_says_which_layer(callback_too):
    seen = []
    trainer = overflowing(fastnn.LayerNorm(8))
    guard = fastnn.TerminateOnNaN()
    also = [lambda epoch, logs: seen.append(epoch)] if callback_too else []
    history = fit(trainer, callbacks=[guard, *also])
    assert guard.stopped_epoch == history.stopped_epoch == 0
    assert guard.reason == "loss is nan at step 2: layer 0 (Linear) first produced inf in forward"
    assert history.reason == guard.reason == trainer.not_finite
    assert len(history.history["loss"]) == 1
    assert np.isnan(history.history["loss"][0])
    assert seen == [0] * callback_too
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())
    fit(trainer, X, callbacks=[guard])
    assert guard.stopped_epoch is None
    assert guard.reason == ""


def test_looking_changes_no_bit():
    found = []
    for look in (False, True):
        trainer = make(fastnn.Linear(6, 8), fastnn.Dropout(0.5), fastnn.Linear(8, 3))
        callbacks = [fastnn.TerminateOnNaN()] if look else []
        history = fit(trainer, X, shuffle=True, rng=0, check_finite=look, callbacks=callbacks)
        found.append((trainer.model.get_flat().tobytes(), history.history))
    assert found[0] == found[1]


def test_an_optimizer_that_looks_by_itself_says_what_it_did():
    trainer = overflowing(fastnn.LayerNorm(8))
    trainer.optimizer.check_finite = True
    with pytest.raises(ValueError, match=r"^gradient of 0.bias: expected finite values"):
        fit(trainer)
    trainer.optimizer.t = 0
    with pytest.raises(ValueError, match=r"^loss is nan at step 2: layer 0 "):
        fit(trainer, check_finite=True)
    assert trainer.optimizer.check_finite
