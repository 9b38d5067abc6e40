"""Files of ONNX, of our own and of others, as models; and files that are none."""

import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import fastnn

from .layer_table import LAYERS, inputs

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastnn.onnx  # noqa: E402

FILES = Path(__file__).parent / "onnx_files"  # make.py there has made them
# What a layer becomes that is not the same again.
OTHERWISE = {"Dropout": "Sequential()", "Embedding": "Sequential(Embedding(9, 3))",
             "Sequential": "Sequential(Linear(4, 2), Tanh())"}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


# Our own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make()) for make, _ in LAYERS])
def test_every_layer_comes_back(make, shape, dtype, path):
    model = fastnn.Sequential(make(), dtype=dtype, rng=0)
    if isinstance(model[0], fastnn.Scale):  # by 1 it is none
        model[0].weight.data = [0.5, 1, 2, 3]
    x = inputs(model, shape, dtype)
    model.forward(x, training=True)  # moves the statistics
    fastnn.onnx.export(model, path)
    loaded = fastnn.onnx.load(path)
    np.testing.assert_array_equal(loaded(x), model(x), strict=True)
    name = type(model[0]).__name__
    if name != "LSTM":  # whose layers are several
        assert repr(loaded) == OTHERWISE.get(name, repr(model))
    if model.parameters():
        before = [p.data.copy() for p in loaded.parameters()]
        trainer = fastnn.Trainer(loaded, "mse", fastnn.optim.SGD(loaded.parameters(), lr=0.1))
        trainer.step(x, np.ones_like(model(x)))
        assert not all(np.array_equal(p, q.data) for p, q in zip(before, loaded.parameters(),
                                                                 strict=True))  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [
    ("LeakyReLU", (0.3,)), ("ELU", (0.7,)), ("Softplus", (0.9,)), ("Softplus", (1.23456789,)),
    ("GELU", ("none",)), ("LayerNorm", (3, 1e-6)), ("BatchNorm1d", (3, 1e-4, 0.2)),
])  # fmt: skip
def test_options_come_back(name, options, dtype, path):
    model = fastnn.Sequential(getattr(fastnn, name)(*options), dtype=dtype)
    fastnn.onnx.export(model, path, input_shape=(3,))
    loaded = fastnn.onnx.load(path)
    for option, value in model[0].config().items():
        if not isinstance(value, str):
            value = pytest.approx(value, rel=1e-7, abs=0)
        assert loaded[0].config()[option] == value


def test_what_is_shared_stays_so(path, rng):
    twice, tied = fastnn.Linear(4, 4), fastnn.Linear(4, 4)
    tied.weight = twice.weight
    model = fastnn.Sequential(twice, fastnn.Tanh(), twice, fastnn.Residual(tied), rng=0)
    fastnn.onnx.export(model, path)
    loaded = fastnn.onnx.load(path)
    assert loaded[0].weight is loaded[2].weight is loaded[3][0].weight
    assert loaded[0].bias is loaded[2].bias
    assert len(loaded.parameters()) == 3
    x = rng.normal(size=(3, 4)).astype("f4")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_nested_containers(path, rng):
    model = fastnn.Sequential(
        fastnn.Residual(fastnn.Residual(fastnn.LayerNorm(4), fastnn.GELU()), fastnn.Mish()),
        fastnn.Concat(fastnn.Linear(4, 2), fastnn.Concat(fastnn.Sequential(), fastnn.SiLU())),
        rng=0,
    )  # fmt: skip
    fastnn.onnx.export(model, path)
    loaded = fastnn.onnx.load(path)
    x = rng.normal(size=(3, 4)).astype("f4")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert repr(loaded) == repr(model)


def test_lengths_and_states_are_arguments(path, rng):
    lstm = fastnn.LSTM(3, 4, bidirectional=True, rng=0)
    fastnn.onnx.export(lstm, path, lengths=True, states=True)
    loaded = fastnn.onnx.load(path)[0]
    x, h0 = rng.normal(size=(2, 5, 3)).astype("f4"), rng.normal(size=(2, 2, 4)).astype("f4")
    np.testing.assert_array_equal(loaded(x, h0, h0, [5, 2]), lstm(x, h0, h0, [5, 2]))


