"""Analysis of a model around its parameters: derivatives, their check, curvature.

Nothing here changes the model: parameters, gradients, running statistics and random states are put
back bit for bit, also after an error.
"""

from fastnn.analysis.check import GradientReport, gradient_check
from fastnn.analysis.curvature import dominant_eigenvalue, suggest_lr
from fastnn.analysis.hessian import HessianProduct, hessian_vector_product
from fastnn.analysis.jacobian import input_gradient, jacobian

__all__ = [
    "GradientReport",
    "HessianProduct",
    "dominant_eigenvalue",
    "gradient_check",
    "hessian_vector_product",
    "input_gradient",
    "jacobian",
    "suggest_lr",
]


def __dir__() -> list[str]:
    return __all__
