"""Gradients on their way into a rule: clipped, NaN, none, of frozen parameters, of tensors."""

import numpy as np
import pytest

import fastnn
from fastnn import ops, optim

from .optimizers import every_rule, every_storage

SHAPES = (5000,), (3, 4), (300, 30), (1,)


def arrays(rng, dtype, scale=1.0):
    return [(scale * rng.normal(size=shape)).astype(dtype) for shape in SHAPES]


def norm(grads):
    return np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in grads))


@every_rule
@every_storage
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("check_finite", [False, True])
@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_clip_value_is_a_step_with_clipped_gradients(
    rule, state_dtype, dtype, clip_norm, check_finite, rng
):
    """Bit for bit, with the values brought within it first and the norm taken of those."""
    params = arrays(rng, dtype)
    copies = [p.copy() for p in params]
    options = {"clip_norm": clip_norm, "check_finite": check_finite}
    options |= {"weight_decay": 0.01, "state_dtype": state_dtype}
    clipping, plain = rule.make(params, clip_value=0.5, **options), rule.make(copies, **options)
    for _ in range(3):
        grads = arrays(rng, dtype)
        before = [g.copy() for g in grads]
        clipping.step(grads)
        assert all(np.array_equal(a, b) for a, b in zip(grads, before, strict=True))
        plain.step([np.clip(g, -0.5, 0.5) for g in grads])
    for one, other in zip(params, copies, strict=True):
        if clip_norm:  # its sums are taken in other pieces
            np.testing.assert_allclose(one, other, rtol=1e-5)
        else:
            assert np.array_equal(one, other)


@every_rule
def test_values_that_are_not_finite(rule):
    """Infinity is brought to the limit, NaN stays, and check_finite sees both as they were."""
    x, y = np.ones(3), np.ones(3)
    grad = np.array([np.inf, -np.inf, 1.0])
    rule.make([x], clip_value=0.5).step([grad])
    rule.make([y]).step([np.array([0.5, -0.5, 0.5])])
    assert np.array_equal(x, y)
    for bad in (grad, np.array([0.0, np.nan, 1.0])):
        optimizer = rule.make([x], clip_value=0.5, check_finite=True)
        with pytest.raises(ValueError, match="finite"):
            optimizer.step([bad])
    assert np.array_equal(x, y)
    if rule.by_element:
        rule.make([x], clip_value=0.5).step([np.array([0.0, np.nan, 0.0])])
        assert np.isnan(x).tolist() == [False, True, False]


@every_rule
@every_storage
@pytest.mark.parametrize("options", [{}, {"clip_value": 0.5}], ids=str)
def test_clip_norm_with_a_nan_makes_all_of_them_nan(rule, state_dtype, options, rng):
    params = arrays(rng, "float32")
    optimizer = rule.make(params, clip_norm=1.0, state_dtype=state_dtype, **options)
    grads = arrays(rng, "float32", 1e6)
    grads[1][0, 0] = np.nan
    optimizer.step(grads)
    assert all(np.isnan(p).all() for p in params)


def test_clip_norm_and_clip_grad_norm_agree_on_nan_and_infinity():
    torch = pytest.importorskip("torch")
    for value in (np.nan, np.inf):
        grads = [np.array([3.0, value]), np.array([1.0])]
        by_norm = [np.zeros(2), np.zeros(1)]
        optim.SGD(by_norm, lr=1.0, clip_norm=1.0).step(grads)
        tensors = [torch.nn.Parameter(torch.zeros(g.size)) for g in grads]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(grad.astype("f"))
        torch.nn.utils.clip_grad_norm_(tensors, 1.0)
        clipped = [g.copy() for g in grads]
        ops.clip_grad_norm(clipped, 1.0)
        for mine, theirs, tensor in zip(by_norm, clipped, tensors, strict=True):
            assert np.array_equal(np.isnan(mine), np.isnan(theirs))
            assert np.array_equal(np.isnan(theirs), np.isnan(tensor.grad.numpy()))


