"""Layers by what they compute: however an exporter has spelt a function, it is the function.

A function of arrays is tried on a few inputs. Those that tell a parameter, such as a slope, give
the candidate; random ones confirm it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log, prod
from typing import Any

import numpy as np

from fastnn import layers, reference
from fastnn._typing import Array
from fastnn.onnx.steps import Spec

__all__ = ["recognize"]

Function = Callable[[Array], Array]

# Of the largest output: constants in a file have 24 bits.
_TOLERANCE = 2e-6


def recognize(f: Function, shape: tuple[int, ...], integers: bool = False) -> Spec | None:
    """Return the layer that computes `f` of arrays of `shape`; None if none does.

    The layer of a function that returns its input is an empty `Sequential`.
    """
    rng = np.random.default_rng(0)
    x: Array = rng.integers(0, 9, shape) if integers else 2 * rng.standard_normal(shape)
    y = f(x)
    if y.shape != shape or y.dtype.kind not in "fiu" or not np.isfinite(y).all():
        return None

    def same(candidate: Any) -> bool:
        return bool(np.abs(candidate - y).max(initial=0) <= _TOLERANCE * np.abs(y).max(initial=0))

    if same(x):
        return Spec(layers.Sequential)
    if integers:
        return None
    for spec, candidate in _elementwise(f, shape):
        if same(candidate(x)):
            return spec
    if shape[-1] > 1:
        for spec, candidate in ((Spec(layers.Softmax), reference.softmax_forward),
                                (Spec(layers.LogSoftmax), reference.log_softmax_forward)):
            if same(candidate(x)):
                return spec
        for axes in range(1, len(shape)):
            found = _layer_norm(f, x, axes)
            if found is not None and same(_normalized(x, axes, found)):
                return found
    return None


def _elementwise(f: Function, shape: tuple[int, ...]) -> Iterator[tuple[Spec, Function]]:
    """Yield activations, with the parameters that `f` would have if it were one."""
    names = ("ReLU", "Sigmoid", "Tanh", "SELU", "SiLU", "Mish")
    for name in names:
        yield Spec(getattr(layers, name)), getattr(reference, f"{name.lower()}_forward")
    yield Spec(layers.GELU), reference.gelu_forward
    yield Spec(layers.GELU, {"approximate": "tanh"}), reference.gelu_tanh_forward
    at_0, at_minus_1 = (float(f(np.full(shape, x)).flat[0]) for x in (0.0, -1.0))
    if 0 <= (slope := _short(-at_minus_1)) < np.inf:
        yield (Spec(layers.LeakyReLU, {"negative_slope": slope}),
               lambda x: reference.leaky_relu_forward(x, slope))
    if 0 <= (alpha := _short(-at_minus_1 / (1 - exp(-1)))) < np.inf:
        yield (Spec(layers.ELU, {"alpha": alpha}),
               lambda x: reference.elu_forward(x, alpha))
    if 0 < at_0 < np.inf:
        beta = _short(log(2) / at_0)
        yield (Spec(layers.Softplus, {"beta": beta}),
               lambda x: reference.softplus_forward(x, beta))


def _short(number: float) -> float:
    """Return a number as someone has written it, before it became a constant of 24 bits."""
    short = float(f"{number:.6g}")
    return short if abs(short - number) <= 2e-7 * abs(number) else number


def _layer_norm(f: Function, x: Array, axes: int) -> Spec | None:
    """Return the LayerNorm over the last axes that `f` would be if it were one.

    Its bias is what becomes of zeros, its weight what becomes of a large spread; a small spread
    tells epsilon.
    """
    shape = x.shape[-axes:]
    if prod(shape) < 2:
        return None

    def slope(z: Array) -> Array:
        """Of the output by the input, both without their means."""
        difference = z - z.mean(tuple(range(-axes, 0)), keepdims=True)
        result: Array = ((f(z) - f(np.zeros_like(z))) / difference)[(0,) * (x.ndim - axes)]
        return result

    def variance(z: Array) -> float:
        return float(z[(0,) * (x.ndim - axes)].var())

    bias = f(np.zeros_like(x))[(0,) * (x.ndim - axes)]
    large, small = 1e3 * x, 1e-4 * x
    with np.errstate(all="ignore"):
        weight = slope(large) * np.sqrt(variance(large))
        eps = _short(float(np.mean((weight / slope(small)) ** 2)) - variance(small))
        weight = slope(large) * np.sqrt(variance(large) + eps)
    if not 0 < eps < 1 or not np.isfinite(weight).all():
        return None
    affine = not (np.allclose(weight, 1, atol=1e-7) and not bias.any())
    arrays = {"weight": weight, "bias": bias} if affine else {}
    config = {"normalized_shape": shape, "eps": eps, "elementwise_affine": affine}
    return Spec(layers.LayerNorm, config, arrays)


def _normalized(x: Array, axes: int, spec: Spec) -> Array:
    over = tuple(range(-axes, 0))
    deviation = np.sqrt(x.var(over, keepdims=True) + spec.config["eps"])
    y: Array = (x - x.mean(over, keepdims=True)) / deviation
    return y * spec.arrays.get("weight", 1) + spec.arrays.get("bias", 0)
