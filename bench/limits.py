"""Limits on threads. Every library reads them once, so they are set before any is imported."""

import os
import time
from pathlib import Path

STATISTICS = Path("/proc/stat")  # Linux; elsewhere processes are not pinned


def environment(threads: int) -> dict[str, str]:
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
    """Return the cores that this process may use, those first that have least to do."""
    before = busy_ticks()
    time.sleep(seconds)
    after = busy_ticks()
    busy = {core: after[f"cpu{core}"] - before[f"cpu{core}"] for core in os.sched_getaffinity(0)}
    return sorted(busy, key=busy.__getitem__)
