"""The code of the pages in docs/, each page as one program."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# What each page needs.
PAGES = {
    "save_and_load.md": (), "pytorch.md": ("torch",), "onnx.md": ("onnx", "onnxruntime", "sklearn"),
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    for name in PAGES[page]:
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 3
    names = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        # what is printed is what the comment beside it says, lines and "..." aside
        printed = without_layout(capsys.readouterr().out)
        for comment in re.findall(r"^print\(.*\)  # (.*)$", block, re.M):
            expected = re.escape(without_layout(comment)).replace(r"\.\.\.", ".*")
            assert re.search(expected, printed), printed


def test_figures_are_those_of_the_stored_results(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parent))
    from bench import report

    results = report.read(report.STORED)
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert report.fill(text, results) == text, "python -m bench --publish writes them anew"


def test_every_section_of_the_benchmark_is_on_a_page(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parent))
    from bench import report
    from bench.sections import SECTIONS

    pages = "".join(page.read_text(encoding="utf-8") for page in report.PAGES)
    shown = {match[2] for match in report.BLOCK.finditer(pages)}
    assert shown == {*SECTIONS, *report.WORDS} - {"widths"}  # a picture


def without_layout(text):
    """The text in one line, without the commas before closing parentheses."""
    return re.sub(r"\s+|,(?=\s*\))", "", text)
