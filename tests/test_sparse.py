"""Embeddings with sparse=True: gradients and updates of the rows that a batch uses."""

from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import ops, optim

from .optimizers import RULES, VARIANTS, each
from .trainer_cases import assert_same, state

NUM, DIM = 40, 6


def batches(rng, count=6, size=5):
    return [rng.integers(0, NUM, (size, 2)) for _ in range(count)]


def backward(layer, x, rng, accumulate=False):
    y = layer.forward(x, training=True)
    layer.backward(rng.standard_normal(y.shape).astype(y.dtype), accumulate)


def test_gradient_is_the_dense_one(dtype):
    dense, sparse = (fastnn.Embedding(NUM, DIM, flag, dtype=dtype, rng=0) for flag in (False, True))
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    np.testing.assert_array_equal(sparse.weight.rows, [])
    for step, x in enumerate(batches(np.random.default_rng(0))):
        accumulate = step in (2, 3)
        backward(dense, x, one, accumulate)
        backward(sparse, x, other, accumulate)
        np.testing.assert_array_equal(sparse.weight.grad, dense.weight.grad)
        rows = sparse.weight.rows
        assert sorted(rows) == np.flatnonzero(dense.weight.grad.any(axis=1)).tolist()
        if not accumulate:
            assert list(rows) == list(dict.fromkeys(x.ravel()))
    assert dense.weight.rows is None


def test_a_layer_used_twice(rng):
    def model(sparse):
        shared = fastnn.Embedding(NUM, DIM, sparse)
        return fastnn.Concat(shared, fastnn.Sequential(shared, fastnn.Tanh()), rng=0)

    dense, sparse = model(False), model(True)
    for x in batches(rng, 3):
        dy = rng.standard_normal((*x.shape, 2 * DIM)).astype(np.float32)
        for layer in (dense, sparse):
            layer.forward(x, training=True)
            layer.backward(dy)
        (one,), (other,) = dense.parameters(), sparse.parameters()
        np.testing.assert_array_equal(one.grad, other.grad)
        assert set(other.rows) == set(x.ravel())


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("state_dtype", [None, "bfloat16"])
@each([(rule, variant) for rule, variant in VARIANTS if rule.by_element])
def test_rows_used_take_the_step_and_others_stand_still(
    rule, variant, state_dtype, clip, count, threads
):
    """Against the same optimizer over the used rows alone, with the same states and count."""
    options = variant.options | {"clip_norm": clip, "state_dtype": state_dtype}
    make = partial(rule.optimizer, **options)
    layer, rng = fastnn.Embedding(NUM, DIM, sparse=True, rng=0), np.random.default_rng(0)
    weight = layer.parameters()[0]
    threads(count)
    optimizer = make([weight])
    for x in batches(rng):
        backward(layer, x, rng)
        rows = weight.rows
        others = np.setdiff1d(np.arange(NUM), rows)
        states = {k: v.copy() for k, v in optimizer.state[0].items()}
        values = weight.data.copy()
        alone = values[rows]
        expected = make([alone])
        for key, array in expected.state[0].items():
            array[...] = states[key][rows]
        expected.t = optimizer.t
        expected.step([weight.grad[rows]])
        optimizer.step()
        np.testing.assert_array_equal(weight.data[others], values[others])
        for key, array in optimizer.state[0].items():
            np.testing.assert_array_equal(array[others], states[key][others])
        if state_dtype is None:
            np.testing.assert_allclose(weight.data[rows], alone, rtol=1e-6, atol=1e-8)
            for key, array in optimizer.state[0].items():
                np.testing.assert_allclose(array[rows], expected.state[0][key], rtol=1e-6)
        else:  # rounded by other thresholds, which depend on the place
            np.testing.assert_allclose(weight.data[rows], alone, atol=0.01)


