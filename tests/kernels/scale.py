"""A factor for each feature."""

from functools import partial

from fastnn import reference

from .table import Case, Draw, Row, accumulated, wide


def forward(draw: Draw, size: int) -> Case:
    x, weight = draw.normal(3, size), draw.normal(size)
    return Case((x, weight), (reference.scale_forward(*wide(x, weight)),), (size,), (), 3)


def weight(draw: Draw, size: int, accumulate: bool) -> Case:
    rows = 7
    dy, x = draw.normal(rows, size), draw.normal(rows, size)
    dweight = reference.scale_backward_weight(*wide(dy, x))
    case = Case((dy, x), (dweight,), (size, rows), (), size, scale=(rows,))
    return accumulated(draw, case) if accumulate else case


ROWS = [
    Row("scale_forward", forward, 1),
    *(
        Row("scale_backward_weight", partial(weight, accumulate=flag), 8,
            variant="accumulate" if flag else "plain")
        for flag in (False, True)
    ),
]  # fmt: skip
