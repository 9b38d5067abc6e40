"""LSTM layers over whole sequences, over sequences of different lengths, and step by step."""

import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

import numpy as np

import fastnn
from bench.environment import THREADS
from bench.layers import (
    LAYERS,
    Contender,
    Weights,
    installed,
    jax_cell,
    jax_lstm,
    jitted,
    normal,
    time_first,
    times_of,
)
from bench.timing import Record, Run, loop, record

LSTMS = {  # steps, batch, features, hidden: target of training
    (20, 1, 8, 16): 12,
    (50, 16, 16, 32): 4,
    (50, 32, 64, 64): 1.4,
    (100, 32, 64, 128): 1.4,
    (50, 64, 256, 256): 1.35,
    (35, 20, 650, 650): 1.15,
}
PREDICTION = 1.2  # target
RAGGED = (50, 200, 1000)  # steps of the longest sequence
RAGGED_SIZES = (32, 16, 64)  # batch, features, hidden
UNITS, ALLOWED_STEP = 64, 2e-6  # of a stream, and the seconds for one of its steps
LAYER, BESIDE_OPS = (80, 100), 4 / 2.8  # that takes single steps, and times of ops.lstm_step


def lstm_weights(features: int, hidden: int) -> Weights:
    """Return weights of an LSTM layer, named and shaped as in PyTorch."""
    gates = 4 * hidden
    weights = {"weight_ih_l0": normal(gates, features), "weight_hh_l0": normal(gates, hidden)}
    weights |= {"bias_ih_l0": normal(gates), "bias_hh_l0": normal(gates) + 1}
    return {name: array / np.float32(np.sqrt(hidden)) for name, array in weights.items()}


# Whole sequences --------------------------------------------------------------------------------


def lstm_training(run: Run) -> Iterator[Record]:
    """LSTM over whole sequences, forward and backward"""
    for (steps, batch, features, hidden), target in run.some(LSTMS.items()):
        weights = lstm_weights(features, hidden)
        x, dy = normal(batch, steps, features), normal(batch, steps, hidden)
        contenders = installed(LAYERS, "LSTM", (features, hidden), weights, x, dy)
        yield record(
            f"T={steps} batch={batch} {features}→{hidden}",
            times_of(run, contenders),
            target=target,
            limit=3 * lstm_flops(steps, batch, features, hidden) / run.machine.peak("float32"),
        )


def lstm_prediction(run: Run) -> Iterator[Record]:
    """LSTM over whole sequences, prediction"""
    for steps, batch, features, hidden in run.some(LSTMS):
        weights = lstm_weights(features, hidden)
        x = normal(batch, steps, features)
        yield record(
            f"T={steps} batch={batch} {features}→{hidden}",
            times_of(run, predicting(features, hidden, weights, x)),
            target=PREDICTION,
            limit=lstm_flops(steps, batch, features, hidden) / run.machine.peak("float32"),
        )


def lstm_flops(steps: int, batch: int, features: int, hidden: int) -> int:
    """Return the operations of a forward pass; backward has twice as many."""
    return 2 * steps * batch * 4 * hidden * (features + hidden)


def our_layer(features: int, hidden: int, weights: Weights) -> fastnn.LSTM:
    """Return our layer with its weights."""
    layer = fastnn.LSTM(features, hidden)
    layer.load_state_dict(weights)
    return layer


def torch_module(features: int, hidden: int, weights: Weights):
    """Return PyTorch's layer with its weights."""
    import torch

    torch.set_num_threads(THREADS)
    layer = torch.nn.LSTM(features, hidden)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return layer


def predicting(features: int, hidden: int, weights: Weights, x: np.ndarray) -> dict[str, Contender]:
    """Return each library's prediction of whole sequences."""
    layer = our_layer(features, hidden, weights)
    predictor, out = layer.predictor(), np.empty((*x.shape[:2], hidden), x.dtype)
    found: dict[str, Contender] = {
        "fastnn": (loop(lambda: predictor(x, out=out)), lambda: [predictor(x)])
    }
    if find_spec("torch"):
        import torch

        module, given = torch_module(features, hidden, weights), torch.from_numpy(time_first(x))

        @torch.inference_mode()
        def predict(n: int):
            for _ in repeat(None, n):
                y, _ = module(given)
            return y

        found["torch"] = predict, lambda: [time_first(predict(1).numpy())]
    if find_spec("jax"):
        import jax

        arrays = [array.T for array in weights.values()]
        many, once = jitted(jax.jit(lambda *a: jax_lstm(*a)[0]), time_first(x), *arrays)
        found["jax"] = many, lambda: [time_first(np.asarray(once()))]
    if find_spec("onnx") and find_spec("onnxruntime"):
        found["onnxruntime"] = onnx_session(layer, x)
    return found


