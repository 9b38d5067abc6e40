"""LSTM: against a cell written gate by gate, against differences and against PyTorch."""

import numpy as np
import pytest

import fastnn
from fastnn import ops, reference
from fastnn._kernels import core

from .conftest import differences

SHAPES = [  # batch, steps, features, hidden, layers, bidirectional
    (4, 5, 3, 6, 1, False),
    (1, 3, 2, 1, 1, False),
    (3, 1, 2, 5, 1, True),
    (9, 4, 7, 17, 2, False),
    (7, 6, 5, 33, 2, True),
    (13, 3, 4, 16, 3, True),
]


def build(shape, dtype, **options):
    _, _, features, hidden, layers, bidirectional = shape
    return fastnn.LSTM(features, hidden, layers, bidirectional, dtype=dtype, rng=1, **options)


def arrays(shape, dtype, rng, last=False):
    """x, h0, c0, dy, dh_n, dc_n."""
    batch, steps, features, hidden, layers, bidirectional = shape
    directions = 1 + bidirectional
    state = (layers * directions, batch, hidden)
    out = (batch, directions * hidden) if last else (batch, steps, directions * hidden)
    shapes = ((batch, steps, features), state, state, out, state, state)
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def weights(lstm):
    """The parameters in groups of four, one for each layer and direction."""
    data = [p.data.astype(np.float64) for p in lstm.parameters()]
    return [data[i : i + 4] for i in range(0, len(data), 4)]


def expected_forward(lstm, x, h0, c0, lengths=None):
    """All layers and directions by the cell of `fastnn.reference`, one sequence at a time."""
    batch, steps, _ = x.shape
    groups, directions = weights(lstm), 1 + lstm.bidirectional
    lengths = [steps] * batch if lengths is None else lengths
    x, final = x.astype(np.float64), np.stack([h0, c0]).astype(np.float64)
    for layer in range(lstm.num_layers):
        y = np.zeros((batch, steps, directions * lstm.hidden_size))
        for direction in range(directions):
            index = layer * directions + direction
            for i in range(batch):
                h, c = final[:, index, i]
                order = range(lengths[i])
                for t in reversed(order) if direction else order:
                    h, c = reference.lstm_cell(x[i, t], h, c, *groups[index])
                    y[i, t, direction * lstm.hidden_size :][: lstm.hidden_size] = h
                final[:, index, i] = h, c
        x = y
    return x, *final


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_textbook_cell(shape, dtype, rng, isa):
    lstm = build(shape, dtype)
    x, h0, c0, *_ = arrays(shape, dtype, rng)
    for training in (False, True):
        y = lstm.forward(x, h0, c0, training=training)
        for got, want in zip((y, *lstm.final_state), expected_forward(lstm, x, h0, c0),
                             strict=True):
            np.testing.assert_allclose(got, want, atol=20 * np.finfo(dtype).eps)


def loss(lstm, x, h0, c0, dy, dh_n, dc_n, lengths):
    y = lstm.forward(x, h0, c0, lengths)
    h_n, c_n = lstm.final_state
    return (y * dy).sum() + (h_n * dh_n).sum() + (c_n * dc_n).sum()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", [*SHAPES[:4], (3, 4, 2, 9, 2, True)], ids=str)