@pytest.mark.parametrize("loss", ["mse", lambda p, t: (0.0, np.full_like(p, 7))])
@pytest.mark.parametrize("where", ["trainer", "optimizer", "both", "assigned"])
def test_clip_value_of_a_trainer(loss, where):
    """It goes before the optimizer's own, in programs and with losses in Python."""
    model = fastnn.Linear(2, 2, rng=0)
    before = [p.data.copy() for p in model.parameters()]
    optimizer = optim.SGD(
        model.parameters(), lr=1.0, clip_value={"optimizer": 0.25, "both": 9.0}.get(where)
    )
    trainer = fastnn.Trainer(
        model, loss, optimizer, clip_value=0.25 if where in ("trainer", "both") else None
    )
    if where == "assigned":
        trainer.clip_value = 0.25
    x = np.full((4, 2), 100, "f")
    trainer.step(x, 100 * x)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(np.abs(p.data - old), 0.25, rtol=1e-6)
        assert np.abs(p.grad).max() > 1  # the gradients themselves stay as they are
    trainer.fit(x, 100 * x, epochs=1, batch_size=4, shuffle=False, progress=False)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(np.abs(p.data - old), 0.5, rtol=1e-6)
    for wrong in (0, -1.0, np.nan, "1"):
        with pytest.raises((TypeError, ValueError), match=r"^clip_value: expected"):
            trainer.clip_value = wrong


@pytest.mark.parametrize("clip", [{"clip_value": 1e-3}, {"clip_value": 1e-3, "clip_norm": 1e-2}])
@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "int8"])
@every_rule
def test_clip_value_of_sparse_rows(rule, state_dtype, clip):
    found = []
    for sparse in (False, True):
        table = fastnn.Embedding(20, 256, sparse=sparse, rng=0)
        optimizer = rule.make(table.parameters(), state_dtype=state_dtype, lr=0.5, **clip)
        for _ in range(2):
            table.forward(np.array([[3, 5, 3]]), training=True)
            table.backward(np.ones((1, 3, 256), "f"))
            optimizer.step()
        found.append(table.weight.data[[3, 5]])
    np.testing.assert_allclose(*found, rtol=0 if state_dtype is None else 0.5, atol=1e-6)


# Parameters that are passed over --------------------------------------------------------------


def model_and_optimizer(rule, **options):
    model = fastnn.Sequential(fastnn.Linear(3, 4), fastnn.Tanh(), fastnn.Linear(4, 2), rng=0)
    return model, rule.make(model.parameters(), weight_decay=0.1, **options)


def backward(model):
    y = model.forward(np.linspace(-1, 1, 15, dtype="f").reshape(5, 3), training=True)
    model.backward(100 * np.ones_like(y))


@every_rule
@every_storage
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"check_finite": True}], ids=str)
def test_a_frozen_parameter_is_left_out(rule, state_dtype, options):
    """Neither decay nor momentum moves it, and the norm is that of the others alone."""
    model, optimizer = model_and_optimizer(rule, state_dtype=state_dtype, **options)
    backward(model)
    optimizer.step()
    copy, _ = model_and_optimizer(rule)
    copy.load_state_dict(model.state_dict())
    others = rule.make(
        copy[2].parameters(), weight_decay=0.1, state_dtype=state_dtype, **options
    )
    others.t = 1
    for mine, theirs in zip(optimizer.state[2:], others.state, strict=True):
        for key, values in mine.items():
            theirs[key] = values
    model[0].freeze()
    frozen = [p.data.copy() for p in model[0].parameters()]
    states = [{k: v.copy() for k, v in s.items()} for s in optimizer.state[:2]]
    for _ in range(2):
        backward(model)
        optimizer.step()
        backward(copy)
        others.step()
    for p, old, state, before in zip(
        model[0].parameters(), frozen, optimizer.state, states, strict=False
    ):
        assert np.array_equal(p.data, old)
        assert all(np.array_equal(state[key], before[key]) for key in before)
    for p, q in zip(model[2].parameters(), copy[2].parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-2 if state_dtype else 1e-6)
    model[0].unfreeze()
    backward(model)
    optimizer.step()
    assert not np.array_equal(model[0].weight.data, frozen[0])


