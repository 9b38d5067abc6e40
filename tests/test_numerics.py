"""Overflow and underflow: values at the ends of the range give what the mathematics gives."""

import numpy as np
import pytest

import fastnn
from fastnn import losses, ops, optim, reference

from .conftest import DTYPES
from .optimizers import every_rule

HUGE = [1e25, -1e25, 3e38, -3e38]
TINY = [1e-30, -1e-30, 1e-38, -1e-38]


@pytest.mark.parametrize("offset", [0.0, 80.0, -80.0, 1e4, -1e4, 1e25, -1e25, 3e38, -3e38])
def test_softmax_does_not_depend_on_a_common_offset(offset, dtype, isa):
    x = np.array([[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]], dtype)
    with np.errstate(over="ignore"):
        moved = x + dtype.type(offset)  # rounded, as it may be
    exact = reference.softmax_forward(moved.astype(np.float64))
    limit = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(ops.softmax(moved), exact, rtol=limit)
    np.testing.assert_allclose(ops.log_softmax(moved), np.log(exact), rtol=limit, atol=limit)
    assert np.isfinite(ops.log_softmax(moved)).all()


@pytest.mark.parametrize("distance", [100.0, 800.0, 1e5, 1e25, 3e38])
def test_softmax_of_values_far_apart(distance, dtype, isa):
    x = np.array([[0.0, -distance, distance]], dtype)
    np.testing.assert_array_equal(ops.softmax(x).round(6), [[0, 0, 1]])
    found = ops.log_softmax(x)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, [[-distance, dtype.type(-2 * distance), 0]], rtol=1e-6)
    dx = ops.softmax_backward(np.ones((1, 3), dtype), ops.softmax(x))
    np.testing.assert_allclose(dx, 0, atol=1e-6)


@pytest.mark.parametrize("size", [100.0, 1e5, 1e25, 1e38])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_large_logits(size, label, dtype, isa):
    """Its value is the distance to the right one, and its gradient the error in probability."""
    logits = np.array([[size, -size]], dtype)
    loss, gradient = losses.cross_entropy(logits, [label])
    assert loss == pytest.approx(2 * size * label, rel=1e-6)
    np.testing.assert_allclose(gradient, [[label, -label]], atol=1e-6)
    smooth, _ = losses.cross_entropy(logits, [label], label_smoothing=0.5)
    assert smooth == pytest.approx(2 * size * (0.75 if label else 0.25), rel=1e-6)
    shares, gradient = losses.cross_entropy(logits, np.array([[1.0 - label, label]], dtype))
    assert shares == pytest.approx(loss, rel=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("size", [0.0, 1e-30, 50.0, 100.0, 800.0, 1e25, 3e38])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
def test_binary_cross_entropy_of_large_logits(size, target, dtype, isa):
    for x in (size, -size):
        logits = np.array([x], dtype)
        loss, gradient = losses.binary_cross_entropy_with_logits(logits, [target])
        exact = max(x, 0) - x * target + np.log1p(np.exp(-abs(x)))
        assert loss == pytest.approx(exact, rel=1e-6, abs=1e-45)
        sigmoid = 1 / (1 + np.exp(-min(x, 700.0))) if x > 0 else np.exp(max(x, -700.0))
        if x > -50:
            sigmoid = 1 / (1 + np.exp(-min(max(x, -700.0), 700.0)))
        np.testing.assert_allclose(gradient, [sigmoid - target], rtol=1e-5, atol=1e-38)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "gelu", "mish", "softplus", "selu"])
def test_activations_at_the_ends(name, dtype, isa):
    """The limits, and slopes that are neither NaN nor infinite."""
    x = np.array([*HUGE, *TINY], dtype)
    y = getattr(ops, name)(x)
    limits = {
        "sigmoid": (1, 0), "tanh": (1, -1), "selu": (np.inf, -1.7580993408473766)
    }.get(name, (np.inf, 0))  # fmt: skip
    for found, given, limit in zip(y[:4], x[:4], limits * 2, strict=True):
        if np.isinf(limit):
            factor = 1.0507009873554805 if name == "selu" else 1
            with np.errstate(over="ignore"):
                limit = dtype.type(given * factor)
        assert found == pytest.approx(limit, rel=1e-6)
    assert not np.isnan(y).any()
    saved = x if name in ("silu", "gelu", "mish") else y
    slope = getattr(ops, f"{name}_backward")(np.ones_like(x), saved)
    assert np.isfinite(slope).all()


