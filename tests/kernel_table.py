"""One row per kernel: its arguments, what it must compute, and how closely.

A new kernel joins with one row; :mod:`test_kernels` then runs it for every instruction set, dtype,
size and alignment, with ordinary and with special values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from fastnn import reference

# One less, one more and exactly a register, or several; 1023 spans blocks of 1024 but one.
SIZES = (0, 1, 3, 7, 8, 9, 15, 17, 31, 33, 63, 65, 1023)

# Kernels that have tests of their own: which files, and the words by which these choose the kernel.
# Those of optimizers go by the rule of `fastnn.reference` and the dtype of the states.
TESTED_ELSEWHERE = {
    f"{kernel}{stored and '_' + stored}": ("test_optim*.py", (rule, stored))
    for stored in ("", "bfloat16", "int8")
    for kernel, rule in {
        "sgd_step": "sgd_step",
        "nag_step": "nag_step",
        "adagrad_step": "adagrad_step",
        "rmsprop_step": "rmsprop_step",
        "adam_step": "adam_step",
        "lamb_moments": "lamb_step",
        "lamb_finish": "lamb_step",
    }.items()
}

NON_FINITE = (np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Draw:
    """Makes the random arrays of one case.

    With `special`, every third element or so is one of them.
    """

    rng: np.random.Generator
    dtype: np.dtype[Any]
    special: tuple[float, ...] = ()

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Normal numbers, and special ones among them."""
        values = (scale * self.rng.standard_normal(shape)).astype(self.dtype)
        if self.special:
            special = self.rng.choice(np.array(self.special, self.dtype), shape)
            values = np.where(self.rng.random(shape) < 0.3, special, values)
        return values

    def positive(self, *shape: int) -> np.ndarray:
        """Uniform numbers from 0.5 to 2."""
        return self.rng.uniform(0.5, 2, shape).astype(self.dtype)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """Integers in [0, high), int64."""
        return self.rng.integers(0, high, shape)


@dataclass(frozen=True)
class Case:
    """One call of a kernel, and its expected outputs in double precision.

    `scale` holds for each output the magnitude that its absolute error is measured by.
    """

    inputs: tuple[np.ndarray | None, ...]
    expected: tuple[np.ndarray, ...]
    sizes: tuple[int, ...] = ()
    scalars: tuple[float, ...] = ()
    items: int = 0
    initial: tuple[np.ndarray, ...] | None = None  # what the outputs hold, to be added to
    scale: tuple[Any, ...] = (0,)
    accumulate: bool = False


@dataclass(frozen=True)
class Row:
    """A kernel and how to test it.

    Attributes
    ----------
    kernel, variant : str
    make : callable
        ``make(draw, size) -> Case``
    tolerance : float or pair of float
        Relative error in units of the dtype's eps, for (float32, float64).
    special : tuple of float
        Special values that its floating inputs may hold.
    in_place : tuple of int
        The inputs that the first output may be.
    """

    kernel: str
    make: Callable[[Draw, int], Case]
    tolerance: float | tuple[float, float] = 4
    special: tuple[float, ...] = ()
    in_place: tuple[int, ...] = ()
    variant: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.kernel}-{self.variant}" if self.variant else self.kernel


def wide(*arrays: np.ndarray | None) -> list[Any]:
    """The floating arrays in double precision."""
    return [
        a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays
    ]


def finite_magnitude(x: np.ndarray) -> np.ndarray:
    """|x| in double precision, 0 where x is not finite."""
    return np.where(np.isfinite(x), np.abs(x.astype(np.float64)), 0)


# Element by element and row by row -------------------------------------------------------------


def forward(name: str, draw: Draw, size: int, *options: float) -> Case:
    x = draw.normal(3, size, scale=3)
    y = getattr(reference, f"{name}_forward")(*wide(x), *options)
    return Case((x,), (y,), (size,), options, 3, scale=(1 if name == "log_softmax" else 0,))


def backward(name: str, draw: Draw, size: int, *options: float) -> Case:
    dy, saved = draw.normal(3, size), draw.normal(3, size, scale=3)
    if name not in ("gelu", "gelu_tanh", "silu"):  # they save the input, the others the output
        twin = getattr(reference, f"{name}_forward")
        saved = twin(*wide(saved), *options).astype(draw.dtype)
    dx = getattr(reference, f"{name}_backward")(*wide(dy, saved), *options)
    # slopes cancel near their zeros, and the softmaxes subtract what the row has in common
    scale = finite_magnitude(dy)
    if "softmax" in name:
        scale = scale.max(axis=1, keepdims=True, initial=0)
    return Case((dy, saved), (dx,), (size,), options, 3, scale=(scale,))


