"""What every kernel computes, in NumPy.

Each function is named after its kernel in ``_kernels/*.inc``. The tests compare the two, and the
benchmarks measure by how much the kernel is faster. Nothing is checked here; results have the dtype
of the arguments.

A batch is ``(rows, cols)``; functions of single elements take any shape. `dy` is the gradient of
the loss with respect to a result, `dx` the one with respect to an argument.
"""

from math import erfc, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.reference_optim import (  # noqa: F401
    adagrad_step,
    adam_step,
    adamw_step,
    lamb_step,
    nag_step,
    rmsprop_step,
    sgd_step,
)
from fastnn.reference_sequence import (  # noqa: F401
    embedding_backward,
    lstm_backward,
    lstm_cell,
    lstm_forward,
    lstm_pack,
    lstm_step,
)

Array = NDArray[Any]

# Matrix products -------------------------------------------------------------------------------


def matmul(a: Array, b: Array) -> Array:
    """A B, for a (m, k) and b (k, n)."""
    return a @ b


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """X Wᵀ + b, for x (rows, in), weight (out, in) and bias (out,)."""
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_backward_input(dy: Array, weight: Array) -> Array:
    """dx = dy W, (rows, in)."""
    return dy @ weight


def linear_backward_weight(dy: Array, x: Array) -> tuple[Array, Array]:
    """dW = dyᵀ x, (out, in), and db = Σ dy over the rows, (out,)."""
    return dy.T @ x, dy.sum(axis=0)


# Element by element ----------------------------------------------------------------------------


def exp_forward(x: Array) -> Array:
    """e^x."""
    return np.exp(x)


def add_forward(a: Array, b: Array) -> Array:
    """a + b."""
    return a + b


def relu_forward(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    return np.where(y > 0, dy, 0)


def leaky_relu_forward(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope x."""
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(dy: Array, y: Array, negative_slope: float = 0.01) -> Array:
    """dy where y > 0, else negative_slope dy."""
    return np.where(y > 0, dy, negative_slope * dy)


def sigmoid_forward(x: Array) -> Array:
    """1 / (1 + e^-x), written so that no exponential overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dy y (1 - y)."""
    return dy * y * (1 - y)


def tanh_forward(x: Array) -> Array:
    """tanh x."""
    return np.tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dy (1 - y²)."""
    return dy * (1 - y * y)


def gelu_forward(x: Array) -> Array:
    """x Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016)."""
    return x * _normal_distribution(x)


def gelu_backward(dy: Array, x: Array) -> Array:
    """dy (Φ(x) + x φ(x)), φ the normal density."""
    density = np.exp(-0.5 * x * x) / sqrt(2 * pi)
    return dy * (_normal_distribution(x) + x * density)


def _normal_distribution(x: Array) -> Array:
    """Φ(x) = erfc(-x / √2) / 2; NumPy has no error function, so it is Python's."""
    return (0.5 * _erfc(x * -sqrt(0.5))).astype(x.dtype)


_erfc = np.vectorize(erfc, otypes=[float])


def gelu_tanh_forward(x: Array) -> Array:
    """x (1 + tanh v) / 2 = x sigmoid(2 v), v = √(2/π) (x + 0.044715 x³)."""
    v = sqrt(2 / pi) * (x + 0.044715 * x**3)
    return x * sigmoid_forward(2 * v)


def gelu_tanh_backward(dy: Array, x: Array) -> Array:
    """dy (s + x s (1 - s) 2 v'), s = sigmoid(2 v)."""
    v = sqrt(2 / pi) * (x + 0.044715 * x**3)
    slope = sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2)
    s = sigmoid_forward(2 * v)
    return dy * (s + x * s * sigmoid_forward(-2 * v) * 2 * slope)


def silu_forward(x: Array) -> Array:
    """x sigmoid(x) (Elfwing, Uchibe and Doya 2017)."""
    return x * sigmoid_forward(x)


def silu_backward(dy: Array, x: Array) -> Array:
    """dy s (1 + x (1 - s)), s = sigmoid(x)."""
    return dy * sigmoid_forward(x) * (1 + x * sigmoid_forward(-x))


# Row by row and over all elements --------------------------------------------------------------


def softmax_forward(x: Array) -> Array:
    """e^x / Σ e^x over each row, shifted by the row's largest so that nothing overflows."""
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy: Array, y: Array) -> Array:
    """y (dy - Σ dy y)."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax_forward(x: Array) -> Array:
    """x - log Σ e^x over each row."""
    z = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dy - e^y Σ dy."""
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def square_sum(x: Array) -> tuple[float, float]:
    """Σ x² in double precision; and 0, or NaN if an element is not finite."""
    return float(np.square(x, dtype=np.float64).sum()), float((x - x).sum())


