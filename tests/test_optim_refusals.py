"""What every optimizer refuses at a step, with the states of each storage, unchanged."""

import copy

import numpy as np
import pytest

import fastnn
from fastnn import optim

from .optimizers import every_rule, every_storage


def snapshot(params, optimizer):
    """All that a step may change, as bytes."""
    states = [{k: v.tobytes() for k, v in state.items()} for state in optimizer.state]
    return [p.tobytes() for p in params], states, optimizer.t


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@every_storage
@every_rule
def test_check_finite_names_the_parameter_and_changes_nothing(rule, state_dtype):
    """Refused wherever the value stands; the steps after it are as if it had not been tried."""
    params, grads = arrays((40, 30), (5,), ()), arrays((40, 30), (5,), ())
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.1}]
    optimizer = rule.make(groups, check_finite=True, state_dtype=state_dtype)
    optimizer.step(grads)
    for bad in (np.nan, np.inf, -np.inf):
        for i, grad in enumerate(grads):
            wrong = copy.deepcopy(grads)
            wrong[i].reshape(-1)[grad.size // 2] = bad
            before = snapshot(params, optimizer)
            with pytest.raises(ValueError, match=rf"gradient of params\[{i}\]: expected finite"):
                optimizer.step(wrong)
            assert snapshot(params, optimizer) == before
    optimizer.step(grads)
    again = arrays((40, 30), (5,), ())
    groups = [{"params": again[:2]}, {"params": again[2:], "weight_decay": 0.1}]
    other = rule.make(groups, state_dtype=state_dtype)
    for _ in range(2):
        other.step(grads)
    assert snapshot(params, optimizer) == snapshot(again, other)


@every_storage
@every_rule
def test_gradients_that_a_step_would_write_over(rule, state_dtype):
    params = arrays((1,), (1,), (4, 3))
    optimizer = rule.make(params, state_dtype=state_dtype)
    good = [np.ones_like(p) for p in params]
    optimizer.step(good)
    first = next(iter(optimizer.state[0]))
    cases = [[params[0], *good[1:]], [params[1], *good[1:]], [*good[:2], params[2]]]
    if state_dtype != "bfloat16":  # whose states are converted, like any array of integers
        state = optimizer.state[0][first + "_scale" if state_dtype == "int8" else first]
        cases += [[state, *good[1:]], [good[0], state, good[2]]]
    for grads in cases:
        before = snapshot(params, optimizer)
        with pytest.raises(ValueError, match=r"^gradient of params\[\d\]: expected memory of its"):
            optimizer.step(grads)
        assert snapshot(params, optimizer) == before


def test_a_gradient_that_must_be_copied_may_come_from_a_parameter():
    x = np.array([1.0, 2.0, 4.0])
    optim.SGD([x], 0.5).step([x[::-1]])
    assert x.tolist() == [-1, 1, 3.5]


@every_storage
@every_rule
def test_arrays_that_changed_since_the_last_step(rule, state_dtype):
    params = arrays((4, 3), (5,))
    optimizer = rule.make(params, state_dtype=state_dtype)
    good = [np.ones_like(p) for p in params]
    optimizer.step(good)
    params[1].resize((50,), refcheck=False)
    before = snapshot(params, optimizer)
    with pytest.raises(ValueError, match=r"params\[1\]: .*\(5,\), as when .*\(50,\)"):
        optimizer.step(good)
    assert snapshot(params, optimizer) == before
    params[1].resize((5,), refcheck=False)
    params[0].flags.writeable = False
    before = snapshot(params, optimizer)
    with pytest.raises(ValueError, match=r"params\[0\]: expected a writable array"):
        optimizer.step(good)
    assert snapshot(params, optimizer) == before
    params[0].flags.writeable = True
    optimizer.step(good)
    assert optimizer.t == 2


BAD_VALUES = {
    "lr": [-0.1, np.nan, np.inf, None, "0.1", True, 1j],
    "momentum": [-0.1, 1.1, np.nan, None],
    "dampening": [-0.1, 1.1, np.nan, None],
    "alpha": [1.0, -0.1, np.nan, None],
    "betas": [(1.0, 0.9), (0.9, np.nan), (0.9,), 0.9, "ab", (0.9, None)],
    "eps": [0, -1e-8, np.nan, np.inf, None],
    "weight_decay": [-1, np.nan, np.inf, None, lambda t: 0.1],
    "lr_decay": [-1, np.nan, np.inf, None],
    "initial_accumulator_value": [-1, np.nan, np.inf, None],
    "nesterov": [2, None, "yes"],
    "amsgrad": [2, None],
    "centered": [2, None],
    "bias_correction": [2, None],
    "eps_inside_sqrt": [2, None],
    "eps_uncorrected": [2, None],
    "lr_in_velocity": [2, None],
}


@every_rule
def test_hyper_parameters_at_the_door_and_at_a_step(rule):
    """Each one of each optimizer: given, in a group, and changed between steps."""
    params = arrays((3,))
    optimizer = rule.make(params)
    group = optimizer.groups[0]
    optimizer.step([np.ones(3)])
    before = snapshot(params, optimizer)
    for key in sorted(group.keys() - {"params"}):
        good = group[key]
        for bad in BAD_VALUES[key]:
            of = "beta" if key == "betas" else key
            with pytest.raises((TypeError, ValueError), match=rf"^{of}\w*: expected"):
                rule.optimizer(params, **{"lr": 0.1, key: bad})
            with pytest.raises((TypeError, ValueError), match=rf"^{of}\w*: expected"):
                rule.optimizer([{"params": params, key: bad}], lr=0.1)
            group[key] = bad
            with pytest.raises((TypeError, ValueError), match=rf"^{of}\w*: expected"):
                optimizer.step([np.ones(3)])
            group[key] = good
    for bad in BAD_VALUES["lr"]:
        with pytest.raises((TypeError, ValueError), match=r"^lr: expected"):
            optimizer.lr = bad
    assert snapshot(params, optimizer) == before
    for key, bad in ("clip_norm", np.nan), ("clip_norm", 0), ("maximize", 1), ("check_finite", 1):
        with pytest.raises((TypeError, ValueError), match=f"^{key}: expected"):
            rule.make(params, **{key: bad})
    optimizer.step([np.ones(3)])


@pytest.mark.parametrize("key", ["lr", "momentum"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, None, "0.1", True, np.array([0.1]), 0.1j])
def test_schedules_that_return_no_allowed_number(key, bad):
    """The values before it are taken, and the optimizer goes on once the schedule is mended."""
    params = arrays((3,), (2,))
    values = [0.1, bad]
    hyper = {"lr": 0.1, "momentum": 0.5, key: lambda t: values[t]}
    optimizer = optim.SGD([{"params": params[:1]}, {"params": params[1:]}], **hyper)
    grads = [np.ones(3), np.ones(2)]
    optimizer.step(grads)
    before = snapshot(params, optimizer)
    with pytest.raises((TypeError, ValueError), match=rf"^{key}: .* its schedule at step 1$"):
        optimizer.step(grads)
    assert snapshot(params, optimizer) == before
    values[1] = 0.2
    optimizer.step(grads)
    assert optimizer.t == 2


def test_a_schedule_that_raises():
    params = arrays((3,))
    optimizer = optim.Adam(params, lambda t: 0.1 / (1 - t))
    optimizer.step([np.ones(3)])
    before = snapshot(params, optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step([np.ones(3)])
    assert snapshot(params, optimizer) == before


@pytest.mark.parametrize("call", ["step", "fit"])
def test_a_trainer_passes_on_what_the_optimizer_refuses(call):
    model = fastnn.Sequential(fastnn.Linear(3, 2), fastnn.Linear(2, 1), rng=0)
    values = [0.1, 0.1, np.nan]
    optimizer = optim.Adam(model.parameters(), lambda t: values[t], check_finite=True)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    x, y = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)

    def run(x):
        if call == "step":
            trainer.step(x, y)
        else:
            trainer.fit(x, y, epochs=1, batch_size=4, progress=False, rng=0)

    params = [p.data for p in model.parameters()]
    run(x)
    before = snapshot(params, optimizer)
    with pytest.raises(ValueError, match=r"^gradient of 0\.weight: expected finite values"):
        run(x * np.nan)
    assert snapshot(params, optimizer) == before
    run(x)
    before = snapshot(params, optimizer)
    with pytest.raises(ValueError, match=r"^lr: .*nan from its schedule at step 2"):
        run(x)
    assert snapshot(params, optimizer) == before


def test_what_is_no_list_at_all():
    layer = fastnn.Linear(3, 2)
    for params in (layer, layer.weight, None, 3):
        with pytest.raises(TypeError, match=r"^params: expected a list of arrays, got"):
            optim.SGD(params, 0.1)
    params = arrays((3,))
    optimizer = optim.SGD(params, 0.1)
    before = snapshot(params, optimizer)
    with pytest.raises(TypeError, match=r"^grads: expected a list of arrays, got int"):
        optimizer.step(3)
    assert snapshot(params, optimizer) == before
    with pytest.raises(ValueError, match=r"^state_dtype: expected None, .* got \['int8'\]"):
        optim.SGD(params, 0.1, state_dtype=["int8"])
