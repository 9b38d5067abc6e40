"""Sequences and statistics, forward + backward: fastnn against PyTorch.

Prints one line per case with PyTorch's time divided by ours, medians of interleaved rounds, and
the time of a single step of a stream::

    python bench/bench_sequence.py --threads 1
"""

import argparse
import os
import statistics
import time

LSTMS = {  # steps, batch, features, hidden: target
    (20, 1, 8, 16): 12,
    (50, 16, 16, 32): 4,
    (50, 32, 64, 64): 1.8,
    (100, 32, 64, 128): 1.6,
    (50, 64, 256, 256): 1.25,
    (35, 20, 650, 650): 1.3,
}
NORMS = {(32, 64): 3, (128, 768): 2, (2048, 768): 1.3}


def timed(run, times):
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def compare(ours, theirs, seconds):
    """Median times; the two take turns, so that a slow moment of the machine strikes both."""
    times = max(1, int(0.005 / min(timed(ours, 3), timed(ours, 3))))
    rounds, end = ([], []), time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[0]) < 5:
        rounds[0].append(timed(ours, times))
        rounds[1].append(timed(theirs, times))
    return [statistics.median(r) for r in rounds]


def pair(ours, theirs, shape, grad_shape):
    """Forward and backward of both on the same numbers, weights shared."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    dy = rng.standard_normal(grad_shape, np.float32)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    tx, tdy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run():
        ours.forward(x, training=True)
        ours.backward(dy)

    def run_torch():
        tx.grad = None
        theirs.zero_grad(set_to_none=True)
        y = theirs(tx)
        (y[0] if isinstance(y, tuple) else y).backward(tdy)

    return run, run_torch


def show(name, ours, theirs, target):
    print(f"{name:38} {ours * 1e6:10.1f} {theirs * 1e6:10.1f} us {theirs / ours:7.2f}  "
          f"(target {target})", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", choices=["lstm", "norm", "step"])
    options = parser.parse_args()
    for library in ("OMP", "MKL", "FASTNN"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.threads)
    import numpy as np
    import torch

    import fastnn

    torch.set_num_threads(options.threads)
    if options.only in (None, "norm"):
        for (rows, cols), target in NORMS.items():
            for name in ("LayerNorm", "BatchNorm1d"):
                runs = pair(getattr(fastnn, name)(cols), getattr(torch.nn, name)(cols),
                            (rows, cols), (rows, cols))
                show(f"{name} {rows}x{cols}", *compare(*runs, options.seconds), target)
    if options.only in (None, "lstm"):
        for (steps, batch, features, hidden), target in LSTMS.items():
            runs = pair(fastnn.LSTM(features, hidden),
                        torch.nn.LSTM(features, hidden, batch_first=True),
                        (batch, steps, features), (batch, steps, hidden))
            name = f"LSTM T={steps} batch={batch} {features}->{hidden}"
            show(name, *compare(*runs, options.seconds), target)
    if options.only in (None, "step"):
        rng = np.random.default_rng(0)
        shapes = ((1, 64), (1, 64), (1, 64), (256, 64), (256, 64), (256,))
        given = [rng.standard_normal(shape, np.float32) for shape in shapes]
        cell = torch.nn.LSTMCell(64, 64)
        x, h, c = map(torch.from_numpy, given[:3])

        def run_torch():
            with torch.no_grad():
                cell(x, (h, c))

        times = compare(lambda: fastnn.ops.lstm_step(*given), run_torch, options.seconds)
        show("lstm_step 64 units, batch 1", *times, "2 us")


if __name__ == "__main__":
    main()
