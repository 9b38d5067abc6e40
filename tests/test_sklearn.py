"""The perceptrons beside scikit-learn's: curves, attributes, warnings, its own checks."""

import pickle
import warnings

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn import neural_network  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_diabetes, load_digits, load_iris  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402
from sklearn.utils.validation import has_fit_parameter  # noqa: E402

from fastnn.sklearn import (  # noqa: E402
    LSTMClassifier,
    LSTMRegressor,
    MLPClassifier,
    MLPRegressor,
    TabularClassifier,
    TabularRegressor,
)
from fastnn.sklearn.seeding import random_state  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*clipped",
    "ignore:.*A column-vector y",
    "ignore::sklearn.exceptions.DataConversionWarning",
    "ignore:.*.disp. and .iprint. options",  # of scikit-learn 1.4 with a newer SciPy
)

IRIS = load_iris(return_X_y=True)
DIGITS = tuple(a[:400] for a in load_digits(return_X_y=True))
DIABETES = load_diabetes(return_X_y=True)
RNG = np.random.default_rng(0)


def data(name):
    """Samples and targets, and the pair of classes: scikit-learn's and ours."""
    X, y = {"iris": IRIS, "digits": DIGITS, "diabetes": DIABETES}[name.split()[0]]
    if "binary" in name:
        keep = y < 2
        X, y = X[keep], np.array(["no", "yes"])[y[keep]]
    if "labels" in name:
        y = np.c_[y == 0, y > 0, y == 2].astype(int)
    if "outputs" in name:
        y = np.c_[y, np.sqrt(y)]
    if "counts" in name:
        y = np.round(y / 50)
    if name.startswith("diabetes"):
        return X, y, neural_network.MLPRegressor, MLPRegressor
    return X / (16 if name == "digits" else 1), y, neural_network.MLPClassifier, MLPClassifier


def both(name, **options):
    X, y, theirs, ours = data(name)
    options = {"random_state": 3, "max_iter": 12, "hidden_layer_sizes": (15,)} | options
    known = {key: value for key, value in options.items() if key in theirs().get_params()}
    return X, y, theirs(**known), ours(**options)


def assert_alike(one, other, rtol=1e-6):
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=rtol)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("loss_", "best_loss_", "best_validation_score_", "validation_scores_"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(b, a, rtol=rtol)


SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd": {"solver": "sgd", "learning_rate_init": 1e-4},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 1e-3},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-3, "tol": 0.1,
        "n_iter_no_change": 1,
    },
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 1e-4},
    "plain": {"solver": "sgd", "momentum": 0, "learning_rate_init": 1e-4},
    "in order": {"solver": "adam", "shuffle": False, "batch_size": 32},
    "early": {"solver": "adam", "early_stopping": True, "validation_fraction": 0.2, "max_iter": 30},
    "deep": {
        "solver": "adam", "hidden_layer_sizes": (9, 7), "activation": "tanh", "alpha": 0.1,
        "batch_size": 37,
    },
    "logistic": {"solver": "adam", "activation": "logistic", "beta_1": 0.8, "epsilon": 1e-4},
}  # fmt: skip
SETS = [
    "iris", "iris binary", "iris labels", "digits", "diabetes", "diabetes outputs",
]  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", SETS)
def test_curves_are_those_of_scikit_learn(name, solver):
    X, y, theirs, ours = both(name, **SOLVERS[solver])
    assert_alike(theirs.fit(X, y), ours.fit(X, y))
    if name.startswith("diabetes"):
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    else:
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        for method in ("predict_proba", "predict_log_proba"):
            a, b = (getattr(m, method)(X) for m in (theirs, ours))
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(theirs.classes_, ours.classes_)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_lbfgs_goes_the_same_way(name):
    for iterations in (2, 20):
        X, y, theirs, ours = both(name, solver="lbfgs", max_iter=iterations, alpha=0.01)
        theirs.fit(X, y)
        ours.fit(X, y)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
        assert ours.n_iter_ == theirs.n_iter_
    assert not hasattr(ours, "loss_curve_")


@pytest.mark.skipif(
    not has_fit_parameter(neural_network.MLPClassifier(), "sample_weight"),
    reason="scikit-learn < 1.7",
)
@pytest.mark.parametrize("solver", ["adam", "sgd", "early"])
@pytest.mark.parametrize("name", ["iris", "iris binary", "diabetes", "diabetes outputs"])
def test_sample_weights(name, solver):
    X, y, theirs, ours = both(name, **SOLVERS[solver] | {"max_iter": 5})
    weight = RNG.uniform(0.1, 2, len(X))
    theirs.fit(X, y, sample_weight=weight)
    ours.fit(X, y, sample_weight=weight)
    assert_alike(theirs, ours)


