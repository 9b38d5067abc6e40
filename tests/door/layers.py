"""Bad calls of layers and containers: made, run, assigned to, and in the wrong order."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn

from .ops import array
from .table import (
    ABOVE_0,
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
    longer,
    masked,
    wider,
)  # fmt: skip

ANY_LAYER = {"dtype": ("float64", DTYPE), "rng": (0, RNG)}
# by constructor: each argument, a good value and what it refuses
MADE: dict[str, dict[str, tuple[Any, Kind]]] = {
    "Linear": {
        "in_features": (3, COUNT), "out_features": (2, COUNT), "bias": (True, SWITCH),
        "init": ("zeros", CHOICE[:1]),
    },
    "LeakyReLU": {"negative_slope": (0.1, AT_LEAST_0)},
    "ELU": {"alpha": (1.0, AT_LEAST_0)},
    "Softplus": {"beta": (1.0, ABOVE_0)},
    "GELU": {"approximate": ("none", CHOICE)},
    "Scale": {"num_features": (3, COUNT)},
    "LayerNorm": {
        "normalized_shape": (3, COUNT), "eps": (1e-5, ABOVE_0),
        "elementwise_affine": (True, SWITCH),
    },
    "BatchNorm1d": {
        "num_features": (3, COUNT), "eps": (1e-5, ABOVE_0), "momentum": (0.1, FRACTION),
        "affine": (True, SWITCH),
    },
    "Dropout": {"p": (0.5, FRACTION)},
    "LSTM": {
        "input_size": (3, COUNT), "hidden_size": (4, COUNT), "num_layers": (1, COUNT),
        "bidirectional": (False, SWITCH), "dropout": (0.0, FRACTION),
        "return_sequences": (True, SWITCH),
    },
    "Embedding": {
        "num_embeddings": (5, COUNT), "embedding_dim": (2, COUNT), "sparse": (False, SWITCH)
    },
    **{key: {} for key in ("ReLU", "SELU", "Mish", "Sigmoid", "Tanh", "SiLU", "Softmax",
                           "LogSoftmax", "Flatten")},
}  # fmt: skip
# a list of sizes is a shape
MADE["LayerNorm"]["normalized_shape"] = (
    3, tuple(bad for bad in COUNT if bad.what not in ("list", "array"))
)  # fmt: skip


def constructors() -> Iterator[Good]:
    for name, arguments in MADE.items():
        arguments = arguments | ANY_LAYER

        def make(name: str = name, arguments: Any = arguments) -> Any:
            return getattr(fastnn, name), {key: value for key, (value, _) in arguments.items()}

        yield good(f"fastnn.{name}", make, **{key: kind for key, (_, kind) in arguments.items()})


# Running ---------------------------------------------------------------------------------------

RUN: dict[str, tuple[Callable[[], fastnn.Layer], tuple[int, ...]]] = {
    "Linear": (lambda: fastnn.Linear(3, 2, rng=0), (4, 3)),
    "Scale": (lambda: fastnn.Scale(3, rng=0), (4, 3)),
    "LayerNorm": (lambda: fastnn.LayerNorm(3, rng=0), (4, 3)),
    "BatchNorm1d": (lambda: fastnn.BatchNorm1d(3, rng=0), (4, 3)),
    "LSTM": (lambda: fastnn.LSTM(3, 2, rng=0), (4, 5, 3)),
    "Sequential": (lambda: fastnn.Sequential(fastnn.Linear(3, 2), fastnn.Dropout(), rng=0), (4, 3)),
    "Residual": (lambda: fastnn.Residual(fastnn.Linear(3, 3), rng=0), (4, 3)),
    "Concat": (lambda: fastnn.Concat(fastnn.Linear(3, 2), fastnn.Tanh(), rng=0), (4, 3)),
}
X = (*NO_ARRAY, *NONE, Bad("wider", wider, ValueError, "."), Bad("0-d", always(1.0), ValueError))


def trained(name: str) -> tuple[fastnn.Layer, np.ndarray]:
    """A layer after a training forward pass, and its output."""
    make, shape = RUN[name]
    layer = make()
    return layer, layer.forward(array(*shape), training=True)


def runs() -> Iterator[Good]:
    for name, (make, shape) in RUN.items():

        def forward(make: Any = make, shape: Any = shape) -> Any:
            return make().forward, {"x": array(*shape)}

        def backward(name: str = name) -> Any:
            layer, y = trained(name)
            return layer.backward, {"dy": y.copy()}

        yield good(f"{name}.forward", forward, x=X)
        dy = (*X, Bad("another batch", longer, ValueError, "shape"))
        yield good(f"{name}.backward", backward, dy=dy)
    states = (2, 4, 2)

    def sequences() -> Any:
        layer = fastnn.LSTM(3, 2, 2, rng=0)
        return layer.forward, {
            "x": array(4, 5, 3), "h0": array(*states), "c0": array(*states),
            "lengths": np.array([5, 0, 2, 3]),
        }  # fmt: skip

    def back() -> Any:
        layer = fastnn.LSTM(3, 2, 2, rng=0)
        dy = layer.forward(array(4, 5, 3), training=True)
        return layer.backward, {"dy": dy, "dh_n": array(*states), "dc_n": array(*states)}

    state = (*NO_ARRAY, Bad("another batch", lambda a: a[:, :3], ValueError, "shape"))
    lengths = (
        *NO_ARRAY,
        Bad("fractions", lambda a: a + 0.5, TypeError, "integers"),
        Bad("-1", always([5, -1, 2, 3]), ValueError, "from 0 to 5"),
        Bad("6", always([5, 6, 2, 3]), ValueError, "from 0 to 5"),
        Bad("another batch", longer, ValueError, "shape"),
    )
    yield good("LSTM.forward with states", sequences, h0=state, c0=state, lengths=lengths)
    yield good("LSTM.backward with states", back, dh_n=state, dc_n=state)


# Assigning -------------------------------------------------------------------------------------

VALUES = (
    *NO_ARRAY,
    Bad("longer", longer, ValueError, "shape"),
    Bad("one number", always(1.0), ValueError, "shape"),
)


def assignments() -> Iterator[Good]:
    for what in ("data", "grad"):
        for entry in ("weight", "bias"):

            def make(what: str = what, entry: str = entry) -> Any:
                layer = fastnn.Linear(3, 2, rng=0)
                parameter = getattr(layer, entry)
                return Assign(layer, parameter, what).to, {entry: parameter.data.copy()}

            kind = VALUES if what == "grad" else (*VALUES, *NONE)
            yield renamed(f"Parameter.{what} of {entry}", make, entry, f"{entry}.{what}", kind)

    def statistics() -> Any:
        layer = fastnn.BatchNorm1d(3, rng=0)
        return Assign(layer, layer, "running_var").to, {"running_var": array(3)}

    yield renamed("BatchNorm1d.running_var", statistics, "running_var", "running_var.data", VALUES)

    def flat() -> Any:
        layer = fastnn.Linear(3, 2, rng=0)
        return layer.set_flat, {"theta": array(8)}

    yield good("Layer.set_flat", flat, theta=(*VALUES, *NONE))

    def loaded() -> Any:
        layer = fastnn.Linear(3, 2, rng=0)
        return (
            lambda weight: layer.load_state_dict({"bias": [9, 9], "weight": weight})
        ), {"weight": array(2, 3)}  # fmt: skip

    yield good("Layer.load_state_dict", loaded, weight=(*VALUES, *NONE))
    for name, arguments in MADE.items():
        for argument, (value, kind) in arguments.items():
            if argument in OPTIONS_OF.get(name, ()):

                def option(name: str = name, argument: str = argument, value: Any = value) -> Any:
                    values = {key: v for key, (v, _) in MADE[name].items()}
                    layer = getattr(fastnn, name)(**values)
                    return Assign(layer, layer, argument).to, {argument: value}

                yield renamed(f"{name}.{argument}", option, argument, argument, kind)


# those that take effect when they are assigned
OPTIONS_OF = {
    "Dropout": ("p",), "LeakyReLU": ("negative_slope",), "ELU": ("alpha",), "Softplus": ("beta",),
    "GELU": ("approximate",), "LayerNorm": ("eps",), "BatchNorm1d": ("eps", "momentum"),
    "LSTM": ("dropout",),
}  # fmt: skip


class Assign:
    """An assignment as a call: `to` takes the value by any name."""

    def __init__(self, layer: fastnn.Layer, owner: Any, attribute: str) -> None:
        self.layer, self.owner, self.attribute = layer, owner, attribute

    def to(self, **value: Any) -> None:
        (given,) = value.values()
        setattr(self.owner, self.attribute, given)


def renamed(name: str, make: Any, argument: str, called: str, kind: Kind) -> Good:
    return Good(name, make, {argument: kind}, {argument: called})


# Order, structure and layers in Python ---------------------------------------------------------


def wrong(name: str, make: Callable[[], Any], error: Any, message: str) -> Row:
    return Row(name, make, error, message)


def linear() -> fastnn.Layer:
    layer = fastnn.Linear(3, 2, rng=0)
    layer.build()
    return layer


def twice() -> Any:
    layer, y = trained("Linear")
    layer.backward(y)
    return lambda: layer.backward(y), [layer, y]


def after_inference() -> Any:
    layer = linear()
    y = layer(array(4, 3))
    return lambda: layer.backward(y), [layer, y]


def another_batch() -> Any:
    layer, y = trained("LSTM")
    return lambda: layer.backward(np.concatenate([y, y])), [layer]


def reshaped() -> Any:
    """A batch that is resized between forward and backward."""
    layer = fastnn.Sequential(fastnn.Linear(3, 2), rng=0)
    dy = layer.forward(array(4, 3), training=True).copy()
    dy.resize((2, 2), refcheck=False)
    return lambda: layer.backward(dy), [layer]


def one_row() -> Any:
    layer = fastnn.BatchNorm1d(3, rng=0)
    layer.build()
    return lambda: layer.forward(array(1, 3), training=True), [layer]


class Raises(fastnn.Layer):
    """A layer in Python that fails, forward or backward."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Any, training: bool = False) -> Any:
        if self.where == "forward":
            raise ArithmeticError("from forward")
        return {"text": "ab", "shape": x[:1], "masked": masked(x)}.get(self.where, x)

    def backward(self, dy: Any, accumulate: bool = False) -> Any:
        if self.where == "backward":
            raise ArithmeticError("from backward")
        return {"dx": dy[:, :1], "None": None}.get(self.where, dy)


