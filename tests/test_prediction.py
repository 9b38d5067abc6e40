"""Predictors and streams: frozen copies with the bits of their model."""

import copy
import ctypes
import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest

import fastnn

from .layer_table import LAYERS, inputs

FUNCTION = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p
)


class Doubled(fastnn.Layer):
    """A layer in Python."""

    def forward(self, x, training=False):
        return 2 * x


def network(*sizes, **options):
    layers = []
    for ins, outs in pairwise(sizes):
        layers += [fastnn.Linear(ins, outs), fastnn.Tanh()]
    return fastnn.Sequential(*layers[:-1], rng=0, **options)


def rows_of(model, rows, seed=0):
    size = model.input_shape()
    return np.random.default_rng(seed).normal(size=(rows, *size)).astype(model[0].weight.data.dtype)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make()) for make, _ in LAYERS])
def test_predictors_have_the_bits_of_every_layer(make, shape):
    model = make()
    x = inputs(model, shape)
    predictor = model.predictor()
    for rows in (x, x[:1], x[:0]):
        np.testing.assert_array_equal(predictor(rows), model(rows), strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(10, 64, 64, 1), (3, 300, 17), (2100, 5)])
def test_predictors_have_the_bits_of_every_batch(sizes, dtype):
    model = network(*sizes, dtype=dtype)
    predictor = model.predictor()
    for rows in (1, 2, 3, 4, 7, 33, 900):
        x = rows_of(model, rows)
        np.testing.assert_array_equal(predictor(x), model(x), strict=True)
    np.testing.assert_array_equal(predictor(x[0]), model(x[0]), strict=True)
    np.testing.assert_array_equal(predictor(x[:3].tolist()), model(x[:3].tolist()))
    np.testing.assert_array_equal(predictor(x[::2]), model(x[::2]))


def test_predictors_take_several_shapes():
    model = fastnn.Sequential(fastnn.LSTM(3, 20, 2), fastnn.Linear(20, 2), rng=0)
    predictor = model.predictor()
    for steps in (4, 9, 4):
        x = np.random.default_rng(steps).normal(size=(5, steps, 3)).astype(np.float32)
        np.testing.assert_array_equal(predictor(x), model(x))


