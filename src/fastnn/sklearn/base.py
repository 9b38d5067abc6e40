"""What the estimators share: fitting as scikit-learn's perceptrons do, and predicting."""

from __future__ import annotations

from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import (
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastnn import optim
from fastnn._typing import Array
from fastnn.layers import Sequential
from fastnn.optim.base import Optimizer
from fastnn.optim.minimize import _made
from fastnn.sklearn.objective import Criterion, Epochs, minimize_lbfgs
from fastnn.sklearn.seeding import random_state
from fastnn.sklearn.stochastic import StochasticFit
from fastnn.training import Trainer
from fastnn.training.many import on_threads

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6

    def validate_data(estimator: Any, *arrays: Any, **options: Any) -> Any:
        """Check arrays as the estimator's own method did."""
        return estimator._validate_data(*arrays, **options)


__all__ = ["STOCHASTIC", "BaseNetwork", "is_stochastic", "out_activation"]

STOCHASTIC = ("sgd", "adam")
# Rows that are predicted at a time.
PREDICTED = 4096


class BaseNetwork(StochasticFit, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators; use one of its subclasses."""

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean", StrOptions({"continue"})],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean", str, callable],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="both"), list, tuple],
        "optimizer": [str, callable, None],
        "schedule": [callable, None],
        "validation_data": [list, tuple, None],
        "normalization": [StrOptions({"layer", "batch"}), None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "callbacks": [list, tuple],
        "progress": ["boolean"],
    }  # fmt: skip

    @classmethod
    def _arguments(cls) -> dict[str, Any]:
        """Return the arguments of ``__init__`` and their defaults."""
        known: dict[str, Any] | None = cls.__dict__.get("_known")
        if known is None:  # scikit-learn would look them up at every call
            parameters = signature(cls.__init__).parameters
            known = {name: parameters[name].default for name in super()._get_param_names()}
            cls._known = known
        return known

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return list(cls._arguments())

    def _store(self, given: dict[str, Any]) -> None:
        """Keep the arguments of ``__init__`` as they are."""
        for name in self._arguments():
            setattr(self, name, given[name])

    def _validate_params(self) -> None:
        """Check the parameters that are not their defaults."""
        given = {
            name: getattr(self, name) for name, default in self._arguments().items()
            if getattr(self, name) is not default
        }  # fmt: skip
        validate_parameter_constraints(
            self._parameter_constraints, given, caller_name=type(self).__name__
        )

    # What a subclass says --------------------------------------------------------------------

    def _criterion(self) -> Criterion:
        raise NotImplementedError

    def _targets(self, y: Array) -> Array:
        """Return checked targets, (samples, outputs), as the criterion reads them."""
        raise NotImplementedError

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        raise NotImplementedError

    def _out_activation(self) -> str:
        raise NotImplementedError

    def _score(self, y: Array, outputs: Array, sample_weight: Any = None) -> float:
        raise NotImplementedError

    def _make_network(self, X: Array, sizes: list[int]) -> Sequential:
        """Return a network for such samples and hidden sizes, with its initial values."""
        raise NotImplementedError

    def _units(self) -> int:
        """Return how many numbers the network predicts."""
        return int(self.n_outputs_)

    def _order(self) -> Array:
        """Return where a solver's vector of parameters has each element of ``get_flat()``."""
        return np.arange(self._network.get_flat().size)

    def _show_parameters(self) -> None:
        """Set the attributes that hold parameters."""

    def _take_over(self) -> None:
        """Read the attributes that hold parameters, if someone has changed them."""

    # Fitting ---------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        self._validate_params()
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        if self.n_members > 1:
            if incremental:
                raise ValueError("partial_fit does not support n_members > 1")
            return self._fit_members(X, y, sample_weight)
        first = not hasattr(self, "_network") or (not self.warm_start and not incremental)
        X, y, sample_weight = self._checked(X, y, sample_weight, incremental, first)
        if y.ndim == 1:
            y = y.reshape(-1, 1)
        self.n_outputs_ = y.shape[1]
        self._random_state = random_state(self.random_state)
        if first:
            self._initialize(X, sizes)
        else:
            self._take_over()
        if self.solver == "lbfgs" and self.optimizer is None:
            self._fit_lbfgs(X, y, sample_weight)
        else:
            self._fit_stochastic(X, y, sample_weight, incremental)
        if not np.isfinite(self._network.get_flat()).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, reset: bool
    ) -> tuple[Array, Array, Array | None]:
        X, y = self._validate_input(X, y, incremental, reset)
        if issparse(X):
            X = X.toarray()
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        return X, y, sample_weight

    def _initialize(self, X: Array, sizes: list[int]) -> None:
        """Make the network and everything that a first fit starts with."""
        self.n_iter_ = self.t_ = 0
        self.out_activation_ = self._out_activation()
        self._network = self._make_network(X, sizes)
        self._show_parameters()
        self._trainer: Any = None  # a Trainer, once there is one
        self._optimizer_state: Any = None  # of a trainer that a pickle has left behind
        self._online: Epochs | None = None  # for one sample at a time
        self._dtype = X.dtype
        if self.solver in STOCHASTIC or self.optimizer is not None:
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] | None = None
            self._no_improvement_count = 0
            stops = bool(self.early_stopping)
            self.validation_scores_: Any = [] if stops else None
            self.best_validation_score_: Any = -np.inf if stops else None
            self.best_loss_: Any = None if stops else np.inf

    def _seed(self) -> int:
        """Return a seed of the network's own random numbers, if it draws any.

        Without dropout the stream of `random_state` stays scikit-learn's.
        """
        if not np.any(np.asarray(self.dropout, float) > 0):
            return 0
        return int(self._random_state.randint(2**31 - 1))

    def __getstate__(self) -> dict[str, Any]:
        """Take the optimizer's states along, and no views."""
        state = dict(super().__getstate__())
        if "_network" in state:
            self._take_over()
            trainer, state["_online"] = state.pop("_trainer"), None
            state.pop("_one", None)
            state["_optimizer_state"] = self._optimizer_state
            if trainer is not None:
                state["_optimizer_state"] = trainer.optimizer.state_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_network" in self.__dict__:
            self._trainer = None
            self._show_parameters()

    def _running_trainer(self, steps: int) -> Any:
        """Return the trainer that goes on, or a new one for so many steps."""
        if self._trainer is None:
            self._trainer, self._rate = self._make_trainer(steps), float(self.learning_rate_init)
            if self._optimizer_state is not None:
                self._trainer.optimizer.load_state_dict(self._optimizer_state)
                self._rate, self._optimizer_state = self._trainer.optimizer.lr, None
        return self._trainer

    def _make_trainer(self, steps: int) -> Trainer:
        parameters = self._network.parameters()
        rate = self.learning_rate_init if self.schedule is None else self.schedule
        optimizer: Optimizer
        if isinstance(self.optimizer, (str, type)):
            optimizer = _made(self.optimizer, parameters, rate, {})
        elif self.optimizer is not None:
            optimizer = self.optimizer(parameters)
        elif self.solver == "sgd":
            optimizer = optim.SGD(
                parameters, rate, self.momentum, lr_in_velocity=True,
                nesterov=bool(self.nesterovs_momentum and self.momentum > 0),
            )  # fmt: skip
        else:
            optimizer = optim.Adam(
                parameters, rate, (self.beta_1, self.beta_2), self.epsilon, eps_uncorrected=True
            )
        return Trainer(self._network, self._criterion().loss, optimizer, l2_on="weights")

    def _fit_lbfgs(self, X: Array, y: Array, sample_weight: Array | None) -> None:
        result = minimize_lbfgs(
            self._network, self._criterion(), self._shaped(X), self._targets(y), sample_weight,
            self.alpha, self._order(),
            {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )  # fmt: skip
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun

    # Several members -------------------------------------------------------------------------

    def _fit_members(self, X: Any, y: Any, sample_weight: Any) -> Any:
        state = random_state(self.random_state)
        seeds = state.randint(np.iinfo(np.int32).max, size=self.n_members)
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        unfitted = [
            clone(self).set_params(n_members=1, random_state=int(seed)) for seed in seeds
        ]
        members = on_threads(lambda member: member.fit(X, y, **weight), unfitted)
        own = self.get_params(deep=False)
        fitted = {k: v for k, v in vars(members[0]).items() if k not in own}
        self.__dict__.update(fitted)
        self.estimators_ = members
        return self

    # Predicting ------------------------------------------------------------------------------

    def _inputs(self, X: Any) -> Array:
        """Return checked samples to predict."""
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return np.asarray(X.toarray() if issparse(X) else X)

    def _validate(self, X: Any, *y: Any, reset: bool, **options: Any) -> Any:
        """Check samples, and targets if they are given."""
        if self._needs_no_conversion(X, *y):
            if reset:
                self.__dict__.pop("feature_names_in_", None)
                self.n_features_in_ = X.shape[1]
                return (X, *y) if y else X
            known = self.__dict__
            if "feature_names_in_" not in known and X.shape[1] == known.get("n_features_in_"):
                return (X, *y) if y else X
        if y:
            options["dtype"] = (np.float64, np.float32)
        return validate_data(self, X, *y, accept_sparse=["csr", "csc"], reset=reset, **options)

    @staticmethod
    def _needs_no_conversion(X: Any, *y: Any) -> bool:
        """Return whether arrays pass scikit-learn's checks, which ask much of such arrays as well.

        False of others, which may pass or not.
        """
        if type(X) is not np.ndarray or X.ndim != 2 or not X.size:
            return False
        if X.dtype not in (np.float32, np.float64):
            return False
        for target in y:
            if type(target) is not np.ndarray or target.shape != X.shape[:1]:
                return False
            if target.dtype.kind not in "biuf" or not np.isfinite(target).all():
                return False
        return bool(np.isfinite(X).all())

    def _raw(self, X: Array) -> Array:
        """Return the network's linear output for checked samples."""
        self._take_over()
        X = self._shaped(X)
        if len(X) <= PREDICTED:
            return self._network(X)
        parts = [self._network(X[i : i + PREDICTED]) for i in range(0, len(X), PREDICTED)]
        return np.concatenate(parts)

    def _outputs(self, X: Array) -> Array:
        """Return the output after its activation, the mean over all members."""
        members = getattr(self, "estimators_", None) if self.n_members > 1 else None
        if members:
            return np.asarray(np.mean([member._outputs(X) for member in members], axis=0))
        return self._activated(self._raw(X))

    def _activated(self, z: Array) -> Array:
        """Return outputs from what is linear."""
        return out_activation(self.out_activation_, z)

    def _shaped(self, X: Array) -> Array:
        """Return checked samples as the network reads them."""
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def is_stochastic(estimator: Any) -> bool:
    """Raise AttributeError unless it is fitted epoch by epoch; for ``available_if``."""
    if estimator.solver not in STOCHASTIC and estimator.optimizer is None:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


def out_activation(name: str, z: Array) -> Array:
    """Return f(z) for scikit-learn's name of an output's activation."""
    if name == "softmax":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    if name == "logistic":
        from scipy.special import expit

        return np.asarray(expit(z))
    return np.exp(z) if name == "exp" else z
