"""The limits of the machine, measured by loops of our own in C (limits.c).

Multiply-adds that stay in registers give the operations per second, and a += b over arrays of some
size the bytes per second of the cache, or of the memory, in which they lie. What the best library
reaches is no limit.
"""

import ctypes
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TRIES = 40


@cache
def loops() -> ctypes.CDLL:
    """Compile limits.c for this processor and load it."""
    native = "-mcpu=native" if os.uname().machine in ("aarch64", "arm64") else "-march=native"
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder, "limits.so"))
        command = [os.environ.get("CC", "cc"), "-O3", native, "-ffp-contract=fast", "-shared"]
        command += ["-mprefer-vector-width=512"] if native == "-march=native" else []
        source = str(Path(__file__).with_name("limits.c"))
        subprocess.run([*command, "-fPIC", source, "-o", library], check=True)
        return ctypes.CDLL(library)


def cache_sizes() -> dict[str, int]:
    """Return the bytes of each level of data cache, as far as the system tells them (on Linux)."""
    sizes = {}
    for folder in sorted(CACHES.glob("index*")):
        if (folder / "type").read_text().strip() != "Instruction":
            level = f"L{(folder / 'level').read_text().strip()}"
            sizes[level] = 1024 * int((folder / "size").read_text().strip().rstrip("K"))
    return sizes


class Machine:
    """What this machine can do at best on a number of threads, measured when asked for."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.peak = cache(self.peak)
        self._bandwidth = cache(self._bandwidth)

    def seconds(self, flops: float, moved: float, dtype: str = "float32") -> float:
        """Return the time of `flops` operations and then of moving `moved` bytes."""
        return flops / self.peak(dtype) + moved / self.bandwidth(moved)

    def peak(self, dtype: str) -> float:
        """Return the operations per second of multiply-adds, all threads together."""
        run = getattr(loops(), f"multiply_adds_{'float' if dtype == 'float32' else 'double'}")
        run.restype, run.argtypes = ctypes.c_ssize_t, [ctypes.c_ssize_t, ctypes.c_void_p]
        outs = [np.array([0.5, 1, 0], dtype) for _ in range(self.threads)]
        n = 100_000
        each = run(n, outs[0].ctypes.data)
        return n * each * self.threads / self._best(lambda out: run(n, out.ctypes.data), outs)

    def bandwidth(self, moved: float) -> float:
        """Return bytes per second of a += b, over arrays as large as the work that moves `moved`.

        Small work stays in a cache, and its bandwidth is that cache's.
        """
        power = round(np.log2(max(moved, 1 << 14)))  # a size between two is as good as either
        return self._bandwidth(1 << power)

    def _bandwidth(self, size: int) -> float:
        length = size // (8 * self.threads)
        # ones, since zeros that were never written share one page of memory
        pairs = [np.ones((2, length), np.float32) for _ in range(self.threads)]
        n = max(2, (1 << 23) // length)
        run = loops().add
        run.restype, run.argtypes = None, 2 * [ctypes.c_ssize_t] + 2 * [ctypes.c_void_p]
        best = self._best(lambda pair: run(n, length, *(a.ctypes.data for a in pair)), pairs)
        return 12 * length * n * self.threads / best

    def _best(self, call, arguments: list) -> float:
        """Return the least seconds in which all threads make their call at once."""
        with ThreadPoolExecutor(self.threads) as pool:
            times = []
            for _ in range(TRIES):
                start = time.perf_counter()
                list(pool.map(call, arguments))
                times.append(time.perf_counter() - start)
        return min(times)

    def describe(self) -> dict[str, float]:
        """Return the limits: operations per second, and bytes per second of each level."""
        sizes = cache_sizes()
        levels = {level: self.bandwidth(size / 2) for level, size in sizes.items()}
        memory = self.bandwidth(8 * max(sizes.values(), default=1 << 24))
        peaks = {dtype: self.peak(dtype) for dtype in ("float32", "float64")}
        return peaks | levels | {"memory": memory}