def test_predictors_are_frozen():
    model = fastnn.Sequential(fastnn.Linear(4, 4), fastnn.BatchNorm1d(4), fastnn.LeakyReLU(), rng=0)
    x = rows_of(model, 5)
    predictor, before = model.predictor(), model(x)
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.SGD(model.parameters(), lr=0.1))
    trainer.step(x, x)
    model.layers[2].negative_slope = 0.5
    model.layers = model.layers[:1]
    for same in (predictor, pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        np.testing.assert_array_equal(same(x), before)
        np.testing.assert_array_equal(same(x[:2]), before[:2])
    assert not np.array_equal(model(x), before)


def test_predictors_write_where_they_are_told():
    model = network(4, 3)
    predictor, x = model.predictor(), rows_of(model, 5)
    out = np.empty((5, 3), np.float32)
    assert predictor(x, out=out) is out
    np.testing.assert_array_equal(out, model(x))
    row = np.empty(3, np.float32)
    assert predictor(x[0], out=row) is row
    np.testing.assert_array_equal(row, model(x)[0])
    square = network(4, 4).predictor()
    with pytest.raises(ValueError, match="out: expected its own memory"):
        square(x, out=x)
    with pytest.raises(ValueError, match=r"out: expected shape \(5, 3\)"):
        predictor(x, out=out[:4])
    with pytest.raises(TypeError, match="out: expected dtype float32"):
        predictor(x, out=np.empty((5, 3)))
    with pytest.raises(ValueError, match="x: expected 4 features"):
        predictor(np.ones((2, 5), np.float32))
    with pytest.raises(TypeError, match="x: expected"):
        predictor("text")
    with pytest.raises(ValueError, match="x: expected at least one axis"):
        predictor(1.0)


def test_layers_in_python_predict_too():
    model = fastnn.Sequential(fastnn.Linear(4, 3), Doubled(), rng=0)
    predictor, x = model.predictor(), rows_of(model, 5)
    before, out = model(x), np.empty((5, 3), np.float32)
    model[0].weight.data = np.zeros((3, 4))
    np.testing.assert_array_equal(predictor(x), before)
    np.testing.assert_array_equal(predictor(x, out=out), before)
    with pytest.raises(TypeError, match="model: expected a fastnn layer of kernels alone"):
        predictor.address  # noqa: B018
    np.testing.assert_array_equal(model.stream(5)(x), model(x))


def test_indices_are_checked():
    model = fastnn.Sequential(fastnn.Embedding(9, 3), fastnn.Flatten(), fastnn.Linear(6, 2), rng=0)
    x, predictor = np.array([[1, 2], [8, 0]]), model.predictor()
    for _ in range(2):
        np.testing.assert_array_equal(predictor(x), model(x))
        with pytest.raises(ValueError, match="x: expected"):
            predictor(x + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_c_calls_a_predictor_by_its_address(dtype):
    model = network(6, 40, 3, dtype=dtype)
    predictor, x = model.predictor(), rows_of(model, 500)
    function, y = FUNCTION(predictor.address), np.empty((500, 3), dtype)
    function(predictor.context, x.ctypes.data, 500, y.ctypes.data)
    np.testing.assert_array_equal(y, model(x))


def test_the_shape_that_c_gives_is_known():
    model = fastnn.Sequential(fastnn.LSTM(2, 5), fastnn.Linear(5, 1), rng=0)
    with pytest.raises(ValueError, match="input_shape: expected the shape of one row"):
        model.predictor().address  # noqa: B018
    predictor, x = model.predictor((7, 2)), np.ones((3, 7, 2), np.float32)
    y = np.empty((3, 7, 1), np.float32)
    FUNCTION(predictor.address)(predictor.context, x.ctypes.data, 3, y.ctypes.data)
    np.testing.assert_array_equal(y, model(x))
    with pytest.raises(ValueError, match="x: expected"):
        model.predictor((7, 3))


def test_a_capsule_keeps_its_predictor():
    scipy = pytest.importorskip("scipy")
    model = network(3, 2)
    capsule = model.predictor().capsule
    call = scipy.LowLevelCallable(capsule)
    assert call.signature == "void (void *, void *, ptrdiff_t, void *)"
    pointer, context = (
        ctypes.pythonapi.PyCapsule_GetPointer,
        ctypes.pythonapi.PyCapsule_GetContext,
    )
    pointer.restype = context.restype = ctypes.c_void_p
    pointer.argtypes, context.argtypes = [ctypes.py_object, ctypes.c_char_p], [ctypes.py_object]
    x, y = rows_of(model, 4), np.empty((4, 2), np.float32)
    function = FUNCTION(pointer(capsule, call.signature.encode()))
    function(context(capsule), x.ctypes.data, 4, y.ctypes.data)
    np.testing.assert_array_equal(y, model(x))


def test_threads_share_a_predictor():
    model = network(10, 200, 200, 2)
    predictor = model.predictor()
    x = rows_of(model, 1000)
    expected, wrong = model(x), []

    def run(seed):
        for first in np.random.default_rng(seed).integers(0, 990, 200):
            rows = slice(first, first + 1 + first % 9)
            if not np.array_equal(predictor(x[rows]), expected[rows]):
                wrong.append(first)
        if not np.array_equal(predictor(x), expected):
            wrong.append("all")

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
def test_streams_take_the_steps_of_a_sequence(batch, dtype):
    model = fastnn.Sequential(
        fastnn.Linear(3, 4), fastnn.LSTM(4, 20, 2), fastnn.LSTM(20, 5), fastnn.Linear(5, 2),
        rng=0, dtype=dtype,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(batch, 9, 3)).astype(dtype)
    stream, y = model.stream(batch), model(x)
    for t in range(9):
        np.testing.assert_array_equal(stream(x[:, t]), y[:, t], strict=True)
    stream.reset()
    out = np.empty((batch, 2), dtype)
    assert stream(np.ascontiguousarray(x[:, 0]), out=out) is out
    np.testing.assert_array_equal(out, y[:, 0])


def test_streams_give_the_last_step_of_a_model_that_does():
    model = fastnn.Sequential(fastnn.LSTM(2, 6, return_sequences=False), fastnn.Linear(6, 1), rng=0)
    x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    stream = model.stream()
    steps = [stream(row) for row in x]
    np.testing.assert_array_equal(steps[-1], model(x[None])[0], strict=True)


def test_states_of_streams_move():
    model = fastnn.Sequential(fastnn.LSTM(2, 6), fastnn.LSTM(6, 4), rng=0)
    x = np.random.default_rng(0).normal(size=(2, 8, 2)).astype(np.float32)
    one, other = model.stream(2), model.stream(2)
    for t in range(4):
        one(x[:, t])
    (h, c), _ = state = one.state
    assert h.shape == c.shape == (1, 2, 6)
    following = [one(x[:, t]) for t in range(4, 8)]
    for goes_on in (other, pickle.loads(pickle.dumps(other)), copy.deepcopy(other)):
        goes_on.state = state
        for t in range(4, 8):
            np.testing.assert_array_equal(goes_on(x[:, t]), following[t - 4])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).state[0][0], one.state[0][0])
    one.state = None
    assert not np.any(one.state[0])

    with pytest.raises(ValueError, match="state: expected that of 2 sequences, got one of 1"):
        other.state = model.stream().state
    with pytest.raises(ValueError, match="state: expected a pair"):
        other.state = (h, c, h)


def test_streams_of_indices():
    model = fastnn.Sequential(fastnn.Embedding(9, 3), fastnn.LSTM(3, 4), rng=0)
    x = np.array([[1, 5, 8], [0, 2, 3]])
    stream, y = model.stream(2), model(x)
    for t in range(3):
        np.testing.assert_array_equal(stream(x[:, t]), y[:, t])


def test_streams_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match=r"layer 1 \(LSTM\): expected one that reads"):
        fastnn.Sequential(fastnn.Linear(2, 3), fastnn.LSTM(3, 4, bidirectional=True)).stream()
    for bad, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="batch: expected"):
            network(2, 3).stream(bad)
    with pytest.raises(ValueError, match="x: expected a step of 2 sequences"):
        network(2, 3).stream(2)(np.ones((3, 2), np.float32))
    stream = fastnn.LSTM(2, 3, rng=0).stream()
    stream(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="x: expected"):
        stream(np.ones((1, 3), np.float32))
