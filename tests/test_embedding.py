"""Embeddings: integers in, the gradient of the rows used."""

import numpy as np
import pytest

import fastnn
from fastnn import ops


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2), (0, 4)])
def test_forward_and_gradient(shape, dtype, rng):
    layer = fastnn.Embedding(7, 5, dtype=dtype, rng=0)
    x = rng.integers(0, 7, shape)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, layer.weight.data[x])
    dy = rng.standard_normal(y.shape).astype(dtype)
    assert layer.backward(dy) is None
    want = np.zeros((7, 5))
    np.add.at(want, x, dy)
    np.testing.assert_allclose(layer.weight.grad, want, atol=10 * np.finfo(dtype).eps)


def test_accumulate_adds(rng):
    layer = fastnn.Embedding(4, 3, rng=0)
    x, dy = np.array([[1, 1], [3, 0]]), rng.standard_normal((2, 2, 3)).astype(np.float32)
    layer.forward(x, training=True)
    layer.backward(dy)
    once = layer.weight.grad.copy()
    layer.forward(x, training=True)
    layer.backward(dy, accumulate=True)
    np.testing.assert_allclose(layer.weight.grad, 2 * once, rtol=1e-6)
    assert (once[2] == 0).all()


def test_agrees_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Embedding(9, 4), fastnn.Embedding(9, 4)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x, dy = rng.integers(0, 9, (6, 3)), rng.standard_normal((6, 3, 4)).astype(np.float32)
    y = theirs(torch.from_numpy(x))
    y.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(ours.forward(x, training=True), y.detach().numpy())
    ours.backward(dy)
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), atol=1e-6)


def test_inside_a_model(rng):
    """Tells sequences that hold a 3 from those that do not."""
    x = rng.integers(0, 6, (200, 5))
    labels = (x == 3).any(axis=1).astype(np.int64)
    model = fastnn.Sequential(
        fastnn.Embedding(6, 4), fastnn.LSTM(4, 8, return_sequences=False),
        fastnn.Linear(8, 2), rng=0,
    )  # fmt: skip
    assert model(x).shape == (200, 2)
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.03)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    losses = [trainer.step(x, labels) for _ in range(150)]
    assert losses[-1] < 0.1 * losses[0]


def test_single_indices_in_a_model():
    model = fastnn.Sequential(fastnn.Embedding(6, 4), fastnn.Linear(4, 2), rng=0)
    assert model(np.array([1, 2, 5])).shape == (3, 2)


def test_starts_like_pytorch():
    weight = fastnn.Embedding(1000, 50, rng=0)
    weight.parameters()
    assert weight.weight.data.std() == pytest.approx(1, rel=0.01)


def test_refuses():
    layer = fastnn.Embedding(4, 2, rng=0)
    with pytest.raises(TypeError, match="x: expected integers"):
        layer(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="x: expected indices from 0 to 3"):
        layer(np.array([4]))
    with pytest.raises(ValueError, match="x: expected indices from 0 to 3"):
        layer(np.array([-1]))
    with pytest.raises(ValueError, match="integers as the input of a model"):
        fastnn.Sequential(fastnn.Linear(2, 2), layer)(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="num_embeddings"):
        fastnn.Embedding(0, 2)


def test_functions(dtype, rng):
    weight, index = rng.standard_normal((6, 3)).astype(dtype), rng.integers(0, 6, (4, 2))
    y = ops.embedding(index, weight)
    np.testing.assert_array_equal(y, weight[index])
    want = np.zeros((6, 3))
    np.add.at(want, index, y)
    np.testing.assert_allclose(ops.embedding_backward(y, index, 6), want,
                               atol=10 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match="index: expected indices from 0 to 5"):
        ops.embedding([6], weight)
    with pytest.raises(TypeError, match="index: expected integers"):
        ops.embedding([0.5], weight)


def test_branches_share_their_integers(rng):
    model = fastnn.Concat(
        fastnn.Embedding(9, 4), fastnn.Sequential(fastnn.Embedding(5, 2), fastnn.Tanh()), rng=0
    )
    x = rng.integers(0, 5, (3, 2))
    first, second = (p.data[x] for p in model.parameters())
    np.testing.assert_allclose(model(x), np.concatenate([first, np.tanh(second)], -1), rtol=1e-6)
    with pytest.raises(ValueError, match="x: expected indices from 0 to 4, got 0 to 8"):
        model(np.array([0, 8]))
    with pytest.raises(ValueError, match=r"layer 1 \(Linear\): x: expected float32 numbers"):
        fastnn.Concat(fastnn.Embedding(9, 4), fastnn.Linear(2, 4), rng=0)(x)
    with pytest.raises(TypeError, match="x: expected integers"):
        fastnn.Concat(fastnn.Linear(2, 4), fastnn.Embedding(9, 4), rng=0)(x)


def test_a_single_row_of_any_stride(dtype):
    """NumPy calls such an array contiguous, whatever its first stride is."""
    values = np.arange(3, dtype=dtype)
    for stride in (0, values.itemsize, 10**6, -8):
        weight = np.lib.stride_tricks.as_strided(values, (1, 3), (stride, values.itemsize))
        np.testing.assert_array_equal(fastnn.ops.embedding([0, 0], weight), [values, values])