def in_python(where: str, training: bool = False) -> Callable[[], Any]:
    def make() -> Any:
        model = fastnn.Sequential(fastnn.Linear(3, 2), Raises(where), rng=0)
        model.build()
        if not training:
            return lambda: model(array(4, 3)), [model]
        dy = model.forward(array(4, 3), training=True)
        return lambda: model.backward(dy), [model]

    return make


def fixed(make: Callable[[], fastnn.Layer], attribute: str, value: Any) -> Callable[[], Any]:
    def given() -> Any:
        layer = make()
        layer.build()
        return lambda: setattr(layer, attribute, value), [layer]

    return given


def tied(other: Callable[[], fastnn.Layer]) -> Callable[[], Any]:
    def given() -> Any:
        layer, source = linear(), other()
        source.build()
        return lambda: setattr(layer, "weight", source.weight), [layer, source]

    return given


def inside_itself() -> Any:
    inner = fastnn.Sequential(fastnn.ReLU())
    outer = fastnn.Sequential(inner, fastnn.Linear(2, 2, rng=0))
    return lambda: setattr(inner, "layers", [outer]), [outer]


def of_two_names() -> Any:
    model = fastnn.Sequential(*(fastnn.Linear(2, 2, bias=False) for _ in range(2)), rng=0)
    model[1].weight = model[0].weight
    model.parameters()
    given = {"0.weight": array(2, 2), "1.weight": array(2, 2) + 1}
    return lambda: model.load_state_dict(given), [model]


