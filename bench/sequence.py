"""Sequences and statistics beside PyTorch and a jitted JAX: LSTM, LayerNorm, BatchNorm1d.

Before anything is timed, the outputs and the gradients of all libraries are held together.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat

import numpy as np
from peers import THREADS
from timing import Machine, Record, Table, interleaved, loop, record

LSTMS = {  # steps, batch, features, hidden: target
    (20, 1, 8, 16): 12,
    (50, 16, 16, 32): 4,
    (50, 32, 64, 64): 1.8,
    (100, 32, 64, 128): 1.6,
    (50, 64, 256, 256): 1.25,
    (35, 20, 650, 650): 1.3,
}
NORMS = {(32, 64): 3, (128, 768): 2, (2048, 768): 1.3}  # rows, columns: target
NORM_KERNELS = {"LayerNorm": "layer_norm", "BatchNorm1d": "batch_norm"}
UNITS, ALLOWED_STEP = 64, 2e-6  # of a stream, and the seconds for one of its steps
LAYER, BESIDE_OPS = (80, 100), 4 / 2.8  # that takes single steps, and times of ops.lstm_step
EPS, MOMENTUM = 1e-5, 0.1  # of the normalizations, as PyTorch has them
TOLERANCE = 1e-3
RNG = np.random.default_rng(0)

Weights = dict[str, np.ndarray]
# What n times the work takes, and its results: output, dx and the parameters' gradients.
Contender = tuple[Callable[[int], object], Callable[[], list[np.ndarray]]]


def normal(*shape: int) -> np.ndarray:
    """Return the next random numbers."""
    return RNG.standard_normal(shape, np.float32)


def lstm_weights(features: int, hidden: int) -> Weights:
    """Return weights of an LSTM layer, named and shaped as in PyTorch."""
    gates = 4 * hidden
    weights = {"weight_ih_l0": normal(gates, features), "weight_hh_l0": normal(gates, hidden)}
    weights |= {"bias_ih_l0": normal(gates), "bias_hh_l0": normal(gates) + 1}
    return {name: array / np.float32(np.sqrt(hidden)) for name, array in weights.items()}


def times_of(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Check that all contenders compute the same, then return the seconds each takes.

    Raises
    ------
    AssertionError
        If a result of one differs from the first one's by more than `TOLERANCE` of its largest
        element.
    """
    (first, expected), *others = ((name, results()) for name, (_, results) in contenders.items())
    for other, found in others:
        for i, (got, want) in enumerate(zip(found, expected, strict=True)):
            np.testing.assert_allclose(
                got, want, TOLERANCE, TOLERANCE * np.abs(want).max(),
                err_msg=f"result {i}: {other} and {first} differ",
            )  # fmt: skip
    return interleaved({name: run for name, (run, _) in contenders.items()}, rounds)


# The libraries ----------------------------------------------------------------------------------


def fastnn_layer(name: str, sizes: tuple, weights: Weights, x, dy) -> Contender:
    """Return forward and backward of a layer."""
    import fastnn

    layer = getattr(fastnn, name)(*sizes)
    layer.load_state_dict(weights, strict=False)

    def call():
        return layer.forward(x, training=True), layer.backward(dy)

    return loop(call), lambda: [*call(), *(p.grad for p in layer.parameters())]


def torch_layer(name: str, sizes: tuple, weights: Weights, x, dy) -> Contender:
    """Return forward and backward of a layer by autograd, time first."""
    import torch

    torch.set_num_threads(THREADS)
    layer = getattr(torch.nn, name)(*sizes)
    layer.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    tx, tdy = (torch.from_numpy(time_first(a)) for a in (x, dy))
    inputs = [tx.requires_grad_(), *layer.parameters()]

    def call():
        y = layer(tx)
        y = y[0] if name == "LSTM" else y
        return y, *torch.autograd.grad(y, inputs, tdy)

    def results():
        y, dx, *gradients = (tensor.detach().numpy() for tensor in call())
        return [time_first(y), time_first(dx), *gradients]

    return loop(call), results


def jax_layer(name: str, sizes: tuple, weights: Weights, x, dy) -> Contender:
    """Return the jitted vector-Jacobian product of a layer, weights as (in, out), time first."""
    import jax

    function = {"LSTM": jax_lstm, "LayerNorm": jax_layer_norm, "BatchNorm1d": jax_batch_norm}[name]

    @jax.jit
    def forward_backward(dy, running, *inputs):
        y, pull, updated = jax.vjp(lambda *a: function(*a, *running), *inputs, has_aux=True)
        return y, *pull(dy), updated

    running = [array for key, array in weights.items() if key.startswith("running")]
    learned = [array.T for key, array in weights.items() if not key.startswith("running")]
    run, call = jitted(forward_backward, time_first(dy), running, time_first(x), *learned)

    def results():
        y, dx, *gradients, _ = call()
        return [time_first(np.asarray(y)), time_first(np.asarray(dx)), *(g.T for g in gradients)]

    return run, results


