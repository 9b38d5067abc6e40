"""A network in a file of ONNX learns something new: handwritten digits, now white on black.

    pip install ".[examples,onnx]" onnxruntime && python examples/fine_tuning.py

Networks are trained in one program and run in another by their file of ONNX; what no runtime does
on a CPU is to train them further. Here a network for scikit-learn's digits is written to a file,
read from it, trained on digits whose black and white are exchanged, and written again. Without
ONNX Runtime the outputs are those of the loaded models.
"""

import os
import tempfile
from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn
import fastnn.onnx


def train(model, x, y, epochs):
    """Train with Adam."""
    trainer = fastnn.Trainer(
        model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=1e-3)
    )
    trainer.fit(x, y, epochs=epochs, batch_size=32, progress=False, rng=0)


def run(path, x):
    """Return what the network in a file gives for x."""
    if find_spec("onnxruntime") is None:
        return fastnn.onnx.load(path)(x)
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def report(title, path, data):
    """Print the share of digits that are told right."""
    shares = [np.mean(run(path, x).argmax(1) == y) for x, y in data]
    print(f"{title:<28}" + "".join(f"{share:>8.1%}" for share in shares))
    return shares


def main():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("f4")
    x, x_test, y, y_test = train_test_split(x, y, random_state=0, stratify=y)
    data = [(x_test, y_test), (1 - x_test, y_test)]
    with tempfile.TemporaryDirectory() as folder:
        first, second = (os.path.join(folder, f"{name}.onnx") for name in ("first", "second"))
        model = fastnn.Sequential(
            fastnn.Linear(64, 64), fastnn.GELU(), fastnn.Linear(64, 10), rng=0
        )
        train(model, x, y, epochs=20)
        fastnn.onnx.export(model, first)
        print(f"{'right':<28}{'black':>8}{'white':>8}")
        before = report("as it came", first, data)

        model = fastnn.onnx.load(first)  # layers and weights, by nothing but the file
        rows = np.random.default_rng(0).choice(len(x), 500, replace=False)
        x_new = np.concatenate([x[rows], 1 - x[rows]])
        train(model, x_new, np.concatenate([y[rows], y[rows]]), epochs=100)
        fastnn.onnx.export(model, second)
        after = report("trained on 500 white digits", second, data)
    assert after[1] > before[1] + 0.5
    assert after[0] > before[0] - 0.03


if __name__ == "__main__":
    main()
