"""Bad calls of `fastnn.optim`: constructors, groups, steps, states, and `minimize`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import optim

from ..optimizers import RULES, Rule
from .ops import HYPER, array
from .table import (
    AT_LEAST_0,
    CHOICE,
    COUNT,
    FITTING,
    LIMIT,
    SWITCH,
    TRANSPOSED,
    WRITTEN,
    Bad,
    Good,
    Row,
    always,
    good,
    in_memory,
    masked,
    optional,
    overlapping,
    read_only,
)  # fmt: skip

BETAS = (
    Bad("one number", always(0.9), TypeError, "a pair of numbers"),
    Bad("text", always("ab"), TypeError, "a pair of numbers"),
    Bad("three", always((0.9, 0.9, 0.9)), TypeError, "a pair of numbers"),
    Bad("None", always(None), TypeError, "a pair of numbers"),
)
OF_ALL = {"clip_norm": (None, optional(LIMIT)), "clip_value": (None, optional(LIMIT)),
          "maximize": (False, SWITCH), "check_finite": (False, SWITCH),
          "state_dtype": (None, CHOICE)}  # fmt: skip
VALUES = HYPER | OF_ALL | {
    "betas": ((0.9, 0.99), BETAS), "initial_accumulator_value": (0.1, AT_LEAST_0),
    "amsgrad": (False, SWITCH), "centered": (False, SWITCH),
}  # fmt: skip
PARAMS = (
    Bad("None", always(None), TypeError, "a list of arrays"),
    Bad("array", always(np.ones(2)), TypeError, "a list of arrays"),
    Bad("number", always(3), TypeError, "a list of arrays"),
    Bad("empty", always([]), ValueError, "at least one array"),
)


def options_of(rule: Rule) -> list[str]:
    group = rule.optimizer([np.ones(1)], lr=0.1).groups[0]
    return [name for name in group if name != "params"]


class Params:
    """A constructor, with the first of its parameters by name."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __call__(self, **arguments: Any) -> optim.Optimizer:
        if "array" in arguments:
            arguments["params"] = [array(2), arguments.pop("array")]
        return self.rule.optimizer(**arguments)


class Step:
    """A step of an optimizer that has taken one, with the second gradient by name."""

    def __init__(self, rule: Rule, state_dtype: str | None) -> None:
        self.params = [array(2), array(3, 4)]
        self.optimizer = rule.make(self.params, state_dtype=state_dtype)
        self.optimizer.step([array(2), array(3, 4)])
        self.__self__ = self.optimizer

    def __call__(self, gradient: Any) -> None:
        self.optimizer.step([array(2), gradient])


class Set:
    """A hyper-parameter that is assigned, by its name."""

    def __init__(self, rule: Rule) -> None:
        self.optimizer = self.__self__ = rule.make([array(2)])
        self.optimizer.step([array(2)])

    def __call__(self, **value: Any) -> None:
        for name, given in value.items():
            setattr(self.optimizer, name, given)


class Group(Set):
    """The same in a group, which the next step reads."""

    def __call__(self, **value: Any) -> None:
        group = self.optimizer.groups[0]
        before = dict(group)
        group.update(value)
        try:
            self.optimizer.step([array(2)])
        finally:
            group.update(before)


