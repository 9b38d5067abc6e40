"""Layers and containers: values, gradients, state and errors."""

import copy
import itertools
import pickle
import threading

import numpy as np
import pytest

import fastnn
from fastnn import layers, reference

from .conftest import differences
from .layer_table import LAYERS as BUILT_IN

RNG = np.random.default_rng(0)


def stack(**options):
    """Every kind of container, shared batch shapes, in-place and fused operations."""
    return fastnn.Sequential(
        fastnn.Linear(5, 7),
        fastnn.Tanh(),
        fastnn.Residual(fastnn.Linear(7, 7), fastnn.GELU(), fastnn.Residual(fastnn.SiLU())),
        fastnn.Concat(
            fastnn.Linear(7, 3),
            fastnn.Sequential(fastnn.Linear(7, 4, bias=False), fastnn.LeakyReLU(0.2)),
            fastnn.Residual(),
        ),
        fastnn.Softmax(),
        fastnn.GELU("tanh"),
        fastnn.Linear(14, 2),
        fastnn.Sigmoid(),
        fastnn.LogSoftmax(),
        **options,
    )


LAYERS = {
    repr(make()): (lambda make=make, **o: fastnn.Sequential(make(), **o), (3, 6))
    for make, _ in BUILT_IN
    if type(make()).__name__ in layers.activation.__all__
}
LAYERS |= {
    "linear": (lambda **o: fastnn.Linear(6, 4, **o), (3, 6)),
    "linear without bias": (lambda **o: fastnn.Linear(6, 4, bias=False, **o), (3, 6)),
    "linear on a sequence": (lambda **o: fastnn.Linear(6, 4, **o), (3, 2, 5, 6)),
    "scale": (lambda **o: fastnn.Scale(6, **o), (3, 6)),
    "scale on a sequence": (lambda **o: fastnn.Scale(6, **o), (3, 2, 6)),
    "softmax on a sequence": (lambda **o: fastnn.Softmax(**o), (3, 2, 6)),
    "flatten": (lambda **o: fastnn.Flatten(**o), (3, 2, 6)),
    "flatten and linear": (
        lambda **o: fastnn.Sequential(fastnn.Flatten(), fastnn.Linear(12, 3), **o),
        (3, 2, 6),
    ),
    "empty": (lambda **o: fastnn.Sequential(**o), (3, 6)),
    "empty residual": (lambda **o: fastnn.Residual(**o), (3, 6)),
    "stack": (stack, (4, 5)),
    "stack on a sequence": (stack, (2, 3, 5)),
}


def away_from_kinks(shape):
    x = RNG.normal(size=shape)
    return np.sign(x) * (np.abs(x) + 0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_agree_with_central_differences(name):
    make, shape = LAYERS[name]
    layer = make(dtype="float64", rng=1)
    x = away_from_kinks(shape)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, layer(x))
    dy = RNG.normal(size=y.shape)
    dx = layer.backward(dy)

    def numeric(array):
        return differences(lambda: np.vdot(layer(x), dy), array)

    np.testing.assert_allclose(dx, numeric(x), rtol=1e-6, atol=1e-8)
    for parameter in layer.parameters():
        np.testing.assert_allclose(
            parameter.grad, numeric(parameter.data), rtol=1e-6, atol=1e-8, err_msg=parameter.name
        )


