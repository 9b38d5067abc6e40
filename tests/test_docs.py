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


def without_layout(text):
    """The text in one line, without the commas before closing parentheses."""
    return re.sub(r"\s+|,(?=\s*\))", "", text)
