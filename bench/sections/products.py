"""Matrix products of a linear layer."""

from collections.abc import Iterator

import numpy as np

from bench.operations import PRODUCTS, products
from bench.timing import Record, Run, loop, record


def gemm_target(size: int) -> float:
    """Return how many times as fast as the best of the others a product is meant to be."""
    return 1.3 if size <= 32 * 64 * 64 else 1.03


def gemm(run: Run) -> Iterator[Record]:
    """Matrix products into an existing array: forward, gradient of the weight, of the input"""
    for dtype in run.some(("float32", "float64"), 1):
        for batch, ins, outs in run.some(PRODUCTS[::-1], 3):
            size = batch * ins * outs
            moved = np.dtype(dtype).itemsize * (batch * ins + ins * outs + batch * outs)
            for form, calls in products(batch, ins, outs, dtype).items():
                results = [np.asarray(call()) for call in calls.values()]
                for result in results[1:]:
                    np.testing.assert_allclose(result, results[0], 1e-3, 1e-3 * ins**0.5)
                yield record(
                    f"{form} {batch},{ins},{outs} {dtype}",
                    run.times({name: loop(call) for name, call in calls.items()}),
                    target=gemm_target(size),
                    limit=run.machine.seconds(2 * size, moved, dtype),
                )
