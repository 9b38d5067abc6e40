"""The door: what is judged there, and that nothing is judged elsewhere.

Bad calls of everything public are in `tests/door`.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import losses, ops, optim
from fastnn._door import arrays, numbers

SOURCES = Path(fastnn.__file__).parent

# What others may refuse: objects that are neither numbers nor arrays.
OBJECTS = re.compile(
    "a fastnn (layer|optimizer)|a name or a callable|(names|list of names) or callables|"
    "a list of (names|callbacks)|a Parameter|a mapping|names with arrays|a dict|a schedule|"
    "an mpi4py|a name in the logs|names that are strings|strings|a sequence of arrays|"
    "one array per parameter|a model of real numbers|a name or a class|a learning rate|"
    "a str or a path|None without predictions|got None; fastnn|"
    r"Statistics|text, lists and dicts|one of \{known\}|an attribute|a torch.nn.Module|"
    r"\{error\}|a subclass of Layer|a built-in one|a list of layers|a Trainer|a name or a loss|"
    r"a layer whose|a mapping|\{each\}|a pair \(h, c\)|a tuple of int or None|\(x, y\) or|"
    r"a History|a callback Norms|a model or a function|objects with|\{wanted\}"
)


def raised(tree):
    """The message of every TypeError that is raised, with its fields in braces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call = node.exc
            if isinstance(call.func, ast.Name) and call.func.id == "TypeError":
                yield node.lineno, ast.unparse(call.args[0]) if call.args else ""


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(SOURCES.rglob("*.py")) if p.parent.name != "_door"],
    ids=lambda path: str(path.relative_to(SOURCES)),
)
def test_no_other_file_judges_numbers_and_arrays(path):
    for line, message in raised(ast.parse(path.read_text(encoding="utf-8"))):
        assert OBJECTS.search(message), f"line {line}: {message}"


# Numbers ---------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("judge", "value", "error", "message"),
    [
        (numbers.any_number, INF, ValueError, "expected a finite number, got inf"),
        (numbers.any_number, 10**400, ValueError, "expected a finite number, got 1000"),
        (numbers.at_least_0, -1, ValueError, "expected a finite number >= 0, got -1"),
        (numbers.at_least_0, NAN, ValueError, "expected a finite number >= 0, got nan"),
        (numbers.above_0, 0, ValueError, "expected a finite number > 0, got 0"),
        (numbers.limit, 0.0, ValueError, "expected a number > 0, got 0.0"),
        (numbers.limit, -(10**400), ValueError, "expected a number > 0, got -1000"),
        (numbers.limit, NAN, ValueError, "expected a number > 0, got nan"),
        (numbers.fraction, 1.5, ValueError, r"expected a number in \[0, 1\], got 1.5"),
        (numbers.below_1, 1, ValueError, r"expected a number in \[0, 1\), got 1"),
        (numbers.fraction, "0.5", TypeError, "expected a number, got str '0.5'"),
        (numbers.fraction, True, TypeError, "expected a number, got bool True"),
        (numbers.fraction, None, TypeError, "expected a number, got NoneType"),
        (numbers.fraction, 1j, TypeError, "expected a number, got complex"),
        (numbers.positive, 0, ValueError, "expected a positive integer, got 0"),
        (numbers.positive, 1.0, TypeError, "expected an integer, got float"),
        (numbers.positive, True, TypeError, "expected an integer, got bool"),
        (numbers.positive, np.True_, TypeError, "expected an integer, got numpy.bool"),
        (numbers.positive, np.ones(2, int), TypeError, "expected an integer, got an array"),
        (numbers.boolean, 1, TypeError, "expected True or False, got 1"),
        (numbers.pair, "ab", TypeError, "expected a pair of numbers, got 'ab'"),
        (numbers.shape, (2, -1), ValueError, "expected an integer >= 0, got -1"),
        (numbers.shape, "23", TypeError, "expected an integer, got str"),
    ],
)
def test_wrong_numbers(judge, value, error, message):
    with pytest.raises(error, match=f"^name: {message}"):
        judge("name", value)


def test_right_numbers():
    assert numbers.limit("x", INF) == INF
    assert type(numbers.fraction("x", np.float32(0.5))) is float
    assert type(numbers.positive("x", np.int64(3))) is int
    assert numbers.integer("x", 0, 0) == 0
    assert numbers.boolean("x", np.False_) is False
    assert numbers.shape("x", 3) == (3,)
    assert numbers.shape("x", [2, np.int8(4)]) == (2, 4)
    assert numbers.number("x", -1, -2, 2) == -1.0


