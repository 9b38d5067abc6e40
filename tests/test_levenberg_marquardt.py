"""Levenberg-Marquardt: least squares, batches, Bayesian regularization, limits."""

import numpy as np
import pytest

import fastnn
from fastnn import solvers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.c_[np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2]


def mlp(dtype="float64", *more, hidden=5, outputs=2):
    return fastnn.Sequential(
        fastnn.Linear(3, hidden), fastnn.Tanh(), *more, fastnn.Linear(hidden, outputs),
        dtype=dtype, rng=1,
    )  # fmt: skip


def fit(model, *data, **options):
    return solvers.levenberg_marquardt(model, *data, **options)


def test_linear_least_squares_are_exact():
    model = fastnn.Linear(3, 2, dtype="float64", rng=0)
    result = fit(model, X, Y, damping=1e-8)
    design = np.c_[X, np.ones(40)]
    exact = np.linalg.lstsq(design, Y)[0]
    np.testing.assert_allclose(model.weight.data, exact[:3].T, rtol=1e-10)
    np.testing.assert_allclose(model.bias.data, exact[3], rtol=1e-10)
    assert result.converged
    assert result.n_iter <= 3
    assert result.loss == pytest.approx(np.mean((design @ exact - Y) ** 2), rel=1e-12)
    assert result.alpha is result.beta is result.effective_parameters is None


def test_a_network_comes_to_a_minimum_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    model = mlp(hidden=2)
    result = fit(model, X, Y, max_iter=300, tol=1e-9)
    assert result.converged
    assert result.history == sorted(result.history, reverse=True)
    assert result.history[-1] == result.loss
    assert len(result.history) == result.n_iter + 1
    f = fastnn.objective(mlp(hidden=2), "mse", X, Y)
    loss, gradient = f(model.get_flat())
    assert loss == pytest.approx(result.loss, rel=1e-12)
    assert abs(gradient).max() <= 1e-9
    found = optimize.minimize(f, model.get_flat(), jac=True, method="BFGS")
    assert found.fun == pytest.approx(result.loss, rel=1e-9)


