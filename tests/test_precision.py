"""Trainers whose products read bfloat16: beside NumPy, in all of their ways, and on digits."""

import numpy as np
import pytest

import fastnn
from fastnn import losses, optim, reference

from .trainer_cases import LABELS, X, Y, make, mlp

X32, Y32 = X.astype(np.float32), Y.astype(np.float32)


def gradients_by_hand(model, x, y):
    """Loss and gradients of a Linear, Tanh, Linear with mse, products of rounded operands."""
    first, _, last = model.layers
    (w1, b1), (w2, b2) = ((layer.weight.data, layer.bias.data) for layer in (first, last))
    h = np.tanh(reference.linear_forward_bfloat16(x, w1, b1))
    pred = reference.linear_forward_bfloat16(h, w2, b2)
    dy = (2 * (pred - y) / pred.size).astype(np.float32)
    dh = reference.linear_backward_input_bfloat16(dy, w2) * (1 - h * h)
    second = reference.linear_backward_weight_bfloat16(dy, h)
    return np.mean((pred - y) ** 2), [
        *reference.linear_backward_weight_bfloat16(dh.astype(np.float32), x), *second
    ]


@pytest.mark.parametrize("loss", ["mse", lambda pred, y: losses.mse(pred, y)], ids=["C", "Python"])
def test_gradients_are_those_of_rounded_operands(loss):
    model = mlp()
    trainer = fastnn.Trainer(model, loss, None, precision="bfloat16")
    expected, gradients = gradients_by_hand(model, X32, Y32)
    assert trainer.step(X32, Y32) == pytest.approx(expected, rel=1e-5)
    exact = fastnn.Trainer(mlp(), loss, None)
    exact.step(X32, Y32)
    for p, q, gradient in zip(
        model.parameters(), exact.model.parameters(), gradients, strict=True
    ):
        # a value of h that lies between two bfloat16 may be rounded to either
        np.testing.assert_allclose(p.grad, gradient, rtol=2e-3, atol=2e-4 * abs(gradient).max())
        assert not np.array_equal(p.grad, q.grad)


def test_predict_and_evaluate_read_bfloat16_and_the_model_alone_does_not():
    model = mlp()
    trainer = fastnn.Trainer(model, "mse", None, precision="bfloat16")
    exact = model(X32)
    pred = trainer.predict(X32)
    expected, _ = gradients_by_hand(model, X32, Y32)
    assert trainer.evaluate(X32, Y32)["loss"] == pytest.approx(expected, rel=1e-5)
    assert 1e-4 < abs(pred - exact).max() < 2e-2
    np.testing.assert_array_equal(model(X32), exact)
    np.testing.assert_array_equal(fastnn.Trainer(model, "mse", None).predict(X32), exact)


def test_precision_takes_effect_when_it_is_assigned():
    one, other, plain = make(precision="bfloat16"), make(), make()
    other.precision = "bfloat16"
    assert one.step(X32, LABELS) == other.step(X32, LABELS)
    np.testing.assert_array_equal(one.model.get_flat(), other.model.get_flat())
    plain.step(X32, LABELS)
    assert not np.array_equal(one.model.get_flat(), plain.model.get_flat())
    one.precision = "float32"
    np.testing.assert_array_equal(one.predict(X32), one.model(X32))


def test_fit_is_the_same_as_its_steps_and_goes_on_from_a_file(tmp_path):
    by_steps, whole, half = (make(precision="bfloat16") for _ in range(3))
    for _ in range(4):
        for start in range(0, len(X32), 32):
            by_steps.step(X32[start : start + 32], LABELS[start : start + 32])
    whole.fit(X32, LABELS, epochs=4, batch_size=32, shuffle=False, progress=False)
    np.testing.assert_array_equal(by_steps.model.get_flat(), whole.model.get_flat())
    half.fit(X32, LABELS, epochs=2, batch_size=32, shuffle=False, progress=False)
    half.save(tmp_path / "half.safetensors")
    model = mlp(rng=5)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    restored = fastnn.Trainer.restore(
        tmp_path / "half.safetensors", model, "cross_entropy", optimizer
    )
    assert restored.precision == "bfloat16"
    restored.fit(X32, LABELS, epochs=2, batch_size=32, shuffle=False, progress=False)
    np.testing.assert_array_equal(restored.model.get_flat(), whole.model.get_flat())


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_bit(threads):
    fastnn.set_num_threads(threads)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 130), np.float32)
    model = fastnn.Sequential(
        fastnn.Linear(130, 257), fastnn.ReLU(), fastnn.Linear(257, 10), rng=0
    )
    trainer = fastnn.Trainer(model, "cross_entropy", None, precision="bfloat16")
    trainer.step(x, rng.integers(0, 10, 300))
    parts = [trainer.predict(x[:77]), trainer.predict(x[77:])]
    np.testing.assert_array_equal(trainer.predict(x), np.concatenate(parts))


def test_sequences():
    """The products of a recurrent layer with its input are narrow, those with its state are not."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 7, 3), np.float32), rng.standard_normal((5, 2), np.float32)
    model = fastnn.Sequential(
        fastnn.LSTM(3, 8, return_sequences=False), fastnn.Linear(8, 2), rng=0
    )
    trainer = fastnn.Trainer(model, "mse", None, precision="bfloat16")
    trainer.step(x, y)
    gradient = model.get_flat_grad()
    fastnn.Trainer(model, "mse", None).step(x, y)
    assert 0 < abs(gradient - model.get_flat_grad()).max() < 0.02 * abs(gradient).max()


def test_refusals():
    model = mlp("float64")
    message = r'precision: expected "float32", the default, for a model of float64'
    with pytest.raises(ValueError, match=message):
        fastnn.Trainer(model, "mse", None, precision="bfloat16")
    with pytest.raises(ValueError, match="precision: expected 'float32' or 'bfloat16'"):
        make(precision="float16")
    trainer = make()
    with pytest.raises(ValueError, match="precision: expected"):
        trainer.precision = 16
    assert trainer.precision == "float32"
    assert "precision='bfloat16'" in repr(make(precision="bfloat16"))


def test_digits_are_learnt_as_well():
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    reached = {"float32": [], "bfloat16": []}
    for precision, accuracies in reached.items():
        for seed in range(3):
            model = fastnn.Sequential(
                fastnn.Linear(64, 64), fastnn.ReLU(), fastnn.Linear(64, 10), rng=seed
            )
            optimizer = optim.Adam(model.parameters(), lr=3e-3)
            trainer = fastnn.Trainer(model, "cross_entropy", optimizer, precision=precision)
            trainer.fit(x[:1400], y[:1400], epochs=15, progress=False, rng=seed)
            accuracies.append((trainer.predict(x[1400:]).argmax(1) == y[1400:]).mean())
    assert np.mean(reached["float32"]) > 0.9
    assert abs(np.mean(reached["float32"]) - np.mean(reached["bfloat16"])) < 0.01