def calls() -> Iterator[Good]:
    for rule in RULES:
        name, own = f"optim.{rule}", options_of(rule)
        values = {key: VALUES[key][0] for key in (*own, *OF_ALL)}
        kinds = {key: VALUES[key][1] for key in (*own, *OF_ALL)}

        def made(rule: Rule = rule, values: Any = values) -> Any:
            return Params(rule), {"params": [array(2)], **values}

        def over(rule: Rule = rule) -> Any:
            return Params(rule), {"array": array(3, 4), "lr": 0.1}

        yield good(name, made, params=PARAMS, **kinds)
        # a list is a list of arrays
        kind = tuple(bad for bad in (*WRITTEN, *TRANSPOSED) if bad.what != "list")
        yield Good(f"{name}, its array", over, {"array": kind},
                   {"array": "params[1]"})  # fmt: skip
        for state_dtype in (None, "bfloat16", "int8"):

            def step(rule: Rule = rule, state_dtype: str | None = state_dtype) -> Any:
                return Step(rule, state_dtype), {"gradient": array(3, 4)}

            kind = tuple(bad for bad in FITTING if bad.what != "None")  # None leaves it alone
            yield Good(f"{name}.step, {state_dtype or 'plain'} states", step, {"gradient": kind},
                       {"gradient": "gradient of params[1]"})  # fmt: skip
        settable = [key for key in own if key not in rule.optimizer._begun]
        for key in (*settable, "clip_norm", "clip_value", "maximize", "check_finite", "t"):
            value = VALUES[key][0] if key != "t" else 1
            kind = VALUES[key][1] if key != "t" else tuple(b for b in COUNT if b.what != "0")
            if key not in ("clip_norm", "clip_value", "maximize", "check_finite", "t"):
                # a list has one value for each group
                kind = tuple(bad for bad in kind if bad.what not in ("list", "three"))

                def group(rule: Rule = rule, key: str = key, value: Any = value) -> Any:
                    return Group(rule), {key: value}

                yield good(f"{name}.groups[0][{key!r}]", group, **{key: VALUES[key][1]})

            def assigned(rule: Rule = rule, key: str = key, value: Any = value) -> Any:
                return Set(rule), {key: value}

            yield good(f"{name}.{key}", assigned, **{key: kind})
    yield good(
        "optim.minimize",
        lambda: (optim.minimize, {"fun": bowl, "x0": array(3), "optimizer": "adam", "lr": 0.1,
                                  "max_iter": 2, "tol": 0.0}),
        optimizer=(*CHOICE[:1], Bad("number", always(3), TypeError, "a name or a class")),
        lr=optional(AT_LEAST_0), max_iter=COUNT, tol=AT_LEAST_0,
        x0=tuple(b for b in FITTING if b.what not in ("longer", "deeper", "wider", "dict", "huge")),
    )  # fmt: skip
    yield good(
        "optim.scipy_method", lambda: (optim.scipy_method, {"optimizer": "adam", "lr": 0.1}),
        optimizer=(*CHOICE[:1], Bad("number", always(3), TypeError, "a name or a class")),
        lr=optional(AT_LEAST_0),
    )  # fmt: skip


def bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
    return float(x @ x), 2 * x


# What is not one argument ----------------------------------------------------------------------


def adam(**options: Any) -> tuple[optim.Optimizer, list[np.ndarray]]:
    params = [in_memory(np.ones((3, 4))), in_memory(np.ones(5))]
    optimizer = optim.Adam(params, lr=0.1, **options)
    optimizer.step([np.ones((3, 4)), np.ones(5)])
    return optimizer, params


def step_with(grads: Callable[[Any, list[np.ndarray]], Any]) -> Callable[[], Any]:
    def make() -> Any:
        optimizer, params = adam()
        given = grads(optimizer, params)
        return lambda: optimizer.step(given), [optimizer, *params, given]

    return make


def changed(change: Callable[[list[np.ndarray]], None]) -> Callable[[], Any]:
    """A step after someone has changed the arrays of the parameters."""

    def make() -> Any:
        params = [np.ones((3, 4), np.float32), np.ones(5, np.float32)]
        optimizer = optim.Adam(params, lr=0.1)
        grads = [np.ones((3, 4)), np.ones(5)]
        optimizer.step(grads)
        change(params)
        return lambda: optimizer.step(grads), [*params, *grads]

    return make


def resize(params: list[np.ndarray]) -> None:
    params[1].resize((50,), refcheck=False)


def shrink(params: list[np.ndarray]) -> None:
    params[0].resize((2,), refcheck=False)


def reshape(params: list[np.ndarray]) -> None:
    params[0].resize((4, 3), refcheck=False)


def freeze(params: list[np.ndarray]) -> None:
    params[1].flags.writeable = False


def scheduled(schedule: Callable[[int], Any]) -> Callable[[], Any]:
    def make() -> Any:
        params = [array(3)]
        optimizer = optim.Adam(params, lr=lambda t: 0.1 if t == 0 else schedule(t))
        optimizer.step([np.ones(3)])
        return lambda: optimizer.step([np.ones(3)]), [*params, *optimizer.state[0].values()]

    return make


def fails(_: int) -> float:
    raise ArithmeticError("from the schedule")


