"""What can be assigned on an optimizer counts from the next step on, or is refused."""

import inspect

import numpy as np
import pytest

from fastnn import Linear, Sequential, Trainer, optim, schedules

from .optimizers import RULES, every_rule, every_storage

# For each hyper-parameter a value that no test below begins with.
OTHER = {
    "lr": 0.3, "momentum": 0.25, "dampening": 0.5, "nesterov": True, "weight_decay": 0.25,
    "lr_in_velocity": True, "alpha": 0.5, "eps": 0.01, "centered": False, "lr_decay": 0.5,
    "betas": (0.5, 0.75), "amsgrad": False, "bias_correction": False, "eps_inside_sqrt": True,
    "eps_uncorrected": True,
}  # fmt: skip
FIXED = {"initial_accumulator_value": 0.5}
OPTIONS = {"clip_norm": 0.5, "clip_value": 0.25, "maximize": True, "check_finite": True, "t": 7}
REFUSED = ("groups", "state", "state_dtype")
SETTABLE = [(rule, name) for rule in RULES for name in rule.optimizer._ranges if name not in FIXED]
ids = [f"{rule}-{name}" for rule, name in SETTABLE]


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def gradients(t, *shapes):
    rng = np.random.default_rng(100 + t)
    return [rng.normal(size=shape) for shape in shapes]


def same(one, other):
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_public_attribute_has_a_row(rule):
    """One that is new is settable, with a test below, or refused."""
    optimizer = rule.make(arrays((3,)))
    for name in dir(optimizer):
        if name.startswith("_") or callable(getattr(optimizer, name)):
            continue
        assert name in OTHER or name in FIXED or name in OPTIONS or name in REFUSED, name
        if name in FIXED or name in REFUSED:
            with pytest.raises(AttributeError, match=name):
                setattr(optimizer, name, getattr(optimizer, name))
    assert set(rule.optimizer._ranges) <= {*OTHER, *FIXED}
    for name in ("step", "add_param_group", "reset_state"):
        with pytest.raises(AttributeError, match=name):
            setattr(optimizer, name, None)


@pytest.mark.parametrize(("rule", "name"), SETTABLE, ids=ids)
def test_a_hyper_parameter_that_is_assigned(rule, name):
    """It is that of an optimizer made with it, of all groups, by its name or in the group."""
    value = OTHER[name]
    if name in ("nesterov", "eps_inside_sqrt", "eps_uncorrected"):
        options = {"momentum": 0.5, "dampening": 0.0} if name == "nesterov" else {"eps": 0.1}
    else:
        options = {}
    found = []
    for how in ("made", "assigned", "in the groups", "as lists"):
        params = arrays((5,), (2, 3))
        groups = [{"params": p} for p in params]
        made = {**options, name: value} if how == "made" else options
        optimizer = rule.make(groups, **made)
        if how == "assigned":
            setattr(optimizer, name, list(value) if name == "betas" else value)
            assert all(group[name] == value for group in optimizer.groups)
        elif how == "in the groups":
            for group in optimizer.groups:
                group[name] = value
        elif how == "as lists":
            setattr(optimizer, name, [value, value])
        assert getattr(optimizer, name) == value
        for t in range(3):
            optimizer.step(gradients(t, (5,), (2, 3)))
        assert getattr(optimizer, name) == value
        found.append([*params, *(a for state in optimizer.state for a in state.values())])
    for other in found[1:]:
        assert same(found[0], other)


@every_rule
def test_values_that_differ_between_groups_are_lists(rule):
    optimizer = rule.make([{"params": p} for p in arrays((2,), (3,))])
    optimizer.lr = [0.5, 0.25]
    assert optimizer.lr == [0.5, 0.25]
    assert [group["lr"] for group in optimizer.groups] == [0.5, 0.25]
    for wrong in ([0.5], [0.5, -1.0], [0.5, "1"], -1.0, None):
        with pytest.raises((TypeError, ValueError), match=r"^lr: expected"):
            optimizer.lr = wrong
        assert optimizer.lr == [0.5, 0.25]
    optimizer.lr = schedules.linear(1.0, 0.5, 2)
    assert optimizer.lr == 1.0
    optimizer.step(gradients(0, (2,), (3,)))
    assert optimizer.lr == 0.75


