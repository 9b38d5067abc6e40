"""Logistic regression with gradients of our own: fastnn's optimizers on plain NumPy arrays.

    pip install ".[examples]" && python examples/numpy_gradients.py

No layers and no model: whoever can compute a gradient can use `fastnn.optim`. The data are
scikit-learn's 569 real breast tumours, 30 measurements each, benign or malignant.
"""

import sys

import numpy as np
from sklearn.datasets import load_breast_cancer

import fastnn


def loss_and_gradients(x, y, weight, bias, decay=1e-3):
    """Return -Σ log p(y) / n + decay/2 ‖weight‖² for p(1) = sigmoid(x·weight + bias), and more.

    x is (n, 30), y is (n,) of 0 and 1, weight is (30,), bias is (1,).
    """
    logits = x @ weight + bias
    loss = np.mean(np.logaddexp(0, logits) - y * logits) + decay / 2 * weight @ weight
    dlogits = (1 / (1 + np.exp(-logits)) - y) / len(x)
    return loss, [x.T @ dlogits + decay * weight, dlogits.sum(keepdims=True)]


def main():
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:455], order[455:]
    x_train, statistics = fastnn.preprocessing.standardize(x[train])
    x_test = statistics.apply(x[test])

    weight, bias = np.zeros(30), np.zeros(1)
    optimizer = fastnn.optim.Adam([weight, bias], lr=fastnn.schedules.exponential_decay(0.1, 0.01))
    for step in range(301):
        loss, grads = loss_and_gradients(x_train, y[train], weight, bias)
        optimizer.step(grads)  # changes weight and bias in place
        if step % 50 == 0:
            print(f"step {step:3}: loss {loss:.4f}, learning rate {optimizer.lr:.4f}")

    accuracy = np.mean((x_test @ weight + bias > 0) == y[test])
    print(f"test accuracy: {accuracy:.4f}")
    return 0 if accuracy >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
