"""The course in docs/course: each page runs, and what it asserts holds."""

import runpy
import warnings
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib")
PAGES = sorted((Path(__file__).parents[1] / "docs" / "course").glob("plot_*.py"))


def test_there_are_pages():
    assert [page.name[5:7] for page in PAGES] == [f"{i:02}" for i in range(1, len(PAGES) + 1)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, tmp_path, monkeypatch):
    from matplotlib import pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        runpy.run_path(str(page))
        figures = [plt.figure(number) for number in plt.get_fignums()]
        try:
            assert figures
            for figure in figures:
                figure.draw_without_rendering()  # as the site does, labels and all
        finally:
            plt.close("all")
    assert not list(tmp_path.iterdir())
