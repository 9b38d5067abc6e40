"""Schedules: values, against PyTorch where it is installed, and bad arguments."""

import copy
import math
import pickle

import numpy as np
import pytest

from fastnn import schedules

ALL = [
    schedules.constant(0.1),
    schedules.exponential_decay(0.1, 0.01),
    schedules.inverse_time_decay(0.1, 0.01),
    schedules.step_decay(0.1, 0.5, 10),
    schedules.linear(0.1, 0.9, 50),
    schedules.polynomial_decay(0.1, 50, 0.01, 2),
    schedules.cosine_decay(0.1, 50, 0.01),
    schedules.cosine_cycles(0.1, 50, 3),
    schedules.warmup(schedules.cosine_decay(0.1, 50), 20),
    schedules.cyclic(0.01, 0.1, 7, 13),
    schedules.one_cycle(0.1, 60),
    schedules.piecewise_constant([10, 30], [0.1, 0.01, 0.001]),
]
every_schedule = pytest.mark.parametrize("schedule", ALL, ids=lambda s: repr(s).partition("(")[0])


@every_schedule
def test_values_depend_on_the_step_alone(schedule):
    forwards = [schedule(step) for step in range(100)]
    backwards = [schedule(step) for step in reversed(range(100))]
    assert backwards[::-1] == forwards
    assert all(type(value) is float for value in forwards)
    assert schedule(np.int64(17)) == schedule(17) == schedule(17.0)


@every_schedule
def test_pickles_compares_and_hashes_by_value(schedule):
    twin = pickle.loads(pickle.dumps(schedule))
    assert twin == schedule == copy.deepcopy(schedule)
    assert len({twin, schedule}) == 1
    assert [twin(step) for step in range(100)] == [schedule(step) for step in range(100)]
    assert sum(schedule == other for other in ALL) == 1
    with pytest.raises(AttributeError):
        schedule.arguments = ()


@every_schedule
def test_repr_makes_the_same_schedule(schedule):
    assert eval(repr(schedule), vars(schedules)) == schedule


@every_schedule
def test_long_runs_stay_finite(schedule):
    assert math.isfinite(schedule(10**9))


@every_schedule
@pytest.mark.parametrize("step", [-1, math.nan, math.inf])
def test_rejects_impossible_steps(schedule, step):
    with pytest.raises(ValueError, match="step: expected"):
        schedule(step)


def test_rejects_a_step_that_is_no_number():
    with pytest.raises(TypeError, match="step: expected a number"):
        schedules.constant(1.0)("3")


def test_formulas():
    assert schedules.exponential_decay(0.5, 0.1)(7) == pytest.approx(0.5 * math.exp(-0.7))
    assert schedules.inverse_time_decay(0.5, 0.1)(10) == 0.25
    assert schedules.polynomial_decay(1, 10, 0.2, 3)(5) == pytest.approx(0.2 + 0.8 / 8)
    assert schedules.cosine_decay(1, 10, 0.2)(5) == pytest.approx(0.6)
    cycles = schedules.cosine_cycles(3, 70, 3)
    for ends in (0, 10, 30, 70):  # each twice as long as the one before
        assert cycles(ends) == pytest.approx(0, abs=1e-12)
    assert cycles(10 * (2**1.5 - 1)) == pytest.approx(3)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (schedules.linear(0.3, 0.7, 9), 0.7),
        (schedules.polynomial_decay(0.3, 9, 0.1, 2), 0.1),
        (schedules.cosine_decay(0.3, 9, 0.1), 0.1),
        (schedules.one_cycle(0.5, 10, div_factor=5, final_div_factor=10), 0.01),
        (schedules.cosine_cycles(0.5, 9), 0),
    ],
)
def test_end_value_is_exact_and_held(schedule, end):
    assert schedule(9) == schedule(10) == schedule(1000) == pytest.approx(end, rel=1e-15)


def test_warmup_composes():
    inner = schedules.cosine_decay(0.1, 900)
    schedule = schedules.warmup(inner, 100)
    assert schedule(0) == 0
    assert schedule(25) == 0.025
    assert [schedule(100 + step) for step in range(950)] == [inner(step) for step in range(950)]
    twice = schedules.warmup(schedule, 10)
    assert twice(5) == 0
    assert twice(60) == 0.05
    assert schedules.warmup(inner, 0)(3) == inner(3)


def test_warmup_takes_any_callable_and_gives_it_integers():
    table = [0.5, 0.4, 0.3]
    schedule = schedules.warmup(lambda step: table[step], 2)
    assert [schedule(step) for step in range(5)] == [0.0, 0.25, 0.5, 0.4, 0.3]


def test_piecewise_constant_without_boundaries():
    assert schedules.piecewise_constant([], [0.3])(12) == 0.3


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("start", [0, 0.3, 1])
def test_one_cycle_of_few_steps(total, start):
    values = [schedules.one_cycle(1.0, total, start)(step) for step in range(total + 3)]
    assert all(0 < value <= 1 for value in values)
    assert values[total] == pytest.approx(4e-6)


