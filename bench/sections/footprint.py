"""What a library costs beside time: memory, its import, its size on disk."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files, requires
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import fastnn
from bench.environment import STATISTICS
from bench.timing import Record, Run, record

ALONE = "NumPy alone"  # which fastnn needs as well
IMPORTS = {"fastnn": "fastnn", ALONE: "numpy", "torch": "torch", "jax": "jax",
           "sklearn": "sklearn.neural_network"}  # fmt: skip
DISTRIBUTIONS = {"fastnn": "fastnn-cpu", "torch": "torch", "jax": "jax", "sklearn": "scikit-learn"}
# Not of getrusage, which knows of the process that this one was forked from
PEAK = "print(1024 * int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))"
TRAIN = """
from bench.networks import Network
from bench import peers
network = Network((784, 256, 128, 10), 128)
peer = peers.{}(network, network.initial_weights())
peer.run(*peer.convert(*network.data()), 100)
"""
PEERS = {"fastnn": "FastNN", ALONE: "NumPy", "torch": "PyTorch", "jax": "JAX"}


def memory(run: Run) -> Iterator[Record]:
    """Memory of a process at its most"""
    if not STATISTICS.exists():
        return
    there = [name for name in PEERS if find_spec(IMPORTS[name])]
    found = {name: printed(f"import {IMPORTS[name]}; {PEAK}") for name in there}
    yield record("after the import", found)
    found = {name: printed(f"{TRAIN.format(PEERS[name])}\n{PEAK}") for name in there}
    yield record("after 100 steps of 784-256-128-10 x128", found)


def import_time(run: Run) -> Iterator[Record]:
    """Time of an import in a new process, NumPy's own included"""
    clock = "from time import *; t = perf_counter(); import {}; print(perf_counter() - t)"
    there = [name for name, module in IMPORTS.items() if find_spec(module.split(".")[0])]
    taken = {name: [] for name in there}
    for _ in range(run.rounds):
        for name in there:
            taken[name].append(printed(clock.format(IMPORTS[name])))
    yield record("import", {name: median(values) for name, values in taken.items()})


def printed(program: str) -> float:
    """Return the number that a program prints."""
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def size_on_disk(run: Run) -> Iterator[Record]:
    """Size of a library and of what it needs, NumPy left out"""
    there = {name: d for name, d in DISTRIBUTIONS.items() if find_spec(name)}
    yield record("installed", {name: size(d, {"numpy"}) for name, d in there.items()})


def size(distribution: str, seen: set[str]) -> int:
    """Return the bytes of a distribution and of those that it requires, without the `seen`."""
    seen.add(distribution)
    try:
        paths = {Path(file.locate()) for file in files(distribution) or ()}
    except PackageNotFoundError:  # of another system or another Python
        return 0
    if distribution == "fastnn-cpu":  # an editable install lists nothing of it
        kernels = Path(fastnn._kernels.core.__file__).parent
        paths |= {*Path(fastnn.__file__).parent.rglob("*.py"), *kernels.glob("*.so")}
    total = sum(path.stat().st_size for path in paths if path.is_file())
    for line in requires(distribution) or ():
        name = re.match(r"[\w.-]+", line)[0].lower()
        if "extra ==" not in line and name not in seen:
            total += size(name, seen)
    return total
