"""Arrays in dicts and nested lists: gradients are matched by key, names come from keys."""

import numpy as np
import pytest

from fastnn import Linear, optim

from .optimizers import every_rule


def tree():
    rng = np.random.default_rng(0)
    w, b, c = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=4)
    return {"layer": {"w": w, "b": b}, "rest": [c, (c[:2] + 1, c[:1] + 2)]}


def leaves(nested):
    return [
        nested["layer"]["w"], nested["layer"]["b"], nested["rest"][0], *nested["rest"][1],
    ]  # fmt: skip


@every_rule
def test_nested_parameters_are_a_list_of_them(rule):
    nested, flat = tree(), leaves(tree())
    one, other = rule.make(nested), rule.make(flat)
    for t in range(3):
        grads = [np.full_like(a, t + 1.0) for a in flat]
        w, b, *c = grads
        one.step({"rest": (c[0], [c[1], c[2]]), "layer": {"b": b, "w": w}})  # another order
        other.step(grads)
    for a, b in zip(leaves(nested), flat, strict=True):
        assert np.array_equal(a, b)
    names = ["layer.w", "layer.b", "rest[0]", "rest[1][0]", "rest[1][1]"]
    assert list(one.state_dict()["state"]) == names
    one.load_state_dict(one.state_dict())


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"w": np.ones(2), "b": np.ones(1)}, ["w", "b"]),
        ([{"w": np.ones(2)}, {"w": np.ones(1)}], ["params[0].w", "params[1].w"]),
        ([np.ones(2), (np.ones(1),)], ["params[0]", "params[1][0]"]),
        ({0: np.ones(2)}, ["0"]),
        (iter([np.ones(2), np.ones(1)]), ["params[0]", "params[1]"]),
        ({"w": np.ones(2)}.values(), ["params[0]"]),
        ([{"params": {"w": np.ones(2)}}, {"params": {"w": np.ones(1)}}], ["w", "params[1] (w)"]),
        ({"l": Linear(1, 2, rng=0).parameters(), "h": np.ones(1)}, ["weight", "bias", "h"]),
    ],
)
def test_names(params, names):
    assert list(optim.Adam(params).state_dict()["state"]) == names


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ({"layer": {"w": 1}}, ValueError, r"^grads: expected the keys 'layer', 'rest', .*'layer'$"),
        ({"layer": {"w": 1}, "rest": [1, None]}, ValueError, r"^grads\['layer'\]: .*'w', 'b'"),
        ({"layer": [1, 2], "rest": None}, TypeError, r"^grads\['layer'\]: expected a dict"),
        ({"layer": None, "rest": [1]}, ValueError, r"^grads\['rest'\]: expected 2 members"),
        ({"layer": None, "rest": {0: 1}}, TypeError, r"^grads\['rest'\]: expected a list"),
        ({"layer": None, "rest": None, "more": 1}, ValueError, "'more'"),
        ([1, 2], TypeError, "^grads: expected a dict"),
        ({"layer": {"w": np.ones(2), "b": None}, "rest": None}, ValueError, "layer.w: .*shape"),
        (None, TypeError, "layer.w has no gradient of its own"),
    ],
)
def test_gradients_that_do_not_match(grads, error, message):
    nested = tree()
    before = [a.copy() for a in leaves(nested)]
    optimizer = optim.Adam(nested)
    with pytest.raises(error, match=message):
        optimizer.step(grads)
    assert optimizer.t == 0
    assert all(np.array_equal(a, b) for a, b in zip(leaves(nested), before, strict=True))


def test_a_dict_for_a_list_of_parameters():
    with pytest.raises(TypeError, match=r"^grads: expected a list of arrays, got dict"):
        optim.Adam([np.ones(1)]).step({"w": np.ones(1)})


@every_rule
def test_groups_of_nested_parameters(rule):
    params = [{"w": np.ones(2)}, [np.ones(3), np.ones(1)]]
    optimizer = rule.make([{"params": params[0]}, {"params": params[1], "lr": 0.0}])
    optimizer.step([{"w": np.ones(2)}, [np.ones(3), None]])
    assert (params[0]["w"] != 1).all()
    assert (params[1][0] == 1).all()
    optimizer = rule.make({"w": np.ones(2)})
    optimizer.add_param_group({"params": {"b": np.ones(1)}})
    optimizer.step([{"w": np.ones(2)}, {"b": np.ones(1)}])


@every_rule
def test_a_gradient_that_is_none_leaves_its_array_alone(rule):
    """And a whole branch of them: neither decay nor momentum moves it, its states stay."""
    hyper = {"weight_decay": 0.1}
    nested = tree()
    optimizer = rule.make(nested, **hyper)
    ones = {"layer": {k: np.ones_like(v) for k, v in nested["layer"].items()}}
    full = {**ones, "rest": [np.ones(4), [np.ones(2), np.ones(1)]]}
    optimizer.step(full)
    before = [a.copy() for a in leaves(nested)]
    states = [{k: v.copy() for k, v in s.items()} for s in optimizer.state]
    optimizer.step({**ones, "rest": None})
    for i, (a, b) in enumerate(zip(leaves(nested), before, strict=True)):
        assert np.array_equal(a, b) == (i >= 2)
        for key, values in optimizer.state[i].items():
            assert np.array_equal(values, states[i][key]) == (i >= 2)
