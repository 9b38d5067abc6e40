"""Activation functions as layers."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import DTypeLike

from fastnn._door.numbers import above_0, at_least_0, choice
from fastnn._planning.builder import Builder, Value
from fastnn._typing import Rng
from fastnn.layers.attribute import option
from fastnn.layers.base import Layer, rows_and_columns

__all__ = [
    "ELU", "GELU", "SELU", "LeakyReLU", "LogSoftmax", "Mish", "ReLU", "SiLU", "Sigmoid", "Softmax",
    "Softplus", "Tanh",
]


def _approximate(name: str, value: Any) -> str:
    kept: str = choice(name, value, ("none", "tanh"))
    return kept


class _Activation(Layer):
    """Plans `kernel`_forward and `kernel`_backward.

    Subclasses say whether the backward kernel reads the input (`_saves_input`) or the output.
    """

    _kernel: ClassVar[Any] = ""
    _saves_input = False
    _alpha: ClassVar[Any] = 0.0

    def __init__(self, *, dtype: DTypeLike | None = None, rng: Rng = None) -> None:
        super().__init__(dtype=dtype, rng=rng)

    def plan(self, builder: Builder, x: Value) -> Value:
        """One kernel forward, one backward; in place where the program allows it."""
        rows, cols = rows_and_columns(x.shape)
        y = builder.value(x.shape)
        details: dict[str, Any] = {"sizes": (cols,), "scalars": (self._alpha,), "items": rows}
        saved = x if self._saves_input else y
        builder.forward(f"{self._kernel}_forward", [y, x], **details)
        builder.backward(f"{self._kernel}_backward", [x.grad, y.grad, saved], **details)
        return y

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ReLU(_Activation):
    r"""Rectified linear unit, max(x, 0); its gradient at 0 is 0 (Nair & Hinton 2010).

    Notes
    -----
    .. math::
        y = \max(x, 0), \qquad \frac{dy}{dx} = [x > 0]

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.ReLU(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([0., 0., 2.])
    """

    _kernel = "relu"


class LeakyReLU(_Activation):
    r"""x where positive, negative_slope * x elsewhere (Maas, Hannun & Ng 2013).

    Parameters
    ----------
    negative_slope : float
        Finite and at least 0, so that the output's sign tells the input's.

    Raises
    ------
    TypeError, ValueError
        If `negative_slope` is no number, negative or not finite.

    Notes
    -----
    .. math::
        y = \begin{cases} x & x > 0 \\ s x & \text{else} \end{cases}, \qquad
        \frac{dy}{dx} = \begin{cases} 1 & x > 0 \\ s & \text{else} \end{cases}

    s is `negative_slope`.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.LeakyReLU(0.1, dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.2,  0. ,  2. ])
    """

    _kernel = "leaky_relu"
    negative_slope = option(at_least_0)

    @property
    def _alpha(self) -> float:
        return self.negative_slope

    def __init__(
        self, negative_slope: float = 0.01, *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.negative_slope = negative_slope

    def __repr__(self) -> str:
        return f"LeakyReLU({self.negative_slope})"


class ELU(_Activation):
    r"""Exponential linear unit: x where positive, alpha * (exp(x) - 1) else (arXiv 1511.07289).

    Parameters
    ----------
    alpha : float
        Finite and at least 0, so that the output's sign tells the input's.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is no number, negative or not finite.

    Notes
    -----
    .. math::
        y = \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & \text{else} \end{cases}, \qquad
        \frac{dy}{dx} = \begin{cases} 1 & x > 0 \\ y + \alpha & \text{else} \end{cases}

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.ELU(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.865,  0.   ,  2.   ])
    """

    _kernel = "elu"
    alpha = option(at_least_0)

    @property
    def _alpha(self) -> float:
        return self.alpha

    def __init__(
        self, alpha: float = 1.0, *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.alpha = alpha

    def __repr__(self) -> str:
        return f"ELU({self.alpha})"


class SELU(_Activation):
    r"""Scaled exponential linear unit: s * ELU(alpha), s = 1.0507…, alpha = 1.6732….

    With these two numbers and weights of `lecun_normal`, activations keep mean 0 and variance 1
    from layer to layer (Klambauer et al. 2017, arXiv 1706.02515).

    Notes
    -----
    .. math::
        y &= s \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & \text{else} \end{cases} \\
        \frac{dy}{dx} &= \begin{cases} s & x > 0 \\ y + s \alpha & \text{else} \end{cases}

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.SELU(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-1.52 ,  0.   ,  2.101])
    """

    _kernel = "selu"


class Sigmoid(_Activation):
    r"""Logistic function, 1 / (1 + exp(-x)).

    Notes
    -----
    .. math::
        y = \frac{1}{1 + e^{-x}}, \qquad \frac{dy}{dx} = y (1 - y)

    For any x without overflow. A model that is trained with
    `binary_cross_entropy_with_logits` ends before it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Sigmoid(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([0.119, 0.5  , 0.881])
    """

    _kernel = "sigmoid"


class Tanh(_Activation):
    r"""Hyperbolic tangent.

    Notes
    -----
    .. math::
        y = \tanh x = \frac{e^x - e^{-x}}{e^x + e^{-x}}, \qquad \frac{dy}{dx} = 1 - y^2

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Tanh(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.964,  0.   ,  0.964])
    """

    _kernel = "tanh"


class GELU(_Activation):
    r"""Gaussian error linear unit, x * Phi(x) (Hendrycks & Gimpel 2016, arXiv 1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        The exact form by erf, or 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Raises
    ------
    ValueError
        If `approximate` is neither.

    Notes
    -----
    .. math::
        y = x\, \Phi(x), \qquad \frac{dy}{dx} = \Phi(x) + x\, \varphi(x)

    Φ and φ are the distribution function and the density of the normal distribution.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.GELU(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.046,  0.   ,  1.954])
    """

    _saves_input = True
    approximate = option(_approximate)

    @property
    def _kernel(self) -> str:
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def __init__(
        self, approximate: str = "none", *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.approximate = approximate

    def __repr__(self) -> str:
        return f"GELU(approximate={self.approximate!r})"


class SiLU(_Activation):
    r"""Sigmoid-weighted linear unit, x * sigmoid(x) (arXiv 1702.03118), also called swish.

    Notes
    -----
    .. math::
        y = x\, \sigma(x), \qquad \frac{dy}{dx} = \sigma(x) + y\, (1 - \sigma(x))

    σ is the logistic function.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.SiLU(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.238,  0.   ,  1.762])
    """

    _kernel = "silu"
    _saves_input = True


class Mish(_Activation):
    r"""Self-regularized activation, x * tanh(log(1 + exp(x))) (Misra 2019, arXiv 1908.08681).

    Notes
    -----
    .. math::
        y = x\, t, \qquad t = \tanh \log(1 + e^x), \qquad
        \frac{dy}{dx} = t + x\, (1 - t^2)\, \sigma(x)

    σ is the logistic function.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Mish(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.253,  0.   ,  1.944])
    """

    _kernel = "mish"
    _saves_input = True


class Softplus(_Activation):
    r"""Smooth ReLU, log(1 + exp(beta * x)) / beta (Dugas et al. 2001), for any x without overflow.

    Parameters
    ----------
    beta : float
        Finite and above 0; the larger, the closer to ReLU.

    Raises
    ------
    TypeError, ValueError
        If `beta` is no number, not above 0 or not finite.

    Notes
    -----
    .. math::
        y = \frac{1}{\beta} \log(1 + e^{\beta x}), \qquad \frac{dy}{dx} = \sigma(\beta x)

    σ is the logistic function.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Softplus(dtype="float64")(np.array([-2.0, 0.0, 2.0])).round(3)
    array([0.127, 0.693, 2.127])
    """

    _kernel = "softplus"
    beta = option(above_0)

    @property
    def _alpha(self) -> float:
        return self.beta

    def __init__(
        self, beta: float = 1.0, *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.beta = beta

    def __repr__(self) -> str:
        return f"Softplus({self.beta})"


class Softmax(_Activation):
    r"""exp(x) / sum(exp(x)) over the last axis, stable for any finite input.

    Notes
    -----
    .. math::
        y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}, \qquad
        \frac{\partial L}{\partial x_i} = y_i \Bigl(\bar y_i - \sum_j \bar y_j y_j\Bigr)

    :math:`\bar y` is the gradient of the loss L with respect to the output. Bridle 1990. A
    model that is trained with `cross_entropy` ends before it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Softmax(dtype="float64")(np.array([[0.0, 1.0, 2.0]])).round(3)
    array([[0.09 , 0.245, 0.665]])
    """

    _kernel = "softmax"
    _needs_features = True


class LogSoftmax(_Activation):
    r"""log(softmax(x)) over the last axis, x - log(sum(exp(x))), stable for any finite input.

    Notes
    -----
    .. math::
        y_i = x_i - \log \sum_j e^{x_j}, \qquad
        \frac{\partial L}{\partial x_i} = \bar y_i - e^{y_i} \sum_j \bar y_j

    :math:`\bar y` is the gradient of the loss L with respect to the output.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.LogSoftmax(dtype="float64")(np.array([[0.0, 1.0, 2.0]])).round(3)
    array([[-2.408, -1.408, -0.408]])
    """

    _kernel = "log_softmax"
    _needs_features = True
