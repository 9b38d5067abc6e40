"""LayerNorm and BatchNorm1d, as layers and as functions on arrays."""

from collections.abc import Iterator

import numpy as np

from bench.environment import THREADS
from bench.layers import EPS, LAYERS, MOMENTUM, Contender, installed, normal, times_of
from bench.timing import Record, Run, loop, record

NORMS = {(32, 64): 3, (128, 768): 2, (2048, 768): 1.3}  # rows, columns: target
NORM_KERNELS = {"LayerNorm": "layer_norm", "BatchNorm1d": "batch_norm"}


def normalization(run: Run) -> Iterator[Record]:
    """LayerNorm and BatchNorm1d, forward and backward: layers, and kernels without autograd"""
    for kind, contenders in {"layer": norm_layers, "kernels": norm_kernels}.items():
        for (rows, columns), target in run.some(NORMS.items(), 1):
            x, dy = normal(rows, columns), normal(rows, columns)
            for name in NORM_KERNELS:
                yield record(
                    f"{name} {rows}x{columns} {kind}",
                    times_of(run, contenders(name, x, dy)),
                    target=target,
                    limit=run.machine.seconds(0, 5 * x.nbytes),  # x, y; dy, x, dx
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
