"""Whatever can be assigned takes effect, with the constructor's checks, or is refused.

Every public attribute of every public class has a row: what it is set to, or that it is refused.
One that is new has none and fails. Optimizers have theirs in test_optim_attributes.py, trainers in
test_trainer_options.py.
"""

import inspect

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, losses, preprocessing, schedules

from .test_public import PUBLIC

ELSEWHERE = (fastnn.optim.Optimizer, fastnn.Trainer)
# Results, which are read; what belongs to scikit-learn, river and PyTorch.
NOT_SET = (
    "fastnn.analysis", "fastnn.plot", "fastnn.river", "fastnn.sklearn", "fastnn.solvers",
    "fastnn.torch",
)  # fmt: skip
ABSTRACT = (fastnn.Layer, fastnn.optim.MinimizeResult, callbacks.CallbackList)

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SEQUENCES = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)

CONTAINERS = ("Sequential", "Residual", "Concat")
# Layers: how one is made, and its options, each with a value that counts and one that is refused.
# Those without arguments need no row.
LAYERS = {
    thing.__name__: ({}, {}) for thing in PUBLIC.values()
    if inspect.isclass(thing) and issubclass(thing, fastnn.Layer) and thing is not fastnn.Layer
    and thing.__name__ not in CONTAINERS
} | {
    "Linear": ({"in_features": 3, "out_features": 2}, {}),
    "Scale": ({"num_features": 3}, {}),
    "LeakyReLU": ({}, {"negative_slope": (0.25, "a")}),
    "ELU": ({}, {"alpha": (0.25, -1.0)}),
    "Softplus": ({}, {"beta": (2.0, 0.0)}),
    "GELU": ({}, {"approximate": ("tanh", "exact")}),
    "Dropout": ({"rng": 0}, {"p": (0.0, 1.5)}),
    "LayerNorm": ({"normalized_shape": 3}, {"eps": (0.5, 0.0)}),
    "BatchNorm1d": ({"num_features": 3}, {"eps": (0.5, -1.0), "momentum": (0.5, None)}),
    "Embedding": ({"num_embeddings": 9, "embedding_dim": 2}, {}),
    "LSTM": ({"input_size": 3, "hidden_size": 2, "num_layers": 2, "rng": 0},
             {"dropout": (0.5, "0.5"), "return_sequences": (False, 1)}),
}  # fmt: skip
# Attributes that all layers have, besides their parameters, buffers and options.
SETTABLE, DERIVED = {"trainable", "preprocessing"}, {"random_state"}
# Those that give a layer its shape.
FIXED = {
    "Linear": {"in_features", "out_features"},
    "Scale": {"num_features"},
    "LayerNorm": {"normalized_shape", "elementwise_affine"},
    "BatchNorm1d": {"num_features", "affine"},
    "Embedding": {"num_embeddings", "embedding_dim", "sparse"},
    "LSTM": {"input_size", "hidden_size", "num_layers", "bidirectional", "final_state",
             "initial_state_grad"},
}  # fmt: skip

# Others: how one is made, attributes with a value and a wrong one (None: any does), refused ones.
MONITOR = {"monitor": ("val_accuracy", 3), "mode": ("max", "up"), "min_delta": (0.5, -1.0)}
KEPT = {"trainer": (None, None), "reason": ("enough", None), "best": (0.5, None),
        "best_epoch": (3, None), "stopped_epoch": (3, None)}  # fmt: skip