# Normalization ---------------------------------------------------------------------------------
#
# A kernel saves each mean as the sum of two numbers, mean + tail. Batches of `batch_norm` are
# (rows, channels, length), and each channel has its own statistics.


def layer_norm_forward(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """y = (x - mean) rstd weight + bias, rstd = 1 / √(var + eps), over each row (Ba et al. 2016).

    Returns y, and mean, tail and rstd (rows,).
    """
    mean = x.mean(axis=1)
    rstd = 1 / np.sqrt(x.var(axis=1) + eps)
    y = (x - mean[:, None]) * rstd[:, None]
    return _affine(y, weight, bias), mean, np.zeros_like(mean), rstd


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, tail: Array, rstd: Array
) -> Array:
    """dx = rstd (g - mean(g) - h mean(g h)), g = dy weight, h = (x - mean) rstd."""
    g = _affine(dy, weight, None)
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    return rstd[:, None] * (
        g - g.mean(axis=1, keepdims=True) - h * (g * h).mean(axis=1, keepdims=True)
    )


def layer_norm_backward_weight(
    dy: Array, x: Array, mean: Array, tail: Array, rstd: Array
) -> tuple[Array, Array]:
    """dweight = Σ dy h and dbias = Σ dy over the rows, h = (x - mean) rstd."""
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    return (dy * h).sum(axis=0), dy.sum(axis=0)


