"""Matrix products.

`where` says which of the three sizes of a product runs through SIZES, or among which others: few
rows and large matrices are computed in ways of their own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import reference

from .table import NON_FINITE, Case, Draw, Row, accumulated, finite_magnitude, wide


def product_sizes(where: str, size: int) -> tuple[int, int, int]:
    sizes = {"rows": (size, 9, 5), "in": (5, size, 19), "out": (13, 7, size)}
    return (sizes | {"few": (3, size, 70), "large": (60, size, 300)})[where]


def as_read(narrow: bool, *arrays: np.ndarray) -> list[np.ndarray]:
    """The operands of a product in double precision, as bfloat16 if they are read so."""
    return wide(*(reference.round_bfloat16(a) if narrow else a for a in arrays))


def linear(draw: Draw, size: int, where: str, has_bias: bool, narrow: bool = False) -> Case:
    rows, ins, outs = product_sizes(where, size)
    x, weight = draw.normal(rows, ins), draw.normal(outs, ins)
    bias = draw.normal(outs) if has_bias else None
    y = reference.linear_forward(*as_read(narrow, x, weight), *wide(bias))
    scale = magnitude(reference.linear_forward, x, weight, bias)
    return Case((x, weight, bias), (y,), (ins, outs), (), rows, scale=(scale,))


def whole_lines(outs: int, dtype: np.dtype[Any]) -> int:
    """Columns of packed weights, in lines of 64 bytes."""
    lanes = 64 // dtype.itemsize
    return -(-outs // lanes) * lanes


def pack(draw: Draw, size: int) -> Case:
    weight = draw.normal(size, 7)
    packed = reference.linear_pack(*wide(weight), whole_lines(size, draw.dtype))
    return Case((weight,), (packed,), (7, size), (), 7)


def packed(draw: Draw, size: int, where: str, has_bias: bool) -> Case:
    rows, ins, outs = product_sizes(where, size)
    x, weight, bias = draw.normal(rows, ins), draw.normal(outs, ins), draw.normal(outs)
    bias = bias if has_bias else np.zeros_like(bias)
    given = x, reference.linear_pack(weight, whole_lines(outs, draw.dtype)), bias
    y, scale = reference.linear_packed(*wide(*given)), magnitude(reference.linear_packed, *given)
    return Case((*given[:2], bias if has_bias else None), (y,), (ins, outs), (), rows,
                scale=(scale,))  # fmt: skip


def linear_input(
    draw: Draw, size: int, where: str, accumulate: bool, narrow: bool = False
) -> Case:
    rows, ins, outs = product_sizes(where, size)
    dy, weight = draw.normal(rows, outs), draw.normal(outs, ins)
    dx = reference.linear_backward_input(*as_read(narrow, dy, weight))
    scale = magnitude(reference.linear_backward_input, dy, weight)
    case = Case((dy, weight), (dx,), (ins, outs), (), rows, scale=(scale,))
    return accumulated(draw, case) if accumulate else case


def linear_weight(
    draw: Draw, size: int, where: str, accumulate: bool, narrow: bool = False
) -> Case:
    rows, ins, outs = product_sizes(where, size)
    dy, x = draw.normal(rows, outs), draw.normal(rows, ins)
    dweight, _ = reference.linear_backward_weight(*as_read(narrow, dy, x))
    gradients = dweight, wide(dy)[0].sum(0)
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


def products() -> list[Row]:
    """The rows of all products; errors grow no faster than the square root of the terms."""
    rows = [Row("linear_pack", pack, 0)]
    for where in ("rows", "in", "out", "few", "large"):
        for flag in (False, True):
            bias, sums = ("bias" if flag else ""), ("accumulate" if flag else "")
            rows.append(
                Row("linear_packed", partial(packed, where=where, has_bias=flag), 4, NON_FINITE,
                    variant=f"{where}{bias}")
            )  # fmt: skip
            for narrow, suffix in ((False, ""), (True, "_bfloat16")):
                options = {"where": where, "narrow": narrow}
                rows += [
                    Row(f"linear_forward{suffix}", partial(linear, has_bias=flag, **options),
                        4, NON_FINITE, variant=f"{where}{bias}"),
                    Row(f"linear_backward_input{suffix}",
                        partial(linear_input, accumulate=flag, **options),
                        4, NON_FINITE, variant=f"{where}{sums}"),
                    Row(f"linear_backward_weight{suffix}",
                        partial(linear_weight, accumulate=flag, **options),
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


ROWS = products()