@pytest.mark.parametrize("batch", [0, 1, 3, 17, 64])
def test_a_network_is_what_its_twin_computes(dtype, batch):
    model = fastnn.Sequential(
        fastnn.Linear(9, 33), fastnn.ReLU(), fastnn.Linear(33, 5), dtype=dtype, rng=0
    )
    w0, b0, w1, b1 = (p.data for p in model.parameters())
    x, dy = (RNG.normal(size=(batch, n)).astype(dtype) for n in (9, 5))
    y = model.forward(x, training=True)
    hidden = reference.relu_forward(reference.linear_forward(x, w0, b0))
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11}
    np.testing.assert_allclose(y, reference.linear_forward(hidden, w1, b1), **tolerance)
    dx = model.backward(dy)
    dhidden = reference.relu_backward(reference.linear_backward_input(dy, w1), hidden)
    np.testing.assert_allclose(dx, reference.linear_backward_input(dhidden, w0), **tolerance)
    for index, (gradient, given) in enumerate([(dhidden, x), (dy, hidden)]):
        dweight, dbias = reference.linear_backward_weight(gradient, given)
        np.testing.assert_allclose(model.parameters()[2 * index].grad, dweight, **tolerance)
        np.testing.assert_allclose(model.parameters()[2 * index + 1].grad, dbias, **tolerance)


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    twin = nn.Sequential(
        nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8, bias=False), nn.SiLU(), nn.Linear(8, 3),
        nn.LogSoftmax(-1),
    ).double()  # fmt: skip
    model = fastnn.Sequential(
        fastnn.Linear(6, 8), fastnn.GELU(), fastnn.Linear(8, 8, bias=False), fastnn.SiLU(),
        fastnn.Linear(8, 3), fastnn.LogSoftmax(), dtype="float64",
    )  # fmt: skip
    model.load_state_dict(twin.state_dict())
    x, dy = RNG.normal(size=(7, 6)), RNG.normal(size=(7, 3))
    given = torch.tensor(x, requires_grad=True)
    expected = twin(given)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(model.forward(x, training=True), expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(model.backward(dy), given.grad, rtol=1e-10, atol=1e-14)
    for own, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(own.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_threads_do_not_change_a_bit(threads):
    model = fastnn.Sequential(
        fastnn.Linear(64, 256), fastnn.Tanh(), fastnn.Linear(256, 64), rng=0
    )
    x = RNG.normal(size=(513, 64)).astype(np.float32)
    results = []
    for count in (1, 2):
        threads(count)
        y = model.forward(x, training=True)
        results.append([y, model.backward(y), *(p.grad.copy() for p in model.parameters())])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_sample_has_the_same_result_in_any_batch():
    model = stack(rng=0)
    x = RNG.normal(size=(50, 5)).astype(np.float32)
    together = model(x)
    for rows in (1, 7, 50, 200):  # larger than any before, then smaller again
        np.testing.assert_array_equal(model(np.resize(x, (rows, 5)))[0], together[0])


def test_dropout():
    layer = fastnn.Dropout(0.25, rng=3)
    x = np.ones((400, 50), np.float32)
    np.testing.assert_array_equal(layer(x), x)
    first = layer.forward(x, training=True)
    np.testing.assert_array_equal(layer.backward(x), first)
    second = layer.forward(x, training=True)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.01
    assert 0.3 < (first != second).mean() < 0.45
    np.testing.assert_array_equal(fastnn.Dropout(0.25, rng=3).forward(x, training=True), first)


def test_two_dropouts_of_a_model_differ():
    model = fastnn.Concat(fastnn.Dropout(0.5), fastnn.Dropout(0.5), rng=0)
    y = model.forward(np.ones((64, 32), np.float32), training=True)
    assert (y[:, :32] != y[:, 32:]).mean() > 0.3


def test_a_layer_used_twice_sums_its_gradients():
    shared = fastnn.Linear(4, 4)
    model = fastnn.Sequential(shared, fastnn.Tanh(), shared, dtype="float64", rng=0)
    assert len(model.parameters()) == 2
    x, dy = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    model.forward(x, training=True)
    model.backward(dy)
    slopes = differences(lambda: np.vdot(model(x), dy), shared.weight.data)
    assert shared.weight.grad == pytest.approx(slopes, rel=1e-6)


def test_accumulate_adds_to_the_gradients():
    model = stack(rng=0)
    x = RNG.normal(size=(6, 5)).astype(np.float32)
    model.forward(x, training=True)
    model.backward(np.ones((6, 2)))
    once = [p.grad.copy() for p in model.parameters()]
    model.forward(x, training=True)
    model.backward(np.ones((6, 2)), accumulate=True)
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-5, atol=1e-7)
    model.forward(x, training=True)
    model.backward(np.ones((6, 2)))
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


class Scale(fastnn.Layer):
    """y = s x, in plain Python."""

    def __init__(self):
        super().__init__()
        self.scale = self.parameter("scale", (1,), fastnn.initializers.ones)

    def forward(self, x, training=False):
        self.x = x.copy()
        return self.scale.data * x

    def backward(self, dy, accumulate=False):
        self.scale.grad[...] = (dy * self.x).sum()
        return self.scale.data * dy


def test_a_layer_in_plain_python():
    model = fastnn.Sequential(fastnn.Linear(3, 4), Scale(), fastnn.Linear(4, 2), rng=0)
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    without = fastnn.Sequential(model[0], model[2])
    model.state_dict()["1.scale"][...] = 3  # a copy: changes nothing
    y = model.forward(x, training=True)
    dx = model.backward(np.ones_like(y))
    assert model.parameters()[2].name == "1.scale"
    assert model[1].scale.grad[0] != 0
    np.testing.assert_allclose(y, without(x), rtol=1e-6)
    assert dx.shape == x.shape


def test_an_error_in_a_python_layer_reaches_the_caller():
    class Broken(fastnn.Layer):
        def forward(self, x, training=False):
            raise ArithmeticError("not today")

    model = fastnn.Sequential(fastnn.Linear(3, 3), Broken(), rng=0)
    with pytest.raises(ArithmeticError, match="not today"):
        model(np.ones((2, 3)))

    class Misshapen(fastnn.Layer):
        def forward(self, x, training=False):
            return x[:, :1]

    with pytest.raises(ValueError, match=r"Misshapen: expected a result of shape \(2, 3\)"):
        Misshapen()(np.ones((2, 3)))


def test_inputs_are_converted_and_never_modified():
    model = stack(rng=0)
    x = RNG.normal(size=(6, 5))
    expected = model(x.astype(np.float32))
    for given in (x, x.tolist(), np.asfortranarray(x), x.astype(">f8"), np.repeat(x, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(model(given), expected)
    x32 = x.astype(np.float32)
    x32.flags.writeable = False
    dy = np.ones((6, 2), np.float32)
    model.forward(x32, training=True)
    model.backward(dy)
    np.testing.assert_array_equal(x32, x.astype(np.float32))
    np.testing.assert_array_equal(dy, 1)
    assert model(np.arange(5)).shape == (2,)


def test_the_input_may_change_between_forward_and_backward():
    model = fastnn.Linear(3, 2, rng=0)
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    model.forward(x, training=True)
    model.backward(np.ones((4, 2)))
    expected = model.weight.grad.copy()
    model.forward(x, training=True)
    x[...] = 0
    model.backward(np.ones((4, 2)))
    np.testing.assert_array_equal(model.weight.grad, expected)


def test_order_of_calls():
    model = fastnn.Linear(3, 2, rng=0)
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones((4, 2)))
    model.forward(np.ones((4, 3)), training=True)
    with pytest.raises(ValueError, match=r"dy: expected shape \(4, 2\), got \(4, 3\)"):
        model.backward(np.ones((4, 3)))
    model.backward(np.ones((4, 2)))
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones((4, 2)))
    model.forward(np.ones((4, 3)))
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones((4, 2)))


