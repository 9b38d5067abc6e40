"""Gradient descent: plain, with momentum, and Nesterov's two forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastnn._door.numbers import at_least_0, boolean, fraction
from fastnn._kernels.update import started
from fastnn._typing import Array
from fastnn.optim.base import Optimizer, Params, Ranges, Rate
from fastnn.optim.storage import SCALE, unpack

__all__ = ["NAG", "SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum if wanted.

    .. math::
        g_t &= \nabla f(x_{t-1}) + \lambda x_{t-1} \\
        v_t &= \mu v_{t-1} + (1 - d) g_t, \qquad v_1 = g_1 \\
        x_t &= x_{t-1} - \eta v_t \quad\text{or, with Nesterov's momentum,}\quad
        x_t = x_{t-1} - \eta (g_t + \mu v_t)

    Parameters
    ----------
    params : iterable
        Arrays, `Parameter` objects or groups; see :class:`Optimizer`.
    lr : float or schedule
        Learning rate η ≥ 0.
    momentum : float or schedule
        μ in [0, 1].
    dampening : float
        d in [0, 1], not applied at the first step.
    nesterov : bool
        Nesterov's momentum: needs momentum > 0 and dampening 0.
    weight_decay : float
        λ ≥ 0, coupled: added to the gradient.
    lr_in_velocity : bool
        Whether -ηg stands for g in the velocity and x = x + v, or x = x - ηg + μv with `nesterov`.
    clip_norm, clip_value, maximize, check_finite
        See :class:`Optimizer`.
    state_dtype : {None, "bfloat16", "int8"}
        Store the momentum in fewer bits; see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For wrong kinds of arrays or hyper-parameters out of range.

    Notes
    -----
    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013),
    in PyTorch's form: the learning rate stands outside the velocity, so a schedule acts on past
    gradients too. The paper, Keras, scikit-learn and :class:`NAG` have it inside, v = μv - ηg, as
    `lr_in_velocity` has; the two agree as long as η is constant. optax.sgd is PyTorch's without
    dampening. Weight decay is coupled as in PyTorch; Keras has it decoupled, x = (1 - ηλ)x, in all
    its optimizers, and optax composes it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import SGD
    >>> x = np.array([1.0, 2.0])
    >>> optimizer = SGD([x], lr=0.5, momentum=0.9)
    >>> optimizer.step([2 * x])  # the gradient of x²
    >>> x
    array([0., 0.])
    >>> optimizer.state[0]["momentum_buffer"]
    array([2., 4.])
    """

    _kernel = "sgd_step"
    _slots = ("momentum_buffer",)
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "momentum": fraction, "dampening": fraction, "nesterov": boolean,
        "weight_decay": at_least_0, "lr_in_velocity": boolean,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate,
        momentum: Rate = 0,
        dampening: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
        *,
        lr_in_velocity: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        hyper |= {"weight_decay": weight_decay, "lr_in_velocity": lr_in_velocity}
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    def _state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return () if group["momentum"] == 0 else self._slots

    def _check(self, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov: expected momentum > 0 and dampening 0 with it, got momentum "
                f"{group['momentum']!r} and dampening {group['dampening']!r}"
            )

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        gain = started(1.0, 1 - hyper["dampening"])
        decay, rate = hyper["weight_decay"], hyper["lr"]
        if hyper["lr_in_velocity"]:
            decay, rate = -rate * decay, -1.0
        return decay, rate, hyper["momentum"], gain, hyper["nesterov"]

    @staticmethod
    def _gain(hyper: Mapping[str, Any]) -> float:
        return float(-hyper["lr"]) if hyper["lr_in_velocity"] else 1.0


class NAG(Optimizer):
    r"""Nesterov's accelerated gradient, in the form whose gradients are taken where the arrays are.

    .. math::
        v_t &= \mu v_{t-1} - \eta g_t \\
        x_t &= x_{t-1} - \mu v_{t-1} + (1 + \mu) v_t

    Parameters
    ----------
    params : iterable
        Arrays, `Parameter` objects or groups; see :class:`Optimizer`.
    lr : float or schedule
        Learning rate η ≥ 0.
    momentum : float or schedule
        μ in [0, 1].
    weight_decay : float
        λ ≥ 0, coupled: g = ∇f + λx.
    clip_norm, clip_value, maximize, check_finite
        See :class:`Optimizer`.
    state_dtype : {None, "bfloat16", "int8"}
        Store the velocity in fewer bits; see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For wrong kinds of arrays or hyper-parameters out of range.

    Notes
    -----
    The textbook form (Nesterov 1983; Sutskever et al. 2013, eq. 3 and 4) takes the gradient ahead
    of the position: v' = μv - η∇f(y + μv), y' = y + v'. With x = y + μv that is the rule above
    (Bengio et al., "Advances in optimizing recurrent networks", 2013, eq. 7): the arrays hold the
    look-ahead points x, so that a gradient taken at the arrays, as ever, is the textbook's.
    :meth:`lookahead` returns these points and :meth:`positions` the y, which are what the textbook
    evaluates and returns in the end. The two differ by μv, little once the steps have become small.
    Where μ follows a schedule, a step takes its present value in both places; the textbook would
    look ahead with the next one.

    Keras's ``SGD(nesterov=True)`` is this rule. PyTorch's and optax's, and `SGD` here, take the
    same steps with a constant rate, but have the rate outside the velocity.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim import NAG
    >>> x = np.array([1.0])
    >>> optimizer = NAG([x], lr=0.25, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.step([2 * x])
    >>> x, optimizer.positions()[0]
    (array([-0.0625]), array([0.125]))
    """

    _kernel = "nag_step"
    _slots = ("velocity",)
    _ranges: ClassVar[Ranges] = {
        "lr": at_least_0, "momentum": fraction, "weight_decay": at_least_0,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: Rate,
        momentum: Rate = 0.9,
        weight_decay: float = 0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        check_finite: bool = False,
        state_dtype: str | None = None,
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(
            params, hyper, clip_norm, maximize, check_finite, state_dtype, clip_value
        )

    @staticmethod
    def _scalars(hyper: Mapping[str, Any]) -> tuple[Any, ...]:
        return hyper["weight_decay"], hyper["lr"], hyper["momentum"]

    def lookahead(self) -> list[Array]:
        """Return the look-ahead points of the textbook form, x = y + μv: copies of the arrays.

        The next gradient is to be taken there. The arrays hold these points already; a copy serves
        whoever wants to keep them.

        Returns
        -------
        list of ndarray
            One per parameter, of its shape and dtype.
        """
        with self._lock:
            return [array.copy() for array in self._ready().current()]

    def positions(self) -> list[Array]:
        """Return the positions y = x - μv of the textbook form, new arrays.

        They are where the steps v have led so far, without the look-ahead; μ is that of the last
        step. With a `state_dtype` they are as precise as the stored velocity.

        Returns
        -------
        list of ndarray
            One per parameter, of its shape and dtype.
        """
        points = []
        for group, array, state in zip(self._group_of, self.lookahead(), self.state, strict=True):
            mu = self._at(self._read[group], max(self.t - 1, 0))["momentum"]
            velocity = unpack("velocity", state["velocity"], state.get("velocity" + SCALE))
            points.append(array - array.dtype.type(mu) * velocity)
        return points
