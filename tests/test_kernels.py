"""Every kernel against its NumPy twin, by the rows of the kernel table."""

import mmap
from functools import lru_cache

import numpy as np
import pytest

from fastnn import reference
from fastnn._kernels import core

from .guards import FILL, Fenced, Guarded
from .kernels import TABLE
from .kernels.activation import ACTIVATIONS, EXP
from .kernels.table import SIZES, Case, Draw, Row
from .optimizers import RULES, STORED


def run(
    row: Row,
    case: Case,
    dtype: np.dtype,
    offset: int = 0,
    in_place: int | None = None,
    cut: int | None = None,
):
    """Run the kernel on guarded copies, in two pieces with `cut`, and return its outputs."""
    inputs = [a if a is None else Guarded(a, offset) for a in case.inputs]
    starts = case.initial or [np.zeros(y.shape) for y in case.expected]
    outputs = [
        Guarded(start.astype(output_dtype(row, y, dtype)), offset)
        for start, y in zip(starts, case.expected, strict=True)
    ]
    if case.initial is None:
        for output in outputs:  # what the kernel leaves out shows
            output.array.view(np.uint8)[...] = FILL
    if in_place is not None:
        outputs[0] = inputs[in_place]
    pointers = tuple(a and a.array for a in (*outputs, *inputs))
    for first, items in [(0, case.items)] if cut is None else [(0, cut), (cut, case.items)]:
        core.call(
            row.kernel, dtype, pointers, case.sizes, case.scalars, items, case.accumulate, first
        )
    for output in outputs:
        output.check_guards()
    for given in inputs:
        if given is not None and given is not outputs[0]:
            given.check_unchanged()
    return [output.array for output in outputs]


def output_dtype(row: Row, expected: np.ndarray, dtype: np.dtype) -> np.dtype:
    """Losses and sums have the kernel's dtype, masks and sums of squares their own."""
    own = expected.dtype.kind != "f" or row.kernel == "square_sum"
    return expected.dtype if own else dtype


def check(row: Row, case: Case, outputs: list[np.ndarray], dtype: np.dtype, what: str) -> None:
    """Compare with the twin: relative error, and absolute error where a scale is given."""
    single, double = row.tolerance if isinstance(row.tolerance, tuple) else (row.tolerance,) * 2
    ulps = single if dtype == np.float32 else double
    scales = (*case.scale, *[0] * len(outputs))
    for number, (got, want, scale) in enumerate(
        zip(outputs, case.expected, scales, strict=False)
    ):
        limits = np.finfo(got.dtype if got.dtype.kind == "f" else dtype)
        with np.errstate(over="ignore"):
            want = want.astype(got.dtype)
        allowed = ulps * (
            limits.eps * (np.abs(np.nan_to_num(want)) + scale) + limits.smallest_subnormal
        )
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        with np.errstate(invalid="ignore"):
            wrong = ~(same | (np.abs(got - want) <= allowed))
        assert not wrong.any(), (
            f"{what}: output {number} is {got[wrong][:4]} and not {want[wrong][:4]} "
            f"at {np.argwhere(wrong)[:4].tolist()}"
        )


def make(row: Row, dtype: np.dtype, size: int, special: tuple[float, ...] = ()) -> Case:
    """The same case for every instruction set, since twins take longer than kernels."""
    return draw_case(row, dtype, size, special, core.vector_bytes() if row.by_register else None)