def add(draw: Draw, size: int) -> Case:
    a, b = draw.normal(3, size), draw.normal(3, size)
    return Case((a, b), (reference.add_forward(*wide(a, b)),), (size,), (), 3)


def copy(draw: Draw, size: int) -> Case:
    x, y = draw.normal(4, size + 5), draw.normal(4, size + 3)
    expected = reference.copy_columns(y, x, size, y_start=1, x_start=2)
    return Case((x,), (expected,), (size, size + 3, size + 5, 1, 2), (), 4, initial=(y,))


def gather(draw: Draw, size: int) -> Case:
    x, index = draw.normal(7, size), draw.integers(7, 11)
    expected = reference.gather_rows(x, index)
    return Case((x, index), (expected,), (size * draw.dtype.itemsize,), (), 11)


def square_sum(draw: Draw, size: int) -> Case:
    x = draw.normal(3 * size)
    sums = np.array(reference.square_sum(x))
    return Case((x,), (sums,), items=3 * size, initial=(np.zeros(2),))


def dropout(draw: Draw, size: int) -> Case:
    x = draw.normal(3, size)
    state = draw.rng.integers(0, 2**64, 2, np.uint64)
    y, mask = reference.dropout_forward(*wide(x), 0.3, int(state[0]), int(state[1]))
    return Case((x, state), (y, mask), (size,), (0.3,), 3, scale=(0, 0))


def dropout_back(draw: Draw, size: int) -> Case:
    dy, mask = draw.normal(3, size), draw.integers(2, 3, size).astype(np.uint8)
    dx = reference.dropout_backward(*wide(dy), mask, 0.3)
    return Case((dy, mask), (dx,), (size,), (0.3,), 3)


EDGES = (0.0, -0.0, *NON_FINITE, 1e-42, -1e-42, 5e-324, 3e38, -3e38, 1e-30, 88.0, -104.0, 700.0)
FINITE_EDGES = tuple(value for value in EDGES if np.isfinite(value))


def activation(name: str, tolerance: Any, *options: float, special: Any = EDGES) -> list[Row]:
    """The rows of a pair of kernels."""
    twins = (partial(forward, name), partial(backward, name))
    calls = [lambda draw, size, twin=twin: twin(draw, size, *options) for twin in twins]
    return [
        Row(f"{name}_forward", calls[0], tolerance, special, in_place=(0,)),
        Row(f"{name}_backward", calls[1], tolerance, special, in_place=(0, 1)),
    ]


ELEMENTWISE = [
    *activation("relu", 0),
    *activation("leaky_relu", 1, 0.3),
    *activation("sigmoid", 4),
    *activation("tanh", 4),
    # the twins are ∞ · 0 at -∞ and, far out, no better than the rounding of x² / 2 in double
    *activation("gelu", (4, 400), special=FINITE_EDGES),
    *activation("gelu_tanh", (4, 400), special=FINITE_EDGES),
    *activation("silu", 8, special=FINITE_EDGES),
    Row("exp_forward", partial(forward, "exp"), 4, EDGES, in_place=(0,)),
    Row("add_forward", add, 1, EDGES, in_place=(0, 1)),
    *activation("softmax", 12, special=NON_FINITE),
    *activation("log_softmax", 8, special=NON_FINITE),
    Row("copy_columns", copy, 0, EDGES),
    Row("gather_rows", gather, 0, EDGES),
    Row("square_sum", square_sum, 8),
    Row("dropout_forward", dropout, 2, NON_FINITE, in_place=(0,)),
    Row("dropout_backward", dropout_back, 2, NON_FINITE, in_place=(0,)),
]


# Matrix products -------------------------------------------------------------------------------
#
# `where` says which of the three sizes of a product runs through SIZES, or among which others:
# few rows and large matrices are computed in ways of their own.


def product_sizes(where: str, size: int) -> tuple[int, int, int]:
    sizes = {"rows": (size, 9, 5), "in": (5, size, 19), "out": (13, 7, size)}
    return (sizes | {"few": (3, size, 70), "large": (60, size, 300)})[where]


def linear(draw: Draw, size: int, where: str, has_bias: bool) -> Case:
    rows, ins, outs = product_sizes(where, size)
    x, weight = draw.normal(rows, ins), draw.normal(outs, ins)
    bias = draw.normal(outs) if has_bias else None
    y = reference.linear_forward(*wide(x, weight, bias))
    scale = magnitude(reference.linear_forward, x, weight, bias)
    return Case((x, weight, bias), (y,), (ins, outs), (), rows, scale=(scale,))


