"""A guard that noise cannot fool: instructions of kernels and of tiny steps, beside stored numbers.

    python -m bench.instructions            # fails where one has grown by more than 5 %
    python -m bench.instructions --store    # the numbers of now, to be committed with a reason

valgrind counts what C executes inside the functions of COUNTED, on one thread with the kernels for
v3: nothing of Python, the same numbers every time. Another compiler makes other code, so that
numbers are only compared with those of the same one.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.libraries import compiler

STORED = Path(__file__).with_suffix(".json")
# Functions in which instructions count, none of which calls another: a run, a frozen run, and the
# kernel that is called without one
COUNTED = ("fastnn_execute", "fastnn_frozen_run", "lstm_step_f32")
ALLOWED = 1.05  # times the stored number


def cases() -> dict[str, Callable[[], object]]:
    """Return what is counted: main kernels through `fastnn.ops`, and steps of tiny networks."""
    import numpy as np

    import fastnn
    from bench.networks import STEPS
    from bench.peers import FastNN
    from fastnn import losses, ops

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    x, dy, weight, bias = normal(128, 256), normal(128, 128), normal(128, 256), normal(128)
    gain, shift = normal(256), normal(256)
    _, mean, rstd = ops.layer_norm(x, gain, shift)
    h, c = normal(1, 64), normal(1, 64)
    recurrent = h, h, c, normal(256, 64), normal(256, 64), normal(256)
    labels = rng.integers(0, 128, 128)
    optimizer, gradient = fastnn.optim.Adam([normal(10_000)]), normal(10_000)
    predictor = FastNN(STEPS[0], STEPS[0].initial_weights()).model.predictor()
    one, out = normal(1, 4), np.empty((1, 2), np.float32)
    found: dict[str, Callable[[], object]] = {
        "linear": partial(ops.linear, x, weight, bias),
        "linear, gradient of the weight": partial(ops.matmul, dy.T, x),
        "linear, gradient of the input": partial(ops.matmul, dy, weight),
        "layer_norm": partial(ops.layer_norm, x, gain, shift),
        "layer_norm_backward": partial(ops.layer_norm_backward, x, x, gain, mean, rstd),
        "gelu": partial(ops.gelu, x),
        "gelu_backward": partial(ops.gelu_backward, x, x),
        "tanh": partial(ops.tanh, x),
        "softmax": partial(ops.softmax, x),
        "cross_entropy": partial(losses.cross_entropy, dy, labels),
        "lstm_step": partial(ops.lstm_step, *recurrent),
        "adam": partial(optimizer.step, [gradient]),
        "prediction of a row, 4-64-64-2": partial(predictor, one, out=out),
    }
    for network in STEPS[:2]:
        peer = FastNN(network, network.initial_weights())
        found[f"step of {network}"] = partial(peer.step, *network.data())
    layer = fastnn.LSTM(16, 32, rng=0)
    sequence = normal(16, 10, 16)
    found["LSTM, 10 steps"] = partial(layer.forward, sequence, training=True)
    return found


def work(library: str) -> None:
    """Make each call once as it comes, then once while callgrind counts."""
    callgrind = ctypes.CDLL(library)
    for name, call in cases().items():
        call()  # plans and allocates
        callgrind.begin()
        call()
        callgrind.end(name.encode())


def count() -> dict[str, int]:
    """Return the instructions of each case."""
    with tempfile.TemporaryDirectory() as folder:
        library, out = str(Path(folder, "callgrind.so")), str(Path(folder, "out"))
        source = str(Path(__file__).with_suffix(".c"))
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"]
        command += [f"--toggle-collect={function}" for function in COUNTED]
        command += [f"--callgrind-out-file={out}", sys.executable, "-m", "bench.instructions"]
        limits = {"FASTNN_ISA": "v3", "FASTNN_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        limits |= {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"}
        run = partial(subprocess.run, check=True, stderr=subprocess.PIPE, text=True)
        run([*command, "--worker", library], env=os.environ | limits)
        found = {}
        for number in range(1, len(list(Path(folder).glob("out.*"))) + 1):
            text = Path(f"{out}.{number}").read_text()
            if name := re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M):
                found[name[1]] = int(re.search(r"^(?:totals|summary): (\d+)", text, re.M)[1])
    return found


def main() -> None:
    """Count, and compare or store."""
    parser = argparse.ArgumentParser("python -m bench.instructions", description=__doc__)
    parser.add_argument("--store", action="store_true", help="store the numbers of now")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    if not shutil.which("valgrind") or platform.machine() != "x86_64":
        print("instructions: not counted, for want of valgrind on an x86-64 processor")
        return
    stored = json.loads(STORED.read_text())
    from fastnn._kernels import core

    used = compiler(core.__file__)
    if not options.store and stored["compiler"] != used:
        print(f"instructions: not compared, stored for {stored['compiler']}, here {used}")
        return
    found = count()
    if options.store:
        text = json.dumps({"compiler": used, "instructions": found}, indent=1)
        STORED.write_text(text + "\n")
    more, less = [], []
    for name, number in found.items():
        before = stored["instructions"].get(name)
        change = f"{number / before - 1:+.1%}" if before else "new"
        print(f"{name:32}{number:>12,}{change:>9}")
        if not before or number > ALLOWED * before:
            more.append(name)
        elif number < before / ALLOWED:
            less.append(name)
    if less and not options.store:
        print(f"To hold what was gained ({'; '.join(less)}): python -m bench.instructions --store")
    if more and not options.store:
        sys.exit(
            f"instructions: {'; '.join(more)}: more than {ALLOWED - 1:.0%} above the number in "
            f"{STORED.name}, or not in it. If so it has to be: python -m bench.instructions --store"
        )


if __name__ == "__main__":
    main()