def test_integers_of_a_range():
    assert numbers.integer("n", 5, 1, 5) == 5
    with pytest.raises(ValueError, match=r"^n: expected an integer from 1 to 5, got 6"):
        numbers.integer("n", 6, 1, 5)


def test_names():
    assert numbers.choice("mode", "min", ("min", "max")) == "min"
    assert numbers.choice("mode", None, (None, "max")) is None
    for value, allowed, message in (
        ("mim", ("min", "max"), "expected 'min' or 'max', got 'mim'; did you mean 'min'[?]$"),
        (["min"], ("min", "max"), r"expected 'min' or 'max', got \['min'\]$"),
        (None, ("min",), "expected 'min', got None$"),
        ("e", ("a1", "b1", "c1", "d1"), "expected one of a1, b1, c1, d1, got 'e'$"),
    ):
        with pytest.raises(ValueError, match=f"^mode: {message}"):
            numbers.choice("mode", value, allowed)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: losses.resolve("cross_entrpy"), "cross_entropy"),
        (lambda: fastnn.Linear(2, 2, init="he_norml"), "he_normal"),
        (lambda: fastnn.GELU("tahn"), "tanh"),
        (lambda: ops.linear([[1.0]], [[1.0]], activation="rellu"), "relu"),
        (lambda: fastnn.schedules.cyclic(0, 1, 2, mode="triangularr"), "triangular"),
        (lambda: losses.mse([1.0], [1.0], reduction="sums"), "sum"),
        (lambda: fastnn.EarlyStopping("losss").on_epoch_end(0, {"loss": 1.0}), "loss"),
        (lambda: fastnn.Linear(2, 2).graph("svgg"), "svg"),
        (lambda: losses.resolve("MSE"), "mse"),
        (lambda: losses.resolve("bce"), "binary_cross_entropy_with_logits"),
        (lambda: fastnn.Linear(2, 2, init="glorot_uniform"), "xavier_uniform"),
    ],
)
def test_a_misspelt_name(call, name):
    with pytest.raises(ValueError, match=rf"did you mean '{name}'\?$"):
        call()


# Arrays ----------------------------------------------------------------------------------------


def test_integers():
    array = np.arange(3)
    assert arrays.as_integers(array, "x") is array
    assert arrays.as_integers([[1], [2]], "x").dtype == np.int64
    big = np.array([1, 2**64 - 1], np.uint64)
    with pytest.raises(ValueError, match=r"^x: expected integers in \[0, 5\), got 18446744073709"):
        arrays.as_integers(big, "x", 5)
    with pytest.raises(TypeError, match=r"^x: expected integers, got dtype float64; x\.astype"):
        arrays.as_integers([1.0, 2.0], "x")
    with pytest.raises(TypeError, match=r"^x: expected integers, got dtype float64$"):
        arrays.as_integers([1.5, 2.0], "x")
    with pytest.raises(TypeError, match=r"^x: expected integers, got dtype bool"):
        arrays.as_integers([True], "x")
    assert arrays.as_integers([True], "x", bools=True).tolist() == [1]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_indices_never_wrap(dtype):
    top = np.iinfo(dtype).max
    weight = np.ones((3, 2))
    for bad in (3, top):
        index = np.array([0, bad], dtype)
        for call in (
            lambda index: ops.embedding(index, weight),
            lambda index: ops.embedding_backward(np.ones((2, 2)), index, 3),
            fastnn.Embedding(3, 2),
            lambda index: losses.cross_entropy(np.zeros((2, 3)), index, ignore_index=-1),
            lambda index: fastnn.LSTM(1, 1)(np.zeros((2, 2, 1)), lengths=index),
        ):
            with pytest.raises(ValueError, match=rf"^\w+: expected .*{bad}"):
                call(index)


MASKED = np.ma.array([[1.0], [2.0], [3.0]], mask=[[0], [0], [1]])
GOOD = np.ones((3, 1))


def trainer():
    model = fastnn.Sequential(fastnn.Linear(1, 1), dtype="float64", rng=0)
    return fastnn.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.1))


def test_lists_of_masked_arrays_are_refused():
    with pytest.raises(TypeError, match=r"^x: expected an array without a mask, got a masked arra"):
        fastnn.Linear(1, 1)(list(MASKED))


def test_other_subclasses_of_arrays_are_taken(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 1))
    x[:] = 2
    assert ops.relu(x).tolist() == [[2.0]] * 3
    optimizer = optim.SGD([x], 1.0)
    optimizer.step([x.copy()])
    assert not x.any()
    x[:] = 1
    a = np.zeros((3, 1), np.float32)
    optim.SGD([a], 1.0).step([x])
    assert (a == -1).all()


