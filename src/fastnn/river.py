"""Estimators of :mod:`fastnn.sklearn` as models of river, which learn from one sample at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

try:
    from river import base as _base
except ImportError as error:
    raise ImportError(
        "fastnn.river needs river, which is not installed: pip install river, or "
        'pip install "fastnn-cpu[river]"'
    ) from error

__all__ = ["Classifier", "Regressor"]


class Regressor(_base.Regressor):
    """A regressor of :mod:`fastnn.sklearn` for river's pipelines and evaluation.

    Parameters
    ----------
    estimator : MLPRegressor or LSTMRegressor
        Copied; it may have been fitted before.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics, preprocessing
    >>> from fastnn.river import Regressor
    >>> from fastnn.sklearn import MLPRegressor
    >>> network = Regressor(MLPRegressor(hidden_layer_sizes=(20,), random_state=0))
    >>> model = preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(network)
    >>> evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE()).get() < 1
    True
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.model = copy.deepcopy(estimator)

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Learn from one sample."""
        self.model.learn_one(x, y)

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return the prediction for one sample; 0 before the first is learnt."""
        return float(self.model.predict_one(x)) if hasattr(self.model, "n_features_in_") else 0.0


class Classifier(_base.Classifier):
    """A classifier of :mod:`fastnn.sklearn` for river's pipelines and evaluation.

    Parameters
    ----------
    estimator : MLPClassifier or LSTMClassifier
        Copied; it may have been fitted before.
    classes : iterable
        All labels that may come.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics, preprocessing
    >>> from fastnn.river import Classifier
    >>> from fastnn.sklearn import MLPClassifier
    >>> network = MLPClassifier(hidden_layer_sizes=(20,), random_state=0)
    >>> model = preprocessing.StandardScaler() | Classifier(network, classes=[False, True])
    >>> evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy()).get() > 0.8
    True
    """

    def __init__(self, estimator: Any, classes: Iterable[Any]) -> None:
        self.estimator, self.classes = estimator, list(classes)
        self.model = copy.deepcopy(estimator)

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Mapping[str, float], y: Any) -> None:
        """Learn from one sample."""
        self.model.learn_one(x, y, self.classes)

    def predict_proba_one(self, x: Mapping[str, float]) -> dict[Any, float]:
        """Return the probability of each class for one sample; empty before the first is learnt."""
        if not hasattr(self.model, "n_features_in_"):
            return {}
        found: dict[Any, float] = self.model.predict_proba_one(x)
        return found
