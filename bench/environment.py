"""The environment of a benchmark: limits on threads, and nothing that holds a peer back.

Every library reads these variables once, so they are set before any is imported.
"""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

STATISTICS = Path("/proc/stat")  # Linux; elsewhere processes are not pinned
INFORMATION = Path("/proc/cpuinfo")
# Some machines set these for all programs. They make NumPy's OpenBLAS use the kernels of another
# processor, whose registers may be half as wide.
HANDICAPS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))  # of this process


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment variables that hold every library to `threads` threads."""
    names = ("OMP", "OPENBLAS", "MKL", "FASTNN")
    variables = {f"{name}_NUM_THREADS": str(threads) for name in names}
    variables["NPROC"] = str(threads)  # the size of XLA's thread pool
    # OpenBLAS's threads fall asleep after 2^20 cycles and not 2^26, during which whoever is
    # measured next would have to share a processor with them
    variables["OPENBLAS_THREAD_TIMEOUT"] = "20"
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return variables


def run_limited(command: Sequence[str], threads: int, cores: Sequence[int]) -> None:
    """Run a process of `threads` threads on as many of `cores`, with every peer at its best.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    if cores:  # the process that starts next stays on as many cores
        os.sched_setaffinity(0, cores[:threads])
    variables = {name: value for name, value in os.environ.items() if name not in HANDICAPS}
    subprocess.run(command, env=variables | thread_limits(threads), check=True)


def busy_ticks() -> dict[str, int]:
    """Return how long all processors ("cpu") and each of them ("cpu0", ...) have worked.

    Ticks of os.sysconf("SC_CLK_TCK"), among them those that a hypervisor gave to others.
    """
    ticks = {}
    for line in STATISTICS.read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu"):
            user, nice, system, _, _, *interrupts_and_stolen = map(int, fields[:8])
            ticks[name] = user + nice + system + sum(interrupts_and_stolen)
    return ticks


def idlest_cores(seconds: float = 0.3) -> list[int]:
    """Return the cores that this process may use, those first that have least to do.

    None of them where the system does not say.
    """
    if not STATISTICS.exists():
        return []
    before = busy_ticks()
    time.sleep(seconds)
    after = busy_ticks()
    busy = {core: after[f"cpu{core}"] - before[f"cpu{core}"] for core in os.sched_getaffinity(0)}
    return sorted(busy, key=busy.__getitem__)


def describe_machine() -> dict[str, str]:
    """Return what a reader has to know of this machine, and nothing that tells which one it is."""
    processor = platform.processor() or platform.machine()
    if INFORMATION.exists():
        lines = (line.split(":", 1) for line in INFORMATION.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in lines}
        if "model name" in fields:
            numbers = f"family {fields['cpu family']}, model {fields['model']}"
            processor = f"{fields['model name']} ({numbers})"
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m"),
    }
