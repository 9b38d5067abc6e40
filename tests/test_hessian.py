"""Products with the Hessian, by formula and by differences, against differences of gradients."""

import numpy as np
import pytest

import fastnn
from fastnn import losses
from fastnn.analysis import hessian_vector_product
from fastnn.analysis.backward import Pass
from fastnn.layers import activation

RNG = np.random.default_rng(0)
X, FEW = RNG.normal(size=(6, 3)), RNG.integers(0, 7, (6, 2))
LABELS, TARGET = RNG.integers(0, 2, 6), RNG.normal(size=(6, 2))


class Cube(fastnn.Layer):
    """A layer in Python."""

    def forward(self, x, training=False):
        self.x = x.copy()
        return x**3

    def backward(self, dy, accumulate=False):
        return 3 * self.x**2 * dy


def mlp(*more):
    return [fastnn.Linear(3, 4), *more, fastnn.Linear(4, 2)]


LAYERS = {
    **{
        repr(layer): lambda layer=layer: mlp(layer)
        for layer in (
            fastnn.ReLU(), fastnn.LeakyReLU(0.2), fastnn.ELU(0.7), fastnn.Sigmoid(), fastnn.Tanh(),
            fastnn.SiLU(), fastnn.SELU(), fastnn.Mish(), fastnn.Softplus(1.5),
            fastnn.GELU(), fastnn.GELU("tanh"), fastnn.Softmax(), fastnn.LogSoftmax(),
            fastnn.LayerNorm(4), fastnn.LayerNorm(4, elementwise_affine=False),
            fastnn.Scale(4), fastnn.BatchNorm1d(4), fastnn.BatchNorm1d(4, affine=False),
        )
    },
    "containers": lambda: [
        fastnn.Residual(fastnn.Linear(3, 3), fastnn.Tanh()), fastnn.Dropout(0.5),
        fastnn.Concat(fastnn.Linear(3, 2), fastnn.Sequential(fastnn.Linear(3, 2), fastnn.SiLU())),
        fastnn.Linear(4, 2, bias=False),
    ],
    "embedding": lambda: [
        fastnn.Embedding(7, 3), fastnn.BatchNorm1d(2), fastnn.Linear(3, 2), fastnn.Tanh(),
        fastnn.Flatten(), fastnn.Linear(4, 2),
    ],
}  # fmt: skip
WITHOUT_FORMULA = {
    "python": lambda: mlp(Cube()),
    "lstm": lambda: [
        fastnn.Embedding(7, 3), fastnn.LSTM(3, 4, 2, dropout=0.5, return_sequences=False),
        fastnn.Linear(4, 2),
    ],
}  # fmt: skip
LOSSES = {
    "mse": ("mse", TARGET),
    "huber": (losses.resolve("huber"), 3 * TARGET),
    "l1": ("l1", TARGET),
    "binary": ("binary_cross_entropy_with_logits", RNG.uniform(size=(6, 2))),
    "quantile": (losses.quantile(quantiles=[0.2, 0.7]), TARGET[:, :1]),
    "poisson": ("poisson_nll", RNG.integers(0, 4, (6, 2))),
    "labels": ("cross_entropy", LABELS),
    "probabilities": ("cross_entropy", RNG.dirichlet([1, 2], 6)),
}


def gradient(model, loss, x, y):
    loss = losses.resolve(loss)
    run = Pass(model, x.shape[1:], gradients=True)
    run.backward(loss(run.forward(x), y)[1])
    return np.concatenate([p.grad_array.ravel() for p in model.parameters()])


def by_differences(model, loss, x, y, v, epsilon=1e-5):
    theta, ends = model.get_flat(), []
    for sign in (1, -1):
        model.set_flat(theta + sign * epsilon * v)
        ends.append(gradient(model, loss, x, y))
    model.set_flat(theta)
    return (ends[0] - ends[1]) / (2 * epsilon)


def everything(model):
    return [
        [(p.array.tobytes(), p.grad_array.tobytes(), p._ready) for p in model.parameters()],
        {name: value.tobytes() for name, value in model.state_dict().items()},
    ]


