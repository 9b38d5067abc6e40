"""Fixtures that several test modules share."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fastnn._kernels import core

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
INSTRUCTION_SETS = [name for name, runs in core.variants().items() if runs]


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
