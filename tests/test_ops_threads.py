"""Large calls of the functions on arrays: threads change neither a bit nor the arithmetic."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastnn import ops

from .kernels.activation import ACTIVATIONS, EXP


def forward(activation):
    return lambda draw: (getattr(ops, activation.name)(draw(301, 701), **activation.options),)


def backward(activation):
    function = getattr(ops, f"{activation.name}_backward")
    return lambda draw: (function(draw(301, 701), draw(301, 701), **activation.options),)


def product(m, k, n, transpose_a=False, transpose_b=False):
    """A matrix product with operands that lie by rows or by columns."""

    def call(draw):
        a = draw(k, m).T if transpose_a else draw(m, k)
        b = draw(n, k).T if transpose_b else draw(k, n)
        return (ops.matmul(a, b),)

    return call


def layer_norm(draw):
    x, dy = draw(307, 611), draw(307, 611)
    weight, bias = draw(611), draw(611)
    y, mean, rstd = ops.layer_norm(x, weight, bias)
    return (y, mean, rstd, *ops.layer_norm_backward(dy, x, weight, mean, rstd))


def batch_norm(*shape):
    def call(draw):
        x, dy, weight, bias = draw(*shape), draw(*shape), draw(shape[1]), draw(shape[1])
        y, mean, rstd = ops.batch_norm(x, weight, bias)
        inference = ops.batch_norm_inference(x, mean, np.abs(mean), weight, bias)
        return (y, mean, rstd, inference, *ops.batch_norm_backward(dy, x, weight, mean, rstd))

    return call


def dropout(draw):
    x = draw(200_003)
    y, mask = ops.dropout(x, 0.3, 1)
    return y, mask, ops.dropout_backward(x, mask, 0.3)


def lstm(draw):
    arrays = draw(37, 9, 31), draw(37, 43), draw(37, 43), draw(172, 31), draw(172, 43), draw(172)
    return ops.lstm(*arrays)


# With sizes that leave remainders.
CALLS = {
    **{str(activation): forward(activation) for activation in [EXP, *ACTIVATIONS]},
    **{f"backward of {activation}": backward(activation) for activation in ACTIVATIONS},
    "linear": lambda draw: (ops.linear(draw(257, 97), draw(131, 97), draw(131), "gelu"),),
    "linear of few rows": lambda draw: (ops.linear(draw(5, 801), draw(603, 801)),),
    "linear of many rows": lambda draw: (ops.linear(draw(70_001, 1), draw(31, 1)),),
    "linear_backward": lambda draw: ops.linear_backward(draw(257, 131), draw(257, 97),
                                                        draw(131, 97)),
    "matmul": product(257, 97, 131),
    "matmul of Aᵀ": product(131, 257, 97, transpose_a=True),
    "matmul by Bᵀ": product(257, 97, 131, transpose_b=True),
    "matmul of Aᵀ by Bᵀ": product(33, 601, 129, transpose_a=True, transpose_b=True),
    "matmul of few rows": product(3, 1201, 701),
    "matmul to one column": product(20_001, 101, 1),
    "layer_norm": layer_norm,
    "batch_norm": batch_norm(611, 307),
    "batch_norm of sequences": batch_norm(61, 37, 101),
    "dropout": dropout,
    "lstm": lstm,
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_result_does_not_depend_on_the_number_of_threads(call, dtype, isa, threads):
    results = []
    for count in (1, 2):
        threads(count)
        rng = np.random.default_rng(0)
        results.append(call(lambda *shape, rng=rng: rng.standard_normal(shape).astype(dtype)))
    for one, result in zip(*results, strict=True):
        assert result.tobytes() == one.tobytes()


@pytest.mark.parametrize("count", [1, 2])
def test_denormals_are_kept_on_every_thread(count, isa, threads):
    threads(count)
    tiny = np.full((2000, 200), 1e-40, np.float32)
    np.testing.assert_array_equal(ops.leaky_relu(tiny), tiny)
    np.testing.assert_array_equal(ops.matmul(tiny, np.eye(200, dtype=np.float32)), tiny)


def test_calls_at_once(rng, threads):
    threads(2)
    sizes = [(5, 6, 7), (300, 300, 300), (31, 64, 10), (257, 131, 97)] * 6
    arrays = [(rng.standard_normal((m, k)), rng.standard_normal((n, k))) for m, k, n in sizes]
    alone = [ops.linear(x, weight) for x, weight in arrays]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: ops.linear(*pair), arrays))
    for one, result in zip(alone, together, strict=True):
        np.testing.assert_array_equal(result, one)
