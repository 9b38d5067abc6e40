"""Whole models of sequences: Embedding, LSTM, LayerNorm and BatchNorm1d inside a Sequential."""

import copy
import pickle
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn
from fastnn import optim

from .trainer_cases import assert_same, state

TOKENS, STEPS, CLASSES = 11, 7, 3
RNG = np.random.default_rng(0)
X = RNG.integers(0, TOKENS, (70, STEPS))
LABELS = RNG.integers(0, CLASSES, 70)


def every_layer(dtype="float32", rng=0):
    """All of them, a deep LSTM in both directions among them."""
    return fastnn.Sequential(
        fastnn.Embedding(TOKENS, 6),
        fastnn.LSTM(6, 8),
        fastnn.LayerNorm(8),
        fastnn.LSTM(8, 5, 2, bidirectional=True, return_sequences=False),
        fastnn.BatchNorm1d(10),
        fastnn.Linear(10, CLASSES),
        dtype=dtype,
        rng=rng,
    )


def layer_normalized(dtype="float32", rng=0):
    """Statistics of each sample, nothing random."""
    return fastnn.Sequential(
        fastnn.Embedding(TOKENS, 6),
        fastnn.LSTM(6, 8, return_sequences=False),
        fastnn.LayerNorm(8),
        fastnn.Linear(8, CLASSES),
        dtype=dtype,
        rng=rng,
    )


def batch_normalized(dtype="float32", rng=0):
    """Running statistics, and random numbers between the layers of an LSTM."""
    return fastnn.Sequential(
        fastnn.Embedding(TOKENS, 6),
        fastnn.LSTM(6, 8, 2, dropout=0.3, return_sequences=False),
        fastnn.BatchNorm1d(8),
        fastnn.Linear(8, CLASSES),
        dtype=dtype,
        rng=rng,
    )


def trainer(model, lr=0.01, **options):
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return fastnn.Trainer(model, "cross_entropy", optimizer, **options)


def rows_of(summary):
    """Cells of each layer's row: name, output, parameters, bytes kept."""
    lines = summary.splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines[4:] if re.match(r"  \d ", line)]


# What a model says of itself ---------------------------------------------------------------------


def lstm_parameters(features, hidden, layers=1, directions=1):
    """4 H (I + H) weights and PyTorch's two biases of 4 H for each layer and direction."""
    inputs = [features] + [directions * hidden] * (layers - 1)
    return sum(directions * 4 * hidden * (i + hidden + 2) for i in inputs)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_numbers_of_a_summary(dtype, batch):
    model = every_layer(dtype)
    size, rows = dtype.itemsize, batch * STEPS
    hidden, both = 8, 10  # of the first LSTM, and of the second one's two directions
    unit = 4 + 2 + 1  # kept of each step: gates, the cell before, its tanh after, the state before
    expected = [  # output, parameters, values kept
        ((batch, STEPS, 6), TOKENS * 6, rows * 6),
        ((batch, STEPS, hidden), lstm_parameters(6, 8), rows * hidden * (unit + 1)),
        ((batch, STEPS, hidden), 2 * hidden, rows * (hidden + 3)),  # mean in two parts, deviation
        ((batch, both), lstm_parameters(8, 5, 2, 2),
         2 * rows * both * unit + rows * both + batch * both),
        ((batch, both), 2 * both, batch * both),
        ((batch, CLASSES), (both + 1) * CLASSES, 0),
    ]  # fmt: skip
    text = model.summary(batch, (STEPS,))
    found = rows_of(text)
    for (name, *cells), layer, (output, parameters, kept) in zip(
        found, model.layers, expected, strict=True
    ):
        assert name.endswith(repr(layer))
        assert cells == [str(output), f"{parameters:,}", f"{kept * size:,}"]
    total = size * sum(kept for *_, kept in expected) + 8 * rows
    assert f"kept for backward: {total:,} bytes for a batch of {batch}" in text
    count = sum(parameters for _, parameters, _ in expected)
    assert count == sum(p.size for p in model.parameters())
    assert f"parameters:        {count:,} {dtype}: {count * size:,} bytes" in text


