"""What classifiers do with labels and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastnn._typing import Array
from fastnn.sklearn.base import BaseNetwork, is_stochastic
from fastnn.sklearn.labels import Labels
from fastnn.sklearn.objective import Criterion, criterion

__all__ = ["Classifier", "OnlineClassifier"]


class Classifier(ClassifierMixin, BaseNetwork):  # type: ignore[misc]
    """Labels of any kind: two classes, several, or several labels at once."""

    _parameter_constraints = {  # noqa: RUF012
        **BaseNetwork._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "loss": [str, callable, None],
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit the model to samples and labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 is trained in float32. A sparse matrix is made dense.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any kind; 0 and 1 in several columns for several labels at once.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        X, y = self._validate(X, y, reset=reset, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._codes = Labels(y)
            self.classes_ = self._codes.classes
        else:
            classes = unique_labels(y)
            if self.warm_start and not incremental:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the "
                        f"previous call to fit. Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}."
                    f" 'y' has {classes}."
                )
        return X, self._codes.encode(y)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, reset: bool
    ) -> tuple[Array, Array, Array | None]:
        X, binary, sample_weight = super()._checked(X, y, sample_weight, incremental, reset)
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, self._labels(binary))
            sample_weight = by_class if sample_weight is None else sample_weight * by_class
            sample_weight = sample_weight.astype(X.dtype)
        return X, binary, sample_weight

    def _out_activation(self) -> str:
        return "softmax" if self._codes.kind == "multiclass" else "logistic"

    def _criterion(self) -> Criterion:
        if self.loss is not None:
            return criterion(self.loss, self.n_outputs_)
        name = "log_loss" if self.out_activation_ == "softmax" else "binary_log_loss"
        return criterion(name, self.n_outputs_)

    def _targets(self, y: Array) -> Array:
        if self.out_activation_ == "softmax":
            return np.asarray(np.argmax(y, axis=1))
        return np.asarray(y, self._dtype)

    def _labels(self, y: Array) -> Array:
        return self._codes.decode(y)

    def _decide(self, outputs: Array) -> Array:
        return self._codes.decode(outputs)

    def _probability(self, outputs: Array) -> Array:
        if self.n_outputs_ > 1:
            return outputs
        outputs = outputs.ravel()
        return np.vstack([1 - outputs, outputs]).T

    def _by_class(self, slopes: Array) -> Array:
        return slopes if self.n_outputs_ > 1 else np.concatenate([-slopes, slopes], axis=1)

    def _score(self, y: Array, outputs: Array, sample_weight: Any = None) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        return float(accuracy_score(y, self._decide(outputs), sample_weight=sample_weight))

    def predict(self, X: Any) -> Array:
        """Return the label of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._decide(self._outputs(self._inputs(X)))

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._probability(self._outputs(self._inputs(X)))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        probability = self.predict_proba(X)
        return np.asarray(np.log(probability, out=probability))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class OnlineClassifier(Classifier):
    """One that can go on with more data."""

    _targets_of: Any = None  # of which `_target_by_label` has targets by label
    _target_by_label: dict[Any, Array]

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> Any:
        """Go once through the data, from where the model is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array of shape (n_classes,), default=None
            All labels; needed at the first call.

        Returns
        -------
        self
        """
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._codes = Labels(y if several else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def learn_one(self, x: Mapping[str, float], y: Any, classes: Any = None) -> Any:
        """Learn from one sample, as river's models do.

        Parameters
        ----------
        x : dict of str to float
            The features by name, the same names at each call.
        y : label
        classes : array of shape (n_classes,), default=None
            All labels; needed at the first call.

        Returns
        -------
        self
        """
        if "classes_" not in self.__dict__:
            if classes is None:
                raise ValueError("classes: expected all labels at the first call of learn_one")
            _check_partial_fit_first_call(self, classes)
            self._codes = Labels(classes)
        self._learn(x, y)
        return self

    def _target_of(self, label: Any) -> Array:
        """Return the target for one label, which is looked up after the first time."""
        if self._targets_of is not self.classes_:
            self._targets_of, self._target_by_label = self.classes_, {}
        target = self._target_by_label.get(label)
        if target is None:
            if label not in (known := self.classes_.tolist()):
                raise ValueError(f"y: expected one of {known}, got {label!r}")
            target = self._target_by_label[label] = self._targets(self._codes.encode([label]))
        return target

    def _outputs_of_one(self) -> int:
        return self._codes.width

    def predict_one(self, x: Mapping[str, float]) -> Any:
        """Return the label of one sample.

        Parameters
        ----------
        x : dict of str to float

        Returns
        -------
        label
        """
        outputs = self._outputs(self._row(x))
        if self.out_activation_ == "softmax":
            return self.classes_[outputs.argmax()]
        if self.n_outputs_ == 1:
            return self.classes_[int(outputs[0, 0] > 0.5)]
        return self._decide(outputs)[0]

    def predict_proba_one(self, x: Mapping[str, float]) -> dict[Any, float]:
        """Return the probability of each class for one sample.

        Parameters
        ----------
        x : dict of str to float

        Returns
        -------
        dict of label to float
        """
        probability = self._probability(self._outputs(self._row(x)))[0]
        return dict(zip(self.classes_.tolist(), probability.tolist(), strict=True))
