"""Truncated back-propagation through time: a trainer that carries the state of recurrent layers."""

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim, preprocessing

from .trainer_cases import assert_same, state

BATCH, STEPS, WINDOWS, CLASSES = 3, 4, 5, 6
TEXT = np.random.default_rng(0).integers(0, CLASSES, 1 + BATCH * STEPS * WINDOWS)
X, Y = (preprocessing.continue_rows(t, BATCH, STEPS) for t in (TEXT[:-1], TEXT[1:]))


def network(dtype="float32", layers=1, **options):
    return fastnn.Sequential(
        fastnn.Embedding(CLASSES, 5),
        fastnn.LSTM(5, 7, num_layers=layers),
        fastnn.LSTM(7, 4, **options),
        fastnn.Linear(4, CLASSES),
        dtype=dtype, rng=1,
    )  # fmt: skip


def trainer(loss="cross_entropy", stateful=True, dtype="float32", **options):
    model = network(dtype)
    return fastnn.Trainer(
        model, loss, optim.Adam(model.parameters(), lr=0.01), stateful=stateful, **options
    )


def batches():
    return [(X[k : k + BATCH], Y[k : k + BATCH]) for k in range(0, len(X), BATCH)]


def test_rows_continue_those_of_the_batch_before():
    stretches = TEXT[:-1].reshape(BATCH, -1)
    for k, (x, y) in enumerate(batches()):
        np.testing.assert_array_equal(x, stretches[:, k * STEPS : (k + 1) * STEPS])
        np.testing.assert_array_equal(y[:, :-1], x[:, 1:])
    pairs = np.arange(26).reshape(13, 2)
    assert preprocessing.continue_rows(pairs, 2, 3).shape == (4, 3, 2)
    for wrong in (TEXT[: BATCH * STEPS - 1], np.float32(1)):
        with pytest.raises(ValueError, match="sequence: expected at least"):
            preprocessing.continue_rows(wrong, BATCH, STEPS)
    with pytest.raises(ValueError, match="steps: expected a positive"):
        preprocessing.continue_rows(TEXT, BATCH, 0)


def test_windows_of_a_frozen_network_give_the_losses_of_the_whole_sequence(dtype):
    """With a learning rate of 0 the only thing that passes between batches is the state."""
    model = network(dtype)
    whole = fastnn.Trainer(model, "cross_entropy", None)
    frozen = optim.SGD(model.parameters(), lr=0)
    parts = fastnn.Trainer(model, "cross_entropy", frozen, stateful=True)
    stretches = TEXT[:-1].reshape(BATCH, -1), TEXT[1:].reshape(BATCH, -1)
    expected = whole.step(*stretches)
    tolerance = 20 * float(np.finfo(dtype).eps)
    found = np.mean([parts.step(x, y) for x, y in batches()])
    assert found == pytest.approx(expected, rel=tolerance)
    history = parts.fit(X, Y, epochs=2, batch_size=BATCH, shuffle=False, progress=False)
    assert history.history["loss"] == pytest.approx([expected] * 2, rel=tolerance)
    assert parts.evaluate(X, Y, batch_size=BATCH)["loss"] == pytest.approx(expected, rel=tolerance)
    predicted = parts.predict(X, BATCH).reshape(WINDOWS, BATCH, STEPS, CLASSES)
    together = whole.predict(stretches[0])
    for k, part in enumerate(predicted):
        np.testing.assert_allclose(
            part, together[:, k * STEPS : (k + 1) * STEPS], atol=tolerance, rtol=tolerance
        )


def test_gradients_are_those_of_layers_called_with_the_carried_state():
    """Which end at the border of the batch, for nothing flows into the initial state."""
    model = network("float64")
    one = fastnn.Trainer(model, "cross_entropy", None, stateful=True)
    saved = model.state_dict()
    alone = [
        fastnn.Embedding(CLASSES, 5, dtype="float64"), fastnn.LSTM(5, 7, dtype="float64"),
        fastnn.LSTM(7, 4, dtype="float64"), fastnn.Linear(4, CLASSES, dtype="float64"),
    ]  # fmt: skip
    for k, layer in enumerate(alone):
        layer.load_state_dict({
            name.removeprefix(f"{k}."): array
            for name, array in saved.items() if name.startswith(f"{k}.")
        })  # fmt: skip
    states = [()] * len(alone)
    for x, y in batches():
        found = one.step(x, y)
        for k, layer in enumerate(alone):
            x = layer.forward(x, *states[k], training=True)
            if isinstance(layer, fastnn.LSTM):
                states[k] = layer.final_state
        loss, gradient = losses.cross_entropy(x, y)
        for layer in reversed(alone):
            gradient = layer.backward(gradient)
        assert found == pytest.approx(loss, rel=1e-12)
        expected = [p.grad for layer in alone for p in layer.parameters()]
        for parameter, want in zip(model.parameters(), expected, strict=True):
            np.testing.assert_allclose(parameter.grad, want, atol=1e-14)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_fit_takes_the_steps_that_step_takes(clip):
    one, other = trainer(clip_norm=clip), trainer(clip_norm=clip)
    for _ in range(3):
        one.reset_state()
        for x, y in batches():
            one.step(x, y)
    other.fit(X, Y, epochs=3, batch_size=BATCH, shuffle=False, progress=False)
    assert_same(state(one), state(other))
    assert one._carried.states.keys() == {"1.initial", "2.initial"}
    assert_same(one._carried.states, other._carried.states)
    without = trainer(stateful=False, clip_norm=clip)
    without.fit(X, Y, epochs=3, batch_size=BATCH, shuffle=False, progress=False)
    assert not np.array_equal(
        without.model.state_dict()["3.bias"], other.model.state_dict()["3.bias"]
    )


