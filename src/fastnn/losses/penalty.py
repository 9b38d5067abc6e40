"""The L2 penalty, for loops of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn._door.arrays import as_target, describe, mark_written
from fastnn._door.numbers import at_least_0
from fastnn._kernels.core import call
from fastnn._kernels.door import as_input
from fastnn._typing import Array

__all__ = ["l2_penalty", "penalty_value"]


def l2_penalty(parameters: Iterable[Any], lam: float) -> float:
    r"""Add the gradient of the penalty :math:`\frac{\lambda}{2} \sum \|W\|^2` and return its value.

    Parameters
    ----------
    parameters : iterable of Parameter
        Or of any objects with arrays `data` and `grad`. Each `grad` grows by λ `data`, in place.
    lam : float
        λ, at least 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If one of `parameters` has no such arrays, or `lam` is no number.
    ValueError
        If `lam` is negative or not finite, or arrays do not fit.
    RuntimeError
        If one has no gradient yet. No gradient has been changed then.

    Notes
    -----
    Goodfellow, Bengio & Courville 2016, Deep Learning, section 7.1.1, where it is called weight
    decay. The step of gradient descent is that of ``weight_decay=lam``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> weight = SimpleNamespace(data=np.array([1.0, 2.0]), grad=np.array([0.0, 1.0]))
    >>> l2_penalty([weight], lam=0.1)
    0.25
    >>> weight.grad
    array([0.1, 1.2])
    """
    lam, parameters = at_least_0("lam", lam), list(parameters)
    pairs = [_data_and_grad(p, f"parameters[{i}]") for i, p in enumerate(parameters)]
    sums = np.zeros(2)
    for data, grad in pairs:
        call("square_sum", data.dtype, (sums, data), (), (), data.size)
        grad += lam * data
    for parameter in parameters:
        if hasattr(parameter, "mark_dense"):
            parameter.mark_dense()
        else:
            mark_written([parameter.grad])
    return 0.5 * lam * float(sums[0])


def penalty_value(parameters: Iterable[Any], lam: float) -> float:
    """Return the value of the penalty alone, of parameters with `data`."""
    arrays = (parameter.data for parameter in parameters)
    return 0.5 * lam * sum(float(np.sum(a * a, dtype=np.float64)) for a in arrays)


def _data_and_grad(parameter: Any, name: str) -> tuple[Array, Array]:
    if not hasattr(parameter, "data") or not hasattr(parameter, "grad"):
        raise TypeError(f"{name}: expected a Parameter, got {describe(parameter)}")
    if parameter.grad is None or not getattr(parameter, "grad_ready", True):
        raise RuntimeError(f"{name} has no gradient yet: call backward first")
    grad = as_target(parameter.grad, f"{name}.grad")
    data = as_input(parameter.data, f"{name}.data", grad.dtype)
    if data.shape != grad.shape:
        raise ValueError(f"{name}.grad: expected shape {data.shape}, got {grad.shape}")
    return data, grad
