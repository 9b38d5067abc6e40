"""What every kernel computes, in NumPy.

Each function is named after its kernel in ``_kernels/*.inc``. The tests compare the two, and the
benchmarks measure by how much the kernel is faster. Nothing is checked here; results have the dtype
of the arguments.

A batch is ``(rows, cols)``; functions of single elements take any shape. `dy` is the gradient of
the loss with respect to a result, `dx` the one with respect to an argument.
"""

from fastnn.reference import optim
from fastnn.reference.activation import (
    exp_forward,
    gelu_backward,
    gelu_forward,
    gelu_tanh_backward,
    gelu_tanh_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    log_softmax_backward,
    log_softmax_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    silu_backward,
    silu_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from fastnn.reference.dropout import (
    dropout_backward,
    dropout_forward,
    philox,
)
from fastnn.reference.embedding import (
    embedding_backward,
    gather_rows,
)
from fastnn.reference.linear import (
    linear_backward_input,
    linear_backward_weight,
    linear_forward,
    matmul,
)
from fastnn.reference.loss import (
    binary_cross_entropy_with_logits_loss,
    cross_entropy_loss,
    cross_entropy_probabilities_loss,
    huber_loss,
    l1_loss,
    mse_loss,
)
from fastnn.reference.normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_backward_weight,
    layer_norm_forward,
)
from fastnn.reference.optim import (
    adagrad_step,
    adam_step,
    adamw_step,
    lamb_step,
    nag_step,
    rmsprop_step,
    sgd_step,
)
from fastnn.reference.recurrent import (
    lstm_backward,
    lstm_cell,
    lstm_forward,
    lstm_pack,
    lstm_step,
)
from fastnn.reference.rows import (
    add_forward,
    copy_columns,
    square_sum,
)

__all__ = [
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "add_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "binary_cross_entropy_with_logits_loss",
    "copy_columns",
    "cross_entropy_loss",
    "cross_entropy_probabilities_loss",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "exp_forward",
    "gather_rows",
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "huber_loss",
    "l1_loss",
    "lamb_step",
    "layer_norm_backward",
    "layer_norm_backward_weight",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward_input",
    "linear_backward_weight",
    "linear_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "lstm_backward",
    "lstm_cell",
    "lstm_forward",
    "lstm_pack",
    "lstm_step",
    "matmul",
    "mse_loss",
    "nag_step",
    "optim",
    "philox",
    "relu_backward",
    "relu_forward",
    "rmsprop_step",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "square_sum",
    "tanh_backward",
    "tanh_forward",
]


def __dir__() -> list[str]:
    return __all__
