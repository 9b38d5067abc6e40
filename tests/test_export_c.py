"""Models as C: compiled here, and compared with what they were in Python."""

import ctypes
import platform
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn._kernels import core

from .layer_table import LAYERS, inputs

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")

pytestmark = pytest.mark.skipif(CC is None, reason="there is no C compiler")


@pytest.fixture
def compiled(tmp_path):
    def compile_(model, **options):
        compile_.count += 1
        source, library = (tmp_path / f"net{compile_.count}{end}" for end in (".c", ".so"))
        fastnn.export_c(model, source, **options)
        command = [CC, *STRICT, "-O2", "-shared", "-fPIC", source, "-o", library, "-lm"]
        subprocess.run(command, check=True, timeout=60)
        return Net(ctypes.CDLL(str(library)), options.get("name", "net"), model._built().dtype)

    compile_.count = 0
    return compile_


class Net:
    """The functions of an exported file on arrays."""

    def __init__(self, library, name, dtype):
        self.library, self.name, self.dtype = library, name, dtype

    def _function(self, what):
        return getattr(self.library, f"{self.name}_{what}")

    def predict(self, x, shape):
        x, y = np.ascontiguousarray(x, self.dtype), np.empty(shape, self.dtype)
        for row, out in zip(x, y, strict=True):
            self._function("predict")(address(row), address(out))
        return y

    def train(self, x, y):
        x, y = (np.ascontiguousarray(a, self.dtype) for a in (x, y))
        function = self._function("train")
        function.restype = ctypes.c_float if self.dtype.itemsize == 4 else ctypes.c_double
        return [function(address(row), address(target)) for row, target in zip(x, y, strict=True)]

    def reset(self):
        self._function("reset")()


def address(array):
    return ctypes.c_void_p(array.ctypes.data)


def assert_close(got, expected, units=8):
    """Within so many units in the last place of a row's largest output.

    Twice as many where our own products round every term twice, without fused multiply-adds.
    """
    units *= 1 if core.isa() in ("v3", "v4") or platform.machine() in ("aarch64", "arm64") else 2
    rows = expected.reshape(len(expected), -1)
    unit = np.spacing(np.abs(rows).max(1, keepdims=True))
    error = np.abs(got.reshape(rows.shape).astype(np.float64) - rows)
    assert (error <= units * unit).all(), (error / unit).max()


def mlp(*sizes, **options):
    layers = [fastnn.Linear(sizes[0], sizes[1])]
    for ins, outs in pairwise(sizes[1:]):
        layers += [fastnn.Tanh(), fastnn.Linear(ins, outs)]
    return fastnn.Sequential(*layers, **{"rng": 0, **options})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_predict_as_in_python(compiled, dtype):
    made = [(make(), shape) for make, shape in LAYERS]
    branches = [
        (layer, shape) for layer, shape in made
        if not hasattr(type(layer), "final_state") and not layer._takes_integers
    ]  # fmt: skip
    assert len(branches) > 15
    for shape in {shape for _, shape in branches}:
        fits = [layer for layer, own in branches if own == shape]
        flat = [fastnn.Sequential(layer, fastnn.Flatten()) for layer in fits]
        model = fastnn.Sequential(fastnn.Concat(*flat), dtype=dtype, rng=0)
        x = inputs(model, shape, dtype)
        if shape == (3,):
            model.layers[0].layers[0].layers[0].running_mean.data = [0.1, 2, -3]
        expected = model(x)
        got = compiled(model, input_shape=shape).predict(x, expected.shape)
        start = 0
        for layer in flat:  # a row's largest output is that of each layer
            end = start + layer(x[:1]).shape[1]
            # the kernel of LayerNorm has an error of 12 itself where a row's elements lie close
            exact = not (dtype == "float64" and isinstance(layer.layers[0], fastnn.LayerNorm))
            assert_close(got[:, start:end], expected[:, start:end], 8 if exact else 16)
            start = end


def test_networks_predict_as_in_python(compiled):
    for sizes in ((64, 128, 10), (700, 70, 5), (3, 1)):
        model = mlp(*sizes)
        x = np.random.default_rng(0).normal(size=(50, sizes[0])).astype(np.float32)
        assert_close(compiled(model, name="mlp").predict(x, (50, sizes[-1])), model(x))


