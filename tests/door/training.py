"""Bad calls of `Trainer`, `fit`, `fit_many`, callbacks, and functions that they call."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import callbacks, optim

from ..trainer_cases import LABELS, X, Y, make as trainer, mlp
from .table import (
    AT_LEAST_0,
    BELOW_1,
    CHOICE,
    COUNT,
    LIMIT,
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
    optional,
)  # fmt: skip

# Made, and assigned to -------------------------------------------------------------------------

MADE: dict[str, tuple[Any, Kind]] = {
    "l2": (0.0, AT_LEAST_0), "l2_on": ("weights", CHOICE), "clip_norm": (None, optional(LIMIT)),
    "clip_value": (None, optional(LIMIT)), "accumulate": (1, COUNT),
    "precision": ("float32", CHOICE), "stateful": (False, SWITCH),
    "sync_batchnorm": (False, SWITCH),
}  # fmt: skip
MODEL = (
    Bad("None", always(None), TypeError, "a fastnn layer"),
    Bad("class", always(fastnn.ReLU), TypeError, "a fastnn layer"),
    Bad("list", lambda m: [m], TypeError, "a fastnn layer"),
)
LOSS = (
    Bad("unknown", always("mze"), ValueError, "did you mean 'mse'"),
    Bad("None", always(None), TypeError, "a name or a callable"),
    Bad("number", always(1), TypeError, "a name or a callable"),
)
OPTIMIZER = (
    Bad("name", always("adam"), TypeError, "a fastnn optimizer"),
    Bad("class", always(optim.Adam), TypeError, "a fastnn optimizer"),
    Bad("of arrays", lambda _: optim.SGD([np.ones(2)], 0.1), ValueError, "parameters of the model"),
    Bad("of another model", lambda _: optim.SGD(mlp().parameters(), 0.1), ValueError,
        "another model's"),
)  # fmt: skip


class Set:
    """An attribute of a trainer that is assigned, by its name."""

    def __init__(self) -> None:
        self.__self__ = trainer()
        self.__self__.step(X, LABELS)

    def __call__(self, **value: Any) -> None:
        for name, given in value.items():
            setattr(self.__self__, name, given)


def made() -> Iterator[Good]:
    def whole() -> Any:
        model = mlp()
        arguments = {key: value for key, (value, _) in MADE.items()}
        optimizer = optim.SGD(model.parameters(), 0.1)
        return fastnn.Trainer, {"model": model, "loss": "mse", "optimizer": optimizer, **arguments}

    kinds = {key: kind for key, (_, kind) in MADE.items()}
    yield good("Trainer", whole, model=MODEL, loss=LOSS, optimizer=OPTIMIZER, **kinds)
    assigned = {key: MADE[key] for key in MADE if key not in ("stateful", "sync_batchnorm")}
    assigned |= {"loss": ("cross_entropy", LOSS), "optimizer": (None, OPTIMIZER),
                 "stop_training": (False, SWITCH), "rng": (0, RNG)}  # fmt: skip
    for key, (value, kind) in assigned.items():

        def one(key: str = key, value: Any = value) -> Any:
            return Set(), {key: value}

        yield good(f"Trainer.{key}", one, **{key: kind})


# Data ------------------------------------------------------------------------------------------

SAMPLES = (
    *NO_ARRAY,
    *NONE,
    Bad("longer", longer, ValueError, "samples|shape|one for each|one weight"),
    Bad("scalar", always(1.0), (TypeError, ValueError), "."),
)
DATA = (
    *(bad for bad in SAMPLES if bad.what != "longer"),
    Bad("wider", lambda a: np.ones((len(a), 7)), ValueError, "features|shape"),
    Bad("flat", lambda a: a[:, 0], ValueError, r"x\[:, None\]"),
)
TARGETS = (
    *(bad for bad in SAMPLES if bad.what != "dict"),
    Bad("no class", lambda y: y + 1, ValueError, r"in \[0, 3\).*classes count from 0"),
    Bad("-1", lambda y: y - 1, ValueError, r"in \[0, 3\)"),
    Bad("2**64 - 1", lambda y: np.full(len(y), 2**64 - 1, np.uint64), ValueError, "1844"),
    Bad("fractions", lambda y: y + 0.5, TypeError, "integers"),
    Bad("one-hot", lambda y: np.eye(3, dtype=int)[y], ValueError, r"argmax\(-1\)"),
    Bad("column", lambda y: y[:, None], ValueError, r"labels\.ravel\(\)"),
)
WEIGHTS = (*optional(SAMPLES), Bad("negative", np.negative, ValueError, "numbers >= 0"))
PROGRESS = tuple(
    bad if bad.what != "text" else Bad("text", always("yes"), ValueError, "'auto' or 'epochs'")
    for bad in SWITCH
)
OF_FIT: dict[str, tuple[Any, Kind]] = {
    "epochs": (1, COUNT), "batch_size": (32, COUNT), "shuffle": (True, SWITCH),
    "validation_split": (0.2, BELOW_1), "progress": (False, PROGRESS), "rng": (0, optional(RNG)),
    "sharded": (False, SWITCH), "check_ranks": (None, optional(COUNT)),
    "check_finite": (False, SWITCH),
    "metrics": ((), (
        Bad("unknown", always(["acc"]), ValueError, "did you mean 'accuracy'"),
        Bad("text", always("accuracy"), TypeError, "list"),
        Bad("number", always(3), TypeError, "list"),
        Bad("of numbers", always([3]), TypeError, "names"),
    )),
    "callbacks": ((), (
        Bad("text", always("a"), TypeError, "a list of callbacks"),
        Bad("number", always(3), TypeError, "a list of callbacks"),
        Bad("class", always([callbacks.TerminateOnNaN]), TypeError, r"TerminateOnNaN\(\) makes"),
        Bad("strangers", always([object()]), TypeError, "objects with"),
    )),
}  # fmt: skip
DATA_NAMES = {"y": "labels"}


def data() -> Iterator[Good]:
    weights = np.linspace(0.5, 1.5, len(X))
    given = {"x": X, "y": LABELS, "sample_weight": weights}
    kinds: dict[str, Kind] = {"x": DATA, "sample_weight": WEIGHTS}
    # the loss calls it labels; that there are too few or too many is said of x and y
    labels = tuple(bad for bad in TARGETS if bad.what not in ("longer", "text", "ragged"))
    of_fit = {key: value for key, (value, _) in OF_FIT.items()}
    for how in ("step", "evaluate", "fit"):
        more = of_fit if how == "fit" else {}

        def run(how: str = how, more: Any = more) -> Any:
            return getattr(trainer(), how), {**given, **more}

        extra = {key: kind for key, (_, kind) in OF_FIT.items()} if how == "fit" else {}
        if how == "evaluate":
            extra = {"batch_size": COUNT, "metrics": OF_FIT["metrics"][1]}

            def run(how: str = how) -> Any:
                return trainer().evaluate, {**given, "batch_size": 32, "metrics": ()}

        yield Good(f"Trainer.{how}", run, {**kinds, **extra, "y": labels}, DATA_NAMES)
    yield good(
        "Trainer.predict",
        lambda: (trainer().predict, {"x": X, "batch_size": 32}), x=DATA, batch_size=COUNT,
    )  # fmt: skip


# What is not one argument ----------------------------------------------------------------------


def fit(t: fastnn.Trainer, **options: Any) -> Any:
    return t.fit(X, LABELS, **{"epochs": 1, "progress": False, **options})


def does(act: Callable[[fastnn.Trainer], Any], **options: Any) -> Callable[[], Any]:
    """A call of a trainer that has taken a step; whatever it refuses, it stays as it is."""

    def make() -> Any:
        t = trainer(**options)
        if t.optimizer is not None and not callable(options.get("loss")):
            t.step(X, LABELS)
        return lambda: act(t), [t]

    return make


def loss(returned: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda pred, y: returned(pred)


def fails(*_: Any) -> Any:
    raise ArithmeticError("from a function of the user's")


class Fails:
    """A callback that raises in one hook, before anything is trained."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, fails)


