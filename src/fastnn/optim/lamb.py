"""LAMB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastnn._door.numbers import above_0, at_least_0, boolean
from fastnn._kernels.update import corrected
from fastnn.optim.base import Optimizer, Params, Ranges, Rate, check_betas, split_eps

__all__ = ["LAMB"]


class LAMB(Optimizer):
    r"""LAMB: Adam's step, scaled per array to the length of the array.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        u_t &= \hat m_t / (\sqrt{\hat v_t} + \varepsilon) + \lambda x_{t-1} \\
        x_t &= x_{t-1} - \eta\, \frac{\lVert x_{t-1} \rVert}{\lVert u_t \rVert}\, u_t

    with the ratio of norms, over each array on its own, replaced by 1 where either is 0.

    Parameters
    ----------
    params : iterable
        Arrays, `Parameter` objects or groups; see :class:`Optimizer`.
    lr : float or schedule
        Learning rate η ≥ 0.
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    eps : float
        ε > 0.
    weight_decay : float
        λ ≥ 0, decoupled: part of the step whose length is scaled.
    bias_correction : bool
        Whether to divide the moments by 1 - βᵗ.
    eps_inside_sqrt : bool
        Divide by √(v̂ + ε) instead of √v̂ + ε.
    clip_norm, clip_value, maximize, check_finite
        See :class:`Optimizer`.
    state_dtype : {None, "bfloat16", "int8"}
        Store the moments in fewer bits; see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For wrong kinds of arrays or hyper-parameters out of range.

    Notes
    -----
    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes" (2020,
    arXiv:1904.00962), algorithm 2 with φ the identity, as in optax; Nvidia's and other versions
    bound the norm or the ratio. Keras's ``Lamb`` has ε = 1e-7 and leaves λx out of u: its decay is
    that of :class:`AdamW`, which the ratio does not scale. PyTorch has no LAMB.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import LAMB
    >>> x = np.array([3.0, 4.0])
    >>> LAMB([x], lr=0.1).step([np.ones(2)])
    >>> x.round(4)  # the first step has length lr ‖x‖ = 0.5
    array([2.6464, 3.6464])
    """

    _kernel = "lamb_moments"
    _second_kernel = "lamb_finish"
    _slots = ("exp_avg", "exp_avg_sq")
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "betas": check_betas, "eps": above_0, "weight_decay": at_least_0,
        "bias_correction": boolean, "eps_inside_sqrt": boolean,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
        *,
        eps_inside_sqrt: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        hyper |= {"bias_correction": bias_correction, "eps_inside_sqrt": eps_inside_sqrt}
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        beta1, beta2 = hyper["betas"]
        inverse1 = inverse2 = 1.0
        if hyper["bias_correction"]:
            inverse1, inverse2 = corrected(1.0, beta1), corrected(1.0, beta2)
        common = hyper["weight_decay"], hyper["lr"], beta1, beta2
        return *common, inverse1, inverse2, *split_eps(hyper)
