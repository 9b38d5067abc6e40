"""Optimizers: the whole family, in place, on anyone's arrays.

Each takes a list of arrays, of a layer's parameters, or of dicts (groups with hyper-parameters of
their own), and changes them in place with one call into C per step.
"""

from typing import TYPE_CHECKING

from fastnn.optim.adagrad import Adagrad
from fastnn.optim.adam import Adam, AdamW
from fastnn.optim.base import Optimizer
from fastnn.optim.lamb import LAMB
from fastnn.optim.lion import Lion
from fastnn.optim.minimize import MinimizeResult, minimize, scipy_method
from fastnn.optim.rmsprop import RMSprop
from fastnn.optim.sgd import NAG, SGD

__all__ = [
    "LAMB",
    "NAG",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "MinimizeResult",
    "Optimizer",
    "RMSprop",
    "minimize",
    "scipy_method",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # type checkers would believe in any name

    def __getattr__(name):
        from fastnn._hints import missing

        raise missing(__name__, name)

    del adagrad, adam, lamb, lion, rmsprop, sgd  # noqa: F821  files, which a typist does not mean