@pytest.mark.skipif(
    "loss" not in neural_network.MLPRegressor().get_params(), reason="scikit-learn < 1.7"
)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_poisson_loss(solver):
    X, y, theirs, ours = both("diabetes counts", **SOLVERS[solver], loss="poisson")
    theirs.fit(X, y)
    ours.fit(X, y)
    assert_alike(theirs, ours)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)


def test_float32_is_trained_in_float32():
    X, y, theirs, ours = both("digits")
    X = X.astype(np.float32)
    theirs.fit(X, y)
    ours.fit(X, y)
    assert {a.dtype for a in (*ours.coefs_, *ours.intercepts_)} == {np.dtype(np.float32)}
    assert ours.predict_proba(X).dtype == np.float32
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("name", ["iris", "iris binary", "diabetes"])
def test_partial_fit_and_warm_start_go_on_as_there(name):
    X, y, theirs, ours = both(name)
    known = {} if name == "diabetes" else {"classes": np.unique(y)}
    for model in (theirs, ours):
        model.partial_fit(X[:70], y[:70], **known)
        model.partial_fit(X[70:], y[70:])
    assert_alike(theirs, ours)
    again = pickle.loads(pickle.dumps(ours))  # the moments of Adam too
    for model in (theirs, ours, again):
        model.partial_fit(X, y)
    assert_alike(theirs, ours)
    assert_alike(theirs, again)
    X, y, theirs, ours = both(name, warm_start=True, max_iter=4)
    for _ in range(3):
        theirs.fit(X, y)
        ours.fit(X, y)
    assert_alike(theirs, ours)


def test_sparse_samples_strings_and_data_frames():
    sparse = pytest.importorskip("scipy.sparse")
    X, y, theirs, ours = both("digits")
    assert_alike(theirs.fit(X, y), ours.fit(sparse.csr_matrix(X), y))
    np.testing.assert_array_equal(ours.predict(sparse.csc_matrix(X)), ours.predict(X))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IRIS[0], columns=list("abcd"))
    ours.fit(frame, np.array(["x", "y", "z"])[IRIS[1]])
    np.testing.assert_array_equal(ours.feature_names_in_, list("abcd"))
    assert set(ours.predict(frame)) <= {"x", "y", "z"}


def test_attributes_that_are_written_count():
    X, y, _, model = both("iris")
    model.fit(X, y)
    model.coefs_[1][...] = 0  # a view of the network's own
    model.intercepts_[1][...] = np.log([1, 2, 5])
    np.testing.assert_allclose(model.predict_proba(X[:1]), [[1 / 8, 2 / 8, 5 / 8]])
    model.intercepts_[1] = np.zeros(3)  # another array in its place
    np.testing.assert_allclose(model.predict_proba(X[:1]), [[1 / 3] * 3])
    model.coefs_ = [np.zeros_like(w) for w in model.coefs_]
    model.intercepts_ = [np.zeros(15), np.log([3.0, 1, 1])]
    np.testing.assert_allclose(model.predict_proba(X[:1]), [[0.6, 0.2, 0.2]])
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    copy.intercepts_[1][...] = 0  # its own
    np.testing.assert_allclose(copy.predict_proba(X[:1]), [[1 / 3] * 3])
    np.testing.assert_allclose(model.predict_proba(X[:1]), [[0.6, 0.2, 0.2]])


