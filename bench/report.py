"""Results as JSON, as blocks of Markdown in README.md and docs/, and as a report of their own.

A page has its figures between the lines `<!-- bench: name -->` and `<!-- bench end -->`; what is
there comes from the function or the section of that name, and `fill` makes it anew. A test holds
the pages to the results that are stored.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.libraries import LIBRARIES, fastest

ROOT = Path(__file__).parent.parent
STORED = Path(__file__).with_name("results.json")  # what README.md and docs/ show
PAGES = ROOT / "README.md", ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench end -->)", re.DOTALL)

AS_FAST = 1.1  # times the best of the others: below that they are as fast

Results = dict


# Results ----------------------------------------------------------------------------------------


def read(path: Path) -> Results:
    """Return the results of a file; none if it is not there."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"threads": {}}


def add(results: Results, threads: int, part: Results) -> None:
    """Add what was measured on a number of threads; the other sections stay."""
    whole = results["threads"].setdefault(str(threads), {"libraries": {}, "sections": {}})
    whole["limits"] = part["limits"]
    whole["libraries"] |= part["libraries"]
    whole["sections"] |= part["sections"]


def write(results: Results, path: Path) -> None:
    """Write results to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    # the numbers of a row on one line
    text = re.sub(r'("values": )\{\s*([^{}]*?)\s*\}', lambda m: m[1] + flat(m[2]), text)
    path.write_text(text + "\n", "utf-8")


def flat(lines: str) -> str:
    """Return the members of an object on one line."""
    return "{" + re.sub(r"\s*\n\s*", " ", lines) + "}"


# Markdown ---------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Return three digits, as a person writes them."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    digits = f"{value:#.3g}" if abs(value) >= 0.1 else f"{value:.2g}"
    return digits.rstrip(".")


def quotient(value: float) -> str:
    """Return how many times as fast."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}" if value < 2 else f"{value:.1f}"


def best(row: dict) -> tuple[str, float] | None:
    """Return the fastest of the others, and its time divided by ours."""
    values = dict(row["values"])
    ours = values.pop("fastnn")
    return (fastest(values), values[fastest(values)] / ours) if values else None


def section(results: Results, name: str, threads: int = 1) -> dict | None:
    """Return what a section has measured, if it has."""
    return results["threads"].get(str(threads), {}).get("sections", {}).get(name)


def table(results: Results, name: str, cases: tuple[str, ...] = ()) -> str:
    """Return the table of a section: times on one thread, what the best other takes beside ours.

    `cases`, where it is given, are the rows that are shown.
    """
    one, two = (section(results, name, count) for count in (1, 2))
    shown = one or two
    if not (shown and shown["rows"]):
        return "*Not measured.*\n"
    twice = {row["case"]: row for row in two["rows"]} if one and two else {}
    peers = list(dict.fromkeys(p for row in shown["rows"] for p in row["values"]))
    limited = any("limit" in row for row in shown["rows"])
    heads = [shown["unit"], *(LIBRARIES.get(peer, peer) for peer in peers)]
    heads += ["best ÷ fastnn"] if len(peers) > 1 else []
    heads += ["of the limit"] if limited else []
    heads += ["fastnn, 2 threads", "best ÷ fastnn"] if twice else []
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in shown["rows"]:
        if cases and row["case"] not in cases:
            continue
        scale, values = shown["scale"], row["values"]
        cells = [row["case"]]
        cells += [number(scale * values[p]) if p in values else "" for p in peers]
        cells[1] = f"**{cells[1]}**"
        cells += [quotient(best(row)[1]) if best(row) else ""] if len(peers) > 1 else []
        cells += [f"{row['limit'] / values['fastnn']:.0%}" if "limit" in row else ""] * limited
        if twice:
            other = twice.get(row["case"])
            cells += [number(scale * other["values"]["fastnn"]) if other else ""]
            cells += [quotient(best(other)[1]) if other and best(other) else ""]
        lines.append(f"| {' | '.join(cells)} |")
    if shown["quick"]:
        lines.append("\n*Measured in a hurry (`--quick`): few cases, few samples.*")
    return "\n".join(lines) + "\n"


