"""Training: a model, a loss and an optimizer together."""

from fastnn.training.history import History
from fastnn.training.many import fit_many
from fastnn.training.trainer import Trainer

__all__ = ["History", "Trainer", "fit_many"]


def __dir__() -> list[str]:
    return __all__