LAYER_KERNELS = {  # forward, backward and gradient of each layer
    "0": {"gather_rows", "embedding_backward"},
    "1": {"lstm_pack", "linear_forward", "lstm_forward", "lstm_backward",
          "linear_backward_input", "linear_backward_weight"},
    "2": {"layer_norm_forward", "layer_norm_backward", "layer_norm_backward_weight"},
    "4": {"batch_norm_forward", "batch_norm_backward"},
    "5": {"linear_forward", "linear_backward_input", "linear_backward_weight"},
}  # fmt: skip
LAYER_KERNELS["3"] = LAYER_KERNELS["1"]


def test_every_layer_is_in_the_graph_as_text():
    text = every_layer().graph("text", (STEPS,), "kernels")
    assert text.startswith(f"Sequential (float32): x (batch, {STEPS}) -> y (batch, {CLASSES})\n")
    found = {}
    for scope, kernel in re.findall(r"^ +\w+ +(\d) .*= (\w+)\(", text, re.MULTILINE):
        found.setdefault(scope, set()).add(kernel)
    assert found == LAYER_KERNELS
    gradients = text[text.index("parameter gradients") :]
    for p in every_layer().parameters():
        if p.name not in ("4.weight", "4.bias"):  # come with the gradient of the input
            assert f"d{p.name} {p.shape}" in gradients


def test_every_layer_is_in_the_graph_for_graphviz():
    text = every_layer().graph("dot", (STEPS,), "kernels")
    found = {}
    for scope, kernel in re.findall(r'\[label="(\d) (?:then )?(\w+)\\n', text):
        found.setdefault(scope, set()).add(kernel)
    assert found == LAYER_KERNELS
    nodes = set(re.findall(r'^ +("?\w+"?) \[(?:label|shape)', text, re.MULTILINE))
    edges = re.findall(r'^ +("?\w+"?) -> ("?\w+"?)[; ]', text, re.MULTILINE)
    assert {node for edge in edges for node in edge} <= nodes


def test_a_graph_as_a_picture():
    model = every_layer()
    root = ElementTree.fromstring(model.graph("svg", (STEPS,), "kernels"))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    for kernel in set().union(*LAYER_KERNELS.values()):
        assert any(kernel in text for text in texts), kernel
    for layer in model.layers:
        assert any(text.startswith(repr(layer)[:27]) for text in texts), layer


def test_the_input_shape_is_not_that_of_a_later_layer():
    """Embedding and LSTM change the shape, so what a later layer expects is not the input's."""
    model = fastnn.Sequential(fastnn.Embedding(11, 6), fastnn.LSTM(6, 8), fastnn.LayerNorm(8))
    assert "(1, 10, 8)" in model.summary()  # 10 steps stand for any number
    assert "(1, 10, 6)" in fastnn.Sequential(fastnn.LSTM(6, 8), fastnn.Linear(8, 2)).summary()
    model(np.zeros((2, 7), np.int64))
    assert "(1, 7)" in model.summary()


def test_graphs_name_every_array():
    assert "array" not in fastnn.BatchNorm1d(3).graph(detail="kernels")
    assert "array" not in fastnn.LSTM(3, 2).graph("text", (4, 3), "kernels")


def test_an_lstm_says_what_it_is():
    text = repr(fastnn.LSTM(8, 5, 2, bidirectional=True, dropout=0.3, return_sequences=False))
    for option in ("bidirectional=True", "dropout=0.3", "return_sequences=False"):
        assert option in text


# Saved, restored, copied -------------------------------------------------------------------------


