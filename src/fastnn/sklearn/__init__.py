"""Estimators for scikit-learn: its own, faster, and what its users asked for on top.

``from fastnn.sklearn import MLPClassifier`` in place of ``from sklearn.neural_network import
MLPClassifier`` is all that a program needs: parameters, defaults, attributes, warnings and results
are the same.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastnn.sklearn needs scikit-learn, which is not installed: pip install scikit-learn, or "
        'pip install "fastnn-cpu[sklearn]"'
    ) from error

from fastnn.sklearn.lstm_classifier import LSTMClassifier
from fastnn.sklearn.lstm_regressor import LSTMRegressor
from fastnn.sklearn.mlp_classifier import MLPClassifier
from fastnn.sklearn.mlp_regressor import MLPRegressor
from fastnn.sklearn.tabular_classifier import TabularClassifier
from fastnn.sklearn.tabular_regressor import TabularRegressor

__all__ = [
    "LSTMClassifier",
    "LSTMRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "TabularClassifier",
    "TabularRegressor",
]


def __dir__() -> list[str]:
    return __all__
