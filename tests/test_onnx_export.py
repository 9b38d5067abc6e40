"""Models and estimators as files of ONNX: what other programs make of them is what they are."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import layers

from .layer_table import LAYERS, inputs

onnx = pytest.importorskip("onnx")
import fastnn.onnx  # noqa: E402

# What ONNX Runtime does not have in float64; the evaluator of onnx has it.
LACKING = {("LSTM", "float64"), ("GELU", "float64")}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


def outputs(path, *given, checked=True):
    """All outputs by ONNX Runtime for inputs in the file's order."""
    runtime = pytest.importorskip("onnxruntime")
    if checked:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, given, strict=True)))


def evaluated(path, *given):
    """All outputs by the evaluator that comes with onnx."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [entry.name for entry in model.graph.input]
    return ReferenceEvaluator(model).run(None, dict(zip(names, given, strict=True)))


def tolerance(dtype, normalized=False):
    """What the outputs may differ by; ONNX keeps an epsilon in float32."""
    return 1e-5 if dtype == "float32" else 1e-8 if normalized else 1e-12


def assert_same(path, model, x, run=outputs):
    y = model(x)
    normalized = any("Norm" in type(layer).__name__ for _, layer in model._layers())
    (found,) = run(path, x)
    bound = tolerance(y.dtype, normalized)
    np.testing.assert_allclose(found, y, rtol=bound, atol=bound, strict=True)


def test_every_layer_has_its_writer():
    from fastnn.onnx.nodes import WRITERS

    built_in = {getattr(layers, name) for name in layers.__all__}
    assert WRITERS.keys() == built_in - {fastnn.Layer, fastnn.Parameter}


@pytest.mark.parametrize("opset", [17, None])
@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make()) for make, _ in LAYERS])
def test_every_layer(make, shape, dtype, opset, path):
    model = fastnn.Sequential(make(), dtype=dtype, rng=0)
    x = inputs(model, shape, dtype)
    model.forward(x, training=True)  # moves the statistics
    version = 21 if opset is None else opset
    fastnn.onnx.export(model, path, opset=version)
    if (type(model[0]).__name__, str(dtype)) in LACKING:
        assert_same(path, model, x, evaluated)
        return
    for batch in (x, x[:1], np.concatenate([x, x])):
        assert_same(path, model, batch)


EXTREME = np.float64([-700, -80, -30, -2, -1e-3, -0.0, 1e-3, 2, 30, 80, 700])


@pytest.mark.parametrize("name", layers.activation.__all__)
def test_activations_everywhere(name, dtype, path):
    if (name, str(dtype)) in LACKING:
        pytest.skip("ONNX Runtime has no error function for float64")
    model = fastnn.Sequential(getattr(fastnn, name)(), dtype=dtype)
    x = EXTREME.astype(dtype)[:, None] * np.ones(2, dtype)
    fastnn.onnx.export(model, path, input_shape=(2,))
    assert_same(path, model, x)


def net(dtype="float32", sequences=False):
    """Containers within each other, a layer in two places and tied parameters."""
    twice = fastnn.Linear(6, 6)
    tied = fastnn.Linear(6, 6)
    tied.weight = twice.weight
    return fastnn.Sequential(
        fastnn.Linear(5, 6), fastnn.LayerNorm(6),
        fastnn.Residual(twice, fastnn.SiLU(), fastnn.Dropout(0.3), twice),
        fastnn.Concat(fastnn.Sequential(tied, fastnn.Tanh()), fastnn.Sequential()),
        fastnn.BatchNorm1d(12) if not sequences else fastnn.GELU("tanh"), fastnn.Linear(12, 3),
        dtype=dtype, rng=0,
    )  # fmt: skip


def test_containers_and_shared_layers(dtype, path, rng):
    model = net(dtype)
    x = rng.normal(size=(7, 5)).astype(dtype)
    model.forward(x, training=True)
    fastnn.onnx.export(model, path)
    assert_same(path, model, x)
    names = [array.name for array in onnx.load(path).graph.initializer]
    assert names.count("0.weight") == 1
    assert len([n for n in names if n in model.state_dict()]) == len(set(names) & set(
        model.state_dict()))  # fmt: skip
    shapes = [tuple(a.dims) for a in onnx.load(path).graph.initializer]
    assert shapes.count((6, 6)) == 1  # of three layers


def test_axes_of_any_length(dtype, path, rng):
    model = net(dtype, sequences=True)
    model(rng.normal(size=(2, 4, 5)))  # the last call tells that there is time
    fastnn.onnx.export(model, path)
    for time in (1, 9):
        assert_same(path, model, rng.normal(size=(3, time, 5)).astype(dtype))
    (x,) = onnx.load(path).graph.input
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", "time",
                                                                                 5]
    fastnn.onnx.export(model, path, input_shape=(3, 5), dynamic_batch=False)
    (x,) = onnx.load(path).graph.input
    (y,) = onnx.load(path).graph.output
    assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [1, 3, 5]
    assert [d.dim_value for d in y.type.tensor_type.shape.dim] == [1, 3, 3]
    assert_same(path, model, rng.normal(size=(1, 3, 5)).astype(dtype))
    fastnn.onnx.export(model, path, input_shape=(None, 5))
    assert_same(path, model, rng.normal(size=(2, 8, 5)).astype(dtype))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_lengths_and_states(bidirectional, sequences, path, rng):
    lstm = fastnn.LSTM(3, 4, 2, bidirectional, return_sequences=sequences, rng=0)
    fastnn.onnx.export(lstm, path, lengths=True, states=True)
    x = rng.normal(size=(5, 6, 3)).astype("f4")
    h0, c0 = rng.normal(size=(2, 2 * (1 + bidirectional), 5, 4)).astype("f4")
    lengths = np.array([6, 1, 3, 6, 2])
    y, h, c = outputs(path, x, lengths, h0, c0)
    expected = lstm(x, h0, c0, lengths)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    for found, final in zip((h, c), lstm.final_state, strict=True):
        np.testing.assert_allclose(found, final, rtol=1e-5, atol=1e-6)
    fastnn.onnx.export(lstm, path, states=True)
    np.testing.assert_allclose(outputs(path, x, h0, c0)[0], lstm(x, h0, c0), rtol=1e-5, atol=1e-6)


def test_states_of_several_layers(path, rng):
    model = fastnn.Sequential(fastnn.LSTM(3, 4), fastnn.LSTM(4, 2), fastnn.Linear(2, 1), rng=0)
    fastnn.onnx.export(model, path, states=True)
    saved = onnx.load(path).graph
    assert [entry.name for entry in saved.input] == ["x", "0.h0", "0.c0", "1.h0", "1.c0"]
    assert [entry.name for entry in saved.output] == ["y", "0.h_n", "0.c_n", "1.h_n", "1.c_n"]
    x = rng.normal(size=(2, 8, 3)).astype("f4")
    state = [np.zeros((1, 2, n), "f4") for n in (4, 4, 2, 2)]
    parts = []
    for steps in (x[:, :3], x[:, 3:]):  # in two pieces
        y, *state = outputs(path, steps, *state)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 1), model(x), rtol=1e-5, atol=1e-6)


def test_lengths_of_a_model(path, rng):
    model = fastnn.Sequential(fastnn.Embedding(9, 3), fastnn.LSTM(3, 4, return_sequences=False),
                              fastnn.Linear(4, 2), rng=0)  # fmt: skip
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    x, lengths = rng.integers(0, 9, (4, 5)), np.array([5, 1, 3, 2])
    fastnn.onnx.export(model, path, lengths=True)
    expected = trainer.predict(x, lengths=lengths)
    np.testing.assert_allclose(outputs(path, x, lengths)[0], expected, rtol=1e-5, atol=1e-6)


def test_preprocessing_is_part_of_the_graph(dtype, path, rng):
    x = (rng.normal(size=(9, 3)) * 1e-3 + 1000).astype(dtype)
    model = fastnn.Sequential(fastnn.Linear(3, 2), dtype=dtype, rng=0)
    _, model.preprocessing = fastnn.preprocessing.standardize(x)
    fastnn.onnx.export(model, path)
    bound = tolerance(dtype)
    np.testing.assert_allclose(outputs(path, x)[0], model.predict(x), rtol=bound, atol=bound)


@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim"])
def test_simplifiers_change_nothing(simplifier, path, tmp_path, rng):
    module = pytest.importorskip(simplifier)
    model = fastnn.Sequential(
        fastnn.Linear(5, 6), fastnn.LayerNorm(6), fastnn.GELU(), fastnn.LSTM(6, 4),
        fastnn.Residual(fastnn.Linear(4, 4), fastnn.Mish()), fastnn.Linear(4, 2), rng=0,
    )  # fmt: skip
    fastnn.onnx.export(model, path, input_shape=(None, 5))
    with warnings.catch_warnings(action="ignore"):
        found = module.simplify(path) if simplifier == "onnxsim" else module.slim(path)
    simple = str(tmp_path / "simple.onnx")
    onnx.save(found[0] if isinstance(found, tuple) else found, simple)
    assert_same(simple, model, rng.normal(size=(3, 7, 5)).astype("f4"))
    assert_same(path, fastnn.onnx.load(simple), rng.normal(size=(3, 7, 5)).astype("f4"))


# Estimators ------------------------------------------------------------------------------------


def estimators():
    """Estimators by name, with their samples and targets."""
    sklearn = pytest.importorskip("fastnn.sklearn")
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    steps, words = rng.normal(size=(60, 6, 2)), np.array(["a", "bb", "c"])[k]
    mixed = x.copy()
    mixed[:, 1], mixed[:, 3] = k, k > 0
    options = {"max_iter": 3, "random_state": 0, "hidden_layer_sizes": (5,)}

    def make(name, **given):
        return getattr(sklearn, name)(**options | given)

    quantile = fastnn.losses.quantile(quantiles=(0.1, 0.5, 0.9))
    return {
        "classes": (make("MLPClassifier"), x, words),
        "two classes": (make("MLPClassifier", activation="tanh"), x.astype("f4"), k > 0),
        "several labels": (make("MLPClassifier"), x, np.eye(3, dtype=int)[k]),
        "members": (make("MLPClassifier", n_members=3), x, 2 * k),
        "batch normalization": (make("MLPClassifier", normalization="batch"), x, k),
        "regressor": (make("MLPRegressor", hidden_layer_sizes=(5, 4)), x, x[:, 0]),
        "outputs": (make("MLPRegressor", activation="mish"), x.astype("f4"), x[:, :2]),
        "quantiles": (make("MLPRegressor", loss=quantile), x, x[:, :2]),
        "moments": (make("MLPRegressor", loss="gaussian_nll"), x, x[:, :2]),
        "counts": (make("MLPRegressor", loss="poisson"), x, k.astype(float)),
        "sequences": (make("LSTMClassifier", hidden_layer_sizes=(5, 4)), steps.astype("f4"), k),
        "steps": (make("LSTMRegressor", bidirectional=True), x.astype("f4"), x[:, 0]),
        "table": (make("TabularClassifier", categorical_features=[1, 3]), mixed, words),
        "table, two classes": (make("TabularClassifier"), x, k > 0),
        "numbers of a table": (make("TabularRegressor", n_members=2), x, x[:, 0]),
    }  # fmt: skip


@pytest.mark.parametrize("name", [
    "classes", "two classes", "several labels", "members", "batch normalization", "regressor",
    "outputs", "quantiles", "moments", "counts", "sequences", "steps", "table",
    "table, two classes", "numbers of a table",
])  # fmt: skip
def test_estimators(name, path):
    estimator, x, y = estimators()[name]
    with warnings.catch_warnings(action="ignore"):  # three epochs are few
        estimator.fit(x, y)
    fastnn.onnx.export(estimator, path)
    found = outputs(path, x)
    expected = [estimator.predict(x)]
    if hasattr(estimator, "predict_proba"):
        expected.append(estimator.predict_proba(x))
        np.testing.assert_array_equal(found[0], expected[0])
        found, expected = found[1:], expected[1:]
    exact = found[0].dtype == np.float64 and name != "numbers of a table"
    bound = tolerance("float64" if exact else "float32", "normalization" in name)
    np.testing.assert_allclose(found[0], expected[0], rtol=bound, atol=bound, strict=True)


def test_what_is_no_estimator_of_numbers(path):
    pandas = pytest.importorskip("pandas")
    sklearn = pytest.importorskip("fastnn.sklearn")
    table = pandas.DataFrame({"a": [1.0, 2, 3, 4] * 5, "b": list("xyxy") * 5})
    estimator = sklearn.TabularRegressor((4,), max_iter=1, random_state=0)
    with pytest.raises(ValueError, match="model: expected a fitted TabularRegressor"):
        fastnn.onnx.export(estimator, path)
    estimator.fit(table, table["a"])
    with pytest.raises(ValueError, match="model: expected one fitted to a table of numbers"):
        fastnn.onnx.export(estimator, path)
    with pytest.raises(ValueError, match="expected none with a TabularRegressor"):
        fastnn.onnx.export(estimator, path, lengths=True)


# Refusals --------------------------------------------------------------------------------------


class Square(fastnn.Layer):
    def forward(self, x, training=False):
        return x * x


def test_wrong_arguments_write_nothing(path, tmp_path):
    dense = fastnn.Linear(2, 2, rng=0)
    for error, message, call in (
        (TypeError, "model: expected a fastnn layer or an", lambda: fastnn.onnx.export(3, path)),
        (TypeError, "path: expected a str", lambda: fastnn.onnx.export(dense, 3)),
        (TypeError, r"layer 1\.0: expected a built-in one, got .*Square",
         lambda: fastnn.onnx.export(fastnn.Sequential(dense, fastnn.Residual(Square())), path)),
        (ValueError, "opset: expected an integer from 17", lambda: fastnn.onnx.export(
            dense, path, opset=16)),
        (ValueError, "opset", lambda: fastnn.onnx.export(dense, path, opset=10_000)),
        (TypeError, "dynamic_batch: expected True", lambda: fastnn.onnx.export(
            dense, path, dynamic_batch=3)),
        (ValueError, "lengths, states: expected a model with rec", lambda: fastnn.onnx.export(
            dense, path, lengths=True)),
        (ValueError, "input_shape: expected the shape of one", lambda: fastnn.onnx.export(
            fastnn.ReLU(), path)),
        (ValueError, "x: expected 2 features", lambda: fastnn.onnx.export(
            dense, path, input_shape=(3,))),
        (TypeError, "input_shape: expected", lambda: fastnn.onnx.export(
            dense, path, input_shape="2")),
        (ValueError, "input_shape: expected a positive", lambda: fastnn.onnx.export(
            dense, path, input_shape=(0,))),
        (IsADirectoryError, str(tmp_path), lambda: fastnn.onnx.export(dense, tmp_path)),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_the_module_is_there_when_asked_for():
    code = (
        "import sys, fastnn\n"
        "assert 'onnx' not in sys.modules\n"
        "print(fastnn.onnx.export.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert done.stdout == "export\n"


def test_without_onnx_the_error_names_the_extra():
    code = "import sys; sys.modules['onnx'] = None; import fastnn; fastnn.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False, timeout=60)  # fmt: skip
    assert 'pip install "fastnn-cpu[onnx]"' in done.stderr
