"""Bad calls of schedules, initializers, preprocessing, plots, estimators, ONNX and the settings."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import distributed, initializers, plot, preprocessing, schedules
from fastnn.callbacks import Norms

from ..trainer_cases import LABELS, X, Y, mlp
from .models import INPUT_SHAPE, PATH
from .ops import array
from .table import (
    ABOVE_0,
    ANY_NUMBER,
    AT_LEAST_0,
    CHOICE,
    COUNT,
    DTYPE,
    FRACTION,
    NO_ARRAY,
    NONE,
    RNG,
    SWITCH,
    Bad,
    Good,
    Kind,
    Row,
    always,
    good,
    optional,
)  # fmt: skip

# Schedules: each argument, a good value and what it refuses ------------------------------------

CALLABLE = (
    Bad("None", always(None), TypeError, "a schedule"),
    Bad("number", always(0.1), TypeError, "a schedule"),
)
SCHEDULES: dict[str, dict[str, tuple[Any, Kind]]] = {
    "constant": {"v": (0.1, ANY_NUMBER)},
    "exponential_decay": {"initial": (0.1, ANY_NUMBER), "k": (0.1, AT_LEAST_0)},
    "inverse_time_decay": {"initial": (0.1, ANY_NUMBER), "k": (0.1, AT_LEAST_0)},
    "step_decay": {
        "initial": (0.1, ANY_NUMBER), "factor": (0.5, AT_LEAST_0), "every": (3, COUNT)
    },
    "linear": {"start": (0.1, ANY_NUMBER), "end": (0.0, ANY_NUMBER), "steps": (3, COUNT)},
    "polynomial_decay": {
        "initial": (0.1, ANY_NUMBER), "steps": (3, COUNT), "final": (0.0, ANY_NUMBER),
        "power": (1.0, AT_LEAST_0),
    },
    "cosine_decay": {
        "initial": (0.1, ANY_NUMBER), "steps": (3, COUNT), "final": (0.0, ANY_NUMBER)
    },
    "cosine_cycles": {"peak": (0.1, ANY_NUMBER), "steps": (3, COUNT), "cycles": (2, COUNT)},
    "warmup": {"schedule": (schedules.constant(0.1), CALLABLE),
               "steps": (3, tuple(bad for bad in COUNT if bad.what != "0"))},
    "cyclic": {
        "base": (0.1, ANY_NUMBER), "peak": (1.0, ANY_NUMBER), "step_size_up": (3, COUNT),
        "step_size_down": (3, optional(COUNT)), "mode": ("triangular", CHOICE),
        "gamma": (1.0, AT_LEAST_0),
    },
    "one_cycle": {
        "peak": (0.1, ANY_NUMBER), "total_steps": (9, COUNT), "pct_start": (0.3, FRACTION),
        "div_factor": (25, ABOVE_0), "final_div_factor": (1e4, ABOVE_0),
    },
}  # fmt: skip
# Initializers, which all take these
DRAWN: dict[str, tuple[Any, Kind]] = {
    "shape": ((2, 3), INPUT_SHAPE), "rng": (0, RNG), "dtype": ("float32", DTYPE)
}  # fmt: skip
OWN: dict[str, dict[str, tuple[Any, Kind]]] = {
    "normal": {"std": (0.1, AT_LEAST_0)}, "uniform": {"bound": (0.1, AT_LEAST_0)},
    "orthogonal": {"gain": (1.0, AT_LEAST_0)},
}  # fmt: skip
AXIS = (
    Bad("text", always("a"), TypeError, "an int"),
    Bad("2", always(2), ValueError, "an int"),
    Bad("-3", always(-3), ValueError, "an int"),
    Bad("1.5", always(1.5), TypeError, "an int"),
)
VALUES = (*NO_ARRAY, *NONE, Bad("empty", lambda a: a[:0], ValueError, "at least one"),
          Bad("nan", lambda a: a * np.nan, ValueError, "finite"),
          Bad("inf", lambda a: a + np.inf, ValueError, "finite"))  # fmt: skip


def by_name(
    module: Any, prefix: str, table: dict[str, dict[str, tuple[Any, Kind]]]
) -> Iterator[Good]:
    for name, arguments in table.items():

        def make(name: str = name, arguments: Any = arguments) -> Any:
            return getattr(module, name), {key: value for key, (value, _) in arguments.items()}

        kinds = {key: kind for key, (_, kind) in arguments.items()}
        yield good(f"{prefix}.{name}", make, **kinds)


def calls() -> Iterator[Good]:
    yield from by_name(schedules, "schedules", SCHEDULES)
    yield good("Schedule.__call__", lambda: (schedules.constant(0.1), {"step": 3}),
               step=AT_LEAST_0)  # fmt: skip
    drawn = {
        name: DRAWN | OWN.get(name, {}) for name in initializers.__all__ if name != "get"
    }
    yield from by_name(initializers, "initializers", drawn)
    yield Good("initializers.get", lambda: (initializers.get, {"init": "zeros"}),
               {"init": (*CHOICE[:1], Bad("None", always(None), TypeError, "."),
                         Bad("number", always(3), TypeError, "."))}, {})  # fmt: skip
    for name in ("center", "standardize", "rescale"):

        def prepared(name: str = name) -> Any:
            return getattr(preprocessing, name), {"x": array(3, 2), "axis": 0}

        yield good(f"preprocessing.{name}", prepared, x=VALUES, axis=AXIS)
    statistics = preprocessing.standardize(array(3, 2))[1]
    for name in ("apply", "invert"):
        if hasattr(statistics, name):

            def applied(name: str = name) -> Any:
                return getattr(statistics, name), {"x": array(3, 2)}

            yield good(f"Statistics.{name}", applied, x=(*NO_ARRAY, *NONE, WIDE))
    yield good(
        "preprocessing.continue_rows",
        lambda: (preprocessing.continue_rows,
                 {"sequence": array(12, 2), "batch_size": 2, "steps": 3}),
        # of any dtype: text and objects too
        sequence=(MASKED, Bad("short", lambda a: a[:1], ValueError, "at least")),
        batch_size=COUNT, steps=COUNT,
    )  # fmt: skip
    yield good("fastnn.set_num_threads", lambda: (fastnn.set_num_threads,
               {"n": fastnn.get_num_threads()}), n=(*COUNT, TOO_MANY))  # fmt: skip
    if importlib.util.find_spec("onnx"):
        yield from of_onnx()


MASKED = next(bad for bad in NO_ARRAY if bad.what == "masked")
WIDE = Bad("wider", lambda a: np.ones((len(a), 3)), ValueError, "shape")
TOO_MANY = Bad("2000", always(2000), ValueError, "from 1 to 1024")


def of_onnx() -> Iterator[Good]:
    import fastnn.onnx

    yield good(
        "onnx.export",
        lambda: (fastnn.onnx.export,
                 {"model": mlp(), "path": "x.onnx", "opset": 17, "dynamic_batch": True,
                  "input_shape": (6,), "lengths": False, "states": False}),
        model=(Bad("None", always(None), TypeError, "a fastnn layer"),
               Bad("class", always(fastnn.ReLU), TypeError, "a fastnn layer")),
        path=PATH, opset=(*COUNT, Bad("16", always(16), ValueError, "from 17")),
        dynamic_batch=SWITCH, lengths=SWITCH, states=SWITCH, input_shape=INPUT_SHAPE[:2],
    )  # fmt: skip

    def saved() -> Any:
        fastnn.onnx.export(mlp(), "x.onnx")
        return fastnn.onnx.load, {"path": "x.onnx"}

    yield good("onnx.load", saved, path=PATH)


# What is not one argument ----------------------------------------------------------------------


def fails(*_: Any) -> Any:
    raise ArithmeticError("from a function of the user's")


def plain(call: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: (call, [])


BAD: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "warmup(a schedule that raises)": (
        plain(lambda: schedules.warmup(fails, 2)(5)), ArithmeticError, "from a function"),
    "warmup(a schedule of text)": (
        plain(lambda: schedules.warmup(lambda t: "a", 2)(5)), TypeError, "schedule: expected"),
    "piecewise_constant(text in boundaries)": (
        plain(lambda: schedules.piecewise_constant(["a"], [1, 2])), TypeError,
        "boundaries: expected an integer"),
    "piecewise_constant(text)": (
        plain(lambda: schedules.piecewise_constant("ab", [1, 2, 3])), TypeError,
        "boundaries.*: expected"),
    "piecewise_constant(one value too few)": (
        plain(lambda: schedules.piecewise_constant([1, 2], [0.1, 0.2])), ValueError,
        "values: expected"),
    "piecewise_constant(not rising)": (
        plain(lambda: schedules.piecewise_constant([2, 1], [0.1, 0.2, 0.3])), ValueError,
        "boundaries: expected"),
    "piecewise_constant(values of text)": (
        plain(lambda: schedules.piecewise_constant([1], ["a", "b"])), TypeError,
        "values.*: expected"),
    "piecewise_constant(None)": (
        plain(lambda: schedules.piecewise_constant(None, [1])), TypeError, "boundaries: expected"),
    "one_cycle(pct_start=0 of one step)": (
        plain(lambda: schedules.constant(0.1)("a")), TypeError, "step: expected"),
    "a schedule assigned to": (
        plain(lambda: setattr(schedules.constant(0.1), "arguments", ())), AttributeError,
        "arguments: expected"),
    "an initializer of another shape": (
        plain(lambda: fastnn.Linear(2, 3, init=lambda shape, rng, dtype: np.ones(2)).build()),
        ValueError, "weight: expected initial values of shape"),
    "an initializer that raises": (
        plain(lambda: fastnn.Linear(2, 3, init=fails).build()), ArithmeticError, "from a functi"),
    "an initializer of text": (
        plain(lambda: fastnn.Linear(
            1, 1, init=lambda shape, rng, dtype: np.full(shape, "a")).build()),
        TypeError, "weight: expected"),
    "map_trainers(make that raises)": (
        plain(lambda: distributed.map_trainers(fails, [1])), ArithmeticError, "from a function"),
    "map_trainers(comm that is none)": (
        plain(lambda: distributed.map_trainers(fails, [1], comm=3)), (ImportError, TypeError),
        "comm: (needs|expected an) mpi4py"),
    "from_torch(layer)": (
        plain(lambda: fastnn.from_torch(mlp())), (ImportError, TypeError), ".*torch"),
    "to_torch(None)": (
        plain(lambda: fastnn.to_torch(None)), (ImportError, TypeError), "model: expected|.*torch"),
}  # fmt: skip


DRAWN_BADLY: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "activations('rellu')": (
        lambda: plot.activations(["rellu"]), ValueError, "names: .*did you mean 'relu'"),
    "activations(3)": (lambda: plot.activations(3), TypeError, "names: expected"),
    "optimizer_paths of none": (
        lambda: plot.optimizer_paths(lambda x, y: x * y, {}), ValueError, "paths: expected"),
    "optimizer_paths of one axis": (
        lambda: plot.optimizer_paths(lambda x, y: x * y, {"a": [1.0]}), ValueError,
        r"paths: expected shape \(points, 2\)"),
    "optimizer_paths of text": (
        lambda: plot.optimizer_paths(lambda x, y: x * y, {"a": "b"}), TypeError, "paths.*expected"),
    "optimizer_paths(list)": (
        lambda: plot.optimizer_paths(lambda x, y: x * y, [1.0]), TypeError, "paths: expected"),
    "learning_curves of nothing": (
        lambda: plot.learning_curves({}), ValueError, "history: expected at least one"),
    "learning_curves(None)": (
        lambda: plot.learning_curves(None), TypeError, "history: expected"),
    "computational_graph(None)": (
        lambda: plot.computational_graph(None), TypeError, "model: expected a fastnn layer"),
    "dead_fractions(None)": (
        lambda: plot.dead_fractions(None, X), TypeError, "model: expected a fastnn layer"),
    "dead_fractions(x=text)": (
        lambda: plot.dead_fractions(mlp(), "ab"), TypeError, "x: expected"),
    "dead_fractions(x of one axis)": (
        lambda: plot.dead_fractions(mlp(), X[:, 0]), ValueError, "x: expected"),
    "dead_units without any": (
        lambda: plot.dead_units(mlp(), X), ValueError, "model: expected at least one ReLU"),
    "schedule_values(steps=0)": (
        lambda: plot.schedule_values(schedules.constant(0.1), 0), ValueError, "steps: expected"),
    "schedule_values(schedule=3)": (
        lambda: plot.schedule_values(3, 4), TypeError, "schedule: expected"),
    "path_losses(paths={})": (
        lambda: plot.path_losses(lambda x, y: x * y, {}), ValueError, "paths: expected"),
    "path_losses(paths=[1.0])": (
        lambda: plot.path_losses(lambda x, y: x * y, [1.0]), TypeError, "paths: expected"),
    "optimizer_comparison({})": (
        lambda: plot.optimizer_comparison({}), ValueError, "surfaces: expected at least one"),
    "optimizer_comparison(3)": (
        lambda: plot.optimizer_comparison(3), TypeError, "surfaces: expected a mapping"),
    "optimizer_comparison without paths": (
        lambda: plot.optimizer_comparison({"a": {}}), ValueError, r"surfaces\['a'\]: expected"),
    "optimizer_animation(paths={})": (
        lambda: plot.optimizer_animation(lambda x, y: x * y, {}), ValueError, "paths: expected"),
    "optimizer_animation(frames=0)": (
        lambda: plot.optimizer_animation(lambda x, y: x * y, {"a": [(0, 1)]}, frames=0), ValueError,
        "frames: expected a positive"),
    "surface(paths of one axis)": (
        lambda: plot.surface(lambda x, y: x * y, (0, 1), (0, 1), {"a": [1.0]}), ValueError,
        "paths: expected"),
    "decision_boundary(model=None)": (
        lambda: plot.decision_boundary(None, X[:, :2], LABELS), TypeError, "model: expected"),
    "decision_boundary(x of six features)": (
        lambda: plot.decision_boundary(mlp(), X, LABELS), ValueError, "x: expected shape"),
    "layer_activations(model=None)": (
        lambda: plot.layer_activations(None, X), TypeError, "model: expected a fastnn layer"),
    "layer_gradients(model=None)": (
        lambda: plot.layer_gradients(None, "mse", X, Y), TypeError, "model: expected a fastnn"),
    "layer_gradients(an unknown loss)": (
        lambda: plot.layer_gradients(mlp(), "msee", X, LABELS), ValueError, "loss: expected"),
    "saturated_fractions(model=None)": (
        lambda: plot.saturated_fractions(None, X), TypeError, "model: expected a fastnn layer"),
    "saturated_units(model=None)": (
        lambda: plot.saturated_units(None, X), TypeError, "model: expected a fastnn layer"),
    "norms(None)": (
        lambda: plot.norms(None), TypeError, "record: expected a callback Norms"),
    "norms of no training": (
        lambda: plot.norms(Norms()), ValueError, "record: expected the norms of a training"),
}  # fmt: skip


def estimators() -> Iterator[Row]:
    """What scikit-learn checks is told in its words."""
    if not importlib.util.find_spec("sklearn"):
        return
    from fastnn import sklearn

    numbers = {
        "alpha": -1, "learning_rate_init": 0, "max_iter": 0, "tol": -1, "momentum": 2, "beta_1": 1,
        "beta_2": -0.1, "epsilon": 0, "n_iter_no_change": 0, "validation_fraction": 1,
        "batch_size": 0, "n_members": 0, "dropout": 1.5, "shuffle": "yes", "solver": "newton",
        "learning_rate": "fast", "random_state": "seed",
    }  # fmt: skip
    pairs = (
        (sklearn.MLPClassifier, LABELS), (sklearn.MLPRegressor, Y),
        (sklearn.LSTMClassifier, LABELS), (sklearn.LSTMRegressor, Y),
    )  # fmt: skip
    for kind, y in pairs:
        for name, bad in {**numbers, "hidden_layer_sizes": (-1,)}.items():

            def make(kind: Any = kind, y: Any = y, name: str = name, bad: Any = bad) -> Any:
                estimator = kind(**{name: bad})
                x = X.reshape(70, 3, 2) if "LSTM" in kind.__name__ else X
                return lambda: estimator.fit(x, y), [estimator, x, y]

            yield Row(f"{kind.__name__}({name}={bad!r})", make, (ValueError, TypeError),
                      f".*{name}")  # fmt: skip
    fits: dict[str, tuple[Any, Any, str]] = {
        "of nan": (X * np.nan, LABELS, "Input X contains NaN"),
        "of inf": (X + np.inf, LABELS, "Input X contains infinity"),
        "of one axis": (X[:, 0], LABELS, "Expected 2D array"),
        "of other lengths": (X, LABELS[:9], ".*inconsistent numbers of samples"),
        "of nothing": (X[:0], LABELS[:0], "Found array with 0 sample"),
    }
    for what, (x, y, message) in fits.items():

        def fitted(x: Any = x, y: Any = y) -> Any:
            estimator = sklearn.MLPClassifier(max_iter=1)
            return lambda: estimator.fit(x, y), [estimator, x, y]

        yield Row(f"MLPClassifier.fit {what}", fitted, ValueError, message)

    def predicted() -> Any:
        estimator = sklearn.MLPClassifier()
        return lambda: estimator.predict(X), [estimator, X]

    yield Row("MLPClassifier.predict before fit", predicted, ValueError, ".*not fitted")


CALLS = list(calls())
ROWS = [
    *(Row(f"around: {name}", *rest) for name, rest in BAD.items()),
    *(Row(f"plot.{name}", plain(call), *rest) for name, (call, *rest) in DRAWN_BADLY.items()),
    *estimators(),
]
