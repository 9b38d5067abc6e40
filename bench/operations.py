"""Single operations as each library does them: matrix products, activations, cross-entropy.

Each function returns, for each operation, a dictionary of callables by library. The arguments are
ready when a call begins, and results go to arrays that exist where the library lets them.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np

Calls = dict[str, Callable[[], object]]

PRODUCTS = (  # batch, in, out
    (16, 16, 32),
    (32, 32, 32),
    (32, 64, 64),
    (32, 784, 256),
    (128, 784, 256),
    (128, 256, 128),
    (1000, 37, 53),
    (4096, 256, 256),
    (1024, 1024, 1024),
)
PRODUCT_FORMS = ("x·Wᵀ", "dyᵀ·x", "dy·W")
PLANES = ((32, 64), (128, 256), (2048, 768))  # rows, columns

HAS_FASTNN, HAS_TORCH = bool(find_spec("fastnn")), bool(find_spec("torch"))


def activations() -> list[str]:
    """Return the activations of `fastnn.ops`, or those that PyTorch is measured with."""
    if not HAS_FASTNN:
        return list(TORCH_ACTIVATIONS)
    from fastnn.ops import activation

    return [name for name in vars(activation) if f"{name}_backward" in vars(activation)]


def _normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def products(batch: int, ins: int, outs: int, dtype: str = "float32") -> dict[str, Calls]:
    """Return the three products of a linear layer: forward, dweight and dx."""
    x, weight = _normal(batch, ins, dtype=dtype), _normal(outs, ins, dtype=dtype)
    dy = _normal(batch, outs, dtype=dtype)
    arguments = ((x, weight.T, dy), (dy.T, x, weight), (dy, weight, x))
    calls = {
        form: _product(a, b, np.empty_like(like))
        for form, (a, b, like) in zip(PRODUCT_FORMS, arguments, strict=True)
    }
    if HAS_FASTNN:
        from fastnn import ops

        calls["x·Wᵀ"]["fastnn"] = partial(ops.linear, x, weight, out=np.empty_like(dy))
    return calls


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Calls:
    calls: Calls = {}
    if HAS_FASTNN:
        from fastnn import ops

        calls["fastnn"] = partial(ops.matmul, a, b, out=out)
    calls["numpy"] = partial(np.matmul, a, b, out=np.empty_like(out))
    if HAS_TORCH:
        import torch

        left, right, result = map(torch.from_numpy, (a, b, np.empty_like(out)))
        calls["torch"] = partial(torch.mm, left, right, out=result)
    return calls


def activation(name: str, rows: int, columns: int) -> dict[str, Calls]:
    """Return the forward and the backward pass of an activation."""
    x, dy = _normal(rows, columns), _normal(rows, columns)
    saved = x  # no kernel takes another time for what is an output
    forward: Calls = {}
    backward: Calls = {}
    if HAS_FASTNN:
        from fastnn import ops, reference

        forward["fastnn"] = partial(getattr(ops, name), x, out=np.empty_like(x))
        backward["fastnn"] = partial(
            getattr(ops, f"{name}_backward"), dy, saved, out=np.empty_like(x)
        )
        forward["reference"] = partial(getattr(reference, f"{name}_forward"), x)
        backward["reference"] = partial(getattr(reference, f"{name}_backward"), dy, saved)
    if HAS_TORCH and name in TORCH_ACTIVATIONS:
        import torch

        arrays = map(torch.from_numpy, (x, dy, saved, np.empty_like(x)))
        forward["torch"], backward["torch"] = TORCH_ACTIVATIONS[name](torch, *arrays)
    if name in NUMPY_ACTIVATIONS:
        forward["numpy"] = partial(NUMPY_ACTIVATIONS[name], x, np.empty_like(x))
    if find_spec("jax"):
        import jax

        function = getattr(jax.nn, name, None)
        if function:
            options = {"approximate": False} if name == "gelu" else {}
            compiled, given = jax.jit(partial(function, **options)), jax.device_put(x)
            forward["jax"] = lambda: compiled(given).block_until_ready()
    return {f"{name}_forward": forward, f"{name}_backward": backward}


def _numpy_sigmoid(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def _numpy_softmax(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return out


# What NumPy has loops of its own for, tanh and exp among them
NUMPY_ACTIVATIONS = {
    "relu": lambda x, out: np.maximum(x, 0, out=out),
    "tanh": lambda x, out: np.tanh(x, out=out),
    "sigmoid": _numpy_sigmoid,
    "softmax": _numpy_softmax,
}


# PyTorch's own kernels, the ones that its autograd calls. An activation without a row here is
# measured without PyTorch.
TORCH_ACTIVATIONS = {
    "relu": lambda torch, x, dy, saved, out: (
        partial(torch.clamp_min, x, 0, out=out),
        partial(torch.ops.aten.threshold_backward.grad_input, dy, saved, 0, grad_input=out),
    ),
    "leaky_relu": lambda torch, x, dy, saved, out: (
        partial(torch.ops.aten.leaky_relu.out, x, 0.01, out=out),
        partial(
            torch.ops.aten.leaky_relu_backward.grad_input, dy, saved, 0.01, True, grad_input=out
        ),
    ),
    "sigmoid": lambda torch, x, dy, saved, out: (
        partial(torch.sigmoid, x, out=out),
        partial(torch.ops.aten.sigmoid_backward.grad_input, dy, saved, grad_input=out),
    ),
    "tanh": lambda torch, x, dy, saved, out: (
        partial(torch.tanh, x, out=out),
        partial(torch.ops.aten.tanh_backward.grad_input, dy, saved, grad_input=out),
    ),
    "gelu": lambda torch, x, dy, saved, out: (
        partial(torch.ops.aten.gelu.out, x, out=out),
        partial(torch.ops.aten.gelu_backward.grad_input, dy, saved, grad_input=out),
    ),
    "silu": lambda torch, x, dy, saved, out: (
        partial(torch.ops.aten.silu.out, x, out=out),
        partial(torch.ops.aten.silu_backward.grad_input, dy, saved, grad_input=out),
    ),
    "softmax": lambda torch, x, dy, saved, out: (
        partial(torch.softmax, x, -1, out=out),
        partial(torch._softmax_backward_data, dy, saved, -1, dy.dtype, grad_input=out),
    ),
    "log_softmax": lambda torch, x, dy, saved, out: (
        partial(torch.log_softmax, x, -1, out=out),
        partial(torch._log_softmax_backward_data, dy, saved, -1, dy.dtype, out=out),
    ),
}


def cross_entropy(rows: int, columns: int) -> Calls:
    """Return softmax-cross-entropy, value and gradient."""
    logits = _normal(rows, columns)
    labels = np.random.default_rng(1).integers(0, columns, rows)
    calls: Calls = {}
    if HAS_FASTNN:
        from fastnn import losses, reference

        calls["fastnn"] = partial(losses.cross_entropy, logits, labels)
        calls["reference"] = partial(reference.cross_entropy_loss, logits, labels)
    if HAS_TORCH:
        import torch

        tensor, classes = torch.from_numpy(logits), torch.from_numpy(labels)
        calls["torch"] = partial(_torch_cross_entropy, torch, tensor, classes, torch.ones(()))
    return calls


def _torch_cross_entropy(torch, logits, labels, one):
    aten = torch.ops.aten
    log_p = torch.log_softmax(logits, -1)
    loss, total = aten.nll_loss_forward(log_p, labels, None, 1, -100)
    grad = aten.nll_loss_backward(one, log_p, labels, None, 1, -100, total)
    return loss, torch._log_softmax_backward_data(grad, log_p, -1, logits.dtype)