def batch_norm_forward(
    running_mean: Array,
    running_var: Array,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The same over rows and length of each channel (Ioffe and Szegedy 2015).

    Returns y, mean, tail and rstd, and running = (1 - momentum) running + momentum (mean, var)
    with the unbiased variance.
    """
    mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
    rstd = 1 / np.sqrt(var + eps)
    count = x.shape[0] * x.shape[2]
    y = (x - mean[:, None]) * rstd[:, None]
    return (
        _affine(y, _column(weight), _column(bias)),
        mean,
        np.zeros_like(mean),
        rstd,
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * var * count / (count - 1),
    )


def batch_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, tail: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """dx = weight rstd (dy - mean(dy) - h mean(dy h)); and dweight = Σ dy h, dbias = Σ dy."""
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    dweight, dbias = (dy * h).sum(axis=(0, 2)), dy.sum(axis=(0, 2))
    count = x.shape[0] * x.shape[2]
    dx = rstd[:, None] * (dy - dbias[:, None] / count - h * dweight[:, None] / count)
    return _affine(dx, _column(weight), None), dweight, dbias


def batch_norm_inference(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """(x - running_mean) / √(running_var + eps) weight + bias."""
    y = (x - running_mean[:, None]) / np.sqrt(running_var[:, None] + eps)
    return _affine(y, _column(weight), _column(bias))


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _column(x: Array | None) -> Array | None:
    return None if x is None else x[:, None]


# Losses ----------------------------------------------------------------------------------------
#
# Each returns row_loss (rows,) = w Σ ℓ, whose sum over the rows times `scale` is the loss, and
# dpred (rows, cols) = scale w dℓ/dpred. row_weight (rows,) holds the w.


def mse_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = (pred - target)²."""
    error = pred - target
    return _weigh(error * error, 2 * error, row_weight, scale)


def l1_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = |pred - target|."""
    error = pred - target
    return _weigh(np.abs(error), np.sign(error), row_weight, scale)


def huber_loss(
    pred: Array,
    target: Array,
    row_weight: Array | None = None,
    scale: float = 1.0,
    delta: float = 1.0,
) -> tuple[Array, Array]:
    """ℓ = error² / 2 up to |error| = delta, then a straight line: delta (|error| - delta / 2)."""
    error = pred - target
    clipped = np.clip(error, -delta, delta)
    return _weigh(clipped * (error - 0.5 * clipped), clipped, row_weight, scale)


def binary_cross_entropy_with_logits_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = -t log sigmoid(pred) - (1 - t) log(1 - sigmoid(pred)), written without overflow."""
    loss = np.maximum(pred, 0) - pred * target + np.log1p(np.exp(-np.abs(pred)))
    return _weigh(loss, sigmoid_forward(pred) - target, row_weight, scale)


def cross_entropy_loss(
    pred: Array,
    target: NDArray[np.int64],
    row_weight: Array | None = None,
    class_weight: Array | None = None,
    scale: float = 1.0,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> tuple[Array, Array]:
    """The next function for labels (rows,); those equal to ignore_index count nothing."""
    hits = (target[:, None] == np.arange(pred.shape[1])).astype(pred.dtype)
    row_loss, dpred = cross_entropy_probabilities_loss(
        pred, hits, row_weight, class_weight, scale, label_smoothing
    )
    if ignore_index is not None:
        row_loss[target == ignore_index] = 0
        dpred[target == ignore_index] = 0
    return row_loss, dpred


def cross_entropy_probabilities_loss(
    pred: Array,
    target: Array,
    row_weight: Array | None = None,
    class_weight: Array | None = None,
    scale: float = 1.0,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """ℓ = -Σ c log softmax(pred), c = class_weight ((1 - smoothing) target + smoothing / cols)."""
    c = (1 - label_smoothing) * target + label_smoothing / max(pred.shape[1], 1)
    if class_weight is not None:
        c = class_weight * c
    y = log_softmax_forward(pred)
    loss = np.where(c == 0, 0, -c * y)  # a class may have the logit -inf if nothing asks for it
    return _weigh(loss, np.exp(y) * c.sum(axis=1, keepdims=True) - c, row_weight, scale)


def _weigh(
    loss: Array, gradient: Array, row_weight: Array | None, scale: float
) -> tuple[Array, Array]:
    row_loss = loss.sum(axis=1)
    if row_weight is None:
        return row_loss, scale * gradient
    return row_weight * row_loss, scale * row_weight[:, None] * gradient


# Dropout and rows ------------------------------------------------------------------------------


def philox(key: int, step: int, blocks: int) -> NDArray[np.uint64]:
    """The 32-bit words (4 blocks,) of Philox4x32-10 (Salmon et al. 2011).

    Block i is ten rounds of mixing the counter (i, step) with the key, 64 bits each, low word
    first, so that any word can be had without those before it.
    """
    mask = np.uint64(0xFFFFFFFF)
    counter: tuple[Array, ...] = (
        np.arange(blocks, dtype=np.uint64),
        np.zeros(blocks, np.uint64),
        np.full(blocks, step & 0xFFFFFFFF, np.uint64),
        np.full(blocks, step >> 32, np.uint64),
    )
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & mask, p0 >> 32 ^ c3 ^ k1, p0 & mask
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).ravel()


def dropout_forward(
    x: Array, p: float, key: int, step: int
) -> tuple[Array, NDArray[np.uint8]]:
    """x / (1 - p) where the element's word is at least p 2³², else 0; and the mask of the former.

    Srivastava et al. 2014, with the scale in training rather than in prediction.
    """
    words = philox(key, step, (x.size + 3) // 4)[: x.size].reshape(x.shape)
    mask = (words >= int(p * 2**32)).astype(np.uint8)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy: Array, mask: NDArray[np.uint8], p: float) -> Array:
    """dy / (1 - p) where the mask is 1, else 0."""
    return np.where(mask, dy * (1 / (1 - p) if p < 1 else 0), 0)


def gather_rows(x: Array, index: NDArray[np.int64]) -> Array:
    """x[index]."""
    return x[index]


def copy_columns(y: Array, x: Array, cols: int, y_start: int = 0, x_start: int = 0) -> Array:
    """y with its columns from y_start on replaced by `cols` columns of x from x_start on."""
    result = y.copy()
    result[:, y_start : y_start + cols] = x[:, x_start : x_start + cols]
    return result
