"""All that a call could have changed, as something that can be compared."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import fastnn
from fastnn import optim

HUGE = 2**30  # bytes; arrays of more are views that repeat a few of them


def snapshot(thing: Any) -> Any:
    """What an object holds: bytes of arrays, and parameters, states and streams of the rest."""
    if isinstance(thing, np.ndarray):
        return of_array(thing)
    if isinstance(thing, fastnn.Trainer):
        return [
            snapshot(part)
            for part in (thing.model, thing.optimizer, thing.rng, thing.stop_training)
        ] + [repr(thing), dict(thing.history.history)]
    if isinstance(thing, fastnn.Layer):
        return of_layer(thing)
    if isinstance(thing, fastnn.Parameter):
        return of_array(thing.data), thing.trainable, thing.grad_ready
    if isinstance(thing, optim.Optimizer):
        groups = [{k: v for k, v in group.items() if k != "params"} for group in thing.groups]
        return snapshot(thing.state_dict()), repr(groups), thing.t, repr(thing)
    if isinstance(thing, np.random.Generator):
        return repr(thing.bit_generator.state)
    if isinstance(thing, (str, bytes, np.generic)):
        return thing
    if isinstance(thing, Mapping):
        return {key: snapshot(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [snapshot(value) for value in thing]
    if hasattr(thing, "get_params"):  # an estimator of scikit-learn
        return repr(thing), {k: snapshot(v) for k, v in vars(thing).items()}
    if hasattr(thing, "state") and hasattr(thing, "reset"):  # a stream
        return snapshot(thing.state)
    return type(thing), id(thing)


def of_array(array: np.ndarray) -> Any:
    """Values bit for bit, and how they lie in memory."""
    small = array if array.nbytes < HUGE else array[(slice(0, 1),) * array.ndim]
    values = small.tolist() if array.dtype == object else small.tobytes()
    return str(array.dtype), array.shape, array.strides, array.flags.writeable, values


def of_layer(layer: fastnn.Layer) -> Any:
    """Parameters, gradients, statistics, streams of random numbers and options."""
    parts = [snapshot(layer.state_dict())]
    for path, inner in layer._layers():
        parts += [(path, snapshot(inner.random_state) if inner.uses_random_numbers() else None)]
        parts += [snapshot(p) for p in inner._parameters.values()]
        parts += [snapshot(p.grad_array) for p in inner._parameters.values()]
        parts += [repr(inner)]
    return parts