def test_betas_are_a_pair_or_a_list_of_pairs():
    optimizer = optim.Adam([{"params": p} for p in arrays((2,), (3,))])
    optimizer.betas = [0.5, 0.75]
    assert optimizer.betas == (0.5, 0.75)
    optimizer.betas = [(0.5, 0.75), [0.25, 0.75]]
    assert optimizer.betas == [(0.5, 0.75), (0.25, 0.75)]
    given = [0.9, 0.99]
    optimizer.groups[0]["betas"] = given
    optimizer.step(gradients(0, (2,), (3,)))
    given[0] = 0.0  # no longer part of the optimizer
    assert optimizer.betas[0] == (0.9, 0.99)


@every_rule
@every_storage
def test_states_come_and_go_with_hyper_parameters(rule, state_dtype):
    """As PyTorch, whose momentum begins at the first step that has one; the others go on."""
    if not isinstance(rule.make(arrays((2,))), (optim.SGD, optim.RMSprop, optim.Adam)):
        return
    name, value, state = {
        "SGD": ("momentum", 0.5, "momentum_buffer"),
        "RMSprop": ("momentum", 0.5, "momentum_buffer"),
    }.get(str(rule), ("amsgrad", True, "max_exp_avg_sq"))
    params = arrays((300,), (3,))
    optimizer = rule.optimizer(params, lr=0.1, state_dtype=state_dtype)
    optimizer.step(gradients(0, (300,), (3,)))
    live = dict(optimizer.state[0])
    before = {key: a.copy() for key, a in live.items()}
    view = optimizer.state[0]
    setattr(optimizer, name, value)
    assert view is optimizer.state[0]
    assert state in view
    assert not view[state].any()
    for key, array in live.items():
        assert view[key] is array
        assert np.array_equal(array, before[key])
    optimizer.step(gradients(1, (300,), (3,)))
    assert view[state].any()
    optimizer.groups[0][name] = type(value)(0)
    optimizer.step(gradients(2, (300,), (3,)))
    assert state not in view


def test_momentum_that_is_turned_on_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = np.ones(3)
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours, theirs = optim.SGD([x], lr=0.1), torch.optim.SGD([p], lr=0.1)
    for t in range(4):
        if t == 2:
            ours.momentum = theirs.param_groups[0]["momentum"] = 0.9
        (grad,) = gradients(t, (3,))
        p.grad = torch.from_numpy(grad)
        ours.step([grad])
        theirs.step()
    np.testing.assert_allclose(x, p.detach().numpy(), rtol=1e-14)


@every_rule
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_assigned(rule, name):
    found = []
    for assigned in (False, True):
        params = arrays((5,), (2, 3))
        optimizer = rule.make(params, **({} if assigned or name == "t" else {name: OPTIONS[name]}))
        if assigned or name == "t":
            setattr(optimizer, name, OPTIONS[name])
        assert getattr(optimizer, name) == OPTIONS[name]
        for t in range(2):
            optimizer.step(gradients(t, (5,), (2, 3)))
        found.append(params)
    assert same(*found)
    assert optimizer.t == (9 if name == "t" else 2)
    for wrong in ("x", -1.0, np.nan):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
            setattr(optimizer, name, wrong)
    if name == "check_finite":
        with pytest.raises(ValueError, match="finite"):
            optimizer.step([np.full(5, np.nan), np.ones((2, 3))])


@every_rule
def test_names_that_do_not_exist(rule):
    optimizer = rule.make(arrays((3,)))
    for wrong in ("learning_rate", "weight_decai"):
        with pytest.raises(AttributeError, match=f"^{wrong}: .* lr, "):
            setattr(optimizer, wrong, 1.0)
        assert not hasattr(optimizer, wrong)
    with pytest.raises(AttributeError, match=r"did you mean 'weight_decay'\?"):
        optimizer.weight_decai = 0.1


@every_rule
def test_groups_that_are_edited_wrongly(rule):
    """The next step says what is wrong, and nothing has moved; mended, it goes on."""
    params = arrays((3,))
    optimizer = rule.make(params)
    group = optimizer.groups[0]
    good = dict(group)
    before = params[0].copy()
    for change, message in (
        (lambda: group.update(learning_rate=1), r"^groups\[0\]: .*among lr, .*'learning_rate'"),
        (lambda: group.pop("lr"), r"^groups\[0\]: .*none of lr$"),
        (group.clear, r"^groups\[0\]: .*none of params, lr"),
        (lambda: group.update(params=[np.ones(3)]), "add_param_group"),
        (lambda: group.update(params=list(group["params"])), "add_param_group"),
        (lambda: group.update(lr=np.array([0.1, 0.2])), "^lr: expected a number"),
        (lambda: group.update(lr=-1.0), "^lr: expected"),
    ):
        change()
        for call in (lambda: optimizer.step([np.ones(3)]), optimizer.state_dict):
            with pytest.raises((TypeError, ValueError), match=message):
                call()
        assert optimizer.t == 0
        assert np.array_equal(params[0], before)
        repr(optimizer)
        group.clear()
        group.update(good)
    with pytest.raises(AttributeError, match="append"):
        optimizer.groups.append({})
    with pytest.raises(AttributeError, match="append"):
        group["params"].append(np.ones(3))
    optimizer.step([np.ones(3)])


