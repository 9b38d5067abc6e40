"""One optimizer step on one set of arrays, checked, in place. See :mod:`fastnn.ops`.

Arithmetic is IEEE throughout: denormals are kept. `fastnn.optim` takes one step over many arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_list, as_target, mark_written, sort_memory
from fastnn._door.numbers import boolean, limit, positive
from fastnn._kernels.core import call
from fastnn._kernels.door import as_input
from fastnn._kernels.update import scalars_at
from fastnn._typing import Array
from fastnn.optim import LAMB, NAG, SGD, Adagrad, Adam, AdamW, Lion, Optimizer, RMSprop

__all__ = [
    "adagrad_step", "adam_step", "adamw_step", "clip_grad_norm", "lamb_step", "lion_step",
    "nag_step", "rmsprop_step", "sgd_step",
]


def _arrays(param: Any, grad: Any, **states: Any) -> list[Array | None]:
    """Check the arrays of one step; they come back in the order given."""
    target = as_target(param, "param")
    source = as_input(grad, "grad", target.dtype)
    if source.shape != target.shape:
        raise ValueError(f"grad: expected shape {target.shape}, got {source.shape}")
    arrays: dict[str, Array | None] = {"param": target, "grad": source}
    for name, state in states.items():
        array = None if state is None else as_target(state, name)
        if array is not None and (array.dtype, array.shape) != (target.dtype, target.shape):
            raise ValueError(
                f"{name}: expected dtype {target.dtype} and shape {target.shape}, as param has, "
                f"got {array.dtype} and {array.shape}"
            )
        for other, earlier in arrays.items():
            # contiguous arrays overlap exactly when their address ranges do
            if array is not None and earlier is not None and np.may_share_memory(array, earlier):
                raise ValueError(f"{name}: expected memory of its own, got memory of {other}")
        arrays[name] = array
    if np.may_share_memory(target, source):
        raise ValueError("grad: expected memory of its own, got memory of param")
    mark_written([param, *states.values()])
    return list(arrays.values())


def _scalars(
    rule: type[Optimizer], hyper: Mapping[str, Any], step: int, maximize: bool
) -> tuple[float, ...]:
    """Check the hyper-parameters and return the kernel's scalars."""
    for name, value in hyper.items():
        rule._ranges[name](name, value)
    boolean("maximize", maximize)
    step = positive("step", step)
    gain = rule._gain(hyper)
    return scalars_at((-gain if maximize else gain, *rule._scalars(hyper)), step)


def _call(kernel: str, arrays: list[Array | None], scalars: tuple[float, ...]) -> None:
    param = arrays[0]
    assert param is not None
    call(kernel, param.dtype, tuple(arrays), scalars=scalars, items=param.size)


def sgd_step(
    param: Array,
    grad: ArrayLike,
    momentum_buffer: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    lr_in_velocity: bool = False,
    maximize: bool = False,
    step: int | None = None,
) -> None:
    """Gradient descent: v = μv + (1 - d)g, x = x - ηv, or x = x - η(g + μv) with `nesterov`.

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient ∇f, only read; g = ∇f + λx.
    momentum_buffer : array, same shape and dtype, optional
        v, changed in place; without it x = x - ηg. Start from zeros.
    lr, momentum, dampening, weight_decay : float
        η ≥ 0; μ and d in [0, 1]; λ ≥ 0.
    nesterov, lr_in_velocity, maximize : bool
        Nesterov's form; -ηg instead of g, so that x = x + v; climb instead of descend.
    step : int, optional
        Which step it is, from 1: at the first one d is not applied, as in PyTorch. Any other one
        if None.

    Raises
    ------
    TypeError, ValueError
        For a wrong kind of array, dtype, shape or order, arrays that overlap, or hyper-parameters
        out of range. Nothing has been changed then.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.ones(2, np.float32)
    >>> sgd_step(x, [1, 2], lr=0.25)
    >>> x
    array([0.75, 0.5 ], dtype=float32)
    """
    arrays = _arrays(param, grad, momentum_buffer=momentum_buffer)
    hyper = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
    hyper |= {"weight_decay": weight_decay, "lr_in_velocity": lr_in_velocity}
    if momentum_buffer is None and (momentum != 0 or nesterov):
        raise ValueError("momentum_buffer: expected an array with momentum, got None")
    later = 2  # the rule as it stands above
    _call("sgd_step", arrays, _scalars(SGD, hyper, later if step is None else step, maximize))


