"""Analysis of a model around its parameters: derivatives, their check, curvature.

Nothing here changes the model: parameters, gradients, running statistics and random states are put
back bit for bit, also after an error.
"""

from fastnn.analysis.curvature import dominant_eigenvalue, suggest_lr
from fastnn.analysis.hessian import HessianProduct, hessian_vector_product
from fastnn.analysis.jacobian import input_gradient, jacobian

__all__ = [
    "HessianProduct",
    "dominant_eigenvalue",
    "hessian_vector_product",
    "input_gradient",
    "jacobian",
    "suggest_lr",
]


def __dir__() -> list[str]:
    return __all__