def test_tensors_with_the_negative_bit():
    torch = pytest.importorskip("torch")
    pairs = torch.view_as_complex(torch.tensor([[1.0, 2.0], [3.0, -4.0]])).conj()
    x = pairs.imag
    assert x.is_neg()
    for call in (
        lambda: ops.relu(x),
        lambda: losses.mse(np.zeros(2, np.float32), x),
        lambda: optim.SGD([np.zeros(2, np.float32)], 1.0).step([x]),
        lambda: optim.SGD([x], 1.0),
        lambda: fastnn.save_safetensors("no-such-folder/x", {"x": pairs}),
    ):
        with pytest.raises(TypeError, match=r"^[\w \[\]]+: expected an array.*, got torch\.Tensor"):
            call()
    assert ops.relu(x.resolve_neg()).tolist() == [0, 4]


def test_tables_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert arrays.as_array(table, "x").tolist() == [[1, 0.5, 1], [2, 1.5, 0]]
    table = pandas.DataFrame({
        "a": pandas.array([1, 2], "Int64"), "b": pandas.array([0.5, 1.5], "Float64"),
    })  # fmt: skip
    assert arrays.as_array(table, "x").dtype == np.float64
    assert arrays.as_integers(table["a"], "x").tolist() == [1, 2]
    assert arrays.as_array(table["b"], "x").tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match=r"^x: expected no missing values, got "):
        arrays.as_array(pandas.DataFrame({
            "a": pandas.array([1, None], "Int64"), "b": pandas.array([1, 2], "Int8"),
        }), "x")  # fmt: skip
    table = pandas.DataFrame({"a": [1, 2], "town": ["x", "y"], "when": [None, "z"]})
    with pytest.raises(
        TypeError,
        match=r"^x: expected columns of real numbers, got 'town' \(\w+\), 'when' \(\w+\); x\.sel",
    ):
        ops.relu(table)
    with pytest.raises(TypeError, match=r"^labels: .*; np\.unique\(labels, return_inverse=True\)"):
        losses.cross_entropy(np.zeros((2, 3)), table["town"])


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"^x: expected real numbers, .*; x\.toarray\(\)"):
        fastnn.Linear(2, 1)(sparse.csr_matrix(np.eye(2)))


def test_names_for_labels():
    for labels in (["a", "b"], np.array(["a", "b"]), np.array(["a", "b"], object)):
        with pytest.raises(TypeError, match=r"^labels: .*np\.unique\(labels, return_inv"):
            losses.cross_entropy(np.zeros((2, 3)), labels)


@pytest.mark.parametrize(
    ("call", "way_out"),
    [
        (lambda: losses.cross_entropy(np.zeros((3, 3)), [1, 2, 3]), "classes count from 0"),
        (lambda: losses.cross_entropy(np.zeros((2, 1)), [0, 1]), "binary_cross_entropy_with_logit"),
        (lambda: losses.cross_entropy(np.zeros((3, 2)), [[0], [1], [1]]), r"labels\.ravel\(\)"),
        (lambda: losses.cross_entropy(np.zeros((3, 2)), [0, 1]), "3 predictions, but 2 labels"),
        (lambda: losses.cross_entropy(np.zeros((3, 5, 2)), [0, 1, 1]), "return_sequences=False"),
        (lambda: losses.mse(np.zeros((3, 1)), np.zeros(3)), r"target\[:, None\]"),
        (lambda: losses.mse(np.zeros(3), np.zeros((3, 1))), r"target\.ravel\(\)"),
        (lambda: losses.mse(np.zeros((3, 1)), np.zeros((2, 1))), "3 predictions, but 2 targets"),
        (lambda: losses.mse(np.zeros((3, 5, 2)), np.zeros((3, 2))), "return_sequences=False"),
        (lambda: trainer().step(np.zeros(3), np.zeros((3, 1))), r"x\[:, None\]"),
    ],
)
def test_errors_with_the_way_out(call, way_out):
    with pytest.raises(ValueError, match=rf"^(labels|target|x): expected .*, got .*; .*{way_out}"):
        call()


def test_a_hyper_parameter_that_a_rule_does_not_have():
    optimizer = optim.SGD([np.ones(2)], lr=1.0)
    optimizer.groups[0]["weight_deccay"] = 0.9
    with pytest.raises(ValueError, match=r"^groups\[0\]: .*; did you mean 'weight_decay'"):
        optimizer.step([np.ones(2)])
