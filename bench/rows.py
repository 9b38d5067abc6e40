"""One row at a time, and one step of a sequence: what a call takes in half and in 99 of 100 cases.

python bench/rows.py [--calls 20000]

NumPy, PyTorch, JAX and ONNX Runtime stand beside fastnn where they are installed, each as its
documentation has it for a single row, on one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

import fastnn

NETWORKS = ((10, 64, 64, 1), (17, 256, 256, 6))
HIDDEN = 32  # units of the LSTM


def network(sizes: tuple[int, ...]) -> fastnn.Sequential:
    """Return a network with ReLU between its layers."""
    layers = []
    for ins, outs in pairwise(sizes):
        layers += [fastnn.Linear(ins, outs), fastnn.ReLU()]
    return fastnn.Sequential(*layers[:-1], rng=0)


def weights(model: fastnn.Sequential) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the weight and the bias of each layer that has them."""
    arrays = [parameter.data for parameter in model.parameters()]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def fastnn_rows(model: fastnn.Sequential, x: np.ndarray) -> Iterator[tuple[str, Callable]]:
    """Yield the model and its predictor."""
    predictor, out = model.predictor(), np.empty_like(model(x))
    yield "fastnn, model(x)", lambda: model(x)
    yield "fastnn, predictor", lambda: predictor(x)
    yield "fastnn, predictor, out=", lambda: predictor(x, out=out)


def numpy_rows(model: fastnn.Sequential, x: np.ndarray) -> Iterator[tuple[str, Callable]]:
    """Yield products, sums and maxima."""
    *hidden, (last, shift) = [(w.T.copy(), b) for w, b in weights(model)]

    def run() -> np.ndarray:
        y = x
        for weight, bias in hidden:
            y = np.maximum(y @ weight + bias, 0)
        return y @ last + shift

    yield "NumPy", run


def torch_rows(model: fastnn.Sequential, x: np.ndarray) -> Iterator[tuple[str, Callable]]:
    """Yield the module, in inference mode."""
    import torch

    torch.set_num_threads(1)
    module, given = fastnn.to_torch(model).eval(), torch.from_numpy(x)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return module(given)

    yield "PyTorch", run


def jax_rows(model: fastnn.Sequential, x: np.ndarray) -> Iterator[tuple[str, Callable]]:
    """Yield the compiled function."""
    import jax
    from jax import numpy as jnp

    *hidden, (last, shift) = [(jnp.array(w.T), jnp.array(b)) for w, b in weights(model)]

    def forward(y: jax.Array) -> jax.Array:
        for weight, bias in hidden:
            y = jnp.maximum(y @ weight + bias, 0)
        return y @ last + shift

    compiled, given = jax.jit(forward), jnp.array(x)
    yield "JAX", lambda: compiled(given).block_until_ready()


def onnx_rows(model: fastnn.Sequential, x: np.ndarray) -> Iterator[tuple[str, Callable]]:
    """Yield a session of ONNX Runtime."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, arrays, name = [], [], "x"
    for i, (weight, bias) in enumerate(weights(model)):
        arrays += [numpy_helper.from_array(weight.copy(), f"w{i}"),
                   numpy_helper.from_array(bias.copy(), f"b{i}")]  # fmt: skip
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"], transB=1))
        name = f"z{i}"
        if i + 1 < len(weights(model)):
            nodes.append(helper.make_node("Relu", [name], [f"h{i}"]))
            name = f"h{i}"
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, None]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], arrays)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(made, Path(folder, "net.onnx"))
        session = onnxruntime.InferenceSession(str(Path(folder, "net.onnx")), options)
    yield "ONNX Runtime", lambda: session.run(None, {"x": x})


ROWS = {"fastnn": fastnn_rows, "numpy": numpy_rows, "torch": torch_rows, "jax": jax_rows,
        "onnxruntime": onnx_rows}  # fmt: skip


def percentiles(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Return the median and the 99th percentile in microseconds, without the clock's own time."""
    empty = [time.perf_counter_ns() - time.perf_counter_ns() for _ in range(1000)]
    for _ in range(calls // 10):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    half, most = np.percentile(np.array(times) + np.median(empty), [50, 99]) / 1000
    return half, most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    fastnn.set_num_threads(1)
    print("| one row | | p50 in us | p99 |\n|---|---|---|---|")
    for sizes in NETWORKS:
        model = network(sizes)
        x = np.random.default_rng(0).normal(size=(1, sizes[0])).astype(np.float32)
        for name, rows in ROWS.items():
            if not find_spec(name) or (name == "onnxruntime" and not find_spec("onnx")):
                continue
            for label, call in rows(model, x):
                result = call()
                result = np.asarray(result[0] if isinstance(result, list) else result)
                np.testing.assert_allclose(result, model(x), rtol=1e-4, atol=1e-5)
                half, most = percentiles(call, calls)
                print(f"| {'-'.join(map(str, sizes))} | {label} | {half:.2f} | {most:.2f} |")
    stream = fastnn.LSTM(1, HIDDEN, rng=0).stream()
    x = np.ones((1, 1), np.float32)
    half, most = percentiles(lambda: stream(x), calls)
    print(f"| a step of an LSTM of {HIDDEN} units | fastnn, stream | {half:.2f} | {most:.2f} |")


if __name__ == "__main__":
    main()
