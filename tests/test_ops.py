"""The checked functions on arrays: values, gradients, arguments and errors."""

import copy
import sys
import tracemalloc
from dataclasses import replace
from functools import partial
from inspect import cleandoc

import numpy as np
import pytest

from fastnn import ops, optim, reference

from .conftest import differences
from .kernels.activation import ACTIVATIONS, EXP

# With the options of the table, and with those that the functions and their twins have by default.
WITH_GRADIENT = [*ACTIVATIONS, *(replace(a, options={}) for a in ACTIVATIONS if a.scalars)]
NAMES = dict.fromkeys(activation.name for activation in ACTIVATIONS)
unary = pytest.mark.parametrize("activation", [EXP, *WITH_GRADIENT], ids=str)
backward = pytest.mark.parametrize("activation", WITH_GRADIENT, ids=str)


def functions(activation):
    """The pair of functions of this module, with their options."""
    names = activation.name, f"{activation.name}_backward"
    return [partial(getattr(ops, name), **activation.options) for name in names]


# Values ----------------------------------------------------------------------------------------


@unary
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 0), (0, 3), (4, 7), (2, 3, 19)])
def test_unary(activation, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    function = partial(getattr(ops, activation.name), **activation.options)
    if activation.by_row and shape == ():
        with pytest.raises(ValueError, match="x: expected at least one axis"):
            function(x)
        return
    y = function(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    with np.errstate(divide="ignore"):  # the logarithm of the sum of no columns
        want = activation.twin()(x)
    np.testing.assert_allclose(y, want, rtol=1e-5 if dtype == np.float32 else 1e-13)


@backward
@pytest.mark.parametrize("shape", [(0,), (5,), (0, 3), (3, 0), (2, 3, 19)])
def test_backward(activation, shape, dtype, rng):
    dy, saved = rng.standard_normal((2, *shape)).astype(dtype)
    dx = functions(activation)[1](dy, saved)
    assert (dx.shape, dx.dtype) == (dy.shape, dy.dtype)
    want = activation.twin("backward")(dy, saved)
    np.testing.assert_allclose(dx, want, rtol=1e-4, atol=1e-5 if dtype == np.float32 else 1e-13)


@backward
def test_gradient(activation, rng):
    function, gradient = functions(activation)
    x, dy = rng.standard_normal((2, 3, 5))
    dx = gradient(dy, x if activation.saves_input else function(x))
    want = differences(lambda: np.vdot(dy, function(x)), x)
    np.testing.assert_allclose(dx, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", [None, *(a.kernel for a in ACTIVATIONS)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (0, 5), (2, 3, 5)])
def test_linear(activation, has_bias, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((3, 5)).astype(dtype), rng.standard_normal(3).astype(dtype)
    bias = bias if has_bias else None
    y = ops.linear(x, weight, bias, activation)
    want = reference.linear_forward(x, weight, bias)
    if activation:
        want = getattr(reference, f"{activation}_forward")(want)
    assert (y.shape, y.dtype) == (want.shape, dtype)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (0, 5), (2, 3, 5)])
def test_linear_gradient(shape, rng):
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal((3, 5)), np.zeros(3)
    dy = rng.standard_normal((*shape[:-1], 3))
    gradients = ops.linear_backward(dy, x, weight)
    for gradient, variable in zip(gradients, (x, weight, bias), strict=True):
        want = differences(lambda: np.vdot(dy, ops.linear(x, weight, bias)), variable)
        np.testing.assert_allclose(gradient, want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_linear_without_inputs_or_outputs(shape):
    outs, ins = shape
    x, dy = np.ones((4, ins)), np.ones((4, outs))
    np.testing.assert_array_equal(ops.linear(x, np.ones(shape), np.ones(outs)), np.ones((4, outs)))
    dx, dweight, dbias = ops.linear_backward(dy, x, np.ones(shape))
    np.testing.assert_array_equal(dx, np.zeros((4, ins)))
    assert dweight.shape == shape
    np.testing.assert_array_equal(dbias, np.full(outs, 4.0))


def layouts(matrix):
    """Yield the same matrix with many strides."""
    rows, columns = matrix.shape
    big = np.zeros((3 * rows, 3 * columns), matrix.dtype)
    yield matrix
    for view in (
        big[1 : rows + 1, 1 : columns + 1],  # part of a larger one
        big[: 2 * rows : 2, :columns],  # every other row
        big[:rows, : 2 * columns : 2],  # every other column
        big[rows - 1 :: -1, :columns],  # upside down
        big.ravel()[: rows * columns].reshape(columns, rows).T,
        big.ravel()[: 2 * rows * columns].reshape(columns, 2 * rows)[:, :rows].T,
        np.zeros(matrix.nbytes + 1, np.uint8)[1:].view(matrix.dtype).reshape(rows, columns),
    ):
        view[...] = matrix
        yield view
        view[...] = 0


def test_matmul_takes_any_strides(dtype, rng):
    a, b = rng.standard_normal((4, 7)).astype(dtype), rng.standard_normal((7, 3)).astype(dtype)
    for left in layouts(a):
        for right in layouts(b):
            result = ops.matmul(left, right)
            assert result.dtype == dtype
            np.testing.assert_allclose(result, a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("a", "b"),
    [((7,), (7, 3)), ((2, 4, 7), (7, 3)), ((0, 7), (7, 3)), ((4, 0), (0, 3)), ((4, 7), (7, 0)),
     ((1, 7), (7, 1)), ((4, 1), (1, 3)), ((2, 0, 7), (7, 3))],
)  # fmt: skip
def test_matmul_shapes(a, b, dtype, rng):
    a, b = rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype)
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            result = ops.matmul(left, right)
            assert result.shape == (a @ b).shape
            np.testing.assert_allclose(result, a @ b, rtol=1e-4, atol=1e-5)


def test_dropout(dtype):
    x = np.linspace(1, 2, 10_000, dtype=dtype).reshape(100, 100)
    y, mask = ops.dropout(x, 0.3, 5)
    assert (y.dtype, mask.dtype, mask.shape) == (dtype, bool, x.shape)
    assert abs(mask.mean() - 0.7) < 0.03
    np.testing.assert_allclose(y, x * mask / 0.7, rtol=1e-6)
    dx = ops.dropout_backward(x, mask, 0.3)
    np.testing.assert_array_equal(dx, y)
    again, same = ops.dropout(x, 0.3, 5)
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(same, mask)
    np.testing.assert_array_equal(ops.dropout(x, 0.0, 5)[0], x)
    np.testing.assert_array_equal(ops.dropout(x, 1.0, 5)[0], 0)
    generator = np.random.default_rng(5)
    np.testing.assert_array_equal(ops.dropout(x, 0.3, generator)[1], mask)
    assert (ops.dropout(x, 0.3, generator)[1] != mask).any()
    assert (ops.dropout(x, 0.3)[1] != ops.dropout(x, 0.3)[1]).any()


# Arguments -------------------------------------------------------------------------------------

# A call of every function with arrays x, y (4, 6), w (6, 6) and b (6,), for the tests below.
CALLS = {
    **{name: (lambda a, name=name, **k: getattr(ops, name)(a["x"], **k)) for name in NAMES},
    "exp": lambda a, **k: ops.exp(a["x"], **k),
    **{
        f"{name}_backward": (
            lambda a, name=name, **k: getattr(ops, f"{name}_backward")(a["x"], a["y"], **k)
        )
        for name in NAMES
    },
    "linear": lambda a, **k: ops.linear(a["x"], a["w"], a["b"], **k),
    "matmul": lambda a, **k: ops.matmul(a["x"], a["w"], **k),
    "dropout_backward": lambda a, **k: ops.dropout_backward(a["x"], np.eye(4, 6) > 0, **k),
}
OVERLAP_FREE = ["linear", "matmul"]
TUPLES = {
    "linear_backward": lambda a: ops.linear_backward(a["x"], a["y"], a["w"]),
    "dropout": lambda a: ops.dropout(a["x"], 0.5, 1),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
every_function = pytest.mark.parametrize(
    "call", [*CALLS.values(), *TUPLES.values()], ids=[*CALLS, *TUPLES]
)


@pytest.fixture
def arrays(rng, dtype):
    """Arguments for CALLS."""
    shapes = {"x": (4, 6), "y": (4, 6), "w": (6, 6), "b": (6,)}
    return {name: rng.uniform(0.1, 0.9, shape).astype(dtype) for name, shape in shapes.items()}


def flat(result):
    return result if isinstance(result, tuple) else (result,)


@every_function
def test_inputs_are_left_alone_and_may_be_read_only(call, arrays):
    before = copy.deepcopy(arrays)
    for array in arrays.values():
        array.setflags(write=False)
    for result in flat(call(arrays)):
        assert not any(np.may_share_memory(result, array) for array in arrays.values())
    for name, array in arrays.items():
        assert array.tobytes() == before[name].tobytes()


@every_function
def test_conversion(call, arrays, dtype):
    want = flat(call(arrays))

    def strided(a):
        wide = np.zeros((*a.shape, 2), a.dtype)
        wide[..., 0] = a
        return wide[..., 0]

    def unaligned(a):
        moved = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        moved[...] = a
        return moved

    class Sub(np.ndarray):
        pass

    ways = [np.asfortranarray, strided, unaligned, lambda a: a.astype(a.dtype.newbyteorder()),
            lambda a: a.view(Sub), memoryview]  # fmt: skip
    for way in ways:
        results = flat(call({name: way(array) for name, array in arrays.items()}))
        for result, wanted in zip(results, want, strict=True):
            assert type(result) is np.ndarray
            assert result.dtype == wanted.dtype
            np.testing.assert_allclose(result, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("float32", "float32"), ("float64", "float64"), ("float16", "float32"), ("int64", "float32"),
     ("uint8", "float32"), ("bool", "float32"), ("longdouble", "float64")],
)  # fmt: skip
def test_dtypes(given, wanted):
    x = np.array([0, 1, 1], given)
    assert ops.relu(x).dtype == wanted
    assert ops.relu_backward(np.ones(3, np.float32), x).dtype == wanted
    weight = np.ones((2, 3), np.float32)
    assert ops.linear(x, weight).dtype == wanted
    assert ops.matmul(x, weight.T).dtype == wanted
    np.testing.assert_array_equal(ops.linear(x, weight), [2, 2])


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize > 8, reason="a long double is longer here")
def test_long_doubles_that_are_doubles():
    """On Windows and on macOS with arm64 they are float64 by another type number."""
    x = np.array([-1, 2], np.longdouble)
    out = np.zeros_like(x)
    ops.relu(x, out=out)
    assert out.tolist() == [0, 2]
    optim.SGD([x], lr=0.5).step([np.array([2, 2], np.longdouble)])
    assert x.tolist() == [-2, 1]
    assert ops.relu([np.longdouble(3)]).tolist() == [3]


def test_sequences():
    assert ops.relu([-1, 2]).dtype == np.float32
    assert ops.relu([-1.0, 2.0]).dtype == np.float64
    assert ops.relu(3.0) == 3
    np.testing.assert_array_equal(ops.matmul([[1, 2]], [[1], [1]]), [[3]])


@every_call
def test_out(call, arrays):
    want = call(arrays)
    out = np.full_like(want, np.nan)
    assert call(arrays, out=out) is out
    np.testing.assert_array_equal(out, want)


@every_call
def test_out_is_never_converted(call, arrays, dtype):
    shape = call(arrays).shape
    other = np.float64 if dtype == np.float32 else np.float32
    read_only = np.zeros(shape, dtype)
    read_only.setflags(write=False)
    for out, error, message in [
        (np.zeros(shape, other), TypeError, "out: expected dtype"),
        (np.zeros(shape, np.int32), TypeError, "out: expected dtype"),
        ([[0.0]], TypeError, "out: expected an array"),
        (np.zeros((5, 6), dtype), ValueError, "out: expected shape"),
        (np.zeros((1, *shape), dtype), ValueError, "out: expected shape"),
        (np.zeros(shape, dtype, "F"), ValueError, "out: expected a C-contiguous"),
        (np.zeros(shape, dtype.newbyteorder()), ValueError, "out: expected native"),
        (np.zeros(4 * 6 * 8 + 1, np.uint8)[1:][: 24 * dtype.itemsize].view(dtype).reshape(shape),
         ValueError, "out: expected memory aligned"),
        (read_only, ValueError, "out: expected a writable"),
    ]:  # fmt: skip
        before = copy.deepcopy(out)
        with pytest.raises(error, match=message):
            call(arrays, out=out)
        np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("name", CALLS)
def test_out_in_place(name, arrays):
    call = CALLS[name]
    want = call(arrays)
    given = [key for key in ("x", "y") if key == "x" or name.endswith("_backward")]
    if name == "dropout_backward":
        given = ["x"]
    for key in given:
        copies = {k: a.copy() for k, a in arrays.items()}
        for out in (copies[key], copies[key][:]):
            copies = {**copies, key: out}
            if name in OVERLAP_FREE:
                with pytest.raises(ValueError, match="out: expected its own memory"):
                    call(copies, out=out)
                continue
            np.copyto(out, arrays[key])
            np.testing.assert_array_equal(call(copies, out=out), want)


@every_call
def test_out_may_not_overlap_in_part(call, arrays):
    memory = np.zeros(4 * 6 + 1, arrays["x"].dtype)
    x, out = memory[:-1].reshape(4, 6), memory[1:].reshape(4, 6)
    x[...] = arrays["x"]
    before = memory.copy()
    with pytest.raises(ValueError, match="out: expected its own memory"):
        call({**arrays, "x": x}, out=out)
    np.testing.assert_array_equal(memory, before)


@every_call
def test_out_may_be_next_to_an_argument(call, arrays):
    memory = np.zeros(2 * 4 * 6, arrays["x"].dtype)
    halves = memory.reshape(2, 4, 6)
    for x, out in (halves, halves[::-1]):
        x[...] = arrays["x"]
        assert call({**arrays, "x": x}, out=out) is out
        np.testing.assert_array_equal(out, call(arrays))


def test_out_may_not_be_in_the_gaps_of_an_operand(dtype):
    memory = np.zeros((6, 12), dtype)
    gaps = memory.ravel()[6:42].reshape(6, 6)
    with pytest.raises(ValueError, match="out: expected its own memory"):
        ops.matmul(np.ones((6, 6), dtype), memory[:, ::2], out=gaps)
    assert not memory.any()


@every_function
def test_nothing_leaks(call, arrays):
    call(arrays)
    references = {name: sys.getrefcount(array) for name, array in arrays.items()}
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            call(arrays)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000 * 24  # the smallest array is 24 bytes
    assert {name: sys.getrefcount(array) for name, array in arrays.items()} == references


# Errors ----------------------------------------------------------------------------------------

X, W = np.zeros((4, 6), np.float32), np.zeros((3, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.relu("abc"), TypeError, "x: expected real numbers, got str"),
        (lambda: ops.relu(X + 1j), TypeError, r"x: expected real numbers, got .*complex64"),
        (lambda: ops.relu(None), TypeError, "x: expected real numbers, got NoneType"),
        (lambda: ops.relu([[1.0], [2.0, 3.0]]), TypeError, "x: expected an array, got list"),
        (lambda: ops.relu_backward(X, None), TypeError, "saved: expected"),
        (lambda: ops.relu_backward(X, X[:2]), ValueError, r"dy: expected shape \(2, 6\).*\(4, 6\)"),
        (lambda: ops.softmax_backward(X, X.T), ValueError, r"dy: expected shape \(6, 4\)"),
        (lambda: ops.softmax_backward(1.0, 1.0), ValueError, "dy: expected at least one axis"),
        (lambda: ops.gelu(X, "erf"), ValueError, "approximate: expected 'none' or 'tanh', got"),
        (lambda: ops.gelu_backward(X, X, None), ValueError, "approximate: expected"),
        (lambda: ops.linear(X, W[0]), ValueError, r"weight: expected two axes \(out, in\), got"),
        (lambda: ops.linear(X, W.T), ValueError, r"x: expected 3 elements on the last axis, got"),
        (lambda: ops.linear(1.0, W), ValueError, "x: expected 6 elements"),
        (lambda: ops.linear(X, W, np.zeros(4)), ValueError, r"bias: expected shape \(3,\), got"),
        (lambda: ops.linear(X, W, "b"), TypeError, "bias: expected real numbers"),
        (lambda: ops.linear(X, W, activation="cube"), ValueError, "activation: expected one of"),
        (lambda: ops.linear_backward(X, X, W), ValueError, r"dy: expected shape \(4, 3\), got"),
        (lambda: ops.linear_backward(X[:, :3], X, W.T), ValueError, "x: expected 3 elements"),
        (lambda: ops.matmul(X, X), ValueError, "a: expected 4 elements on the last axis"),
        (lambda: ops.matmul(X, X[0]), ValueError, r"b: expected two axes \(k, n\), got"),
        (lambda: ops.matmul(1.0, X), ValueError, "a: expected 4 elements"),
        (lambda: ops.matmul(X, None), TypeError, "b: expected real numbers"),
        (lambda: ops.matmul(None, X), TypeError, "a: expected real numbers, got NoneType"),
        (lambda: ops.linear(None, W), TypeError, "x: expected real numbers, got NoneType"),
        (lambda: ops.layer_norm(None), TypeError, "x: expected real numbers, got NoneType"),
        (lambda: ops.batch_norm_backward(X, X, None, None, X[0]), TypeError, "mean: expected real"),
        (lambda: ops.dropout(X, 1.5), ValueError, r"p: expected a number in \[0, 1\]"),
        (lambda: ops.dropout(X, True), TypeError, "p: expected a number, got bool"),
        (lambda: ops.dropout(X, 0.5, "seed"), TypeError, "rng: expected an int"),
        (lambda: ops.dropout(X, 0.5, -1), ValueError, "rng: expected an int >= 0"),
        (lambda: ops.dropout_backward(X, X[0] > 0), ValueError, r"mask: expected shape \(4, 6\)"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a.scalars], ids=str)
def test_options_of_activations(activation):
    """No number of an activation may be negative."""
    bad = (-0.1, ValueError, "got -0.1"), (np.nan, ValueError, "got nan"), ("1", TypeError, "str")
    for option in activation.options:
        for value, error, message in bad:
            for function, arrays in zip(functions(activation), ([X], [X, X]), strict=True):
                with pytest.raises(error, match=f"^{option}: expected a .*{message}"):
                    function(*arrays, **{option: value})


def test_every_public_function_is_described():
    for name in ops.__all__:
        doc = getattr(ops, name).__doc__
        sections = ["Raises"] if name.endswith("_step") else ["Parameters", "Returns", "Raises"]
        assert all(f"\n{section}\n---" in cleandoc(doc) for section in sections), name


# Other libraries -------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@backward
def test_torch_agrees(activation, torch, rng, dtype):
    x, dy = rng.standard_normal((2, 4, 33)).astype(dtype)
    leaf = torch.tensor(x, requires_grad=True)
    options = activation.options | ({"dim": -1} if activation.by_row else {})
    want = getattr(torch.nn.functional, activation.name)(leaf, **options)
    want.backward(torch.tensor(dy))
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
    function, gradient = functions(activation)
    y = function(x)
    np.testing.assert_allclose(y, want.detach().numpy(), **close)
    dx = gradient(dy, x if activation.saves_input else y)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), **close)


def test_torch_tensors_are_arrays(torch):
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    assert ops.relu(x).tolist() == [0, 2]
    out = torch.zeros(2)
    ops.relu(x, out=out)
    assert out.tolist() == [0, 2]
    ops.relu(out, out=out)
    assert out.tolist() == [0, 2]
