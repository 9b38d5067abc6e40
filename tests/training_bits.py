"""Hashes of weights after training, which must be the same on every processor with FMA.

    python -m tests.training_bits [case ...]    # prints them as they are here, for EXPECTED

What goes in is exact: weights from integers, data from integers, an order of batches by integers.
So what comes out depends on fastnn alone.
"""

import sys
from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pytest

import fastnn as nn

from .optimizers import RULES

# Change them only with a line in CHANGELOG.md: users have results that they want again.
EXPECTED = {
    "digits float32": "b69f563e644fa2a4",
    "digits float64": "3a1a4f9327dd981a",
    "sequences float32": "1103d3346fba48f6",
    "sequences float64": "b3d1523ba4bbe48a",
    "optimizers float32": "8a6a1b2d0b166fac",
    "optimizers float64": "8bfe15425280ee9a",
}


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Multiples of 2⁻¹⁶ from -0.5 to 0.5, exact in both dtypes."""
    return rng.integers(-(2**15), 2**15, shape) / 2**16


def fill(model: nn.Layer, rng: np.random.Generator) -> nn.Layer:
    """Weights that no function of a mathematical library has touched."""
    for parameter in model.parameters():
        parameter.data = numbers(rng, *parameter.shape) / 2
    return model


def digest(*arrays: np.ndarray) -> str:
    """Of values and shapes."""
    found = sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:16]


def digits(dtype: str) -> str:
    """20 epochs of a perceptron on scikit-learn's digits."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    model = nn.Sequential(
        nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 30), nn.GELU(), nn.Linear(30, 10),
        dtype=dtype, rng=0,
    )  # fmt: skip
    optimizer = nn.optim.AdamW(fill(model, np.random.default_rng(0)).parameters(), lr=0.01)
    trainer = nn.Trainer(model, "cross_entropy", optimizer, clip_norm=1.0)
    x = (data.data / 16).astype(dtype)
    trainer.fit(x, data.target, epochs=20, batch_size=128, progress=False)
    return digest(*model.state_dict().values())


def sequences(dtype: str) -> str:
    """Normalization over batches and rows, and an LSTM in both directions."""
    rng = np.random.default_rng(1)
    model = nn.Sequential(
        nn.LSTM(7, 19, bidirectional=True, return_sequences=False),
        nn.BatchNorm1d(38), nn.Linear(38, 37), nn.LayerNorm(37), nn.Tanh(), nn.Dropout(0.25),
        nn.Linear(37, 5), dtype=dtype, rng=3,
    )  # fmt: skip
    optimizer = nn.optim.RMSprop(fill(model, rng).parameters(), lr=0.01, momentum=0.5)
    trainer = nn.Trainer(model, "mse", optimizer)
    x, target = numbers(rng, 40, 33, 11, 7).astype(dtype), numbers(rng, 40, 33, 5).astype(dtype)
    for batch in zip(x, target, strict=True):
        trainer.step(*batch)
    return digest(*model.state_dict().values())


def optimizers(dtype: str) -> str:
    """100 steps of every rule, with the gradient of a quadratic function."""
    rng = np.random.default_rng(2)
    found = []
    for rule in RULES:
        params = [numbers(rng, *shape).astype(dtype) for shape in ((5, 41), (333,), (2100,))]
        optimizer = rule.make(params, lr=0.01)
        for _ in range(100):
            optimizer.step([p * np.asarray(0.75, dtype) for p in params])
        found += params
    return digest(*found)


CASES: dict[str, Callable[[str], str]] = {
    f"{case.__name__} {dtype}": (lambda case=case, dtype=dtype: case(dtype))
    for case in (digits, sequences, optimizers)
    for dtype in ("float32", "float64")
}

if __name__ == "__main__":
    for name, run in CASES.items():
        if len(sys.argv) == 1 or name.split()[0] in sys.argv:
            print(f"{name}: {run()}")
