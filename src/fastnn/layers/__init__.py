"""Layers and containers."""

from fastnn.layers.activation import (
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from fastnn.layers.base import Layer
from fastnn.layers.container import Concat, Residual, Sequential
from fastnn.layers.dropout import Dropout
from fastnn.layers.embedding import Embedding
from fastnn.layers.linear import Linear
from fastnn.layers.normalization import BatchNorm1d, LayerNorm
from fastnn.layers.parameter import Parameter
from fastnn.layers.recurrent import LSTM
from fastnn.layers.shape import Flatten

__all__ = [
    "GELU",
    "LSTM",
    "BatchNorm1d",
    "Concat",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]


def __dir__() -> list[str]:
    return __all__