LOSSES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "raises": (fails, ArithmeticError, "from a function"),
    "None": (lambda pred: None, TypeError, r"loss: expected \(loss, gradient\)"),
    "a number": (lambda pred: 1.0, TypeError, r"loss: expected \(loss, gradient\), got float"),
    "three": (lambda pred: (1.0, pred, pred), TypeError, r"loss: expected \(loss, gradient\)"),
    "an array": (lambda pred: (pred, pred), TypeError, "loss: expected a number and a grad"),
    "text": (lambda pred: ("a", pred), TypeError, "loss: expected a number and a gradient"),
    "no gradient": (lambda pred: (1.0, None), TypeError, "gradient: expected"),
    "fewer rows": (lambda pred: (1.0, pred[:9]), ValueError, "gradient: expected shape"),
    "more axes": (lambda pred: (1.0, pred[None]), ValueError, "gradient: expected shape"),
    "complex": (lambda pred: (1.0, pred + 1j), TypeError, "gradient: expected real numbers"),
    "objects": (lambda pred: (1.0, pred.astype(object)), TypeError, "gradient: expected real"),
    "masked": (lambda pred: (1.0, np.ma.array(pred, mask=pred > 9)), TypeError,
               "gradient: expected an array without a mask"),
}  # fmt: skip


