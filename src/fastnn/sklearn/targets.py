"""What classifiers and regressors do with targets and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastnn._door.numbers import number
from fastnn._typing import Array
from fastnn.losses.loss import Loss
from fastnn.sklearn.base import STOCHASTIC, BaseNetwork
from fastnn.sklearn.objective import Criterion, criterion

__all__ = ["Classifier", "Regressor"]


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC and estimator.optimizer is None:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


def _has_held_out(estimator: Any) -> bool:
    if not hasattr(estimator, "_residuals"):
        raise AttributeError(
            "predict_interval needs a part of the data that was held out: fit with "
            "early_stopping=True or validation_data"
        )
    return True


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

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
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
            self._label_binarizer = LabelBinarizer()
            if type_of_target(y).startswith("multilabel"):
                self._label_binarizer.fit(y)
            else:
                self._label_binarizer.fit(classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def learn_one(self, x: Mapping[str, float], y: Any) -> Any:
        """Learn from one sample, as river's models do.

        Parameters
        ----------
        x : dict of str to float
            The features by name, the same names at each call.
        y : label
            One of `classes_`, which a call of `fit` or `partial_fit` has told.

        Returns
        -------
        self
        """
        if not hasattr(self, "classes_"):
            raise ValueError(
                "learn_one: expected to know all labels, from partial_fit(X, y, classes=...) or "
                "fit before it"
            )
        self._learn(x, self._label_binarizer.transform([y]).astype(bool))
        return self

    def predict_one(self, x: Mapping[str, float]) -> Any:
        """Return the label of one sample.

        Parameters
        ----------
        x : dict of str to float

        Returns
        -------
        label
        """
        return self._decide(self._outputs(self._row(x)))[0]

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

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        X, y = self._validate(X, y, reset=reset, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y)
            self.classes_ = self._label_binarizer.classes_
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
        return X, self._label_binarizer.transform(y).astype(bool)

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
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

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
        labels: Array = self._label_binarizer.inverse_transform(y.astype(int))
        return labels

    def _decide(self, outputs: Array) -> Array:
        if self.n_outputs_ == 1:
            outputs = outputs.ravel()
        labels: Array = self._label_binarizer.inverse_transform(outputs)
        return labels

    def _probability(self, outputs: Array) -> Array:
        if self.n_outputs_ > 1:
            return outputs
        outputs = outputs.ravel()
        return np.vstack([1 - outputs, outputs]).T

    def _by_class(self, slopes: Array) -> Array:
        return slopes if self.n_outputs_ > 1 else np.concatenate([-slopes, slopes], axis=1)

    def _score(self, X: Array, y: Any, sample_weight: Any = None) -> float:
        outputs = self._outputs(X)
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


class Regressor(RegressorMixin, BaseNetwork):  # type: ignore[misc]
    """Numbers, one or several for each sample."""

    _parameter_constraints = {  # noqa: RUF012
        **BaseNetwork._parameter_constraints,
        "loss": [str, callable],
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit the model to samples and targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 is trained in float32. A sparse matrix is made dense.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Go once through the data, from where the model is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def learn_one(self, x: Mapping[str, float], y: float) -> Any:
        """Learn from one sample, as river's models do.

        Parameters
        ----------
        x : dict of str to float
            The features by name, the same names at each call.
        y : float

        Returns
        -------
        self
        """
        self._learn(x, np.array([[y]], float))
        return self

    def predict_one(self, x: Mapping[str, float]) -> float:
        """Return the prediction for one sample.

        Parameters
        ----------
        x : dict of str to float

        Returns
        -------
        float
        """
        return float(self._centre(self._outputs(self._row(x)))[0, 0])

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        X, y = self._validate(X, y, reset=reset, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _out_activation(self) -> str:
        loss = self._criterion().loss
        counts = self.loss == "poisson" or getattr(loss, "name", "") == "poisson_nll"
        return "exp" if counts else "identity"

    def _units(self) -> int:
        """Several quantiles, or mean and variance, for each output."""
        loss = self._criterion().loss
        if not isinstance(loss, Loss):
            return int(self.n_outputs_)
        each = {"quantiles": len(loss.quantiles), "moments": 2}.get(loss.target, 1)
        return int(self.n_outputs_) * each

    def _centre(self, outputs: Array) -> Array:
        """Return one number for each output: the mean, or the quantile next to the median."""
        loss = self._criterion().loss
        if not isinstance(loss, Loss) or loss.target not in ("quantiles", "moments"):
            return outputs
        if loss.target == "moments":
            return outputs[:, : self.n_outputs_]
        middle = int(np.argmin(np.abs(np.array(loss.quantiles) - 0.5)))
        return outputs[:, middle :: len(loss.quantiles)]

    def _criterion(self) -> Criterion:
        return criterion(self.loss, self.n_outputs_)

    def _targets(self, y: Array) -> Array:
        return np.ascontiguousarray(y, self._dtype)

    def _score(self, X: Array, y: Any, sample_weight: Any = None) -> float:
        outputs = self._outputs(X)
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(y, self._centre(outputs), sample_weight=sample_weight))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R² of the predictions, of the quantile next to the median where there are several.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        centre = self._centre(self._outputs(self._inputs(X)))
        return float(r2_score(y, centre, sample_weight=sample_weight))

    def _calibrate(self, held: Any) -> None:
        X, y, _, _ = held
        self._residuals = np.sort(np.abs(y - self._centre(self._outputs(X))), axis=0)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the prediction for each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation too, which the loss "gaussian_nll" learns.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of a loss with several quantiles (n_samples, n_quantiles), and an axis for several
            outputs before it.
        std : ndarray of the same shape
            If asked for.
        """
        outputs, loss = self._outputs(self._inputs(X)), self._criterion().loss
        kind = loss.target if isinstance(loss, Loss) else "values"
        if return_std and kind != "moments":
            raise ValueError(
                f"return_std: expected loss='gaussian_nll' with it, got loss={self.loss!r}"
            )
        if kind == "quantiles":
            outputs = outputs.reshape(len(outputs), self.n_outputs_, -1)
            return outputs[:, 0] if self.n_outputs_ == 1 else outputs
        centre = self._centre(outputs)
        y = centre.ravel() if centre.shape[1] == 1 else centre
        if not return_std:
            return y
        return y, np.exp(0.5 * outputs[:, self.n_outputs_ :]).reshape(y.shape)

    @available_if(_has_held_out)  # type: ignore[untyped-decorator]
    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[Array, Array]:
        """Return intervals that hold new targets with a given probability, for each output alone.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        coverage : float, default=0.9
            Between 0 and 1. The held-out part must have at least coverage / (1 - coverage) samples.

        Returns
        -------
        lower, upper : ndarray of shape (n_samples,) or (n_samples, n_outputs)

        Notes
        -----
        Split conformal prediction: the prediction plus and minus the ⌈(n + 1) coverage⌉-th smallest
        absolute residual of the n samples that were held out by ``early_stopping`` or given as
        ``validation_data``. Papadopoulos et al., "Inductive confidence machines for regression",
        2002; Lei et al., "Distribution-free predictive inference for regression", 2018. An early
        stop chooses the best epoch by the same samples, which makes the intervals a little narrow.
        """
        coverage = number("coverage", coverage, 0, 1, above=True, below=True)
        held = len(self._residuals)
        rank = ceil((held + 1) * coverage - 1e-9)
        if rank > held:
            raise ValueError(
                f"coverage: expected at most {held / (held + 1):.3g} with {held} samples held out, "
                f"got {coverage}; hold out more (validation_fraction)"
            )
        centre, half = self._centre(self._outputs(self._inputs(X))), self._residuals[rank - 1]
        lower, upper = centre - half, centre + half
        return (lower.ravel(), upper.ravel()) if centre.shape[1] == 1 else (lower, upper)
