"""Measure fastnn beside its peers: bench/README.md."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.environment import describe_machine, idlest_cores, run_limited
from bench.libraries import describe_libraries
from bench.sections import SECTIONS
from bench.timing import Run


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    names = ", ".join(SECTIONS)
    parser.add_argument(
        "sections", nargs="*", help=f"some of {names}, or all; without any, all that fit the time"
    )
    parser.add_argument("--quick", action="store_true", help="few cases and samples: two minutes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, help="samples of each time: 15, or 3 when quick")
    parser.add_argument(
        "--output", type=Path, default=Path("bench-results"),
        help="folder of results.json, which is added to, and of the report and its pictures",
    )  # fmt: skip
    parser.add_argument(
        "--publish", action="store_true", help="to docs/ and README.md instead, from stored results"
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 15)
    if options.sections == ["all"]:
        options.sections = list(SECTIONS)
    elif not options.sections and not (options.publish and report.STORED.is_file()):
        options.sections = [n for n, s in SECTIONS.items() if not (options.quick and s.slow)]
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"sections: expected some of {names}, got {', '.join(sorted(unknown))}")
    return options


def measure(options: argparse.Namespace) -> None:
    """Measure in this process, whose libraries are already limited to some threads."""
    (threads,) = options.threads
    run = Run(threads, options.rounds, options.quick)
    limits = run.machine.describe()
    print("limits, 1e9/s:", *(f"{name} {value / 1e9:.0f}" for name, value in limits.items()))
    sections = {}
    for name in options.sections:
        sections[name] = SECTIONS[name].run(run)
        libraries = describe_libraries()
        part = {"limits": limits, "libraries": libraries, "sections": sections}
        options.worker.write_text(json.dumps(part))
    print("", *(f"{name} {use}" for name, use in libraries.items()), sep="\n")


def main() -> None:
    """Run one process for each number of threads, limited before it imports anything."""
    options = parse()
    if options.worker:
        measure(options)
        return
    path = report.STORED if options.publish else options.output / "results.json"
    results = report.read(path)
    cores = idlest_cores()
    for count in options.threads:
        sections = [name for name in options.sections if SECTIONS[name].threads <= count]
        if not sections:
            continue
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, "part.json")
            command = [sys.executable, "-m", "bench", *sections, "--worker", str(part)]
            command += ["--threads", str(count), "--rounds", str(options.rounds)]
            command += ["--quick"] if options.quick else []
            try:
                run_limited(command, count, cores)
            finally:  # sections that were finished count, should one fail or be interrupted
                if part.is_file():
                    report.add(results, count, json.loads(part.read_text()))
                    results["machine"] = describe_machine()
                    report.write(results, path)
    if options.publish:
        report.publish(results)
    else:
        report.report(results, options.output, SECTIONS)


if __name__ == "__main__":
    main()