def overflows(scale, dtype):
    """Whether squares of such numbers do."""
    return scale**2 > float(np.finfo(dtype).max)


@pytest.mark.parametrize("scale", [1e15, 1e25, 1e30, 1e-10, 1e-15, 1e-30])
def test_layer_norm_of_huge_and_tiny_rows(scale, dtype, isa):
    """What eps makes of it where squares vanish, and NaN, as PyTorch's, where they overflow."""
    x = np.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    given = (scale * x).astype(dtype)
    y, mean, rstd = ops.layer_norm(given, eps=1e-5)
    wide = given.astype(np.longdouble)
    centred = wide - wide.mean(1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(1, keepdims=True) + np.longdouble(1e-5))
    want = exact.astype(np.float64)
    if overflows(scale, dtype):
        want[0] = np.nan
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, given.mean(1, dtype=np.float64), rtol=1e-6)
    ones = np.ones_like(given)
    dx, dweight, dbias = ops.layer_norm_backward(ones, given, np.ones(4, dtype), mean, rstd)
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(y))
    assert np.isnan(dweight).all() == overflows(scale, dtype)
    assert np.isfinite(dbias).all()


@pytest.mark.parametrize("scale", [1e15, 1e25, 1e-15, 1e-30])
def test_batch_norm_of_huge_and_tiny_columns(scale, dtype, isa):
    x = scale * np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
    given = x.astype(dtype)
    y, mean, rstd = ops.batch_norm(given)
    wide = given.astype(np.longdouble)
    centred = wide - wide.mean(0)
    exact = centred / np.sqrt((centred**2).mean(0) + np.longdouble(1e-5))
    want = exact.astype(np.float64)
    if overflows(scale, dtype):
        want[:, 0] = np.nan
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    dx, _, _ = ops.batch_norm_backward(np.ones_like(given), given, None, mean, rstd)
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(y))


@pytest.mark.parametrize("step", [10**9, 2**31, 2**53])
@every_rule
def test_a_step_late_in_life(rule, step, dtype):
    """Corrections have become 1, and counts do not overflow: the twin at a late step agrees."""
    x = np.array([1.0, -2.0, 3.0], dtype)
    optimizer = rule.optimizer([x], lr=0.125)
    optimizer.t = step
    optimizer.step([np.array([0.5, -0.25, 1.0], dtype)])
    assert optimizer.t == step + 1
    early = np.array([1.0, -2.0, 3.0], dtype)
    other = rule.optimizer([early], lr=0.125)
    other.t = 10**7
    other.step([np.array([0.5, -0.25, 1.0], dtype)])
    np.testing.assert_array_equal(x, early)
    assert (x != [1, -2, 3]).all()


@pytest.mark.parametrize("size", [1e25, 1e-25, 3e38])
@every_rule
def test_gradients_at_the_ends_of_the_range(rule, size, dtype):
    """No NaN, and a step as large as the rule says where squares overflow or vanish."""
    x, sign = np.array([1.0, -2.0, 3.0], dtype), np.array([1.0, -1.0, 1.0], dtype)
    optimizer = rule.optimizer([x], lr=0.125)
    with np.errstate(over="ignore"):
        optimizer.step([(size * sign).astype(dtype)])
    assert not np.isnan(x).any()
    for state in optimizer.state[0].values():
        assert not np.isnan(state).any()
    if rule.optimizer not in (optim.SGD, optim.NAG):
        assert np.isfinite(x).all()
    optimizer.step([np.zeros(3, dtype)])
    assert not np.isnan(x).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("param", "grad"), [(0, 0), (0, 1), (1, 0), (1e-30, 1e-30), (1e25, 1e25)])
