"""Searches of hyper-parameters by others: threads, Dask and Optuna find what a plain grid finds."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris

from fastnn.sklearn import MLPClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)  # fmt: skip
PATH = Path(__file__).parents[1] / "examples/searches.py"
GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 3e-2]}
X, Y = load_iris(return_X_y=True)


def model():
    return MLPClassifier((8,), max_iter=15, random_state=0)


@pytest.fixture(scope="module")
def searches():
    spec = importlib.util.spec_from_file_location("searches", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(searches):
    with warnings.catch_warnings(action="ignore"):
        return searches.plain(model(), GRID, X, Y)


@pytest.mark.parametrize("name", ["threads", "dask"])
def test_the_same_scores_on_other_machinery(searches, expected, name):
    if name == "dask":
        pytest.importorskip("distributed")
    found = getattr(searches, name)(model(), GRID, X, Y)
    assert found.best_params_ == expected.best_params_
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def test_optuna_prunes_and_finds_the_best(searches):
    pytest.importorskip("optuna")
    parts = X[::2], Y[::2], X[1::2], Y[1::2]
    _, score = searches.one_by_one(model(), GRID, *parts)
    study = searches.optuna(model(), GRID, *parts)
    assert len(study.trials) == 4
    assert study.best_value == score

