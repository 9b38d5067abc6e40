"""`ops.clip_grad_norm`: the norm over the whole range of numbers, and what is refused."""

import math
import warnings

import numpy as np
import pytest

from fastnn import ops


def test_scales_all_arrays_together_and_only_above_the_limit():
    grads = [np.array([3.0]), np.array([[4.0]], np.float32), np.zeros((0, 2))]
    for limit in (10, 5, math.inf):
        assert ops.clip_grad_norm(grads, limit) == 5
        assert grads[0] == 3
        assert grads[1] == 4
    assert ops.clip_grad_norm(iter(grads), np.float32(2.5)) == 5
    assert grads[0] == 1.5
    assert grads[1] == 2
    assert ops.clip_grad_norm([], 1.0) == 0
    assert ops.clip_grad_norm([np.zeros(3)], 1.0) == 0


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [("float32", v) for v in (1e-44, 1e-30, 1.0, 1e30, 3e38)]
    + [("float64", v) for v in (1e-322, 1e-200, 1e-145, 1.0, 1e145, 1e200, 4e307)],
)
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e30])
def test_norm_over_the_whole_range_of_numbers(dtype, largest, max_norm, isa, rng):
    """Neither squares out of range nor a factor that is a denormal cost digits."""
    grads = [(largest * rng.uniform(-1, 1, size)).astype(dtype) for size in (3, 33)]
    given = np.concatenate(grads).astype(np.float64)
    exact = math.hypot(*given)
    with np.errstate(all="raise"):
        norm = ops.clip_grad_norm(grads, max_norm)
    assert isinstance(norm, float)
    assert norm == pytest.approx(exact, rel=1e-14, abs=1e-323)
    expected = given / exact * max_norm if exact > max_norm else given
    got = np.concatenate(grads).astype(np.float64)
    limits = np.finfo(dtype)
    assert np.all(np.abs(got - expected) <= 4 * limits.eps * np.abs(expected) + limits.tiny)


@pytest.mark.parametrize(
    ("bad", "norm", "scaled"),
    [
        ([1.0, math.nan], math.nan, [math.nan, math.nan, math.nan]),
        ([math.nan, math.inf], math.nan, [math.nan, math.nan, math.nan]),
        ([1.0, math.inf], math.inf, [0, math.nan, 0]),
        ([-math.inf, math.inf], math.inf, [math.nan, math.nan, 0]),
    ],
)
def test_norm_that_is_not_finite(bad, norm, scaled, dtype):
    """By default scaled as PyTorch does, without a warning; or refused."""
    grads = [np.array(bad, dtype), np.ones(1, dtype)]
    before = [g.tobytes() for g in grads]
    with pytest.raises(RuntimeError, match="error_if_nonfinite"):
        ops.clip_grad_norm(grads, 1.0, error_if_nonfinite=True)
    assert [g.tobytes() for g in grads] == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ops.clip_grad_norm(grads, 1.0)
    assert np.array_equal(found, norm, equal_nan=True)
    assert np.array_equal(np.concatenate(grads), scaled, equal_nan=True)


def test_same_as_pytorch(dtype):
    torch = pytest.importorskip("torch")
    for values in ([3.0, -4.0], [0.1, 0.2], [1.0, math.inf], [math.nan, 1.0]):
        ours = np.array(values, dtype)
        theirs = torch.nn.Parameter(torch.zeros(2, dtype=getattr(torch, str(dtype))))
        theirs.grad = torch.tensor(ours)
        expected = torch.nn.utils.clip_grad_norm_([theirs], 1.0).item()
        found = ops.clip_grad_norm([ours], 1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-6)


def frozen(array):
    array.flags.writeable = False
    return array


X = np.arange(1.0, 7.0)


@pytest.mark.parametrize(
    ("grads", "change", "error", "match"),
    [
        ([X], {"max_norm": 0}, ValueError, "^max_norm: .*> 0, got 0"),
        ([X], {"max_norm": -1.0}, ValueError, "^max_norm: "),
        ([X], {"max_norm": math.nan}, ValueError, "^max_norm: .*nan"),
        ([X], {"max_norm": "1"}, TypeError, "^max_norm: .*'1'"),
        ([X], {"max_norm": None}, TypeError, "^max_norm: "),
        ([X], {"max_norm": True}, TypeError, "^max_norm: "),
        ([X], {"error_if_nonfinite": 1}, TypeError, "^error_if_nonfinite: "),
        (X, {}, TypeError, "^grads: expected a list of arrays, got an array"),
        ({"weight": X}, {}, TypeError, "^grads: expected a list of arrays, got dict"),
        (None, {}, TypeError, "^grads: expected a list of arrays, got NoneType"),
        ([X, X], {}, ValueError, r"^grads\[1\]: .*grads\[0\]"),
        ([X[3:], X[:4]], {}, ValueError, r"^grads\[1\]: .*grads\[0\]"),
        ([X, frozen(np.ones(2))], {}, ValueError, r"^grads\[1\]: .*writable"),
        ([X, np.ones(6)[::2]], {}, ValueError, r"^grads\[1\]: .*C-contiguous"),
        ([X, np.ones(2, ">f8")], {}, ValueError, r"^grads\[1\]: .*byte order"),
        ([X, np.ones(2, np.int64)], {}, TypeError, r"^grads\[1\]: .*int64"),
        ([X, [1.0, 2.0]], {}, TypeError, r"^grads\[1\]: .*list"),
        ([X, None], {}, TypeError, r"^grads\[1\]: .*NoneType"),
    ],
)
def test_refused_before_anything_is_written(grads, change, error, match):
    with pytest.raises(error, match=match):
        ops.clip_grad_norm(grads, **{"max_norm": 1.0} | change)
    assert X.tolist() == [1, 2, 3, 4, 5, 6]
