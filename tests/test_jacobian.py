"""Derivatives of predictions against central differences and PyTorch; the model is unchanged."""

import numpy as np
import pytest

import fastnn
from fastnn.analysis import input_gradient, jacobian
from fastnn.analysis.backward import RowJacobian

RNG = np.random.default_rng(0)


class Cube(fastnn.Layer):
    """A layer in Python with a parameter."""

    def __init__(self):
        super().__init__()
        self.gain = self.parameter("gain", (4,), lambda shape, rng, dtype: rng.normal(size=shape))

    def forward(self, x, training=False):
        self.x = x.copy()
        return self.gain.data * x**3

    def backward(self, dy, accumulate=False):
        self.gain.grad[...] = (dy * self.x**3).sum(0)
        return 3 * self.gain.data * self.x**2 * dy


def tied():
    one, two = fastnn.Linear(3, 3), fastnn.Linear(3, 3)
    two.weight = one.weight
    return [one, fastnn.Tanh(), two]


FEATURES = {
    "mlp": lambda: [fastnn.Linear(3, 4), fastnn.Tanh(), fastnn.Linear(4, 2)],
    "normalized": lambda: [
        fastnn.Linear(3, 4), fastnn.LayerNorm(4), fastnn.GELU(), fastnn.BatchNorm1d(4),
        fastnn.Dropout(0.5), fastnn.Linear(4, 2, bias=False), fastnn.LogSoftmax(),
    ],
    "containers": lambda: [
        fastnn.Residual(fastnn.Linear(3, 3), fastnn.SiLU()),
        fastnn.Concat(
            fastnn.Linear(3, 2), fastnn.Sequential(fastnn.Linear(3, 2), fastnn.Sigmoid())
        ),
        fastnn.BatchNorm1d(4, affine=False),
    ],
    "python": lambda: [fastnn.Linear(3, 4), Cube(), fastnn.Linear(4, 2)],
    "scaled": lambda: [fastnn.Scale(3), fastnn.Linear(3, 4), fastnn.Scale(4)],
    "tied": tied,
}  # fmt: skip
SEQUENCES = {
    "lstm": lambda: [fastnn.LSTM(3, 4, 2, True, dropout=0.5, return_sequences=False)],
    "steps": lambda: [fastnn.LSTM(3, 4), fastnn.Scale(4), fastnn.LayerNorm(4), fastnn.Linear(4, 1)],
    "channels": lambda: [fastnn.BatchNorm1d(2), fastnn.Flatten(), fastnn.Linear(6, 2)],
    "embedding": lambda: [fastnn.Embedding(7, 3), fastnn.Linear(3, 2)],
    "sparse": lambda: [fastnn.Embedding(7, 3, sparse=True), fastnn.LSTM(3, 2)],
}
MODELS = FEATURES | SEQUENCES


def case(name, dtype="float64"):
    model = fastnn.Sequential(*MODELS[name](), dtype=dtype, rng=1)
    if name in ("embedding", "sparse"):
        x = RNG.integers(0, 7, (5, 2))
    else:
        x = RNG.normal(size=(5, 2, 3) if name in SEQUENCES else (5, 3))
    if name in ("normalized", "containers", "channels"):
        for _ in range(3):
            model.forward(3 * x + 1, training=True)  # running statistics
    return model, x


def everything(model):
    return [
        [(p.array.tobytes(), p.grad_array.tobytes(), p._ready) for p in model.parameters()],
        {name: value.tobytes() for name, value in model.state_dict().items()},
        [a._random_state.tobytes() for _, a in model._layers() if a._random_state is not None],
    ]


def differences(f, point, epsilon=1e-5):
    """Derivatives of f at the array `point`, which f reads, by central differences."""
    columns, flat = [], point.reshape(-1)
    for i, value in enumerate(flat.copy()):
        flat[i] = value + epsilon
        above = f()
        flat[i] = value - epsilon
        below = f()
        flat[i] = value
        columns.append((above - below) / (2 * epsilon))
    return np.stack(columns, -1)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name):
    model, x = case(name)
    before = everything(model)
    found = jacobian(model, x, wrt="parameters")
    assert everything(model) == before
    theta = model.get_flat()

    def predict():
        model.set_flat(theta)
        return model(x)

    exact = differences(predict, theta)
    assert found.shape == exact.shape == (*model(x).shape, theta.size)
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("embedding", "sparse")])
def test_inputs(name):
    model, x = case(name)
    before = everything(model)
    found = jacobian(model, x)
    n = np.arange(5)
    exact = differences(lambda: model(x), x).reshape(*model(x).shape, *x.shape)
    exact = np.stack([exact[i][..., i, *(slice(None),) * (x.ndim - 1)] for i in n])
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-9)
    dy = RNG.normal(size=model(x).shape)
    expected = np.einsum("na,nab->nb", dy.reshape(5, -1), found.reshape(5, dy[0].size, -1))
    np.testing.assert_allclose(
        input_gradient(model, x, dy), expected.reshape(x.shape), rtol=1e-12, atol=1e-15
    )
    assert everything(model) == before