def test_gradients_are_those_of_differences(shape, padded, last, rng):
    lstm = build(shape, "float64", return_sequences=not last)
    x, h0, c0, dy, dh_n, dc_n = arrays(shape, np.float64, rng, last)
    lengths = np.arange(shape[0]) % (shape[1] + 1) if padded else None
    lstm.forward(x, h0, c0, lengths, training=True)
    dx = lstm.backward(dy, dh_n, dc_n)
    gradients = [dx, *lstm.initial_state_grad, *[p.grad.copy() for p in lstm.parameters()]]
    variables = [x, h0, c0, *[p.data for p in lstm.parameters()]]
    for variable, gradient in zip(variables, gradients, strict=True):
        directions = [rng.standard_normal(variable.shape) for _ in range(4)]
        slopes = differences(
            lambda: loss(lstm, x, h0, c0, dy, dh_n, dc_n, lengths), variable, directions, 1e-5
        )
        for direction, slope in zip(directions, slopes, strict=True):
            assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_pytorch(shape, dtype, rng):
    torch = pytest.importorskip("torch")
    _, _, features, hidden, layers, bidirectional = shape
    theirs = torch.nn.LSTM(features, hidden, layers, bidirectional=bidirectional,
                           batch_first=True, dtype=getattr(torch, str(dtype)))
    ours = build(shape, dtype)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    given = arrays(shape, dtype, rng)
    x, h0, c0, dy, dh_n, dc_n = (torch.from_numpy(a.copy()) for a in given)
    for t in (x, h0, c0):
        t.requires_grad_()
    y, (h_n, c_n) = theirs(x, (h0, c0))
    torch.autograd.backward([y, h_n, c_n], [dy, dh_n, dc_n])
    results = [ours.forward(*given[:3], training=True), *ours.final_state]
    results += [ours.backward(*given[3:]), *ours.initial_state_grad]
    results += [p.grad for p in ours.parameters()]
    want = [y, h_n, c_n, x.grad, h0.grad, c0.grad, *(p.grad for p in theirs.parameters())]
    for got, tensor in zip(results, want, strict=True):
        np.testing.assert_allclose(got, tensor.detach().numpy(),
                                   rtol=0, atol=200 * np.finfo(dtype).eps)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths(dtype, rng, bidirectional):
    """No, one, all and some steps; padding gives zeros and has no influence."""
    shape = (5, 4, 3, 6, 2, bidirectional)
    lstm = build(shape, dtype)
    x, h0, c0, dy, dh_n, dc_n = arrays(shape, dtype, rng)
    lengths = np.array([0, 1, 4, 2, 3])
    y = lstm.forward(x, h0, c0, lengths, training=True)
    final = lstm.final_state
    for got, want in zip((y, *final), expected_forward(lstm, x, h0, c0, lengths), strict=True):
        np.testing.assert_allclose(got, want, atol=20 * np.finfo(dtype).eps)
    dx = lstm.backward(dy, dh_n, dc_n)
    gradients = [p.grad.copy() for p in lstm.parameters()]
    past = np.arange(4) >= lengths[:, None]
    assert (y[past] == 0).all()
    assert (dx[past] == 0).all()
    np.testing.assert_array_equal(lstm.initial_state_grad[0][:, 0], dh_n[:, 0])
    x[past] = 7
    dy[past] = 5
    lstm.forward(x, h0, c0, lengths, training=True)
    np.testing.assert_array_equal(lstm.backward(dy, dh_n, dc_n), dx)
    for p, gradient in zip(lstm.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(p.grad, gradient)


def test_only_the_last_step(dtype, rng):
    shape = (4, 5, 3, 6, 2, True)
    every, last = build(shape, dtype), build(shape, dtype, return_sequences=False)
    x, h0, c0, *_ = arrays(shape, dtype, rng)
    lengths = [5, 0, 1, 3]
    every.forward(x, h0, c0, lengths)
    h_n, _ = every.final_state
    y = last.forward(x, h0, c0, lengths)
    np.testing.assert_array_equal(y, np.concatenate([h_n[2], h_n[3]], axis=1))


def test_state_carries_on(dtype, rng):
    """Two halves with the state passed on are the whole."""
    lstm = build((3, 8, 4, 5, 2, False), dtype)
    x = rng.standard_normal((3, 8, 4)).astype(dtype)
    whole = lstm(x)
    first = lstm(x[:, :5])
    second = lstm.forward(x[:, 5:], *lstm.final_state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole,
                               atol=8 * np.finfo(dtype).eps)


def test_thousand_steps_neither_overflow_nor_drift(dtype, rng):
    lstm = build((2, 1000, 3, 8, 1, False), dtype)
    for p in lstm.parameters():
        p.data *= 3
    x = 100 * rng.standard_normal((2, 1000, 3)).astype(dtype)
    zero = np.zeros((1, 2, 8))
    y = lstm.forward(x, training=True)
    want, _, _ = expected_forward(lstm, x, zero, zero)
    np.testing.assert_allclose(y, want, atol=2e-3 if dtype == np.float32 else 1e-11)
    assert np.isfinite(lstm.backward(np.ones_like(y))).all()


def test_threads_and_batches_give_the_same_bits(dtype, rng, threads):
    shape = (64, 20, 32, 48, 1, True)
    lstm = build(shape, dtype)
    given = arrays(shape, dtype, rng)
    results = []
    for count in (1, 2):
        threads(count)
        y = lstm.forward(*given[:3], training=True)
        results.append((y, lstm.backward(*given[3:]), *lstm.initial_state_grad))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    alone = [lstm.forward(given[0][i : i + 1], *(s[:, i : i + 1] for s in given[1:3]))
             for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), results[0][0][:3],
                               atol=8 * np.finfo(dtype).eps)


