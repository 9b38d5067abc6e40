"""Writes pages: for each public module what its `__all__` says, for each example its source."""

import ast
import importlib
import inspect
from pathlib import Path

from sphinx.ext.autodoc.mock import mock

# the order in which a reader meets them
MODULES = [
    "fastnn", "fastnn.layers", "fastnn.losses", "fastnn.optim", "fastnn.schedules",
    "fastnn.callbacks", "fastnn.initializers", "fastnn.preprocessing", "fastnn.plot",
    "fastnn.solvers", "fastnn.analysis", "fastnn.sklearn", "fastnn.torch", "fastnn.onnx",
    "fastnn.distributed", "fastnn.ops",
]  # fmt: skip


def setup(app):
    """Connect to Sphinx; `config-inited` is before it looks for pages."""
    app.connect("config-inited", write_pages)
    app.connect("autodoc-skip-member", is_of_sklearn)
    return {"parallel_read_safe": True}


def write_pages(app, config):
    """Write all pages, with stand-ins for packages that are not installed."""
    with mock(config.autodoc_mock_imports):
        write(Path(app.srcdir) / "generated")


def write(folder):
    """Write a page for each module and each example."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    (folder / "examples").mkdir(exist_ok=True)
    for name in MODULES:
        replace(folder / f"{name}.rst", page(name))
    for path in sorted((folder.parents[1] / "examples").glob("*.py")):
        replace(folder / "examples" / f"{path.stem}.rst", example(path))


def page(name):
    """Return the page of a module: its docstring and a table for each kind of thing in it."""
    module = importlib.import_module(name)
    own = [key for key in module.__all__ if belongs(module, key)]
    kinds = {
        "Classes": [key for key in own if inspect.isclass(getattr(module, key))],
        "Functions": [key for key in own if inspect.isroutine(getattr(module, key))],
    }
    lines = [name, "=" * len(name), ""]
    lines += [f".. automodule:: {name}", "", f".. currentmodule:: {name}", ""]
    for title, keys in kinds.items():
        if keys:
            lines += [title, "-" * len(title), "", ".. autosummary::", "   :toctree: api", ""]
            lines += [f"   {key}" for key in sorted(keys)] + [""]
    return "\n".join(lines)


def example(path):
    """Return the page of an example: what it says of itself, and its source."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    lines = text.split("\n")
    title = lines[0].rstrip(".")
    return "\n".join(
        [
            title, "=" * len(title), "", "::", "",
            *(f"    {line}".rstrip() for line in lines[2:]),
            "", f".. literalinclude:: ../../../examples/{path.name}",
            "   :language: python", f"   :lines: {len(lines) + 2}-", "",
        ]
    )  # fmt: skip


def is_of_sklearn(app, what, name, thing, skip, options):
    """Leave out the methods that scikit-learn makes for its own routing of arguments."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def belongs(module, key):
    """Tell whether the reference has `key` on this module's page: layers are in fastnn too."""
    from fastnn import layers

    thing = getattr(module, key)
    is_layer = module.__name__ == "fastnn" and key in layers.__all__
    return not inspect.ismodule(thing) and not is_layer


def replace(path, text):
    """Write a file unless it says so already: Sphinx reads what is newer again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