def onnx_session(layer: fastnn.LSTM, x: np.ndarray) -> Contender:
    """Return a session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lstm.onnx")
        fastnn.onnx.export(layer, path)
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    given = {session.get_inputs()[0].name: x}
    call = partial(session.run, None, given)
    return loop(call), lambda: call()[:1]


# Sequences of different lengths -----------------------------------------------------------------


def ragged(run: Run) -> Iterator[Record]:
    """LSTM over sequences of different lengths, forward and backward"""
    batch, features, hidden = RAGGED_SIZES
    for steps in run.some(RAGGED, 1):
        weights = lstm_weights(features, hidden)
        lengths = np.random.default_rng(0).integers(1, steps, batch, endpoint=True)
        lengths[0] = steps
        lengths = np.sort(lengths)[::-1].copy()  # as a PackedSequence likes them best
        counts = np.arange(steps) < lengths[:, None]
        x = normal(batch, steps, features) * counts[..., None]
        dy = normal(batch, steps, hidden) * counts[..., None]
        contenders = {"fastnn": with_lengths(our_layer(features, hidden, weights), x, dy, lengths)}
        if find_spec("torch"):
            contenders["PackedSequence"] = packed(
                torch_module(features, hidden, weights), x, dy, lengths
            )
        padded = installed(LAYERS, "LSTM", (features, hidden), weights, x, dy)
        for name, (work, results) in padded.items():
            contenders[f"{name}, padded"] = work, partial(without_padding, results, counts)
        yield record(
            f"T={steps} batch={batch} {features}→{hidden}, {counts.mean():.0%} of it sequences",
            times_of(run, contenders),
            limit=3 * lstm_flops(1, counts.sum(), features, hidden) / run.machine.peak("float32"),
        )


def with_lengths(layer: fastnn.LSTM, x, dy, lengths) -> Contender:
    """Return forward and backward of our layer with `lengths`."""

    def call():
        return layer.forward(x, lengths=lengths, training=True), layer.backward(dy)

    return loop(call), lambda: [*call(), *(p.grad for p in layer.parameters())]


def packed(layer, x, dy, lengths) -> Contender:
    """Return forward and backward of PyTorch's layer over a PackedSequence."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    tx, tdy = (torch.from_numpy(time_first(a)) for a in (x, dy))
    inputs = [tx.requires_grad_(), *layer.parameters()]
    given = torch.from_numpy(lengths)

    def call():
        y, _ = pad_packed_sequence(layer(pack_padded_sequence(tx, given))[0])
        return y, *torch.autograd.grad(y, inputs, tdy)

    def results():
        y, dx, *gradients = (tensor.detach().numpy() for tensor in call())
        return [time_first(y), time_first(dx), *gradients]

    return loop(call), results


def without_padding(results, counts: np.ndarray) -> list[np.ndarray]:
    """Return the results with an output of zero where a sequence has ended."""
    y, *gradients = results()
    return [y * counts[..., None], *gradients]


# Step by step -----------------------------------------------------------------------------------


def lstm_step(run: Run) -> Iterator[Record]:
    """One step of a stream through an LSTM"""
    weights = lstm_weights(UNITS, UNITS)
    x, h, c = normal(1, UNITS), normal(1, UNITS) / 2, normal(1, UNITS) / 3
    weight_ih, weight_hh, bias_ih, bias_hh = weights.values()
    call = partial(fastnn.ops.lstm_step, x, h, c, weight_ih, weight_hh, bias_ih + bias_hh)
    contenders = {"fastnn": (loop(call), call)}
    if find_spec("torch"):
        contenders["torch"] = torch_step(weights, x, h, c)
    if find_spec("jax"):
        contenders["jax"] = jax_step(weights, x, h, c)
    times = times_of(run, contenders)
    yield record(f"ops.lstm_step, {UNITS} units, batch 1", times | {"allowed": ALLOWED_STEP})
    yield single_step(run)


def single_step(run: Run) -> Record:
    """A layer that is called with one time step, beside the function for the same cell."""
    features, hidden = LAYER
    layer = fastnn.LSTM(features, hidden, rng=0)
    x, h, c = normal(1, features), normal(1, hidden), normal(1, hidden)
    weight_ih, weight_hh, bias_ih, _ = (p.data for p in layer.parameters())
    cell = partial(fastnn.ops.lstm_step, x, h, c, weight_ih, weight_hh, bias_ih)
    times = run.times({"layer": loop(partial(layer, x[:, None])), "cell": loop(cell)})
    times = {"fastnn": times["layer"], "allowed": BESIDE_OPS * times["cell"]}
    return record(f"LSTM({features}, {hidden}), one step", times, target=1)


def torch_step(weights: Weights, x, h, c) -> Contender:
    """Return PyTorch's cell, without autograd."""
    import torch

    torch.set_num_threads(THREADS)
    cell = torch.nn.LSTMCell(UNITS, UNITS)
    cell.load_state_dict({k.removesuffix("_l0"): torch.from_numpy(v) for k, v in weights.items()})
    x, h, c = map(torch.from_numpy, (x, h, c))

    @torch.inference_mode()
    def run(n):
        for _ in repeat(None, n):
            state = cell(x, (h, c))
        return state

    return run, lambda: [tensor.numpy() for tensor in run(1)]


def jax_step(weights: Weights, x, h, c) -> Contender:
    """Return a jitted cell."""
    import jax

    @jax.jit
    def cell(x, h, c, weight_ih, weight_hh, bias):
        return jax_cell(h, c, x @ weight_ih + bias, weight_hh)

    weight_ih, weight_hh, bias_ih, bias_hh = weights.values()
    return jitted(cell, x, h, c, weight_ih.T, weight_hh.T, bias_ih + bias_hh)