MODELS = {
    "containers": lambda: mlp("float64", fastnn.Residual(fastnn.Linear(5, 5), fastnn.SiLU())),
    "batch statistics": lambda: mlp("float64", fastnn.BatchNorm1d(5)),
    "normalized": lambda: mlp("float64", fastnn.LayerNorm(5)),
    "float32": lambda: mlp("float32"),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_layers(name):
    model = MODELS[name]()
    result = fit(model, X, Y, max_iter=15)
    assert result.loss < 0.05 * result.history[0]
    expected = np.mean((model.forward(X, training=True) - Y) ** 2)
    assert result.loss == pytest.approx(expected, rel=1e-5)


def test_sequences():
    x = RNG.normal(size=(20, 4, 2))
    model = fastnn.Sequential(
        fastnn.LSTM(2, 3, return_sequences=False), fastnn.Linear(3, 1), dtype="float64", rng=0
    )
    result = fit(model, x, x.sum(1)[:, :1], max_iter=15)
    assert result.loss < 0.02 * result.history[0]


def test_sinc_in_batches():
    x = np.linspace(-1, 1, 500)[:, None]
    model = fastnn.Sequential(
        fastnn.Linear(1, 20), fastnn.Tanh(), fastnn.Linear(20, 1), dtype="float64", rng=2
    )
    result = fit(model, x, np.sinc(10 * x / np.pi), batch_size=100, max_iter=20)
    assert result.loss < 1e-6
    assert result.n_iter == 20
    whole = np.mean((model(x) - np.sinc(10 * x / np.pi)) ** 2)
    assert result.loss == pytest.approx(whole, rel=1e-9)


def test_the_same_start_gives_the_same_bits():
    found = [mlp(), mlp()]
    for model in found:
        fit(model, X, Y, max_iter=5)
    np.testing.assert_array_equal(found[0].get_flat(), found[1].get_flat())


def test_bayesian_regularization_finds_the_noise():
    """A network with far too many parameters keeps few, and β is the precision of the noise."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, size=(150, 1))
    y = np.sin(3 * x) + 0.1 * rng.normal(size=x.shape)
    model = fastnn.Sequential(
        fastnn.Linear(1, 15), fastnn.Tanh(), fastnn.Linear(15, 1), dtype="float64", rng=0
    )
    result = fit(model, x, y, bayesian=True, max_iter=60, tol=1e-8)
    assert 4 < result.effective_parameters < 20
    assert 1 / np.sqrt(2 * result.beta) == pytest.approx(0.1, rel=0.15)
    test = np.linspace(-1, 1, 200)[:, None]
    assert np.sqrt(np.mean((model(test) - np.sin(3 * test)) ** 2)) < 0.04
    # a fixed point of MacKay's equations
    w, residual = model.get_flat(), model(x) - y
    gamma = result.effective_parameters
    assert result.alpha == pytest.approx(gamma / (2 * w @ w), rel=1e-6)
    assert result.beta == pytest.approx((150 - gamma) / (2 * np.sum(residual**2)), rel=1e-6)


def test_bayesian_batches():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 3))
    y = np.c_[np.sin(x[:, 0]) + x[:, 1], x[:, 2] ** 2] + 0.1 * rng.normal(size=(300, 2))
    model = mlp(hidden=10)
    result = fit(model, x, y, bayesian=True, batch_size=100, max_iter=30)
    assert 20 < result.effective_parameters < 62
    assert result.loss < 0.05 * result.history[0]
    assert result.loss == pytest.approx(np.mean((model(x) - y) ** 2), rel=1e-9)


def test_frozen_parameters_and_gradients_stay():
    model = mlp()
    model[0].freeze()
    model.forward(X, training=True)
    model.backward(Y)
    before, gradient = model[0].weight.data.copy(), model.get_flat_grad()
    result = fit(model, X, Y, max_iter=5)
    np.testing.assert_array_equal(model[0].weight.data, before)
    np.testing.assert_array_equal(model.get_flat_grad(), gradient)
    assert result.loss < result.history[0]


def test_what_ends_it():
    told = []
    result = fit(mlp(), X, Y, callback=lambda i, loss: told.append((i, loss)) or i == 3)
    assert [i for i, _ in told] == [1, 2, 3]
    assert [loss for _, loss in told] == result.history[1:]
    assert "callback" in result.message
    result = fit(mlp(), X, Y, tol=1e9)
    assert (result.n_iter, result.converged) == (0, True)
    result = fit(mlp("float32"), X, Y, max_iter=1000, tol=0)
    assert not result.converged
    assert "precision" in result.message


def test_an_interruption_leaves_the_last_step():
    model, expected = mlp(), mlp()

    def callback(iteration, loss):
        if iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, X, Y, callback=callback)
    fit(expected, X, Y, max_iter=2)
    np.testing.assert_array_equal(model.get_flat(), expected.get_flat())


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model: expected"),
        ({"model": mlp("float64", fastnn.Dropout(0.2))}, ValueError, r"random numbers.*Dropout"),
        ({"model": mlp(hidden=600)}, ValueError, r"3000 trainable parameters, got 3602.*lbfgs"),
        ({"x": np.zeros((200_000, 3)), "y": np.zeros((200_000, 2))}, ValueError, r"1 GB.*lbfgs"),
        ({"x": X[0], "y": Y[0]}, ValueError, "x: expected"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "x: expected"),
        ({"x": X[:, :2]}, ValueError, "expected 3 features"),
        ({"x": X * np.nan}, ValueError, "finite predictions"),
        ({"y": Y[:, :1]}, ValueError, "target: expected"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"damping": 0}, ValueError, "damping: expected"),
        ({"tol": -1}, ValueError, "tol: expected"),
        ({"max_iter": 1.5}, TypeError, "max_iter: expected"),
    ],
)  # fmt: skip
def test_refusals(change, error, match):
    given = {"model": mlp(hidden=120), "x": X, "y": Y} | change
    with pytest.raises(error, match=match):
        fit(**given)


def test_all_frozen_is_refused():
    model = mlp()
    model.freeze()
    with pytest.raises(ValueError, match="1 to 3000 trainable"):
        fit(model, X, Y)