@pytest.mark.parametrize("make", [
    partial(optim.SGD, lr=0.1), partial(optim.Adagrad, lr=0.1),
    *(partial(rule.optimizer, lr=0.01) for rule in RULES if not rule.by_element),
], ids=lambda make: make.func.__name__)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}], ids=["plain", "clipped"])
def test_training_equals_the_dense_one_where_the_rule_leaves_unused_rows(make, options):
    """And those that need whole arrays, like LAMB, which update all rows."""
    def train(sparse):
        model = fastnn.Sequential(
            fastnn.Embedding(NUM, DIM, sparse), fastnn.Flatten(), fastnn.Linear(2 * DIM, 3), rng=0
        )
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, NUM, (64, 2)), rng.integers(0, 3, 64)
        trainer = fastnn.Trainer(model, "cross_entropy", make(model.parameters()), **options)
        trainer.fit(x, y, epochs=3, batch_size=8, progress=False, rng=0)
        trainer.step(x[:4], y[:4])
        return state(trainer)

    one, other = train(False), train(True)
    for name, expected in one.items():
        np.testing.assert_allclose(other[name], expected, rtol=2e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("loss", ["cross_entropy", "python"])
def test_a_penalty_makes_the_step_dense(loss):
    def python_loss(pred, target):
        return fastnn.losses.cross_entropy(pred, target)

    def train(sparse):
        model = fastnn.Sequential(
            fastnn.Embedding(NUM, DIM, sparse), fastnn.Flatten(), fastnn.Linear(2 * DIM, 3), rng=0
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        chosen = python_loss if loss == "python" else loss
        trainer = fastnn.Trainer(model, chosen, optimizer, l2=0.1)
        rng = np.random.default_rng(0)
        for x in batches(rng, 4):
            trainer.step(x, rng.integers(0, 3, len(x)))
        assert model.parameters()[0].rows is None
        # without it the next gradient is that of the rows used again
        model.forward(x, training=True)
        model.backward(np.ones((len(x), 3), np.float32))
        unused = np.setdiff1d(np.arange(NUM), x)
        assert not model.parameters()[0].grad[unused].any()
        return state(trainer)

    one, other = train(False), train(True)
    for name, expected in one.items():
        np.testing.assert_allclose(other[name], expected, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["adagrad", "sgd", "sparse adam"])
def test_agrees_with_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    torch.sparse.check_sparse_tensor_invariants.enable()
    theirs = torch.nn.Embedding(NUM, DIM, sparse=True)
    ours = fastnn.Embedding(NUM, DIM, sparse=True)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    make, other = {
        "adagrad": (optim.Adagrad, torch.optim.Adagrad),
        "sgd": (optim.SGD, torch.optim.SGD),
        # its epsilon stands beside the uncorrected second moment
        "sparse adam": (partial(optim.Adam, eps=1e-30), partial(torch.optim.SparseAdam, eps=1e-30)),
    }[name]
    optimizer, reference = make(ours.parameters(), lr=0.1), other(theirs.parameters(), lr=0.1)
    for x in batches(rng):
        y = ours.forward(x, training=True)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        ours.backward(dy)
        optimizer.step()
        reference.zero_grad()
        theirs(torch.from_numpy(x)).backward(torch.from_numpy(dy))
        reference.step()
    np.testing.assert_allclose(ours.weight.data, theirs.weight.detach().numpy(), atol=2e-6)


def test_a_gradient_of_the_callers_own_is_dense(rng):
    layer = fastnn.Embedding(NUM, DIM, sparse=True, rng=0)
    backward(layer, np.array([[1, 2]]), rng)
    optimizer, before = optim.SGD([layer.weight], lr=1.0), layer.weight.data.copy()
    optimizer.step([np.ones((NUM, DIM), np.float32)])
    np.testing.assert_array_equal(layer.weight.data, before - 1)
    optimizer.step()
    np.testing.assert_array_equal(layer.weight.data[3:], before[3:] - 1)
    layer.weight.grad += 1
    layer.weight.mark_dense()
    optimizer.step()
    np.testing.assert_allclose(layer.weight.data[3:], before[3:] - 2, rtol=1e-6)


def test_not_finite_is_refused_before_any_row_changes(rng):
    layer = fastnn.Embedding(NUM, DIM, sparse=True, rng=0)
    optimizer = optim.Adam(layer.parameters(), check_finite=True)
    x = np.array([[1, 2], [3, 1]])
    layer.forward(x, training=True)
    dy = rng.standard_normal((2, 2, DIM)).astype(np.float32)
    dy[1, 0, 3] = np.nan
    layer.backward(dy)
    before = layer.weight.data.copy()
    with pytest.raises(ValueError, match="gradient of weight: expected finite values"):
        optimizer.step()
    np.testing.assert_array_equal(layer.weight.data, before)
    assert optimizer.t == 0
    assert not optimizer.state[0]["exp_avg"].any()


def test_blocks_of_8_bits_must_not_span_rows():
    layer = fastnn.Embedding(NUM, DIM, sparse=True)
    with pytest.raises(ValueError, match="state_dtype: expected None or 'bfloat16' for weight"):
        optim.Adam(layer.parameters(), state_dtype="int8")
    wide, rng = fastnn.Embedding(NUM, 256, sparse=True, rng=0), np.random.default_rng(0)
    optimizer = optim.Adam(wide.parameters(), lr=0.1, state_dtype="int8")
    before = wide.weight.data.copy()
    backward(wide, np.array([[7, 9]]), rng)
    optimizer.step()
    changed = np.flatnonzero((wide.weight.data != before).any(axis=1))
    assert changed.tolist() == [7, 9]
    np.testing.assert_allclose(np.abs(wide.weight.data - before)[changed], 0.1, rtol=0.1)


def test_moving_into_a_container_and_saving(tmp_path, rng):
    layer = fastnn.Embedding(NUM, DIM, sparse=True, rng=0)
    backward(layer, np.array([[1, 2]]), rng)
    model = fastnn.Sequential(layer, fastnn.Flatten(), fastnn.Linear(2 * DIM, 3), rng=1)
    optimizer = optim.Adam(model.parameters())
    np.testing.assert_array_equal(layer.weight.rows, [1, 2])  # it stays where it is
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    x, y = batches(rng, 1)[0], np.array([0, 1, 2, 0, 1])
    trainer.step(x, y)
    trainer.save(tmp_path / "saved")
    again = fastnn.Sequential(
        fastnn.Embedding(NUM, DIM, sparse=True), fastnn.Flatten(), fastnn.Linear(2 * DIM, 3)
    )
    restored = fastnn.Trainer.restore(
        tmp_path / "saved", again, "cross_entropy", optim.Adam(again.parameters())
    )
    for one in (trainer, restored):
        one.step(x, y)
    assert_same(state(trainer), state(restored))
    assert "Embedding(40, 6, sparse=True)" in model.summary(input_shape=(2,))
    assert "embedding_backward_rows" in model.graph(input_shape=(2,), detail="kernels")


def test_a_step_does_not_touch_the_rest_of_a_large_table():
    """NaN in a row that is not used would come through if a pass read or cleared it."""
    layer = fastnn.Embedding(8, 4, sparse=True, rng=0)
    weight = layer.parameters()[0]
    optimizer = optim.Adagrad([weight], lr=1.0)
    backward(layer, np.array([[5, 5]]), np.random.default_rng(0))
    weight.grad[0] = np.nan
    optimizer.step()
    assert np.isfinite(weight.data).all()
    assert np.isfinite(optimizer.state[0]["sum"]).all()
    backward(layer, np.array([[5, 6]]), np.random.default_rng(0))
    assert np.isnan(weight.grad[0]).all()


def test_ops_agree(rng):
    layer = fastnn.Embedding(NUM, DIM, sparse=True, rng=0)
    x = rng.integers(0, NUM, (4, 3))
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, ops.embedding(x, layer.weight.data))
    layer.backward(y)
    np.testing.assert_array_equal(layer.weight.grad, ops.embedding_backward(y, x, NUM))