def test_the_value_with_which_sums_began():
    optimizer = optim.Adagrad(arrays((3,)), initial_accumulator_value=0.5)
    with pytest.raises(AttributeError, match=r"initial_accumulator_value: .*begun"):
        optimizer.initial_accumulator_value = 0.25
    optimizer.groups[0]["initial_accumulator_value"] = 0.25
    with pytest.raises(ValueError, match=r"initial_accumulator_value: .*begun"):
        optimizer.step([np.ones(3)])


# States -----------------------------------------------------------------------------------------


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_a_state_that_is_assigned_is_copied_into_place(rule, dtype):
    params = [np.ones((2, 3), "float32"), np.ones(4)]
    optimizer = rule.make(params)
    optimizer.step([np.ones((2, 3)), np.ones(4)])
    for state in optimizer.state:
        for name, live in state.items():
            values = (np.arange(live.size) % 2).reshape(live.shape[::-1]).T.astype(dtype)
            state[name] = values
            assert state[name] is live
            assert np.array_equal(live, values)
            assert np.array_equal(optimizer.state_dict()["state"]["params[0]"][name].shape, (2, 3))
            before = live.copy()
            for wrong in (np.zeros(1), 0.0, np.zeros(live.size + 1), live[..., None]):
                with pytest.raises(ValueError, match=f"^{name}: expected"):
                    state[name] = wrong
            for wrong in (np.zeros(live.shape, complex), "abc", None):
                with pytest.raises(TypeError, match=f"^{name}: expected"):
                    state[name] = wrong
            assert np.array_equal(live, before)