@lru_cache(4096)  # those of one test and dtype
def draw_case(
    row: Row, dtype: np.dtype, size: int, special: tuple[float, ...], register: int | None
) -> Case:
    draw = Draw(np.random.default_rng([size, len(special)]), dtype, special)
    with np.errstate(all="ignore"):  # the twins overflow and divide by zero where they must
        return row.make(draw, size)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_sizes(row, dtype, isa):
    for size in SIZES:
        case = make(row, dtype, size)
        check(row, case, run(row, case, dtype), dtype, f"size {size}")


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_unaligned_starts(row, dtype, isa):
    for size in (3, 17, 33):
        case = make(row, dtype, size)
        aligned = run(row, case, dtype)
        for offset in (1, 3):
            for one, other in zip(aligned, run(row, case, dtype, offset), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("row", [row for row in TABLE if row.special], ids=str)
def test_special_values(row, dtype, isa):
    with np.errstate(over="ignore"):
        special = tuple(np.array(row.special, dtype).tolist())
    for size in (1, 3, 8, 17, 33, 65):
        case = make(row, dtype, size, special)
        check(row, case, run(row, case, dtype), dtype, f"size {size}")


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("row", TABLE, ids=str)
def test_nothing_beside_arrays_is_read(row, dtype, isa, at_end):
    """Nor written; a kernel that does kills the tests."""
    for size in (7, 33):
        case = make(row, dtype, size)
        fenced = Fenced(at_end)
        starts = case.initial or [np.zeros(y.shape) for y in case.expected]
        outputs = [
            fenced.copy(start.astype(output_dtype(row, y, dtype)))
            for start, y in zip(starts, case.expected, strict=True)
        ]
        inputs = [a if a is None else fenced.copy(a) for a in case.inputs]
        core.call(
            row.kernel, dtype, (*outputs, *inputs), case.sizes, case.scalars, case.items,
            case.accumulate, 0,
        )  # fmt: skip
        for output, plain in zip(outputs, run(row, case, dtype), strict=True):
            np.testing.assert_array_equal(output, plain)


def rows_whose_kernel(promise):
    """The rows whose kernel promises something, by the table of kernels."""
    return [row for row in TABLE if promise(core.contract(row.kernel))]


@pytest.mark.parametrize("row", rows_whose_kernel(lambda kernel: kernel.in_place), ids=str)
def test_in_place(row, dtype, isa):
    """Over every input of as many bytes; what a kernel leaves alone is then the input's."""
    for size in (0, 1, 17, 65):
        case = make(row, dtype, size)
        apart = run(row, case, dtype)
        untouched = np.zeros((), bool)
        if case.initial is not None:
            untouched = apart[0] == case.initial[0].astype(dtype)
        places = [
            i for i, a in enumerate(case.inputs) if a is not None and a.nbytes == apart[0].nbytes
        ]
        assert places
        for which in places:
            first, *others = run(row, case, dtype, 0, which)
            same = (first == apart[0].reshape(first.shape)) | untouched
            assert same.all()
            for one, other in zip(apart[1:], others, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("row", rows_whose_kernel(lambda kernel: not kernel.whole), ids=str)
def test_an_item_has_the_same_bits_in_any_range(row, dtype, isa):
    for size in (1, 17, 65, 1023):
        case = make(row, dtype, size)
        whole = run(row, case, dtype)
        pieces = run(row, case, dtype, cut=min(case.items // 3 | 1, case.items))
        for one, other in zip(whole, pieces, strict=True):
            assert one.tobytes() == other.tobytes(), f"size {size}"


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_contract(row):
    """What the table of kernels says of outputs and sums; `call` compares the other counts."""
    kernel, case = core.contract(row.kernel), make(row, np.dtype(np.float32), 3)
    assert kernel.outputs == len(case.expected)
    assert kernel.pointers == len(case.expected) + len(case.inputs)
    assert (kernel.sizes, kernel.scalars) == (len(case.sizes), len(case.scalars))
    # batch_norm_backward adds to the gradients of its parameters, but not to dx
    assert kernel.accumulates or not case.accumulate or row.kernel == "batch_norm_backward"
    assert 0 < core.cost(row.kernel, case.sizes) < np.inf


@pytest.mark.parametrize(
    ("pointers", "sizes", "scalars", "message"),
    [
        (1, 1, 1, "expected 2 pointers, got 1"),
        (11, 1, 1, "expected 2 pointers, got 11"),
        (2, 0, 1, "expected 1 sizes, got 0"),
        (2, 1, 2, "expected 1 scalars, got 2"),
    ],
)
def test_wrong_numbers_of_arguments(pointers, sizes, scalars, message):
    x = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=f"^relu_forward: {message}$"):
        core.call("relu_forward", x.dtype, (x,) * pointers, (3,) * sizes, (0,) * scalars, 1)
    if sizes != 1:
        with pytest.raises(ValueError, match=f"^relu_forward: {message}$"):
            core.cost("relu_forward", (3,) * sizes)


def test_every_kernel_has_a_row():
    """Here, or as one of a rule in the table of optimizers, with each way to store states."""
    rows = {row.kernel for row in TABLE}
    plain = {kernel for rule in RULES for kernel in rule.kernels}
    stored = {f"{kernel}_{state_dtype}" for kernel in plain for state_dtype in STORED}
    assert plain | stored == set(core.kernel_names()) - rows
    assert rows <= set(core.kernel_names())


def test_rows_are_named_apart():
    assert len(set(map(str, TABLE))) == len(TABLE)


@pytest.mark.parametrize("activation", [EXP, *(a for a in ACTIVATIONS if not a.by_row)], ids=str)
def test_accuracy_over_the_whole_range(activation, isa):
    """Within 4 units in the last place of the function in double precision, denormals too."""
    x = np.concatenate([
        sign * np.logspace(-45, 38, 40_000, dtype=np.float32) for sign in (1, -1)
    ] + [np.linspace(-110, 110, 40_000, dtype=np.float32)])  # fmt: skip
    y = np.empty_like(x)
    kernel = f"{activation.kernel}_forward"
    core.call(kernel, x.dtype, (y, x), (x.size,), activation.kernel_scalars, 1)
    with np.errstate(over="ignore", under="ignore"):
        want = activation.twin()(x.astype(np.float64))
        unit = np.maximum(np.spacing(np.abs(want.astype(np.float32))), np.float32(1e-45))
        finite = np.abs(want) <= np.finfo(np.float32).max
    np.testing.assert_array_equal(y[~finite], np.inf)
    assert (np.abs(y[finite] - want[finite]) <= 4 * unit.astype(np.float64)[finite]).all()


def test_philox_words():
    """The published word for a counter and a key of zeros, and that keys and steps count."""
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert reference.philox(0, 0, 1).tolist() == words
    assert reference.philox(0, 0, 3)[:4].tolist() == words
    for key, step in ((1, 0), (1 << 32, 0), (0, 1), (0, 1 << 32)):
        assert reference.philox(key, step, 1).tolist() != words


def test_dropout_keeps_the_share_it_should(isa):
    x = np.ones(100_000, np.float32)
    y, mask, state = np.empty_like(x), np.empty(x.size, np.uint8), np.array([7, 1], np.uint64)
    for p in (0.0, 0.1, 0.5, 1.0):
        core.call("dropout_forward", x.dtype, (y, mask, x, state), (x.size,), (p,), 1)
        assert abs(mask.mean() - (1 - p)) <= 5 * np.sqrt(p * (1 - p) / x.size)
        np.testing.assert_array_equal(y == 0, mask == 0)