@every_rule
@every_storage
def test_a_forgotten_gradient_is_passed_over(rule, state_dtype):
    model, optimizer = model_and_optimizer(rule, state_dtype=state_dtype)
    backward(model)
    optimizer.step()
    before = model.state_dict()
    backward(model)
    model[0].weight.grad = None
    optimizer.step()
    after = model.state_dict()
    assert {k: np.array_equal(before[k], after[k]) for k in before} == {
        "0.weight": True, "0.bias": False, "2.weight": False, "2.bias": False,
    }  # fmt: skip
    for p in model.parameters():
        p.grad = None
    with pytest.raises(RuntimeError, match="no gradient"):
        optimizer.step()


# PyTorch ----------------------------------------------------------------------------------------


@every_rule
@every_storage
def test_autograd_notices_an_update(rule, state_dtype):
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    loss, version = (p**2).sum(), p._version
    optimizer = rule.make([p, np.ones(2)], state_dtype=state_dtype)
    with pytest.raises(ValueError, match="shape"):
        optimizer.step([np.ones(3), np.ones(2)])
    assert p._version == version  # nothing has been written
    optimizer.step([np.ones(2), np.ones(2)])
    assert p._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_update_of_tensors_that_have_no_version():
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        p = torch.ones(3)
    optim.SGD([p], lr=0.5).step([np.ones(3)])
    assert p.tolist() == [0.5] * 3


def test_functions_that_write_into_tensors():
    torch = pytest.importorskip("torch")
    p, g, m, v = (torch.ones(3) for _ in range(4))
    versions = [t._version for t in (p, g, m, v)]
    ops.adam_step(p, np.ones(3), m, v, step=1, lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8)
    ops.clip_grad_norm([g], 0.5)
    ops.relu(np.zeros(3, "f"), out=p)
    assert all(t._version > old for t, old in zip((p, g, m, v), versions, strict=True))


# Errors -----------------------------------------------------------------------------------------


def test_a_file_that_another_optimizer_has_saved(tmp_path):
    model = fastnn.Linear(2, 1, rng=0)
    x, y = np.ones((2, 2), "f"), np.ones((2, 1), "f")
    trainer = fastnn.Trainer(model, "mse", optim.Adam(model.parameters()))
    trainer.step(x, y)
    trainer.save(tmp_path / "trainer.safetensors")
    other = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"saved by Adam, given SGD;"):
        fastnn.Trainer.restore(tmp_path / "trainer.safetensors", model, "mse", other)
    with pytest.raises(ValueError, match=r"expected one saved by SGD, got one by Adam"):
        other.load_state_dict(trainer.optimizer.state_dict())


def test_an_optimizer_of_another_model():
    model, other = fastnn.Linear(2, 1), fastnn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"weight: made over another model's .*model\.parameters"):
        fastnn.Trainer(model, "mse", optim.Adam(other.parameters()))


@every_rule
def test_a_gradient_given_for_a_frozen_parameter_counts_for_nothing(rule):
    """Nor does its norm."""
    found = []
    for given in (np.full((7, 5), 1e3, np.float32), None):
        layer = fastnn.Linear(5, 7, rng=0)
        layer.weight.trainable = False
        optimizer = rule.make(layer.parameters(), clip_norm=1.0)
        before = layer.weight.data.copy()
        optimizer.step([given, np.ones(7, np.float32)])
        np.testing.assert_array_equal(layer.weight.data, before)
        found.append(layer.bias.data.copy())
    np.testing.assert_array_equal(*found)
    assert found[0].any()