def test_options_and_values_count_when_they_are_set():
    model, x = case("normalized")
    first = jacobian(model, x)
    model[3].running_var.data = 4 * model[3].running_var.data + 3 * model[3].eps
    np.testing.assert_allclose(jacobian(model, x) * 2, first * 1, rtol=0.5)
    model[0].weight.data = 0 * model[0].weight.data
    np.testing.assert_array_equal(jacobian(model, x), 0)
    model.layers = model.layers[:1]
    np.testing.assert_array_equal(jacobian(model, x), np.zeros((5, 4, 3)))


def test_a_waiting_backward_pass_is_not_disturbed():
    model, x = case("mlp")
    model.forward(x, training=True)
    dx = model.backward(np.ones((5, 2)))
    gradient = model.get_flat_grad()
    model.forward(x, training=True)
    jacobian(model, 2 * x)
    jacobian(model, 2 * x, wrt="parameters")
    np.testing.assert_array_equal(model.backward(np.ones((5, 2))), dx)
    np.testing.assert_array_equal(model.get_flat_grad(), gradient)


def test_many_rows_one_row_and_none(dtype):
    model = fastnn.Sequential(fastnn.Linear(3, 4), fastnn.Tanh(), fastnn.Linear(4, 2), dtype=dtype)
    x = RNG.normal(size=(3000, 3)).astype(dtype)
    for wrt in ("input", "parameters"):
        all_at_once = jacobian(model, x, wrt=wrt)
        assert all_at_once.dtype == dtype
        np.testing.assert_array_equal(jacobian(model, x[2999], wrt=wrt), all_at_once[2999])
        assert jacobian(model, x[:0], wrt=wrt).shape == (0, *all_at_once.shape[1:])
    assert input_gradient(model, x[0], np.ones(2)).shape == (3,)


def test_statistics_of_the_batch():
    """As in training every prediction depends on every row."""
    model, x = case("containers")
    model.layers = [*model.layers, fastnn.BatchNorm1d(4), fastnn.Linear(4, 1)]
    y, found = RowJacobian(model, (3,), predicting=False)(x)
    theta = model.get_flat()

    def predict():
        model.set_flat(theta)
        return model.forward(x, training=True)

    np.testing.assert_allclose(y, predict())
    np.testing.assert_allclose(found, differences(predict, theta), rtol=1e-6, atol=1e-8)


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    model = fastnn.Sequential(
        fastnn.Linear(10, 64), fastnn.Tanh(), fastnn.Linear(64, 64), fastnn.Tanh(),
        fastnn.Linear(64, 3), dtype="float64", rng=0,
    )  # fmt: skip
    other = torch.nn.Sequential(
        torch.nn.Linear(10, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
        torch.nn.Linear(64, 3),
    ).double()  # fmt: skip
    other.load_state_dict({name: torch.tensor(v) for name, v in model.state_dict().items()})
    x = RNG.normal(size=(1, 10))
    exact = torch.autograd.functional.jacobian(other, torch.tensor(x[0])).numpy()
    np.testing.assert_allclose(jacobian(model, x)[0], exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m, x: jacobian("model", x), TypeError, "model: expected"),
        (lambda m, x: jacobian(m, x, wrt="weights"), ValueError, "wrt: expected"),
        (lambda m, x: jacobian(m, x[:, :2]), ValueError, "expected 3 features"),
        (lambda m, x: jacobian(m, "x"), TypeError, "x: expected"),
        (lambda m, x: jacobian(m, 1.0), ValueError, "at least one axis"),
        (lambda m, x: input_gradient(m, x, np.ones((5, 3))), ValueError, r"dy: expected .*5, 2"),
        (lambda m, x: input_gradient(m, x[0], np.ones(3)), ValueError, r"dy: expected .*\(2,\)"),
        (lambda m, x: input_gradient(m, x, "dy"), TypeError, "dy: expected"),
        (lambda m, x: jacobian(case("embedding")[0], [[1]]), TypeError, "integers"),
        (lambda m, x: input_gradient(case("embedding")[0], [[1]], 0), TypeError, "integers"),
    ],
)
def test_bad_input(call, error, match):
    model, x = case("mlp")
    before = everything(model)
    with pytest.raises(error, match=match):
        call(model, x)
    assert everything(model) == before
