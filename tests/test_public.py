"""The public face: documented, importable without extras, and as README.md shows it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

README = Path(__file__).parents[1] / "README.md"


def public_modules(module):
    """Yield a module and those among its public names."""
    yield module
    for name in module.__all__:
        if inspect.ismodule(part := getattr(module, name)):
            yield from public_modules(part)


MODULES = list(public_modules(fastnn))
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if callable(getattr(module, name))
}


def test_public_modules_show_what_is_public_alone():
    assert len(MODULES) > 10
    for module in MODULES:
        assert dir(module) == sorted(module.__all__), module.__name__
        assert len(set(module.__all__)) == len(module.__all__), module.__name__


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_can_be_read(name):
    """No union is spelt out, so that help() shows what there is to give."""
    thing = PUBLIC[name]
    methods = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else []
    for part in [thing, *(value for key, value in methods if not key.startswith("_"))]:
        signature = inspect.signature(part)
        text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature))
        # those with a dozen arguments and more need the room
        assert len(text) <= max(300, 29 * len(signature.parameters)), text


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_documented(name):
    thing = PUBLIC[name]
    assert inspect.signature(thing) is not None
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if inspect.isclass(thing):
        for member, value in inspect.getmembers(thing, inspect.isfunction):
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member} has no docstring"


def test_one_version():
    """`meson.build` has it; the file for citations, which is read by itself, repeats it."""
    citation = README.with_name("CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fastnn.__version__}\n" in citation


def test_import_needs_numpy_alone():
    code = (
        "import sys, fastnn\n"
        "extras = {'matplotlib', 'sklearn', 'tqdm', 'torch', 'jax', 'onnx', 'mpi4py', 'scipy'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_import_is_light():
    """Nothing of the network, and no random numbers before they are asked for."""
    code = (
        "import numpy, sys\n"
        "before = set(sys.modules)\n"
        "import fastnn\n"
        "heavy = {'urllib', 'http', 'ssl', 'socket', 'xml', 'importlib.metadata', 'numpy.random'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_module_tells_its_configuration():
    done = subprocess.run(
        [sys.executable, "-m", "fastnn"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"fastnn {fastnn.__version__}")
    assert "instruction set:" in done.stdout


def test_an_unknown_instruction_set_is_named():
    done = subprocess.run(
        [sys.executable, "-c", "import fastnn"], capture_output=True, text=True, timeout=60,
        env={"FASTNN_ISA": "v9", "PATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "FASTNN_ISA: expected one of" in done.stderr
    assert "'v9'" in done.stderr


def test_threads_are_checked():
    limit = fastnn.get_num_threads()
    for bad, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="n: expected"):
            fastnn.set_num_threads(bad)
    assert fastnn.get_num_threads() == limit
