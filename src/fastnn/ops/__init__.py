"""Functions on arrays: every operation of the library without layers, models or state.

Arguments are NumPy arrays or anything with the buffer protocol or ``__dlpack__``. Where all are
C-contiguous and of one dtype, float32 or float64, nothing is copied; else the arguments (never
`out`) are converted: to float64 if any of them is that, else to float32.

All run without the GIL. A large call of matrix products, activations, normalization, dropout or
`lstm` uses as many threads as :func:`fastnn.set_num_threads` allows; each computes its share of
the rows, channels or elements. The result has the same bits on any number of them.

All functions raise

- TypeError if an argument is of the wrong kind: no array of real numbers, or masked, or `out` of
  another dtype than the result;
- ValueError if a shape does not fit, a value is out of range, or `out` is read-only, strided, not
  in native byte order or shares memory with an argument (where it may be one: in part).

Nothing has been changed then.
"""

from typing import TYPE_CHECKING

# Each family says in __all__ what is public.
from fastnn.ops.activation import *  # noqa: F403
from fastnn.ops.activation import __all__ as _activation
from fastnn.ops.dropout import *  # noqa: F403
from fastnn.ops.dropout import __all__ as _dropout
from fastnn.ops.embedding import *  # noqa: F403
from fastnn.ops.embedding import __all__ as _embedding
from fastnn.ops.linear import *  # noqa: F403
from fastnn.ops.linear import __all__ as _linear
from fastnn.ops.normalization import *  # noqa: F403
from fastnn.ops.normalization import __all__ as _normalization
from fastnn.ops.optim import *  # noqa: F403
from fastnn.ops.optim import __all__ as _optim
from fastnn.ops.recurrent import *  # noqa: F403
from fastnn.ops.recurrent import __all__ as _recurrent

if not TYPE_CHECKING:  # type checkers read literal lists alone, and the imports
    __all__ = [
        *_activation,
        *_dropout,
        *_embedding,
        *_linear,
        *_normalization,
        *_optim,
        *_recurrent,
    ]

    def __dir__():
        return __all__

    def __getattr__(name):
        from fastnn._hints import missing

        raise missing(__name__, name)
