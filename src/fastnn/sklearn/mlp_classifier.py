"""The multi-layer perceptron for classes, drop-in for that of scikit-learn."""

from __future__ import annotations

from typing import Any

from fastnn.sklearn.classification import OnlineClassifier
from fastnn.sklearn.perceptron import Perceptron

__all__ = ["MLPClassifier"]


class MLPClassifier(OnlineClassifier, Perceptron):
    """Multi-layer perceptron that minimizes the log loss; drop-in for scikit-learn's.

    The first parameters, up to `max_fun`, are those of
    :class:`sklearn.neural_network.MLPClassifier` with its defaults; the others are what its users
    asked for.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer.
    activation : str, layer, or list of these, default="relu"
        Of the hidden layers: {"identity", "logistic", "tanh", "relu"}, ours by name ("leaky_relu",
        "gelu", "silu", ...), a fastnn layer or its class; a list has one for each hidden layer.
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
        Draws initial weights, the held-out part, the order of samples and dropout. The same int
        gives scikit-learn's weights and batches.
    tol : float, default=1e-4
        What counts as an improvement.
    verbose : bool, default=False
    warm_start : bool or "continue", default=False
        Whether `fit` starts from the present weights; "continue" keeps the states of the optimizer
        too.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, str or callable, default=False
        Whether to hold out a part and to keep the weights of its best score: the
        accuracy, or
        that of a scorer of scikit-learn by name or callable.
    validation_fraction : float, default=0.1
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of "adam".
    n_iter_no_change : int, default=10
        Epochs without an improvement after which it ends.
    max_fun : int, default=15000
        Largest number of evaluations, for "lbfgs".
    dropout : float or list of float, default=0.0
        Probability with which outputs of hidden layers are dropped in training.
    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes, which multiply `sample_weight`.
    loss : Loss or callable, default=None
        Instead of the log loss, such as ``losses.cross_entropy(label_smoothing=0.1)`` for more than
        two classes.
    optimizer : str, class or callable, default=None
        Instead of the solver's: a name or class of :mod:`fastnn.optim`, with the rate
        `learning_rate_init`, or ``optimizer(parameters) -> Optimizer``.
    schedule : callable, default=None
        ``schedule(step) -> rate`` instead of `learning_rate_init`, such as one of
        :mod:`fastnn.schedules`.
    validation_data : (X, y) or (X, y, sample_weight), default=None
        Data of your own instead of a held-out part; without `early_stopping` they are only looked
        at.
    normalization : {"layer", "batch"}, default=None
        After each hidden layer's affine map.
    n_members : int, default=1
        Networks with different seeds, whose outputs are averaged; `estimators_` has them.
    callbacks : list, default=()
        Objects as of :mod:`fastnn.callbacks`; `logs` has "loss", "val_loss" and "val_score".
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights (in, out) and biases of each layer, views of the network's parameters.
    loss_, best_loss_ : float
    loss_curve_ : list of float
    validation_loss_curve_ : list of float or None
        The loss of held-out or validation data, without the penalty.
    validation_scores_, best_validation_score_
        With `early_stopping`.
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_, out_activation_, feature_names_in_
        As of scikit-learn.

    Notes
    -----
    The same `random_state` gives scikit-learn's initial weights and batches, so that in float64
    loss curves agree to rounding, and all attributes with them. Networks run in C and without the
    interpreter's lock. Sparse samples are made dense.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastnn.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(random_state=0, max_iter=500).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **Perceptron._parameter_constraints, **OnlineClassifier._parameter_constraints,
    }  # fmt: skip

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
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
        class_weight: Any = None,
        loss: Any = None,
        optimizer: Any = None,
        schedule: Any = None,
        validation_data: Any = None,
        normalization: str | None = None,
        n_members: int = 1,
        callbacks: Any = (),
        progress: bool = False,
    ) -> None:
        self._store(locals())
