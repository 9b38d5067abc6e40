"""Functions on arrays and optimizers against their twins, over shapes, dtypes and layouts.

What is drawn is the same in every run. ``python -m pytest tests/test_properties.py
--hypothesis-profile=long`` draws many more examples, others each time.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastnn import ops, reference

from .guards import Fenced, Guarded
from .kernels.activation import ACTIVATIONS, EXP
from .optimizers import RULES, every_rule

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# Layouts: the same values, elsewhere in memory ---------------------------------------------------


def spread(array: np.ndarray, axis: int, step: int) -> np.ndarray:
    """Every second element of an axis of something larger, or backwards."""
    if not array.ndim:
        return array
    shape = list(array.shape)
    shape[axis] *= 2
    large = np.full(shape, 7, array.dtype)
    place = [slice(None)] * array.ndim
    place[axis] = slice(None, None, 2)
    view = large[tuple(place)]
    if step < 0:
        view = np.flip(view, axis)
    view[...] = array
    return view


def moved(array: np.ndarray, count: int) -> np.ndarray:
    """So many bytes behind an aligned address."""
    memory = np.zeros(array.nbytes + 64 + count, np.uint8)
    start = -memory.ctypes.data % 64 + count
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def stray(array: np.ndarray) -> np.ndarray:
    """With strides that axes of one element may have."""
    both = zip(array.shape, array.strides, strict=True)
    strides = [stride if size > 1 else 8000 for size, stride in both]
    return np.lib.stride_tricks.as_strided(array, array.shape, strides)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": np.copy,
    "Fortran order": lambda a: np.array(a, order="F"),
    "every second column": lambda a: spread(a, -1, 1),
    "every second row": lambda a: spread(a, 0, 1),
    "columns backwards": lambda a: spread(a, -1, -1),
    "rows backwards": lambda a: spread(a, 0, -1),
    "between elements": lambda a: moved(a, 1),
    "one element on": lambda a: moved(a, a.itemsize),
    "three elements on": lambda a: moved(a, 3 * a.itemsize),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": read_only,
    "single axes of any stride": stray,
}
layouts = st.sampled_from(sorted(LAYOUTS))
dtypes = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
sizes = st.one_of(st.integers(1, 3), st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 129]))
seeds = st.integers(0, 2**32)


# Functions on arrays -----------------------------------------------------------------------------

Arrays = dict[str, np.ndarray]
Make = Callable[[np.random.Generator, dict[str, int]], Arrays]


@dataclass(frozen=True)
class Function:
    """One of `fastnn.ops`.

    Attributes
    ----------
    name : str
    shapes : dict of str to str
        Of each array argument, in letters that stand for sizes; in order.
    twin : callable
        Gives the outputs, or the only one, from the arguments in double precision.
    options : dict
    positive : tuple of str
        Arguments that may not be negative.
    out : bool
        Whether it takes `out`.
    """

    name: str
    shapes: dict[str, str]
    twin: Callable[..., Any]
    options: dict[str, Any]
    positive: tuple[str, ...] = ()
    out: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    def arrays(self, dtype: np.dtype, of: dict[str, int], seed: int) -> Arrays:
        rng, found = np.random.default_rng(seed), {}
        for name, letters in self.shapes.items():
            values = rng.standard_normal([of[letter] for letter in letters])
            if name in self.positive:
                values = np.abs(values) + 0.1
            found[name] = values.astype(dtype)
            if name == "index":
                found[name] = rng.integers(0, of["v"], [of[letter] for letter in letters])
            if name == "mask":
                found[name] = values > 0
        return found

    def expected(self, arrays: Arrays) -> list[np.ndarray]:
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays.values()]
        found = self.twin(*wide)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def __call__(self, arrays: Arrays, **more: Any) -> list[np.ndarray]:
        found = getattr(ops, self.name)(**arrays, **self.options, **more)
        return list(found) if isinstance(found, tuple) else [found]


def linear_backward(dy: Any, x: Any, weight: Any) -> Any:
    return (reference.linear_backward_input(dy, weight), *reference.linear_backward_weight(dy, x))


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    y, mean, _, rstd = reference.layer_norm_forward(x, weight, bias)
    return y, mean, rstd


def layer_norm_backward(dy: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    rest = mean, np.zeros_like(mean), rstd
    dweight, dbias = reference.layer_norm_backward_weight(dy, x, *rest)
    return reference.layer_norm_backward(dy, x, weight, *rest), dweight, dbias


def batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    zeros = np.zeros(x.shape[1])
    with np.errstate(invalid="ignore"):  # the unbiased variance of a single row
        y, mean, _, rstd, *_ = reference.batch_norm_forward(
            zeros, zeros, x[..., None], weight, bias
        )
    return y[..., 0], mean, rstd


def batch_norm_backward(dy: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    dx, dweight, dbias = reference.batch_norm_backward(
        dy[..., None], x[..., None], weight, mean, np.zeros_like(mean), rstd
    )
    return dx[..., 0], dweight, dbias


def batch_norm_inference(x: Any, *rest: Any) -> Any:
    return reference.batch_norm_inference(x[..., None], *rest)[..., 0]


def lstm(x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias: Any) -> Any:
    y = []
    for t in range(x.shape[1]):
        h, c = reference.lstm_step(x[:, t], h, c, weight_ih, weight_hh, bias)
        y.append(h)
    return np.stack(y, 1), h, c


AFFINE = {"weight": "c", "bias": "c"}
GATES = {"weight_ih": "gi", "weight_hh": "gh", "bias": "g"}
FUNCTIONS = [
    *(
        Function(a.name, {"x": "rc"}, a.twin(), a.options, out=True) for a in [EXP, *ACTIVATIONS]
    ),
    *(
        Function(f"{a.name}_backward", {"dy": "rc", "saved": "rc"}, a.twin("backward"), a.options,
                 positive=() if a.saves_input else ("saved",), out=True)
        for a in ACTIVATIONS
    ),
    Function("matmul", {"a": "rk", "b": "kc"}, reference.matmul, {}, out=True),
    Function("linear", {"x": "rk", "weight": "ck", "bias": "c"}, reference.linear_forward, {},
             out=True),
    Function("linear_backward", {"dy": "rc", "x": "rk", "weight": "ck"}, linear_backward, {}),
    Function("embedding", {"index": "r", "weight": "vc"},
             lambda index, weight: reference.gather_rows(weight, index), {}),
    Function("embedding_backward", {"dy": "rc", "index": "r"},
             lambda dy, index: reference.embedding_backward(dy, index, 129),
             {"num_embeddings": 129}),
    Function("dropout_backward", {"dy": "rc", "mask": "rc"},
             lambda dy, mask: reference.dropout_backward(dy, mask, 0.25), {"p": 0.25}, out=True),
    Function("layer_norm", {"x": "rc", **AFFINE}, layer_norm, {}),
    Function("layer_norm_backward",
             {"dy": "rc", "x": "rc", "weight": "c", "mean": "r", "rstd": "r"},
             layer_norm_backward, {}, positive=("rstd",)),
    Function("batch_norm", {"x": "rc", **AFFINE}, batch_norm, {}),
    Function("batch_norm_backward",
             {"dy": "rc", "x": "rc", "weight": "c", "mean": "c", "rstd": "c"},
             batch_norm_backward, {}, positive=("rstd",)),
    Function("batch_norm_inference",
             {"x": "rc", "running_mean": "c", "running_var": "c", **AFFINE},
             batch_norm_inference, {}, positive=("running_var",)),
    Function("lstm_step", {"x": "ri", "h": "rh", "c": "rh", **GATES}, reference.lstm_step, {}),
    Function("lstm", {"x": "rti", "h0": "rh", "c0": "rh", **GATES}, lstm, {}),
]  # fmt: skip
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=str)


@st.composite
def cases(draw: Any) -> tuple[np.dtype, dict[str, int], int]:
    of = {letter: draw(sizes) for letter in "rckivh"}
    of["t"] = 1 + of["c"] % 7
    if of["h"] > 40:
        of["h"] //= 4
    return draw(dtypes), of | {"g": 4 * of["h"], "v": max(of["v"], 1)}, draw(seeds)


def assert_near(got: np.ndarray, want: np.ndarray, dtype: np.dtype) -> None:
    """Within rounding of the largest numbers."""
    assert got.shape == want.shape
    unit = np.finfo(dtype).eps
    size = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    np.testing.assert_allclose(got, want, rtol=64 * unit, atol=64 * unit * size)


def same_bits(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return [a.tobytes() for a in one] == [a.tobytes() for a in other]


def test_every_function_is_here():
    """Those that draw random numbers and the steps of optimizers are elsewhere."""
    steps = {rule.twin for rule in RULES}
    assert {f.name for f in FUNCTIONS} == set(ops.__all__) - steps - {"dropout", "clip_grad_norm"}


@every_function
@hypothesis.given(case=cases(), data=st.data())
def test_functions(function, case, data):
    """Near the twin, with the same bits from any layout and into any place, which it keeps to."""
    arrays = function.arrays(*case)
    plain = function(arrays)
    for got, want in zip(plain, function.expected(arrays), strict=True):
        assert_near(got, want, case[0])
    laid = {name: LAYOUTS[data.draw(layouts)](array) for name, array in arrays.items()}
    before = {name: array.tobytes() for name, array in laid.items()}
    assert same_bits(function(laid), plain)
    if function.out:
        out = Guarded(np.zeros_like(plain[0]), data.draw(st.integers(0, 17)))
        (got,) = function(laid, out=out.array)
        assert got is out.array
        assert same_bits([got], plain)
        out.check_guards()
    assert {name: array.tobytes() for name, array in laid.items()} == before


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")
@every_function
@hypothesis.given(case=cases(), at_end=st.booleans())
def test_functions_at_the_edge_of_memory(function, case, at_end):
    """Arrays that end, or begin, at a page that nobody may touch: else the tests would die."""
    arrays = function.arrays(*case)
    plain, fenced = function(arrays), Fenced(at_end)
    copies = {name: fenced.copy(array) for name, array in arrays.items()}
    more = {"out": fenced.copy(np.zeros_like(plain[0]))} if function.out else {}
    assert same_bits(function(copies, **more), plain)


# Optimizers --------------------------------------------------------------------------------------

shapes = st.lists(
    st.lists(st.integers(0, 9), max_size=3).map(tuple) | st.tuples(sizes), min_size=1, max_size=4
)


@every_rule
@hypothesis.given(data=st.data(), dtype=dtypes, of=shapes, seed=seeds)
def test_optimizers(rule, data, dtype, of, seed):
    """Steps over guarded arrays and gradients of any layout are the twin's."""
    variant, rng = data.draw(st.sampled_from(rule.variants)), np.random.default_rng(seed)
    offsets = st.integers(0, 17)
    guarded = [
        Guarded(rng.standard_normal(shape).astype(dtype), data.draw(offsets)) for shape in of
    ]
    params = [g.array for g in guarded]
    expected = [p.copy() for p in params]
    first = variant.options.get("initial_accumulator_value", 0)
    states = [
        [None if name is None else np.full(p.shape, first, dtype) for name in variant.states]
        for p in params
    ]
    optimizer = rule.optimizer(params, **variant.options)
    twin = getattr(reference.optim, rule.twin)
    for t in range(1, 4):
        plain = [rng.standard_normal(shape).astype(dtype) for shape in of]
        optimizer.step([LAYOUTS[data.draw(layouts)](gradient) for gradient in plain])
        for p, g, state in zip(expected, plain, states, strict=True):
            twin(p, g, *state, **rule.twin_options(variant.options, t))
    for got, want in zip(params, expected, strict=True):
        assert_near(got, want, dtype)
    for g in guarded:
        g.check_guards()
    for own, state in zip(optimizer.state, states, strict=True):
        for name, want in zip(variant.states, state, strict=True):
            if name is not None:
                assert_near(own[name], want, dtype)


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")
@every_rule
@hypothesis.given(
    data=st.data(), dtype=dtypes, count=sizes, seed=seeds, at_end=st.booleans(),
    step=st.integers(1, 10**6),
)  # fmt: skip
def test_steps_at_the_edge_of_memory(rule, data, dtype, count, seed, at_end, step):
    """One step on arrays that end, or begin, at a page that nobody may touch."""
    variant, rng = data.draw(st.sampled_from(rule.variants)), np.random.default_rng(seed)
    options = {"lr": 0.01} | rule.twin_options(variant.options, step)
    drawn = [rng.standard_normal(count).astype(dtype) for _ in range(2)]
    drawn += [None if n is None else np.abs(drawn[0] * drawn[1]) for n in variant.states]
    fenced = Fenced(at_end)
    arrays = [None if a is None else fenced.copy(a) for a in drawn]
    getattr(ops, rule.twin)(*arrays, **options)
    getattr(reference.optim, rule.twin)(*drawn, **options)
    for got, want in zip(arrays, drawn, strict=True):
        if want is not None:
            assert_near(got, want, dtype)