@pytest.mark.parametrize("alone", [False, True], ids=["in a container", "an LSTM alone"])
def test_a_loss_in_python_carries_the_state_too(alone, rng):
    def python_loss(pred, target):
        return losses.mse(pred, target)

    x, y = rng.standard_normal((2, 4, BATCH, STEPS, 2), np.float32)

    def run(loss):
        layer = fastnn.LSTM(2, 2, rng=1)
        model = layer if alone else fastnn.Sequential(layer, rng=1)
        found = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), stateful=True)
        values = [found.step(a, b) for a, b in zip(x, y, strict=True)]
        return values, model.state_dict(), model.forward(x[0])

    for one, other in zip(run("mse"), run(python_loss), strict=True):
        if isinstance(one, dict):
            assert one.keys() == other.keys()
            one, other = list(one.values()), list(other.values())
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_saved_training_goes_on_in_the_middle_of_a_sequence(tmp_path):
    one = trainer()
    for x, y in batches()[:2]:
        one.step(x, y)
    one.save(tmp_path / "half")
    model = network()
    optimizer = optim.Adam(model.parameters())
    other = fastnn.Trainer.restore(tmp_path / "half", model, "cross_entropy", optimizer)
    assert other.stateful
    for x, y in batches()[2:]:
        assert one.step(x, y) == other.step(x, y)
    assert_same(state(one), state(other))


def test_the_shared_programs_start_at_zero_again():
    one = trainer()
    before = one.model.forward(X[:BATCH]), one.predict(X[:BATCH], BATCH)
    np.testing.assert_array_equal(*before)
    one.predict(X, BATCH)
    np.testing.assert_array_equal(one.model.forward(X[:BATCH]), before[0])
    lstm = fastnn.LSTM(2, 2, rng=0)
    x = np.ones((2, 3, 2), np.float32)
    plain = lstm.forward(x)
    lstm.forward(x, np.ones((1, 2, 2)), lengths=[1, 2])
    alone = fastnn.Trainer(lstm, "mse", optim.SGD(lstm.parameters(), lr=0))
    np.testing.assert_array_equal(alone.predict(x), plain)


def test_a_failed_step_leaves_the_state():
    model = network()
    optimizer = optim.Adam(model.parameters(), check_finite=True)
    one = fastnn.Trainer(model, "cross_entropy", optimizer, stateful=True)
    one.step(X[:BATCH], Y[:BATCH])
    before = {name: array.copy() for name, array in one._carried.states.items()}
    weight = np.full((BATCH,), np.inf, np.float32)
    with pytest.raises(ValueError, match="expected finite values"):
        one.step(X[:BATCH], Y[:BATCH], weight)
    assert_same(one._carried.states, before)


def test_refusals():
    one = trainer()
    with pytest.raises(ValueError, match="shuffle: expected False with stateful=True"):
        one.fit(X, Y, epochs=1, batch_size=BATCH)
    for use in (
        lambda: one.fit(X, Y, epochs=1, batch_size=2, shuffle=False),
        lambda: one.predict(X, 2),
        lambda: one.evaluate(X, Y, batch_size=2),
        lambda: one.fit(
            X, Y, epochs=1, batch_size=BATCH, shuffle=False, validation_data=(X[:4], Y[:4])
        ),
    ):
        with pytest.raises(ValueError, match="batch_size: expected a divisor of the"):
            use()
    one.step(X[:BATCH], Y[:BATCH])
    with pytest.raises(ValueError, match="x: expected sequences that continue the state"):
        one.step(X[:2], Y[:2])
    one.reset_state()
    one.step(X[:2], Y[:2])
    model = fastnn.LSTM(2, 2, bidirectional=True)
    with pytest.raises(ValueError, match="stateful: expected recurrent layers that read forwards"):
        fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=1), stateful=True)
