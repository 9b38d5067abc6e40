"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastnn._door.numbers import above_0, at_least_0, boolean
from fastnn._kernels.update import slowed
from fastnn.optim.base import Optimizer, Params, Ranges, Rate, split_eps

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    r"""Adagrad: steps scaled by all squared gradients so far.

    .. math::
        g_t &= \nabla f(x_{t-1}) + \lambda x_{t-1} \\
        G_t &= G_{t-1} + g_t^2 \\
        x_t &= x_{t-1} - \frac{\eta}{1 + (t - 1) k}\, \frac{g_t}{\sqrt{G_t} + \varepsilon}

    Parameters
    ----------
    params : iterable
        Arrays, `Parameter` objects or groups; see :class:`Optimizer`.
    lr : float or schedule
        Learning rate η ≥ 0.
    eps : float
        ε > 0.
    initial_accumulator_value : float
        G₀ ≥ 0.
    lr_decay : float
        k ≥ 0.
    weight_decay : float
        λ ≥ 0, coupled: added to the gradient.
    eps_inside_sqrt : bool
        Divide by √(G + ε) instead of √G + ε.
    clip_norm, clip_value, maximize, check_finite
        See :class:`Optimizer`.
    state_dtype : {None, "bfloat16", "int8"}
        Store the sum in fewer bits; see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For wrong kinds of arrays or hyper-parameters out of range.

    Notes
    -----
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization" (2011), figure 1 with the diagonal matrix; ε is its δ, outside the root. Defaults
    are PyTorch's (η = 0.01, G₀ = 0, ε = 1e-10), and so is `lr_decay`. Keras and optax start from
    G₀ = 0.1 with ε = 1e-7 inside the root: `initial_accumulator_value` and `eps_inside_sqrt`.
    Weight decay is coupled as in PyTorch; Keras's is decoupled.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import Adagrad
    >>> x = np.array([1.0, 5.0])
    >>> optimizer = Adagrad([x], lr=0.5)
    >>> optimizer.step([2 * x])
    >>> x
    array([0.5, 4.5])
    >>> optimizer.state[0]["sum"]
    array([  4., 100.])
    """

    _kernel = "adagrad_step"
    _slots = ("sum",)
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "eps": above_0, "initial_accumulator_value": at_least_0,
        "lr_decay": at_least_0, "weight_decay": at_least_0, "eps_inside_sqrt": boolean,
    }  # fmt: skip
    _begun: ClassVar = {
        "initial_accumulator_value": "cannot be changed, for the sums have begun with it; assign "
        "state[i]['sum'], or make the optimizer again",
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0,
        lr_decay: float = 0,
        weight_decay: float = 0,
        *,
        eps_inside_sqrt: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "eps": eps, "initial_accumulator_value": initial_accumulator_value}
        hyper |= {"lr_decay": lr_decay, "weight_decay": weight_decay}
        hyper["eps_inside_sqrt"] = eps_inside_sqrt
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    def _initial(self, state: str, group: Mapping[str, Any]) -> float:
        value: float = group["initial_accumulator_value"]
        return value

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        rate = slowed(hyper["lr"], hyper["lr_decay"])
        return hyper["weight_decay"], rate, *split_eps(hyper)