def test_preprocessing_goes_into_the_weights(path, rng):
    for first in (fastnn.Linear(3, 2), fastnn.LSTM(3, 2, bidirectional=True)):
        model = fastnn.Sequential(first, dtype="float64", rng=0)
        x = rng.normal(size=(4, 5, 3)) * [1, 10, 100] + 7
        _, model.preprocessing = fastnn.preprocessing.standardize(x, axis=(0, 1))
        fastnn.onnx.export(model, path, input_shape=(None, 3))
        loaded = fastnn.onnx.load(path)
        np.testing.assert_allclose(loaded(x), model.predict(x), rtol=1e-11, atol=1e-11)


# Of others -------------------------------------------------------------------------------------

EXPECTED = {
    "keras_dense": "Linear(4, 5), ReLU(), Linear(5, 3), Softmax()",
    "keras_embedding": "Embedding(9, 4), LSTM(4, 5, return_sequences=False), Linear(5, 2)",
    "keras_layer_norm": "LayerNorm((6,), eps=0.001), Linear(6, 5), LayerNorm((5,), eps=0.0001), "
                        "Linear(5, 2)",
    "keras_flatten": "Linear(3, 4), ReLU(), Flatten(), Linear(20, 2)",
    "keras_lstm": "LSTM(3, 4), LSTM(4, 5, return_sequences=False), Linear(5, 2)",
    "torch_states_dynamo": "LSTM(3, 4, bidirectional=True, return_sequences=False), Linear(8, 2)",
    "torch_layer_norm_script": "LayerNorm((4,), eps=1e-05), Linear(4, 5), LayerNorm((5,), "
                               "eps=0.001)",
    "sklearn_two_classes_float64": "Linear(4, 5), Tanh(), Linear(5, 2), Softmax()",
    "sklearn_pipeline_float32": "Linear(4, 5), ReLU(), Linear(5, 1)",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(file.stem for file in FILES.glob("*.onnx")))
def test_files_of_other_programs(name):
    loaded = fastnn.onnx.load(FILES / f"{name}.onnx")
    with np.load(FILES / f"{name.partition('_')[0]}.npz") as arrays:
        x, y = arrays[f"{name}.x"], arrays[f"{name}.y"]
    bound = 1e-12 if loaded(x).dtype == np.float64 else 1e-5
    np.testing.assert_allclose(loaded(x), y, rtol=bound, atol=bound)
    if name in EXPECTED:
        text = " ".join(repr(loaded).replace(",\n)", ")").replace("(\n", "(").split())
        assert text.replace("Sequential( ", "Sequential(") == f"Sequential({EXPECTED[name]})"
    trainer = fastnn.Trainer(loaded, "mse", fastnn.optim.Adam(loaded.parameters(), lr=0.01))
    target = np.zeros_like(loaded(x))
    first = trainer.step(x, target)
    losses = [trainer.step(x, target) for _ in range(20)]
    assert min(losses) < first
    if name.startswith("torch_activations"):
        kinds = ["Linear", "GELU", "GELU", "SiLU", "ELU", "SELU", "Mish", "Softplus", "LeakyReLU",
                 "Tanh", "Sigmoid", "LogSoftmax"]  # fmt: skip
        assert [type(layer).__name__ for layer in loaded] == kinds
        options = loaded[2].approximate, loaded[4].alpha, loaded[7].beta, loaded[8].negative_slope
        assert options == ("tanh", 0.7, 2.0, 0.2)
    if name.startswith("torch_shared"):
        assert loaded[0].weight is loaded[2].weight


# Small graphs ----------------------------------------------------------------------------------


