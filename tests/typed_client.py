"""A program over the public interface, for mypy: it says of what type everything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn import (
    Linear,
    Trainer,
    initializers,
    losses,
    ops,
    optim,
    preprocessing,
    reference,
    schedules,
)  # fmt: skip
from fastnn.layers import Tanh
from fastnn.ops import gelu
from fastnn.reference import tanh_forward

Array = NDArray[Any]


class Scaled(fastnn.Layer):
    """A layer in plain Python."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any, training: bool = False) -> Array:
        return np.asarray(self.factor * x)

    def backward(self, dy: Any, accumulate: bool = False) -> Array:
        return np.asarray(self.factor * dy)


class Stop(fastnn.callbacks.Callback):
    """A callback."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if logs["loss"] < 1e-6:
            self.trainer.stop_training = True


x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
y = x[:, :1] - x[:, 1:2]
labels = np.arange(32) % 2

# Layers
linear = Linear(4, 3, init=initializers.he_normal, rng=0)
assert_type(linear(x), Array)
assert_type(linear.forward(x, training=True), Array)
assert_type(linear.backward(np.ones((32, 3))), Array | None)
assert_type(linear.weight, fastnn.Parameter)
assert_type(linear.bias, fastnn.Parameter | None)
assert_type(linear.weight.data, Array)
assert_type(linear.weight.grad, Array | None)
assert_type(linear.in_features, int)
assert_type(linear.state_dict(), dict[str, Array])
assert_type(linear.load_state_dict(linear.state_dict()).missing_keys, list[str])
assert_type(linear.summary(), str)
assert_type(fastnn.Dropout(0.1).p, float)
assert_type(fastnn.LeakyReLU(0.1).negative_slope, float)
assert_type(fastnn.GELU("tanh").approximate, str)
assert_type(fastnn.LayerNorm(4).normalized_shape, tuple[int, ...])
assert_type(fastnn.BatchNorm1d(4).momentum, float)
assert_type(fastnn.Embedding(5, 2)([[0, 4]]), Array)
lstm = fastnn.LSTM(4, 2, bidirectional=True)
assert_type(lstm(x[None], lengths=[7]), Array)
assert_type(lstm.final_state, tuple[Array, Array])
assert_type(lstm.weight_ih_l0, fastnn.Parameter)
assert_type(lstm.bidirectional, bool)

model = fastnn.Sequential(
    linear, fastnn.ReLU(), fastnn.Residual(fastnn.Linear(3, 3), Tanh()),
    fastnn.Concat(fastnn.Linear(3, 1), fastnn.Flatten()), Scaled(2.0), fastnn.Linear(4, 1), rng=1,
)  # fmt: skip
assert_type(model(x), Array)
assert_type(model[0], fastnn.Layer)
assert_type(model[1:], tuple[fastnn.Layer, ...])
assert_type(model.parameters(), list[fastnn.Parameter])

# Training
rate = schedules.warmup(schedules.cosine_decay(1e-2, steps=20), steps=5)
assert_type(rate(0), float)
optimizer = optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
trainer = Trainer(model, "mse", optimizer)
history = trainer.fit(
    x, y, epochs=2, validation_data=(x, y), metrics=["r2"], callbacks=[Stop()], progress=False
)
assert_type(history, fastnn.History)
assert_type(history.history, dict[str, list[float]])
assert_type(trainer.step(x, y), float)
assert_type(trainer.predict(x), Array)
assert_type(trainer.evaluate(x, y), dict[str, float])

# Functions on arrays
assert_type(losses.mse(x, x), tuple[float, Array])
assert_type(losses.cross_entropy(x, labels % 2), tuple[float, Array])
assert_type(ops.relu(x), Array)
assert_type(gelu(x), Array)
assert_type(ops.linear(x, np.ones((2, 4)), activation="tanh"), Array)
assert_type(ops.layer_norm(x), tuple[Array, Array, Array])
assert_type(ops.dropout(x, 0.5, rng=0), tuple[Array, NDArray[np.bool_]])
assert_type(ops.lstm_step(x, x, x, np.ones((16, 4)), np.ones((16, 4))), tuple[Array, Array])
assert_type(reference.sigmoid_forward(x), Array)
assert_type(tanh_forward(x), Array)
assert_type(preprocessing.standardize(x)[0], Array)
assert_type(initializers.orthogonal((2, 2), rng=0), Array)

# An optimizer on arrays
weights = np.ones(3)
optim.SGD([weights], lr=0.1, momentum=0.9).step([np.ones(3)])
ops.sgd_step(weights, weights.copy(), lr=0.1)
reference.sgd_step(weights, weights.copy(), lr=0.1)
assert_type(fastnn.__version__, str)
assert_type(fastnn.get_num_threads(), int)
adam = optim.Adam([weights], lr=0.1)
adam.lr = 2 * adam.lr
adam.clip_norm = 1.0
