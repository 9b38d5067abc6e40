"""A row for every built-in layer, for tests that go through all of them."""

import numpy as np

import fastnn

# Every built-in layer with arguments that are not the defaults, and one sample's shape.
LAYERS = [
    (lambda: fastnn.Linear(5, 3, bias=False), (5,)),
    (lambda: fastnn.ReLU(), (4,)),
    (lambda: fastnn.LeakyReLU(0.25), (4,)),
    (lambda: fastnn.ELU(0.5), (4,)),
    (lambda: fastnn.SELU(), (4,)),
    (lambda: fastnn.Mish(), (4,)),
    (lambda: fastnn.Softplus(1.5), (4,)),
    (lambda: fastnn.Sigmoid(), (4,)),
    (lambda: fastnn.Tanh(), (4,)),
    (lambda: fastnn.GELU("tanh"), (4,)),
    (lambda: fastnn.SiLU(), (4,)),
    (lambda: fastnn.Softmax(), (4,)),
    (lambda: fastnn.LogSoftmax(), (4,)),
    (lambda: fastnn.Scale(4), (4,)),
    (lambda: fastnn.LayerNorm((2, 3), 1e-3, False), (2, 3)),
    (lambda: fastnn.BatchNorm1d(3, 1e-3, 0.3, False), (3,)),
    (lambda: fastnn.Dropout(0.125), (4,)),
    (lambda: fastnn.LSTM(3, 4, 2, True, 0.25, False), (5, 3)),
    (lambda: fastnn.Embedding(9, 3, True), (4,)),
    (lambda: fastnn.Flatten(), (2, 3)),
    (lambda: fastnn.Sequential(fastnn.Linear(4, 2), fastnn.Tanh()), (4,)),
    (lambda: fastnn.Residual(fastnn.Linear(4, 4)), (4,)),
    (lambda: fastnn.Concat(fastnn.Linear(4, 2), fastnn.Tanh()), (4,)),
]


def inputs(layer, shape, dtype="float32", batch=6):
    """Return a batch that the layer takes."""
    rng = np.random.default_rng(1)
    if layer._takes_integers:
        return rng.integers(0, 9, (batch, *shape))
    return rng.normal(size=(batch, *shape)).astype(dtype)
