"""Which instruction set is in use, and the number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fastnn import get_num_threads, ops, set_num_threads
from fastnn._kernels import core

from .conftest import INSTRUCTION_SETS


def python(code, **environment):
    """Run Python code in a process of its own; its output, or the last line of its error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stdout.strip() if result.returncode == 0 else result.stderr.splitlines()[-1]


def test_the_best_is_chosen(isa):
    core.select_isa()
    assert core.isa() == INSTRUCTION_SETS[0]


def test_selection(isa):
    assert core.isa() == isa
    assert core.vector_bytes() in (16, 32, 64)


def test_all_run_on_the_baseline():
    """Every build has kernels for the oldest processor; wider vectors come first."""
    before, widths = core.isa(), []
    for isa in INSTRUCTION_SETS:
        core.select_isa(isa)
        widths.append(core.vector_bytes())
    core.select_isa(before)
    assert INSTRUCTION_SETS[-1] == list(core.variants())[-1] == "base"
    assert widths == sorted(widths, reverse=True)


def test_all_have_the_same_kernels():
    before, names = core.isa(), []
    for isa in INSTRUCTION_SETS:
        core.select_isa(isa)
        names.append(core.kernel_names())
    core.select_isa(before)
    assert all(one == names[0] for one in names)
    assert len(set(names[0])) == len(names[0])


def test_unknown_kernel():
    with pytest.raises(KeyError, match="no kernel named 'cube'"):
        core.call("cube", np.dtype("float32"), ())


def test_unknown_instruction_set():
    before = core.isa()
    with pytest.raises(ValueError, match=r"^FASTNN_ISA: expected one of .*, got 'v9'"):
        core.select_isa("v9")
    assert core.isa() == before


def test_functions_use_it(isa, rng):
    x, weight = rng.standard_normal((5, 33)), rng.standard_normal((9, 33))
    np.testing.assert_allclose(ops.linear(x, weight), x @ weight.T, rtol=1e-12, atol=1e-12)


def test_environment():
    code = "from fastnn._kernels import core; print(core.isa())"
    for isa in INSTRUCTION_SETS:
        assert python(code, FASTNN_ISA=isa) == isa
    assert python(code, FASTNN_ISA="") == INSTRUCTION_SETS[0]
    assert python(code, FASTNN_ISA="v9").startswith("ValueError: FASTNN_ISA: expected one of")


def test_threads_of_the_environment():
    code = "import fastnn; print(fastnn.get_num_threads())"
    assert python(code, FASTNN_NUM_THREADS="1") == "1"
    assert python(code, FASTNN_NUM_THREADS="3", OMP_NUM_THREADS="1") == "3"
    for usual in ("1", "1,2"):
        assert python(code, FASTNN_NUM_THREADS="", OMP_NUM_THREADS=usual) == "1"
    message = "ValueError: FASTNN_NUM_THREADS: expected a positive integer"
    for wrong in ("0", "-1", "two", "1.5"):
        assert python(code, FASTNN_NUM_THREADS=wrong).startswith(message)


def test_sharing_of_the_environment():
    code = "import fastnn; fastnn.show_config()"
    for mode in ("learned", "always", "never"):
        assert f"shared among them: {mode}" in python(code, FASTNN_SHARE=mode)
    assert "shared among them: learned" in python(code, FASTNN_SHARE="")
    message = "ValueError: FASTNN_SHARE: expected one of learned, always, never, got 'often'"
    assert python(code, FASTNN_SHARE="often") == message


def test_set_num_threads(threads):
    set_num_threads(1)
    assert get_num_threads() == 1
    set_num_threads(np.int64(1))
    for wrong, error in [(0, ValueError), (-1, ValueError), (1.0, TypeError),
                         (True, TypeError), ("1", TypeError)]:  # fmt: skip
        with pytest.raises(error, match=r"^n: expected"):
            set_num_threads(wrong)
    assert get_num_threads() == 1
