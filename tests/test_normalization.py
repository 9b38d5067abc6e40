"""LayerNorm and BatchNorm1d: values, gradients, far means, running statistics, PyTorch."""

import numpy as np
import pytest

import fastnn
from fastnn import ops

from .conftest import differences

WIDTHS = [1, 2, 7, 16, 17, 64, 100, 257]


def randomize(layer, rng):
    for p in layer.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    return layer


def gradient_check(layer, x, rng):
    """Backward against differences along random directions, float64."""
    dy = rng.standard_normal(x.shape)
    layer.forward(x, training=True)
    gradients = [layer.backward(dy), *[p.grad.copy() for p in layer.parameters()]]
    variables = [x, *[p.data for p in layer.parameters()]]
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = rng.standard_normal(variable.shape)
        (slope,) = differences(
            lambda: (layer.forward(x, training=True) * dy).sum(), variable, [direction], 1e-5
        )
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("cols", WIDTHS)
def test_layer_norm_gradient(cols, rng, isa):
    layer = randomize(fastnn.LayerNorm(cols, dtype="float64"), rng)
    gradient_check(layer, rng.standard_normal((9, cols)), rng)


@pytest.mark.parametrize("shape", [(8, 1), (5, 7), (40, 33), (3, 130), (4, 3, 5), (2, 2, 40)])
def test_batch_norm_gradient(shape, rng, isa):
    layer = randomize(fastnn.BatchNorm1d(shape[1], dtype="float64"), rng)
    gradient_check(layer, rng.standard_normal(shape), rng)


def test_without_parameters(rng):
    gradient_check(fastnn.LayerNorm(6, elementwise_affine=False, dtype="float64"),
                   rng.standard_normal((4, 6)), rng)
    gradient_check(fastnn.BatchNorm1d(6, affine=False, dtype="float64"),
                   rng.standard_normal((4, 6)), rng)


def compare(ours, theirs, shape, dtype, rng):
    torch = pytest.importorskip("torch")
    randomize(ours, rng)
    theirs.load_state_dict(
        {k: torch.from_numpy(v) for k, v in ours.state_dict().items()}, strict=False
    )
    tolerance = 300 * np.finfo(dtype).eps
    for _ in range(2):
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        given = torch.from_numpy(x.copy()).requires_grad_()
        theirs.zero_grad()
        y = theirs(given)
        y.backward(torch.from_numpy(dy))
        results = [ours.forward(x, training=True), ours.backward(dy)]
        results += [p.grad for p in ours.parameters()]
        for got, want in zip(results, [y, given.grad, *(p.grad for p in theirs.parameters())],
                             strict=True):
            np.testing.assert_allclose(got, want.detach().numpy(), rtol=tolerance, atol=tolerance)
    theirs.eval()
    want = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), want, rtol=tolerance, atol=tolerance)
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        np.testing.assert_allclose(value, state[name].numpy(), rtol=tolerance, atol=tolerance)
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})


@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 5, 4), (40, 300)])
def test_layer_norm_agrees_with_pytorch(shape, dtype, rng):
    torch = pytest.importorskip("torch")
    axes = shape[-2:] if len(shape) == 4 else shape[-1]
    theirs = torch.nn.LayerNorm(axes, dtype=getattr(torch, str(dtype)))
    compare(fastnn.LayerNorm(axes, dtype=dtype), theirs, shape, dtype, rng)


@pytest.mark.parametrize("shape", [(4, 6), (30, 17), (100, 200), (4, 6, 5), (3, 20, 40)])
def test_batch_norm_agrees_with_pytorch(shape, dtype, rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm1d(shape[1], dtype=getattr(torch, str(dtype)))
    compare(fastnn.BatchNorm1d(shape[1], dtype=dtype), theirs, shape, dtype, rng)


@pytest.mark.parametrize("cols", [5, 64, 1000])
def test_means_far_from_zero(cols, rng, isa):
    """10000 ± 0.01 in float32: what x holds decides, not what the statistics lose."""
    x = (1e4 + 1e-2 * rng.standard_normal((20, cols))).astype(np.float32)
    wide = x.astype(np.float64)
    for layer, given, axis in (
        (fastnn.LayerNorm(cols, eps=1e-12), x, 1),
        (fastnn.BatchNorm1d(20, eps=1e-12), np.ascontiguousarray(x.T), 0),
    ):
        exact = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
        dy = rng.standard_normal(given.shape).astype(np.float32)
        y = layer.forward(given, training=True)
        np.testing.assert_allclose(y, exact if axis else exact.T, atol=2e-5)
        double = type(layer)(given.shape[1], eps=1e-12, dtype="float64")
        double.forward(given, training=True)
        want, scale = double.backward(dy), 1 / wide.std(1).min()
        np.testing.assert_allclose(layer.backward(dy), want, atol=1e-5 * scale)


def test_constant_rows_give_the_bias(dtype):
    layer = fastnn.LayerNorm(7, dtype=dtype)
    y = layer.forward(np.full((3, 7), 1e4, dtype), training=True)
    np.testing.assert_array_equal(y, 0)
    assert np.isfinite(layer.backward(np.ones_like(y))).all()


def test_running_statistics(dtype, rng):
    layer = fastnn.BatchNorm1d(3, momentum=0.2, dtype=dtype)
    x = (5 + 2 * rng.standard_normal((50, 3))).astype(dtype)
    before = layer(x)
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.running_mean.data, 0.2 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.data, 0.8 + 0.2 * x.var(0, ddof=1), rtol=1e-5)
    assert (layer(x) != before).any()


