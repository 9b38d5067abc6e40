"""Initializers: distributions, seeds, fans against PyTorch, and bad arguments."""

import math
from functools import partial

import numpy as np
import pytest

from fastnn import initializers

NAMES = [name for name in initializers.__all__ if name != "get"]
RANDOM = [name for name in NAMES if name not in ("zeros", "ones")]
every_initializer = pytest.mark.parametrize("name", NAMES)
every_random_one = pytest.mark.parametrize("name", RANDOM)


@every_initializer
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (4, 3, 2), (0, 3), (3, 0)])
def test_shape_dtype_and_order(name, dtype, shape):
    value = initializers.get(name)(shape, 0, dtype)
    assert value.shape == shape
    assert value.dtype == dtype
    assert value.flags.c_contiguous
    assert value.flags.writeable
    assert np.isfinite(value).all()


@every_random_one
def test_a_seed_gives_the_same_values(name):
    init = initializers.get(name)
    np.testing.assert_array_equal(init((5, 4), 3), init((5, 4), np.random.default_rng(3)))
    assert (init((5, 4), 3) != init((5, 4), 4)).any()
    assert (init((5, 4)) != init((5, 4))).any()


@every_random_one
def test_a_generator_goes_on(name, rng):
    init = initializers.get(name)
    assert (init((5, 4), rng) != init((5, 4), rng)).any()


@every_random_one
def test_both_dtypes_get_the_same_values(name):
    init = initializers.get(name)
    double = init((5, 4), 0, "float64")
    np.testing.assert_array_equal(init((5, 4), 0, "float32"), double.astype("float32"))


@every_initializer
def test_leaves_the_global_random_state_alone(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    initializers.get(name)((5, 4))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def fans(shape):
    """Return fan_in and fan_out as PyTorch counts them."""
    return math.prod(shape[1:]), shape[0] * math.prod(shape[2:])


VARIANCES = {
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "xavier_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "uniform_fan_in": lambda fan_in, fan_out: 1 / (3 * fan_in),
}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (40, 50, 30)])
def test_distribution(name, shape):
    value = initializers.get(name)(shape, 0, "float64").ravel()
    std = math.sqrt(VARIANCES[name](*fans(shape)))
    # Five standard errors of the sample's moments.
    assert abs(value.mean()) < 5 * std / math.sqrt(value.size)
    assert value.std() == pytest.approx(std, rel=5 / math.sqrt(2 * value.size))
    kurtosis = (value**4).mean() / std**4
    if name.endswith("normal"):
        assert kurtosis == pytest.approx(3, abs=0.15)
        assert abs(value).max() > 3 * std
    else:
        assert kurtosis == pytest.approx(1.8, abs=0.05)
        assert 0.999 < abs(value).max() / (math.sqrt(3) * std) <= 1


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("xavier_uniform", "xavier_uniform_", {}),
        ("xavier_normal", "xavier_normal_", {}),
        ("he_uniform", "kaiming_uniform_", {"nonlinearity": "relu"}),
        ("he_normal", "kaiming_normal_", {"nonlinearity": "relu"}),
        ("uniform_fan_in", "kaiming_uniform_", {"a": math.sqrt(5)}),
        ("orthogonal", "orthogonal_", {}),
    ],
)
@pytest.mark.parametrize("shape", [(300, 200), (40, 50, 30)])
def test_scale_is_that_of_torch(name, theirs, options, shape):
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = getattr(torch.nn.init, theirs)(torch.empty(shape), **options).numpy()
    value = initializers.get(name)(shape, 0)
    assert value.std() == pytest.approx(wanted.std(), rel=0.02)
    if "uniform" in name:
        assert abs(value).max() == pytest.approx(abs(wanted).max(), rel=1e-3)


def test_lecun_normal_is_randn_over_root_fan_in():
    wanted = np.random.default_rng(7).standard_normal((6, 4)) / 2
    np.testing.assert_array_equal(initializers.lecun_normal((6, 4), 7, "float64"), wanted)


def test_one_axis_is_its_own_fan():
    value = initializers.uniform_fan_in(10_000, 0, "float64")
    assert abs(value).max() == pytest.approx(0.01, rel=1e-3)


def test_parameters_of_normal_and_uniform():
    assert initializers.normal(10_000, 0, std=3).std() == pytest.approx(3, rel=0.05)
    assert abs(initializers.uniform(10_000, 0, bound=3)).max() == pytest.approx(3, rel=0.01)
    assert not initializers.normal((2, 3), 0, std=0).any()
    assert initializers.normal((), 0).shape == ()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 4), (1, 1)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape, gain):
    q = initializers.orthogonal(shape, 0, "float64", gain=gain).reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform_over_rotations_and_reflections(rng):
    draws = np.array([initializers.orthogonal((3, 3), rng, "float64") for _ in range(2000)])
    # QR without the correction of signs has a negative mean on the diagonal.
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=5 / math.sqrt(3 * 2000))
    assert abs(np.linalg.det(draws).mean()) < 0.1


def test_get():
    assert initializers.get("he_normal") is initializers.he_normal
    own = partial(initializers.normal, std=0.1)
    assert initializers.get(own) is own
    with pytest.raises(ValueError, match=r"init: expected one of he_normal, .*, got 'glorot'"):
        initializers.get("glorot")
    with pytest.raises(ValueError, match="init: expected one of"):
        initializers.get("get")
    with pytest.raises(TypeError, match="init: expected a name or a callable, got 3"):
        initializers.get(3)


@every_initializer
@pytest.mark.parametrize(
    ("arguments", "error", "argument"),
    [
        ({"shape": (2, -1)}, ValueError, "shape"),
        ({"shape": (2, 1.5)}, TypeError, "shape"),
        ({"shape": None}, TypeError, "shape"),
        ({"shape": (2, 3), "rng": "0"}, TypeError, "rng"),
        ({"shape": (2, 3), "rng": True}, TypeError, "rng"),
        ({"shape": (2, 3), "rng": -1}, ValueError, "rng"),
        ({"shape": (2, 3), "dtype": "int32"}, TypeError, "dtype"),
    ],
)
def test_rejects_bad_arguments(name, arguments, error, argument):
    with pytest.raises(error, match=rf"^{argument}: expected .* got "):
        initializers.get(name)(**arguments)


def test_rejects_bad_parameters():
    with pytest.raises(ValueError, match=r"std: expected .* got -1"):
        initializers.normal((2, 3), std=-1)
    with pytest.raises(TypeError, match=r"bound: expected a number"):
        initializers.uniform((2, 3), bound="1")
    with pytest.raises(ValueError, match=r"gain: expected .* got nan"):
        initializers.orthogonal((2, 3), gain=math.nan)
    with pytest.raises(ValueError, match="shape: expected at least 2 axes"):
        initializers.orthogonal((2,))
    with pytest.raises(ValueError, match="shape: expected at least 1 axis"):
        initializers.lecun_normal(())