def nag_step(
    param: Array,
    grad: ArrayLike,
    velocity: Array,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Nesterov's accelerated gradient: v' = μv - ηg, x = x - μv + (1 + μ)v'.

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient ∇f, only read; g = ∇f + λx.
    velocity : array, same shape and dtype
        v, changed in place. Start from zeros.
    lr, momentum, weight_decay : float
        η ≥ 0; μ in [0, 1]; λ ≥ 0.
    maximize : bool
        Climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, v = np.ones(1), np.zeros(1)
    >>> nag_step(x, [1.0], v, lr=0.1, momentum=0.5)
    >>> x, v
    (array([0.85]), array([-0.1]))
    """
    arrays = _arrays(param, grad, velocity=velocity)
    hyper = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    _call("nag_step", arrays, _scalars(NAG, hyper, 1, maximize))


def adagrad_step(
    param: Array,
    grad: ArrayLike,
    sum: Array,
    *,
    lr: float = 1e-2,
    eps: float = 1e-10,
    step: int = 1,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps_inside_sqrt: bool = False,
    maximize: bool = False,
) -> None:
    """Adagrad: G = G + g², x = x - ηg / (√G + ε).

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient ∇f, only read; g = ∇f + λx.
    sum : array, same shape and dtype
        G, changed in place. Start from zeros.
    lr, eps, lr_decay, weight_decay : float
        η ≥ 0, divided by 1 + (step - 1) lr_decay; ε > 0; λ ≥ 0.
    step : int
        The number of this step, from 1; only `lr_decay` needs it.
    eps_inside_sqrt, maximize : bool
        Divide by √(G + ε) instead; climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, total = np.ones(1), np.zeros(1)
    >>> adagrad_step(x, [4.0], total, lr=0.5)
    >>> x, total
    (array([0.5]), array([16.]))
    """
    arrays = _arrays(param, grad, sum=sum)
    hyper = {"lr": lr, "eps": eps, "lr_decay": lr_decay, "weight_decay": weight_decay}
    hyper["eps_inside_sqrt"] = eps_inside_sqrt
    _call("adagrad_step", arrays, _scalars(Adagrad, hyper, step, maximize))


def rmsprop_step(
    param: Array,
    grad: ArrayLike,
    square_avg: Array,
    grad_avg: Array | None = None,
    momentum_buffer: Array | None = None,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    eps_inside_sqrt: bool = False,
    maximize: bool = False,
) -> None:
    """RMSprop: s = αs + (1 - α)g², b = μb + g / (√(s - a²) + ε), x = x - ηb.

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient ∇f, only read; g = ∇f + λx.
    square_avg : array, same shape and dtype
        s, changed in place. Start from zeros.
    grad_avg : array, same shape and dtype, optional
        a = αa + (1 - α)g, the centered form, changed in place; a = 0 without it.
    momentum_buffer : array, same shape and dtype, optional
        b, changed in place; without it μ is 0.
    lr, alpha, eps, momentum, weight_decay : float
        η ≥ 0; α in [0, 1); ε > 0; μ in [0, 1]; λ ≥ 0.
    eps_inside_sqrt, maximize : bool
        Divide by √(s - a² + ε) instead; climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, square = np.ones(1), np.zeros(1)
    >>> rmsprop_step(x, [4.0], square, lr=0.1, alpha=0.75)
    >>> x.round(6), square
    (array([0.8]), array([4.]))
    """
    arrays = _arrays(
        param, grad, square_avg=square_avg, grad_avg=grad_avg, momentum_buffer=momentum_buffer
    )
    if momentum_buffer is None and momentum != 0:
        raise ValueError("momentum_buffer: expected an array with momentum, got None")
    hyper = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum}
    hyper |= {"weight_decay": weight_decay, "eps_inside_sqrt": eps_inside_sqrt}
    _call("rmsprop_step", arrays, _scalars(RMSprop, hyper, 1, maximize))


def adam_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None = None,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    eps_inside_sqrt: bool = False,
    eps_uncorrected: bool = False,
    maximize: bool = False,
) -> None:
    """Adam: m = β₁m + (1 - β₁)g, v = β₂v + (1 - β₂)g², x = x - η m̂ / (√v̂ + ε).

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient ∇f, only read; g = ∇f + λx.
    exp_avg, exp_avg_sq : array, same shape and dtype
        m and v, changed in place. Start from zeros.
    max_exp_avg_sq : array, same shape and dtype, optional
        The largest v so far (AMSGrad), changed in place and used instead of v.
    step : int
        The number of this step, from 1, for m̂ = m / (1 - β₁ˢᵗᵉᵖ) and v̂ = v / (1 - β₂ˢᵗᵉᵖ).
    lr, beta1, beta2, eps, weight_decay : float
        η ≥ 0; β₁ and β₂ in [0, 1); ε > 0; λ ≥ 0.
    bias_correction, eps_inside_sqrt, eps_uncorrected, maximize : bool
        Use m̂ and v̂ rather than m and v; divide by √(v̂ + ε) instead; ε beside the uncorrected √v;
        climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> adam_step(x, [0.5, -8], m, v, step=1, lr=0.1)
    >>> x.round(6)
    array([0.9, 1.1])
    """
    arrays = _arrays(
        param, grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, max_exp_avg_sq=max_exp_avg_sq
    )
    hyper = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    hyper |= {"bias_correction": bias_correction, "eps_inside_sqrt": eps_inside_sqrt}
    hyper["eps_uncorrected"] = eps_uncorrected
    _call("adam_step", arrays, _scalars(Adam, hyper, step, maximize))


def adamw_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None = None,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    bias_correction: bool = True,
    eps_inside_sqrt: bool = False,
    eps_uncorrected: bool = False,
    maximize: bool = False,
) -> None:
    """AdamW: Adam with decoupled weight decay, x = (1 - ηλ)x - η m̂ / (√v̂ + ε).

    Parameters are those of :func:`adam_step`, but that g = ∇f and λ shrinks x itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, m, v = np.ones(1), np.zeros(1), np.zeros(1)
    >>> adamw_step(x, [0], m, v, step=1, lr=0.1, weight_decay=0.5)
    >>> x
    array([0.95])
    """
    arrays = _arrays(
        param, grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, max_exp_avg_sq=max_exp_avg_sq
    )
    hyper = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    hyper |= {"bias_correction": bias_correction, "eps_inside_sqrt": eps_inside_sqrt}
    hyper["eps_uncorrected"] = eps_uncorrected
    _call("adam_step", arrays, _scalars(AdamW, hyper, step, maximize))


def lion_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    *,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Lion: x = x - η (sign(β₁m + (1 - β₁)g) + λx), m = β₂m + (1 - β₂)g.

    Parameters
    ----------
    param : array of float32 or float64, any shape
        x, changed in place.
    grad : array_like, same shape
        The gradient g = ∇f, only read.
    exp_avg : array, same shape and dtype
        m, changed in place. Start from zeros.
    lr, beta1, beta2, weight_decay : float
        η ≥ 0; β₁ and β₂ in [0, 1); λ ≥ 0.
    maximize : bool
        Climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, m = np.ones(2), np.zeros(2)
    >>> lion_step(x, [0.5, -8], m, lr=0.1)
    >>> x
    array([0.9, 1.1])
    """
    arrays = _arrays(param, grad, exp_avg=exp_avg)
    hyper = {"lr": lr, "betas": (beta1, beta2), "weight_decay": weight_decay}
    _call("lion_step", arrays, _scalars(Lion, hyper, 1, maximize))


def lamb_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    eps_inside_sqrt: bool = False,
    maximize: bool = False,
) -> None:
    """LAMB: u = m̂ / (√v̂ + ε) + λx, x = x - η (‖x‖ / ‖u‖) u, the ratio 1 where a norm is 0.

    Parameters are those of :func:`adam_step`, but that g = ∇f.

    Raises
    ------
    TypeError, ValueError
        As :func:`sgd_step`.

    Examples
    --------
    >>> import numpy as np
    >>> x, m, v = np.array([3.0, 4.0]), np.zeros(2), np.zeros(2)
    >>> lamb_step(x, [1, 1], m, v, step=1, lr=0.1)
    >>> x.round(4)
    array([2.6464, 3.6464])
    """
    arrays = _arrays(param, grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)
    hyper = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    hyper |= {"bias_correction": bias_correction, "eps_inside_sqrt": eps_inside_sqrt}
    scalars = _scalars(LAMB, hyper, step, maximize)
    squares = np.zeros(2)  # of ‖x‖ and ‖u‖, where the kernels expect them
    arrays += [None] * 4 + [squares, None]
    _call("lamb_moments", arrays, scalars)
    length, change = np.sqrt(squares)
    ratio = length / change if length > 0 and change > 0 else 1.0
    _call("lamb_finish", arrays, (*scalars, float(ratio)))


