"""The NumPy twin of every optimizer kernel: the rules as the papers write them.

Slow and plain, it is what the tests compare the kernels with and the baseline of the benchmarks.
All functions change their arrays in place except the gradient. `step` counts from 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._typing import Array

__all__ = [
    "adagrad_step", "adam_step", "adamw_step", "lamb_step", "lion_step", "nag_step", "rmsprop_step",
    "sgd_step",
]


def __dir__() -> list[str]:
    return __all__


def _gradient(param: Array, grad: Array, weight_decay: float, maximize: bool) -> Array:
    g: Array = (-grad if maximize else grad) + weight_decay * param
    return g


def _root(square: Array, eps: float, eps_inside_sqrt: bool) -> Array:
    root: Array = np.sqrt(square + eps) if eps_inside_sqrt else np.sqrt(square) + eps
    return root


def sgd_step(
    param: Array, grad: Array, momentum_buffer: Array | None = None, *, lr: float,
    momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False,
    weight_decay: float = 0.0, lr_in_velocity: bool = False, maximize: bool = False
) -> None:  # fmt: skip
    """Gradient descent: v = μv + (1 - d)g, x = x - ηv or x - η(g + μv)."""
    g = _gradient(param, grad, weight_decay, maximize)
    if lr_in_velocity:
        g, lr = -lr * g, -1
    if momentum_buffer is not None:
        momentum_buffer[...] = momentum * momentum_buffer + (1 - dampening) * g
        g = g + momentum * momentum_buffer if nesterov else momentum_buffer
    param -= lr * g


def nag_step(
    param: Array, grad: Array, velocity: Array, *, lr: float, momentum: float = 0.9,
    weight_decay: float = 0.0, maximize: bool = False
) -> None:  # fmt: skip
    """Nesterov's accelerated gradient: v' = μv - ηg, x = x - μv + (1 + μ)v'."""
    g = _gradient(param, grad, weight_decay, maximize)
    previous = velocity.copy()
    velocity[...] = momentum * velocity - lr * g
    param += -momentum * previous + (1 + momentum) * velocity


def adagrad_step(
    param: Array, grad: Array, sum: Array, *, lr: float = 1e-2, eps: float = 1e-10, step: int = 1,
    lr_decay: float = 0.0, weight_decay: float = 0.0, eps_inside_sqrt: bool = False,
    maximize: bool = False
) -> None:  # fmt: skip
    """Adagrad: G = G + g², x = x - ηg / (√G + ε)."""
    g = _gradient(param, grad, weight_decay, maximize)
    sum += g**2
    param -= lr / (1 + (step - 1) * lr_decay) * g / _root(sum, eps, eps_inside_sqrt)


def rmsprop_step(
    param: Array, grad: Array, square_avg: Array, grad_avg: Array | None = None,
    momentum_buffer: Array | None = None, *, lr: float = 1e-2, alpha: float = 0.99,
    eps: float = 1e-8, momentum: float = 0.0, weight_decay: float = 0.0,
    eps_inside_sqrt: bool = False, maximize: bool = False
) -> None:  # fmt: skip
    """RMSprop: s = αs + (1 - α)g², x = x - ηg / (√(s - a²) + ε)."""
    g = _gradient(param, grad, weight_decay, maximize)
    square_avg[...] = alpha * square_avg + (1 - alpha) * g**2
    variance = square_avg
    if grad_avg is not None:
        grad_avg[...] = alpha * grad_avg + (1 - alpha) * g
        variance = np.maximum(square_avg - grad_avg**2, 0)
    update = g / _root(variance, eps, eps_inside_sqrt)
    if momentum_buffer is not None:
        momentum_buffer[...] = momentum * momentum_buffer + update
        update = momentum_buffer
    param -= lr * update


def adam_step(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array,
    max_exp_avg_sq: Array | None = None, *, step: int, lr: float = 1e-3, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0,
    bias_correction: bool = True, eps_inside_sqrt: bool = False, eps_uncorrected: bool = False,
    maximize: bool = False
) -> None:  # fmt: skip
    """Adam: m = β₁m + (1 - β₁)g, v = β₂v + (1 - β₂)g², x = x - η m̂ / (√v̂ + ε)."""
    g = _gradient(param, grad, weight_decay, maximize)
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * g
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * g**2
    v = exp_avg_sq
    if max_exp_avg_sq is not None:
        v = np.maximum(max_exp_avg_sq, v, out=max_exp_avg_sq)
    m_hat = exp_avg / (1 - beta1**step) if bias_correction else exp_avg
    v_hat = v / (1 - beta2**step) if bias_correction else v
    if eps_uncorrected and bias_correction:
        m_hat, v_hat = np.sqrt(1 - beta2**step) * m_hat, v
    param -= lr * m_hat / _root(v_hat, eps, eps_inside_sqrt)


def adamw_step(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array,
    max_exp_avg_sq: Array | None = None, *, step: int, lr: float = 1e-3, weight_decay: float = 1e-2,
    **options: Any
) -> None:  # fmt: skip
    """AdamW: x = (1 - ηλ)x, then Adam's step with a gradient that does not see the decay."""
    param *= 1 - lr * weight_decay
    adam_step(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step=step, lr=lr, **options)


def lion_step(
    param: Array, grad: Array, exp_avg: Array, *, lr: float = 1e-4, beta1: float = 0.9,
    beta2: float = 0.99, weight_decay: float = 0.0, maximize: bool = False,
) -> None:  # fmt: skip
    """Lion: x = x - η (sign(β₁m + (1 - β₁)g) + λx), m = β₂m + (1 - β₂)g."""
    g = _gradient(param, grad, 0, maximize)
    param -= lr * (np.sign(beta1 * exp_avg + (1 - beta1) * g) + weight_decay * param)
    exp_avg[...] = beta2 * exp_avg + (1 - beta2) * g


def lamb_step(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, *, step: int, lr: float = 1e-3,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.0,
    bias_correction: bool = True, eps_inside_sqrt: bool = False, maximize: bool = False
) -> None:  # fmt: skip
    """LAMB: u = m̂ / (√v̂ + ε) + λx, x = x - η (‖x‖ / ‖u‖) u."""
    g = _gradient(param, grad, 0, maximize)
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * g
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * g**2
    m_hat = exp_avg / (1 - beta1**step) if bias_correction else exp_avg
    v_hat = exp_avg_sq / (1 - beta2**step) if bias_correction else exp_avg_sq
    update = m_hat / _root(v_hat, eps, eps_inside_sqrt) + weight_decay * param
    length, change = np.linalg.norm(param), np.linalg.norm(update)
    ratio = length / change if length > 0 and change > 0 else 1.0
    param -= lr * ratio * update
