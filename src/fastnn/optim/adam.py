"""Adam, with its variants AMSGrad and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastnn._door.numbers import above_0, at_least_0, boolean
from fastnn._kernels.update import corrected, rooted
from fastnn.optim.base import Optimizer, Params, Ranges, Rate, check_betas, split_eps

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    r"""Adam: steps scaled by running estimates of the gradient's first two moments.

    .. math::
        g_t &= \nabla f(x_{t-1}) + \lambda x_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= m_t / (1 - \beta_1^t), \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        x_t &= x_{t-1} - \eta\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon)

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
        λ ≥ 0, coupled: added to the gradient.
    amsgrad : bool
        Divide by the largest v so far instead of the present one.
    bias_correction : bool
        Whether to divide the moments by 1 - βᵗ.
    eps_inside_sqrt : bool
        Divide by √(v̂ + ε) instead of √v̂ + ε.
    eps_uncorrected : bool
        Add ε to the uncorrected v or √v: :math:`x_t = x_{t-1} - \eta \sqrt{1 - \beta_2^t} /
        (1 - \beta_1^t) \cdot m_t / (\sqrt{v_t} + \varepsilon)`.
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
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1; AMSGrad: Reddi
    et al., "On the convergence of Adam and beyond" (2018). PyTorch and optax (``eps``) put ε where
    algorithm 1 has it; the paper's closing remark in section 2, Keras and scikit-learn put it
    beside the uncorrected √v, as `eps_uncorrected` does, an ε̂ that weighs more in the first steps
    (1e-7 by default in Keras). optax's ``eps_root`` is `eps_inside_sqrt`. AMSGrad keeps the largest
    uncorrected v, as PyTorch and Keras do, and corrects that; optax keeps the largest v̂, the paper
    corrects nothing. Weight decay is coupled as in PyTorch; Keras's is decoupled, and optax.adam
    has none: see :class:`AdamW`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import Adam
    >>> x = np.array([1.0, -3.0])
    >>> optimizer = Adam([x], lr=0.1)
    >>> optimizer.step([2 * x])  # the first step has length lr in every coordinate
    >>> x.round(6)
    array([ 0.9, -2.9])
    """

    _kernel = "adam_step"
    _slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "betas": check_betas, "eps": above_0, "weight_decay": at_least_0,
        "amsgrad": boolean, "bias_correction": boolean, "eps_inside_sqrt": boolean,
        "eps_uncorrected": boolean,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        bias_correction: bool = True,
        *,
        eps_inside_sqrt: bool = False,
        eps_uncorrected: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        hyper |= {"amsgrad": amsgrad, "bias_correction": bias_correction}
        hyper |= {"eps_inside_sqrt": eps_inside_sqrt, "eps_uncorrected": eps_uncorrected}
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self._slots if group["amsgrad"] else self._slots[:2]

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        return hyper["weight_decay"], *_moment_scalars(hyper, shrink=1.0)


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    As :class:`Adam` with :math:`g_t = \nabla f(x_{t-1})` and

    .. math::
        x_t = (1 - \eta\lambda)\, x_{t-1} - \eta\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon)

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
        λ ≥ 0, decoupled: the parameters shrink by ηλ, and the moments do not see it.
    amsgrad, bias_correction, eps_inside_sqrt, eps_uncorrected
        See :class:`Adam`.
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
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2, with the
    decay multiplied by the learning rate as in PyTorch, optax and Keras; the paper multiplies it by
    the schedule's multiplier alone. The default λ is PyTorch's 0.01; Keras has 0.004, optax 0.0001.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import AdamW
    >>> x = np.array([1.0])
    >>> AdamW([x], lr=0.1, weight_decay=0.5).step([np.zeros(1)])
    >>> x
    array([0.95])
    """

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        bias_correction: bool = True,
        *,
        eps_inside_sqrt: bool = False,
        eps_uncorrected: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            bias_correction,
            eps_inside_sqrt=eps_inside_sqrt,
            eps_uncorrected=eps_uncorrected,
            clip_norm=clip_norm,
            clip_value=clip_value,
            maximize=maximize,
            check_finite=check_finite,
            state_dtype=state_dtype,
        )

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        shrink = 1 - hyper["lr"] * hyper["weight_decay"]
        return 0.0, *_moment_scalars(hyper, shrink)


def _moment_scalars(hyper: Mapping[str, Any], shrink: float) -> tuple[Any, ...]:
    rate, inverse = hyper["lr"], 1.0
    beta1, beta2 = hyper["betas"]
    eps, eps_inside = split_eps(hyper)
    if hyper["bias_correction"]:
        rate, inverse = corrected(rate, beta1), corrected(inverse, beta2)
        if hyper["eps_uncorrected"]:
            eps, eps_inside = rooted(eps, beta2), corrected(eps_inside, beta2)
    return rate, shrink, beta1, beta2, inverse, eps, eps_inside