@every_rule
@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
def test_a_packed_state_takes_values_or_what_is_stored(rule, state_dtype):
    from fastnn.optim.storage import SCALE, unpack

    optimizer = rule.make([np.ones(600, "float32")], state_dtype=state_dtype)
    other = rule.make([np.ones(600, "float32")], state_dtype=state_dtype)
    (state,) = optimizer.state
    for name in [name for name in state if not name.endswith(SCALE)]:
        values = np.linspace(1, 2, 600) * 2.0 ** (np.arange(600) // 256 * 40 - 20)
        state[name] = values
        got = unpack(name, state[name], state.get(name + SCALE))
        np.testing.assert_allclose(got, values, rtol=2**-4)
        (theirs,) = other.state
        for key in (name, name + SCALE):
            if key in state:
                theirs[key] = state[key]
                assert np.array_equal(theirs[key], state[key])
        if state_dtype == "int8":
            before = state[name].copy()
            for wrong in (np.nan, np.inf):
                with pytest.raises(ValueError, match=f"^{name}: expected numbers"):
                    state[name] = np.full(600, wrong)
            assert np.array_equal(state[name], before)
    optimizer.step([np.ones(600)])


@every_rule
@every_storage
def test_states_cannot_be_removed_but_start_anew(rule, state_dtype):
    params, fresh = arrays((300,)), arrays((300,))
    optimizer = rule.make(params, state_dtype=state_dtype)
    for t in range(3):
        optimizer.step(gradients(t, (300,)))
    (state,) = optimizer.state
    name = next(iter(state))
    for remove in (
        state.clear, state.popitem, lambda: state.pop(name), lambda: state.__delitem__(name),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=r"reset_state\(\)"):
            remove()
    for change in (lambda: state.update(momentum=np.zeros(300)), lambda: optimizer.state.clear()):
        with pytest.raises(AttributeError):
            change()
    live = state[name]
    params[0][...] = fresh[0]
    optimizer.reset_state()
    assert optimizer.t == 0
    again = rule.make(fresh, state_dtype=state_dtype)
    for t in range(3):
        optimizer.step(gradients(t, (300,)))
        again.step(gradients(t, (300,)))
    assert state[name] is live
    assert same(params, fresh)
    for key in state:
        assert np.array_equal(state[key], again.state[0][key])


# Groups that come later -------------------------------------------------------------------------


@every_rule
@every_storage
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_group_that_is_added(rule, state_dtype, dtype):
    """The old arrays go on as before, the new ones as if the optimizer had begun with them."""
    params = [p.astype(dtype) for p in arrays((300,), (4, 5))]
    alone = [p.copy() for p in params]
    optimizer = rule.make(params[:1], state_dtype=state_dtype)
    first = rule.make(alone[:1], state_dtype=state_dtype)
    second = rule.make(alone[1:], lr=0.5, state_dtype=state_dtype)
    for t in range(2):
        optimizer.step(gradients(t, (300,)))
        first.step(gradients(t, (300,)))
    live = dict(optimizer.state[0])
    optimizer.add_param_group({"params": params[1], "lr": 0.5})
    second.t = 2
    assert len(optimizer.groups) == len(optimizer.state) == 2
    for t in range(2, 4):
        grads = gradients(t, (300,), (4, 5))
        optimizer.step(grads)
        first.step(grads[:1])
        second.step(grads[1:])
    assert all(optimizer.state[0][key] is array for key, array in live.items())
    assert np.array_equal(params[0], alone[0])
    if state_dtype is None:
        assert np.array_equal(params[1], alone[1])


def test_a_group_that_cannot_be_added():
    params = arrays((3,), (2,))
    optimizer = optim.Adam(params[:1])
    before = optimizer.groups
    for group, error, message in (
        ({"params": params[:1]}, ValueError, "memory"),
        ({"params": [None]}, TypeError, "array"),
        ({"params": params[1:], "speed": 1}, ValueError, "^group: .*speed"),
        ({"params": params[1:], "lr": -1}, ValueError, "^lr: "),
        (params[1:], TypeError, "^group: expected a dict"),
        ({"lr": 1}, TypeError, "^group: expected a dict with the key 'params'"),
    ):
        with pytest.raises(error, match=message):
            optimizer.add_param_group(group)
        assert optimizer.groups is before
        optimizer.step([np.ones(3)])


def test_a_value_for_all_groups_is_that_of_later_ones():
    params = arrays((3,), (2,))
    optimizer = optim.Adam(params[:1])
    optimizer.lr = 0.5
    optimizer.add_param_group({"params": params[1:]})
    assert optimizer.lr == 0.5


def test_trainers_notice_a_group_that_is_added():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 8, 3)).astype("f")
    found = []
    for later in (False, True):
        model = Sequential(Linear(3, 4), Linear(4, 3), rng=0)
        head, trunk = model[1].parameters(), model[0].parameters()
        optimizer = optim.SGD(head if later else [*head, *trunk], lr=0.1)
        trainer = Trainer(model, "mse", optimizer)
        if later:
            start = [p.data.copy() for p in trunk]
            trainer.step(x, y)
            assert same(start, [p.data for p in trunk])
            optimizer.add_param_group({"params": trunk})
            model.load_state_dict(Sequential(Linear(3, 4), Linear(4, 3), rng=0).state_dict())
        trainer.step(x, y)
        found.append([p.data for p in model.parameters()])
    assert same(*found)
    other = Linear(2, 2)
    with pytest.raises(ValueError, match="another model"):
        optimizer.add_param_group({"params": other.parameters()})
    assert len(optimizer.groups) == 2
    trainer.step(x, y)


# How they look ----------------------------------------------------------------------------------


@every_rule
def test_reprs_show_what_differs_from_the_defaults(rule):
    lr = {"lr": 0.1} if rule.optimizer in (optim.SGD, optim.NAG) else {}
    optimizer = rule.optimizer(arrays((3,), (2,)), **lr)
    assert repr(optimizer) == f"{rule}(2 arrays{', lr=0.1' if lr else ''})"
    optimizer.lr, optimizer.weight_decay, optimizer.clip_value = 0.5, 0.25, 2
    shown = f"{rule}(2 arrays, lr=0.5, weight_decay=0.25, clip_value=2.0)"
    assert repr(optimizer) == shown
    optimizer.add_param_group({"params": np.ones(4), "lr": 0.125})
    assert repr(optimizer) == shown.replace("lr=0.5", "lr=[0.5, 0.125]").replace("2 arr", "3 arr")


@every_rule
def test_signatures_are_short(rule):
    for function in (rule.optimizer, rule.optimizer.__init__):
        text = str(inspect.signature(function))
        assert len(text) <= 300
        assert "clip_value=None" in text