def graph(path, nodes, arrays=None, x=("batch", 4), kind=TensorProto.FLOAT, y=TensorProto.FLOAT,
          opset=17):  # fmt: skip
    """Write a graph from x to y."""
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()]
    made = helper.make_graph(
        [helper.make_node(op, ins.split(), outs.split(), name=f"n{i}", **options)
         for i, (op, ins, outs, options) in enumerate(nodes)], "g",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info("y", y, None)], tensors,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    Path(path).write_bytes(model.SerializeToString())
    return path


W = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
B = np.float32([1, 2, 3])


@pytest.mark.parametrize(("nodes", "arrays", "expected"), [
    ([("Gemm", "x w b", "y", {"alpha": 0.5, "beta": 2.0})], {"w": W, "b": B}, "Linear(4, 3)"),
    ([("MatMul", "x w", "a", {}), ("Add", "b a", "y", {})], {"w": W, "b": B}, "Linear(4, 3)"),
    ([("MatMul", "x w", "a", {}), ("Sub", "b a", "y", {})], {"w": W, "b": B}, "Linear(4, 3)"),
    ([("Constant", "", "v", {"value": numpy_helper.from_array(W.T.copy())}),
      ("Transpose", "v", "w", {"perm": [1, 0]}), ("Identity", "w", "u", {}),
      ("MatMul", "x u", "y", {})], {}, "Linear(4, 3, bias=False)"),
    ([("Mul", "x s", "a", {}), ("Add", "a t", "c", {}), ("MatMul", "c w", "y", {})],
     {"w": W, "s": np.float32([1, 2, 3, 4]), "t": np.float32(5)}, "Linear(4, 3)"),
    ([("Max", "x z", "y", {})], {"z": np.float32(0)}, "ReLU()"),
    ([("Softmax", "x", "a", {"axis": 1}), ("Log", "a", "y", {})], {}, "LogSoftmax()"),
    ([("Exp", "x", "a", {}), ("ReduceSum", "a i", "b", {}), ("Div", "a b", "y", {})],
     {"i": np.int64([-1])}, "Softmax()"),
    ([("Clip", "x z", "a", {}), ("Exp", "x", "e", {}), ("Sub", "e o", "m", {}),
      ("Greater", "x z", "g", {}), ("Where", "g x m", "y", {})],
     {"z": np.float32(0), "o": np.float32(1)}, "ELU(1.0)"),
    ([("Dropout", "x r", "y", {})], {"r": np.float32(0.25)}, "Dropout(0.25)"),
    ([("Cast", "x", "a", {"to": TensorProto.FLOAT}), ("Relu", "a", "y", {})], {}, "ReLU()"),
    ([("ReduceMean", "x", "m", {"axes": [-1]}), ("Sub", "x m", "d", {}), ("Pow", "d two", "q", {}),
      ("ReduceMean", "q", "v", {"axes": [1]}), ("Add", "v e", "a", {}), ("Sqrt", "a", "s", {}),
      ("Div", "d s", "y", {})], {"two": np.float32(2), "e": np.float32(1e-3)},
     "LayerNorm((4,), eps=0.001)"),
])  # fmt: skip
def test_small_graphs(nodes, arrays, expected, path, rng):
    from onnx.reference import ReferenceEvaluator

    graph(path, nodes, arrays)
    loaded = fastnn.onnx.load(path)
    assert repr(loaded) == f"Sequential({expected})"
    x = rng.normal(size=(6, 4)).astype("f4")
    (y,) = ReferenceEvaluator(path).run(None, {"x": x})
    np.testing.assert_allclose(loaded(x), y, rtol=1e-5, atol=1e-5)


def test_arrays_in_a_file_beside_it(path, rng):
    graph(path, [("Gemm", "x w b", "y", {})], {"w": W, "b": B})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="arrays",
              size_threshold=0)  # fmt: skip
    x = rng.normal(size=(2, 4)).astype("f4")
    np.testing.assert_allclose(fastnn.onnx.load(path)(x), x @ W + B, rtol=1e-5)
    beside = Path(path).with_name("arrays")
    beside.write_bytes(beside.read_bytes()[:20])
    with pytest.raises(ValueError, match="expected"):
        fastnn.onnx.load(path)
    beside.unlink()
    with pytest.raises(ValueError, match="expected its arrays in files beside it"):
        fastnn.onnx.load(path)