def linear_input(draw: Draw, size: int, where: str, accumulate: bool) -> Case:
    rows, ins, outs = product_sizes(where, size)
    dy, weight = draw.normal(rows, outs), draw.normal(outs, ins)
    dx = reference.linear_backward_input(*wide(dy, weight))
    scale = magnitude(reference.linear_backward_input, dy, weight)
    case = Case((dy, weight), (dx,), (ins, outs), (), rows, scale=(scale,))
    return accumulated(draw, case) if accumulate else case


def linear_weight(draw: Draw, size: int, where: str, accumulate: bool) -> Case:
    rows, ins, outs = product_sizes(where, size)
    dy, x = draw.normal(rows, outs), draw.normal(rows, ins)
    gradients = reference.linear_backward_weight(*wide(dy, x))
    scale = magnitude(reference.linear_backward_weight, dy, x)
    case = Case((dy, x), gradients, (ins, outs, rows), (), outs, scale=scale)
    return accumulated(draw, case) if accumulate else case


def matmul(
    draw: Draw, size: int, where: str, order_a: str, order_b: str, accumulate: bool = False
) -> Case:
    rows, k, columns = product_sizes(where, size)
    a, b = draw.normal(rows, k), draw.normal(k, columns)
    c = reference.matmul(*wide(a, b))
    strides = (*matrix_strides(rows, k, order_a), *matrix_strides(k, columns, order_b))
    # memory holds a matrix of order "F" as its transpose
    memory = tuple(m if order == "C" else m.T.copy() for m, order in ((a, order_a), (b, order_b)))
    scale = magnitude(reference.matmul, a, b)
    case = Case(memory, (c,), (columns, k, *strides), (), rows, scale=(scale,))
    return accumulated(draw, case) if accumulate else case


def matrix_strides(rows: int, columns: int, order: str) -> tuple[int, int]:
    return (columns, 1) if order == "C" else (1, rows)


def magnitude(product: Callable[..., Any], *arrays: np.ndarray | None) -> Any:
    """The sum of the absolute values of a product's terms, which bounds its rounding error."""
    return product(*[a if a is None else finite_magnitude(a) for a in arrays])


def accumulated(draw: Draw, case: Case) -> Case:
    initial = tuple(draw.normal(*y.shape) for y in case.expected)
    expected = tuple(y + start for y, start in zip(case.expected, wide(*initial), strict=True))
    scale = tuple(s + finite_magnitude(i) for s, i in zip(case.scale, initial, strict=True))
    return replace(case, initial=initial, expected=expected, scale=scale, accumulate=True)


def products() -> list[Row]:
    """The rows of all products; errors grow no faster than the square root of the terms."""
    rows = []
    for where in ("rows", "in", "out", "few", "large"):
        for flag in (False, True):
            bias, sums = ("bias" if flag else ""), ("accumulate" if flag else "")
            rows += [
                Row("linear_forward", partial(linear, where=where, has_bias=flag), 4, NON_FINITE,
                    variant=f"{where}{bias}"),
                Row("linear_backward_input", partial(linear_input, where=where, accumulate=flag),
                    4, NON_FINITE, variant=f"{where}{sums}"),
                Row("linear_backward_weight", partial(linear_weight, where=where, accumulate=flag),
                    4, NON_FINITE, variant=f"{where}{sums}"),
            ]  # fmt: skip
        rows += [
            Row("matmul", partial(matmul, where=where, order_a=a, order_b=b), 4, NON_FINITE,
                variant=f"{where}{a}{b}")
            for a in "CF" for b in "CF"
        ]  # fmt: skip
    rows.append(
        Row("matmul", partial(matmul, where="rows", order_a="C", order_b="F", accumulate=True),
            4, NON_FINITE, variant="accumulate")
    )  # fmt: skip
    return rows


# Normalization ---------------------------------------------------------------------------------


def affine(draw: Draw, channels: int, wanted: bool) -> tuple[np.ndarray | None, ...]:
    return (draw.positive(channels), draw.normal(channels)) if wanted else (None, None)


def statistics(x: np.ndarray, axis: Any, eps: float) -> tuple[np.ndarray, ...]:
    """mean, tail and rstd as a forward kernel saves them."""
    exact = x.astype(np.float64)
    mean, rstd = exact.mean(axis=axis), 1 / np.sqrt(exact.var(axis=axis) + eps)
    head = mean.astype(x.dtype)
    return head, (mean - head).astype(x.dtype), rstd.astype(x.dtype)