def test_words_and_warnings(capsys):
    texts = []
    for which in (2, 3):
        model = both("iris", verbose=True, max_iter=3)[which]
        with pytest.warns(ConvergenceWarning, match="Maximum iterations") as told:
            model.fit(*IRIS)
        assert told[0].filename == __file__ or which == 2
        texts.append((capsys.readouterr().out, str(told[0].message)))
    assert texts[0] == texts[1]
    for options in (
        {"early_stopping": True, "n_iter_no_change": 1, "max_iter": 20},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    ):
        texts = []
        for which in (2, 3):
            with warnings.catch_warnings(action="ignore"):
                both("iris", verbose=True, **options)[which].fit(*IRIS)
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
        ({"solver": "newton"}, "The 'solver' parameter"),
        ({"alpha": -1}, "The 'alpha' parameter"),
        ({"momentum": 2}, "The 'momentum' parameter"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "too small"),
        ({"activation": "rleu"}, "activation"),
        ({"activation": ["relu", "tanh"]}, "activation: expected one for each of the 1 hidden"),
        ({"normalization": "group"}, "The 'normalization' parameter"),
        ({"n_members": 0}, "The 'n_members' parameter"),
        ({"optimizer": "adm"}, "optimizer: expected one of"),
        ({"solver": "lbfgs", "dropout": 0.5}, "random numbers"),
        ({"validation_data": (IRIS[0],)}, "validation_data: expected"),
    ],
)  # fmt: skip
def test_parameters_that_are_refused(options, match):
    X, y, _, model = both("iris", **options)
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(X, y)


def test_calls_that_are_refused():
    X, y, _, model = both("iris")
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(AttributeError, match="partial_fit"):
        both("iris", solver="lbfgs")[3].partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="does not support early_stopping"):
        both("iris", early_stopping=True)[3].partial_fit(X, y, classes=[0, 1, 2])
    model.fit(X, y)
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="classes not in"):
        model.partial_fit(X, y + 7)
    with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
        MLPRegressor(solver="sgd", learning_rate_init=1e300, max_iter=5).fit(*DIABETES)


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(40) % 3, np.arange(40) % 2 == 1, np.arange(40, dtype="uint64") % 5 * 2**40,
        np.arange(40) % 4 - 2, np.full(40, 3), np.arange(40, dtype=">i4") % 3,
        np.arange(40) % 3 * 1.0, np.arange(40) % 3 + 7,
    ],
    ids=["small", "bool", "large", "negative", "one", "swapped", "float", "gap"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8", "int64"])
def test_arrays_that_need_no_conversion_and_others(labels, dtype):
    X = np.random.default_rng(0).integers(-5, 5, (40, 3)).astype(dtype)
    options = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": (4,)}
    one = neural_network.MLPClassifier(**options).fit(X, labels)
    other = MLPClassifier(**options).fit(X, labels)
    assert other.classes_.dtype == one.classes_.dtype
    np.testing.assert_array_equal(other.classes_, one.classes_)
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=1e-5)
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    assert other.n_features_in_ == 3
    for bad, word in ((X[:, :2], "2 features"), (X + np.inf, "infinity"), (X[0], "1D array")):
        for estimator in (one, other):
            with pytest.raises(ValueError, match=word):
                estimator.predict(bad)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7)])
def test_random_states_are_those_of_numpy(seed):
    one, other = np.random.RandomState(seed), random_state(seed)
    np.testing.assert_array_equal(other.uniform(size=700), one.uniform(size=700))
    again = pickle.loads(pickle.dumps(other))
    assert again.normal() == other.normal() == one.normal()
    assert random_state(other) is other
    with pytest.raises(ValueError, match="between 0"):
        random_state(-1)


def test_grids_and_pipelines():
    X, y = IRIS
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=20, random_state=0)),
        {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=3, n_jobs=1,
    ).fit(X, y)  # fmt: skip
    theirs = GridSearchCV(
        make_pipeline(
            StandardScaler(), neural_network.MLPClassifier((5,), max_iter=20, random_state=0)
        ),
        {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=3,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
    assert clone(search.best_estimator_[-1]).get_params() == search.best_estimator_[-1].get_params()


def test_the_first_parameters_are_those_of_scikit_learn():
    for ours, theirs in (
        (MLPClassifier, neural_network.MLPClassifier), (MLPRegressor, neural_network.MLPRegressor),
    ):  # fmt: skip
        defaults = theirs().get_params()
        assert defaults.items() <= ours().get_params().items()


@parametrize_with_checks(
    [
        TabularClassifier((16, 16), max_iter=60, random_state=0),
        TabularRegressor((16, 16), max_iter=60, random_state=0),
        MLPClassifier(max_iter=100),
        MLPRegressor(max_iter=100),
        LSTMClassifier((8,), max_iter=100, learning_rate_init=0.02, random_state=0),
        LSTMRegressor(
            hidden_layer_sizes=(16,), max_iter=200, learning_rate_init=0.02, random_state=0
        ),
    ]
)
def test_the_checks_of_scikit_learn(estimator, check):
    with warnings.catch_warnings(action="ignore"):
        check(estimator)
