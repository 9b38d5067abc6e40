"""Bad calls of what takes a whole model: predictors, streams, files, derivatives and solvers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
import fastnn.prediction
from fastnn import analysis, optim, solvers

from ..trainer_cases import LABELS, X, Y, mlp
from .ops import array
from .table import (
    ABOVE_0,
    AT_LEAST_0,
    CHOICE,
    COUNT,
    NO_ARRAY,
    NONE,
    OUT,
    RNG,
    SWITCH,
    Bad,
    Good,
    Kind,
    Row,
    always,
    good,
    longer,
    masked,
    optional,
)  # fmt: skip
from .training import DATA, LOSS, MODEL, TARGETS, WEIGHTS

PATH = (
    Bad("None", always(None), TypeError, "a str or a path"),
    Bad("number", always(3), TypeError, "a str or a path"),
    Bad("list", always(["x"]), TypeError, "a str or a path"),
)
INPUT_SHAPE = (
    Bad("text", always("ab"), TypeError, "an integer|a tuple"),
    Bad("fractions", always((1.5,)), TypeError, "an integer"),
    Bad("-1", always((-1,)), ValueError, "an integer >= 0"),
    Bad("2**60", always((2**30, 2**30)), ValueError, r"2\*\*60"),
)
ROWS_OF_X = (
    *NO_ARRAY,
    *NONE,
    Bad("wider", lambda a: np.ones((len(a), 7)), ValueError, "features|shape|last axis"),
    Bad("scalar", always(1.0), ValueError, "."),
)
DATA_OF_X = tuple(bad for bad in DATA if bad.what != "flat")
ONE_BATCH = (*DATA_OF_X, Bad("flat", lambda a: a[:, 0], ValueError, "shape"))
LABELLED = tuple(bad for bad in TARGETS if bad.what not in ("longer", "text", "ragged"))


def fails(*_: Any) -> Any:
    raise ArithmeticError("callback: expected to come out")


def recurrent() -> fastnn.Layer:
    return fastnn.Sequential(fastnn.LSTM(6, 4), fastnn.Linear(4, 3), rng=0)


def calls() -> Iterator[Good]:
    yield good("Predictor", lambda: (fastnn.prediction.Predictor, {
        "model": mlp(), "input_shape": (6,)}), input_shape=INPUT_SHAPE)  # fmt: skip
    yield good("Predictor.__call__", lambda: (
        mlp().predictor(), {"x": X.astype(np.float32), "out": np.zeros((70, 3), np.float32)}),
        x=ROWS_OF_X, out=OUT)  # fmt: skip
    yield good("Layer.stream", lambda: (mlp().stream, {"batch": 2}), batch=COUNT)
    for name, model in (("recurrent", recurrent), ("plain", mlp)):

        def stream(model: Any = model) -> Any:
            stepped = model().stream(2)
            stepped(array(2, 6))
            return stepped, {"x": array(2, 6), "out": array(2, 3)}

        x = (*ROWS_OF_X, Bad("another batch", longer, ValueError, "2 sequences"))
        yield good(f"Stream.__call__, {name}", stream, x=x, out=OUT)
    yield good("fastnn.save", lambda: (fastnn.save, {
        "path": "model", "model": mlp(), "preprocessing": None}), path=PATH, model=MODEL,
        preprocessing=(Bad("text", always("a"), TypeError, "Statistics"),
                       Bad("pair", always((1, 2)), TypeError, "Statistics")))  # fmt: skip

    def saved() -> Any:
        fastnn.save("model", mlp())
        return fastnn.load, {"path": "model", "custom": {}}

    yield good("fastnn.load", saved, path=PATH, custom=(
        Bad("list", always([3]), TypeError, "a mapping"),
    ))  # fmt: skip
    yield good("fastnn.save_safetensors", lambda: (fastnn.save_safetensors, {
        "path": "x", "tensors": {"a": X}, "metadata": {"a": "b"}}), path=PATH,
        tensors=(Bad("list", always([X]), TypeError, "a mapping"),
                 Bad("None", always(None), TypeError, "a mapping"),
                 Bad("numbers as names", lambda _: {1: X}, TypeError, "names")),
        metadata=(Bad("list", always(["a"]), TypeError, "."),
                  Bad("of numbers", always({"a": 1}), TypeError, "strings")))  # fmt: skip

    def arrays() -> Any:
        fastnn.save_safetensors("x", {"a": X})
        return fastnn.load_safetensors, {"path": "x"}

    yield good("fastnn.load_safetensors", arrays, path=PATH)
    yield good("fastnn.export_c", lambda: (fastnn.export_c, {
        "model": mlp(), "path": "net.c", "loss": "mse", "name": "net", "input_shape": None,
        "optimizer": None}), model=MODEL, path=PATH, input_shape=INPUT_SHAPE,
        name=(Bad("no identifier", always("a b"), ValueError, "an identifier of C"),
              Bad("number", always(3), ValueError, "an identifier of C")),
        optimizer=(Bad("name", always("sgd"), TypeError, "a fastnn optimizer"),))  # fmt: skip
    yield from derivatives()
    yield from fitted()


def derivatives() -> Iterator[Good]:
    yield good("analysis.input_gradient", lambda: (analysis.input_gradient, {
        "model": mlp(), "x": X, "dy": Y}), model=MODEL, x=DATA_OF_X,
        dy=(*NO_ARRAY, *NONE, Bad("longer", longer, ValueError, "shape")))  # fmt: skip
    yield good("analysis.jacobian", lambda: (analysis.jacobian, {
        "model": mlp(), "x": X, "wrt": "input"}), model=MODEL, x=DATA_OF_X, wrt=CHOICE)  # fmt: skip
    yield good("analysis.hessian_vector_product", lambda: (analysis.hessian_vector_product, {
        "model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS,
        "v": np.ones(203)}), model=MODEL, loss=LOSS, x=ONE_BATCH,
        v=(*NO_ARRAY, *NONE, Bad("longer", longer, ValueError, "shape")))  # fmt: skip
    for name in ("dominant_eigenvalue", "suggest_lr"):

        def make(name: str = name) -> Any:
            return getattr(analysis, name), {
                "model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS, "iterations": 20,
                "tol": 1e-1, "epsilon": None, "rng": 0,
            }  # fmt: skip

        yield Good(f"analysis.{name}", make, {
            "model": MODEL, "loss": LOSS, "x": DATA, "y": LABELLED, "iterations": COUNT,
            "tol": AT_LEAST_0, "epsilon": optional(ABOVE_0), "rng": RNG,
        }, {"y": "labels"})  # fmt: skip
    yield Good("analysis.gradient_check", lambda: (analysis.gradient_check, {
        "model": mlp(), "loss": "cross_entropy", "x": X[:3], "y": LABELS[:3]}),
        {"model": MODEL, "loss": LOSS, "x": ONE_BATCH}, {})  # fmt: skip


def fitted() -> Iterator[Good]:
    weights = np.linspace(0.5, 1.5, len(X))
    penalty: dict[str, Kind] = {"l2": AT_LEAST_0, "l2_on": CHOICE, "sample_weight": WEIGHTS}
    yield Good("fastnn.objective", lambda: (fastnn.objective, {
        "model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS, "l2": 0.1,
        "l2_on": "weights", "sample_weight": weights}),
        {"model": MODEL, "loss": LOSS, "x": DATA, "y": LABELLED, **penalty},
        {"y": "labels"})  # fmt: skip
    yield good("Objective.__call__", lambda: (
        fastnn.objective(mlp(), "cross_entropy", X, LABELS), {"theta": np.zeros(203)}),
        theta=(*NO_ARRAY, *NONE, Bad("longer", longer, ValueError, "shape")))  # fmt: skip
    yield Good("solvers.lbfgs", lambda: (solvers.lbfgs, {
        "model": mlp(), "loss": "cross_entropy", "x": X, "y": LABELS, "l2": 0.1,
        "l2_on": "weights", "sample_weight": weights, "max_iter": 1, "tol": 0.0, "memory": 3}),
        {"model": MODEL, "loss": LOSS, "x": DATA, "y": LABELLED, "max_iter": COUNT,
         "tol": AT_LEAST_0, "memory": COUNT, **penalty},
        {"y": "labels"})  # fmt: skip
    yield Good("solvers.levenberg_marquardt", lambda: (solvers.levenberg_marquardt, {
        "model": mlp(), "x": X, "y": Y, "batch_size": 40, "damping": 1e-3, "bayesian": False,
        "max_iter": 1, "tol": 0.0}),
        {"model": MODEL, "x": ONE_BATCH, "y": (*NO_ARRAY, *NONE), "batch_size": optional(COUNT),
         "damping": ABOVE_0, "bayesian": SWITCH, "max_iter": COUNT, "tol": AT_LEAST_0},
        {"y": "target"})  # fmt: skip


# What is not one argument ----------------------------------------------------------------------


class InPython(fastnn.Layer):
    """Which kernels know nothing of."""

    def forward(self, x: Any, training: bool = False) -> Any:
        return x

    def backward(self, dy: Any, accumulate: bool = False) -> Any:
        return dy


def of_model(
    act: Callable[[fastnn.Layer], Any], model: Callable[[], fastnn.Layer] = mlp
) -> Callable[[], Any]:
    def make() -> Any:
        made = model()
        made.build()
        return lambda: act(made), [made]

    return make


def of_values(act: Callable[[fastnn.Layer], Any]) -> Callable[[], Any]:
    """Of which the first gradients may have been computed."""

    def make() -> Any:
        made = mlp()
        return lambda: act(made), [p.data for p in made.parameters()]

    return make


def of_stream(act: Callable[[Any], Any]) -> Callable[[], Any]:
    def make() -> Any:
        stream = recurrent().stream(2)
        stream(array(2, 6))
        return lambda: act(stream), [stream]

    return make


def dropped() -> fastnn.Layer:
    return mlp(dropout=0.5)


def wide() -> fastnn.Layer:
    return fastnn.Sequential(fastnn.Linear(6, 600), fastnn.Linear(600, 3), rng=0)


def assign(attribute: str, value: Any) -> Callable[[Any], None]:
    return lambda owner: setattr(owner, attribute, value)


BAD: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "address without a shape": (
        of_model(lambda m: m.predictor().address, fastnn.Tanh), ValueError, "input_shape: exp"),
    "address of a part in Python": (
        of_model(lambda m: m.predictor((6,)).address, InPython), TypeError, "model: expected"),
    "predictor of another shape": (
        of_model(lambda m: m.predictor((7,))), ValueError, r"layer 0 \(Linear\): x: expected 6"),
    "stream of two directions": (
        of_model(lambda m: m.stream(), lambda: fastnn.LSTM(2, 2, bidirectional=True)), ValueError,
        r"layer LSTM \(LSTM\): expected one that reads sequences forwards"),
    "stream.state = text": (of_stream(assign("state", "ab")), TypeError, "state: expected"),
    "stream.state = one array": (
        of_stream(assign("state", np.zeros((1, 2, 4)))), TypeError, "state: expected a pair"),
    "stream.state = another batch": (
        of_stream(assign("state", (np.zeros((1, 3, 4)), np.zeros((1, 3, 4))))), ValueError,
        "state: expected"),
    "stream.state = another size": (
        of_stream(assign("state", (np.zeros((1, 2, 5)), np.zeros((1, 2, 5))))), ValueError,
        "h: expected shape"),
    "stream.state = masked": (
        of_stream(assign("state", (masked(np.zeros((1, 2, 4))), np.zeros((1, 2, 4))))), TypeError,
        "h: expected an array without a mask"),
    "load of no file": (
        lambda: (lambda: fastnn.load("none"), []), FileNotFoundError, ".*none"),
    "load of a folder": (lambda: (lambda: fastnn.load("."), []), (OSError, ValueError), r".*\."),
    "load of text": (
        lambda: (lambda: (Path("t").write_text("no tensors"), fastnn.load("t")), []), ValueError,
        "t: expected"),
    "load of an empty file": (
        lambda: (lambda: (Path("t").touch(), fastnn.load("t")), []), ValueError,
        "t: expected"),
    "load of arrays alone": (
        lambda: (lambda: (fastnn.save_safetensors("t", {"a": X}), fastnn.load("t")), []),
        ValueError, "t: expected"),
    "save in no folder": (
        of_model(lambda m: fastnn.save("no/such/file", m)), FileNotFoundError, ".*no/such/file"),
    "save of objects": (
        lambda: (lambda: fastnn.save_safetensors("x", {"a": np.array([None])}), []), TypeError,
        "a: expected"),
    "save of complex numbers": (
        lambda: (lambda: fastnn.save_safetensors("x", {"a": np.ones(2, complex)}), []), TypeError,
        "a: expected"),
    "save of a masked array": (
        lambda: (lambda: fastnn.save_safetensors("x", {"a": masked(X)}), []), TypeError,
        "a: expected an array without a mask"),
    "export_c of a layer in Python": (
        of_model(lambda m: fastnn.export_c(m, "x", input_shape=(3,)), InPython), TypeError,
        "model: expected"),
    "export_c without a shape": (
        of_model(lambda m: fastnn.export_c(m, "x"), fastnn.Tanh), ValueError, "input_shape: exp"),
    "export_c of another model's optimizer": (
        of_model(lambda m: fastnn.export_c(
            m, "x", optimizer=optim.SGD(mlp().parameters(), 0.1))), ValueError,
        "optimizer: expected"),
    "export_c with a schedule": (
        of_model(lambda m: fastnn.export_c(
            m, "x", optimizer=optim.SGD(m.parameters(), lambda t: 0.1))), ValueError,
        "optimizer: expected|lr: expected"),
    "export_c in no folder": (
        of_model(lambda m: fastnn.export_c(m, "no/such/net.c")), FileNotFoundError, ".*no/such"),
    "lbfgs with dropout": (
        of_model(lambda m: solvers.lbfgs(m, "mse", X, Y), dropped), ValueError, "model: expected"),
    "lbfgs(callback that raises)": (
        of_model(lambda m: solvers.lbfgs(m, fails, X, Y, max_iter=2)), ArithmeticError, "callback"),
    "lbfgs of nan": (
        of_values(lambda m: solvers.lbfgs(m, "mse", X * np.nan, Y)), ValueError, ".*finite"),
    "levenberg_marquardt with dropout": (
        of_model(lambda m: solvers.levenberg_marquardt(m, X, Y), dropped), ValueError,
        "model: expected"),
    "levenberg_marquardt of a large model": (
        of_model(lambda m: solvers.levenberg_marquardt(m, X, Y), wide), ValueError, ".*lbfgs"),
    "levenberg_marquardt of nan": (
        of_values(lambda m: solvers.levenberg_marquardt(m, X * np.nan, Y)), ValueError, ".*finite"),
    "objective with dropout": (
        of_model(lambda m: fastnn.objective(m, "mse", X, Y), dropped), ValueError, "model: expec"),
    "input_gradient of indices": (
        of_model(lambda m: analysis.input_gradient(m, [0, 1], np.ones((2, 3))),
                 lambda: fastnn.Embedding(5, 3)), TypeError, ".*integers"),
    "jacobian of indices": (
        of_model(lambda m: analysis.jacobian(m, [0, 1]), lambda: fastnn.Embedding(5, 3)),
        TypeError, ".*integers"),
    "gradient_check without samples": (
        of_model(lambda m: analysis.gradient_check(m, "mse", X[:0], Y[:0])), ValueError, "x: exp"),
}  # fmt: skip

CALLS = list(calls())
ROWS = [Row(f"models: {name}", *rest) for name, rest in BAD.items()]
