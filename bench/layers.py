"""Layers of every library, forward and backward: LSTM, LayerNorm, BatchNorm1d.

Before anything is timed, the outputs and the gradients of all libraries are held together.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import repeat

import numpy as np

from bench.environment import THREADS
from bench.timing import Run, loop

EPS, MOMENTUM = 1e-5, 0.1  # of the normalizations, as PyTorch has them
TOLERANCE = 1e-3
RNG = np.random.default_rng(0)

Weights = dict[str, np.ndarray]
# What n times the work takes, and its results: output, dx and the parameters' gradients.
Contender = tuple[Callable[[int], object], Callable[[], list[np.ndarray]]]


def normal(*shape: int) -> np.ndarray:
    """Return the next random numbers."""
    return RNG.standard_normal(shape, np.float32)


def times_of(run: Run, contenders: dict[str, Contender]) -> dict[str, float]:
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
    return run.times({name: work for name, (work, _) in contenders.items()})


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


def installed(makers: dict[str, Callable], *arguments) -> dict[str, Contender]:
    """Return the contenders of the libraries that are there."""
    return {name: make(*arguments) for name, make in makers.items() if find_spec(name)}
