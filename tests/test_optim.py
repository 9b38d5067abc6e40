"""Every optimizer rule against its NumPy twin and against PyTorch."""

import math

import numpy as np
import pytest

from fastnn import optim, reference, schedules
from fastnn.ops import optim as ops

from .optimizers import BESIDE_PYTORCH, RULES, each, every_rule, every_variant

SHAPES = [(3, 4), (1,), (), (17, 5), (0, 3), (129,), (64, 64), (70, 70)]


def arrays(rng, dtype, shapes=SHAPES):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_close(actual, expected, ulp):
    """Equal to within `ulp` units in the last place of the largest element."""
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        scale = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=ulp * np.finfo(a.dtype).eps * scale)


def test_every_rule_has_a_row():
    public = {kind for name in optim.__all__ if isinstance(kind := getattr(optim, name), type)}
    public = {kind for kind in public if issubclass(kind, optim.Optimizer)}
    assert {rule.optimizer for rule in RULES} == public - {optim.Optimizer}
    assert len(RULES) == len(public) - 1


@every_variant
def test_rule_matches_its_numpy_twin(rule, variant, dtype, rng):
    params = arrays(rng, dtype)
    expected = [p.copy() for p in params]
    first = variant.options.get("initial_accumulator_value", 0)
    states = [
        [None if name is None else np.full(p.shape, first, dtype) for name in variant.states]
        for p in params
    ]
    optimizer = rule.optimizer(params, **variant.options)
    step = getattr(reference.optim, rule.twin)
    for t in range(1, 4):
        grads = arrays(rng, dtype)
        before = [g.copy() for g in grads]
        optimizer.step(grads)
        for p, g, state in zip(expected, before, states, strict=True):
            step(p, g, *state, **rule.twin_options(variant.options, t))
        for g, b in zip(grads, before, strict=True):
            assert np.array_equal(g, b)
    assert optimizer.t == 3
    assert_close(params, expected, 64)
    for own, state in zip(optimizer.state, states, strict=True):
        named = {k: s for k, s in zip(variant.states, state, strict=True) if k is not None}
        assert own.keys() == named.keys()
        assert_close([own[k] for k in named], list(named.values()), 64)


@every_variant
def test_ops_step_matches_its_numpy_twin(rule, variant, dtype, rng):
    options = {"lr": 0.01} | rule.twin_options(variant.options, 7)
    for shape in SHAPES:
        param, grad = arrays(rng, dtype, [shape, shape])
        states = [
            None if name is None else np.asarray(np.abs(*arrays(rng, dtype, [shape])))
            for name in variant.states
        ]
        expected = [None if a is None else a.copy() for a in (param, *states)]
        getattr(ops, rule.twin)(param, grad, *states, **options)
        getattr(reference.optim, rule.twin)(expected[0], grad, *expected[1:], **options)
        got = [a for a in (param, *states) if a is not None]
        assert_close(got, [a for a in expected if a is not None], 64)


@each(BESIDE_PYTORCH)
def test_matches_pytorch(rule, variant, dtype, rng):
    torch = pytest.importorskip("torch")
    params = arrays(rng, dtype, SHAPES[:4])
    tensors = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    ours = rule.optimizer(params, **variant.options)
    theirs = getattr(torch.optim, rule.torch)(tensors, **variant.options)
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


@pytest.mark.parametrize(
    ("rule", "kwargs"),
    [(optim.Adam, {"lr": 0.1}), (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1})],
)
def test_adam_update_is_within_2_ulp_of_the_exact_one(rule, kwargs, dtype, rng):
    """The change of a parameter, from states whose moments are exact."""
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


@every_rule
def test_clip_norm_scales_all_gradients_together(rule, rng):
    params, grads = arrays(rng, "float32"), arrays(rng, "float32")
    copies = [p.copy() for p in params]
    norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in grads))
    clipped, plain = rule.make(params, lr=0.1, clip_norm=norm / 3), rule.make(copies, lr=0.1)
    for _ in range(2):
        clipped.step(grads)
        plain.step([g / 3 for g in grads])
    assert_close(params, copies, 64)
    untouched = rule.make([p.copy() for p in copies], clip_norm=norm * 1.001)
    other = rule.make([p.copy() for p in copies])
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


