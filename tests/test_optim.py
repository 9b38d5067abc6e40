"""Every optimizer rule against its NumPy twin and against PyTorch."""

import math

import numpy as np
import pytest

from fastnn import optim, reference, schedules
from fastnn.ops import optim as ops

SHAPES = [(3, 4), (1,), (), (17, 5), (0, 3), (129,), (64, 64), (70, 70)]

# One row per rule and option: the class, its twin, the states in the twin's order, arguments.
RULES = [
    (optim.SGD, "sgd_step", [], {"lr": 0.1}),
    (optim.SGD, "sgd_step", [], {"lr": 0.1, "weight_decay": 0.2, "maximize": True}),
    (optim.SGD, "sgd_step", ["momentum_buffer"], {"lr": 0.1, "momentum": 0.9}),
    (
        optim.SGD,
        "sgd_step",
        ["momentum_buffer"],
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
    ),
    (
        optim.SGD,
        "sgd_step",
        ["momentum_buffer"],
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    (optim.NAG, "nag_step", ["velocity"], {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (
        optim.Adagrad,
        "adagrad_step",
        ["sum"],
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    ),
    (optim.Adagrad, "adagrad_step", ["sum"], {"eps": 0.1, "eps_inside_sqrt": True}),
    (optim.RMSprop, "rmsprop_step", ["square_avg"], {"lr": 0.1, "weight_decay": 0.1}),
    (
        optim.RMSprop,
        "rmsprop_step",
        ["square_avg", "grad_avg"],
        {"centered": True, "alpha": 0.9, "eps": 0.1, "eps_inside_sqrt": True},
    ),
    (
        optim.RMSprop,
        "rmsprop_step",
        ["square_avg", None, "momentum_buffer"],
        {"momentum": 0.9, "maximize": True},
    ),
    (
        optim.RMSprop,
        "rmsprop_step",
        ["square_avg", "grad_avg", "momentum_buffer"],
        {"centered": True, "alpha": 0.5, "momentum": 0.5, "eps": 1e-3},
    ),
    (optim.Adam, "adam_step", ["exp_avg", "exp_avg_sq"], {"lr": 0.1, "weight_decay": 0.1}),
    (
        optim.Adam,
        "adam_step",
        ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
        {"amsgrad": True, "betas": (0.8, 0.6), "maximize": True},
    ),
    (
        optim.Adam,
        "adam_step",
        ["exp_avg", "exp_avg_sq"],
        {"bias_correction": False, "eps": 0.1, "eps_inside_sqrt": True},
    ),
    (optim.AdamW, "adamw_step", ["exp_avg", "exp_avg_sq"], {"lr": 0.1, "weight_decay": 0.3}),
    (optim.LAMB, "lamb_step", ["exp_avg", "exp_avg_sq"], {"lr": 0.1, "weight_decay": 0.3}),
    (
        optim.LAMB,
        "lamb_step",
        ["exp_avg", "exp_avg_sq"],
        {"bias_correction": False, "eps_inside_sqrt": True, "eps": 0.01, "maximize": True},
    ),
]
IDS = [f"{rule.__name__}-{'-'.join(kwargs)}" for rule, _, _, kwargs in RULES]


def arrays(rng, dtype, shapes=SHAPES):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def twin_arguments(kwargs, t):
    """The twin's keywords for the optimizer's, at step t."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("amsgrad", "centered")}
    kwargs.pop("initial_accumulator_value", None)
    if "betas" in kwargs:
        kwargs["beta1"], kwargs["beta2"] = kwargs.pop("betas")
    if "dampening" in kwargs and t == 1:
        kwargs["dampening"] = 0
    return kwargs


def assert_close(actual, expected, ulp):
    """Equal to within `ulp` units in the last place of the largest element."""
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        scale = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=ulp * np.finfo(a.dtype).eps * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rule", "twin", "slots", "kwargs"), RULES, ids=IDS)
def test_rule_matches_its_numpy_twin(rule, twin, slots, kwargs, dtype):
    rng = np.random.default_rng(0)
    params = arrays(rng, dtype)
    expected = [p.copy() for p in params]
    first = kwargs.get("initial_accumulator_value", 0)
    states = [
        [None if slot is None else np.full(p.shape, first, dtype) for slot in slots] for p in params
    ]
    optimizer = rule(params, **kwargs)
    step_like = {"adam_step", "adamw_step", "lamb_step", "adagrad_step"}
    for t in range(1, 4):
        grads = arrays(rng, dtype)
        before = [g.copy() for g in grads]
        optimizer.step(grads)
        for p, g, state in zip(expected, before, states, strict=True):
            extra = {"step": t} if twin in step_like else {}
            getattr(reference.optim, twin)(p, g, *state, **twin_arguments(kwargs, t), **extra)
        for g, b in zip(grads, before, strict=True):
            assert np.array_equal(g, b)
    assert optimizer.t == 3
    assert_close(params, expected, 64)
    for own, state in zip(optimizer.state, states, strict=True):
        named = {slot: s for slot, s in zip(slots, state, strict=True) if slot is not None}
        assert own.keys() == named.keys()
        assert_close([own[k] for k in named], list(named.values()), 64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rule", "twin", "slots", "kwargs"), RULES, ids=IDS)
def test_ops_step_matches_its_numpy_twin(rule, twin, slots, kwargs, dtype):
    rng = np.random.default_rng(1)
    kwargs = twin_arguments(kwargs, 2)
    if twin in ("adam_step", "adamw_step", "lamb_step", "adagrad_step"):
        kwargs["step"] = 7
    kwargs.setdefault("lr", 0.01)
    for shape in SHAPES:
        param, grad = arrays(rng, dtype, [shape, shape])
        states = [
            None if s is None else np.asarray(np.abs(*arrays(rng, dtype, [shape]))) for s in slots
        ]
        expected = [None if a is None else a.copy() for a in (param, *states)]
        getattr(ops, twin)(param, grad, *states, **kwargs)
        getattr(reference.optim, twin)(expected[0], grad, *expected[1:], **kwargs)
        got = [a for a in (param, *states) if a is not None]
        assert_close(got, [a for a in expected if a is not None], 64)


TORCH = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "kwargs"), TORCH, ids=[name for name, _ in TORCH])
def test_matches_pytorch(name, kwargs, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    params = arrays(rng, dtype, SHAPES[:4])
    tensors = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    ours, theirs = (
        getattr(optim, name)(params, **kwargs),
        getattr(torch.optim, name)(tensors, **kwargs),
    )
    for _ in range(5):
        grads = arrays(rng, dtype, SHAPES[:4])
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad)
        theirs.step()
        ours.step(grads)
    assert_close(params, [t.detach().numpy() for t in tensors], 1024)
    for own, tensor in zip(ours.state, tensors, strict=True):
        for key, values in own.items():
            assert_close([values], [theirs.state[tensor][key].numpy()], 1024)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rule", "kwargs"),
    [(optim.Adam, {"lr": 0.1}), (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1})],
)
def test_adam_update_is_within_2_ulp_of_the_exact_one(rule, kwargs, dtype):
    """The change of a parameter, from states whose moments are exact."""
    rng = np.random.default_rng(3)
    n = 10_000
    grad = (rng.standard_normal(n) * 10.0 ** rng.uniform(-6, 6, n)).astype(dtype)
    param = np.zeros(n, dtype)  # so that the new value is the change itself
    optimizer = rule([param], betas=(0.5, 0.75), **kwargs)
    optimizer.step([grad])
    state = optimizer.state[0]
    m, v = (state[k].astype(np.longdouble) for k in ("exp_avg", "exp_avg_sq"))
    exact = -np.longdouble(0.1) / 0.5 * m / (np.sqrt(v / 0.25) + np.longdouble(1e-8))
    error = np.abs(param - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() <= 2.0 + 0.5  # half a unit for each of lr and eps, as numbers of `dtype`


def test_nag_is_the_textbook_form_seen_from_the_lookahead_point():
    x = np.array([1.0, -2.0])
    curvature = np.array([1.0, 10.0])
    optimizer = optim.NAG([x], lr=0.05, momentum=0.8)
    y, v = x.copy(), np.zeros(2)
    for _ in range(20):
        assert np.allclose(optimizer.lookahead()[0], y + 0.8 * v, rtol=1e-13)
        assert np.allclose(optimizer.positions()[0], y, rtol=1e-13)
        v = 0.8 * v - 0.05 * curvature * (y + 0.8 * v)
        y = y + v
        optimizer.step([curvature * x])
    look = optimizer.lookahead()[0]
    look += 1
    assert not np.array_equal(look, x)


def test_lamb_ratio_is_one_where_a_norm_is_zero():
    zero, one = np.zeros(3), np.ones(3)
    optim.LAMB([zero, one], lr=0.5).step([np.ones(3), np.zeros(3)])
    assert np.allclose(zero, -0.5)
    assert np.array_equal(one, np.ones(3))


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.LAMB])
def test_clip_norm_scales_all_gradients_together(rule):
    rng = np.random.default_rng(4)
    params, grads = arrays(rng, "float32"), arrays(rng, "float32")
    copies = [p.copy() for p in params]
    norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in grads))
    clipped, plain = rule(params, 0.1, clip_norm=norm / 3), rule(copies, 0.1)
    for _ in range(2):
        clipped.step(grads)
        plain.step([g / 3 for g in grads])
    assert_close(params, copies, 64)
    untouched = rule([p.copy() for p in copies], 0.1, clip_norm=norm * 1.001)
    other = rule([p.copy() for p in copies], 0.1)
    untouched.step(grads)
    other.step(grads)
    for a, b in zip(untouched._table.current(), other._table.current(), strict=True):
        assert np.array_equal(a, b)


def test_clip_norm_neither_overflows_nor_hides_nan():
    x = np.zeros(2, np.float32)
    optim.SGD([x], 1.0, clip_norm=1.0).step([np.array([1e30, 0], np.float32)])
    assert np.allclose(x, [-1, 0])
    optim.SGD([x], 1.0, clip_norm=1.0).step([np.array([np.nan, 0], np.float32)])
    assert np.isnan(x[0])


def test_clip_grad_norm():
    grads = [np.array([3.0]), np.array([[4.0]], np.float32)]
    assert ops.clip_grad_norm(grads, 10) == 5
    assert ops.clip_grad_norm(grads, 2.5) == 5
    assert grads[0] == 1.5
    assert grads[1] == 2


def test_schedules_for_rate_and_momentum_are_evaluated_at_each_step():
    lr = schedules.warmup(schedules.exponential_decay(0.1, 0.5), 2)
    momentum = schedules.linear(0.0, 0.9, 4)
    x, y, buffer = np.ones(3), np.ones(3), np.zeros(3)
    optimizer = optim.SGD([x], lr, momentum)
    for t in range(6):
        assert optimizer.lr == lr(t)
        grad = np.full(3, t + 1.0)
        optimizer.step([grad])
        reference.optim.sgd_step(y, grad, buffer, lr=lr(t), momentum=momentum(t))
    assert_close([x], [y], 4)


def test_groups_have_hyper_parameters_of_their_own():
    rng = np.random.default_rng(5)
    a, b, c = arrays(rng, "float32", [(5,), (6,), (7,)])
    d = rng.standard_normal(3)
    grads = [np.ones_like(p) for p in (a, b, c, d)]
    before = [p.copy() for p in (a, b, c, d)]
    optimizer = optim.SGD(
        [{"params": [a, b]}, {"params": c, "lr": 1.0}, {"params": (d,), "momentum": 0.5}], lr=0.1
    )
    assert [set(s) for s in optimizer.state] == [set(), set(), set(), {"momentum_buffer"}]
    optimizer.step(grads)
    for p, old, lr in zip((a, b, c, d), before, (0.1, 0.1, 1, 0.1), strict=True):
        assert np.allclose(p, old - lr)
    optimizer.groups[1]["lr"] = 0.0
    old = c.copy()
    optimizer.step(grads)
    assert np.array_equal(c, old)
    optimizer.lr = 0.5
    assert all(group["lr"] == 0.5 for group in optimizer.groups)


def test_result_does_not_depend_on_how_elements_are_shared_among_arrays():
    """One array, its pieces, and neighbours that are merged: the same bits."""
    rng = np.random.default_rng(6)
    flat, grad = (a.astype("float32") for a in rng.standard_normal((2, 40_003)))
    cuts = np.sort(rng.integers(0, flat.size, 50))
    whole, neighbours = flat.copy(), flat.copy()
    pieces = [p.copy() for p in np.split(flat, cuts)]
    for params, grads in (
        ([whole], [grad]),
        (np.split(neighbours, cuts), np.split(grad, cuts)),
        (pieces, [g.copy() for g in np.split(grad, cuts)]),
    ):
        optimizer = optim.Adam(params, 0.1, clip_norm=1.0)
        for _ in range(3):
            optimizer.step(grads)
    assert np.array_equal(whole, neighbours)
    # the norm's sum is rounded differently, by less than the last bit of a float
    assert_close([whole], [np.concatenate(pieces)], 2)
    merged = optim.Adam(np.split(neighbours, cuts))
    merged.step(np.split(grad, cuts))
    apart = optim.Adam(pieces := [p.copy() for p in np.split(flat, cuts)])
    apart.step([g.copy() for g in np.split(grad, cuts)])
    whole[...] = flat
    optim.Adam([whole]).step([grad])
    assert np.array_equal(whole, np.concatenate(pieces))


@pytest.mark.parametrize("rule", [optim.Adam, optim.LAMB])
def test_result_does_not_depend_on_the_number_of_threads(rule, threads):
    rng = np.random.default_rng(7)
    shapes = [(300, 301), (5,), (4096,), (7, 11), (50_000,)]
    start, grads = arrays(rng, "float32", shapes), arrays(rng, "float32", shapes)
    results = []
    for count in (1, 2, 3):
        threads(count)
        params = [p.copy() for p in start]
        optimizer = rule(params, 0.1, clip_norm=2.0)
        for _ in range(3):
            optimizer.step(grads)
        results.append(params)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


def test_denormals_are_flushed_in_a_step_and_the_mode_restored():
    tiny = np.float32(1e-40)
    x = np.zeros(4, np.float32)
    optimizer = optim.SGD([x], 1.0, 0.5)
    optimizer.state[0]["momentum_buffer"][:] = tiny
    optimizer.step([np.zeros(4, np.float32)])
    assert not optimizer.state[0]["momentum_buffer"].any()
    assert tiny * np.float32(0.5) > 0
    buffer = np.full(4, tiny)
    ops.sgd_step(x, np.zeros(4), buffer, lr=1.0, momentum=0.5)
    assert (buffer > 0).all()


@pytest.mark.parametrize(
    "rule",
    [
        lambda p: optim.SGD(p, 0.1, 0.9),
        lambda p: optim.NAG(p, 0.1),
        lambda p: optim.Adagrad(p, 0.5),
        lambda p: optim.RMSprop(p, 0.01),
        lambda p: optim.Adam(p, 0.1),
        lambda p: optim.AdamW(p, 0.1, weight_decay=1e-4),
        lambda p: optim.LAMB(p, schedules.exponential_decay(0.1, 0.01)),
    ],
    ids=["SGD", "NAG", "Adagrad", "RMSprop", "Adam", "AdamW", "LAMB"],
)
def test_converges_on_an_elongated_bowl(rule):
    x = np.array([1.0, -2.0, 0.5])
    curvature = np.array([1.0, 5.0, 10.0])
    optimizer = rule([x])
    for _ in range(400):
        optimizer.step([curvature * x])
    assert np.abs(x).max() < 0.02