# What is refused -------------------------------------------------------------------------------

LSTM = {"w": np.zeros((1, 8, 3), "f4"), "r": np.zeros((1, 8, 2), "f4")}
REFUSED = {
    "unknown": ([("Conv", "x w", "y", {})], {"w": W}, r"node 'n0' \(Conv\): .* not supported"),
    "domain": ([("Relu", "x", "y", {"domain": "com.acme"})], {}, r"com\.acme\.Relu"),
    "loop": ([("If", "x", "y", {})], {}, r"\(If\)"),
    "half known": ([("Erf", "x", "a", {}), ("Relu", "a", "y", {})], {},
                   r"node 'n0' \(Erf\): expected a node that is part of a layer"),
    "scale": ([("Relu", "x", "a", {}), ("Mul", "a s", "y", {})], {"s": np.float32(2)},
              r"node 'n1' \(Mul\): expected a scale or shift beside a dense layer"),
    "branches": ([("Relu", "x", "a", {}), ("Tanh", "x", "b", {}), ("Add", "a b", "y", {})], {},
                 r"node 'n2' \(Add\)"),
    "axis": ([("Softmax", "x", "y", {"axis": 0})], {}, r"\(Softmax\): expected the last axis"),
    "order": ([("Transpose", "x", "y", {"perm": [1, 0]})], {}, r"\(Transpose\): expected the elem"),
    "selection": ([("Gather", "x i", "y", {"axis": 1})], {"i": np.int64([0, 2])}, r"\(Gather\)"),
    "concat": ([("Concat", "x x", "y", {"axis": 0})], {}, r"\(Concat\): expected the last axis"),
    "cycle": ([("Add", "x b", "a", {}), ("Relu", "a", "b", {}), ("Relu", "b", "y", {})], {},
              r"node 'n0' \(Add\): expected its input 'b' from a node before it, got none, or a c"),
    "missing": ([("Add", "x q", "y", {})], {}, "expected its input 'q'"),
    "twice": ([("Relu", "x", "y", {}), ("Tanh", "x", "y", {})], {}, "expected a name of its own"),
    "its input": ([("Relu", "x", "x", {}), ("Tanh", "x", "y", {})], {}, "got 'x' again"),
    "constant": ([("Relu", "b", "y", {})], {"b": B}, "output 'y': expected one computed from"),
    "features": ([("MatMul", "x w", "y", {})], {"w": W.T.copy()}, "expected 3 features, got shape"),
    "weight": ([("MatMul", "x w", "y", {})], {"w": np.zeros((1, 4, 3), "f4")}, "2 axes"),
    "dtypes": ([("MatMul", "x w", "y", {})], {"w": W.astype("f8")}, "arrays of one dtype, float32"),
    "dtypes of a sum": ([("Add", "x s", "y", {})], {"s": np.float64(2)}, "expected arrays of one"),
    "half": ([("Cast", "x", "a", {"to": TensorProto.FLOAT16}), ("MatMul", "a w", "y", {})],
             {"w": W.astype("f2")}, "float32 or float64, got 'float16'"),
    "peephole": ([("LSTM", "x w r", "y", {"hidden_size": 2, "clip": 1.0})], LSTM, "expected no cl"),
    "direction": ([("LSTM", "x w r", "y", {"direction": "reverse"})], LSTM, "direction"),
    "gates": ([("LSTM", "x w r", "y", {"activations": ["Relu"] * 3})], LSTM, "activations Sigmoid"),
    "axes": ([("LSTM", "x w r", "y", {})], LSTM, r"\(time, batch, features\)"),
    "old": ([("Relu", "x", "y", {})], {}, "operators of version 7 or later, got 3"),
    "training": ([("BatchNormalization", "x s s s s", "y", {"training_mode": 1})],
                 {"s": np.ones(4, "f4")}, "as in prediction"),
    "no rows": ([("Gather", "w x", "y", {})], {"w": W}, "rows of a table by the integers"),
    "places": ([("Cast", "x", "i", {"to": TensorProto.INT64}), ("Gather", "x i", "y", {})], {},
               "expected places that are known"),
    "argument": ([("Squeeze", "x i", "y", {})], {"i": np.int64([5])}, "what Squeeze takes"),
    "large": ([("ConstantOfShape", "n", "a", {}), ("Add", "x a", "y", {})],
              {"n": np.int64([2**20, 2**20])}, "many more elements"),
    "expanded": ([("Expand", "s n", "a", {}), ("Add", "x a", "y", {})],
                 {"s": np.float32(1), "n": np.int64([2**30, 4])}, "many more elements"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(name, path):
    nodes, arrays, message = REFUSED[name]
    graph(path, nodes, arrays, opset=3 if name == "old" else 17)
    with pytest.raises(ValueError, match=message) as caught:
        fastnn.onnx.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("chain", ["doubled", "sums", "deep"])
def test_no_graph_takes_much_memory(chain, path):
    if chain == "doubled":
        nodes = [("Concat", f"c{i} c{i}", f"c{i + 1}", {"axis": 0}) for i in range(40)]
        nodes.append(("Add", "x c40", "y", {}))
    elif chain == "sums":
        nodes = [("Add", f"c{i} c0", f"c{i + 1}", {}) for i in range(2000)]
        nodes.append(("Add", "x c2000", "y", {}))
    else:
        nodes = [("Relu", "x", "r0", {})]
        for i in range(300):
            nodes += [("Tanh", f"r{i}", f"t{i}", {}), ("Add", f"t{i} x", f"r{i + 1}", {})]
        nodes.append(("Relu", "r300", "y", {}))
    graph(path, nodes, {"c0": np.ones((100, 100), "f4")})
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"many more elements|within each other|expected"):
        fastnn.onnx.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_sizes_that_the_file_does_not_have(path):
    model = onnx.load(graph(path, [("Gemm", "x w b", "y", {})], {"w": W, "b": B}))
    model.graph.initializer[0].dims[:] = [2**40, 2**20]
    Path(path).write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="array 'w': expected the data of shape"):
        fastnn.onnx.load(path)
    model.graph.initializer[0].dims[:] = [-4, 3]
    Path(path).write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="array 'w': expected lengths of at least 0"):
        fastnn.onnx.load(path)
    graph(path, [("Transpose", "x", "y", {"perm": [0, 2, 1]})], x=(2**40, 2**20, 3))
    with pytest.raises(ValueError, match="input 'x': expected a shape that fits into memory"):
        fastnn.onnx.load(path)
    graph(path, [("Erf", "x", "y", {})], x=(2**24, 3))
    with pytest.raises(ValueError, match="many more elements"):
        fastnn.onnx.load(path)


def test_damaged_files(path, tmp_path):
    """Cut short anywhere: a model or a ValueError."""
    fastnn.onnx.export(fastnn.Sequential(fastnn.Linear(4, 3), fastnn.GELU(), rng=0), path)
    whole = Path(path).read_bytes()
    for end in range(0, len(whole) - 1, 7):
        Path(path).write_bytes(whole[:end])
        with pytest.raises(ValueError, match=path):
            fastnn.onnx.load(path)
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        Path(path).write_bytes(data)
        with suppress(ValueError):
            fastnn.onnx.load(path)
    with pytest.raises(IsADirectoryError):
        fastnn.onnx.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fastnn.onnx.load(tmp_path / "none")
    with pytest.raises(TypeError, match="path: expected a str"):
        fastnn.onnx.load(3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular file"):
        fastnn.onnx.load(tmp_path / "pipe")