def losses_in_python() -> Iterator[Row]:
    for what, (returned, error, message) in LOSSES.items():
        for how in ("step", "fit", "evaluate"):
            # whose shuffling would be what has changed
            options = {"epochs": 1, "shuffle": False} if how == "fit" else {}

            def act(t: fastnn.Trainer, how: str = how, options: Any = options) -> Any:
                return getattr(t, how)(X, Y, **options)

            make = does(act, loss=loss(returned))
            yield Row(f"Trainer.{how}, a loss that returns {what}", make, error, message)


def sequence_trainer() -> fastnn.Trainer:
    model = fastnn.Sequential(fastnn.LSTM(2, 4), fastnn.Linear(4, 3), rng=0)
    return fastnn.Trainer(model, "cross_entropy", optim.SGD(model.parameters(), 0.1))


def many(trainers: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        several = trainers()
        watched = [t for t in several if isinstance(t, fastnn.Trainer)]
        call = {"epochs": 1, **options}
        return lambda: fastnn.fit_many(several, X, LABELS, **call), watched

    return make


def twins() -> list[fastnn.Trainer]:
    one = trainer()
    model = one.model
    return [one, fastnn.Trainer(model, "cross_entropy", optim.SGD(model.parameters(), 0.1))]


def callback(make: Callable[[], Any], error: Any, message: str) -> tuple[Any, Any, str]:
    return lambda: (make, []), error, message


BAD: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "fit without an optimizer": (
        does(lambda t: fit(fastnn.Trainer(t.model, "mse", None))), ValueError,
        "optimizer: expected one to train with"),
    "fit(y of another length)": (
        does(lambda t: t.fit(X, LABELS[:9], epochs=1)), ValueError,
        "x and y: expected as many samples, got 70 and 9"),
    "step(y of another length)": (
        does(lambda t: t.step(X, LABELS[:9])), ValueError, "x and y: expected as many samples"),
    "step of nothing": (
        does(lambda t: t.step(X[:0], LABELS[:0])), ValueError, "x: expected at least one sample"),
    "fit of nothing": (
        does(lambda t: t.fit(X[:0], LABELS[:0], epochs=1)), ValueError, "x: expected at least"),
    "fit(validation_data=array)": (
        does(lambda t: fit(t, validation_data=X)), TypeError, r"validation_data: expected \(x, y"),
    "fit(validation_data=one)": (
        does(lambda t: fit(t, validation_data=(X,))), TypeError, "validation_data: expected"),
    "fit(validation_data of a wrong shape)": (
        does(lambda t: fit(t, validation_data=(X[:, :2], LABELS))), ValueError, ".*expected"),
    "fit(validation_data with another key)": (
        does(lambda t: fit(t, validation_data={"x": X, "y": LABELS, "z": 1})), TypeError,
        "validation_data: expected"),
    "fit(validation_data and validation_split)": (
        does(lambda t: fit(t, validation_data=(X, LABELS), validation_split=0.1)), ValueError,
        "validation_split: expected 0 with validation_data"),
    "fit(validation_split that leaves none)": (
        does(lambda t: fit(t, validation_split=0.001)), ValueError, "validation_split: expected"),
    "fit(lengths, model without)": (
        does(lambda t: fit(t, lengths=np.ones(70, int))), ValueError, "lengths: expected"),
    "fit(element_weight of cross entropy)": (
        does(lambda t: fit(t, element_weight=np.ones(70))), ValueError, "element_weight: expected"),
    "fit(monitor that will not be there)": (
        does(lambda t: fit(t, callbacks=[callbacks.EarlyStopping("val_loss")])), ValueError,
        "monitor: expected one of .*validation_data"),
    "fit(checkpoint with an unknown field)": (
        does(lambda t: fit(t, callbacks=[callbacks.ModelCheckpoint("{acc}")])), ValueError,
        "path: expected fields"),
    "fit(log in no folder)": (
        does(lambda t: fit(t, callbacks=[callbacks.CSVLogger("no/such/log")])), FileNotFoundError,
        ".*no.+such.+log"),
    "on_train_begin that raises": (
        does(lambda t: fit(t, callbacks=[Fails("on_train_begin")])), ArithmeticError, "from a fu"),
    "on_epoch_begin that raises": (
        does(lambda t: fit(t, callbacks=[Fails("on_epoch_begin")])), ArithmeticError, "from a fu"),
    "fit(rng of another kind)": (
        does(lambda t: fit(t, rng=np.random.RandomState(0))), TypeError, "rng: expected"),
    "step(element_weight, loss in Python)": (
        does(lambda t: t.step(X, Y, element_weight=Y), loss=loss(lambda p: (1.0, p))), ValueError,
        "element_weight: expected None with a loss in Python"),
    "an unknown attribute": (
        does(lambda t: setattr(t, "batch_size", 3)), AttributeError, "batch_size: a Trainer has"),
    "model assigned": (
        does(lambda t: setattr(t, "model", mlp())), AttributeError, "model: expected to stay"),
    "not_finite assigned": (
        does(lambda t: setattr(t, "not_finite", "")), AttributeError, "not_finite: expected to"),
    "history assigned": (
        does(lambda t: setattr(t, "history", None)), AttributeError, "history: expected to stay"),
    "state of a trainer without": (
        does(lambda t: t.state), AttributeError, "state: expected a Trainer with stateful=True"),
    "stateful, bidirectional": (
        lambda: (lambda: fastnn.Trainer(fastnn.LSTM(1, 1, bidirectional=True), "mse", None,
                                        stateful=True), []),
        ValueError, "stateful: expected recurrent layers that read forwards"),
    "bfloat16 of a float64 model": (
        lambda: (lambda: fastnn.Trainer(mlp("float64"), "mse", None, precision="bfloat16"), []),
        ValueError, 'precision: expected "float32"'),
    "comm that is none": (
        lambda: (lambda: fastnn.Trainer(mlp(), "mse", None, comm=3), []),
        (ImportError, TypeError), "comm: (needs|expected an) mpi4py"),
    "sync_batchnorm with a loss in Python": (
        lambda: (lambda: fastnn.Trainer(mlp(), lambda p, y: (0.0, p), None, sync_batchnorm=True),
                 []), ValueError, "loss: expected one of fastnn.losses with sync_batchnorm"),
    "save without an optimizer": (
        does(lambda t: fastnn.Trainer(t.model, "mse", None).save("x")), ValueError,
        "optimizer: expected one whose state"),
    "save(path=3)": (does(lambda t: t.save(3)), TypeError, "path: expected a str or a path"),
    "save in no folder": (does(lambda t: t.save("no/such/file")), FileNotFoundError, ".*no/such"),
    "restore of no file": (
        does(lambda t: fastnn.Trainer.restore("none", t.model, "mse", t.optimizer)),
        FileNotFoundError, ".*none"),
    "a layer of the wrong shape behind another": (
        lambda: (lambda: fastnn.Trainer(fastnn.Sequential(fastnn.Linear(6, 2), fastnn.Linear(3, 3)),
                                        "mse", None).step(X, Y), []), ValueError,
        r"layer 1 \(Linear\): x: expected 3"),
    "fit_many(None)": (many(lambda: [None]), TypeError, r"trainers\[0\]: expected a Trainer"),
    "fit_many(models)": (many(lambda: [mlp()]), TypeError, r"trainers\[0\]: expected a Trainer"),
    "fit_many(one twice)": (
        many(lambda: [trainer()] * 2), ValueError, "trainers: expected each with a trainer"),
    "fit_many(a model twice)": (many(twins), ValueError, "trainers: expected each with a layer"),
    "fit_many(rng=Generator)": (
        many(lambda: [trainer()], rng=np.random.default_rng(0)), TypeError, "rng: expected an int"),
    "fit_many(rng=-1)": (many(lambda: [trainer()], rng=-1), ValueError, "rng: expected an int"),
    "fit_many(epochs=0)": (many(lambda: [trainer()], epochs=0), ValueError, "epochs: expected"),
    "EarlyStopping(monitor=3)": callback(
        lambda: callbacks.EarlyStopping(3), TypeError, "monitor: expected a name in the logs"),
    "EarlyStopping(patience=0)": callback(
        lambda: callbacks.EarlyStopping(patience=0), ValueError, "patience: expected a positive"),
    "EarlyStopping(patience=1.5)": callback(
        lambda: callbacks.EarlyStopping(patience=1.5), TypeError, "patience: expected an integer"),
    "EarlyStopping(min_delta=-1)": callback(
        lambda: callbacks.EarlyStopping(min_delta=-1), ValueError, "min_delta: expected"),
    "EarlyStopping(mode=3)": callback(
        lambda: callbacks.EarlyStopping(mode="mim"), ValueError, "mode: .*did you mean 'min'"),
    "EarlyStopping(restore_best=1)": callback(
        lambda: callbacks.EarlyStopping(restore_best=1), TypeError, "restore_best: expected True"),
    "Norms(every=0)": callback(
        lambda: callbacks.Norms(0), ValueError, "every: expected a positive"),
    "ModelCheckpoint(path=3)": callback(
        lambda: callbacks.ModelCheckpoint(3), TypeError, "path: expected a str or a path"),
    "ModelCheckpoint(save_best_only=1)": callback(
        lambda: callbacks.ModelCheckpoint("x", save_best_only=1), TypeError, "save_best_only: exp"),
    "CSVLogger(path=None)": callback(
        lambda: callbacks.CSVLogger(None), TypeError, "path: expected a str or a path"),
    "CSVLogger(append=text)": callback(
        lambda: callbacks.CSVLogger("x", "a"), TypeError, "append: expected True or False"),
    "CallbackList(3)": callback(
        lambda: callbacks.CallbackList(3, None), TypeError, "callbacks: expected a list"),
    "step(lengths=text)": (
        lambda: (lambda t=SEQUENCES: t.step(X.reshape(70, 3, 2), np.zeros((70, 3), int),
                                            lengths="a"), [SEQUENCES]),
        TypeError, "lengths: expected integers"),
    "step(lengths too long)": (
        lambda: (lambda t=SEQUENCES: t.step(X.reshape(70, 3, 2), np.zeros((70, 3), int),
                                            lengths=np.full(70, 4)), [SEQUENCES]),
        ValueError, "lengths: expected from 0 to 3 steps"),
    "step(lengths of another batch)": (
        lambda: (lambda t=SEQUENCES: t.step(X.reshape(70, 3, 2), np.zeros((70, 3), int),
                                            lengths=np.full(9, 3)), [SEQUENCES]),
        ValueError, "lengths: expected one for each sequence"),
    "step(one label for each sequence)": (
        lambda: (lambda t=SEQUENCES: t.step(X.reshape(70, 3, 2), LABELS), [SEQUENCES]),
        ValueError, "labels: .*return_sequences=False"),
    "mse(target without the axis of outputs)": (
        does(lambda t: fastnn.Trainer(t.model, "mse", None).step(X, Y[:, 0])), ValueError,
        "target: expected"),
}  # fmt: skip
SEQUENCES = sequence_trainer()

CALLS = [*made(), *data()]
ROWS = [
    *losses_in_python(),
    *(Row(f"training: {name}", *rest) for name, rest in BAD.items()),
]