def test_every_activation_has_formulas():
    """The table above names each, so that a new one is not forgotten."""
    tested = {name.partition("(")[0] for name in LAYERS}
    assert tested >= set(activation.__all__)


def check(layers, loss, y, exact, rtol=1e-6, x=None):
    model = fastnn.Sequential(*layers, dtype="float64", rng=1)
    x = (FEW if isinstance(layers[0], fastnn.Embedding) else X) if x is None else x
    model.forward(x, training=True)  # running statistics
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.1 * RNG.normal(size=parameter.shape)
    v = RNG.normal(size=model.get_flat().size)
    before = everything(model)
    found = hessian_vector_product(model, loss, x, y, v)
    assert everything(model) == before
    assert found.exact is exact
    assert found.dtype == np.float64
    expected = by_differences(model, loss, x, y, v)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * abs(expected).max())
    return model, x, v, found


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_layers_have_formulas(name, loss):
    y = TARGET if loss == "mse" else LABELS
    model, x, v, found = check(LAYERS[name](), loss, y, exact=True)
    other = RNG.normal(size=v.size)  # symmetric
    left = other @ found
    assert v @ hessian_vector_product(model, loss, x, y, other) == pytest.approx(left, rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_formulas(name):
    loss, y = LOSSES[name]
    check(mlp(fastnn.Tanh()), loss, y, exact=True)


OPTIONS = [
    {"label_smoothing": 0.2}, {"class_weight": [1.0, 3.0]}, {"ignore_index": 1},
    {"class_weight": [1.0, 3.0], "label_smoothing": 0.2}, {"reduction": "sum"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_the_loss(options):
    from functools import partial

    check(mlp(fastnn.Tanh()), partial(losses.cross_entropy, **options), LABELS, exact=True)


@pytest.mark.parametrize("name", WITHOUT_FORMULA)
def test_others_by_differences(name):
    check(WITHOUT_FORMULA[name](), "mse", TARGET, exact=False)


def test_a_loss_without_a_formula():
    check(mlp(fastnn.Tanh()), "gaussian_nll", TARGET[:, :1], exact=False)


def test_a_loss_in_python():
    def loss(pred, target):
        return float(((pred - target) ** 4).sum()), 4 * (pred - target) ** 3

    check(mlp(fastnn.Tanh()), loss, TARGET, exact=False)


def test_float32_is_computed_in_float64():
    layers = mlp(fastnn.Tanh())
    model = fastnn.Sequential(*layers, rng=1)
    twin = fastnn.Sequential(*mlp(fastnn.Tanh()), dtype="float64")
    twin.load_state_dict(model.state_dict())
    x, v = X.astype(np.float32), RNG.normal(size=26)
    np.testing.assert_array_equal(
        hessian_vector_product(model, "mse", x, TARGET, v),
        hessian_vector_product(twin, "mse", x, TARGET, v),
    )


def test_frozen_parameters_count():
    model = fastnn.Sequential(*mlp(fastnn.Tanh()), dtype="float64", rng=1)
    v = RNG.normal(size=26)
    before = hessian_vector_product(model, "mse", X, TARGET, v)
    model.freeze()
    np.testing.assert_array_equal(hessian_vector_product(model, "mse", X, TARGET, v), before)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model: expected"),
        ({"loss": "nonsense"}, ValueError, "nonsense"),
        ({"x": X[0]}, ValueError, "x: expected"),
        ({"x": X[:, :2]}, ValueError, None),
        ({"y": LABELS[1:]}, ValueError, "labels: expected"),
        ({"v": np.ones(25)}, ValueError, r"v: expected shape \(26,\)"),
        ({"v": "v"}, TypeError, "v: expected"),
    ],
)
def test_bad_input(change, error, match):
    model = fastnn.Sequential(*mlp(fastnn.Tanh()), dtype="float64", rng=1)
    given = {"model": model, "loss": "cross_entropy", "x": X, "y": LABELS, "v": np.ones(26)}
    with pytest.raises(error, match=match):
        hessian_vector_product(**(given | change))