@pytest.mark.parametrize("make", [fastnn.LayerNorm, fastnn.BatchNorm1d])
def test_threads_give_the_same_bits(make, rng, threads):
    layer = randomize(make(200), rng)
    x, dy = (rng.standard_normal((600, 200)).astype(np.float32) for _ in range(2))
    results = []
    for count in (1, 2):
        threads(count)
        y = layer.forward(x, training=True)
        results.append([y, layer.backward(dy)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_refuses():
    with pytest.raises(ValueError, match="eps"):
        fastnn.LayerNorm(3, eps=0)
    with pytest.raises(ValueError, match="momentum"):
        fastnn.BatchNorm1d(3, momentum=2)
    with pytest.raises(ValueError, match="normalized_shape"):
        fastnn.LayerNorm(())
    with pytest.raises(ValueError, match="trailing axes"):
        fastnn.LayerNorm(3)(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="x: expected"):
        fastnn.BatchNorm1d(3)(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="at least 2 rows"):
        fastnn.BatchNorm1d(3).forward(np.zeros((1, 3)), training=True)


def test_functions_are_the_layers(dtype, rng):
    x, dy = (rng.standard_normal((6, 9)).astype(dtype) for _ in range(2))
    for layer, forward, backward in (
        (fastnn.LayerNorm(9, dtype=dtype), ops.layer_norm, ops.layer_norm_backward),
        (fastnn.BatchNorm1d(9, dtype=dtype), ops.batch_norm, ops.batch_norm_backward),
    ):
        weight, bias = (p.data for p in randomize(layer, rng).parameters())
        y, mean, rstd = forward(x, weight, bias)
        np.testing.assert_array_equal(y, layer.forward(x, training=True))
        wanted = [layer.backward(dy), *(p.grad for p in layer.parameters())]
        for got, want in zip(backward(dy, x, weight, mean, rstd), wanted, strict=True):
            np.testing.assert_allclose(got, want, atol=50 * np.finfo(dtype).eps)
    running = [layer.running_mean.data, layer.running_var.data]
    np.testing.assert_array_equal(ops.batch_norm_inference(x, *running, weight, bias), layer(x))
    with pytest.raises(ValueError, match="weight: expected shape"):
        ops.layer_norm(x, weight[:3])
    with pytest.raises(ValueError, match="eps"):
        ops.batch_norm(x, eps=0)


@pytest.mark.parametrize("scale", [1e10, 1e17, 1e19, 1e25, 1e30, 1e38])
def test_huge_values_are_right_or_nan(scale, dtype, rng, isa):
    """Never zeros: an exploding network must not look dead. In float64 the square of the scale."""
    scale = scale if dtype == np.float32 else scale**8
    x = rng.uniform(-2, 2, (6, 40))
    huge = (x * scale).astype(dtype)
    for layer, given, axis in (
        (fastnn.LayerNorm(40, dtype=dtype), huge, 1),
        (fastnn.BatchNorm1d(40, dtype=dtype), huge, 0),
        (fastnn.BatchNorm1d(1, dtype=dtype), huge.reshape(6, 1, 40), (0, 1)),
    ):
        want = (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)
        y = layer.forward(given, training=True).reshape(x.shape)
        dx = layer.backward(rng.standard_normal(given.shape))
        right = np.isclose(y, want, rtol=1e-4, atol=1e-4)
        assert (right | np.isnan(y)).all()
        assert right.all() or scale > 1e18
        np.testing.assert_array_equal(np.isnan(dx.reshape(x.shape)), np.isnan(y))
        assert layer(given).all()  # by the running statistics
    y, _, rstd = ops.layer_norm(huge)
    np.testing.assert_array_equal(np.isnan(y).any(axis=1), np.isnan(rstd))


def test_a_batch_without_elements_leaves_statistics_alone(dtype, isa):
    layer = fastnn.BatchNorm1d(3, dtype=dtype)
    before = layer.state_dict()
    assert layer.forward(np.ones((4, 3, 0)), training=True).shape == (4, 3, 0)
    layer.backward(np.ones((4, 3, 0)))
    for name, values in before.items():
        np.testing.assert_array_equal(layer.state_dict()[name], values)
    assert not layer.weight.grad.any()
    assert not layer.bias.grad.any()
