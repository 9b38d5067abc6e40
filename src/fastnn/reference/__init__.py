"""What every kernel computes, in NumPy.

Each function is named after its kernel in ``_kernels/*.inc``. The tests compare the two, and the
benchmarks measure by how much the kernel is faster. Nothing is checked here; results have the dtype
of the arguments.

A batch is ``(rows, cols)``; functions of single elements take any shape. `dy` is the gradient of
the loss with respect to a result, `dx` the one with respect to an argument.
"""

from typing import TYPE_CHECKING

# Each family says in __all__ what is public.
from fastnn.reference import optim as optim
from fastnn.reference.activation import *  # noqa: F403
from fastnn.reference.activation import __all__ as _activation
from fastnn.reference.dropout import *  # noqa: F403
from fastnn.reference.dropout import __all__ as _dropout
from fastnn.reference.embedding import *  # noqa: F403
from fastnn.reference.embedding import __all__ as _embedding
from fastnn.reference.linear import *  # noqa: F403
from fastnn.reference.linear import __all__ as _linear
from fastnn.reference.loss import *  # noqa: F403
from fastnn.reference.loss import __all__ as _loss
from fastnn.reference.normalization import *  # noqa: F403
from fastnn.reference.normalization import __all__ as _normalization
from fastnn.reference.optim import *  # noqa: F403
from fastnn.reference.optim import __all__ as _optim
from fastnn.reference.recurrent import *  # noqa: F403
from fastnn.reference.recurrent import __all__ as _recurrent
from fastnn.reference.rows import *  # noqa: F403
from fastnn.reference.rows import __all__ as _rows
from fastnn.reference.scale import *  # noqa: F403
from fastnn.reference.scale import __all__ as _scale

if not TYPE_CHECKING:  # type checkers read literal lists alone, and the imports
    __all__ = [
        *_activation,
        *_dropout,
        *_embedding,
        *_linear,
        *_loss,
        *_normalization,
        *_optim,
        *_recurrent,
        *_rows,
        *_scale,
        "optim",
    ]

    def __dir__():
        return __all__
