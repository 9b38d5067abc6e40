"""Activations, forward and backward, and softmax-cross-entropy."""

from collections.abc import Iterator

import numpy as np

from bench.operations import PLANES, Calls, activation, activations, cross_entropy
from bench.timing import Record, Run, loop, record


def elementwise(run: Run) -> Iterator[Record]:
    """Activations and softmax-cross-entropy"""
    for plane in run.some(PLANES[::-1], 1):
        operations = {"cross_entropy": cross_entropy(*plane)}
        for name in run.some(activations(), 3):
            operations |= activation(name, *plane)
        for name, calls in operations.items():
            peers = {library: call for library, call in calls.items() if library != "reference"}
            arrays = 3 if name.endswith("_backward") else 2
            agree(name, peers)
            yield record(
                f"{name} {plane[0]}x{plane[1]}",
                run.times({library: loop(call) for library, call in peers.items()}),
                target=1.1,
                limit=run.machine.seconds(0, 4 * arrays * plane[0] * plane[1]),
            )


def agree(name: str, calls: Calls) -> None:
    """See that all libraries compute the same: arrays, or a loss and its gradient."""
    results = {}
    for library, call in calls.items():
        result = call()
        results[library] = np.asarray(result[1] if isinstance(result, tuple) else result)
    for library, result in results.items():
        np.testing.assert_allclose(
            result, next(iter(results.values())), 1e-3, 1e-5, err_msg=f"{name}: {library}"
        )
