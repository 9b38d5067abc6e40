"""The examples in the docstrings of all modules."""

import doctest
import importlib
import importlib.util
import pkgutil

import numpy as np
import pytest

import fastnn

MODULES = ["fastnn"] + [
    module.name
    for module in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
    if module.name != "fastnn.__main__"  # runs when imported
]

# What examples need besides the package, by a word of theirs.
NEEDS = {"plot": "matplotlib", "scipy": "scipy"}
MISSING = [word for word, name in NEEDS.items() if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for examples that write files
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))  # an extra that is not installed
    with np.printoptions():
        runner = doctest.DocTestRunner()
        for test in doctest.DocTestFinder().find(module, extraglobs={"np": np}):
            if not any(word in example.source for example in test.examples for word in MISSING):
                runner.run(test)
    assert runner.failures == 0