def test_state_there_and_back(tmp_path, dtype):
    model, other = every_layer(dtype), every_layer(dtype, rng=1)
    model.forward(X, training=True)  # moves the running statistics
    state_dict = model.state_dict()
    assert (state_dict["4.running_mean"] != 0).all()
    before = {name: array.copy() for name, array in state_dict.items()}
    fastnn.save_safetensors(tmp_path / "model", state_dict)
    other.load_state_dict(fastnn.load_safetensors(tmp_path / "model"))
    assert_same(other.state_dict(), before)
    np.testing.assert_array_equal(other(X), model(X))
    trainer(other).step(X, LABELS)
    assert_same(model.state_dict(), before)
    for name in ("1.bias_hh_l0", "3.weight_ih_l1_reverse", "4.running_var"):
        broken = {**before, name: before[name][:-1]}
        with pytest.raises(ValueError, match=rf"{name}: expected shape"):
            model.load_state_dict({k: v + 1 for k, v in broken.items()})
        with pytest.raises(KeyError, match=name):
            model.load_state_dict({k: v for k, v in before.items() if k != name})
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("make", [layer_normalized, batch_normalized, every_layer])
def test_three_epochs_and_three_more_are_six(tmp_path, make, dtype):
    whole = trainer(make(dtype), clip_norm=0.5)
    history = whole.fit(X, LABELS, epochs=6, batch_size=16, progress=False).history

    first = trainer(make(dtype), clip_norm=0.5)
    first.fit(X, LABELS, epochs=3, batch_size=16, progress=False)
    first.save(tmp_path / "checkpoint")
    model = make(dtype, rng=5)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    second = fastnn.Trainer.restore(tmp_path / "checkpoint", model, "cross_entropy", optimizer)
    assert_same(state(second), state(first))
    continued = second.fit(X, LABELS, epochs=3, batch_size=16, progress=False).history
    assert_same(state(second), state(whole))
    assert continued["loss"] == history["loss"][3:]
    np.testing.assert_array_equal(second.predict(X), whole.predict(X))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("make", [layer_normalized, batch_normalized, every_layer])
def test_copies_go_their_own_way(clone, make):
    model = make()
    trainer(model).step(X, LABELS)
    twin = clone(model)
    expected, before = model(X), twin.state_dict()
    np.testing.assert_array_equal(twin(X), expected)
    losses = [trainer(model).step(X, LABELS)]
    assert_same(twin.state_dict(), before)
    losses.append(trainer(twin).step(X, LABELS))  # dropout goes on from the same place
    assert losses[0] == losses[1]
    assert_same(twin.state_dict(), model.state_dict())


# Training ----------------------------------------------------------------------------------------


def test_two_threads_compute_what_one_does(dtype, threads):
    """No sum depends on who computes it."""
    x, labels = RNG.integers(0, 50, (64, 20)), RNG.integers(0, 4, 64)
    found = []
    for count in (1, 2):
        threads(count)
        model = fastnn.Sequential(
            fastnn.Embedding(50, 32),
            fastnn.LSTM(32, 48, 2, dropout=0.2),
            fastnn.LayerNorm(48),
            fastnn.LSTM(48, 32, bidirectional=True, return_sequences=False),
            fastnn.BatchNorm1d(64),
            fastnn.Linear(64, 4),
            dtype=dtype,
            rng=0,
        )
        one = trainer(model)
        losses = [one.step(x, labels) for _ in range(3)]
        found.append(state(one) | {"losses": np.array(losses), "y": one.predict(x)})
    assert_same(*found)


@pytest.mark.parametrize("make", [layer_normalized, batch_normalized])
def test_learns_to_tell_sequences_apart(make, dtype, rng):
    """The class is that of the first element, which only memory can tell."""
    x = rng.integers(0, TOKENS, (768, 4))
    labels = x[:, 0] % CLASSES
    one = trainer(make(dtype), lr=0.03)
    history = one.fit(x[:512], labels[:512], epochs=40, batch_size=32, progress=False, rng=0)
    assert history.history["loss"][-1] < 0.05
    assert (one.predict(x[512:]).argmax(axis=1) == labels[512:]).mean() > 0.97


# PyTorch -----------------------------------------------------------------------------------------


def pytorch_twin(torch, dtype):
    """The same layers, to be called by `pytorch_forward`: an LSTM returns more than its output."""
    nn = torch.nn
    return nn.Sequential(
        nn.Embedding(TOKENS, 6),
        nn.LSTM(6, 8, batch_first=True),
        nn.LayerNorm(8),
        nn.LSTM(8, 5, 2, bidirectional=True, batch_first=True),
        nn.BatchNorm1d(10),
        nn.Linear(10, CLASSES),
    ).to(getattr(torch, str(dtype)))


