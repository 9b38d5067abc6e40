"""L-BFGS: minima, line searches, what stops it, what it refuses."""

import numpy as np
import pytest

import fastnn
from fastnn import solvers
from fastnn.solvers.line_search import DECREASE, FLATTER, Point, search

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(30, 3)), RNG.integers(0, 2, 30)


def mlp(dtype="float64", *more):
    return fastnn.Sequential(
        fastnn.Linear(3, 6), fastnn.Tanh(), *more, fastnn.Linear(6, 2), dtype=dtype, rng=1
    )


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_linear_regression_has_its_closed_form(l2):
    y = X @ [[1.0], [2.0], [3.0]] + 4 + 0.1 * RNG.normal(size=(30, 1))
    model = fastnn.Linear(3, 1, dtype="float64", rng=0)
    result = solvers.lbfgs(model, "mse", X, y, l2=l2, tol=1e-10)
    design = np.c_[X, np.ones(30)]
    penalty = np.diag([l2] * 3 + [0.0])
    exact = np.linalg.solve(2 / 30 * design.T @ design + penalty, 2 / 30 * design.T @ y)
    np.testing.assert_allclose(model.get_flat(), exact.ravel(), rtol=1e-8)
    assert result.converged
    assert result.n_iter < 40
    assert len(result.history) == result.n_iter + 1
    assert result.history[-1] == result.loss
    assert result.n_evaluations >= result.n_iter


def test_the_minimum_of_a_network_is_that_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    options = {"l2": 0.05, "sample_weight": RNG.uniform(size=30)}
    model, other = mlp(), mlp()
    result = solvers.lbfgs(model, "cross_entropy", X, LABELS, tol=1e-9, max_iter=1000, **options)
    f = fastnn.objective(other, "cross_entropy", X, LABELS, **options)
    found = optimize.minimize(
        f, other.get_flat(), jac=True, method="L-BFGS-B",
        options={"gtol": 1e-9, "ftol": 0, "maxiter": 1000},
    )  # fmt: skip
    assert result.converged
    assert result.loss == pytest.approx(found.fun, rel=1e-6)
    assert f(model.get_flat())[0] == pytest.approx(result.loss, rel=1e-12)


def test_float32_ends_at_its_precision():
    model = mlp("float32")
    result = solvers.lbfgs(model, "cross_entropy", X, LABELS, l2=0.05, tol=1e-12, max_iter=1000)
    exact = solvers.lbfgs(mlp(), "cross_entropy", X, LABELS, l2=0.05, tol=1e-9, max_iter=1000)
    assert not result.converged
    assert "precision" in result.message
    assert result.loss == pytest.approx(exact.loss, rel=1e-5)
    assert result.n_evaluations < 5 * result.n_iter + 50


def test_rosenbrock_as_a_loss():
    """A valley that a quasi-Newton method must follow round a bend."""

    def loss(pred, _):
        a, b = pred[0]
        gradient = [-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)]
        return float((1 - a) ** 2 + 100 * (b - a * a) ** 2), np.array([gradient])

    model = fastnn.Linear(1, 2, bias=False, dtype="float64", rng=0)
    model.set_flat([-1.2, 1.0])
    result = solvers.lbfgs(model, loss, np.ones((1, 1)), np.zeros((1, 1)), tol=1e-8)
    assert result.converged
    np.testing.assert_allclose(model.get_flat(), [1, 1], rtol=1e-7)
    assert result.n_evaluations < 80


def test_batch_statistics_and_frozen_parameters():
    model = mlp("float64", fastnn.BatchNorm1d(6))
    model[0].freeze()
    before = model[0].weight.data.copy()
    result = solvers.lbfgs(model, "cross_entropy", X, LABELS, max_iter=20)
    assert result.loss < 0.95 * result.history[0]
    assert result.history == sorted(result.history, reverse=True)
    np.testing.assert_array_equal(model[0].weight.data, before)


def test_what_ends_it():
    told = []

    def callback(iteration, loss):
        told.append((iteration, loss))
        return iteration == 3

    result = solvers.lbfgs(mlp(), "cross_entropy", X, LABELS, callback=callback)
    assert [iteration for iteration, _ in told] == [1, 2, 3]
    assert [loss for _, loss in told] == result.history[1:]
    assert "callback" in result.message
    result = solvers.lbfgs(mlp(), "cross_entropy", X, LABELS, max_iter=2)
    assert (result.n_iter, result.converged) == (2, False)
    assert "largest number" in result.message
    result = solvers.lbfgs(mlp(), "cross_entropy", X, LABELS, tol=1e9)
    assert (result.n_iter, result.converged, result.n_evaluations) == (0, True, 1)


def test_an_interruption_leaves_the_best_parameters():
    model = mlp()

    def callback(iteration, loss):
        if iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solvers.lbfgs(model, "cross_entropy", X, LABELS, callback=callback)
    expected = mlp()
    solvers.lbfgs(expected, "cross_entropy", X, LABELS, max_iter=4)
    np.testing.assert_array_equal(model.get_flat(), expected.get_flat())


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model: expected"),
        ({"model": mlp("float64", fastnn.Dropout(0.2))}, ValueError, r"random numbers.*Dropout"),
        ({"x": X * np.nan}, ValueError, "finite loss"),
        ({"y": LABELS[1:]}, ValueError, "x and y: expected"),
        ({"max_iter": 0}, ValueError, "max_iter: expected"),
        ({"memory": 0}, ValueError, "memory: expected"),
        ({"tol": -1.0}, ValueError, "tol: expected"),
        ({"l2": "much"}, TypeError, "l2: expected"),
    ],
)
def test_refusals(change, error, match):
    given = {"model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS} | change
    before = None if change.get("model") else given["model"].get_flat()
    with pytest.raises(error, match=match):
        solvers.lbfgs(**given)
    if before is not None:
        np.testing.assert_array_equal(given["model"].get_flat(), before)


LINES = {
    "parabola": lambda t: ((t - 3) ** 2, 2 * (t - 3)),
    "valley far away": lambda t: ((t / 1e4 - 1) ** 2, 2e-4 * (t / 1e4 - 1)),
    "wall": lambda t: (-t - np.log(1 - t) * 0.1, -1 + 0.1 / (1 - t)) if t < 1 else (np.inf, np.nan),
    "waves": lambda t: (np.sin(5 * t) * 0.2 + (t - 2) ** 2, np.cos(5 * t) + 2 * (t - 2)),
    "steep then flat": lambda t: (np.exp(-50 * t) + 1e-3 * t, -50 * np.exp(-50 * t) + 1e-3),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("first", [1e-4, 1.0, 100.0])
def test_the_step_meets_the_strong_wolfe_conditions(name, first):
    trials = []

    def along(step):
        trials.append(step)
        return Point(step, *LINES[name](step), None)

    start = Point(0.0, *LINES[name](0.0), None)
    point = search(along, start, first, 0.0)
    assert point.value <= start.value + DECREASE * point.step * start.slope
    assert abs(point.slope) <= -FLATTER * start.slope
    assert len(trials) <= 20


def test_no_step_where_nothing_falls():
    start = Point(0.0, 0.0, -1.0, None)
    assert search(lambda step: Point(step, 1.0, 1.0, None), start, 1.0, 0.0) is None
    assert search(lambda step: Point(step, np.nan, 1.0, None), start, 1.0, 0.0) is None
