"""Bad calls of `fastnn.losses`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import losses

from .ops import array
from .table import (
    ABOVE_0,
    CHOICE,
    FITTING,
    FRACTION,
    INDEX,
    INTEGER,
    OPTIONAL,
    READ,
    Bad,
    Good,
    Kind,
    Row,
    always,
    good,
    optional,
)  # fmt: skip

NEGATIVE_WEIGHT = Bad("negative", np.negative, ValueError, 'numbers >= 0.*reduction="sum"')
WEIGHTS = (*OPTIONAL, NEGATIVE_WEIGHT)
OF_NUMBERS = ("mse", "l1", "huber", "poisson_nll", "binary_cross_entropy_with_logits")
LABELS = tuple(bad for bad in INDEX if bad.what != "-1")
# text for pred alone: a loss that is given none is the loss with these options
PRED = tuple(bad for bad in READ if bad.what != "None")
SCALAR = Bad("scalar", always(1.0), ValueError, r"shape \(batch")


def calls(name: str, make: Callable[[], dict[str, Any]], /, **kinds: Kind) -> Good:
    function = getattr(losses, name)
    return good(f"losses.{name}", lambda: (function, make()), **kinds)


def functions() -> Iterator[Good]:
    for name in OF_NUMBERS:
        first = {"poisson_nll": "log_rate"}.get(name, "logits" if "logits" in name else "pred")

        def make(name: str = name, first: str = first) -> dict[str, Any]:
            extra = {"delta": 1.0} if name == "huber" else {}
            return {first: array(3, 2), "target": array(3, 2), "sample_weight": array(3),
                    "element_weight": array(3, 2), "reduction": "mean", **extra}  # fmt: skip

        kinds: dict[str, Kind] = {first: (*PRED, SCALAR), "target": FITTING}
        kinds |= {"sample_weight": WEIGHTS, "element_weight": WEIGHTS, "reduction": CHOICE}
        if name == "huber":
            kinds["delta"] = ABOVE_0
        yield calls(name, make, **kinds)
    yield calls(
        "gaussian_nll",
        lambda: {"pred": array(3, 4), "target": array(3, 2), "sample_weight": array(3),
                 "element_weight": array(3, 2), "reduction": "mean"},
        pred=(*PRED, SCALAR), target=FITTING, sample_weight=WEIGHTS, element_weight=WEIGHTS,
        reduction=CHOICE,
    )  # fmt: skip
    yield calls(
        "quantile",
        lambda: {"pred": array(3, 4), "target": array(3, 2), "quantiles": [0.1, 0.9],
                 "sample_weight": array(3), "element_weight": array(3, 2), "reduction": "mean"},
        pred=(*PRED, SCALAR), target=FITTING, sample_weight=WEIGHTS, element_weight=WEIGHTS,
        reduction=CHOICE,
    )  # fmt: skip
    yield calls(
        "cross_entropy",
        lambda: {"logits": array(2, 5), "labels": np.array([0, 4]), "label_smoothing": 0.1,
                 "class_weight": array(5), "ignore_index": 3, "sample_weight": array(2),
                 "reduction": "mean"},
        logits=(*PRED, SCALAR), labels=LABELS, label_smoothing=FRACTION, class_weight=OPTIONAL,
        ignore_index=optional(INTEGER), sample_weight=WEIGHTS, reduction=CHOICE,
    )  # fmt: skip
    yield calls(
        "resolve", lambda: {"loss": "mse"},
        loss=(
            Bad("unknown", always("mze"), ValueError, "did you mean 'mse'"),
            Bad("None", always(None), TypeError, "a name or a callable"),
            Bad("number", always(3), TypeError, "a name or a callable"),
        ),
    )  # fmt: skip


class Holder:
    """What `l2_penalty` takes besides a Parameter."""

    def __init__(self, data: Any, grad: Any) -> None:
        self.data, self.grad = data, grad


def penalty(what: str, data: Any, grad: Any, error: type[Exception], message: str) -> Row:
    def make() -> Any:
        first = Holder(array(2, 3), array(2, 3))
        arrays = [first.data, first.grad, data, grad]
        return lambda: losses.l2_penalty([first, Holder(data, grad)], 0.5), arrays

    return Row(f"losses.l2_penalty({what})", make, error, rf"parameters\[1\]{message}")


READ_ONLY = array(2)
READ_ONLY.flags.writeable = False
PENALTY = [
    penalty("read-only grad", array(2), READ_ONLY, ValueError, r"\.grad: expected a writable"),
    penalty("grad of integers", array(2), np.ones(2, int), TypeError, r"\.grad: expected dtype"),
    penalty("list as grad", array(2), [0.0, 0.0], TypeError, r"\.grad: expected an array"),
    penalty("longer grad", array(2), array(3), ValueError, r"\.grad: expected shape \(2,\)"),
    penalty("text as data", "ab", array(2), TypeError, r"\.data: expected real numbers"),
    penalty("no grad", array(2), None, RuntimeError, " has no gradient yet: call backward"),
    Row(
        "losses.l2_penalty(arrays)", lambda: (lambda: losses.l2_penalty([array(2)], 0.1), []),
        TypeError, r"parameters\[0\]: expected a Parameter, got an array",
    ),
    Row(
        "losses.l2_penalty(text as lam)", lambda: (lambda: losses.l2_penalty([], "a"), []),
        TypeError, "lam: expected a number",
    ),
]  # fmt: skip


def options(what: str, loss: Callable[[], Any], error: type[Exception], message: str) -> Row:
    return Row(f"losses.{what}", lambda: (loss, []), error, message)


OPTIONS = [
    options("quantile()", losses.quantile, TypeError, "quantiles: expected numbers"),
    options("quantile(quantiles=[1.0])", lambda: losses.quantile(quantiles=[0.5, 1.0]), ValueError,
            r"quantiles\[1\]: expected a number in \(0, 1\)"),
    options("quantile(quantiles=[])", lambda: losses.quantile(quantiles=[]), ValueError,
            "quantiles: expected at least one"),
    options("quantile(quantiles=text)", lambda: losses.quantile(quantiles="a"), TypeError,
            r"quantiles\[0\]: expected a number"),
    options("cross_entropy(ignore_index=2**63)",
            lambda: losses.cross_entropy(ignore_index=2**63), ValueError, "ignore_index: expected"),
    options("mse(target alone)", lambda: losses.mse(target=[1.0]), TypeError, "pred: expected"),
    options("mse(pred alone)", lambda: losses.mse([1.0]), TypeError, "target: expected"),
    options("gaussian_nll(odd columns)",
            lambda: losses.gaussian_nll(np.ones((2, 3)), np.ones((2, 1))), ValueError,
            "model: expected predictions with mean and variance"),
    options("cross_entropy(probabilities, ignore_index)",
            lambda: losses.cross_entropy(np.ones((1, 2)), [[0.5, 0.5]], ignore_index=1),
            ValueError, "ignore_index: expected None for labels that are probabilities"),
    options("cross_entropy(element_weight)",
            lambda: losses.cross_entropy()(np.ones((2, 2)), [0, 1], None, [1.0, 1.0]),
            ValueError, "element_weight: expected None for cross_entropy"),
]  # fmt: skip

CALLS = list(functions())
ROWS = [*PENALTY, *OPTIONS]