OBJECTS = {
    fastnn.Parameter: (
        lambda: fastnn.Linear(3, 2, rng=0).weight,
        {"data": (np.ones((2, 3)), np.ones((3, 2))), "grad": (np.ones((2, 3)), np.ones(3)),
         "trainable": (False, 0)},
        {"name", "shape", "size", "sparse", "rows", "array", "grad_array", "grad_ready", "placed",
         "replaced"},
    ),
    type(fastnn.BatchNorm1d(1).running_mean): (
        lambda: fastnn.BatchNorm1d(3).running_mean,
        {"data": (np.ones(3), np.ones(4))},
        {"name", "shape", "size", "array", "placed"},
    ),
    callbacks.Callback: (callbacks.Callback, KEPT, set()),
    callbacks.EarlyStopping: (
        callbacks.EarlyStopping,
        MONITOR | KEPT | {"patience": (3, 0), "restore_best": (True, 1)}, {"monitors"},
    ),
    callbacks.ModelCheckpoint: (
        lambda: callbacks.ModelCheckpoint("file"),
        MONITOR | KEPT | {"path": ("other", 3), "save_best_only": (True, 1)}, {"monitors"},
    ),
    callbacks.Norms: (
        callbacks.Norms,
        KEPT | {"every": (2, 0), "steps": ([1], None), "parameters": ({"w": [1.0]}, None),
                "gradients": ({"w": [1.0]}, None)}, set(),
    ),
    callbacks.CSVLogger: (
        lambda: callbacks.CSVLogger("file"), KEPT | {"path": ("other", 3), "append": (True, 1)},
        set(),
    ),
    callbacks.TerminateOnNaN: (callbacks.TerminateOnNaN, KEPT, set()),
    fastnn.History: (
        fastnn.History,
        KEPT | {"history": ({"loss": [0.5]}, None), "epoch": ([0], None)}, set(),
    ),
    schedules.Schedule: (lambda: schedules.linear(1.0, 0.5, 3), {}, {"formula", "arguments"}),
    preprocessing.Statistics: (
        lambda: preprocessing.standardize(X)[1], {}, {"shift", "scale"},
    ),
    type(losses.mse(reduction="sum")): (
        lambda: losses.huber(delta=2.0), {},
        {"class_weight", "elementwise", "ignore_index", "kernel", "name", "options", "quantiles",
         "reduction", "scalars", "target"},
    ),
}  # fmt: skip


def attributes(thing):
    """The public attributes of an object that are no methods."""
    found = set()
    for name in dir(thing):
        if name.startswith("_"):
            continue
        kind = inspect.getattr_static(type(thing), name, None)
        if not isinstance(kind, (staticmethod, classmethod)) and not inspect.isroutine(kind):
            found.add(name)
    return found


def make(name, **options):
    return getattr(fastnn, name)(**{**LAYERS[name][0], **options})


def given(layer):
    if isinstance(layer, fastnn.Embedding):
        return np.arange(4)
    return SEQUENCES if isinstance(layer, fastnn.LSTM) else X


def results(layer):
    """All that depends on the options: outputs, gradients and statistics."""
    y = layer.forward(given(layer), training=True)
    found = [y, layer.backward(np.ones_like(y)), layer(given(layer))]
    return [a for a in found if a is not None] + list(layer.state_dict().values())


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# The rows are complete --------------------------------------------------------------------------


def test_every_public_class_has_a_row():
    for name, thing in PUBLIC.items():
        if not inspect.isclass(thing) or name.startswith(NOT_SET) or thing in ABSTRACT:
            continue
        known = thing.__name__ in LAYERS or thing.__name__ in CONTAINERS or thing in OBJECTS
        assert known or issubclass(thing, ELSEWHERE), name


@pytest.mark.parametrize("name", LAYERS)
def test_every_attribute_of_a_layer_has_a_row(name):
    layer = make(name)
    rows = SETTABLE | DERIVED | set(LAYERS[name][1]) | FIXED.get(name, set())
    assert attributes(layer) == rows | set(layer._parameters) | set(layer._buffers)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_attribute_of_a_container_has_a_row(name):
    layer = getattr(fastnn, name)(fastnn.ReLU())
    assert attributes(layer) == SETTABLE | DERIVED | {"layers"}


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_attribute_of_an_object_has_a_row(kind):
    create, settable, refused = OBJECTS[kind]
    thing = create()
    assert type(thing) is kind
    assert attributes(thing) <= {*settable, *refused}
    assert refused <= attributes(thing)


# Layers -----------------------------------------------------------------------------------------

OPTIONS = [(name, option) for name in LAYERS for option in LAYERS[name][1]]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_an_option_that_is_assigned_is_that_of_a_layer_made_with_it(name, option):
    good, bad = LAYERS[name][1][option]
    layer, want = make(name), make(name, **{option: good})
    before = repr(layer), layer.config()
    layer(given(layer))  # it has been planned
    with pytest.raises((TypeError, ValueError), match=f"^{option}: expected"):
        setattr(layer, option, bad)
    assert (repr(layer), layer.config()) == before
    setattr(layer, option, good)
    assert (repr(layer), layer.config()) == (repr(want), want.config()) != before
    layer.load_state_dict(want.state_dict())
    assert same(results(layer), results(want))


@pytest.mark.parametrize("name", FIXED)
def test_what_gives_a_layer_its_shape_is_refused(name):
    layer = make(name)
    for attribute in FIXED[name] | DERIVED:
        with pytest.raises(AttributeError, match=f"^{attribute}: .*; .{{10}}"):
            setattr(layer, attribute, 7)
    want = make(name)
    want.load_state_dict(layer.state_dict())
    assert same(results(layer), results(want))


