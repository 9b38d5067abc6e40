"""Writes the cases of the kernel table to a file, which `kernels.c` runs where there is no Python.

Each has what the kernel's twin in NumPy computes in double precision and how far from it each
output may be, as `test_kernels.py` compares them. Kernels of optimizers are compared with those of
the instruction set "base" here, which the tests of optimizers compare with their twins.

Usage: python -m tests.c.cases FILE, in the project's folder.
"""

import struct
import sys
import zlib
from typing import Any, BinaryIO

import numpy as np

from fastnn._kernels import core
from tests.conftest import DTYPES, INSTRUCTION_SETS
from tests.kernels import TABLE
from tests.kernels.table import Draw
from tests.test_same_bits import SAME

SIZES = (1, 7, 17, 65)
ITEMS = (1, 17, 600)  # of optimizers, whose 8-bit states come in blocks of 256
CODES = {"f": 0, "d": 1, "B": 2, "H": 3, "l": 4, "q": 4, "L": 4, "Q": 4}


def write(
    file: BinaryIO, register: int, call: dict[str, Any], outputs: list[Any], pointers: list[Any]
) -> None:
    """Write a call: its outputs as (at first, expected, allowed), then what is only read."""
    file.write(struct.pack("<64s8i", call["kernel"].encode(), call["double"], register,
                           len(outputs), len(pointers), call["accumulate"], call["items"],
                           call["updates"], call["same_bits"]))
    file.write(struct.pack("<8q", *call["sizes"], *[0] * (8 - len(call["sizes"]))))
    file.write(struct.pack("<10d", *call["scalars"], *[0.0] * (10 - len(call["scalars"]))))
    for first, want, allowed in outputs:
        if first is None:
            file.write(struct.pack("<2q", -1, 0))
            continue
        file.write(struct.pack("<2q", CODES[first.dtype.char], first.size))
        file.write(first.tobytes())
        file.write(np.asarray(want, np.float64).tobytes())
        file.write(np.asarray(allowed, np.float64).tobytes())
    for array in pointers:
        given = b"" if array is None else np.ascontiguousarray(array).tobytes()
        file.write(struct.pack("<2q", -(array is None), len(given)))
        file.write(given)


def of_table(file: BinaryIO, row: Any, dtype: np.dtype, size: int, register: int) -> None:
    """Write the case of a row of the kernel table."""
    draw = Draw(np.random.default_rng(size), dtype, ())
    with np.errstate(all="ignore"):
        case = row.make(draw, size)
    if case.items == 0:
        return
    single, double = row.tolerance if isinstance(row.tolerance, tuple) else (row.tolerance,) * 2
    ulps = single if dtype == np.float32 else double
    starts = case.initial or [np.zeros(y.shape) for y in case.expected]
    scales, outputs = (*case.scale, *[0] * len(starts)), []
    for start, want, scale in zip(starts, case.expected, scales, strict=False):
        own = want.dtype.kind != "f" or row.kernel == "square_sum"
        kind = want.dtype if own else dtype
        limits = np.finfo(kind if kind.kind == "f" else dtype)
        want = want.astype(kind).astype(np.float64)
        size_of = np.abs(np.nan_to_num(want)) + scale
        allowed = np.broadcast_to(
            ulps * (limits.eps * size_of + limits.smallest_subnormal), want.shape
        )
        outputs.append((np.ascontiguousarray(start, kind), want, allowed))
    call = {"kernel": row.kernel, "double": dtype.itemsize == 8, "accumulate": case.accumulate,
            "updates": case.initial is not None, "items": case.items, "sizes": case.sizes,
            "scalars": case.scalars, "same_bits": row in SAME}  # fmt: skip
    write(file, register, call, outputs, list(case.inputs))


def of_optimizer(file: BinaryIO, name: str, dtype: np.dtype, items: int) -> None:
    """Write a call of an optimizer's kernel, with all its states."""
    rng, contract = np.random.default_rng([items, zlib.crc32(name.encode())]), core.contract(name)
    stored = name.rpartition("_")[2]
    kinds = {"bfloat16": np.uint16, "int8": np.uint8}
    arrays: list[np.ndarray | None] = [rng.standard_normal(items).astype(dtype) for _ in range(2)]
    states = min(contract.pointers - 2, 3)
    for _ in range(states):
        values = rng.uniform(0.1, 1, items).astype(dtype)
        if stored == "bfloat16":
            values = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        elif stored == "int8":
            values = np.zeros(-(-items // 256) * 256, np.uint8)  # whole blocks
            values[:items] = rng.integers(1, 128, items, np.uint8)
        arrays.append(values)
    if contract.pointers >= 8:
        arrays += [None] * (8 - len(arrays))
    if stored == "int8":
        for k in range(states):
            arrays[5 + k] = np.full(-(-items // 256), 0.5, np.float32)
    if contract.pointers == 10:
        arrays[8:] = [np.zeros(2), None]
    arrays += [None] * (contract.pointers - len(arrays))
    scalars = (1.0, 0.01, 0.1, *[0.9] * (contract.scalars - 3))
    sizes = (3, 0) if stored in kinds else ()
    after = [a if a is None else a.copy() for a in arrays]
    core.select_isa("base")
    core.call(name, dtype, tuple(after), sizes, scalars, items)
    outputs: list[Any] = []
    rounded = np.float32 if sizes else dtype  # stored states are computed in float32
    for first, want in zip(arrays, after, strict=True):
        if want is None:
            allowed = None
        elif want.dtype.kind == "u":
            allowed = np.ones(want.shape)  # a code may be rounded the other way
        else:
            allowed = 64 * np.finfo(rounded).eps * np.maximum(1, np.abs(want))
        outputs.append((first, want, allowed))
    call = {"kernel": name, "double": dtype.itemsize == 8, "accumulate": False, "updates": True,
            "items": items, "sizes": sizes, "scalars": scalars, "same_bits": True}  # fmt: skip
    write(file, 0, call, outputs, [])


def main(path: str) -> None:
    """Write all cases; the first eight bytes tell how many kernels they are of."""
    rows = {row.kernel for row in TABLE}
    rules = [name for name in core.kernel_names() if name not in rows]
    with open(path, "wb") as file:
        file.write(struct.pack("<q", len(rows) + len(rules)))
        for dtype in DTYPES:
            for row in TABLE:
                registers = {}
                for isa in INSTRUCTION_SETS if row.by_register else INSTRUCTION_SETS[-1:]:
                    core.select_isa(isa)
                    registers[core.vector_bytes() if row.by_register else 0] = isa
                for register, isa in registers.items():
                    core.select_isa(isa)
                    for size in SIZES:
                        of_table(file, row, dtype, size, register)
            for name in rules:
                for items in ITEMS:
                    of_optimizer(file, name, dtype, items)


if __name__ == "__main__":
    main(sys.argv[1])