def test_lamb_with_norms_of_zero(param, grad, dtype):
    """Its trust ratio is 1 where a norm is zero, and the step is finite wherever there is one."""
    x = np.full(5, param, dtype)
    optimizer = optim.LAMB([x], lr=0.5)
    optimizer.step([np.full(5, grad, dtype)])
    assert np.isfinite(x).all()
    if grad == 0:
        np.testing.assert_array_equal(x, np.full(5, param, dtype))
    elif param == 0:
        np.testing.assert_allclose(x, -0.5, rtol=1e-5)  # as Adam's first step


@pytest.mark.parametrize("size", [1e25, 3e38, 1e-25, 1e-44])
def test_norms_of_gradients(size, dtype):
    grads = [np.full((3, 4), size, dtype), np.full(5, -size, dtype)]
    norm = ops.clip_grad_norm(grads, 1.0)
    kept = float(dtype.type(size))
    assert norm == pytest.approx(kept * np.sqrt(17), rel=1e-6)
    total = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads))
    assert total == pytest.approx(min(1.0, norm), rel=1e-5)
    x = np.ones(17, dtype)
    optimizer = optim.SGD([x], lr=1.0, clip_norm=1.0)
    optimizer.step([np.full(17, size, dtype)])
    np.testing.assert_allclose(x, 1 - min(kept, 1 / np.sqrt(17)), rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 3e38), ("float64", 1e160), ("float64", 1e307)]
)
@pytest.mark.parametrize("clip_value", [None, 1e36])
@pytest.mark.parametrize("limit", [1e-3, 1e20])
@every_rule
def test_clipping_of_the_largest_gradients(rule, limit, clip_value, dtype, size, isa):
    """As those that are a power of two smaller, for which no factor is a denormal number, and no
    square infinite."""
    sign = np.resize([1.0, -0.5, 0.25], 5000)
    found = []
    for power in (1.0, 2.0 ** np.floor(np.log2((1e26 if dtype == "float32" else 1e60) / size))):
        x, y = np.ones(5000, dtype), np.ones(3, dtype)
        within = clip_value and max(clip_value, size / 16) * power
        optimizer = rule.optimizer([x, y], lr=0.125, clip_norm=limit, clip_value=within)
        grads = [(size * power * sign).astype(dtype), (size * power * sign[:3]).astype(dtype)]
        optimizer.step(grads)
        found.append((x, y))
    assert (found[0][0] != 1).any()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 0.5 / 8**0.5), (1e300, 0.5e200)])
def test_clipping_of_the_largest_rows(limit, expected):
    """Those of a sparse gradient; a norm whose square is infinite may be within the limit."""
    layer = fastnn.Embedding(9, 4, sparse=True, dtype="float64", rng=0)
    layer.forward(np.array([1, 5]), training=True)
    layer.backward(np.full((2, 4), 1e200))
    before = layer.weight.data.copy()
    optim.SGD(layer.parameters(), lr=0.5, clip_norm=limit).step()
    np.testing.assert_allclose((before - layer.weight.data)[[1, 5]], expected, rtol=1e-6)
    np.testing.assert_array_equal(layer.weight.data[2:5], before[2:5])


@pytest.mark.parametrize(("scale", "fails"), [(1e15, False), (1e25, True)])
def test_training_on_huge_inputs(scale, fails):
    """LayerNorm brings them to size, or is the layer that is told to have failed."""
    x = scale * np.random.default_rng(0).normal(size=(32, 6))
    for loss, y in (("mse", np.ones((32, 3))), ("cross_entropy", np.arange(32) % 3)):
        model = fastnn.Sequential(fastnn.LayerNorm(6), fastnn.Linear(6, 3), rng=0)
        trainer = fastnn.Trainer(model, loss, optim.Adam(model.parameters(), lr=0.01))
        guard = fastnn.TerminateOnNaN()
        trainer.fit(x, y, epochs=3, progress=False, rng=0, callbacks=[guard])
        found = "loss is nan at step 0: layer 0 (LayerNorm) first produced nan in forward"
        assert guard.reason == (found if fails else "")