def torch_values(scheduler, steps, lr=0.1, key="lr", **options):
    """Return what PyTorch's scheduler sets in its first steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0][key])
        optimizer.step()
        if len(values) < steps:
            scheduler.step()
    return values


CYCLE = {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7, "cycle_momentum": False}
TORCH = [
    (schedules.exponential_decay(0.1, -math.log(0.97)), "ExponentialLR", {"gamma": 0.97}),
    (schedules.step_decay(0.1, 0.3, 7), "StepLR", {"step_size": 7, "gamma": 0.3}),
    (
        schedules.linear(0.01, 0.05, 20),
        "LinearLR",
        {"start_factor": 0.1, "end_factor": 0.5, "total_iters": 20},
    ),
    (schedules.polynomial_decay(0.1, 20, power=2), "PolynomialLR", {"total_iters": 20, "power": 2}),
    (
        schedules.piecewise_constant([5, 9], [0.1, 0.01, 0.001]),
        "MultiStepLR",
        {"milestones": [5, 9], "gamma": 0.1},
    ),
    (schedules.cyclic(0.01, 0.1, 7), "CyclicLR", CYCLE),
    (schedules.cyclic(0.01, 0.1, 7, 3), "CyclicLR", CYCLE | {"step_size_down": 3}),
    (
        schedules.cyclic(0.01, 0.1, 7, mode="triangular2"),
        "CyclicLR",
        CYCLE | {"mode": "triangular2"},
    ),
    (
        schedules.cyclic(0.01, 0.1, 7, 4, "exp_range", 0.95),
        "CyclicLR",
        CYCLE | {"step_size_down": 4, "mode": "exp_range", "gamma": 0.95},
    ),
    (schedules.one_cycle(0.1, 40), "OneCycleLR", {"max_lr": 0.1, "total_steps": 40}),
    (
        schedules.one_cycle(0.1, 40, 0.45, 10, 100),
        "OneCycleLR",
        {"max_lr": 0.1, "total_steps": 40, "pct_start": 0.45, "div_factor": 10}
        | {"final_div_factor": 100, "anneal_strategy": "cos"},
    ),
]


@pytest.mark.parametrize(("schedule", "scheduler", "options"), TORCH)
def test_against_torch(schedule, scheduler, options):
    wanted = torch_values(scheduler, 40, **options)
    assert [schedule(step) for step in range(40)] == pytest.approx(wanted, rel=1e-9, abs=1e-15)


def test_cosine_decay_against_torch_until_it_ends():
    wanted = torch_values("CosineAnnealingLR", 21, T_max=20, eta_min=0.01)
    schedule = schedules.cosine_decay(0.1, 20, 0.01)
    assert [schedule(step) for step in range(21)] == pytest.approx(wanted, rel=1e-9)


def test_momentum_of_one_cycle_against_torch():
    wanted = torch_values("OneCycleLR", 40, key="momentum", max_lr=0.1, total_steps=40)
    schedule = schedules.one_cycle(0.85, 40, div_factor=0.85 / 0.95, final_div_factor=1)
    assert [schedule(step) for step in range(40)] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "arguments", "argument"),
    [
        ("constant", {"v": math.nan}, "v"),
        ("exponential_decay", {"initial": math.inf, "k": 0.1}, "initial"),
        ("exponential_decay", {"initial": 1, "k": -0.1}, "k"),
        ("inverse_time_decay", {"initial": 1, "k": math.nan}, "k"),
        ("step_decay", {"initial": 1, "factor": 1.5, "every": 3}, "factor"),
        ("step_decay", {"initial": 1, "factor": 0.5, "every": 0}, "every"),
        ("linear", {"start": 1, "end": math.nan, "steps": 3}, "end"),
        ("linear", {"start": 1, "end": 0, "steps": 0}, "steps"),
        ("polynomial_decay", {"initial": 1, "steps": 5, "power": -1}, "power"),
        ("cosine_decay", {"initial": 1, "steps": -5}, "steps"),
        ("cosine_cycles", {"peak": 1, "steps": 0}, "steps"),
        ("cosine_cycles", {"peak": 1, "steps": 5, "cycles": 0}, "cycles"),
        ("warmup", {"schedule": schedules.constant(1), "steps": -1}, "steps"),
        ("cyclic", {"base": 0, "peak": 1, "step_size_up": 0}, "step_size_up"),
        ("cyclic", {"base": 0, "peak": 1, "step_size_up": 2, "mode": "square"}, "mode"),
        ("cyclic", {"base": 0, "peak": 1, "step_size_up": 2, "gamma": 1.1}, "gamma"),
        ("one_cycle", {"peak": 1, "total_steps": 0}, "total_steps"),
        ("one_cycle", {"peak": 1, "total_steps": 9, "pct_start": 1.1}, "pct_start"),
        ("one_cycle", {"peak": 1, "total_steps": 9, "div_factor": 0}, "div_factor"),
        ("piecewise_constant", {"boundaries": [2, 2], "values": [1, 2, 3]}, "boundaries"),
        ("piecewise_constant", {"boundaries": [0], "values": [1, 2]}, "boundaries"),
        ("piecewise_constant", {"boundaries": [2], "values": [1, 2, 3]}, "values"),
    ],
)
def test_rejects_values_out_of_range(name, arguments, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected .* got "):
        getattr(schedules, name)(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "argument"),
    [
        ("constant", {"v": "0.1"}, "v"),
        ("constant", {"v": True}, "v"),
        ("linear", {"start": 1, "end": 0, "steps": 2.5}, "steps"),
        ("warmup", {"schedule": 0.1, "steps": 5}, "schedule"),
        ("piecewise_constant", {"boundaries": [1.5], "values": [1, 2]}, "boundaries"),
        ("piecewise_constant", {"boundaries": [1], "values": [1, None]}, "values"),
    ],
)
def test_rejects_wrong_types(name, arguments, argument):
    with pytest.raises(TypeError, match=rf"^{argument}: expected .* got "):
        getattr(schedules, name)(**arguments)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    ax = schedules.linear(0, 1, 10).plot(11)
    assert schedules.constant(0.5).plot(11, ax) is ax
    line, other = ax.lines
    assert list(line.get_ydata()) == [schedules.linear(0, 1, 10)(step) for step in range(11)]
    assert list(other.get_xdata()) == list(range(11))
    pyplot.close(ax.figure)


def test_plot_names_the_missing_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn-cpu\[plot\]"'):
        schedules.constant(1).plot(3)
