"""Fixtures that several test modules share."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from fastnn._kernels import core

try:
    from hypothesis import settings
except ImportError:  # whose tests are skipped then
    pass
else:
    settings.register_profile(
        "short", max_examples=6, derandomize=True, deadline=None, database=None
    )
    settings.register_profile("long", max_examples=200, deadline=None, database=None)
    settings.load_profile("short")

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
INSTRUCTION_SETS = [name for name, runs in core.variants().items() if runs]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the long forms of tests."""
    parser.addoption("--long", action="store_true", help="more kills, every bit, full disks")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether a test should try all that it can."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """float32, then float64."""
    return request.param


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Use each instruction set that this machine runs in turn."""
    before = core.isa()
    core.select_isa(request.param)
    yield request.param
    core.select_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set how many threads share all that can be shared, however small; what was comes back."""
    number, sharing = core.get_num_threads(), core.sharing()
    core.share("always")
    yield core.set_num_threads
    core.set_num_threads(number)
    core.share(sharing)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


def differences(
    function: Callable[[], float],
    variable: np.ndarray,
    directions: Iterable[np.ndarray] | None = None,
    step: float = 1e-6,
) -> np.ndarray:
    """Central differences of a function of what `variable` holds, which is changed meanwhile.

    Parameters
    ----------
    function : callable
        Gives a number, or an array of one shape.
    directions : iterable of ndarray, optional
        Along each of these, of the variable's shape, instead of for each element.

    Returns
    -------
    ndarray
        The axes of `variable` (or one for the directions), then those of the function's value.
    """
    start, slopes = variable.copy(), []
    units = np.eye(variable.size).reshape(variable.size, *variable.shape)
    for direction in units if directions is None else directions:
        variable[...] = start + step * direction
        above = np.copy(function())
        variable[...] = start - step * direction
        below = np.copy(function())
        variable[...] = start
        slopes.append((above - below) / (2 * step))
    found = np.array(slopes)
    return found if directions is not None else found.reshape(*variable.shape, *found.shape[1:])