def clip_grad_norm(
    grads: Iterable[Any], max_norm: float, *, error_if_nonfinite: bool = False
) -> float:
    r"""Scale gradients in place so that their norm, taken together, is at most `max_norm`.

    .. math:: g_i \leftarrow g_i \cdot \min(1, max\_norm / \|g\|), \qquad
        \|g\|^2 = \sum_i \|g_i\|^2

    Parameters
    ----------
    grads : iterable of array of float32 or float64, any shapes
        Changed in place, unless their norm is within the limit.
    max_norm : float
        The limit, > 0.
    error_if_nonfinite : bool
        Raise if the norm is infinite or NaN. Otherwise the gradients are multiplied by
        ``max_norm / norm`` then too: all become NaN, or 0 where only others are infinite.

    Returns
    -------
    float
        The Euclidean norm of all of them before, right also where squares leave the range of
        float64.

    Raises
    ------
    TypeError, ValueError
        For a wrong kind of array, arrays that overlap, or `max_norm` out of range.
    RuntimeError
        If `error_if_nonfinite` is set and the norm is infinite or NaN. Nothing has been changed
        after any of these.

    Notes
    -----
    Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks,
    algorithm 1. As ``torch.nn.utils.clip_grad_norm_``, which divides by the norm + 1e-6 and so
    stays a little below the limit. An optimizer's `clip_norm` does it without a pass over memory of
    its own and leaves the gradients alone.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.array([3.0, 4.0])
    >>> clip_grad_norm([g], 1.0)
    5.0
    >>> g
    array([0.6, 0.8])
    """
    limit("max_norm", max_norm)
    boolean("error_if_nonfinite", error_if_nonfinite)
    grads = as_list(grads, "grads")
    arrays = [as_target(grad, f"grads[{i}]") for i, grad in enumerate(grads)]
    starts = [array.ctypes.data for array in arrays]
    sort_memory(starts, [array.nbytes for array in arrays], lambda i: f"grads[{i}]")
    norm = _norm(arrays)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"grads: expected a finite norm, as error_if_nonfinite is set, got {norm}"
        )
    if not norm <= max_norm:
        factor = float(max_norm) / norm
        with np.errstate(all="ignore"):  # 0 times infinity is NaN, and NaN stays
            for array in arrays:
                if factor >= np.finfo(array.dtype).tiny:
                    array *= array.dtype.type(factor)
                else:  # in two steps: as a denormal it has lost digits
                    for _ in range(2):
                        array *= array.dtype.type(math.sqrt(max_norm) / math.sqrt(norm))
        mark_written(grads)
    return norm


def _norm(arrays: list[Array]) -> float:
    """Return the Euclidean norm of all arrays together, summed in double."""
    sums = np.zeros(2)
    for array in arrays:
        call("square_sum", array.dtype, (sums, array), items=array.size)
    if 1e-280 < sums[0] < math.inf:
        return math.sqrt(sums[0])
    # Squares may have left the range of double: divide by the largest value first.
    with np.errstate(all="ignore"):
        largest = float(np.max([np.abs(a).max(initial=0) for a in arrays], initial=0))
        if largest == 0 or not math.isfinite(largest):
            return largest
        squares = sum(float(np.square(a / largest, dtype=np.float64).sum()) for a in arrays)
    return largest * math.sqrt(squares)
