"""Solvers that train a model on a whole data set: L-BFGS and Levenberg-Marquardt."""

from fastnn.solvers.lbfgs import lbfgs
from fastnn.solvers.levenberg_marquardt import levenberg_marquardt
from fastnn.solvers.result import Result

__all__ = ["Result", "lbfgs", "levenberg_marquardt"]


def __dir__() -> list[str]:
    return __all__
