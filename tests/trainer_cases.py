"""What the tests of the trainer share: data, a small model, and how to compare trainers."""

import numpy as np

import fastnn
from fastnn import optim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6))
Y = RNG.normal(size=(70, 3))
LABELS = RNG.integers(0, 3, 70)
W = RNG.uniform(0.1, 2, 70)


def mlp(dtype="float32", dropout=0.0, rng=0):
    layers = [fastnn.Linear(6, 20), fastnn.Tanh()]
    layers += [fastnn.Dropout(dropout)] if dropout else []
    return fastnn.Sequential(*layers, fastnn.Linear(20, 3), dtype=dtype, rng=rng)


def make(loss="cross_entropy", dtype="float32", dropout=0.0, lr=0.01, **options):
    model = mlp(dtype, dropout)
    return fastnn.Trainer(model, loss, optim.Adam(model.parameters(), lr=lr), **options)


def by_hand(model, loss, optimizer, x, y, weight=None):
    value, gradient = loss(model.forward(x, training=True), y, sample_weight=weight)
    model.backward(gradient)
    optimizer.step()
    return value


def state(trainer):
    """Everything that training changes, as copies."""
    found = trainer.model.state_dict() | {"t": np.array(trainer.optimizer.t)}
    for name, slots in trainer.optimizer.state_dict()["state"].items():
        found |= {f"{name}.{slot}": values for slot, values in slots.items()}
    for path, layer in trainer.model._layers():
        if layer._random_state is not None:
            found[f"random.{path}"] = layer._random_state.copy()
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