def time_first(array: np.ndarray) -> np.ndarray:
    """Swap the axes of batch and time of a sequence; return anything else as it is."""
    return np.ascontiguousarray(array.swapaxes(0, 1)) if array.ndim == 3 else array


def jitted(function: Callable, *arrays: np.ndarray | list) -> tuple[Callable, Callable]:
    """Return a function of n that makes n calls and waits for the last, and one that makes one."""
    import jax

    # Handing a call to another thread costs more than it brings when there is one core.
    jax.config.update("jax_cpu_enable_async_dispatch", THREADS > 1)
    call = partial(function, *map(jax.device_put, arrays))

    def run(n):
        for _ in repeat(None, n):
            result = call()
        jax.block_until_ready(result)

    return run, call


def jax_cell(h, c, z, weight_hh):
    """Return the next h and c from z, the input's share of the gates."""
    import jax

    i, f, g, o = jax.numpy.split(z + h @ weight_hh, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
    return jax.nn.sigmoid(o) * jax.numpy.tanh(c), c


def jax_lstm(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """One product for the inputs of all steps, then a scan over time."""
    import jax

    def step(state, z):
        h, c = jax_cell(*state, z, weight_hh)
        return (h, c), h

    zero = jax.numpy.zeros((x.shape[1], weight_hh.shape[0]), x.dtype)
    _, y = jax.lax.scan(step, (zero, zero), x @ weight_ih + (bias_ih + bias_hh))
    return y, None


def jax_normalize(x, weight, bias, axis):
    """The variance in the same pass as the mean, as Flax has it."""
    import jax

    mean = x.mean(axis, keepdims=True)
    var = (x * x).mean(axis, keepdims=True) - mean * mean
    return (x - mean) * (jax.lax.rsqrt(var + EPS) * weight) + bias, mean, var


def jax_layer_norm(x, weight, bias):
    """Statistics of each row."""
    y, _, _ = jax_normalize(x, weight, bias, 1)
    return y, None


def jax_batch_norm(x, weight, bias, running_mean, running_var):
    """Statistics of each column, and the running ones."""
    y, mean, var = jax_normalize(x, weight, bias, 0)
    unbiased = var * (len(x) / (len(x) - 1))
    pairs = ((running_mean, mean), (running_var, unbiased))
    return y, [(1 - MOMENTUM) * old + MOMENTUM * new[0] for old, new in pairs]


LAYERS = {"fastnn": fastnn_layer, "torch": torch_layer, "jax": jax_layer}


def fastnn_kernels(name: str, weight, bias, x, dy) -> Contender:
    """Return forward and backward of a normalization by `fastnn.ops`."""
    from fastnn import ops

    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")

    def call():
        y, mean, rstd = forward(x, weight, bias, EPS)
        return y, *backward(dy, x, weight, mean, rstd)

    return loop(call), call


def torch_kernels(name: str, weight, bias, x, dy) -> Contender:
    """Return PyTorch's own kernels, the ones that its autograd calls."""
    import torch

    torch.set_num_threads(THREADS)
    aten, every = torch.ops.aten, [True, True, True]
    weight, bias, x, dy = map(torch.from_numpy, (weight, bias, x, dy))
    shape = (x.shape[1],)

    def layer_norm():
        y, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, EPS)
        return y, *aten.native_layer_norm_backward(dy, x, shape, mean, rstd, weight, bias, every)

    def batch_norm():
        y, *saved = torch.native_batch_norm(x, weight, bias, None, None, True, MOMENTUM, EPS)
        return y, *aten.native_batch_norm_backward(
            dy, x, weight, None, None, *saved, True, EPS, every
        )

    call = {"layer_norm": layer_norm, "batch_norm": batch_norm}[name]
    return loop(call), lambda: [tensor.numpy() for tensor in call()]


KERNELS = {"fastnn": fastnn_kernels, "torch": torch_kernels}


def installed(makers: dict[str, Callable], *arguments) -> dict[str, Contender]:
    """Return the contenders of the libraries that are there."""
    return {name: make(*arguments) for name, make in makers.items() if find_spec(name)}


# The tables: each function yields the rows of one as they are measured ---------------------------


def lstm(machine: Machine, rounds: int) -> Iterator[Record]:
    """LSTM over whole sequences, forward + backward"""
    for (steps, batch, features, hidden), target in LSTMS.items():
        sizes, weights = (features, hidden), lstm_weights(features, hidden)
        x, dy = normal(batch, steps, features), normal(batch, steps, hidden)
        contenders = installed(LAYERS, "LSTM", sizes, weights, x, dy)
        flops = 3 * 2 * steps * batch * 4 * hidden * (features + hidden)
        yield record(
            f"LSTM T={steps} batch={batch} {features}->{hidden}",
            times_of(contenders, rounds),
            target=target,
            limit=flops / machine.peak("float32"),
        )


def norm(machine: Machine, rounds: int) -> Iterator[Record]:
    """Normalizations, forward + backward: layers, then kernels called without autograd"""
    for kind, contenders in {"layer": norm_layers, "kernels": norm_kernels}.items():
        for (rows, columns), target in NORMS.items():
            x, dy = normal(rows, columns), normal(rows, columns)
            for name in NORM_KERNELS:
                yield record(
                    f"{name} {rows}x{columns} {kind}",
                    times_of(contenders(name, x, dy), rounds),
                    target=target,
                    limit=machine.seconds(0, 5 * x.nbytes),  # x, y; dy, x, dx
                )


def norm_layers(name: str, x: np.ndarray, dy: np.ndarray) -> dict[str, Contender]:
    """Return whole layers, running statistics included."""
    columns = x.shape[1]
    weights = {"weight": normal(columns), "bias": normal(columns)}
    if name == "BatchNorm1d":
        running = np.array([0, 1], np.float32)[:, None].repeat(columns, 1)
        weights |= dict(zip(("running_mean", "running_var"), running, strict=True))
    return installed(LAYERS, name, (columns,), weights, x, dy)


def norm_kernels(name: str, x: np.ndarray, dy: np.ndarray) -> dict[str, Contender]:
    """Return functions on arrays."""
    columns = x.shape[1]
    weight, bias = normal(columns), normal(columns)
    return installed(KERNELS, NORM_KERNELS[name], weight, bias, x, dy)


def step(machine: Machine, rounds: int) -> Iterator[Record]:
    """One step of a stream through an LSTM"""
    weights = lstm_weights(UNITS, UNITS)
    x, h, c = normal(1, UNITS), normal(1, UNITS) / 2, normal(1, UNITS) / 3
    contenders = {}
    if find_spec("fastnn"):
        from fastnn import ops

        weight_ih, weight_hh, bias_ih, bias_hh = weights.values()
        call = partial(ops.lstm_step, x, h, c, weight_ih, weight_hh, bias_ih + bias_hh)
        contenders["fastnn"] = loop(call), call
    if find_spec("torch"):
        contenders["torch"] = torch_step(weights, x, h, c)
    if find_spec("jax"):
        contenders["jax"] = jax_step(weights, x, h, c)
    name, times = f"lstm_step {UNITS} units, batch 1", times_of(contenders, rounds)
    yield record(name, times)
    if "fastnn" in times:
        yield record(name, {"fastnn": times["fastnn"], "allowed": ALLOWED_STEP}, target=1)
        yield single_step(rounds)


def single_step(rounds: int) -> Record:
    """A layer that is called with one time step, beside the function for the same cell."""
    import fastnn

    features, hidden = LAYER
    layer = fastnn.LSTM(features, hidden, rng=0)
    x, h, c = normal(1, features), normal(1, hidden), normal(1, hidden)
    weight_ih, weight_hh, bias_ih, _ = (p.data for p in layer.parameters())
    cell = partial(fastnn.ops.lstm_step, x, h, c, weight_ih, weight_hh, bias_ih)
    runs = {"layer": loop(partial(layer, x[:, None])), "cell": loop(cell)}
    times = interleaved(runs, rounds)
    times = {"fastnn": times["layer"], "allowed": BESIDE_OPS * times["cell"]}
    return record(f"LSTM({features}, {hidden}), one step", times, target=1)


def torch_step(weights: Weights, x, h, c) -> Contender:
    """Return PyTorch's cell, without autograd."""
    import torch

    torch.set_num_threads(THREADS)
    cell = torch.nn.LSTMCell(UNITS, UNITS)
    cell.load_state_dict(
        {k.removesuffix("_l0"): torch.from_numpy(v) for k, v in weights.items()}
    )
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


SECTIONS = {section.__name__: section for section in (lstm, norm, step)}


def tables(names: list[str]) -> list[Table]:
    """Return one table for each of SECTIONS in `names`."""
    return [Table(SECTIONS[name].__doc__, SECTIONS[name]) for name in names]
