"""Parameters as one vector, and the loss as a function of it."""

import numpy as np
import pytest

import fastnn
from fastnn import losses

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(12, 3)), RNG.integers(0, 2, 12)


def mlp(dtype="float64", *more):
    return fastnn.Sequential(
        fastnn.Linear(3, 4), fastnn.Tanh(), *more, fastnn.Linear(4, 2), dtype=dtype, rng=1
    )


def differences(f, theta, epsilon=1e-6):
    return np.array(
        [(f(theta + step)[0] - f(theta - step)[0]) / (2 * epsilon)
         for step in epsilon * np.eye(theta.size)]
    )  # fmt: skip


def test_flat_vectors_are_in_the_order_of_the_parameters(dtype):
    model = mlp(dtype)
    flat = model.get_flat()
    assert flat.dtype == dtype
    expected = np.concatenate([p.data.ravel() for p in model.parameters()])
    np.testing.assert_array_equal(flat, expected)
    out = np.empty_like(flat)
    assert model.get_flat(out=out) is out
    np.testing.assert_array_equal(out, expected)
    model.set_flat(list(range(flat.size)))
    np.testing.assert_array_equal(model.get_flat(), np.arange(flat.size))
    np.testing.assert_array_equal(model[0].weight.data, np.arange(12).reshape(4, 3))
    flat[:] = 0  # a copy
    assert model.get_flat()[1] == 1


def test_flat_gradients(dtype):
    model = mlp(dtype)
    with pytest.raises(RuntimeError, match="backward"):
        model.get_flat_grad()
    model[0].freeze()
    model.forward(X, training=True)
    model.backward(np.ones((12, 2)))
    expected = np.concatenate([p.grad.ravel() for p in model.parameters() if p.trainable])
    flat = model.get_flat_grad(out=np.empty(26, dtype))
    assert flat.dtype == dtype
    np.testing.assert_array_equal(flat[:16], 0)
    np.testing.assert_array_equal(flat[16:], expected)


def test_a_tied_parameter_is_there_once():
    model = fastnn.Sequential(fastnn.Linear(3, 3), fastnn.Linear(3, 3), rng=0)
    model[1].weight = model[0].weight
    assert model.get_flat().shape == (9 + 3 + 3,)


def test_flat_vectors_that_do_not_fit():
    model = mlp()
    before = model.get_flat()
    for bad, error in [
        (np.zeros(25), ValueError), (np.zeros((26, 1)), ValueError), ("theta", TypeError),
        (np.zeros(26, complex), TypeError),
    ]:  # fmt: skip
        with pytest.raises(error, match="theta: expected"):
            model.set_flat(bad)
    with pytest.raises(TypeError, match="out: expected"):
        model.get_flat(out=np.zeros(26, np.float32))
    with pytest.raises(ValueError, match="out: expected"):
        model.get_flat(out=np.zeros(25))
    np.testing.assert_array_equal(model.get_flat(), before)
    assert fastnn.Tanh().get_flat().shape == (0,)
    fastnn.Tanh().set_flat([])


@pytest.mark.parametrize("l2_on", ["weights", "all"])
@pytest.mark.parametrize("weighted", [False, True])
def test_objective_has_the_gradient_of_its_value(l2_on, weighted):
    model = mlp("float64", fastnn.BatchNorm1d(4))
    weight = RNG.uniform(size=12) if weighted else None
    f = fastnn.objective(
        model, losses.cross_entropy, X, LABELS, l2=0.3, l2_on=l2_on, sample_weight=weight
    )
    theta = model.get_flat()
    value, gradient = f(theta)
    again = f(theta)
    assert again[0] == value
    assert again[1] is not gradient
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, differences(f, theta), rtol=1e-6, atol=1e-8)
    f(theta)
    loss = losses.cross_entropy(model.forward(X, training=True), LABELS, sample_weight=weight)[0]
    model.backward(np.zeros((12, 2)))
    squares = sum(
        float((p.data**2).sum()) for p in model.parameters() if l2_on == "all" or p.data.ndim > 1
    )
    assert value == pytest.approx(loss + 0.15 * squares, rel=1e-12)


def test_objective_leaves_frozen_parameters_alone():
    model = mlp()
    f = fastnn.objective(model, "cross_entropy", X, LABELS, l2=1.0)
    model[0].freeze()  # counts from the next call on
    gradient = f(model.get_flat())[1]
    np.testing.assert_array_equal(gradient[:16], 0)
    assert (gradient[16:] != 0).all()
    model.freeze()
    np.testing.assert_array_equal(f(model.get_flat())[1], 0)


def test_objective_of_a_loss_in_python():
    def loss(pred, target):
        return float((pred**2).sum()), 2 * pred

    model = mlp()
    f = fastnn.objective(model, loss, X, LABELS)
    theta = model.get_flat()
    np.testing.assert_allclose(f(theta)[1], differences(f, theta), rtol=1e-6, atol=1e-7)


def test_scipy_finds_the_minimum():
    optimize = pytest.importorskip("scipy.optimize")
    model = fastnn.Linear(3, 1, dtype="float64", rng=0)
    y = X @ [[1.0], [2.0], [3.0]] + 4
    f = fastnn.objective(model, "mse", X, y)
    found = optimize.minimize(f, model.get_flat(), jac=True, options={"gtol": 1e-9})
    np.testing.assert_allclose(found.x, [1, 2, 3, 4], rtol=1e-6)
    assert f.n_evaluations == found.nfev


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model: expected"),
        ({"model": mlp("float64", fastnn.Dropout(0.2))}, ValueError, r"random numbers.*Dropout"),
        ({"loss": "nonsense"}, ValueError, "nonsense"),
        ({"x": X[:, :2]}, ValueError, "expected 3 features"),
        ({"y": LABELS[1:]}, ValueError, "x and y: expected"),
        ({"l2": -1}, ValueError, "l2: expected"),
        ({"l2_on": "biases"}, ValueError, "l2_on: expected"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight: expected"),
    ],
)
def test_objective_refuses(change, error, match):
    given = {"model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS} | change
    with pytest.raises(error, match=match):
        fastnn.objective(**given)
