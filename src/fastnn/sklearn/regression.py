"""What regressors do with numbers and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from fastnn._door.numbers import number
from fastnn._typing import Array
from fastnn.losses.loss import Loss
from fastnn.sklearn.base import BaseNetwork, is_stochastic
from fastnn.sklearn.objective import Criterion, criterion

__all__ = ["OnlineRegressor", "Regressor"]


def _has_held_out(estimator: Any) -> bool:
    if not hasattr(estimator, "_residuals"):
        raise AttributeError(
            "predict_interval needs a part of the data that was held out: fit with "
            "early_stopping=True or validation_data"
        )
    return True


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
        if outputs.shape[1] == self.n_outputs_:
            return outputs
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

    def _score(self, y: Array, outputs: Array, sample_weight: Any = None) -> float:
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


class OnlineRegressor(Regressor):
    """One that can go on with more data."""

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
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
        self._learn(x, y)
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
        return float(self._centre(self._outputs(self._row(x))).item(0))
