"""Recurrent networks for sequences, with the parameters of scikit-learn's perceptrons."""

from __future__ import annotations

from typing import Any

from fastnn.sklearn.recurrent import EXTRA, Recurrent
from fastnn.sklearn.regression import OnlineRegressor

__all__ = ["LSTMRegressor"]


class LSTMRegressor(OnlineRegressor, Recurrent):
    """Long short-term memory that reads sequences and tells numbers.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error"}, Loss or callable, default="squared_error"
        Or anything that `Trainer` takes: the name of a loss of :mod:`fastnn.losses`, one with
        options, or ``loss(pred, target) -> (loss, gradient)``. ``losses.quantile(quantiles=[0.1,
        0.9])`` predicts several quantiles at once, "gaussian_nll" means and variances.
    hidden_layer_sizes : array-like of int, default=(100,)
        Hidden units of each LSTM, one upon the other.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, divided by the size of the batch.
    batch_size : int, default="auto"
        Samples per step; "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For "sgd": constant, ``learning_rate_init / t ** power_t``, or divided by 5 whenever the
        loss (the score) has stopped to improve.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Largest number of epochs, of iterations for "lbfgs".
    shuffle : bool, default=True
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, the held-out part, the order of samples and dropout.
    tol : float, default=1e-4
        What counts as an improvement.
    verbose : bool, default=False
    warm_start : bool or "continue", default=False
        Whether `fit` starts from the present weights; "continue" keeps the states of the optimizer
        too.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, str or callable, default=False
        Whether to hold out a part and to keep the weights of its best score: R², or
        that of a scorer of scikit-learn by name or callable.
    validation_fraction : float, default=0.1
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of "adam".
    n_iter_no_change : int, default=10
        Epochs without an improvement after which it ends.
    max_fun : int, default=15000
        Largest number of evaluations, for "lbfgs".
    dropout : float or list of float, default=0.0
        Probability with which outputs of each LSTM are dropped in training.
    bidirectional : bool, default=False
        Whether each LSTM has a second set of weights that reads the sequence backwards.
    optimizer : str, class or callable, default=None
        Instead of the solver's: a name or class of :mod:`fastnn.optim`, with the rate
        `learning_rate_init`, or ``optimizer(parameters) -> Optimizer``.
    schedule : callable, default=None
        ``schedule(step) -> rate`` instead of `learning_rate_init`, such as one of
        :mod:`fastnn.schedules`.
    validation_data : (X, y) or (X, y, sample_weight), default=None
        Data of your own instead of a held-out part; without `early_stopping` they are only looked
        at.
    n_members : int, default=1
        Networks with different seeds, whose outputs are averaged; `estimators_` has them.
    callbacks : list, default=()
        Objects as of :mod:`fastnn.callbacks`; `logs` has "loss", "val_loss" and "val_score".
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Attributes
    ----------
    loss_, best_loss_ : float
    loss_curve_ : list of float
    validation_loss_curve_ : list of float or None
        The loss of held-out or validation data, without the penalty.
    validation_scores_, best_validation_score_
        With `early_stopping`.
    n_iter_, t_, n_outputs_, out_activation_
        As of the perceptrons.
    n_features_in_ : int
        Features of each step; columns of samples with two axes.

    Notes
    -----
    Hochreiter & Schmidhuber 1997. Samples have the shape (n_samples, n_steps, n_features), or
    (n_samples, n_steps) with one feature, as scikit-learn's own tools take them; with three axes
    the number of steps may be another at each call. The last step of the last LSTM goes through a
    dense layer. Weights start uniform in ±1/√units, as PyTorch's.

    Examples
    --------
    The mean of a sequence:

    >>> import numpy as np
    >>> from fastnn.sklearn import LSTMRegressor
    >>> x = np.random.default_rng(0).normal(size=(200, 10, 1))
    >>> model = LSTMRegressor(
    ...     hidden_layer_sizes=(8,), learning_rate_init=0.02, max_iter=100, tol=1e-3, random_state=0
    ... )
    >>> model.fit(x, x.mean((1, 2))).score(x, x.mean((1, 2))) > 0.9
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **OnlineRegressor._parameter_constraints, **EXTRA,
    }  # fmt: skip

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: Any = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: Any = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        bidirectional: bool = False,
        optimizer: Any = None,
        schedule: Any = None,
        validation_data: Any = None,
        n_members: int = 1,
        callbacks: Any = (),
        progress: bool = False,
    ) -> None:
        self._store(locals())
