"""Preprocessing: statistics, dtypes, constant columns, accuracy, and bad arguments."""

import numpy as np
import pytest

from fastnn import preprocessing
from fastnn.preprocessing import Statistics

FUNCTIONS = [preprocessing.center, preprocessing.standardize, preprocessing.rescale]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(50, 4)) * [1, 10, 1e-3, 1e4] + [0, 5, 0.01, -1e4]


def test_values():
    y, statistics = preprocessing.center(DATA)
    np.testing.assert_allclose(y, DATA - DATA.mean(axis=0), atol=1e-11)
    np.testing.assert_array_equal(statistics.scale, np.ones(4))
    y, statistics = preprocessing.standardize(DATA)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(y.std(axis=0), 1)
    np.testing.assert_allclose(statistics.shift, DATA.mean(axis=0))
    np.testing.assert_allclose(statistics.scale, DATA.std(axis=0))
    y, statistics = preprocessing.rescale(DATA)
    np.testing.assert_allclose(y.min(axis=0), -1)
    np.testing.assert_allclose(y.max(axis=0), 1)
    assert abs(y).max() <= 1


@every_function
def test_statistics_apply_to_the_same_and_to_new_data(function, dtype):
    x = DATA.astype(dtype)
    before = x.copy()
    y, statistics = function(x)
    np.testing.assert_array_equal(x, before)
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(statistics.apply(x), y)
    np.testing.assert_array_equal(statistics.apply(x[7:9]), y[7:9])
    np.testing.assert_array_equal(statistics.apply(x[7]), y[7])
    back = statistics.invert(y)
    assert back.dtype == dtype
    # Next to zero the result has the accuracy of the largest number that was subtracted.
    largest = abs(x).max(axis=0)
    np.testing.assert_allclose(back / largest, x / largest, atol=4 * np.finfo(dtype).eps)


@every_function
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (0, 2), (1, 2), [0, 1], None])
def test_axes(function, axis):
    x = RNG.normal(size=(5, 3, 4))
    y, statistics = function(x, axis=axis)
    axes = tuple(axis) if isinstance(axis, list) else axis
    kept = {"axis": axes, "keepdims": True}
    shift, scale = {
        "center": (x.mean(**kept), np.ones(1)),
        "standardize": (x.mean(**kept), x.std(**kept)),
        "rescale": ((x.min(**kept) + x.max(**kept)) / 2, (x.max(**kept) - x.min(**kept)) / 2),
    }[function.__name__]
    np.testing.assert_allclose(y, (x - shift) / scale, atol=1e-13)
    np.testing.assert_array_equal(statistics.apply(x), y)


@every_function
@pytest.mark.parametrize("value", [0.0, 0.1, -1e7, 1e-300])
def test_constant_columns_become_zero(function, dtype, value):
    x = np.full((1001, 2), value, dtype)
    x[0, 1] += 1
    y, statistics = function(x)
    assert not y[:, 0].any()
    assert statistics.shift[0] == x[0, 0]
    assert statistics.scale[0] == 1
    np.testing.assert_array_equal(statistics.invert(y)[:, 0], x[:, 0])


@every_function
def test_a_single_row(function):
    y, _ = function([[1.0, 2.0]])
    assert not y.any()


@every_function
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int64", "uint64", "bool", "float16", ">i4", ">f4"]
)
def test_other_dtypes_become_float32(function, dtype):
    x = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype)
    y, statistics = function(x)
    assert y.dtype == np.float32
    assert y.dtype.isnative
    np.testing.assert_array_equal(y, function(x.astype("float32"))[0])
    assert statistics.invert(x).dtype == np.float32


@every_function
def test_lists_become_float64_arrays(function):
    assert function([[0.0, 1.0], [2.0, 3.0]])[0].dtype == np.float64


@every_function
@pytest.mark.parametrize("make", [np.asfortranarray, lambda x: x[::-1], lambda x: x.T.copy().T])
def test_any_memory_order(function, make):
    x = make(DATA)
    x.flags.writeable = False
    y, _ = function(x)
    assert y.flags.c_contiguous
    np.testing.assert_allclose(y, function(np.ascontiguousarray(x))[0], rtol=1e-12)


@every_function
def test_any_array_object(function):
    wanted, _ = function(DATA)
    np.testing.assert_array_equal(function(memoryview(DATA))[0], wanted)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(function(torch.from_numpy(DATA.copy()))[0], wanted)


@every_function
@pytest.mark.parametrize("offset", [0, 1e4, 1e7])
def test_float32_is_right_to_one_ulp(function, offset):
    """Far from zero float32 arithmetic would lose everything; compare with exact longdoubles."""
    x = (RNG.normal(size=(3000, 3)) * 10 + offset).astype("float32")
    exact = x.astype("longdouble")
    shift = exact.mean(axis=0)
    scale = np.ones(3)
    if function is preprocessing.standardize:
        scale = exact.std(axis=0)
    if function is preprocessing.rescale:
        low, high = exact.min(axis=0), exact.max(axis=0)
        shift, scale = (low + high) / 2, (high - low) / 2
    wanted = ((exact - shift) / scale).astype("float32")
    # The double-precision mean is off by at most 1e-16 of the data: seen only next to zero.
    np.testing.assert_allclose(function(x)[0], wanted, rtol=1.2e-7, atol=offset * 1e-14)


@every_function
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_neither_overflows_nor_vanishes(function, size):
    x = np.array([[-1.0], [0.0], [1.0]]) * size
    y, _ = function(x)
    wanted = {"center": x, "standardize": x / size * np.sqrt(1.5), "rescale": x / size}
    np.testing.assert_allclose(y, wanted[function.__name__])


def test_rescale_stays_within_its_range():
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=(3, 20)) ** 3
        assert abs(preprocessing.rescale(x)[0]).max() <= 1


def test_standardize_against_sklearn():
    sklearn = pytest.importorskip("sklearn.preprocessing")
    wanted = sklearn.StandardScaler().fit_transform(DATA)
    np.testing.assert_allclose(preprocessing.standardize(DATA)[0], wanted, rtol=1e-9, atol=1e-12)


def test_statistics_unpack():
    _, (shift, scale) = preprocessing.standardize([[1.0], [3.0]])
    assert shift == [2]
    assert scale == [1]


@every_function
def test_no_columns(function):
    assert function(np.zeros((3, 0)))[0].shape == (3, 0)


@every_function
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((0, 3)), ValueError, "x: expected at least one element along axis 0"),
        ([[1.0], [np.nan]], ValueError, "x: expected finite values"),
        ([[1.0], [np.inf]], ValueError, "x: expected finite values"),
        ([[1j]], TypeError, "x: expected real numbers"),
        ([["1"]], TypeError, "x: expected real numbers"),
        (3.0, ValueError, "axis"),
    ],
)
def test_rejects_bad_data(function, x, error, message):
    with pytest.raises(error, match=message):
        function(x)


@every_function
def test_rejects_bad_axes(function):
    with pytest.raises(ValueError, match="axis"):
        function(DATA, axis=2)
    with pytest.raises(TypeError):
        function(DATA, axis="rows")


@pytest.mark.parametrize("method", [Statistics.apply, Statistics.invert])
def test_rejects_data_of_another_shape(method):
    _, statistics = preprocessing.center(DATA)
    for shape in (50, 3), (1,), ():
        with pytest.raises(ValueError, match="x: expected shape"):
            method(statistics, np.zeros(shape))
    with pytest.raises(TypeError, match="x: expected real numbers"):
        method(statistics, [["a"] * 4])
