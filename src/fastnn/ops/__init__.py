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

from fastnn.ops.activation import (
    exp,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastnn.ops.dropout import (
    dropout,
    dropout_backward,
)
from fastnn.ops.embedding import (
    embedding,
    embedding_backward,
)
from fastnn.ops.linear import (
    linear,
    linear_backward,
    matmul,
)
from fastnn.ops.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    layer_norm,
    layer_norm_backward,
)
from fastnn.ops.optim import (
    adagrad_step,
    adam_step,
    adamw_step,
    clip_grad_norm,
    lamb_step,
    nag_step,
    rmsprop_step,
    sgd_step,
)
from fastnn.ops.recurrent import (
    lstm,
    lstm_step,
)

__all__ = [
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "clip_grad_norm",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "exp",
    "gelu",
    "gelu_backward",
    "lamb_step",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "lstm",
    "lstm_step",
    "matmul",
    "nag_step",
    "relu",
    "relu_backward",
    "rmsprop_step",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]


def __dir__() -> list[str]:
    return __all__