def layer_norm(draw: Draw, size: int, has_affine: bool, shift: float = 0) -> Case:
    cols = max(size, 1)
    x, pair = draw.normal(3, cols) + draw.dtype.type(shift), affine(draw, cols, has_affine)
    expected = reference.layer_norm_forward(*wide(x, *pair), eps=1e-3)
    scale = (2, 1 + np.abs(shift), 1 + np.abs(shift), 0)
    return Case((x, *pair), expected, (cols,), (1e-3,), 3, scale=scale)


def layer_norm_input(draw: Draw, size: int, has_affine: bool, shift: float = 0) -> Case:
    cols = max(size, 1)
    dy, x = draw.normal(3, cols), draw.normal(3, cols) + draw.dtype.type(shift)
    weight, saved = affine(draw, cols, has_affine)[0], statistics(x, 1, 1e-3)
    dx = reference.layer_norm_backward(*wide(dy, x, weight, *saved))
    return Case((dy, x, weight, *saved), (dx,), (cols,), (), 3, scale=(3 * saved[2][:, None],))


def layer_norm_weight(draw: Draw, size: int, accumulate: bool) -> Case:
    rows, cols = 7, size
    dy, x = draw.normal(rows, cols), draw.normal(rows, cols)
    saved = draw.normal(rows), draw.normal(rows, scale=1e-3), draw.positive(rows)
    gradients = reference.layer_norm_backward_weight(*wide(dy, x, *saved))
    case = Case((dy, x, *saved), gradients, (cols, rows), (), cols, scale=(4 * rows, 4 * rows))
    return accumulated(draw, case) if accumulate else case


def batch_shape(size: int, along: str) -> tuple[int, int, int]:
    """rows, channels and length"""
    shapes = {"rows": (size + 2, 5, 1), "channels": (5, size, 1), "length": (3, 4, size + 1)}
    return shapes[along]


def batch_norm(draw: Draw, size: int, along: str, has_affine: bool, shift: float = 0) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    x, pair = draw.normal(*shape) + draw.dtype.type(shift), affine(draw, channels, has_affine)
    running = draw.normal(channels), draw.positive(channels)
    expected = reference.batch_norm_forward(*wide(*running, x, *pair), eps=1e-3, momentum=0.3)
    initial = (*[np.zeros_like(y) for y in expected[:4]], *running)
    sizes, scale = (channels, length, rows), (2, *[1 + np.abs(shift)] * 2, 0, 1 + np.abs(shift), 1)
    return Case((x, *pair), expected, sizes, (1e-3, 0.3), channels, initial, scale)


def batch_norm_input(
    draw: Draw, size: int, along: str, has_affine: bool, accumulate: bool = False
) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    dy, x = draw.normal(*shape), draw.normal(*shape) + draw.dtype.type(100)
    weight, saved = affine(draw, channels, has_affine)[0], statistics(x, (0, 2), 1e-3)
    dx, *sums = reference.batch_norm_backward(*wide(dy, x, weight, *saved))
    initial = [draw.normal(channels) * accumulate for _ in sums]
    expected = (dx, *[y + start for y, start in zip(sums, wide(*initial), strict=True)])
    terms = 4 * rows * length
    return Case(
        (dy, x, weight, *saved), expected, (channels, length, rows), (), channels,
        (np.zeros_like(dx), *initial), (3 * saved[2][:, None], terms, terms), accumulate,
    )  # fmt: skip


def batch_norm_inference(draw: Draw, size: int, along: str, has_affine: bool) -> Case:
    rows, channels, length = shape = batch_shape(size, along)
    x, running = draw.normal(*shape), (draw.normal(channels), draw.positive(channels))
    pair = affine(draw, channels, has_affine)
    y = reference.batch_norm_inference(*wide(x, *running, *pair), eps=1e-3)
    return Case((x, *running, *pair), (y,), (channels, length), (1e-3,), rows, scale=(2,))


