"""The recipe for conda-forge says what pyproject.toml and meson.build say."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEMS = ("linux", "osx", "win")
# What conda-forge's linter wants, in its order.
SECTIONS = ["package", "source", "build", "requirements", "test", "about", "extra"]


@pytest.fixture(params=SYSTEMS)
def system(request):
    return request.param


@pytest.fixture
def recipe(system):
    """As conda-build reads it on a system: lines with other selectors dropped, then Jinja, YAML."""
    jinja2, yaml = pytest.importorskip("jinja2"), pytest.importorskip("yaml")
    names = {
        "win": system == "win", "unix": system != "win", "py": 313,
        "build_platform": "here", "target_platform": "here",
    }  # fmt: skip
    lines = []
    for line in (ROOT / "recipe/meta.yaml").read_text(encoding="utf-8").splitlines():
        selector = re.search(r"  # \[(.+)\]$", line)
        if selector is None or eval(selector[1], {}, names):
            lines.append(line)
    template = jinja2.Template("\n".join(lines), undefined=jinja2.StrictUndefined)
    return yaml.safe_load(template.render(
        PYTHON="python", target_platform="here",
        compiler=lambda kind: f"compiler_{kind}", stdlib=lambda kind: f"stdlib_{kind}",
    ))  # fmt: skip


def test_sections(recipe):
    assert list(recipe) == SECTIONS
    assert re.fullmatch("[0-9a-f]{64}", recipe["source"]["sha256"])
    assert "skip" not in recipe["build"]  # on Python 3.13
    assert len(recipe["build"]["script"]) == 1
    assert (ROOT / recipe["about"]["license_file"]).is_file()
    assert recipe["test"]["imports"] == ["fastnn"]


def test_compilers(recipe, system):
    kind = "m2w64_c" if system == "win" else "c"
    assert recipe["requirements"]["build"] == [f"compiler_{kind}", f"stdlib_{kind}"]


def test_it_agrees_with_the_project(recipe):
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, build = data["project"], data["build-system"]["requires"]
    version = re.search(r"version: '(.+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))[1]
    assert recipe["package"] == {"name": project["name"], "version": version}
    about, urls = recipe["about"], project["urls"]
    assert (about["summary"], about["license"]) == (project["description"], project["license"])
    assert (about["home"], about["doc_url"]) == (urls["Homepage"], urls["Documentation"])

    def spaced(requirements):
        return {re.sub(r"\s*>=\s*", " >=", name).lower() for name in requirements}

    assert spaced(recipe["requirements"]["host"]) == spaced(build) | {"python", "pip"}
    assert spaced(recipe["requirements"]["run"]) == spaced(project["dependencies"]) | {"python"}