def test_the_input_may_be_overwritten_before_the_backward_pass(rng):
    lstm = build((3, 4, 2, 5, 1, False), "float64")
    results = []
    for overwrite in (False, True):
        for batch in (3, 2):  # the second goes by the memory that the first one has left
            x, _, _, dy, *_ = arrays((batch, 4, 2, 5, 1, False), np.float64,
                                     np.random.default_rng(batch))
            y = lstm.forward(x, training=True)
            if overwrite:
                x[...] = y[...] = np.nan
            results.append([lstm.backward(dy), *(p.grad.copy() for p in lstm.parameters())])
    for one, two in zip(results[:2], results[2:], strict=True):
        for got, want in zip(two, one, strict=True):
            np.testing.assert_array_equal(got, want)


def test_states_of_one_call_do_not_reach_the_next(rng):
    """Nor do lengths, or a failed call."""
    shape = (3, 4, 2, 5, 2, True)
    lstm = build(shape, "float32")
    x, h0, c0, dy, dh_n, dc_n = arrays(shape, np.float32, rng)

    def run():
        y = lstm.forward(x, training=True)
        return [y, lstm(x), lstm.backward(dy), *lstm.initial_state_grad]

    fresh = run()
    lstm.forward(x, h0, c0, [1, 2, 3])
    lstm.forward(x, h0, c0, [1, 2, 3], training=True)
    with pytest.raises(ValueError, match="dc_n: expected shape"):
        lstm.backward(dy, dh_n, dc_n[1:])
    lstm.backward(dy, dh_n, dc_n)
    with pytest.raises(RuntimeError, match="backward: expected a forward"):
        lstm.backward(dy)
    for got, want in zip(run(), fresh, strict=True):
        np.testing.assert_array_equal(got, want)
    lstm.forward(x, training=True)
    with pytest.raises(ValueError, match=r"dy: expected shape \(3, 4, 10\)"):
        lstm.backward(dy[:, 1:])