def test_embeddings_take_numbers(compiled):
    model = fastnn.Sequential(fastnn.Embedding(9, 3), fastnn.Flatten(), fastnn.Linear(6, 2), rng=0)
    x = np.array([[1, 5], [8, 0]])
    net = compiled(model, input_shape=(2,), optimizer=fastnn.optim.SGD(model.parameters(), lr=0.1))
    assert_close(net.predict(x, (2, 2)), model(x))
    losses = net.train(x, np.ones((2, 2)))
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    expected = [trainer.step(x[i : i + 1], np.ones((1, 2), np.float32)) for i in range(2)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recurrent_models_go_step_by_step(compiled, dtype):
    model = fastnn.Sequential(
        fastnn.LSTM(3, 7, 2), fastnn.LSTM(7, 24, return_sequences=True), fastnn.Linear(24, 2),
        rng=0, dtype=dtype,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(dtype)
    net, y = compiled(model), model(x)
    for sequence, expected in zip(x, y, strict=True):
        net.reset()
        assert_close(net.predict(sequence, (30, 2)), expected)


OPTIMIZERS = {
    "sgd": lambda p: fastnn.optim.SGD(p, lr=0.05),
    "momentum": lambda p: fastnn.optim.SGD(p, 0.02, 0.9, 0.1, weight_decay=1e-3),
    "nesterov": lambda p: fastnn.optim.SGD(p, 0.02, 0.9, nesterov=True, clip_norm=0.5),
    "velocity": lambda p: fastnn.optim.SGD(p, 0.02, 0.9, lr_in_velocity=True, clip_value=0.1),
    "nag": lambda p: fastnn.optim.NAG(p, 0.01),
    "adagrad": lambda p: fastnn.optim.Adagrad(p, 0.05, lr_decay=1e-3),
    "rmsprop": lambda p: fastnn.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True, eps=1e-4),
    "adam": lambda p: fastnn.optim.Adam(p, 1e-3),
    "amsgrad": lambda p: fastnn.optim.Adam(p, 1e-3, amsgrad=True, eps_inside_sqrt=True),
    "keras": lambda p: fastnn.optim.Adam(p, 1e-3, eps_uncorrected=True, bias_correction=True),
    "adamw": lambda p: fastnn.optim.AdamW(p, 1e-3),
    "groups": lambda p: fastnn.optim.Adam([{"params": p[:1], "lr": 1e-2}, {"params": p[1:]}]),
    "lamb": lambda p: fastnn.optim.LAMB(p, 1e-3, weight_decay=1e-3),
    "lion": lambda p: fastnn.optim.Lion(p, 1e-3),
}


def data(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    return x, np.sin(x @ rng.normal(size=(4, columns)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_the_trainer(compiled, name):
    """1,000 steps in double precision, where rounding does not hide the rule."""
    model = mlp(4, 12, 3, dtype="float64")
    optimizer = OPTIMIZERS[name](model.parameters())
    trainer = fastnn.Trainer(model, "mse", optimizer)
    x, y = data(1000, 3)
    for i in range(3):  # states and the count of steps go along
        trainer.step(x[i : i + 1], y[i : i + 1])
    net = compiled(model, optimizer=optimizer)
    losses = net.train(x, y)
    expected = [trainer.step(x[i : i + 1], y[i : i + 1]) for i in range(1000)]
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(net.predict(x, y.shape), model(x), rtol=1e-6, atol=1e-7)


def test_training_in_single_precision(compiled):
    model = mlp(4, 12, 3)
    optimizer = fastnn.optim.Adam(model.parameters(), 1e-3)
    net = compiled(model, optimizer=optimizer)
    x, y = (a.astype(np.float32) for a in data(1000, 3))
    net.train(x, y)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    for i in range(1000):
        trainer.step(x[i : i + 1], y[i : i + 1])
    difference = np.abs(net.predict(x, y.shape) - model(x)).max()
    assert difference < 1e-6 * np.abs(model(x)).max() * 10


LOSSES = {
    "l1": fastnn.losses.l1(reduction="sum"),
    "huber": fastnn.losses.huber(delta=0.3),
    "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits",
    "poisson_nll": "poisson_nll",
    "gaussian_nll": "gaussian_nll",
    "quantile": fastnn.losses.quantile(quantiles=[0.1, 0.5, 0.9]),
    "batch": fastnn.losses.mse(reduction="batch"),
    "cross_entropy": "cross_entropy",
    "weighted": fastnn.losses.cross_entropy(label_smoothing=0.1, class_weight=[1, 2, 0.5, 1, 1, 3],
                                            ignore_index=4),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_trainer(compiled, name):
    loss = LOSSES[name]
    model = mlp(4, 9, 6, dtype="float64")
    optimizer = fastnn.optim.SGD(model.parameters(), lr=0.05)
    x, y = data(60, {"gaussian_nll": 3, "quantile": 2}.get(name, 6))
    if name in ("cross_entropy", "weighted"):
        y = np.arange(60) % 6
    elif name not in ("l1", "huber", "batch", "quantile", "gaussian_nll"):
        y = np.abs(y)
    net = compiled(model, optimizer=optimizer, loss=loss)
    losses = net.train(x, y[:, None] if y.ndim == 1 else y)
    trainer = fastnn.Trainer(model, loss, optimizer)
    expected = [trainer.step(x[i : i + 1], y[i : i + 1]) for i in range(60)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(net.predict(x, (60, 6)), model(x), rtol=1e-9)


def test_every_layer_trains(compiled):
    """Gradients through all layers that can be: dropout with the same random numbers."""
    model = fastnn.Sequential(
        fastnn.Linear(4, 8), fastnn.LayerNorm(8), fastnn.Dropout(0.3),
        fastnn.Residual(fastnn.Linear(8, 8, bias=False), fastnn.GELU(), fastnn.Scale(8)),
        fastnn.Concat(*[
            fastnn.Sequential(fastnn.Linear(8, 5), layer)
            for layer in (fastnn.ReLU(), fastnn.LeakyReLU(), fastnn.ELU(0.7), fastnn.SELU(),
                          fastnn.Sigmoid(), fastnn.Tanh(), fastnn.GELU("tanh"), fastnn.SiLU(),
                          fastnn.Softplus(1.5), fastnn.Mish(), fastnn.Softmax(),
                          fastnn.LogSoftmax())
        ]),
        fastnn.Flatten(), fastnn.Linear(60, 2), rng=0, dtype="float64",
    )  # fmt: skip
    optimizer = fastnn.optim.Adam(model.parameters(), 1e-3)
    net = compiled(model, optimizer=optimizer)
    x, y = data(40, 2)
    losses = net.train(x, y)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    expected = [trainer.step(x[i : i + 1], y[i : i + 1]) for i in range(40)]
    np.testing.assert_allclose(losses, expected, rtol=1e-7)


def test_frozen_parameters_stay(compiled):
    model = mlp(4, 6, 2, dtype="float64")
    model[0].freeze()
    optimizer = fastnn.optim.SGD(model.parameters(), lr=0.1)
    x, y = data(30, 2)
    net = compiled(model, optimizer=optimizer)
    losses = net.train(x, y)
    trainer = fastnn.Trainer(model, "mse", optimizer)
    expected = [trainer.step(x[i : i + 1], y[i : i + 1]) for i in range(30)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


def compilers():
    """Other compilers and targets, where they are installed; the second runs on a Cortex-M4."""
    yield from [[name] for name in ("gcc", "clang") if shutil.which(name)]
    if shutil.which("gcc"):
        test = subprocess.run(
            ["gcc", "-m32", "-xc", "-", "-c", "-o", "/dev/null"],
            input=b"#include <math.h>\n",
            capture_output=True,
            check=False,
        )
        if test.returncode == 0:
            yield ["gcc", "-m32"]
    if shutil.which("arm-none-eabi-gcc"):
        yield ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16",
               "-mfloat-abi=hard"]  # fmt: skip


def test_compilers_are_silent(tmp_path):
    model = mlp(4, 12, 3)
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    trains, goes = tmp_path / "trains.c", tmp_path / "goes.c"
    fastnn.export_c(model, trains, optimizer=optimizer)
    fastnn.export_c(fastnn.Sequential(fastnn.LSTM(2, 5), fastnn.Linear(5, 1), rng=0), goes)
    for compiler in compilers():
        for source in (trains, goes):
            command = [*compiler, *STRICT, "-O2", "-c", source, "-o", tmp_path / "net.o"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert (done.returncode, done.stderr) == (0, ""), compiler


def test_the_object_is_small(tmp_path):
    source, target = tmp_path / "net.c", tmp_path / "net.o"
    model = fastnn.Sequential(fastnn.Linear(64, 128), fastnn.ReLU(), fastnn.Linear(128, 10), rng=0)
    fastnn.export_c(model, source)
    subprocess.run([CC, *STRICT, "-O2", "-c", source, "-o", target], check=True, timeout=60)
    size = shutil.which("size")
    if size is None:
        pytest.skip("there is no program that tells sizes")
    told = subprocess.run([size, target], capture_output=True, text=True, check=True).stdout
    assert sum(map(int, told.splitlines()[1].split()[:3])) <= 45_000


class Doubled(fastnn.Layer):
    def forward(self, x, training=False):
        return 2 * x


def test_what_cannot_be_exported_is_refused(tmp_path):
    model, path = mlp(4, 3), tmp_path / "net.c"
    adam = fastnn.optim.Adam(model.parameters())
    normal = fastnn.Sequential(fastnn.Linear(4, 3), fastnn.BatchNorm1d(3), rng=0)
    lstm = fastnn.LSTM(3, 4, rng=0)
    sparse = fastnn.Sequential(fastnn.Embedding(9, 3, sparse=True), fastnn.Flatten(), rng=0)
    cases = [
        (TypeError, "model: expected a fastnn layer", ("text",), {}),
        (ValueError, "name: expected an identifier", (model,), {"name": "my net"}),
        (TypeError, "optimizer: expected a fastnn", (model,), {"optimizer": "adam"}),
        (TypeError, "in Python", (fastnn.Sequential(fastnn.Linear(4, 3), Doubled(), rng=0),), {}),
        (ValueError, "bidirectional", (fastnn.LSTM(3, 4, bidirectional=True),), {}),
        (ValueError, "recurrent", (lstm,), {"optimizer": fastnn.optim.SGD(lstm.parameters(), 0.1)}),
        (ValueError, r"layer 1 \(batch_norm", (normal,),
         {"optimizer": fastnn.optim.SGD(normal.parameters(), 0.1)}),
        (ValueError, r"layer 0 \(embedding", (sparse,), {
            "optimizer": fastnn.optim.SGD(sparse.parameters(), 0.1), "input_shape": (2,)}),
        (ValueError, "optimizer: expected parameters of the model", (mlp(4, 3),),
         {"optimizer": adam}),
        (ValueError, "expected a constant lr", (model,), {"optimizer": fastnn.optim.Adam(
            model.parameters(), lr=fastnn.schedules.linear(1e-3, 0, 10))}),
        (ValueError, "state_dtype", (model,), {"optimizer": fastnn.optim.Adam(
            model.parameters(), state_dtype="bfloat16")}),
        (TypeError, "loss: expected", (model,), {"optimizer": adam, "loss": lambda p, t: (0, p)}),
        (ValueError, "input_shape: expected", (fastnn.Flatten(),), {}),
        (ValueError, "x: expected 4 features", (model,), {"input_shape": (5,)}),
    ]  # fmt: skip
    for error, message, (given,), options in cases:
        with pytest.raises(error, match=message):
            fastnn.export_c(given, path, **options)
    with pytest.raises(TypeError, match="path: expected"):
        fastnn.export_c(model, 3)
    with pytest.raises(IsADirectoryError):
        fastnn.export_c(model, tmp_path)
    assert not path.exists()


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "microcontroller.md"
    blocks = re.findall(r"```(python|c)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert [language for language, _ in blocks] == ["python", "c", "python", "python"]
    names = {}
    for language, code in blocks:
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
            names.setdefault("first", names["model"])
    Path("main.c").write_text(blocks[1][1], encoding="utf-8")
    subprocess.run([CC, "-O2", "main.c", "-o", "net", "-lm"], check=True, timeout=60)
    told = subprocess.run(["./net"], capture_output=True, text=True, check=True, timeout=60).stdout
    expected = names["first"](np.array([[0.1, -0.2, 0.3, 0.5]], np.float32))[0, 0]
    assert abs(float(told) - expected) < 1e-4
    for file in ("lstm.c", "learns.c"):
        subprocess.run([CC, *STRICT, "-c", file, "-o", "net.o"], check=True, timeout=60)
