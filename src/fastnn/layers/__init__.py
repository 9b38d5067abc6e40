"""Layers and containers."""

from typing import TYPE_CHECKING

from fastnn.layers.activation import *  # noqa: F403
from fastnn.layers.activation import __all__ as _activation
from fastnn.layers.base import Layer as Layer
from fastnn.layers.container import *  # noqa: F403
from fastnn.layers.container import __all__ as _container
from fastnn.layers.dropout import *  # noqa: F403
from fastnn.layers.dropout import __all__ as _dropout
from fastnn.layers.embedding import *  # noqa: F403
from fastnn.layers.embedding import __all__ as _embedding
from fastnn.layers.linear import *  # noqa: F403
from fastnn.layers.linear import __all__ as _linear
from fastnn.layers.normalization import *  # noqa: F403
from fastnn.layers.normalization import __all__ as _normalization
from fastnn.layers.parameter import Parameter as Parameter
from fastnn.layers.recurrent import *  # noqa: F403
from fastnn.layers.recurrent import __all__ as _recurrent
from fastnn.layers.scale import *  # noqa: F403
from fastnn.layers.scale import __all__ as _scale
from fastnn.layers.shape import *  # noqa: F403
from fastnn.layers.shape import __all__ as _shape

if not TYPE_CHECKING:  # type checkers read literal lists alone, and the imports
    __all__ = [
        *_activation,
        *_container,
        *_dropout,
        *_embedding,
        *_linear,
        *_normalization,
        *_recurrent,
        *_scale,
        *_shape,
        "Layer",
        "Parameter",
    ]

    def __dir__():
        return __all__

    def __getattr__(name):
        from fastnn._hints import missing

        raise missing(__name__, name)
