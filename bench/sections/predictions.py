"""Predictions: one row, with what a call takes in half and in 99 of 100 cases, and batches.

Each library is used as its documentation has it, and all of them must predict the same.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

import fastnn
from bench.environment import THREADS
from bench.libraries import compiles
from bench.timing import Record, Run, loop, record

NETWORKS = ((10, 64, 64, 1), (17, 256, 256, 6))
BATCHES = ((17, 256, 256, 6), 32), ((17, 256, 256, 6), 1024), ((784, 256, 128, 10), 1024)
CALLS = 20_000
HIDDEN = 32  # units of the LSTM of a stream

Call = Callable[[], object]


def network(sizes: tuple[int, ...]) -> fastnn.Sequential:
    """Return a network with ReLU between its layers."""
    layers = []
    for ins, outs in pairwise(sizes):
        layers += [fastnn.Linear(ins, outs), fastnn.ReLU()]
    return fastnn.Sequential(*layers[:-1], rng=0)


def weights(model: fastnn.Sequential) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the weight (in, out) and the bias of each layer that has them."""
    arrays = [parameter.data for parameter in model.parameters()]
    return [(w.T.copy(), b.copy()) for w, b in zip(arrays[::2], arrays[1::2], strict=True)]


def by_fastnn(model: fastnn.Sequential, x: np.ndarray) -> Call:
    """Return a call of the predictor."""
    predictor, out = model.predictor(), np.empty_like(model(x))
    return lambda: predictor(x, out=out)


def by_numpy(model: fastnn.Sequential, x: np.ndarray) -> Call:
    """Return products, sums and maxima."""
    *hidden, (last, shift) = weights(model)

    def run() -> np.ndarray:
        y = x
        for weight, bias in hidden:
            y = y @ weight
            y += bias
            np.maximum(y, 0, out=y)
        return y @ last + shift

    return run


def by_torch(model: fastnn.Sequential, x: np.ndarray, compiled: bool = False) -> Call:
    """Return a call of the module, in inference mode."""
    import torch

    torch.set_num_threads(THREADS)
    module, given = fastnn.to_torch(model).eval(), torch.from_numpy(x)
    if compiled:
        torch.compiler.reset()  # or guards of the networks before are asked at each call
        module = torch.compile(module, fullgraph=True, dynamic=False)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return module(given)

    return run


def by_jax(model: fastnn.Sequential, x: np.ndarray) -> Call:
    """Return a call of the compiled function."""
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", THREADS > 1)
    *hidden, (last, shift) = jax.device_put(weights(model))

    def forward(y: jax.Array) -> jax.Array:
        for weight, bias in hidden:
            y = jnp.maximum(y @ weight + bias, 0)
        return y @ last + shift

    compiled, given = jax.jit(forward), jnp.array(x)
    return lambda: compiled(given).block_until_ready()


def by_onnxruntime(model: fastnn.Sequential, x: np.ndarray) -> Call:
    """Return a run of a session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        fastnn.onnx.export(model, path)
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    given = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, given)[0]


def contenders(model: fastnn.Sequential, x: np.ndarray) -> dict[str, Call]:
    """Return the calls of all libraries that are there, which predict the same."""
    calls: dict[str, Call] = {"fastnn": by_fastnn(model, x), "model(x)": lambda: model(x)}
    calls["numpy"] = by_numpy(model, x)
    if find_spec("torch"):
        calls["torch"] = by_torch(model, x)
    if compiles():
        calls["torch.compile"] = by_torch(model, x, compiled=True)
    if find_spec("jax"):
        calls["jax"] = by_jax(model, x)
    if find_spec("onnx") and find_spec("onnxruntime"):
        calls["onnxruntime"] = by_onnxruntime(model, x)
    for name, call in calls.items():
        np.testing.assert_allclose(np.asarray(call()), model(x), 1e-4, 1e-5, err_msg=name)
    return calls


def one_row(run: Run) -> Iterator[Record]:
    """Prediction of one row: median, and 99th percentile"""
    for sizes in run.some(NETWORKS, 1):
        x = np.random.default_rng(0).standard_normal((1, sizes[0]), np.float32)
        yield from percentiles(run, "-".join(map(str, sizes)), contenders(network(sizes), x))
    stream = fastnn.LSTM(1, HIDDEN, rng=0).stream()
    x = np.ones((1, 1), np.float32)
    yield from percentiles(run, f"a step of LSTM(1, {HIDDEN})", {"fastnn": lambda: stream(x)})


def percentiles(run: Run, case: str, calls: dict[str, Call]) -> Iterator[Record]:
    """Yield a row of medians and one of 99th percentiles, without the clock's own time."""
    count = (2_000 if run.quick else CALLS) // run.rounds
    times = {name: np.empty((run.rounds, count)) for name in calls}
    for turn in range(run.rounds):
        for name, call in calls.items():
            for _ in range(count // 10):
                call()
            for i in range(count):
                start = time.perf_counter_ns()
                call()
                times[name][turn, i] = time.perf_counter_ns() - start
    clock = np.median([time.perf_counter_ns() - time.perf_counter_ns() for _ in range(1000)])
    for percent, words in ((50, "median"), (99, "99th percentile")):
        found = {n: 1e-9 * (float(np.percentile(t, percent)) + clock) for n, t in times.items()}
        yield record(f"{case}, {words}", found)


def batches(run: Run) -> Iterator[Record]:
    """Prediction of a batch"""
    for sizes, rows in run.some(BATCHES, 1):
        x = np.random.default_rng(0).standard_normal((rows, sizes[0]), np.float32)
        calls = contenders(network(sizes), x)
        yield record(
            f"{'-'.join(map(str, sizes))} x{rows}",
            run.times({name: loop(call) for name, call in calls.items()}),
            limit=2 * rows * sum(a * b for a, b in pairwise(sizes)) / run.machine.peak("float32"),
        )
