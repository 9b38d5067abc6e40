"""One row per kernel and variant: its arguments, what it must compute, and how closely.

A family has one file here, as everywhere. A new kernel joins with one row; :mod:`test_kernels` then
runs it for every instruction set, dtype, size and alignment, with ordinary and with special values.
"""

from . import activation, dropout, embedding, linear, loss, normalization, recurrent, rows, scale

FAMILIES = (
    activation, dropout, embedding, linear, loss, normalization, recurrent, rows, scale,
)  # fmt: skip
TABLE = [row for family in FAMILIES for row in family.ROWS]