def pytorch_forward(torch, twin, x):
    embedding, first, norm, second, batch_norm, linear = twin
    _, (h, _) = second(norm(first(embedding(torch.from_numpy(x)))[0]))
    return linear(batch_norm(torch.cat([h[-2], h[-1]], dim=1)))


def test_a_state_dict_of_pytorch_loads_unchanged(dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    twin, model = pytorch_twin(torch, dtype), every_layer(dtype, rng=1)
    model.load_state_dict(twin.state_dict())
    assert list(model.state_dict()) == [
        name for name in twin.state_dict() if not name.endswith("num_batches_tracked")
    ]
    parameters = {p.name: p for p in model.parameters()}
    assert {n: tuple(p.shape) for n, p in twin.named_parameters()} == {
        n: p.shape for n, p in parameters.items()
    }
    close = {"rtol": 0, "atol": 500 * np.finfo(dtype).eps}
    loss = torch.nn.functional.cross_entropy(pytorch_forward(torch, twin, X),
                                             torch.from_numpy(LABELS))
    loss.backward()
    value, gradient = fastnn.losses.cross_entropy(model.forward(X, training=True), LABELS)
    model.backward(gradient)
    np.testing.assert_allclose(value, loss.item(), **close)
    for name, theirs in twin.named_parameters():
        np.testing.assert_allclose(parameters[name].grad, theirs.grad.numpy(), **close)
    twin.eval()
    with torch.no_grad():  # by now with running statistics
        np.testing.assert_allclose(model(X), pytorch_forward(torch, twin, X).numpy(), **close)
    back = pytorch_twin(torch, dtype)
    back.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    back.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(X), pytorch_forward(torch, back, X).numpy(), **close)


# Threads and shared layers -----------------------------------------------------------------------

LENGTH, CHANNELS = 64, 20


def with_batch_norm(kind):
    first = {
        "embedding": fastnn.Embedding(40, LENGTH),
        "linear": fastnn.Linear(LENGTH, LENGTH),
        "layer norm": fastnn.LayerNorm(LENGTH),
        "batch norm": fastnn.Sequential(fastnn.BatchNorm1d(CHANNELS), fastnn.Flatten(),
                                        fastnn.BatchNorm1d(CHANNELS * LENGTH)),
    }[kind]
    flat = fastnn.Flatten()
    middle = [] if kind == "batch norm" else [fastnn.BatchNorm1d(CHANNELS), flat]
    return fastnn.Sequential(first, *middle, fastnn.Linear(CHANNELS * LENGTH, 4), rng=0)


@pytest.mark.parametrize("kind", ["embedding", "linear", "layer norm", "batch norm"])
def test_statistics_are_waited_for(kind, threads, rng):
    """Channels are shared among threads in another way than what the next call shares."""
    shape = (256, CHANNELS)
    x = rng.integers(0, 40, shape) if kind == "embedding" else rng.normal(size=(*shape, LENGTH))
    labels, found = rng.integers(0, 4, 256), []
    for count in (1, 2, 2):
        threads(count)
        model = with_batch_norm(kind)
        fastnn.Trainer(model, "cross_entropy", None).step(x, labels)
        found.append(model.state_dict() | {p.name: p.grad.copy() for p in model.parameters()})
    for other in found[1:]:
        for name, array in found[0].items():
            np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_a_batch_norm_used_twice_adds_its_gradients():
    x, dy = np.random.default_rng(0).normal(size=(2, 6, 3))
    shared = fastnn.BatchNorm1d(3)
    once = fastnn.Sequential(fastnn.BatchNorm1d(3), fastnn.Tanh(), fastnn.BatchNorm1d(3),
                             dtype="float64")  # fmt: skip
    twice = fastnn.Sequential(shared, fastnn.Tanh(), shared, dtype="float64")
    for model in (once, twice):
        model.forward(x, training=True)
        model.backward(dy)
    np.testing.assert_allclose(shared.weight.grad, once[0].weight.grad + once[2].weight.grad)
    np.testing.assert_allclose(shared.bias.grad, once[0].bias.grad + once[2].bias.grad)
