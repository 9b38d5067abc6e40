"""Saving and resuming optimizers."""

import copy
import json
from functools import partial

import numpy as np
import pytest

from fastnn import optim, schedules

from .optimizers import RULES, VARIANTS


def makers():
    """Each rule with each of its options, with a schedule, groups, and clipping."""
    for rule, variant in VARIANTS:
        yield f"{rule}-{variant}", partial(rule.optimizer, **variant.options)
    for rule in RULES:
        yield f"{rule} scheduled", partial(rule.make, lr=schedules.cosine_decay(0.1, 20))
        yield f"{rule} clipped", partial(rule.make, weight_decay=0.01, clip_norm=1.0)
        yield (
            f"{rule} in groups",
            lambda p, make=rule.make: make([{"params": p[:1], "lr": 0.2}, {"params": p[1:]}]),
        )


MAKERS = dict(makers())


def adam(params):
    warm = schedules.warmup(schedules.constant(0.1), 5)
    return optim.Adam(params, warm, amsgrad=True)


def setup(make, rng):
    params = [rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal(3)]
    return params, make(params)


def gradients(t):
    rng = np.random.default_rng(t)
    return [rng.standard_normal((5, 4)), rng.standard_normal(3)]


@pytest.mark.parametrize("make", [*MAKERS.values(), adam], ids=[*MAKERS, "Adam warming up"])
def test_resumed_run_equals_one_that_never_stopped(make, rng):
    params, optimizer = setup(make, rng)
    for t in range(6):
        optimizer.step(gradients(t))
        if t == 2:
            halfway = [p.copy() for p in params]
            saved = optimizer.state_dict()
    resumed, other = setup(make, rng)
    for p, q in zip(resumed, halfway, strict=True):
        p[...] = q
    plain = {key: saved[key] for key in ("optimizer", "t", "groups")}
    saved |= json.loads(json.dumps(plain))  # all but the arrays survives JSON
    other.load_state_dict(saved)
    assert other.t == 3
    for t in range(3, 6):
        other.step(gradients(t))
    for p, q in zip(params, resumed, strict=True):
        assert p.tobytes() == q.tobytes()


def test_state_dict_is_a_copy_and_state_is_live():
    params, optimizer = setup(adam, np.random.default_rng(0))
    optimizer.step(gradients(0))
    saved = optimizer.state_dict()
    live = optimizer.state[0]["exp_avg"]
    assert np.array_equal(saved["state"]["params[0]"]["exp_avg"], live)
    live[:] = 0
    assert saved["state"]["params[0]"]["exp_avg"].any()
    assert live.flags.writeable
    assert live.shape == params[0].shape


def broken(saved):
    """Ways in which a state dict can fail to fit."""
    yield "no dict", None
    for key in saved:
        yield f"no {key}", {k: v for k, v in saved.items() if k != key}
    yield "other class", {**saved, "optimizer": "LAMB"}
    for t in (-1, 1.5, "3", None, True):
        yield f"t {t}", {**saved, "t": t}
    yield "no groups", {**saved, "groups": []}
    yield "groups of numbers", {**saved, "groups": [1]}
    yield "groups None", {**saved, "groups": None}
    for change in (
        {"params": ["other", "params[1]"]},
        {"eps": -1},
        {"eps": "1"},
        {"betas": [0.9]},
        {"betas": 0.9},
        {"amsgrad": False},
        {"speed": 3},
    ):
        groups = [{**saved["groups"][0], **change}]
        yield f"group {change}", {**saved, "groups": groups}
    state = saved["state"]
    yield "states None", {**saved, "state": None}
    yield "one state less", {**saved, "state": {"params[0]": state["params[0]"]}}
    yield "a state None", {**saved, "state": {**state, "params[1]": None}}
    last = state["params[1]"]
    for change in (
        {"exp_avg": np.zeros(4)},
        {"exp_avg": np.zeros(3, np.float32)},
        {"exp_avg": None},
        {"more": np.zeros(3)},
    ):
        yield f"array {change}", {**saved, "state": {**state, "params[1]": {**last, **change}}}
    yield "array missing", {**saved, "state": {**state, "params[1]": {"exp_avg": last["exp_avg"]}}}


def test_failed_load_changes_nothing():
    _, optimizer = setup(adam, np.random.default_rng(0))
    optimizer.step(gradients(0))
    _, other = setup(adam, np.random.default_rng(1))
    for t in range(3):
        other.step(gradients(t))
    before = copy.deepcopy(optimizer.state_dict())
    for name, state_dict in broken(other.state_dict()):
        with pytest.raises((TypeError, ValueError), match=r"expected|got"):
            optimizer.load_state_dict(state_dict)
        after = optimizer.state_dict()
        assert after["t"] == before["t"], name
        assert after["groups"] == before["groups"], name
        for key, state in before["state"].items():
            for k, v in state.items():
                assert after["state"][key][k].tobytes() == v.tobytes(), name
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.t == 3


def test_schedules_stay_and_numbers_are_taken_over():
    x = np.zeros(3)
    saved = optim.SGD([x], 0.25, 0.9).state_dict()
    scheduled = optim.SGD([x], schedules.constant(0.5), 0.5)
    scheduled.load_state_dict(saved)
    assert scheduled.lr == 0.5
    assert scheduled.groups[0]["momentum"] == 0.9
