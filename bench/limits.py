"""Limits on threads. Every library reads them once, so they are set before any is imported."""

import os

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables that hold every library to `threads` threads."""
    names = ("OMP", "OPENBLAS", "MKL", "FASTNN")
    variables = {f"{name}_NUM_THREADS": str(threads) for name in names}
    variables["NPROC"] = str(threads)  # the size of XLA's thread pool
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return variables


def pin(threads: int) -> None:
    """Let this process, and those that it starts, run on as many cores only."""
    if CORES:
        os.sched_setaffinity(0, CORES[:threads])