def normalizations() -> list[Row]:
    """The rows of layer and batch normalization, with and without weights."""
    rows = []
    for flag in (False, True):
        weight, sums = ("weight" if flag else "plain"), ("accumulate" if flag else "plain")
        rows += [
            Row("layer_norm_forward", partial(layer_norm, has_affine=flag), 8, variant=weight),
            Row("layer_norm_backward", partial(layer_norm_input, has_affine=flag), 8,
                variant=weight),
            Row("layer_norm_backward_weight", partial(layer_norm_weight, accumulate=flag), 8,
                variant=sums),
        ]  # fmt: skip
        for along in ("rows", "channels", "length"):
            options: dict[str, Any] = {"along": along, "has_affine": flag}
            rows += [
                Row("batch_norm_forward", partial(batch_norm, **options), 8,
                    variant=f"{along}-{weight}"),
                Row("batch_norm_backward", partial(batch_norm_input, **options, accumulate=flag), 8,
                    variant=f"{along}-{weight}"),
                Row("batch_norm_inference", partial(batch_norm_inference, **options), 8,
                    variant=f"{along}-{weight}"),
            ]  # fmt: skip
    # where a mean in float32 costs three digits, which it does cost the twin in double
    far, tolerance = {"shift": 1000.0, "has_affine": True}, (8, 6000)
    return [
        *rows,
        Row("layer_norm_forward", partial(layer_norm, **far), tolerance, variant="far"),
        Row("layer_norm_backward", partial(layer_norm_input, **far), tolerance, variant="far"),
        Row("batch_norm_forward", partial(batch_norm, along="rows", **far), tolerance,
            variant="far"),
    ]  # fmt: skip


# Losses ----------------------------------------------------------------------------------------


def loss(
    name: str,
    draw: Draw,
    size: int,
    weighted: bool = False,
    column: bool = False,
    class_weighted: bool = False,
    label_smoothing: float = 0.0,
    ignore: bool = False,
) -> Case:
    """A loss for (3, size) predictions, or for (size, 1) with `column`."""
    rows, cols = (size, 1) if column else (3, size)
    pred, weight = draw.normal(rows, cols, scale=3), draw.positive(rows) if weighted else None
    scale, sizes, classes = 0.7, (cols,), ()
    options: dict[str, Any] = {"scale": scale}
    if name == "cross_entropy":
        target = draw.integers(max(cols, 1), rows)
        options["ignore_index"] = int(target[0]) if ignore and rows else None
        sizes = (cols, ignore, options["ignore_index"] or 0)
    elif name == "cross_entropy_probabilities":
        target = reference.softmax_forward(draw.normal(rows, cols))
    elif name == "binary_cross_entropy_with_logits":
        target = draw.rng.random((rows, cols)).astype(draw.dtype)
    else:
        target = draw.normal(rows, cols, scale=3)
    scalars: tuple[float, ...] = (scale,)
    if name == "huber":
        options["delta"] = 1.3
        scalars = (scale, 1.3)
    if name.startswith("cross_entropy"):
        classes = (draw.positive(cols) if class_weighted else None,)
        options |= {"class_weight": wide(*classes)[0], "label_smoothing": label_smoothing}
        scalars = (scale, label_smoothing)
    inputs = (pred, target, weight)
    expected = getattr(reference, f"{name}_loss")(*wide(*inputs), **options)
    return Case((*inputs, *classes), expected, sizes, scalars, rows, scale=(2 * cols, 1))


def losses() -> list[Row]:
    """The rows of all losses: by rows, by single elements and weighted."""
    rows = []
    for name in ("mse", "l1", "huber", "binary_cross_entropy_with_logits"):
        for column in (False, True):
            for weighted in (False, True):
                make = partial(loss, name, column=column, weighted=weighted)
                variant = ("column" if column else "rows") + ("weighted" if weighted else "")
                rows.append(Row(f"{name}_loss", make, 8, NON_FINITE, variant=variant))
    for name in ("cross_entropy", "cross_entropy_probabilities"):
        variants: dict[str, dict[str, Any]] = {
            "plain": {},
            "weighted": {"weighted": True, "class_weighted": True},
            "smooth": {"label_smoothing": 0.2},
            "smooth-weighted": {"label_smoothing": 0.2, "weighted": True, "class_weighted": True},
        }
        if name == "cross_entropy":
            variants["ignore"] = {"ignore": True, "label_smoothing": 0.2}
        for variant, options in variants.items():
            make = partial(with_classes, partial(loss, name, **options))
            rows.append(Row(f"{name}_loss", make, 12, (np.nan, np.inf), variant=variant))
    return rows


def with_classes(make: Callable[[Draw, int], Case], draw: Draw, size: int) -> Case:
    """There is no label without a class."""
    return make(draw, max(size, 1))


TABLE = [*ELEMENTWISE, *products(), *normalizations(), *losses()]
