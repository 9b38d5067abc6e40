"""The code of README.md and of the pages in docs/, each page as one program in a fresh folder."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"```python\n(.*?)```", re.S)
# what a part of the package imports when it is used
BEHIND = {"fastnn.plot": "matplotlib", ".plot(": "matplotlib", "fastnn.onnx": "onnx",
          "fastnn.sklearn": "sklearn", "import plot": "matplotlib"}  # fmt: skip


def pages():
    """Yield the pages that have code."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if CODE.search(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT).as_posix()


PAGES = [page for page in pages() if not page.startswith("docs/generated")]


@pytest.fixture
def without_windows(monkeypatch):
    """Pictures go nowhere, and are closed in the end."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.filterwarnings("ignore:.*hasn't converged")
@pytest.mark.usefixtures("without_windows")
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    blocks = CODE.findall((ROOT / page).read_text(encoding="utf-8"))
    code = "\n".join(blocks)
    needed = set(re.findall(r"^ *(?:import|from) (\w+)", code, re.M)) - {"fastnn"}
    needed |= {package for part, package in BEHIND.items() if part in code}
    for name in sorted(needed):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        # what is printed is what the comment beside it says, lines and "..." aside
        printed = without_layout(capsys.readouterr().out)
        for comment in re.findall(r"^print\(.*\)  # (.*)$", block, re.M):
            expected = re.escape(without_layout(comment)).replace(r"\.\.\.", ".*")
            assert re.search(expected, printed), printed


def test_figures_are_those_of_the_stored_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import report

    results = report.read(report.STORED)
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert report.fill(text, results) == text, "python -m bench --publish writes them anew"


def test_every_section_of_the_benchmark_is_on_a_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import report
    from bench.sections import SECTIONS

    pages = "".join(page.read_text(encoding="utf-8") for page in report.PAGES)
    shown = {match[2] for match in report.BLOCK.finditer(pages)}
    assert shown == {*SECTIONS, *report.WORDS} - {"widths"}  # a picture


def without_layout(text):
    """The text in one line, without the commas before closing parentheses."""
    return re.sub(r"\s+|,(?=\s*\))", "", text)


def test_there_are_pages():
    """No page has lost its code by a slip of the pen."""
    assert len(PAGES) > 20
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count("```") % 2 == 0, page


def test_links_of_the_readme_have_pages():
    """README.md is read where the site is not, and links to it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    site = "https://fastnn.github.io/fastnn/"
    links = re.findall(rf"\({site}(.*?)\.html\)", readme)
    assert len(links) > 20
    for link in links:
        module = link.removeprefix("generated/") if link.startswith("generated/fastnn") else None
        if module:  # made when the site is built
            assert find_spec(module), link
        elif not link.startswith("generated/course"):
            assert (ROOT / "docs" / f"{link}.md").exists(), link


def test_the_cheat_sheet_fits_on_paper():
    text = (ROOT / "docs" / "cheat_sheet.md").read_text(encoding="utf-8")
    lines = [line for code in CODE.findall(text) for line in code.split("\n")]
    assert max(map(len, lines)) <= 71
