"""Interleaved medians, and the sections that are made of them."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median

import numpy as np

from bench.environment import STATISTICS, busy_ticks
from bench.libraries import fastest
from bench.limits import Machine

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
        return self.peers[fastest(self.peers)] / self.ours if self.peers else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        return None if None in (self.target, self.ratio) else self.ratio >= self.target

    def as_dict(self) -> dict:
        """Return what results keep: four digits are more than a time is worth."""
        numbers = {"fastnn": self.ours, **self.peers}
        row = {"case": self.case, "values": {k: float(f"{v:.4g}") for k, v in numbers.items()}}
        return row if self.limit is None else row | {"limit": float(f"{self.limit:.4g}")}


def record(case: str, times: dict[str, float], **details: float | None) -> Record:
    """Return the record of interleaved `times`, of which "fastnn" is ours.

    Without fastnn the first peer takes its place, so that the peers can be looked at alone.
    """
    peers = dict(times)
    return Record(
        case, peers.pop("fastnn" if "fastnn" in peers else next(iter(peers))), peers, **details
    )


@dataclass
class Run:
    """How one process measures: its threads, the samples of each time, and if cases are few."""

    threads: int
    rounds: int
    quick: bool

    def __post_init__(self) -> None:
        self.machine = Machine(self.threads)

    def times(self, runs: Mapping[str, Callable[[int], object]]) -> dict[str, float]:
        """Return the median seconds of one unit of work for each of `runs`."""
        return interleaved(runs, self.rounds, 0.005 if self.quick else 0.02)

    def some(self, cases: Iterable, count: int = 2) -> list:
        """Return all `cases`, or the first `count` of them when it has to be quick."""
        return list(cases)[: count if self.quick else None]


@dataclass(frozen=True)
class Section:
    """A function that yields the rows of a table as they are measured; its docstring is the title.

    Numbers are in `unit`, of which `scale` make a second or a byte.
    """

    measure: Callable[[Run], Iterable[Record]]
    unit: str = "µs"
    scale: float = 1e6
    threads: int = 1  # at least
    slow: bool = False  # left out when it has to be quick

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.measure.__name__

    @property
    def title(self) -> str:
        """What a table of it says above."""
        return self.measure.__doc__.splitlines()[0]

    def run(self, run: Run) -> dict:
        """Measure, print each row as soon as it is there, and return all."""
        columns: list[str] = []
        rows = []
        print(f"\n{self.name}: {self.title} [{self.unit}, {counted(run.threads, 'thread')}]")
        disturbance = Disturbance()
        for row in self.measure(run):
            rows.append(row.as_dict())
            if list(row.peers) != columns:
                columns = list(row.peers)
                heads = ["fastnn", *columns, "ratio", "target", "met", "of limit"]
                print(f"{'':44}" + "".join(f" {head:>14}" for head in heads))
            cells = [f"{self.scale * number:.2f}" for number in (row.ours, *row.peers.values())]
            cells += ["" if row.ratio is None else f"{row.ratio:.2f}"]
            cells += ["" if row.target is None else f"{row.target:g}"]
            cells += [{None: "", True: "yes", False: "NO"}[row.met]]
            cells += ["" if row.limit is None else f"{row.limit / row.ours:.0%}"]
            print(f"{row.case:44}" + "".join(f" {cell:>14}" for cell in cells), flush=True)
        busy = disturbance.share()
        print(f"Other processes kept {busy:.2f} processors busy meanwhile.")
        about = {"title": self.title, "unit": self.unit, "scale": self.scale}
        about |= {"rounds": run.rounds, "quick": run.quick, "busy": round(busy, 2)}
        return about | {"rows": rows}


def counted(number: int, word: str) -> str:
    """Return a number and a word, in the plural where it is not one."""
    return f"{number} {word}{'' if number == 1 else 's'}"


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
