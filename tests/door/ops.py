"""Bad calls of `fastnn.ops`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import ops

from .table import (
    ABOVE_0,
    AT_LEAST_0,
    BELOW_1,
    CHOICE,
    COUNT,
    FITTING,
    FRACTION,
    INDEX,
    LIMIT,
    OPTIONAL,
    OUT,
    READ,
    RNG,
    STATE,
    SWITCH,
    TRANSPOSED,
    WIDER,
    WRITTEN,
    Bad,
    Good,
    Kind,
    Row,
    good,
    in_memory,
    optional,
    overlapping,
)  # fmt: skip


def array(*shape: int) -> np.ndarray:
    return in_memory(np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape))


def calls(name: str, make: Callable[[], dict[str, Any]], /, **kinds: Kind) -> Good:
    function = getattr(ops, name)
    return good(f"ops.{name}", lambda: (function, make()), **kinds)


# Activations -----------------------------------------------------------------------------------

PLAIN = ("exp", "log_softmax", "mish", "relu", "selu", "sigmoid", "silu", "softmax", "tanh")
OPTIONS: dict[str, dict[str, tuple[Any, Kind]]] = {
    "elu": {"alpha": (1.0, AT_LEAST_0)},
    "leaky_relu": {"negative_slope": (0.01, AT_LEAST_0)},
    "softplus": {"beta": (1.0, ABOVE_0)},
    "gelu": {"approximate": ("none", CHOICE)},
    **{name: {} for name in PLAIN},
}


def activations() -> Iterator[Good]:
    for name, options in OPTIONS.items():
        values = {key: value for key, (value, _) in options.items()}
        kinds = {key: kind for key, (_, kind) in options.items()}

        def forward(values: Any = values) -> dict[str, Any]:
            return {"x": array(3, 4), "out": array(3, 4), **values}

        def backward(values: Any = values) -> dict[str, Any]:
            return {"dy": array(3, 4), "saved": array(3, 4), "out": array(3, 4), **values}

        yield calls(name, forward, x=READ, out=OUT, **kinds)
        if name != "exp":
            # it is `dy` that is told to have another shape
            yield calls(f"{name}_backward", backward, dy=FITTING, saved=READ, out=OUT, **kinds)


# Layers ----------------------------------------------------------------------------------------

# must be a matrix
MATRIX = (
    *READ,
    Bad("deeper", lambda a: a[None], ValueError, "two axes"),
    Bad("flat", np.ravel, ValueError, "two axes"),
)


def layers() -> Iterator[Good]:
    yield calls(
        "linear",
        lambda: {"x": array(3, 4), "weight": array(2, 4), "bias": array(2), "activation": "relu",
                 "out": array(3, 2)},
        x=(*READ, *WIDER), weight=MATRIX, bias=OPTIONAL, activation=CHOICE, out=OUT,
    )  # fmt: skip
    yield calls(
        "linear_backward",
        lambda: {"dy": array(3, 2), "x": array(3, 4), "weight": array(2, 4)},
        dy=FITTING, x=(*READ, *WIDER), weight=MATRIX,
    )  # fmt: skip
    yield calls(
        "matmul", lambda: {"a": array(3, 4), "b": array(4, 2), "out": array(3, 2)},
        a=(*READ, *WIDER), b=MATRIX, out=OUT,
    )  # fmt: skip
    yield calls("dropout", lambda: {"x": array(3, 4), "p": 0.5, "rng": np.random.default_rng(0)},
                x=READ, p=FRACTION, rng=RNG)  # fmt: skip
    yield calls(
        "dropout_backward",
        lambda: {"dy": array(3, 4), "mask": array(3, 4) > 0.5, "p": 0.5, "out": array(3, 4)},
        dy=READ, mask=tuple(bad for bad in FITTING if bad.what != "complex"), p=FRACTION, out=OUT,
    )  # fmt: skip
    yield calls("embedding", lambda: {"index": np.array([0, 4]), "weight": array(5, 2)},
                index=INDEX, weight=MATRIX)  # fmt: skip
    yield calls(
        "embedding_backward",
        lambda: {"dy": array(2, 3), "index": np.array([0, 4]), "num_embeddings": 5},
        dy=READ, index=INDEX, num_embeddings=COUNT,
    )  # fmt: skip
    yield calls(
        "layer_norm",
        lambda: {"x": array(3, 4), "weight": array(4), "bias": array(4), "eps": 1e-5},
        x=READ, weight=OPTIONAL, bias=OPTIONAL, eps=ABOVE_0,
    )  # fmt: skip
    yield calls(
        "layer_norm_backward",
        lambda: {"dy": array(3, 4), "x": array(3, 4), "weight": array(4), "mean": array(3),
                 "rstd": array(3)},
        dy=FITTING, x=READ, weight=OPTIONAL, mean=FITTING, rstd=FITTING,
    )  # fmt: skip
    yield calls(
        "batch_norm",
        lambda: {"x": array(3, 4), "weight": array(4), "bias": array(4), "eps": 1e-5},
        x=READ, weight=OPTIONAL, bias=OPTIONAL, eps=ABOVE_0,
    )  # fmt: skip
    yield calls(
        "batch_norm_backward",
        lambda: {"dy": array(3, 4), "x": array(3, 4), "weight": array(4), "mean": array(4),
                 "rstd": array(4)},
        dy=FITTING, x=READ, weight=OPTIONAL, mean=FITTING, rstd=FITTING,
    )  # fmt: skip
    yield calls(
        "batch_norm_inference",
        lambda: {"x": array(3, 4), "running_mean": array(4), "running_var": array(4),
                 "weight": array(4), "bias": array(4), "eps": 1e-5},
        x=READ, running_mean=FITTING, running_var=FITTING, weight=OPTIONAL, bias=OPTIONAL,
        eps=ABOVE_0,
    )  # fmt: skip
    # a wider weight_ih is for a wider x, which the message asks for
    of_gates = tuple(bad for bad in FITTING if bad.what not in ("wider", "huge"))
    states = {"h0": (2, 4), "c0": (2, 4), "weight_ih": (16, 3), "weight_hh": (16, 4), "bias": (16,)}
    yield calls(
        "lstm", lambda: {"x": array(2, 5, 3)} | {k: array(*shape) for k, shape in states.items()},
        x=(*READ, *WIDER), h0=FITTING, c0=FITTING, weight_ih=of_gates, weight_hh=FITTING,
        bias=OPTIONAL,
    )  # fmt: skip
    yield calls(
        "lstm_step",
        lambda: {"x": array(2, 3)} | {k.rstrip("0"): array(*v) for k, v in states.items()},
        x=(*READ, *WIDER), h=FITTING, c=FITTING, weight_ih=of_gates, weight_hh=FITTING,
        bias=OPTIONAL,
    )  # fmt: skip


# Optimizers ------------------------------------------------------------------------------------

HYPER: dict[str, tuple[Any, Kind]] = {
    "lr": (0.1, AT_LEAST_0),
    "momentum": (0.5, FRACTION),
    "dampening": (0.5, FRACTION),
    "alpha": (0.9, BELOW_1),
    "beta1": (0.9, BELOW_1),
    "beta2": (0.9, BELOW_1),
    "eps": (1e-8, ABOVE_0),
    "weight_decay": (0.1, AT_LEAST_0),
    "lr_decay": (0.1, AT_LEAST_0),
    "step": (3, COUNT),
    **dict.fromkeys(
        ("nesterov", "lr_in_velocity", "maximize", "bias_correction", "eps_inside_sqrt",
         "eps_uncorrected"),
        (False, SWITCH),
    ),
}  # fmt: skip
ADAM = ("step", "lr", "beta1", "beta2", "eps", "weight_decay", "bias_correction",
        "eps_inside_sqrt", "maximize")  # fmt: skip
MOMENTS = ("exp_avg", "exp_avg_sq")
STEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # states and hyper-parameters
    "sgd_step": (
        ("momentum_buffer",),
        ("lr", "momentum", "dampening", "nesterov", "weight_decay", "lr_in_velocity", "maximize",
         "step"),
    ),
    "nag_step": (("velocity",), ("lr", "momentum", "weight_decay", "maximize")),
    "adagrad_step": (
        ("sum",), ("lr", "eps", "step", "lr_decay", "weight_decay", "eps_inside_sqrt", "maximize")
    ),
    "rmsprop_step": (
        ("square_avg", "grad_avg", "momentum_buffer"),
        ("lr", "alpha", "eps", "momentum", "weight_decay", "eps_inside_sqrt", "maximize"),
    ),
    "adam_step": ((*MOMENTS, "max_exp_avg_sq"), (*ADAM, "eps_uncorrected")),
    "adamw_step": ((*MOMENTS, "max_exp_avg_sq"), (*ADAM, "eps_uncorrected")),
    "lion_step": (("exp_avg",), ("lr", "beta1", "beta2", "weight_decay", "maximize")),
    "lamb_step": (MOMENTS, ADAM),
}  # fmt: skip
NONE_TOO = {"momentum_buffer", "grad_avg", "max_exp_avg_sq"}


def optimizers() -> Iterator[Good]:
    for name, (states, hyper) in STEPS.items():

        def make(states: Any = states, hyper: Any = hyper) -> dict[str, Any]:
            arrays = {key: array(3, 4) for key in ("param", "grad", *states)}
            return arrays | {key: HYPER[key][0] for key in hyper}

        kinds = dict.fromkeys(states, STATE)
        kinds |= {key: HYPER[key][1] for key in hyper}
        if name == "sgd_step":
            kinds["step"] = optional(COUNT)
        yield calls(name, make, param=(*WRITTEN, *TRANSPOSED), grad=FITTING, **kinds)
    yield calls(
        "clip_grad_norm",
        lambda: {"grads": [array(3, 4), array(2)], "max_norm": 1.0, "error_if_nonfinite": False},
        max_norm=LIMIT, error_if_nonfinite=SWITCH,
    )  # fmt: skip


CALLS = [*activations(), *layers(), *optimizers()]
ONE = array(4)


def overlapping_out(name: str, argument: str, *shapes: tuple[int, ...]) -> Row:
    """An `out` that begins inside an argument."""

    def make() -> Any:
        arrays = [array(*shape) for shape in shapes]
        out = overlapping(arrays[list(OVERLAPS[name]).index(argument)])
        return lambda: getattr(ops, name)(*arrays, out=out), arrays

    return Row(f"ops.{name}(out overlaps {argument})", make, ValueError, "out: expected .*overlaps")


def overlapping_states() -> Iterator[Row]:
    """A gradient or a state in the memory of another."""
    for name, (states, hyper) in STEPS.items():
        values = {key: HYPER[key][0] for key in hyper}
        for one, other in (("param", "grad"), ("param", states[0]), ("grad", states[0])):

            def make(
                name: str = name, one: str = one, other: str = other, values: Any = values,
                states: Any = states,
            ) -> Any:  # fmt: skip
                arrays = {key: array(3, 4) for key in ("param", "grad", *states)}
                arrays[other] = overlapping(arrays[one])
                function = getattr(ops, name)
                return lambda: function(**arrays, **values), list(arrays.values())

            message = rf"{other}: expected memory of its own, got memory of {one}"
            yield Row(f"ops.{name}({other} overlaps {one})", make, ValueError, message)


OVERLAPS = {"relu": "x", "softmax": "x", "tanh_backward": ("dy", "saved"), "matmul": "ab",
            "linear": ("x", "weight"), "exp": "x"}  # fmt: skip
ROWS = [
    overlapping_out("exp", "x", (3, 4)),
    overlapping_out("relu", "x", (3, 4)),
    overlapping_out("softmax", "x", (3, 4)),
    overlapping_out("tanh_backward", "dy", (3, 4), (3, 4)),
    overlapping_out("tanh_backward", "saved", (3, 4), (3, 4)),
    overlapping_out("matmul", "a", (3, 3), (3, 3)),
    overlapping_out("matmul", "b", (3, 3), (3, 3)),
    overlapping_out("linear", "x", (3, 3), (3, 3)),
    overlapping_out("linear", "weight", (3, 3), (3, 3)),
    *overlapping_states(),
    *(
        Row(f"ops.clip_grad_norm({what})",
            lambda grads=grads: (lambda: ops.clip_grad_norm(grads, 1.0), [grads]), error, message)
        for what, grads, error, message in (
            ("array", array(3), TypeError, "grads: expected a list of arrays"),
            ("None", None, TypeError, "grads: expected a list of arrays"),
            ("list of lists", [[1.0]], TypeError, r"grads\[0\]: expected an array in CPU"),
            ("integers", [array(2), np.ones(2, int)], TypeError, r"grads\[1\]: expected dtype"),
            ("twice", [ONE, ONE], ValueError, r"grads\[1\]: expected memory of its own"),
            ("overlapping", [ONE, overlapping(ONE)], ValueError, r"grads\[1\]: expected memory"),
        )
    ),
    Row(
        "ops.embedding_backward(num_embeddings=2**60)",
        lambda: (lambda: ops.embedding_backward(array(2, 3), [0, 1], 2**60), []),
        ValueError, r"num_embeddings: expected fewer than 2\*\*60 elements",
    ),
    *(
        Row(f"ops.{name}(0-d)", lambda name=name: (lambda: getattr(ops, name)(1.0), []), ValueError,
            "x: expected at least one axis")
        for name in ("softmax", "log_softmax", "layer_norm")
    ),
    Row("ops.layer_norm_backward(0-d)",
        lambda: (lambda: ops.layer_norm_backward(1.0, 1.0, None, 1.0, 1.0), []), ValueError,
        "x: expected at least one axis"),
    *(
        Row(f"ops.batch_norm({ndim}-d)",
            lambda ndim=ndim: (lambda: ops.batch_norm(array(*range(2, 2 + ndim))), []), ValueError,
            r"x: expected \(batch, channels\)")
        for ndim in (1, 4)
    ),
    Row("ops.embedding_backward(dy of other rows)",
        lambda: (lambda: ops.embedding_backward(array(3, 2), [0, 1], 4), []), ValueError,
        r"dy: expected shape \(2, 'dim'\)"),
    Row("ops.embedding(empty weight)",
        lambda: (lambda: ops.embedding([0], np.empty((0, 2))), []), ValueError, "index: expected"),
]  # fmt: skip