def test_backward_from_another_thread_is_refused():
    model, caught = fastnn.Linear(3, 2, rng=0), []

    def elsewhere():
        try:
            model.backward(np.ones((4, 2)))
        except RuntimeError as error:
            caught.append(str(error))

    model.forward(np.ones((4, 3)), training=True)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "another thread" in caught[0]


def test_predictions_from_many_threads():
    model = stack(rng=0)
    inputs = [RNG.normal(size=(n + 1, 5)).astype(np.float32) for n in range(8)]
    expected, found = [model(x) for x in inputs], [None] * 8

    def work(i):
        for _ in range(50):
            found[i] = model(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_dict():
    model, other = stack(rng=0), stack(rng=1)
    state = model.state_dict()
    assert list(state)[:4] == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    other.load_state_dict({**state, "9.num_batches_tracked": np.array(5)})
    np.testing.assert_array_equal(other(x), model(x))
    before = other.state_dict()
    for broken in (
        {k: v for k, v in state.items() if k != "0.bias"},
        {**state, "extra": np.ones(1)},
    ):
        with pytest.raises(KeyError, match=r"0\.bias|extra"):
            other.load_state_dict(broken)
    with pytest.raises(ValueError, match=r"6\.bias: expected shape \(2,\), got \(3,\)"):
        other.load_state_dict({**{k: v + 1 for k, v in state.items()}, "6.bias": np.ones(3)})
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    other.load_state_dict({"0.bias": np.full(7, 9.0), "unknown": 1}, strict=False)
    assert other.parameters()[1].data[0] == 9


def test_parameters_lie_in_one_arena():
    model = stack(rng=0)
    parameters = model.parameters()
    for earlier, later in itertools.pairwise(parameters):
        for which in ("data", "grad"):
            one, two = getattr(earlier, which), getattr(later, which)
            assert one.flags.c_contiguous
            assert one.ctypes.data + one.nbytes == two.ctypes.data


def test_seed_and_dtype():
    one, two = stack(rng=5, dtype="float64"), stack(rng=5, dtype="float32")
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert a.data.dtype == np.float64
        np.testing.assert_allclose(a.data, b.data, rtol=1e-6)
    assert fastnn.Linear(3, 2, dtype="float64", rng=0)(np.ones((1, 3))).dtype == np.float64
    inner = fastnn.Linear(3, 2, rng=0)
    inner(np.ones((1, 3)))
    outer = fastnn.Sequential(inner, dtype="float64")  # its parameters stay where they are
    with pytest.raises(ValueError, match=r"layer 0 \(Linear\): expected float64 arrays.*float32"):
        outer(np.ones((1, 3)))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(clone):
    model = stack(rng=0, dtype="float64")
    x = RNG.normal(size=(3, 5))
    expected = model(x)
    other = clone(model)
    other.parameters()[0].data[...] = 0
    np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_array_equal(clone(model)(x), expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastnn.Linear(0, 3), ValueError, "in_features: expected a positive integer"),
        (lambda: fastnn.Linear(3, 2.5), TypeError, "out_features: expected an integer, got float"),
        (lambda: fastnn.Linear(3, 2, init="nonsense"), ValueError, "init: expected one of"),
        (lambda: fastnn.Linear(3, 2, dtype="int32"), TypeError, "dtype: expected float32 or"),
        (lambda: fastnn.Linear(3, 2, rng="x"), TypeError, "rng: expected an int"),
        (lambda: fastnn.LeakyReLU(-1), ValueError, "negative_slope"),
        (lambda: fastnn.LeakyReLU(np.nan), ValueError, "negative_slope"),
        (lambda: fastnn.GELU("erf"), ValueError, "approximate: expected 'none' or 'tanh'"),
        (lambda: fastnn.Dropout(1.5), ValueError, r"p: expected a number in \[0, 1\]"),
        (lambda: fastnn.Sequential(fastnn.ReLU), TypeError, r"layers\[0\]"),
        (lambda: fastnn.Linear(3, 2)(np.ones((4, 5))), ValueError, "x: expected 3 features"),
        (lambda: fastnn.ReLU()(np.float32(3)), ValueError, "x: expected at least one axis"),
        (lambda: fastnn.ReLU()(["a"]), TypeError, "x: expected real numbers"),
        (lambda: stack()(np.ones((2, 4))), ValueError, r"layer 0 \(Linear\): x: expected 5"),
        (
            lambda: fastnn.Sequential(
                fastnn.Sequential(fastnn.ReLU(), fastnn.Residual(fastnn.Linear(4, 3)))
            )(np.ones((2, 4))),
            ValueError,
            r"layer 0\.1 \(Residual\): layers: expected an output of the input's shape",
        ),
        (
            lambda: fastnn.Concat(fastnn.Flatten(), fastnn.ReLU())(np.ones((2, 3, 4))),
            ValueError,
            "branches: expected outputs that differ in the last axis only",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_reading_a_parameter_builds_the_model_that_it_belongs_to():
    layer = fastnn.LSTM(2, 3, dtype="float64", rng=0)
    layer.bias_ih_l0.data[3:6] = 1
    assert layer.bias_ih_l0.data.dtype == np.float64
    np.testing.assert_array_equal(layer.state_dict()["bias_ih_l0"][3:6], 1)
    np.testing.assert_array_equal(layer.weight_hh_l0.grad, 0)

    def model():
        inner = fastnn.Sequential(fastnn.Linear(4, 3), fastnn.BatchNorm1d(3))
        return fastnn.Sequential(inner, fastnn.Linear(3, 2), dtype="float64", rng=0)

    one, other = model(), model()
    np.testing.assert_array_equal(one[0][0].weight.data, other.state_dict()["0.0.weight"])
    np.testing.assert_array_equal(one[0][1].running_var.data, 1)
    for name, expected in other.state_dict().items():
        np.testing.assert_array_equal(one.state_dict()[name], expected)
    optimizer = fastnn.optim.SGD([model()[1].bias], lr=1.0)
    optimizer.step([np.ones(2)])
    with pytest.raises(AttributeError, match="has no attribute 'value'"):
        _ = one[1].bias.value


def test_copies_of_a_model_that_is_not_built_are_not_built():
    model = fastnn.Sequential(fastnn.Linear(4, 3), fastnn.Linear(3, 2), rng=0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin[0].weight.placed
        np.testing.assert_array_equal(twin[1].weight.data, twin.state_dict()["1.weight"])
        assert twin[0].weight.placed
    assert not model[0].weight.placed


def test_layers_replaced_between_steps_of_a_trainer():
    """Their program is planned anew, though the model that it asks has gone."""
    model = fastnn.Sequential(fastnn.Linear(3, 3), fastnn.Tanh(), rng=0)
    trainer = fastnn.Trainer(model, "mse", None)
    x = np.ones((2, 3), np.float32)
    trainer.step(x, x)
    model.layers = model.layers[:1]
    assert trainer.step(x, x) == fastnn.losses.mse(model(x), x)[0]


def test_a_copy_shares_its_parameters():
    """And layers inside; what is trained through one is seen by the other."""
    model = fastnn.Sequential(
        fastnn.Linear(3, 4), fastnn.BatchNorm1d(4), fastnn.Linear(4, 2), rng=0
    )
    x = RNG.normal(size=(8, 3)).astype(np.float32)
    layer = copy.copy(model[0])
    assert layer is not model[0]
    assert layer.weight is model[0].weight
    np.testing.assert_array_equal(layer(x), model[0](x))
    other = copy.copy(model)
    before = model(x)
    optimizer = fastnn.optim.SGD(other.parameters(), lr=0.5)
    fastnn.Trainer(other, "mse", optimizer).step(x, np.ones((8, 2), np.float32))
    assert not np.array_equal(model(x), before)
    np.testing.assert_array_equal(model(x), other(x))
    np.testing.assert_array_equal(layer(x), model[0](x))


def test_a_parameter_is_an_array_to_numpy():
    layer = fastnn.Linear(3, 2, rng=0)
    np.testing.assert_array_equal(np.asarray(layer.weight), layer.weight.data)
    assert np.asarray(layer.weight, np.float64).dtype == np.float64


def test_one_sample_goes_backward():
    """Without the axis of the batch, as it went forward."""
    layer = fastnn.Linear(3, 2, rng=0)
    layer.forward(np.ones(3, np.float32), training=True)
    dx = layer.backward(np.array([1.0, 2.0], np.float32))
    np.testing.assert_allclose(dx, layer.weight.data.T @ np.array([1.0, 2.0]), rtol=1e-6)


def test_more_shapes_than_plans_are_kept_for():
    layer = fastnn.Softplus()
    first = layer(np.ones((1, 1), np.float32))
    for size in range(2, 70):
        layer(np.ones((1, size), np.float32))
    np.testing.assert_array_equal(layer(np.ones((1, 1), np.float32)), first)
    predictor = fastnn.Sequential(fastnn.Softplus(), rng=0).predictor()
    for size in range(1, 70):
        assert predictor(np.ones((1, size), np.float32)).shape == (1, size)
    np.testing.assert_array_equal(predictor(np.ones((1, 1), np.float32)), first)