@every_rule
def test_a_schedule_is_the_rate_of_each_step(rule, rng):
    params = arrays(rng, "float64")
    copies = [p.copy() for p in params]
    lr = schedules.warmup(schedules.exponential_decay(0.1, 0.5), 2)
    scheduled, by_hand = rule.make(params, lr=lr), rule.make(copies)
    for t in range(5):
        grads = arrays(rng, "float64")
        by_hand.lr = lr(t)
        assert scheduled.lr == lr(t)
        scheduled.step(grads)
        by_hand.step(grads)
    for p, q in zip(params, copies, strict=True):
        assert np.array_equal(p, q)


@every_rule
def test_groups_are_optimizers_of_their_own(rule, rng):
    params = arrays(rng, "float32")
    copies = [p.copy() for p in params]
    own = {"lr": 0.02, "weight_decay": 0.1}
    together = rule.make([{"params": params[:3]}, {"params": params[3:], **own}])
    apart = [rule.make(copies[:3]), rule.make(copies[3:], **own)]
    for _ in range(3):
        grads = arrays(rng, "float32")
        together.step(grads)
        apart[0].step(grads[:3])
        apart[1].step(grads[3:])
    for p, q in zip(params, copies, strict=True):
        assert np.array_equal(p, q)


def test_groups_have_hyper_parameters_of_their_own(rng):
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


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.by_element], ids=str)
def test_result_does_not_depend_on_how_elements_are_shared_among_arrays(rule, rng):
    """One array, its pieces, and neighbours that are merged: the same bits."""
    flat, grad = (a.astype("float32") for a in rng.standard_normal((2, 40_003)))
    cuts = np.sort(rng.integers(0, flat.size, 50))
    whole, neighbours = flat.copy(), flat.copy()
    pieces = [p.copy() for p in np.split(flat, cuts)]
    for params, grads in (
        ([whole], [grad]),
        (np.split(neighbours, cuts), np.split(grad, cuts)),
        (pieces, [g.copy() for g in np.split(grad, cuts)]),
    ):
        optimizer = rule.make(params, clip_norm=1.0)
        for _ in range(3):
            optimizer.step(grads)
    assert np.array_equal(whole, neighbours)
    # the norm's sum is rounded differently, by less than the last bit of a float
    assert_close([whole], [np.concatenate(pieces)], 2)
    merged = rule.make(np.split(neighbours, cuts))
    merged.step(np.split(grad, cuts))
    apart = rule.make(pieces := [p.copy() for p in np.split(flat, cuts)])
    apart.step([g.copy() for g in np.split(grad, cuts)])
    whole[...] = flat
    rule.make([whole]).step([grad])
    assert np.array_equal(whole, np.concatenate(pieces))


@every_rule
def test_result_does_not_depend_on_the_number_of_threads(rule, threads, rng):
    shapes = [(300, 301), (5,), (4096,), (7, 11), (50_000,)]
    start, grads = arrays(rng, "float32", shapes), arrays(rng, "float32", shapes)
    results = []
    for count in (1, 2, 3):
        threads(count)
        params = [p.copy() for p in start]
        optimizer = rule.make(params, clip_norm=2.0)
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


@every_rule
def test_converges_on_an_elongated_bowl(rule):
    x = np.array([1.0, -2.0, 0.5])
    curvature = np.array([1.0, 5.0, 10.0])
    optimizer = rule.optimizer([x], **rule.converges)
    for _ in range(400):
        optimizer.step([curvature * x])
    assert np.abs(x).max() < 0.02


def test_dampening_begins_with_the_second_step():
    x, buffer = np.zeros(3), np.zeros(3)
    options = {"lr": 0.5, "momentum": 0.9, "dampening": 0.25}
    optimizer = optim.SGD([y := np.zeros(3)], **options)
    for step in (1, 2, 3):
        ops.sgd_step(x, np.ones(3), buffer, step=step, **options)
        optimizer.step([np.ones(3)])
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match="step: expected"):
        ops.sgd_step(x, np.ones(3), buffer, step=0, **options)
