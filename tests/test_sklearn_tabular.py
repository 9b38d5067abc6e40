"""The estimators for tables: columns, the recipe's network and rates, best epochs."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes, load_iris

from fastnn.sklearn import TabularClassifier, TabularRegressor
from fastnn.sklearn.table import Columns

X, LABELS = load_iris(return_X_y=True)
SAMPLES, Y = load_diabetes(return_X_y=True)
SMALL = {"hidden_layer_sizes": (16, 8), "max_iter": 30, "random_state": 0}


def test_columns():
    table = np.array(
        [[1.0, 0, 7, 3, 0], [2, 1, 7, 3, 0], [3, 2, 7, 3, 0], [4, 1, 7, 3, 9], [100, 0, 7, 3, 0]]
    )
    columns = Columns(np.array([False, True, True, False, False])).fit(table)
    found = columns.transform(table, np.float32)
    assert found.dtype == np.float32
    twice = np.concatenate([table, table[2:4]])
    weighted = Columns(columns.categorical).fit(table, np.array([1, 1, 2, 2, 1]))
    repeated = Columns(columns.categorical).fit(twice)
    np.testing.assert_array_equal(weighted.median, repeated.median)
    np.testing.assert_array_equal(weighted.factor, repeated.factor)
    z = (table[:, 0] - 3) / 2  # median 3, quartiles 2 and 4
    np.testing.assert_allclose(found[:, 0], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    assert found[:, 0].max() < 3
    np.testing.assert_array_equal(found[:, 1], 0)  # constant
    z = table[:, 4] / 4.5  # equal quartiles: half the range
    np.testing.assert_allclose(found[:, 2], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3:6], np.eye(3)[[0, 1, 2, 1, 0]])
    np.testing.assert_array_equal(found[:, 6], 1)  # one category
    new = columns.transform(np.array([[3.0, 5, 7, 3, 0]]), np.float32)
    np.testing.assert_array_equal(new[0, 3:6], 0)  # an unknown one
    two = Columns(np.array([True])).fit(np.array([["b"], ["a"]], object))
    found = two.transform(np.array([["a"], ["b"], ["c"]]), np.float64)
    np.testing.assert_array_equal(found, [[1], [-1], [0]])


def test_the_network_and_the_rates_are_those_of_the_recipe():
    model = TabularClassifier((64, 32), max_iter=1, random_state=0)
    model._validate_params()
    seen = {}

    class Watch:
        def set_trainer(self, trainer):
            optimizer = trainer.optimizer
            seen["rates"] = [
                (group["params"][0].shape, [group["lr"](t) for t in (0, 1)])
                for group in optimizer.groups
            ]
            seen["weights"] = [p.data.copy() for p in model._network.parameters()]

        def on_epoch_end(self, epoch, logs):
            pass

    model.set_params(callbacks=[Watch()], batch_size=60, max_iter=3).fit(X, LABELS)
    steps = 3 * (120 // 60)  # a last batch that is smaller is left out
    peak = 0.04 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 / steps))) / 2
    factors = {(4,): 6, (64, 4): 1 / 2, (32, 64): 1 / 8, (3, 32): 1 / np.sqrt(32), (64,): 0.1}
    for shape, rates in seen["rates"]:
        assert rates == pytest.approx([0, factors[shape] * peak])
    scale, first, bias, _, _, last, end = seen["weights"]
    np.testing.assert_array_equal(scale, 1)
    assert first.std() == pytest.approx(0.5, rel=0.1)
    assert bias.std() == pytest.approx(1, rel=0.25)
    assert not last.any()
    assert not end.any()


def test_classes():
    model = TabularClassifier(**SMALL).fit(X, LABELS)
    assert model.score(X, LABELS) > 0.85
    scores = model.validation_scores_
    assert model.best_validation_score_ == max(scores)
    assert model.n_iter_ == len(scores) == len(model.loss_curve_) == 30
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    words = np.where(LABELS > 0, "yes", "no")
    two = TabularClassifier(**SMALL, class_weight="balanced").fit(X, words)
    assert two.predict_proba(X).shape == (150, 2)
    assert two.score(X, words) > 0.95
    with pytest.raises(ValueError, match="one label for each sample"):
        TabularClassifier().fit(X, np.c_[LABELS > 0, LABELS > 1])


def test_numbers():
    model = TabularRegressor(**SMALL).fit(SAMPLES, Y)
    assert model.score(SAMPLES, Y) > 0.4
    assert model.best_validation_score_ == max(model.validation_scores_)
    lower, upper = model.predict_interval(SAMPLES, coverage=0.8)
    assert 0.7 < np.mean((lower <= Y) & (upper >= Y)) < 0.95
    several = TabularRegressor(**SMALL).fit(SAMPLES, np.c_[Y, -10 * Y])
    assert several.predict(SAMPLES).shape == (442, 2)
    members = TabularRegressor(**SMALL, n_members=2).fit(SAMPLES, Y)
    mean = np.mean([member.predict(SAMPLES) for member in members.estimators_], axis=0)
    np.testing.assert_allclose(members.predict(SAMPLES), mean)


def test_validation_data_choose_the_epoch():
    model = TabularClassifier(**SMALL, validation_data=(X[::2], LABELS[::2]))
    model.fit(X[1::2], LABELS[1::2])
    assert model.score(X[::2], LABELS[::2]) == model.best_validation_score_
    few = TabularRegressor(**SMALL).fit(SAMPLES[:49], Y[:49])  # none are held out
    assert few.validation_scores_ is None


def test_data_frames_with_words():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({
        "colour": rng.choice(["red", "green", "blue"], 200),
        "size": rng.normal(size=200),
        "kind": pandas.Categorical(rng.choice(["a", "b"], 200)),
    })  # fmt: skip
    y = (frame["colour"] == "red") ^ (frame["kind"] == "b").to_numpy()
    model = TabularClassifier(**SMALL).fit(frame, y)
    assert model.score(frame, y) > 0.97
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["size", "colour", "kind"]])
    numbers = frame.assign(colour=frame["colour"].map({"red": 0, "green": 1, "blue": 2}))
    numbers = numbers.assign(kind=numbers["kind"].map({"a": 0, "b": 1}).astype(float)).to_numpy()
    chosen = TabularClassifier(**SMALL, categorical_features=[0, 2]).fit(numbers, y)
    assert chosen._network.layers[0].weight.shape == (1 + 3 + 1,)
    assert chosen.score(numbers, y) > 0.97