def test_any_array_will_do(rng):
    """Strided, of another dtype or byte order, or a list."""
    shape = (3, 4, 2, 5, 1, False)
    lstm = build(shape, "float64")
    x, h0, c0, dy, dh_n, dc_n = (np.round(a, 1) for a in arrays(shape, np.float64, rng))

    def run(*given):
        y = lstm.forward(*given[:3], training=True)
        return [y, *lstm.final_state, lstm.backward(*given[3:]), *lstm.initial_state_grad]

    want = run(x, h0, c0, dy, dh_n, dc_n)
    for convert in (np.asfortranarray, lambda a: a.astype(">f8"), np.ndarray.tolist):
        for got, expected in zip(run(*map(convert, (x, h0, c0, dy, dh_n, dc_n))), want,
                                 strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("hidden", [7, 16, 48, 130])
def test_tiles_of_every_height_give_the_same_bits(hidden, dtype, rng, isa):
    """Small ones add several sums side by side, from 128 units on there is prefetching."""
    batch, steps, lanes = 19, 3, core.vector_bytes() // dtype.itemsize
    shapes = ((4 * hidden, hidden), (batch, steps, 4, hidden), (batch, 2, hidden),
              (batch, steps, hidden), (batch, 2, hidden))
    weight, x, initial, dy, dfinal = (rng.standard_normal(s).astype(dtype) for s in shapes)
    bias = np.zeros(4 * hidden, dtype)
    packed, transposed, _ = reference.lstm_pack(weight / hidden, bias, bias, lanes)
    sizes = (hidden, steps, hidden, 0, 0, 0)

    def run(part):
        results = [np.empty_like(a[part]) for a in (x, x[:, :, :2], dy, initial, dy, x, initial)]
        gates, cells, previous, final, y, dgates, dinitial = results
        forward = (gates, cells, previous, final, y, x[part], initial[part], None, packed)
        backward = (dgates, dinitial, gates, cells, dy[part], dfinal[part], None, transposed)
        core.call("lstm_forward", dtype, forward, sizes, (), len(gates))
        core.call("lstm_backward", dtype, backward, sizes, (), len(gates))
        return results

    whole = run(slice(None))
    for rows in range(1, 10):
        parts = [run(slice(i, i + rows)) for i in range(0, batch, rows)]
        for one, *others in zip(whole, *parts, strict=True):
            np.testing.assert_array_equal(one, np.concatenate(others))


def test_accumulate_adds(rng):
    shape = (3, 4, 2, 5, 1, True)
    lstm = build(shape, "float64")
    given = arrays(shape, np.float64, rng)
    lstm.forward(*given[:3], training=True)
    lstm.backward(*given[3:])
    once = [p.grad.copy() for p in lstm.parameters()]
    lstm.forward(*given[:3], training=True)
    lstm.backward(*given[3:], accumulate=True)
    for p, gradient in zip(lstm.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * gradient)


def test_dropout_between_layers(rng):
    plain, dropped = (fastnn.LSTM(3, 40, 2, dropout=p, rng=0) for p in (0.0, 0.5))
    x = rng.standard_normal((2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(plain(x), dropped(x))
    first, second = (dropped.forward(x, training=True) for _ in range(2))
    assert (first != second).any()
    assert (first != plain(x)).any()


def test_learns_inside_a_model(rng):
    """The sign of the first element of a sequence, which only memory can tell."""
    x = rng.standard_normal((256, 6, 1)).astype(np.float32)
    labels = (x[:, 0, 0] > 0).astype(np.int64)
    model = fastnn.Sequential(
        fastnn.LSTM(1, 12, return_sequences=False), fastnn.Linear(12, 2), rng=0
    )
    optimizer = fastnn.optim.Adam(model.parameters(), lr=0.02)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    trainer.fit(x, labels, epochs=80, batch_size=32, progress=False, rng=0)
    assert (trainer.predict(x).argmax(axis=1) == labels).mean() > 0.97


def test_refuses(rng):
    lstm = fastnn.LSTM(3, 4, rng=0)
    x = np.zeros((2, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"x: expected \(batch, time, 3\)"):
        lstm(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"h0: expected shape \(1, 2, 4\)"):
        lstm.forward(x, h0=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="lengths: expected from 0 to 5"):
        lstm.forward(x, lengths=[6, 1])
    with pytest.raises(TypeError, match="lengths: expected integers"):
        lstm.forward(x, lengths=[1.5, 1])
    with pytest.raises(RuntimeError, match="backward: expected a forward"):
        lstm.backward(np.zeros((2, 5, 4), np.float32))
    with pytest.raises(RuntimeError, match="final_state"):
        _ = fastnn.LSTM(3, 4).final_state
    with pytest.raises(ValueError, match="dropout"):
        fastnn.LSTM(3, 4, dropout=2)


# Functions on arrays -----------------------------------------------------------------------------


def cell_arguments(rng, dtype, batch, features, hidden):
    shapes = ((batch, features), (batch, hidden), (batch, hidden), (4 * hidden, features),
              (4 * hidden, hidden), (4 * hidden,))
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 64, 64), (3, 5, 17), (2, 33, 31)], ids=str)
def test_step_function(size, dtype, rng, isa):
    given = cell_arguments(rng, dtype, *size)
    x, h, c, weight_ih, weight_hh, bias = (a.astype(np.float64) for a in given)
    zero = np.zeros_like(bias)
    want = reference.lstm_cell(x, h, c, weight_ih, weight_hh, bias, zero)
    for got, expected in zip(ops.lstm_step(*given), want, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, atol=100 * np.finfo(dtype).eps)


def test_sequence_function_is_the_layer(dtype, rng):
    lstm = fastnn.LSTM(3, 10, dtype=dtype, rng=0)
    x = rng.standard_normal((4, 6, 3)).astype(dtype)
    h0, c0 = rng.standard_normal((2, 4, 10)).astype(dtype)
    weight_ih, weight_hh, bias_ih, bias_hh = (p.data for p in lstm.parameters())
    y, h_n, c_n = ops.lstm(x, h0, c0, weight_ih, weight_hh, bias_ih + bias_hh)
    np.testing.assert_array_equal(y, lstm.forward(x, h0[None], c0[None]))
    for got, want in zip((h_n, c_n), lstm.final_state, strict=True):
        np.testing.assert_array_equal(got, want[0])


def test_functions_refuse(rng):
    given = cell_arguments(rng, np.float32, 2, 3, 4)
    with pytest.raises(ValueError, match="weight_hh"):
        ops.lstm_step(*given[:4], given[3], given[5])
    with pytest.raises(ValueError, match="bias"):
        ops.lstm_step(*given[:5], given[5][:3])
    with pytest.raises(ValueError, match="h: expected shape"):
        ops.lstm_step(given[0], given[1][:1], *given[2:])


# One step, and padding ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("lengths", [None, [1, 0, 1, 1, 0, 1]])
@pytest.mark.parametrize("given", [False, True])
def test_a_single_step_is_a_sequence_of_one(last, lengths, given, dtype, rng, isa):
    """Its sums are taken in another order, from weights that are not packed."""
    shape = (6, 1, 19, 21, 2, True)
    lstm = build(shape, dtype, return_sequences=not last)
    x, h0, c0, *_ = arrays(shape, dtype, rng)
    state = (h0, c0) if given else (None, None)
    y, final = lstm(x, *state, lengths=lengths), lstm.final_state
    want = lstm.forward(x, *state, lengths=lengths, training=True)
    tolerance = 100 * np.finfo(dtype).eps
    for got, expected in zip((y, *final), (want, *lstm.final_state), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    for i in range(6):  # whatever batch it is in
        own = None if lengths is None else lengths[i : i + 1]
        alone = lstm(x[i : i + 1], *(a if a is None else a[:, i : i + 1] for a in state), own)
        np.testing.assert_array_equal(alone[0], y[i])


@pytest.mark.parametrize("filling", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("shape", SHAPES[3:], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_padding_may_hold_anything(shape, last, filling, dtype, rng):
    """In x, and past a length in dy too; the caller's array stays as it is."""
    lstm = build(shape, dtype, return_sequences=not last)
    x, h0, c0, dy, *_ = arrays(shape, dtype, rng, last)
    lengths = rng.integers(0, shape[1] + 1, shape[0])
    padding = np.arange(shape[1]) >= lengths[:, None]
    found = []
    for value in (0, filling):
        x[padding] = value
        if not last:
            dy[padding] = value
        given = x.copy()
        y = lstm.forward(x, h0, c0, lengths, training=True)
        np.testing.assert_array_equal(lstm(x, h0, c0, lengths), y)
        np.testing.assert_array_equal(x, given)
        found.append([y, lstm.backward(dy), *[p.grad.copy() for p in lstm.parameters()]])
    for got, want in zip(*found, strict=True):
        np.testing.assert_array_equal(got, want)
