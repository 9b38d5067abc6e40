"""The same bits on every processor with fused multiply-adds, and on any number of threads."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnn._kernels import core

from .kernels import TABLE
from .optimizers import every_rule
from .test_kernels import make, run
from .training_bits import CASES, EXPECTED, numbers

FUSED = [isa for isa, runs in core.variants().items() if runs and isa in ("v4", "v3")]
if platform.machine() in ("aarch64", "arm64"):
    FUSED = ["base"]


@pytest.fixture
def select():
    """Chooses an instruction set for the rest of the test."""
    before = core.isa()
    yield core.select_isa
    core.select_isa(before)


def bits(array: np.ndarray) -> bytes:
    """All NaNs are one: processors give them signs of their own."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.nan, array)
    return array.tobytes()


# Packed weights of an LSTM lie as the registers want them; some processors with AVX-512 add pairs
# of bfloat16 in an instruction of their own.
NARROW = {f"{row.kernel}_bfloat16" for row in TABLE if core.contract(row.kernel).narrows}
SAME = [row for row in TABLE if not row.by_register and row.kernel not in NARROW]


@pytest.mark.parametrize("row", SAME, ids=str)
def test_kernels_agree(row, dtype, select):
    with np.errstate(over="ignore"):
        special = tuple(np.array(row.special, dtype).tolist())
    for size in (7, 17, 33, 65, 257):
        case, first = make(row, dtype, size, special), None
        for isa in FUSED:
            select(isa)
            found = [bits(output) for output in run(row, case, dtype)]
            assert found == (first or found), f"{isa} and {FUSED[0]} differ at size {size}"
            first = found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("isa", FUSED)
def test_trained_weights(name, isa, select):
    select(isa)
    assert CASES[name]() == EXPECTED[name]


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
@every_rule
def test_packed_states_agree(rule, storage, dtype, select):
    found = []
    for isa in FUSED:
        select(isa)
        rng = np.random.default_rng(0)
        params = [numbers(rng, *shape).astype(dtype) for shape in ((5, 41), (333,), (2100,))]
        optimizer = rule.make(params, lr=0.01, state_dtype=storage)
        for _ in range(20):
            optimizer.step([p * np.asarray(0.75, dtype) for p in params])
        states = [array for state in optimizer.state for array in state.values()]
        found.append([bits(np.ascontiguousarray(array)) for array in (*params, *states)])
    assert all(one == found[0] for one in found)


@pytest.mark.skipif(not FUSED, reason="needs FMA")
def test_trained_weights_on_more_threads_than_processors():
    environment = os.environ | {
        "FASTNN_NUM_THREADS": "3", "FASTNN_SHARE": "always", "FASTNN_ISA": FUSED[0],
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "tests.training_bits", "optimizers"],
        cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split(": ") for line in result.stdout.splitlines())
    assert found == {name: EXPECTED[name] for name in found}
    assert len(found) == 2
