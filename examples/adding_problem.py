"""The adding problem: an LSTM learns to keep two numbers for a hundred steps and to add them.

    pip install . && python examples/adding_problem.py [--length 100] [--short]

Experiment 4 of Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8).
A sequence is LENGTH to 1.1 LENGTH pairs of a random number and a marker; the first and the last
pair have marker -1, two pairs of the first half have marker 1, all others 0. At the end the network
is asked for the sum of the two marked numbers, scaled to [0, 1]. It counts as right if it errs by
less than 0.04; training ends when the mean error is below 0.01 and the last 2,000 sequences were
all right. The paper's network needed 74,000 sequences of length 100 for that, and then had 1 of
2,560 new ones wrong. ``--short`` takes length 30.

The layers are used by hand here, without a trainer: sequences of different lengths go through the
LSTM side by side, padded at the end, and every batch is new.
"""

import argparse
import sys

import numpy as np

import fastnn

TOLERANCE, MEAN_ERROR = 0.04, 0.01
RECENT, TEST, REPORT, AT_MOST = 2_000, 2_560, 8_000, 500_000  # sequences
BATCH, HIDDEN = 16, 16


def draw(count, length, rng):
    """Return `count` padded sequences, how long each one is, and their targets.

    The shapes are (count, 1.1 length, 2), (count,) and (count, 1).
    """
    lengths = rng.integers(length, length + length // 10, count, endpoint=True)
    x = np.zeros((count, length + length // 10, 2), np.float32)
    rows, steps = np.arange(count), np.arange(x.shape[1])
    x[..., 0] = rng.uniform(-1, 1, x.shape[:2]) * (steps < lengths[:, np.newaxis])
    first = rng.integers(0, 10, count)
    second = rng.integers(0, length // 2 - 2, count)
    second += second >= first  # any but the first one
    # The pair at the very beginning keeps its marker -1; where it was drawn it counts as zero.
    x[(first == 0) | (second == 0), 0, 0] = 0
    total = x[rows, first, 0] + x[rows, second, 0]
    x[rows, first, 1] = x[rows, second, 1] = 1
    x[:, 0, 1] = x[rows, lengths - 1, 1] = -1
    return x, lengths, (0.5 + total / 4)[:, np.newaxis]


class Network:
    """An LSTM and a linear layer on its last output."""

    def __init__(self, length):
        self.lstm = fastnn.LSTM(2, HIDDEN, return_sequences=False, rng=0)
        self.linear = fastnn.Linear(HIDDEN, 1, rng=1)
        parameters = [*self.lstm.parameters(), *self.linear.parameters()]
        self.optimizer = fastnn.optim.Adam(parameters, lr=5e-3, clip_norm=0.1)
        # Forget gates near 1: a cell keeps what it holds for about as many steps as there are.
        # Input gates near 1/√length: what leaks in from all steps together stays of order 1.
        input_gates, forget_gates = self.lstm.bias_ih_l0.data.reshape(4, HIDDEN)[:2]  # then g, o
        input_gates[:], forget_gates[:] = -np.log(length) / 2, np.log(length)

    def predict(self, x, lengths):
        """Return the network's answers, (sequences, 1)."""
        return self.linear(self.lstm(x, lengths=lengths))

    def learn(self, x, lengths, target):
        """Take one step of the optimizer; return the absolute errors before it."""
        h = self.lstm(x, lengths=lengths, training=True)
        y = self.linear(h, training=True)
        _, dy = fastnn.losses.mse(y, target)
        self.lstm.backward(self.linear.backward(dy))
        self.optimizer.step()
        return np.abs(y - target)[:, 0]


def train(network, length, rng):
    """Train until the paper's criterion is met; return after how many sequences, None if never."""
    errors = np.ones(RECENT)  # of the last sequences
    for seen in range(BATCH, AT_MOST + 1, BATCH):
        errors = np.append(errors[BATCH:], network.learn(*draw(BATCH, length, rng)))
        mean, right = errors.mean(), np.mean(errors < TOLERANCE)
        if seen % REPORT == 0:
            print(f"{seen:9,} sequences: mean error {mean:.4f}, {right:.1%} right")
        if right == 1 and mean < MEAN_ERROR:
            return seen
    return None


def main(length):
    rng = np.random.default_rng(0)
    network = Network(length)
    seen = train(network, length, rng)
    if seen is None:
        print(f"not solved within {AT_MOST:,} sequences")
        return 1
    x, lengths, target = draw(TEST, length, rng)
    error = network.predict(x, lengths) - target
    wrong = np.count_nonzero(np.abs(error) >= TOLERANCE)
    print(f"length {length}: solved after {seen:,} sequences")
    print(f"new sequences: {wrong} of {TEST:,} wrong, mean squared error {np.mean(error**2):.1e}")
    return 0 if wrong < TEST / 20 else 1


def arguments():
    """Return the length from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--length", type=int, default=100, help="at least 24; the default is 100")
    parser.add_argument("--short", action="store_true", help="take length 30")
    given = parser.parse_args()
    if given.length < 24:  # the first ten pairs belong to the first half
        parser.error(f"--length: expected at least 24, got {given.length}")
    return 30 if given.short else given.length


if __name__ == "__main__":
    sys.exit(main(arguments()))
