"""Every bad call is refused: the right exception, with the argument's name, and nothing changed."""

import inspect
import re

import pytest

from .door import GOOD, ROWS, all_rows
from .door.snapshot import snapshot
from .test_public import PUBLIC

# What Python, Cython, NumPy and the buffer protocol would say of what has got past the door.
FOREIGN = re.compile(
    "|".join([
        "Buffer dtype mismatch",
        "Buffer has wrong number of dimensions",
        "ndarray is not (C|Fortran)[- ]contiguous",
        "buffer source array is read-only",
        "an integer is required",
        "must be real number",
        "only (length-1|0-dimensional|integer scalar) arrays",
        "object cannot be interpreted",
        "Cannot convert",
        "cannot convert",
        "Cannot interpret",
        "could not convert",
        "could not be broadcast",
        "operands could not",
        "setting an array element",
        "inhomogeneous shape",
        "has incorrect type",
        "takes (exactly|at most|at least|no)",
        "takes \\d+ positional",
        "not supported between",
        "unsupported operand",
        "truth value of",
        "object is not (iterable|subscriptable|callable)",
        "has no attribute",
        "has no len",
        "not enough values to unpack",
        "too many values to unpack",
        "array is too big",
        "Maximum allowed dimension",
        "Python int too large",
        "value too large to convert",
    ])
)


# Results, bases of classes and what fastnn itself makes.
MADE_FOR_US = {
    "GradientReport", "HessianProduct", "Layer", "MinimizeResult", "Optimizer", "Parameter",
    "Result", "SVG", "Schedule", "Statistics",
}  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refuse(row):
    """Make a bad call and say what is wrong with how it is refused, or nothing."""
    call, watched = row.make()
    before = snapshot(watched)
    try:
        call()
    except Exception as error:
        said = str(error)
        if not isinstance(error, row.error):
            return f"{type(error).__name__}: {said}"
        if not re.match(row.message, said) or FOREIGN.search(said.partition("got ")[0]):
            return f"the message is {said!r} and not {row.message!r}"
        return None if snapshot(watched) == before else "something has changed"
    return "it was not refused"


@pytest.mark.parametrize("call", GOOD, ids=str)
def test_bad_arguments(call):
    call.run()  # what is refused is refused for the one bad argument
    wrong = {row.name: fault for row in call.rows() if (fault := refuse(row))}
    assert not wrong, "\n".join(f"{name}: {fault}" for name, fault in wrong.items())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_calls(row):
    assert refuse(row) is None


def test_rows_are_named_apart():
    names = [str(row) for row in all_rows()]
    assert len(set(names)) == len(names)
    assert len(names) > 4000


def test_everything_public_that_takes_arguments_has_rows():
    """By its name among those of the rows."""
    words = set(re.findall(r"\w+", " ".join(map(str, all_rows()))))
    missing = {
        name.rpartition(".")[2]
        for name, thing in PUBLIC.items()
        if inspect.signature(thing).parameters and ".reference." not in name
    } - words
    assert missing <= MADE_FOR_US, missing