def does(act: Callable[[optim.Optimizer], Any], **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        optimizer, params = adam(**options)
        return lambda: act(optimizer), [optimizer, *params]

    return make


def over(params: Callable[[np.ndarray], Any]) -> Callable[[], Any]:
    def make() -> Any:
        given = params(array(4))
        return lambda: optim.SGD(given, 0.1), given

    return make


def state_dict(change: Callable[[Any], Any]) -> Callable[[], Any]:
    def make() -> Any:
        optimizer, params = adam()
        saved = optimizer.state_dict()
        saved = change(saved) or saved
        return lambda: optimizer.load_state_dict(saved), [optimizer, *params]

    return make


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(saved: Any) -> None:
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


def of_layer(act: Callable[[fastnn.Layer, optim.Optimizer], Any]) -> Callable[[], Any]:
    def make() -> Any:
        layer = fastnn.Linear(3, 2, rng=0)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        return lambda: act(layer, optimizer), [layer, optimizer]

    return make


def minimized(fun: Callable[[Any], Any], callback: Any = None, x0: Any = None) -> Callable[[], Any]:
    def make() -> Any:
        start = array(3) if x0 is None else x0
        return lambda: optim.minimize(fun, start, lr=0.1, callback=callback, max_iter=3), [start]

    return make


def raises(*_: Any) -> Any:
    raise ArithmeticError("from fun")


def tie_away(layer: fastnn.Layer, optimizer: optim.Optimizer) -> None:
    other = fastnn.Linear(3, 2, rng=1)
    before = layer.weight
    layer.weight = other.weight
    try:
        optimizer.step([np.ones((2, 3)), np.ones(2)])
    finally:
        layer.weight = before


ONES = (np.ones((3, 4)), np.ones(5))
BAD: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("step()", does(lambda o: o.step()), TypeError, "grads: expected"),
    ("step(3)", does(lambda o: o.step(3)), TypeError, "grads: expected a list of arrays"),
    ("step(array)", does(lambda o: o.step(np.ones(5))), TypeError, "grads: expected a list"),
    ("step(one too few)", step_with(lambda o, p: ONES[:1]), ValueError, "grads: expected 2"),
    ("step(one too many)", step_with(lambda o, p: [*ONES, np.ones(1)]), ValueError,
     "grads: expected 2"),
    ("step(empty)", step_with(lambda o, p: []), ValueError, "grads: expected 2"),
    ("step(the parameter itself)", step_with(lambda o, p: [p[0], ONES[1]]), ValueError,
     r"gradient of params\[0\]: expected memory of its own"),
    ("step(overlaps a parameter)", step_with(lambda o, p: [ONES[0], overlapping(p[1])]),
     ValueError, r"gradient of params\[1\]: expected memory of its own"),
    ("step(a state)", step_with(lambda o, p: [o.state[0]["exp_avg"], ONES[1]]), ValueError,
     r"gradient of params\[0\]: expected memory of its own"),
    ("step(dict)", step_with(lambda o, p: {"a": ONES[0], "b": ONES[1]}), TypeError,
     "grads: expected"),
    ("step(nan, check_finite)",
     does(lambda o: o.step([ONES[0], np.full(5, np.nan)]), check_finite=True), ValueError,
     r"gradient of params\[1\]: expected finite"),
    ("resized", changed(resize), ValueError, r"params\[1\]: expected .*\(5,\).*\(50,\)"),
    ("shrunk", changed(shrink), ValueError, r"params\[0\]: expected .*\(3, 4\).*\(2,\)"),
    ("reshaped", changed(reshape), ValueError, r"params\[0\]: expected .*\(3, 4\).*\(4, 3\)"),
    ("read-only since", changed(freeze), ValueError, r"params\[1\]: expected a writable"),
    ("schedule that raises", scheduled(fails), ArithmeticError, "from the schedule"),
    ("schedule of nan", scheduled(lambda t: np.nan), ValueError, "lr: expected .*schedule at st"),
    ("schedule of None", scheduled(lambda t: None), TypeError, "lr: expected .*schedule at step 1"),
    ("schedule of text", scheduled(lambda t: "0.1"), TypeError, "lr: expected .*schedule at step"),
    ("schedule below 0", scheduled(lambda t: -1), ValueError, "lr: expected .*schedule at step 1"),
    ("schedule of an array", scheduled(lambda t: np.ones(2)), TypeError, "lr: expected .*schedule"),
    ("params twice", over(lambda a: [a, a]), ValueError,
     r"params\[1\]: expected memory of its own"),
    ("params that overlap", over(lambda a: [a, overlapping(a)]),
     ValueError, r"params\[1\]: expected memory of its own"),
    ("group without params", does(lambda o: o.add_param_group({"lr": 0.1})), TypeError,
     "group: expected a dict with the key 'params'"),
    ("group that is a list", does(lambda o: o.add_param_group([array(2)])), TypeError,
     "group: expected a dict"),
    ("group with an unknown key", does(lambda o: o.add_param_group({"params": [array(2)], "a": 1})),
     ValueError, "group: expected hyper-parameters among"),
    ("group of what is trained already",
     does(lambda o: o.add_param_group({"params": o.groups[0]["params"]})), ValueError,
     "params.*: expected memory of its own"),
    ("group of a read-only array",
     does(lambda o: o.add_param_group({"params": [read_only(array(2))]})), ValueError,
     r"params\[2\]: expected a writable"),
    ("group with a bad lr", does(lambda o: o.add_param_group({"params": [array(2)], "lr": -1})),
     ValueError, "lr: expected"),
    ("unknown attribute", does(lambda o: setattr(o, "learning_rate", 1)), AttributeError,
     "learning_rate: Adam has no such attribute"),
    ("groups assigned", does(lambda o: setattr(o, "groups", ())), AttributeError, "groups: cannot"),
    ("state assigned", does(lambda o: setattr(o, "state", ())), AttributeError, "state: cannot"),
    ("step assigned", does(lambda o: setattr(o, "step", None)), AttributeError, "step: cannot"),
    ("state_dtype assigned", does(lambda o: setattr(o, "state_dtype", "int8")), AttributeError,
     "state_dtype: "),
    ("lr of too many groups", does(lambda o: setattr(o, "lr", [0.1, 0.2])), ValueError,
     "lr: expected one value for all groups"),
    ("state of another shape",
     does(lambda o: o.state[0].__setitem__("exp_avg", np.ones(2))), ValueError, ".*expected"),
    ("state that is masked",
     does(lambda o: o.state[0].__setitem__("exp_avg", masked(np.ones((3, 4))))), TypeError,
     "exp_avg: expected an array without a mask"),
    ("state that it does not have",
     does(lambda o: o.state[0].__setitem__("momentum", np.ones((3, 4)))), AttributeError,
     r"state\['momentum'\]: expected one of its states"),
    ("state cleared", does(lambda o: o.state[0].clear()), (AttributeError, TypeError), ".*state"),
    ("state deleted", does(lambda o: o.state[0].pop("exp_avg")), (AttributeError, TypeError),
     ".*state"),
    ("load_state_dict(None)", state_dict(lambda s: [1]), (TypeError, ValueError),
     "state_dict: expected"),
    ("load_state_dict(missing)", state_dict(lambda s: {"t": 1}), ValueError,
     "state_dict: expected"),
    ("load_state_dict(another rule)", state_dict(put("optimizer", value="SGD")), ValueError,
     "state_dict: expected one saved by Adam"),
    ("load_state_dict(t=-1)", state_dict(put("t", value=-1)), ValueError,
     r"state_dict\['t'\]: expected"),
    ("load_state_dict(t=text)", state_dict(put("t", value="1")), ValueError,
     r"state_dict\['t'\]: expected"),
    ("load_state_dict(no groups)", state_dict(put("groups", value=[])), ValueError,
     r"state_dict\['groups'\]: expected"),
    ("load_state_dict(groups=None)", state_dict(put("groups", value=None)), ValueError,
     r"state_dict\['groups'\]: expected"),
    ("load_state_dict(bad lr)", state_dict(put("groups", 0, "lr", value="a")), TypeError,
     "lr: expected"),
    ("load_state_dict(other names)", state_dict(put("groups", 0, "params", value=["a", "b"])),
     ValueError, r"state_dict\['groups'\]\[0\]: expected the parameters"),
    ("load_state_dict(no state)", state_dict(put("state", value={})), ValueError,
     r"state_dict\['state'\]: expected"),
    ("load_state_dict(shape)",
     state_dict(lambda s: put("state", "params[1]", "exp_avg", value=np.ones(4))(s)), ValueError,
     r"state_dict\['state'\]\['params\[1\]'\]\['exp_avg'\]: expected"),
    ("load_state_dict(dtype)",
     state_dict(lambda s: put("state", "params[1]", "exp_avg", value=np.ones(5))(s)), ValueError,
     r"state_dict\['state'\]\['params\[1\]'\]\['exp_avg'\]: expected"),
    ("step before backward", of_layer(lambda layer, o: o.step()), RuntimeError, ".*gradient"),
    ("a parameter that was replaced", of_layer(tie_away), (RuntimeError, ValueError), ".*weight"),
    ("minimize(fun that raises)", minimized(raises), ArithmeticError, "from fun"),
    ("minimize(callback that raises)", minimized(bowl, raises), ArithmeticError, "from fun"),
    ("minimize(fun without gradient)", minimized(lambda x: 1.0), TypeError, "fun: expected"),
    ("minimize(gradient of another shape)", minimized(lambda x: (1.0, np.ones(2))), ValueError,
     ".*expected"),
    ("minimize(value that is no number)", minimized(lambda x: ("a", 2 * x)), TypeError,
     "fun: expected"),
    ("minimize(x0 empty)", minimized(bowl, x0={}), ValueError, "x0: expected|params: expected"),
    ("minimize(unknown option)",
     lambda: (lambda: optim.minimize(bowl, [1.0], momentun=0.9), []), (TypeError, ValueError),
     ".*momentun"),
    ("nesterov without momentum", lambda: (lambda: optim.SGD([array(2)], 0.1, nesterov=True), []),
     ValueError, "nesterov: expected"),
]  # fmt: skip

CALLS = list(calls())
ROWS = [Row(f"optim: {name}", make, error, message) for name, make, error, message in BAD]