@pytest.mark.parametrize("name", LAYERS)
def test_arrays_of_a_layer_are_copied_into_place(name):
    layer = make(name)
    for attribute, entry in layer._entries().items():
        place = entry.data
        for wrong in (np.ones((5, 5)), np.ones(entry.shape, "U1")):
            with pytest.raises((TypeError, ValueError), match=attribute):
                setattr(layer, attribute, wrong)
        values = np.arange(place.size).reshape(place.shape)
        setattr(layer, attribute, values.tolist())
        assert getattr(layer, attribute) is entry
        assert entry.data is place
        assert np.array_equal(layer.state_dict()[attribute], values)
        with pytest.raises((AttributeError, TypeError), match=attribute):
            setattr(layer, attribute, None)


@pytest.mark.parametrize("name", [*LAYERS, *CONTAINERS])
def test_attributes_of_all_layers(name):
    layer = make(name) if name in LAYERS else getattr(fastnn, name)(fastnn.Linear(3, 3, rng=0))
    with pytest.raises(TypeError, match=r"^trainable: expected True or False"):
        layer.trainable = 0
    assert layer.trainable
    layer.trainable = False
    assert not any(p.trainable for p in layer.parameters())
    with pytest.raises(TypeError, match=r"^preprocessing: expected"):
        layer.preprocessing = 3
    if given(layer) is X:
        _, statistics = preprocessing.standardize(X)
        layer.preprocessing = statistics
        assert np.array_equal(layer.predict(X), layer(statistics.apply(X)))
    layer.note = "of the user's own"
    assert layer.note == "of the user's own"


@pytest.mark.parametrize("name", CONTAINERS)
def test_layers_of_a_container(name):
    first, second = fastnn.Linear(3, 3, rng=0), fastnn.Linear(3, 3, rng=1)
    layer, want = getattr(fastnn, name)(first), getattr(fastnn, name)(second)
    layer(X)
    for wrong in (3, [3], [np.ones(3)]):
        with pytest.raises((TypeError, ValueError), match=r"^layers"):
            layer.layers = wrong
    layer.layers = [second]
    assert repr(layer) == repr(want)
    assert same(results(layer), results(want))


# Others -----------------------------------------------------------------------------------------

SET = [(kind, name) for kind in OBJECTS for name in OBJECTS[kind][1]]
REFUSED = [(kind, name) for kind in OBJECTS for name in sorted(OBJECTS[kind][2])]


def ids(rows):
    return [f"{kind.__name__}-{name}" for kind, name in rows]


@pytest.mark.parametrize(("kind", "name"), SET, ids=ids(SET))
def test_what_is_assigned_is_there(kind, name):
    thing = OBJECTS[kind][0]()
    good, bad = OBJECTS[kind][1][name]
    before = getattr(thing, name, None)
    before = before.copy() if isinstance(before, np.ndarray) else before
    if bad is not None:
        with pytest.raises((TypeError, ValueError), match=rf"{name}: expected"):
            setattr(thing, name, bad)
        assert np.array_equal(getattr(thing, name), before)
    setattr(thing, name, good)
    found = getattr(thing, name)
    assert str(found) == good if name == "path" else np.array_equal(found, good)


@pytest.mark.parametrize(("kind", "name"), REFUSED, ids=ids(REFUSED))
def test_what_is_refused_says_so(kind, name):
    thing = OBJECTS[kind][0]()
    before = repr(thing)
    with pytest.raises(AttributeError) as error:
        setattr(thing, name, getattr(thing, name))
    assert repr(thing) == before
    if kind is not preprocessing.Statistics:  # a named tuple
        assert str(error.value).startswith(f"{name}: ")
        assert len(str(error.value)) > len(name) + 20


@pytest.mark.parametrize("kind", OBJECTS)
def test_what_is_not_there_is_refused(kind):
    """But for callbacks and histories, which users may extend."""
    thing = OBJECTS[kind][0]()
    if isinstance(thing, (callbacks.Callback, fastnn.History)):
        return
    with pytest.raises(AttributeError):
        thing.learning_rate = 1.0


def test_a_monitor_that_is_assigned_has_its_own_mode_and_best():
    stopping = callbacks.EarlyStopping("val_loss")
    assert stopping.mode == "min"
    stopping.best = 0.1
    stopping.monitor = "val_accuracy"
    assert (stopping.mode, stopping.best) == ("max", -np.inf)
    stopping.mode = "min"
    assert (stopping.mode, stopping.best) == ("min", np.inf)
