"""One row per optimizer: its states, twin and kernels, and the options that its tests take.

All tests of rules are parametrized from these rows: values beside the twin and PyTorch, rounding,
storage of states, refusals, saving, schedules, groups, clipping, threads and sparse rows.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastnn import optim, reference, schedules

LR, MU, EPS = 1e-3, 0.9, 1e-8  # where the rounding of updates is measured
STORED = ("bfloat16", "int8")
# These choose or fill states, which is how the twins see them.
OF_STATES = ("amsgrad", "centered", "initial_accumulator_value")
NOT_IN_PYTORCH = {"bias_correction", "eps_inside_sqrt", "eps_uncorrected", "lr_in_velocity"}

State = dict[str, np.ndarray]
Exact = Callable[[np.ndarray, State, State, int], Any]


@dataclass(frozen=True)
class Variant:
    """Options of a rule and the states that it has with them, in the twin's order.

    None stands for a state that it goes without.
    """

    states: tuple[str | None, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join(self.options)


@dataclass(frozen=True)
class Rule:
    """An optimizer and what its tests need to know.

    Attributes
    ----------
    optimizer : type
    twin : str
        Its step in :mod:`fastnn.reference.optim` and :mod:`fastnn.ops.optim`.
    kernels : tuple of str
        Those for states of the parameter's dtype; for the others their names go on.
    usual : dict
        Options with which it has every state that it can have.
    converges : dict
        Options with which 400 steps lead to the minimum of a small quadratic function.
    variants : tuple of Variant
        Each option at least once.
    exact : tuple of (dict, callable, float)
        Options, the update in double precision that they mean, and how many units in the last place
        of it an update may be away; see :mod:`test_optim_accuracy`.
    torch : str, optional
        PyTorch's name of the same rule.
    by_element : bool
        Whether an element's update depends on that element alone.
    """

    optimizer: type[optim.Optimizer]
    twin: str
    kernels: tuple[str, ...]
    usual: dict[str, Any]
    converges: dict[str, Any]
    variants: tuple[Variant, ...]
    exact: tuple[tuple[dict[str, Any], Exact, float], ...]
    torch: str | None = None
    by_element: bool = True

    def __str__(self) -> str:
        return self.optimizer.__name__

    def make(self, params: Any, **options: Any) -> optim.Optimizer:
        """The optimizer with its usual options and others."""
        return self.optimizer(params, **self.usual | options)

    @property
    def counts_steps(self) -> bool:
        """Whether the twin is told the number of the step."""
        return "step" in inspect.signature(getattr(reference.optim, self.twin)).parameters

    def twin_options(self, options: dict[str, Any], step: int) -> dict[str, Any]:
        """The twin's keywords for the optimizer's, at a step counted from 1."""
        found = {key: value for key, value in options.items() if key not in OF_STATES}
        if "betas" in found:
            found["beta1"], found["beta2"] = found.pop("betas")
        if "dampening" in found and step == 1:
            found["dampening"] = 0
        return found | ({"step": step} if self.counts_steps else {})


# The update u in x = x - u, in float64, from the gradient g, the states s as the kernel has stored
# them, and those before the step. A sum that may cancel comes with the size of its largest part.


def single(value: float) -> float:
    """A scalar as the kernels hold it."""
    return float(np.float32(value))


def adam(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    step, c2 = single(LR / (1 - 0.9**t)), single(1 / (1 - 0.999**t))
    return step * s["exp_avg"] / (np.sqrt(s["exp_avg_sq"] * c2) + single(EPS))


def lion(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    return single(LR) * np.sign(0.9 * before["exp_avg"] + 0.1 * g)


def lamb(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    c1, c2 = single(1 / (1 - 0.9**t)), single(1 / (1 - 0.999**t))
    return single(LR) * (s["exp_avg"] * c1 / (np.sqrt(s["exp_avg_sq"] * c2) + single(EPS)))


def rmsprop(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    return single(LR) * g / (np.sqrt(s["square_avg"]) + single(EPS))


def adagrad(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    return single(LR) * g / (np.sqrt(s["sum"]) + single(EPS))


def momentum(g: np.ndarray, s: State, before: State, t: int) -> np.ndarray:
    return single(LR) * s["momentum_buffer"]


def nesterov(g: np.ndarray, s: State, before: State, t: int) -> tuple[np.ndarray, np.ndarray]:
    terms = single(LR) * g, single(LR) * single(MU) * s["momentum_buffer"]
    return sum(terms), np.max(np.abs([*terms, sum(terms)]), axis=0)


def nag(g: np.ndarray, s: State, before: State, t: int) -> tuple[np.ndarray, np.ndarray]:
    terms = single(MU) * before["velocity"], -single(1 + MU) * s["velocity"]
    return sum(terms), np.max(np.abs([*terms, sum(terms)]), axis=0)


BUFFER, MOMENTS = ("momentum_buffer",), ("exp_avg", "exp_avg_sq")

RULES = (
    Rule(
        optim.SGD,
        "sgd_step",
        ("sgd_step",),
        torch="SGD",
        usual={"lr": 0.1, "momentum": 0.9},
        converges={"lr": 0.1, "momentum": 0.9},
        variants=(
            Variant((), {"lr": 0.1}),
            Variant((), {"lr": 0.1, "weight_decay": 0.2, "maximize": True}),
            Variant(BUFFER, {"lr": 0.1, "momentum": 0.9}),
            Variant(
                BUFFER, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}
            ),
            Variant(
                BUFFER, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
            ),
            Variant(BUFFER, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
            Variant((), {"lr": 0.1, "lr_in_velocity": True, "weight_decay": 0.1}),
            Variant(
                BUFFER,
                {"lr": 0.1, "momentum": 0.9, "lr_in_velocity": True, "weight_decay": 0.1},
            ),
            Variant(
                BUFFER,
                {"lr": 0.1, "momentum": 0.9, "lr_in_velocity": True, "nesterov": True,
                 "maximize": True},
            ),
        ),
        exact=(
            ({"momentum": MU}, momentum, 0.5),
            ({"momentum": MU, "nesterov": True}, nesterov, 2.0),
        ),
    ),
    Rule(
        optim.NAG,
        "nag_step",
        ("nag_step",),
        usual={"lr": 0.1},
        converges={"lr": 0.1},
        variants=(
            Variant(("velocity",), {"lr": 0.1}),
            Variant(("velocity",), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        ),
        exact=(({"momentum": MU}, nag, 2.0),),
    ),
    Rule(
        optim.Adagrad,
        "adagrad_step",
        ("adagrad_step",),
        torch="Adagrad",
        usual={"lr": 0.1, "initial_accumulator_value": 0.1},
        converges={"lr": 0.5},
        variants=(
            Variant(
                ("sum",),
                {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
            ),
            Variant(("sum",), {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
            Variant(("sum",), {"lr": 0.1, "lr_decay": 0.01}),
            Variant(("sum",), {"eps": 0.1, "eps_inside_sqrt": True}),
        ),
        exact=(({"eps": EPS}, adagrad, 2.0),),
    ),
    Rule(
        optim.RMSprop,
        "rmsprop_step",
        ("rmsprop_step",),
        torch="RMSprop",
        usual={"lr": 0.01, "momentum": 0.5, "centered": True},
        converges={"lr": 0.01},
        variants=(
            Variant(("square_avg",), {"lr": 0.1, "weight_decay": 0.1}),
            Variant(
                ("square_avg", "grad_avg"),
                {"centered": True, "alpha": 0.9, "eps": 0.1, "eps_inside_sqrt": True},
            ),
            Variant(
                ("square_avg", None, "momentum_buffer"), {"momentum": 0.9, "maximize": True}
            ),
            Variant(
                ("square_avg", "grad_avg", "momentum_buffer"),
                {"centered": True, "alpha": 0.5, "momentum": 0.5, "eps": 1e-3},
            ),
            Variant(
                ("square_avg", "grad_avg", "momentum_buffer"),
                {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
            ),
            Variant(
                ("square_avg", "grad_avg", "momentum_buffer"),
                {"lr": 0.01, "momentum": 0.5, "centered": True},
            ),
        ),
        exact=(
            ({"eps": EPS}, rmsprop, 2.0),
            ({"eps": EPS, "momentum": MU}, momentum, 0.5),
        ),
    ),
    Rule(
        optim.Adam,
        "adam_step",
        ("adam_step",),
        torch="Adam",
        usual={"lr": 0.01, "amsgrad": True},
        converges={"lr": 0.1},
        variants=(
            Variant(MOMENTS, {"lr": 0.1, "weight_decay": 0.1}),
            Variant((*MOMENTS, "max_exp_avg_sq"), {"lr": 0.1, "amsgrad": True, "maximize": True}),
            Variant(
                (*MOMENTS, "max_exp_avg_sq"),
                {"amsgrad": True, "betas": (0.8, 0.6), "maximize": True},
            ),
            Variant(MOMENTS, {"bias_correction": False, "eps": 0.1, "eps_inside_sqrt": True}),
            Variant(MOMENTS, {"lr": 0.1, "eps": 0.1, "eps_uncorrected": True}),
            Variant(MOMENTS, {"eps": 0.1, "eps_inside_sqrt": True, "eps_uncorrected": True}),
        ),
        exact=(({"eps": EPS}, adam, 2.0),),
    ),
    Rule(
        optim.AdamW,
        "adamw_step",
        ("adam_step",),
        torch="AdamW",
        usual={"lr": 0.01},
        converges={"lr": 0.1, "weight_decay": 1e-4},
        variants=(Variant(MOMENTS, {"lr": 0.1, "weight_decay": 0.3}),),
        exact=(({"eps": EPS}, adam, 2.0),),
    ),
    Rule(
        optim.Lion,
        "lion_step",
        ("lion_step",),
        usual={"lr": 0.002},
        converges={"lr": schedules.exponential_decay(0.1, 0.01)},
        variants=(
            Variant(("exp_avg",), {"lr": 0.1, "weight_decay": 0.3}),
            Variant(("exp_avg",), {"lr": 0.1, "betas": (0.8, 0.6), "maximize": True}),
        ),
        exact=(({}, lion, 0.0),),
    ),
    Rule(
        optim.LAMB,
        "lamb_step",
        ("lamb_moments", "lamb_finish"),
        usual={"lr": 0.01},
        converges={"lr": schedules.exponential_decay(0.1, 0.01)},
        variants=(
            Variant(MOMENTS, {"lr": 0.1, "weight_decay": 0.3}),
            Variant(
                MOMENTS,
                {"bias_correction": False, "eps_inside_sqrt": True, "eps": 0.01, "maximize": True},
            ),
        ),
        exact=(({"eps": EPS}, lamb, 2.5),),
        by_element=False,
    ),
)

VARIANTS = [(rule, variant) for rule in RULES for variant in rule.variants]
BESIDE_PYTORCH = [
    (rule, variant)
    for rule, variant in VARIANTS
    if rule.torch and not variant.options.keys() & NOT_IN_PYTORCH
]
EXACT = [(rule, *case) for rule in RULES for case in rule.exact]



def each(variants: list[tuple[Rule, Variant]]) -> pytest.MarkDecorator:
    """Run a test of `rule` and `variant` with each of these."""
    ids = [f"{rule}-{variant}" for rule, variant in variants]
    return pytest.mark.parametrize(("rule", "variant"), variants, ids=ids)


every_rule = pytest.mark.parametrize("rule", RULES, ids=str)
every_variant = each(VARIANTS)
every_storage = pytest.mark.parametrize("state_dtype", [None, *STORED])
