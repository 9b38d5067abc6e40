"""Fitting epoch by epoch, as scikit-learn's perceptrons do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from fastnn._typing import Array
from fastnn.callbacks import CallbackList
from fastnn.sklearn.objective import Epochs
from fastnn.training.progress import ProgressBar

__all__ = ["StochasticFit"]


class StochasticFit:
    """Epochs, what is held out, when to stop, and rates that change; a part of `BaseNetwork`."""

    _warns = True  # of batches that are too large, and of the last epoch
    _takes_the_last = False  # of several epochs with the best score

    if TYPE_CHECKING:  # parameters and methods of the whole
        loss_: float
        t_: int
        validation_loss_curve_: list[float] | None
        validation_scores_: Any
        best_validation_score_: Any
        best_loss_: Any
        _trainer: Any
        _online: Any
        _no_improvement_count: int

        def __getattr__(self, name: str) -> Any: ...

    def _fit_stochastic(
        self, X: Array, y: Array, sample_weight: Array | None, incremental: bool
    ) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if not incremental and self.warm_start != "continue":
            self._trainer = self._optimizer_state = self._online = None
        held = None
        if self.validation_data is not None or self.early_stopping:
            X, y, sample_weight, held = self._hold_out(X, y, sample_weight)
        samples = len(X)
        if self.batch_size == "auto":
            batch_size = min(200, samples)
        else:
            if self.batch_size > samples and self._warns:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                    "clipped",
                    stacklevel=4,
                )
            batch_size = int(np.clip(self.batch_size, 1, samples))
        trainer = self._running_trainer(self.max_iter * max(1, samples // batch_size))
        epochs = Epochs(
            trainer, self._criterion(), np.ascontiguousarray(self._shaped(X)), self._targets(y),
            sample_weight, self.alpha, batch_size, self._least(batch_size),
        )  # fmt: skip
        callbacks, bar = CallbackList(self.callbacks, trainer), ProgressBar()
        if self.progress:
            bar.start(self.max_iter, -(-samples // batch_size))
        order, best, trainer.stop_training = np.arange(samples), None, False
        logs: dict[str, float] = {}
        callbacks.on_train_begin()
        try:
            self.n_iter_ = 0
            for epoch in range(self.max_iter):
                callbacks.on_epoch_begin(epoch)
                if self.shuffle:  # as sklearn.utils.shuffle, which checks its arguments for longer
                    numbers = np.arange(samples)
                    self._random_state.shuffle(numbers)
                    order = order[numbers]
                self.loss_ = epochs.run(order, callbacks, bar)
                self.n_iter_ += 1
                self.t_ += samples
                self.loss_curve_.append(self.loss_)
                logs = {"loss": self.loss_} | callbacks.added()
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if held is not None:
                    logs |= self._look_at(held)
                if self._improves(logs):
                    best = self._network.state_dict()
                self._set_rate()
                callbacks.on_epoch_end(epoch, logs)
                bar.epoch_end(epoch, logs)
                if self._is_stuck():
                    if self._stops():
                        break
                    self._no_improvement_count = 0
                if incremental or trainer.stop_training:
                    break
                if self.n_iter_ == self.max_iter and self._warns:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                        "the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            bar.close()
            callbacks.on_train_end(logs)
        if self.early_stopping and best is not None:
            self._network.load_state_dict(best)
        if held is not None:
            self._calibrate(held)

    def _hold_out(self, X: Array, y: Array, sample_weight: Array | None) -> Any:
        """Return what is left to train on, and (X, y, targets, sample_weight) of the rest."""
        if self.validation_data is not None:
            given = tuple(self.validation_data)
            if len(given) not in (2, 3):
                raise ValueError(
                    "validation_data: expected (X, y) or (X, y, sample_weight), got "
                    f"{len(given)} things"
                )
            X_val, y_val, weight = (*given, None)[:3]
            X_val, y_val, weight = self._checked(X_val, y_val, weight, True, False)
            y_val = y_val.reshape(-1, 1) if y_val.ndim == 1 else y_val
            train = X, y, sample_weight
        else:
            # as scikit-learn: no strata for several outputs
            stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
            arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
            parts = train_test_split(
                *arrays, random_state=self._random_state, test_size=self.validation_fraction,
                stratify=stratify,
            )  # fmt: skip
            if sample_weight is None:
                parts += [None, None]
            X, X_val, y, y_val, *weights = parts
            train, weight = (X, y, weights[0]), weights[1]
        if len(X_val) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        held = np.ascontiguousarray(X_val), self._labels(y_val), self._targets(y_val), weight
        return *train, held

    def _least(self, batch_size: int) -> int:
        """Return how many samples a batch must have."""
        return 2 if self.normalization == "batch" else 1

    def _labels(self, y: Array) -> Array:
        """Return targets as `_score` takes them."""
        return y

    def _look_at(self, held: Any) -> dict[str, float]:
        """Return loss and score of the part that is held out, and keep both."""
        X, y, targets, weight = held
        criterion = self._criterion()
        pred = self._raw(X)
        weights = criterion.weights(weight, len(X), pred.dtype)
        given = () if weights is None else (weights,)
        loss = float(criterion.loss(pred, targets, *given)[0]) / criterion.parts
        if self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        self.validation_loss_curve_.append(loss)
        if not self.early_stopping:
            return {"val_loss": loss}
        score = self._measure(X, y, pred, weight)
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        return {"val_loss": loss, "val_score": score}

    def _measure(self, X: Array, y: Array, pred: Array, weight: Array | None) -> float:
        if isinstance(self.early_stopping, (bool, np.bool_)):
            return float(self._score(y, self._activated(pred), weight))

        scorer = check_scoring(self, scoring=self.early_stopping)
        names = self.__dict__.pop("feature_names_in_", None)  # which X has no more
        try:
            return float(scorer(self, X, y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y))
        finally:
            if names is not None:
                self.feature_names_in_ = names

    def _improves(self, logs: Mapping[str, float]) -> bool:
        """Count epochs without improvement; return whether the score is the best so far."""
        if self.early_stopping:
            score = logs["val_score"]
            if score < self.best_validation_score_ + self.tol:
                self._no_improvement_count += 1
            else:
                self._no_improvement_count = 0
            if score > self.best_validation_score_ or (
                self._takes_the_last and score == self.best_validation_score_
            ):
                self.best_validation_score_ = score
                return True
            return False
        if self.loss_ > self.best_loss_ - self.tol:
            self._no_improvement_count += 1
        else:
            self._no_improvement_count = 0
        if self.loss_ < self.best_loss_:
            self.best_loss_ = self.loss_
        return False

    def _scales_rate(self, mode: str) -> bool:
        return bool(
            self.solver == "sgd" and self.optimizer is None and self.schedule is None
            and self.learning_rate == mode
        )  # fmt: skip

    def _set_rate(self) -> None:
        if self._scales_rate("invscaling"):
            self._rate = float(self.learning_rate_init) / (self.t_ + 1) ** self.power_t
            self._trainer.optimizer.lr = self._rate

    def _is_stuck(self) -> bool:
        return bool(self._no_improvement_count > self.n_iter_no_change)

    def _stops(self) -> bool:
        """Decide whether to end, or to go on with a lower rate."""
        if self.early_stopping:
            what = f"Validation score did not improve more than tol={self.tol:f}"
        else:
            what = f"Training loss did not improve more than tol={self.tol:f}"
        message = f"{what} for {self.n_iter_no_change} consecutive epochs."
        if not self._scales_rate("adaptive"):
            end = " Stopping."
        elif self._rate <= 1e-6:
            end = " Learning rate too small. Stopping."
        else:
            self._rate /= 5.0
            self._trainer.optimizer.lr = self._rate
            end = f" Setting learning rate to {self._rate:f}"
        if self.verbose:
            print(message + end)
        return end.endswith("Stopping.")

    def _calibrate(self, held: Any) -> None:
        """Keep what intervals need of the part that was held out."""