def state_dict(mapping: Any) -> Callable[[], Any]:
    def make() -> Any:
        layer = linear()
        return lambda: layer.load_state_dict(mapping), [layer]

    return make


def method(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        layer = linear()
        return lambda: getattr(layer, name)(*arguments, **options), [layer]

    return make


WEIGHT = np.ones((2, 3), np.float32)
ROWS = [
    wrong("backward before forward", method("backward", np.ones((4, 2))), RuntimeError,
          r"backward: expected a forward\(x, training=True\)"),
    wrong("backward twice", twice, RuntimeError, r"backward: expected a forward"),
    wrong("backward after inference", after_inference, RuntimeError, "backward: expected a forw"),
    wrong("backward of another batch", another_batch, ValueError, "dy: expected shape"),
    wrong("backward of a resized batch", reshaped, ValueError, r"dy: expected shape \(4, 2\)"),
    wrong("one row for statistics", one_row, ValueError, "x: expected"),
    wrong("final_state before forward", lambda: (lambda: fastnn.LSTM(1, 1).final_state, []),
          RuntimeError, "final_state: expected a forward call"),
    wrong("initial_state_grad before backward",
          lambda: (lambda: fastnn.LSTM(1, 1).initial_state_grad, []),
          RuntimeError, "initial_state_grad: expected a backward call"),
    wrong("a layer that raises forward", in_python("forward"), ArithmeticError, "from forward"),
    wrong("a layer that raises backward", in_python("backward", True), ArithmeticError,
          "from backward"),
    wrong("a layer that returns text", in_python("text"), TypeError, "Raises: expected"),
    wrong("a layer that returns another shape", in_python("shape"), ValueError,
          "Raises: expected a result of shape"),
    wrong("a layer that returns a masked array", in_python("masked"), TypeError,
          "Raises: expected an array without a mask"),
    wrong("a layer whose gradient has another shape", in_python("dx", True), ValueError,
          "Raises: expected a result of shape"),
    wrong("a layer whose gradient is None", in_python("None", True), (TypeError, ValueError),
          "Raises: expected"),
    wrong("Sequential(array)", lambda: (lambda: fastnn.Sequential(WEIGHT), []), TypeError,
          r"layers\[0\]: expected a fastnn layer"),
    wrong("Sequential(class)", lambda: (lambda: fastnn.Sequential(fastnn.ReLU), []), TypeError,
          r"layers\[0\]: expected a fastnn layer"),
    wrong("Residual(list)", lambda: (lambda: fastnn.Residual([fastnn.ReLU()]), []), TypeError,
          r"layers\[0\]: expected a fastnn layer"),
    wrong("Concat(None)", lambda: (lambda: fastnn.Concat(None), []), TypeError,
          r"layers\[0\]: expected a fastnn layer"),
    wrong("Concat()", lambda: (lambda: fastnn.Concat()(array(4, 3)), []), ValueError,
          "branches: expected at least one"),
    wrong("a container in itself", inside_itself, ValueError,
          r"layers\[0\]: expected one that does not hold this one"),
    wrong("other values for the same weights", of_two_names, ValueError,
          "1.weight: expected the values of 0.weight"),
    wrong("Residual that changes the shape",
          lambda: (lambda: fastnn.Residual(fastnn.Linear(3, 2))(array(4, 3)), []), ValueError,
          ".*expected"),
    wrong("layers that do not follow each other",
          lambda: (lambda: fastnn.Sequential(fastnn.Linear(3, 2), fastnn.Linear(3, 2))(
              array(4, 3)), []), ValueError, ".*expected"),
    wrong("weight = None", fixed(linear, "weight", None), AttributeError, "weight: expected"),
    wrong("bias = None", fixed(linear, "bias", None), AttributeError, "bias: expected"),
    wrong("bias of a layer without",
          fixed(lambda: fastnn.Linear(3, 2, bias=False), "bias", np.ones(2)), AttributeError,
          "bias: expected None"),
    wrong("random_state", fixed(lambda: fastnn.Dropout(rng=0), "random_state", 1),
          AttributeError, "random_state: cannot be assigned"),
    wrong("trainable = 1", fixed(linear, "trainable", 1), TypeError, "trainable: expected True"),
    wrong("in_features = 4", fixed(linear, "in_features", 4), (AttributeError, ValueError),
          "in_features: "),
    wrong("tied to another shape", tied(lambda: fastnn.Linear(2, 3, rng=1)), ValueError,
          r"weight: expected shape \(2, 3\)"),
    wrong("tied to another dtype", tied(lambda: fastnn.Linear(3, 2, dtype="float64", rng=1)),
          ValueError, "weight: expected float32, got float64"),
    wrong("load_state_dict(missing)", state_dict({"weight": WEIGHT}), KeyError,
          r"[\"']mapping: missing keys \['bias'\]"),
    wrong("load_state_dict(unknown)",
          state_dict({"weight": WEIGHT, "bias": [0, 0], "more": [1]}), KeyError,
          r"[\"']mapping: missing keys \[\], unknown keys \['more'\]"),
    wrong("load_state_dict(list)", state_dict([WEIGHT]), TypeError, "mapping: expected names"),
    wrong("get_flat(out of another dtype)", method("get_flat", np.zeros(8)), TypeError,
          "out: expected dtype float32"),
    wrong("get_flat(out of another length)", method("get_flat", np.zeros(7, np.float32)),
          ValueError, r"out: expected shape \(8,\)"),
    wrong("get_flat(list)", method("get_flat", [0.0] * 8), TypeError, "out: expected an array"),
    wrong("graph(unknown)", method("graph", "png"), ValueError, "format: expected"),
    wrong("summary(batch_size=0)", method("summary", 0), ValueError, "batch_size: expected"),
    wrong("summary(batch_size=text)", method("summary", "a"), TypeError, "batch_size: expected"),
    wrong("summary(input_shape=text)", method("summary", 1, "ab"), TypeError,
          "input_shape: expected"),
    wrong("summary(another input_shape)", method("summary", 1, (7,)), ValueError, ".*expected"),
    wrong("graph(input_shape of fractions)", method("graph", "text", (1.5,)), TypeError,
          "input_shape: expected"),
    wrong("forward(x of 2**62 columns)",
          method("forward", np.broadcast_to(np.float32(0), (1, 2**60))),
          (MemoryError, ValueError), "x: expected"),
    wrong("Linear of 2**62 weights",
          lambda: (lambda: fastnn.Linear(2**31, 2**31), []), ValueError,
          r"weight: expected fewer than 2\*\*60 elements"),
    wrong("Linear of 2**59 weights",
          lambda: (lambda: fastnn.Linear(2**29, 2**30).build(), []), MemoryError,
          "weight: expected values that memory can hold"),
    wrong("Linear of 2**80 weights",
          lambda: (lambda: fastnn.Linear(2**40, 2**40), []), ValueError,
          r"weight: expected fewer than 2\*\*60 elements"),
]  # fmt: skip

CALLS = [*constructors(), *runs(), *assignments()]
