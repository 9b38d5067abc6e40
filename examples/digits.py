"""Recognise handwritten digits, and time a training step beside the same step in NumPy.

    pip install ".[examples]" && python examples/digits.py

Trains a 64-128-10 network on scikit-learn's 1,797 real digits, prints its accuracy on digits that
it has not seen, and saves the learning curve as digits.png. ``--short`` measures for less long.
"""

import sys
import time
from statistics import median

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import fastnn
from fastnn import reference

BATCH, LEARNING_RATE = 32, 2e-3
ROUNDS, STEPS = (5, 20) if "--short" in sys.argv else (51, 200)


def load():
    """Return pixels in [0, 1] and labels, first 1,437 to train with, then 360 to test with."""
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1437], order[1437:]
    return x[train], labels[train], x[test], labels[test]


def make_trainer():
    """Return a network with Adam; the seed makes every run the same."""
    model = fastnn.Sequential(
        fastnn.Linear(64, 128),
        fastnn.ReLU(),
        fastnn.Linear(128, 10),
        rng=0,
    )
    optimizer = fastnn.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return fastnn.Trainer(model, "cross_entropy", optimizer)


class NumPyTrainer:
    """The same network and the same step, written with the functions of fastnn.reference."""

    def __init__(self, parameters):
        self.parameters = [parameter.data.copy() for parameter in parameters]
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.t = 0

    def step(self, x, y):
        w1, b1, w2, b2 = self.parameters
        hidden = reference.relu_forward(reference.linear_forward(x, w1, b1))
        logits = reference.linear_forward(hidden, w2, b2)
        losses, dlogits = reference.cross_entropy_loss(logits, y, scale=1 / len(x))
        dw2, db2 = reference.linear_backward_weight(dlogits, hidden)
        dhidden = reference.linear_backward_input(dlogits, w2)
        dhidden = reference.relu_backward(dhidden, hidden)
        dw1, db1 = reference.linear_backward_weight(dhidden, x)
        self.t += 1
        grads = dw1, db1, dw2, db2
        for parameter, grad, (m, v) in zip(self.parameters, grads, self.moments, strict=True):
            reference.optim.adam_step(parameter, grad, m, v, step=self.t, lr=LEARNING_RATE)
        return losses.mean()


def microseconds(step, x, y):
    """Return the time of one call of `step`, averaged over STEPS calls."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step(x, y)
    return 1e6 * (time.perf_counter() - start) / STEPS


def main():
    x, y, x_test, y_test = load()
    trainer = make_trainer()
    history = trainer.fit(
        x,
        y,
        epochs=20,
        batch_size=BATCH,
        validation_data=(x_test, y_test),
        metrics=["accuracy"],
        rng=0,
    )
    accuracy = trainer.evaluate(x_test, y_test, metrics=["accuracy"])["accuracy"]
    print(f"test accuracy: {accuracy:.4f}")

    matplotlib.use("Agg")  # a file, no window
    fastnn.plot.learning_curves(history).savefig("digits.png", dpi=150)
    print("learning curve: digits.png")

    fast = make_trainer()
    slow = NumPyTrainer(fast.model.parameters())
    batch = x[:BATCH], y[:BATCH]
    assert np.isclose(fast.step(*batch), slow.step(*batch))
    # Taken in turns, so that whatever else the machine does meets both alike.
    with threadpool_limits(1):
        times = [
            (microseconds(fast.step, *batch), microseconds(slow.step, *batch))
            for _ in range(ROUNDS)
        ]
    ours, numpys = (median(column) for column in zip(*times, strict=True))
    print(
        f"a training step of {BATCH} digits on one thread: fastnn {ours:.1f} µs, "
        f"NumPy {numpys:.1f} µs ({numpys / ours:.1f} times as long)"
    )
    return 0 if accuracy >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())
