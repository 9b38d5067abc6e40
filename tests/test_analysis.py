"""The dominant eigenvalue against exact Hessians; the model stays as it was; bad input."""

import numpy as np
import pytest

import fastnn
from fastnn import losses
from fastnn.analysis import dominant_eigenvalue, suggest_lr
from fastnn.layers.model import arenas

from .conftest import differences

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 1))
LABELS = RNG.integers(0, 2, 40)


def mlp(dtype="float64", *more):
    return fastnn.Sequential(
        fastnn.Linear(3, 4), fastnn.Tanh(), *more, fastnn.Linear(4, 2), dtype=dtype, rng=1
    )


def hessian(model, loss, x, y, step=1e-5):
    """Differences of gradients, parameter by parameter."""
    trainer, ((data, grad),) = fastnn.Trainer(model, loss, None), arenas(model.parameters())

    def gradient():
        trainer.step(x, y)
        return grad

    matrix = differences(gradient, data, step=step)
    return (matrix + matrix.T) / 2


def everything(model):
    return [
        [(p.array.tobytes(), p.grad_array.tobytes()) for p in model.parameters()],
        [p.grad_ready for p in model.parameters()],
        {name: value.tobytes() for name, value in model.state_dict().items()},
        [a._random_state.tobytes() for _, a in model._layers() if a._random_state is not None],
    ]  # fmt: skip


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-6), ("float32", 1e-3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_linear_regression(dtype, rtol, scale):
    model = fastnn.Linear(3, 1, bias=False, dtype=dtype, rng=0)
    x = scale * X
    exact = np.linalg.eigvalsh(2 * x.T @ x / len(x))[-1]
    found = dominant_eigenvalue(model, "mse", x, Y, iterations=1000, tol=max(rtol / 10, 1e-7))
    assert found == pytest.approx(exact, rel=rtol)
    rate = suggest_lr(model, "mse", x, Y, iterations=1000, rng=0)
    assert rate == pytest.approx(1 / exact, rel=2e-3)


@pytest.mark.parametrize(
    ("dtype", "tol", "rtol"), [("float64", 1e-6, 1e-5), ("float32", 1e-3, 5e-3)]
)
def test_mlp(dtype, tol, rtol):
    eigenvalues = np.linalg.eigvalsh(hessian(mlp(), "cross_entropy", X, LABELS))
    exact = max(eigenvalues, key=abs)
    found = dominant_eigenvalue(
        mlp(dtype), "cross_entropy", X, LABELS, iterations=500, tol=tol, rng=0
    )
    assert found == pytest.approx(exact, rel=rtol)


def curve(sign):
    """A loss whose Hessian is diagonal for a linear model: x[:, 0] falls, x[:, 1] rises."""

    def loss(pred, target):
        gradient = sign * np.asarray(target) * pred
        return float((gradient * pred).sum() / 2), gradient

    return loss


def test_negative_curvature():
    model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    x, target = np.eye(2), np.array([[-5.0], [2.0]])
    found = dominant_eigenvalue(model, curve(1), x, target, iterations=200, rng=0)
    assert found == pytest.approx(-5, rel=1e-3)
    for sign, rate in (1, 1 / 2), (-1, 1 / 5):
        suggested = suggest_lr(model, curve(sign), x, target, iterations=200, rng=0)
        assert suggested == pytest.approx(rate, rel=1e-2)
    with pytest.raises(ValueError, match="curves upwards"):
        suggest_lr(model, curve(0), x, target, rng=0)
    with pytest.raises(ValueError, match="curves upwards"):
        suggest_lr(model, curve(-1), x, abs(target), iterations=500, tol=1e-6, rng=0)
    assert dominant_eigenvalue(model, curve(0), x, target, rng=0) == 0


def test_iterations_that_run_out_are_told():
    """The warning has the residual that is left, and points at the caller; an estimate comes."""
    model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    x, target = np.eye(2), np.array([[4.0], [5.0]])
    before = everything(model)
    for iterations, tol in (1, 1e-3), (5, 1e-3), (100, 1e-12):
        options = {"iterations": iterations, "tol": tol, "rng": 0, "epsilon": 1e-3}
        with pytest.warns(RuntimeWarning, match="has not converged") as told:
            found = dominant_eigenvalue(model, curve(1), x, target, **options)
        assert 4 <= found <= 5 + 1e-9
        assert told[0].filename == __file__
        words = str(told[0].message)
        assert f"after {iterations} products" in words
        assert f"{found:.4g}" in words
        left = float(words.split("residual of ")[1].split()[0])
        # ‖Hv - λv‖ of a unit vector v with the Rayleigh quotient λ, where H has eigenvalues 4 and 5
        exact = np.sqrt(max((found - 4) * (5 - found), 0)) / found
        assert left == pytest.approx(exact, rel=0.05, abs=1e-9)
        assert left > tol
        with pytest.warns(RuntimeWarning, match="has not converged") as told:
            rate = suggest_lr(model, curve(1), x, target, **options)
        assert rate == 1 / found
        assert told[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="has not converged"):  # opposite signs: never does
        dominant_eigenvalue(model, curve(1), x, np.array([[-5.0], [5.0]]), iterations=99, rng=0)
    with pytest.raises(RuntimeWarning):  # an error here
        dominant_eigenvalue(model, curve(1), x, target, iterations=1, rng=0)
    assert everything(model) == before
    assert dominant_eigenvalue(model, curve(1), x, target, rng=0) == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("custom", [False, True])
def test_model_is_unchanged(dtype, custom):
    model = mlp(dtype, fastnn.BatchNorm1d(4), fastnn.Dropout(0.3))
    loss = (lambda pred, y: losses.cross_entropy(pred, y)) if custom else "cross_entropy"
    fastnn.Trainer(model, loss, None).step(X, LABELS)
    before = everything(model)
    found = [dominant_eigenvalue(model, loss, X, LABELS, rng=5) for _ in range(2)]
    assert found[0] == found[1]  # also the masks of dropout are the same again
    assert suggest_lr(model, loss, X, LABELS, rng=5) > 0
    assert everything(model) == before


def test_gradients_stay_not_ready():
    model = mlp()
    before = everything(model)
    dominant_eigenvalue(model, "cross_entropy", X, LABELS, rng=0)
    assert everything(model) == before
    assert not any(p.grad_ready for p in model.parameters())


def test_layers_can_be_trained_by_hand_afterwards():
    """The next backward pass makes the gradients ready again."""
    for make in (lambda: fastnn.Linear(3, 2, rng=0), lambda: fastnn.LSTM(3, 2, rng=0)):
        layer, rng = make(), np.random.default_rng(0)
        shape = (4, 5) if isinstance(layer, fastnn.LSTM) else (4,)
        x, y = rng.normal(size=(*shape, 3)), rng.normal(size=(*shape, 2))
        dominant_eigenvalue(layer, "mse", x, y, rng=0, tol=0.5)
        layer.forward(x, training=True)
        layer.backward(y)
        fastnn.optim.SGD(layer.parameters(), lr=0.1).step()



def test_part_of_a_model():
    model = mlp()
    before = everything(model)
    part = model[0]
    exact = np.linalg.eigvalsh(2 * np.c_[X, np.ones(40)].T @ np.c_[X, np.ones(40)] / 40 / 4)[-1]
    found = dominant_eigenvalue(part, "mse", X, np.zeros((40, 4)), iterations=500, rng=0)
    assert found == pytest.approx(exact, rel=1e-3)
    assert everything(model) == before


def test_restored_after_an_error():
    model, calls = mlp(), []

    def loss(pred, y):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return losses.cross_entropy(pred, y)

    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        dominant_eigenvalue(model, loss, X, LABELS, rng=0)
    assert everything(model) == before
    with pytest.raises(RuntimeError):
        model.backward(np.zeros((40, 2)))
    with pytest.raises(ValueError, match="finite gradients"):
        dominant_eigenvalue(model, "cross_entropy", X * np.nan, LABELS)
    assert everything(model) == before


@pytest.mark.parametrize("function", [dominant_eigenvalue, suggest_lr])
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model"),
        ({"model": fastnn.Tanh()}, ValueError, "at least one parameter"),
        ({"loss": "nonsense"}, ValueError, "nonsense"),
        ({"x": X[:, :2]}, ValueError, None),
        ({"x": X[:0], "y": LABELS[:0]}, ValueError, "at least one sample"),
        ({"y": LABELS[:-1]}, ValueError, None),
        ({"y": LABELS + 7}, ValueError, None),
        ({"iterations": 0}, ValueError, "iterations"),
        ({"iterations": 2.5}, TypeError, "iterations"),
        ({"tol": 0}, ValueError, "tol"),
        ({"tol": None}, TypeError, "tol"),
        ({"tol": float("nan")}, ValueError, "tol"),
        ({"epsilon": -1e-3}, ValueError, "epsilon"),
        ({"epsilon": 0.0}, ValueError, "epsilon"),
        ({"epsilon": "small"}, TypeError, "epsilon"),
        ({"rng": -1}, ValueError, "rng"),
        ({"rng": "seed"}, TypeError, "rng"),
    ],
)
def test_bad_input(function, change, error, match):
    model = mlp()
    before = everything(model)
    given = {"model": model, "loss": "cross_entropy", "x": X, "y": LABELS} | change
    with pytest.raises(error, match=match):
        function(given.pop("model"), given.pop("loss"), given.pop("x"), given.pop("y"), **given)
    assert everything(model) == before
