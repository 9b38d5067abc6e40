"""Optimizers on functions of arrays, by themselves and as a method of SciPy."""

import numpy as np
import pytest

import fastnn
from fastnn.optim import minimize, scipy_method

from .optimizers import RULES

NAMES = [str(rule).lower() for rule in RULES]


def bowl(x):
    return float(((x - 3) ** 2).sum()), 2 * (x - 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_the_steps_it_takes_by_hand(name):
    x0 = np.arange(4.0)
    result = minimize(bowl, x0, optimizer=name, lr=0.01, max_iter=20)
    np.testing.assert_array_equal(x0, np.arange(4.0))
    kind = {k.__name__.lower(): k for k in vars(fastnn.optim).values() if isinstance(k, type)}
    optimizer = kind[name]([x0], lr=0.01)
    for _ in range(20):
        optimizer.step([bowl(x0)[1]])
    np.testing.assert_array_equal(result.x, x0)
    assert result.fun == bowl(x0)[0]
    assert (result.n_iter, result.converged) == (20, False)


def test_tol_callback_and_options():
    result = minimize(bowl, [0, 0], lr=0.1, tol=1e-5, max_iter=5000)
    assert result.converged
    assert abs(bowl(result.x)[1]).max() <= 1e-5
    assert result.x.dtype == np.float64
    again = minimize(bowl, [0, 0], lr=0.1, tol=1e-5, max_iter=result.n_iter)
    assert again.converged
    assert not minimize(bowl, [0, 0], lr=0.1, tol=1e-5, max_iter=result.n_iter - 1).converged
    told = []
    result = minimize(
        bowl, np.zeros(2, np.float32), optimizer=fastnn.optim.SGD, lr=0.1, momentum=0.5,
        callback=lambda i, f: told.append((i, f)) or i == 3,
    )  # fmt: skip
    assert [i for i, _ in told] == [1, 2, 3]
    assert told[0][1] == 18
    assert result.n_iter == 3
    assert result.x.dtype == np.float32
    assert minimize(bowl, [3.0], tol=1e-9).n_iter == 0
    schedule = fastnn.schedules.exponential_decay(0.1, 0.01)
    assert minimize(bowl, [0.0], optimizer="sgd", lr=schedule).fun < 1e-3


def test_a_dict_is_matched_by_key():
    def f(x):
        a, b = x["a"], x["b"]
        gradient = {"b": 2 * (b - 2), "a": 2 * (a - 1)}
        return float(((a - 1) ** 2).sum() + ((b - 2) ** 2).sum()), gradient

    result = minimize(f, {"a": np.zeros((2, 2)), "b": [0.0, 1.0, 2.0]}, lr=0.1, tol=1e-6)
    np.testing.assert_allclose(result.x["a"], np.ones((2, 2)), rtol=1e-5)
    np.testing.assert_allclose(result.x["b"], [2, 2, 2], rtol=1e-5)
    with pytest.raises(ValueError, match=r"fun: expected gradients for \['a', 'c'\]"):
        minimize(lambda x: (0.0, {"a": [0.0], "b": [0.0]}), {"a": [0.0], "c": [0.0]})
    with pytest.raises(TypeError, match="fun: expected a dict"):
        minimize(lambda x: (0.0, [0.0]), {"a": [0.0]})


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"optimizer": "adm"}, ValueError, r"optimizer: expected.*'adm'"),
        ({"optimizer": 3}, TypeError, "optimizer: expected"),
        ({"optimizer": "optimizer"}, ValueError, "optimizer: expected"),
        ({"optimizer": "sgd", "lr": None}, TypeError, r"lr: expected a learning rate.*SGD"),
        ({"lr": -1.0}, ValueError, "lr: expected"),
        ({"max_iter": 0}, ValueError, "max_iter: expected"),
        ({"tol": -1.0}, ValueError, "tol: expected"),
        ({"x0": "x"}, TypeError, "x0: expected"),
        ({"x0": {"a": "x"}}, TypeError, r"x0\['a'\]: expected"),
        ({"fun": lambda x: (0.0, np.zeros(3))}, ValueError, "expected shape"),
    ],
)
def test_refusals(change, error, match):
    given = {"fun": bowl, "x0": np.zeros(2), "lr": 0.1} | change
    with pytest.raises(error, match=match):
        minimize(given.pop("fun"), given.pop("x0"), **given)


def test_scipy_takes_the_same_steps():
    optimize = pytest.importorskip("scipy.optimize")
    x0 = np.array([-1.2, 1.0])
    found = optimize.minimize(
        optimize.rosen, x0, jac=optimize.rosen_der, method=scipy_method("adam", lr=0.05),
        options={"maxiter": 50},
    )  # fmt: skip
    ours = minimize(
        lambda x: (optimize.rosen(x), optimize.rosen_der(x)), x0, lr=0.05, max_iter=50
    )
    np.testing.assert_array_equal(found.x, ours.x)
    assert found.fun == ours.fun
    assert (found.nit, found.nfev, found.success) == (50, 51, True)
    np.testing.assert_array_equal(found.jac, optimize.rosen_der(found.x))
    np.testing.assert_array_equal(x0, [-1.2, 1.0])
    both = optimize.minimize(
        lambda x, scale: (scale * optimize.rosen(x), scale * optimize.rosen_der(x)), x0,
        args=(1.0,), jac=True, method=scipy_method("Adam", lr=0.05), options={"maxiter": 50},
    )  # fmt: skip
    np.testing.assert_array_equal(both.x, found.x)


def test_scipy_tol_and_callbacks():
    optimize = pytest.importorskip("scipy.optimize")
    method = scipy_method("sgd", lr=0.1)
    found = optimize.minimize(bowl, [0, 0], jac=True, method=method, tol=1e-8)
    assert found.success
    assert abs(found.jac).max() <= 1e-8
    assert not optimize.minimize(
        bowl, [0, 0], jac=True, method=method, tol=1e-8, options={"maxiter": 3}
    ).success
    seen = []

    def by_position(xk):
        seen.append(xk)
        if len(seen) == 2:
            raise StopIteration

    found = optimize.minimize(bowl, [0, 0], jac=True, method=method, callback=by_position)
    assert found.nit == 2
    assert "callback" in found.message
    np.testing.assert_array_equal(seen[1], found.x)
    values = []
    optimize.minimize(
        bowl, [0, 0], jac=True, method=method, options={"maxiter": 2},
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
    )  # fmt: skip
    assert values[0] == 18


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"jac": None}, "jac: expected"),
        ({"bounds": [(0, 1), (0, 1)]}, "bounds: expected none"),
        ({"options": {"maxiter": 0}}, "maxiter: expected"),
    ],
)
def test_scipy_refusals(change, match):
    optimize = pytest.importorskip("scipy.optimize")
    given = {"jac": True, "method": scipy_method("sgd", lr=0.1)} | change
    with pytest.raises(ValueError, match=match):
        optimize.minimize(bowl if given["jac"] else lambda x: bowl(x)[0], [0, 0], **given)
    with pytest.raises(TypeError, match="lr: expected"):
        scipy_method("sgd")
