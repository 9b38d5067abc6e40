"""Models of river: evaluated, cloned and saved as its own."""

import pickle

import numpy as np
import pytest

pytest.importorskip("river")
pytest.importorskip("sklearn")

from river import evaluate, metrics, preprocessing

from fastnn.river import Classifier, Regressor
from fastnn.sklearn import MLPClassifier, MLPRegressor


def stream(count, kind):
    rng = np.random.default_rng(0)
    for a, b in rng.normal(size=(count, 2)).tolist():
        yield {"a": a, "b": b}, (a - b if kind is float else "up" if a > b else "down")


def test_numbers():
    network = MLPRegressor("squared_error", (16,), learning_rate_init=0.01, random_state=0)
    model = preprocessing.StandardScaler() | Regressor(network)
    assert model.predict_one({"a": 1.0, "b": 2.0}) == 0
    assert evaluate.progressive_val_score(stream(800, float), model, metrics.MAE()).get() < 0.4
    assert not hasattr(network, "coefs_")  # it was copied
    copy = pickle.loads(pickle.dumps(model))
    assert copy.predict_one({"a": 1.0, "b": 2.0}) == model.predict_one({"a": 1.0, "b": 2.0})
    assert model.clone().predict_one({"a": 1.0, "b": 2.0}) == 0


def test_classes():
    network = MLPClassifier((16,), learning_rate_init=0.01, random_state=0)
    model = Classifier(network, classes=["up", "down"])
    assert model.predict_one({"a": 1.0, "b": 2.0}) is None
    accuracy = evaluate.progressive_val_score(stream(800, str), model, metrics.Accuracy())
    assert accuracy.get() > 0.85
    probability = model.predict_proba_one({"a": 1.0, "b": -1.0})
    assert max(probability, key=probability.get) == model.predict_one({"a": 1.0, "b": -1.0}) == "up"
