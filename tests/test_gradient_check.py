"""The check of gradients: right for what is built in, and it names what is wrong."""

import numpy as np
import pytest

import fastnn
from fastnn.analysis import gradient_check

RNG = np.random.default_rng(0)
X, TOKENS = RNG.normal(size=(6, 3)), RNG.integers(0, 7, (6, 2))
LABELS = RNG.integers(0, 2, 6)


class Square(fastnn.Layer):
    """x² times a parameter, with errors to choose."""

    def __init__(self, dx=2.0, dgain=1.0):
        super().__init__()
        self.dx, self.dgain = dx, dgain
        self.gain = self.parameter("gain", (4,), lambda shape, rng, dtype: np.full(shape, 1.5))

    def forward(self, x, training=False):
        self.x = x.copy()
        return self.gain.data * x * x

    def backward(self, dy, accumulate=False):
        self.gain.grad[...] = self.dgain * (dy * self.x**2).sum(0)
        return self.dx * self.gain.data * self.x * dy


def mlp(*more, dtype="float64"):
    return fastnn.Sequential(fastnn.Linear(3, 4), *more, fastnn.Linear(4, 2), dtype=dtype, rng=1)


def everything(model):
    return [
        [(p.array.tobytes(), p.grad_array.tobytes(), p._ready) for p in model.parameters()],
        {name: value.tobytes() for name, value in model.state_dict().items()},
    ]


MODELS = {
    "relu": lambda: mlp(fastnn.ReLU()),
    "python": lambda: mlp(Square()),
    "normalized": lambda: mlp(fastnn.LayerNorm(4), fastnn.Dropout(0.5), fastnn.BatchNorm1d(4)),
    "frozen": lambda: mlp(fastnn.Tanh()),
    "lstm": lambda: fastnn.Sequential(
        fastnn.Embedding(7, 3), fastnn.LSTM(3, 4, return_sequences=False), fastnn.Linear(4, 2),
        dtype="float64", rng=0,
    ),
    "float32": lambda: mlp(fastnn.SiLU(), dtype="float32"),
    "float32 relu": lambda: mlp(fastnn.ReLU(), dtype="float32"),
    "one layer": lambda: fastnn.Linear(3, 2, dtype="float64", rng=0),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_is_right(name):
    model = MODELS[name]()
    if name == "frozen":
        model[0].freeze()
    x = TOKENS if name == "lstm" else X
    before = everything(model)
    report = gradient_check(model, "cross_entropy", x, LABELS)
    assert everything(model) == before
    assert report.ok, str(report)
    assert list(report.parameters) == [p.name for p in model.parameters()]
    assert max(report.parameters.values()) <= report.tolerance
    assert all("wrong" not in line for line in str(report).splitlines())


def test_a_wrong_input_gradient_is_found_in_its_layer():
    report = gradient_check(mlp(Square(dx=2.01)), "cross_entropy", X, LABELS)
    assert not report.ok
    assert report.layers["1"] == pytest.approx(0.01 / 4.01, rel=1e-3)
    assert report.layers["2"] <= report.tolerance
    assert report.parameters["1.gain"] <= report.tolerance
    assert report.parameters["0.weight"] > report.tolerance  # all that lies below
    assert report.layers["0"] <= report.tolerance  # but the layer itself is right
    lines = str(report).splitlines()
    assert [line.split()[1] for line in lines if line.endswith("wrong")] == [
        "0.weight", "0.bias", "1",
    ]  # fmt: skip


def test_a_wrong_parameter_gradient_is_found():
    report = gradient_check(mlp(Square(dgain=-1.0)), "cross_entropy", X, LABELS)
    assert not report.ok
    assert report.parameters.pop("1.gain") == pytest.approx(1)
    assert max(report.parameters.values()) <= report.tolerance
    assert report.layers["1"] == pytest.approx(1)


def test_a_wrong_loss_is_found():
    def loss(pred, target):
        return float(((pred - target) ** 2).sum()), pred - target  # a factor of 2 is missing

    report = gradient_check(mlp(fastnn.Tanh()), loss, X, np.zeros((6, 2)))
    assert not report.ok
    assert report.loss == pytest.approx(1 / 3, rel=1e-3)
    assert max(report.layers.values()) <= report.tolerance


def test_gross_errors_are_found_in_float32():
    report = gradient_check(mlp(Square(dx=3.0), dtype="float32"), "cross_entropy", X, LABELS)
    assert not report.ok
    assert report.layers["1"] > 0.1


def test_nan_is_an_error():
    report = gradient_check(mlp(Square(dx=np.nan)), "cross_entropy", X, LABELS)
    assert not report.ok
    assert report.layers["1"] == np.inf


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": "mlp"}, TypeError, "model: expected"),
        ({"x": X[0]}, ValueError, "x: expected"),
        ({"x": X[:0], "y": LABELS[:0]}, ValueError, "x: expected"),
        ({"y": LABELS[1:]}, ValueError, "labels: expected"),
    ],
)
def test_bad_input(change, error, match):
    given = {"model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS} | change
    with pytest.raises(error, match=match):
        gradient_check(**given)
