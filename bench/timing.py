"""Interleaved medians, the limits of the machine and the tables that show both."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import repeat
from statistics import median

import numpy as np
from limits import STATISTICS, busy_ticks
from operations import large_products

SETTLE = 0.02  # seconds in which the threads of the library measured before fall asleep
ATTEMPTS = 5  # at a sample during which the process was not always running


def loop(call: Callable[[], object]) -> Callable[[int], None]:
    """Return a function of n that makes n calls."""

    def run(n: int) -> None:
        for _ in repeat(None, n):
            call()

    return run


def interleaved(
    runs: Mapping[str, Callable[[int], object]], rounds: int, sample: float = 0.02
) -> dict[str, float]:
    """Return the median seconds of one unit of work for each of `runs`.

    Parameters
    ----------
    runs : mapping of str to callable
        A function of n that does n units of work and returns when they are finished.
    rounds : int
        Samples of each; round by round, so that a disturbance meets all of them alike.
    sample : float
        Seconds that one sample lasts, at least: one unit if that takes longer.
    """
    counts, times = {}, {}
    for name, run in runs.items():
        run(1)  # compiles, allocates and plans
        n, elapsed = 1, _timed(run, 1)
        while elapsed < sample:
            n = max(n + 1, min(10 * n, int(1.2 * n * sample / max(elapsed, 1e-9))))
            elapsed = _timed(run, n)
        counts[name], times[name] = n, []
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(_sample(run, counts[name]))
    return {name: median(values) for name, values in times.items()}


def _sample(run: Callable[[int], object], n: int) -> float:
    """Return the seconds of one unit of n, if possible when no other process stood in the way."""
    for _ in range(ATTEMPTS):
        time.sleep(SETTLE)
        if n > 1:
            run(n // 5 + 1)  # brings its data and code back into the caches
        before = time.process_time()
        elapsed = _timed(run, n)
        if n == 1 or time.process_time() - before > 0.95 * elapsed:
            break
    return elapsed / n


def _timed(run: Callable[[int], object], n: int) -> float:
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


@dataclass
class Record:
    """One row of a table: our time beside the peers', in seconds.

    `target` is the wanted ratio of the best peer's time to ours, `limit` the seconds in which
    the machine could do the work, both None where there is none.
    """

    case: str
    ours: float
    peers: dict[str, float] = field(default_factory=dict)
    target: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """The best peer's time divided by ours."""
        return min(self.peers.values()) / self.ours if self.peers else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        return None if None in (self.target, self.ratio) else self.ratio >= self.target

    def as_dict(self) -> dict:
        """Return everything the table shows."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def record(case: str, times: dict[str, float], **details: float | None) -> Record:
    """Return the record of interleaved `times`, of which "fastnn" is ours.

    Without fastnn the first peer takes its place, so that the peers can be looked at alone.
    """
    peers = dict(times)
    return Record(
        case, peers.pop("fastnn" if "fastnn" in peers else next(iter(peers))), peers, **details
    )


@dataclass
class Table:
    """What a table shows, and a function that yields its rows as they are measured.

    It is called with a `Machine` and the number of samples of each measurement.
    """

    title: str
    measure: Callable[["Machine", int], Iterable[Record]]


def print_table(table: Table, machine: "Machine", rounds: int) -> list[Record]:
    """Measure a table and print it in microseconds, each row as soon as it is there."""
    columns: list[str] = []
    records = []
    plural = "s" if machine.threads > 1 else ""
    print(f"\n{table.title} [µs, {machine.threads} thread{plural}]")
    disturbance = Disturbance()
    for row in table.measure(machine, rounds):
        records.append(row)
        if list(row.peers) != columns:
            columns = list(row.peers)
            heads = ["fastnn", *columns, "ratio", "target", "met", "of limit"]
            print(f"{'':44}" + "".join(f"{head:>12}" for head in heads))
        cells = [f"{1e6 * seconds:.2f}" for seconds in (row.ours, *row.peers.values())]
        cells += ["" if row.ratio is None else f"{row.ratio:.2f}"]
        cells += ["" if row.target is None else f"{row.target:g}"]
        cells += [{None: "", True: "yes", False: "NO"}[row.met]]
        cells += ["" if row.limit is None else f"{row.limit / row.ours:.0%}"]
        print(f"{row.case:44}" + "".join(f"{cell:>12}" for cell in cells), flush=True)
    print(f"Other processes kept {disturbance.share():.2f} processors busy meanwhile.")
    return records


class Disturbance:
    """How much other processes work from now on (on Linux; elsewhere it seems to be nothing)."""

    def __init__(self) -> None:
        self.start = self._clocks()

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        ticks = busy_ticks()["cpu"] if STATISTICS.exists() else 0
        return ticks / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()

    def share(self) -> float:
        """Return the processors that others kept busy, on average since the start."""
        busy, own, wall = np.subtract(self._clocks(), self.start)
        return max(0.0, (busy - own) / wall)


class Machine:
    """What this machine can do at best on a number of threads, measured when asked for."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.peak = cache(self.peak)
        self.bandwidth = cache(self.bandwidth)

    def seconds(self, flops: float, moved: float, dtype: str = "float32") -> float:
        """Return the time of `flops` operations and then of moving `moved` bytes."""
        return flops / self.peak(dtype) + moved / self.bandwidth(int(moved))

    def peak(self, dtype: str) -> float:
        """Return operations per second: the best of every library's large matrix product."""
        return max(
            2 * n**3 / min(_timed(loop(call), 1) for _ in range(12))
            for n in (512, 1024)
            for call in large_products(dtype, n)
        )

    def bandwidth(self, moved: int) -> float:
        """Return bytes per second of a += b, over arrays as large as the work that moves `moved`.

        Small work stays in a cache, and its bandwidth is that cache's.
        """
        length = max(moved, 1 << 18) // (8 * self.threads)
        # ones, since zeros that were never written share one page of memory
        arrays = [np.ones((2, length), np.float32) for _ in range(self.threads)]
        repeats = max(2, (1 << 24) // length)

        def add(pair: np.ndarray) -> None:
            a, b = pair
            for _ in range(repeats):
                np.add(a, b, out=a)

        with ThreadPoolExecutor(self.threads) as pool:
            best = min(_timed(lambda n: list(pool.map(add, arrays)), 1) for _ in range(20))
        return 12 * length * self.threads * repeats / best