def ratios(results: Results) -> str:
    """Return how many times as fast a small, a middling and a large training step are."""
    lines = []
    for case, words in HEADLINES.items():
        row = row_of(results, "steps", case)
        if row:
            name, times = best(row)
            lines.append(
                f"- **{quotient(times)}** times as fast as the best of the others "
                f"({LIBRARIES[name]}): {words}"
            )
    return "\n".join(lines) + "\n"


HEADLINES = {
    "64-128-10 x64": "a small network, 64-128-10, on 64 samples.",
    "784-256-128-10 x128": "a network for MNIST, 784-256-128-10, on 128 samples.",
    "1024-1024-1024-1024 x1024": "one that is all matrix products, on 1,024 samples of 1,024.",
}
SUMMARY = ("4-64-64-2 x32", *HEADLINES)  # the rows in README.md


def summary(results: Results) -> str:
    """Return some rows of the table of training steps."""
    return table(results, "steps", SUMMARY)


def row_of(results: Results, name: str, case: str) -> dict | None:
    """Return one row of a section, if it was measured."""
    found = section(results, name) or {"rows": []}
    return next((row for row in found["rows"] if row["case"] == case), None)


def equal(results: Results) -> str:
    """Return all cases in which another library is as fast, or faster."""
    lines = []
    for threads, part in results["threads"].items():
        for found in part["sections"].values():
            cases = []
            for row in found["rows"]:
                other = best(row)
                if other and other[0] in LIBRARIES and other[1] < AS_FAST:
                    cases.append(f"{row['case']} ({quotient(other[1])}, {LIBRARIES[other[0]]})")
            if cases:
                on = "" if threads == "1" else f", {threads} threads"
                lines.append(f"- {found['title'].split(':')[0]}{on}: {'; '.join(cases)}.")
    return "\n".join(lines or ["Nowhere."]) + "\n"


def machine(results: Results) -> str:
    """Return the machine, its limits and the libraries."""
    words = results["machine"]
    lines = [
        f"{words['processor']}, {words['cores']} cores, {words['system']}, "
        f"Python {words['python']}, {words['date']}.\n"
    ]
    for threads, part in results["threads"].items():
        limits = dict(part["limits"])
        peaks = [f"{limits.pop(d) / 1e9:.0f} GFLOP/s in {d}" for d in ("float32", "float64")]
        levels = [f"{value / 1e9:.0f} GB/s in {level}" for level, value in limits.items()]
        many = f"{threads} thread{'' if threads == '1' else 's'}"
        lines.append(f"- At best, {many}: {', '.join(peaks)}; {', '.join(levels)}.")
    for part in list(results["threads"].values())[:1]:
        for name, use in part["libraries"].items():
            lines.append(f"- {'fastnn' if name == 'fastnn' else LIBRARIES.get(name, name)} {use}")
    return "\n".join(lines) + "\n"


WORDS: dict[str, Callable[[Results], str]] = {
    function.__name__: function for function in (ratios, summary, equal, machine)
}


def fill(page: str, results: Results) -> str:
    """Return a page with all its blocks made from the results."""

    def block(match: re.Match) -> str:
        name = match[2]
        text = WORDS[name](results) if name in WORDS else table(results, name)
        return match[1] + text + match[3]

    return BLOCK.sub(block, page)


def publish(results: Results) -> None:
    """Write the blocks of README.md and docs/performance.md, and the picture of both."""
    from bench import pictures

    for page in PAGES:
        page.write_text(fill(page.read_text("utf-8"), results), "utf-8")
    pictures.step_time(results, ROOT / "docs" / "step_time.png")


def report(results: Results, folder: Path, order: Iterable[str]) -> None:
    """Write a report of all sections that were measured, in some order, with the picture."""
    from bench import pictures

    parts = ["# fastnn beside others\n", ratios(results)]
    if pictures.step_time(results, folder / "step_time.png"):
        parts.append("![Time of a training step against the width of its layers](step_time.png)\n")
    for name in order:
        if found := section(results, name) or section(results, name, 2):
            parts += [f"## {found['title']}\n", table(results, name)]
    parts += ["## Where others are as fast\n", equal(results)]
    parts += ["## Machine\n", machine(results)]
    (folder / "report.md").write_text("\n".join(parts), "utf-8")
    print(f"\nWritten: {folder}/report.md, results.json")
