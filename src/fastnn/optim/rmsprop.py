"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastnn._door.numbers import above_0, at_least_0, below_1, boolean, fraction
from fastnn.optim.base import Optimizer, Params, Ranges, Rate, split_eps

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    r"""RMSprop: steps scaled by a running mean of squared gradients.

    .. math::
        g_t &= \nabla f(x_{t-1}) + \lambda x_{t-1} \\
        s_t &= \alpha s_{t-1} + (1 - \alpha) g_t^2 \\
        a_t &= \alpha a_{t-1} + (1 - \alpha) g_t \quad\text{if centered, else } 0 \\
        b_t &= \mu b_{t-1} + g_t / (\sqrt{s_t - a_t^2} + \varepsilon) \\
        x_t &= x_{t-1} - \eta b_t

    Parameters
    ----------
    params : iterable
        Arrays, `Parameter` objects or groups; see :class:`Optimizer`.
    lr : float or schedule
        Learning rate η ≥ 0.
    alpha : float
        α in [0, 1).
    eps : float
        ε > 0.
    momentum : float or schedule
        μ in [0, 1].
    centered : bool
        Scale by the standard deviation instead of the root mean square.
    weight_decay : float
        λ ≥ 0, coupled: added to the gradient.
    eps_inside_sqrt : bool
        Divide by √(s - a² + ε) instead of √(s - a²) + ε.
    clip_norm, clip_value, maximize, check_finite
        See :class:`Optimizer`.
    state_dtype : {None, "bfloat16", "int8"}
        Store the states in fewer bits; see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For wrong kinds of arrays or hyper-parameters out of range.

    Notes
    -----
    Tieleman and Hinton, "Lecture 6.5: rmsprop" (2012); centered with momentum: Graves, "Generating
    sequences with recurrent neural networks" (2013), eq. 38 to 45. ε stands outside the root as in
    PyTorch; Graves, Keras and optax have it inside (`eps_inside_sqrt`). The rate stands outside the
    momentum as in PyTorch; Graves, Keras and optax have it inside, b = μb + ηg / √…, which differs
    once η changes. Defaults are PyTorch's; the lecture, Keras and optax have α = 0.9. Weight decay
    is coupled as in PyTorch; Keras's is decoupled. Where rounding makes s - a² negative, it counts
    as 0; PyTorch gives NaN. With a `state_dtype` a difference of rounded numbers is a poor
    variance: it is held above the precision of s, and the centered form loses most of its point
    with "int8".

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import RMSprop
    >>> x = np.array([1.0, 5.0])
    >>> RMSprop([x], lr=0.01).step([2 * x])
    >>> x.round(6)  # the first step has length lr / √(1 - alpha)
    array([0.9, 4.9])
    """

    _kernel = "rmsprop_step"
    _slots = ("square_avg", "grad_avg", "momentum_buffer")
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "alpha": below_1, "eps": above_0, "momentum": fraction,
        "centered": boolean, "weight_decay": at_least_0, "eps_inside_sqrt": boolean,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: Rate = 0,
        centered: bool = False,
        weight_decay: float = 0,
        *,
        eps_inside_sqrt: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        hyper |= {"weight_decay": weight_decay, "eps_inside_sqrt": eps_inside_sqrt}
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        needed = (True, group["centered"], group["momentum"] != 0)
        return tuple(slot for slot, need in zip(self._slots, needed, strict=True) if need)

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        alpha = hyper["alpha"]
        common = (hyper["weight_decay"], hyper["lr"], *split_eps(hyper))
        return *common, alpha, 1 - alpha, hyper["momentum"]
