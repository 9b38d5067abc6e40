"""Whole models in a file: what comes back is what was saved, and nothing else gets through."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import layers, preprocessing, safetensors
from fastnn.layers import Layer
from fastnn.layers.base import arguments

from .layer_table import LAYERS, inputs


class Power(fastnn.Layer):
    """A layer in Python with an argument, a parameter and no `config` of its own."""

    def __init__(self, exponent, size=3, *, dtype=None, rng=None):
        super().__init__(dtype=dtype, rng=rng)
        self.exponent, self.size = exponent, size
        self.factor = self.parameter("factor", (size,), fastnn.initializers.normal)

    def forward(self, x, training=False):
        return self.factor.data * x**self.exponent

    def backward(self, dy, accumulate=False):
        raise NotImplementedError


class Hidden(Power):
    """One that says itself what its arguments are."""

    def __init__(self, n):
        super().__init__(n)
        del self.exponent
        self._n = n

    def config(self):
        return {"n": self._n}

    def forward(self, x, training=False):
        return x * self._n


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def there_and_back(path, model, **custom):
    fastnn.save(path, model)
    loaded = fastnn.load(path, custom)
    same, other = (re.sub(" at 0x[0-9a-fA-F]+", "", repr(m)) for m in (loaded, model))
    assert same == other
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    for name, values in ours.items():
        np.testing.assert_array_equal(theirs[name], values, strict=True)
    return loaded


def test_every_layer_has_its_row():
    built_in = {getattr(layers, name) for name in layers.__all__} - {fastnn.Parameter, Layer}
    assert {type(make()) for make, _ in LAYERS} == built_in


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make()) for make, _ in LAYERS])
def test_every_layer_comes_back(make, shape, path, dtype):
    layer = make()
    config = layer.config()
    assert config.keys() == arguments(type(layer)).keys() - {"init"}
    for name, argument in arguments(type(layer)).items():
        assert name == "init" or config[name] != argument.default
    model = fastnn.Sequential(layer, dtype=dtype)
    x = inputs(layer, shape, dtype)
    model.forward(x, training=True)  # moves the statistics
    loaded = there_and_back(path, model)
    np.testing.assert_array_equal(loaded(x), model(x), strict=True)


def test_options_are_saved_as_they_are_now(path):
    model = fastnn.Sequential(fastnn.Dropout(0.1), fastnn.LayerNorm(3), rng=0)
    model[0].p, model[1].eps = 0.3, 0.1
    loaded = there_and_back(path, model)
    assert (loaded[0].p, loaded[1].eps) == (0.3, 0.1)


def test_a_layer_in_two_places_ties_and_frozen_parameters_stay(path):
    twice = fastnn.Linear(3, 3)
    inner = fastnn.Sequential(twice, fastnn.Linear(3, 3))
    model = fastnn.Sequential(twice, fastnn.Residual(inner), inner, fastnn.Linear(3, 3), rng=0)
    model[3].weight = twice.weight
    inner[1].bias.trainable = False
    loaded = there_and_back(path, model)
    assert loaded[0] is loaded[2][0] is loaded[1][0][0]
    assert loaded[2] is loaded[1][0]
    assert loaded[3].weight is loaded[0].weight
    assert len(loaded.parameters()) == len(model.parameters()) == 5
    assert [p.trainable for p in loaded.parameters()] == [p.trainable for p in model.parameters()]
    x = inputs(model, (3,))
    np.testing.assert_array_equal(loaded(x), model(x))


def test_layers_in_python(path):
    model = fastnn.Sequential(
        fastnn.Linear(3, 3), Power(2), fastnn.Residual(Hidden(3)), Power(np.int64(1), size=3), rng=0
    )
    loaded = there_and_back(path, model, Power=Power, Hidden=Hidden)
    x = inputs(model, (3,))
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded[1].exponent == 2
    message = rf"{re.escape(str(path))}: custom: .*fastnn.load\(path, custom={{'Power'"
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)
    with pytest.raises(TypeError, match=r"custom\['Power'\]: expected a subclass of Layer"):
        fastnn.load(path, {"Power": Power, "Hidden": lambda n: None} | {"Power": 3})
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: Power: cannot be made with"):
        fastnn.load(path, {"Power": fastnn.ReLU, "Hidden": Hidden})


def test_a_class_that_is_named_like_a_built_in_one_is_not_it(path):
    class Tanh(fastnn.Layer):
        def forward(self, x, training=False):
            return 2 * x

    model = fastnn.Sequential(Tanh(), fastnn.Tanh())
    x = inputs(model, (3,))
    np.testing.assert_array_equal(there_and_back(path, model, Tanh=Tanh)(x), model(x))
    with pytest.raises(ValueError, match="custom"):
        fastnn.load(path)


def test_what_json_does_not_have_is_named(path):
    class Holder(fastnn.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

    class Forgetful(fastnn.Layer):
        def __init__(self, size):
            super().__init__()

    for layer, message in (
        (Holder(len), r"layer 0.1 \(Holder\): config\(\): expected numbers, text.*builtin"),
        (Forgetful(3), r"layer 0.1 \(Forgetful\): config\(\): .*attribute size.*define config"),
    ):
        model = fastnn.Sequential(fastnn.Residual(fastnn.ReLU(), layer))
        with pytest.raises(TypeError, match=message):
            fastnn.save(path, model)
    Forgetful.config = lambda self: [3]
    with pytest.raises(TypeError, match="expected a dict of arguments, got list"):
        fastnn.save(path, layer)
    assert not path.exists()
    with pytest.raises(TypeError, match="model: expected a fastnn layer"):
        fastnn.save(path, "model")
    with pytest.raises(TypeError, match="preprocessing: expected Statistics"):
        fastnn.save(path, fastnn.Linear(2, 2), preprocessing=lambda x: x)


def test_preprocessing_is_saved_and_applied(path, rng):
    raw = rng.normal(3, 5, (20, 4))
    x, statistics = preprocessing.standardize(raw)
    model = fastnn.Sequential(fastnn.Linear(4, 3), fastnn.Tanh(), rng=0)
    assert model.preprocessing is None
    np.testing.assert_array_equal(model.predict(x), model(x))
    fastnn.save(path, model, preprocessing=statistics)
    assert model.preprocessing is None
    loaded = fastnn.load(path)
    for one, other in zip(loaded.preprocessing, statistics, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    np.testing.assert_array_equal(loaded.predict(raw), model(x))
    np.testing.assert_array_equal(loaded.predict(raw[0]), model(x[0]))
    again = there_and_back(path, loaded)  # the model's own
    np.testing.assert_array_equal(again.predict(raw), model(x))
    with pytest.raises(TypeError, match="preprocessing: expected Statistics"):
        loaded.preprocessing = "standardize"
    loaded.preprocessing = None
    assert there_and_back(path, loaded).preprocessing is None
    _, one = preprocessing.rescale(raw, axis=None)
    fastnn.save(path, model, one)
    np.testing.assert_array_equal(fastnn.load(path).predict(raw), model(one.apply(raw)))


def test_the_loaded_model_can_be_trained(path):
    model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.Tanh(), fastnn.Linear(8, 2), rng=0)
    loaded = there_and_back(path, model)
    x, y = inputs(model, (4,)), np.arange(6) % 2
    losses = [
        fastnn.Trainer(m, "cross_entropy", fastnn.optim.Adam(m.parameters())).step(x, y)
        for m in (model, loaded)
    ]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(loaded(x), model(x))


def test_another_process_loads_it(path):
    model = fastnn.Sequential(fastnn.Linear(3, 2, rng=0))
    fastnn.save(path, model)
    code = "import sys, fastnn; print(fastnn.load(sys.argv[1]).predict([[1, 2, 3]]).tolist())"
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == model([[1, 2, 3]]).tolist()


def change(path, tensors=None, **changed):
    """Write the file again with something of it changed, and hashes that fit."""
    found, metadata = safetensors.read_safetensors(path)
    saved = json.loads(metadata["fastnn.model"]) | changed
    other = path.with_name("changed")
    found |= {} if tensors is None else tensors
    fastnn.save_safetensors(other, found, {"fastnn.model": json.dumps(saved)})
    return other


def linear(**config):
    return [{"class": "fastnn.Linear", "config": {"in_features": 3, "out_features": 2} | config}]


DAMAGED = {
    "newer": ({"version": 2}, "newer fastnn"),
    "version": ({"version": None, "layers": 3}, "describes it"),
    "no layers": ({"layers": []}, "describes it"),
    "not a list": ({"layers": {"class": 1}}, "describes it"),
    "no class": ({"layers": [{"config": {}}]}, "describes it"),
    "class no text": ({"layers": [{"class": ["fastnn.Linear"], "config": {}}]}, "describes it"),
    "unknown class": ({"layers": [{"class": "fastnn.Lynear", "config": {}}]}, "custom"),
    "no layer": ({"layers": [{"class": "fastnn.Parameter", "config": {}}]}, "custom"),
    "config no dict": ({"layers": [{"class": "fastnn.Linear", "config": [3, 2]}]}, "describes it"),
    "unknown argument": ({"layers": linear(bios=False)}, "cannot be made"),
    "wrong argument": ({"layers": linear(in_features="3")}, "cannot be made"),
    "another shape": ({"layers": linear(in_features=2)}, r"weight: expected shape \(2, 2\)"),
    "another parameter": ({"layers": linear(bias=False)}, "expected the arrays"),
    "huge": ({"layers": linear(in_features=2**40, out_features=2**40)}, "has arrays"),
    "dtype": ({"dtype": "float16"}, "describes it"),
    "cycle": ({"layers": [{"class": "fastnn.Sequential", "config": {}, "layers": [0]}]},
              "stand before"),
    "layer no number": ({"layers": [*linear(), {"class": "fastnn.Sequential", "config": {},
                                                "layers": [0.0]}]}, "stand before"),
    "doubled": ({"layers": linear() + [{"class": "fastnn.Sequential", "config": {},
                                        "layers": [i, i]} for i in range(60)]}, "at most"),
    "deep": ({"layers": linear() + [{"class": "fastnn.Sequential", "config": {}, "layers": [i]}
                                    for i in range(5000)]}, "at most"),
    "ties": ({"tied": {"weight": "2.weight"}}, "describes it"),
    "frozen": ({"frozen": ["nothing"]}, "describes it"),
    "preprocessing": ({"preprocessing": {"shift": "a"}}, "file"),
    "more arrays": ({"tensors": {"more": np.ones(1)}}, "expected the arrays"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_files_that_are_not_right_are_refused(case, path):
    fastnn.save(path, fastnn.Linear(3, 2))
    changed, message = DAMAGED[case]
    other = change(path, **changed)
    with pytest.raises(ValueError, match=message):
        fastnn.load(other)


def test_files_of_other_kinds_say_who_reads_them(path):
    model = fastnn.Linear(3, 2)
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    trainer.save(path)
    with pytest.raises(ValueError, match=r"Trainer\.restore reads"):
        fastnn.load(path)
    fastnn.save_safetensors(path, model.state_dict())
    with pytest.raises(ValueError, match="load_safetensors reads"):
        fastnn.load(path)
    fastnn.save(path, model)
    with pytest.raises(ValueError, match=r"got one of fastnn\.save"):
        fastnn.Trainer.restore(path, model, "mse", trainer.optimizer)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        fastnn.load(path)
    with pytest.raises(FileNotFoundError):
        fastnn.load(path.with_name("none"))
