"""What the pictures of the reference and of the guides show."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import initializers, losses, optim, plot, schedules, solvers


def find(module, name):
    """Return the function that draws what is called `name` in `module`, or None."""
    return DRAWINGS.get(f"{module}.{name}") or DRAWINGS.get(name) or IN_SVG.get(name)


# --- layers -------------------------------------------------------------------------------------


def activation(name):
    """Draw an activation and its gradient, from the layer itself."""
    layer = getattr(fastnn, name)(dtype="float64")
    x = np.linspace(-4, 4, 401)[:, None]
    _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    y = layer.forward(x, training=True)
    ax.plot(x, y, label=name)
    ax.plot(x, layer.backward(np.ones_like(y)), "--", label="its gradient")
    ax.set(xlabel="x")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)


def softmax(name):
    """Draw what becomes of four numbers."""
    x = np.array([[1.0, 3.0, -1.0, 2.0]])
    _, panels = plt.subplots(1, 2, figsize=(6, 2.6), layout="constrained")
    panels[0].bar(range(4), x[0])
    panels[1].bar(range(4), getattr(fastnn, name)()(x)[0], color="C1")
    for ax, title in zip(panels, ("x", f"{name}(x)"), strict=True):
        ax.set(title=title, xticks=range(4))
        ax.axhline(0, color="gray", linewidth=0.8)


def matrices(*shown):
    """Draw arrays side by side, each (title, array)."""
    widths = [max(array.shape[1], 3) for _, array in shown]
    _, panels = plt.subplots(
        1, len(shown), figsize=(0.26 * sum(widths) + len(shown), 2.6), layout="constrained",
        width_ratios=widths, squeeze=False,
    )  # fmt: skip
    limit = max(np.abs(array).max() for _, array in shown)
    for ax, (title, array) in zip(panels.flat, shown, strict=True):
        ax.imshow(array, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set(title=title, xticks=[], yticks=[])


def linear():
    """Draw the product and the bias as matrices."""
    x = np.random.default_rng(0).normal(size=(8, 6))
    layer = fastnn.Linear(6, 4, dtype="float64", rng=0)
    layer.bias.data = [1, -1, 0.5, 0]
    matrices(
        ("x", x), ("weight, transposed", layer.weight.data.T), ("bias", layer.bias.data[None]),
        ("y", layer(x)),
    )  # fmt: skip


def normalization(name):
    """Draw samples (rows) and features (columns) before and after."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 8)) * np.linspace(0.5, 2, 8) + np.linspace(-3, 3, 8)
    x += np.linspace(-1, 2, 12)[:, None]
    y = getattr(fastnn, name)(8, dtype="float64").forward(x, training=True)
    which = "each column" if name == "BatchNorm1d" else "each row"
    matrices(("x: samples × features", x), (f"{which}: mean 0, variance 1", y))


def dropout():
    """Draw an array with a half of it gone and the other half doubled."""
    x = np.random.default_rng(0).normal(size=(12, 8))
    y = fastnn.Dropout(0.5, dtype="float64", rng=0).forward(x, training=True)
    matrices(("x", x), ("y in training", y), ("y else", x))


def embedding():
    """Draw the table and the rows that were asked for."""
    layer = fastnn.Embedding(10, 6, dtype="float64", rng=0)
    matrices(
        ("weight: 10 words", layer.weight.data), ("y of [7, 2, 2, 0]", layer([[7, 2, 2, 0]])[0])
    )


def scale():
    """Draw columns multiplied by factors."""
    x = np.random.default_rng(0).normal(size=(8, 6))
    layer = fastnn.Scale(6, dtype="float64")
    layer.weight.data = [2, 1, 0.5, 0, -1, 1]
    matrices(("x", x), ("weight", layer.weight.data[None]), ("y", layer(x)))


def lstm():
    """Draw what an LSTM of random weights remembers of two pulses."""
    x = np.zeros((1, 40, 1))
    x[0, 5], x[0, 20] = 3, -3
    layer = fastnn.LSTM(1, 8, dtype="float64", rng=3)
    layer.bias_ih_l0.data = np.repeat([0.0, 1.5, 0.0, 0.0], 8)
    h = layer(x)[0]
    _, panels = plt.subplots(2, 1, figsize=(6, 3.4), sharex=True, layout="constrained")
    panels[0].step(range(40), x[0, :, 0], where="mid")
    panels[0].set(ylabel="x")
    panels[1].imshow(h.T, aspect="auto", cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    panels[1].set(ylabel="unit of h", xlabel="time step")


def container(*layers, input_shape=None):
    """Return the graph of a model as text of SVG."""
    model = fastnn.Sequential(*layers, rng=0)
    return str(model.graph(format="svg", input_shape=input_shape))


# --- losses -------------------------------------------------------------------------------------


def loss_curves(curves, xlabel, x):
    """Draw losses and gradients of one prediction, each (label, function of the prediction)."""
    _, panels = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    for label, function in curves:
        values = [function(np.array([[v]])) for v in x]
        panels[0].plot(x, [value for value, _ in values], label=label)
        panels[1].plot(x, [gradient[0, 0] for _, gradient in values], label=label)
    for ax, ylabel in zip(panels, ("loss", "gradient"), strict=True):
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.grid(alpha=0.3)
    if len(curves) > 1:
        panels[0].legend(frameon=False)


def loss(name, target, xlabel, **options):
    """Draw a loss for one target; an option with a tuple of values is a curve for each."""
    function, x = getattr(losses, name), np.linspace(-4, 4, 161)
    target = np.array([[target]])
    (key, values), *_ = [*options.items(), ("", ("",))]
    curves = [
        (f"{key} {v}", lambda p, o=({key: v} if key else {}): function(p, target, **o))
        for v in values
    ]
    loss_curves(curves, xlabel, x)


def quantile():
    """Draw the losses of three quantiles."""
    curves = [
        (f"quantile {q}", lambda p, q=q: losses.quantile(p, [[0.0]], [q])) for q in (0.1, 0.5, 0.9)
    ]
    loss_curves(curves, "prediction, target 0", np.linspace(-2, 2, 81))


def cross_entropy():
    """Draw the loss of the first of two classes over its logit."""

    def function(smoothing, p):
        value, gradient = losses.cross_entropy(
            np.hstack([p, [[0.0]]]), [0], label_smoothing=smoothing
        )
        return value, gradient[:, :1]

    curves = [(f"label_smoothing {s}", partial(function, s)) for s in (0.0, 0.2)]
    loss_curves(curves, "logit of the label, the other's is 0", np.linspace(-5, 5, 81))


def gaussian_nll():
    """Draw the loss over the mean for three variances."""

    def function(v, p):
        value, gradient = losses.gaussian_nll(np.hstack([p, [[v]]]), [[0.0]])
        return value, gradient[:, :1]

    curves = [(f"log variance {v}", partial(function, v)) for v in (-1.0, 0.0, 1.0)]
    loss_curves(curves, "predicted mean, target 0", np.linspace(-3, 3, 81))


def l2_penalty():
    """Draw the penalty of one weight."""
    x = np.linspace(-2, 2, 81)
    _, ax = plt.subplots(figsize=(4, 2.8), layout="constrained")
    for lam in (0.1, 1.0):
        ax.plot(x, lam / 2 * x**2, label=f"λ = {lam}")
    ax.set(xlabel="weight", ylabel="penalty")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)


# --- optimizers and schedules -------------------------------------------------------------------


def bowl(x, y):
    """Return the height of a long bowl."""
    return x**2 / 20 + y**2


def rosenbrock(x, y):
    """Return the height of Rosenbrock's valley."""
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def rosenbrock_gradient(p):
    """Return its gradient."""
    x, y = p
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


def path(make, start, gradient, steps):
    """Return the points that an optimizer goes through."""
    point = np.array(start)
    optimizer, points = make([point]), [point.copy()]
    for _ in range(steps):
        optimizer.step([gradient(point)])
        points.append(point.copy())
    return points


def optimizer(**makers):
    """Draw paths on the long bowl."""
    paths = {
        label: path(make, (-9.0, 2.0), lambda p: np.array([p[0] / 10, 2 * p[1]]), 40)
        for label, make in makers.items()
    }
    plot.optimizer_paths(bowl, paths, minimum=(0, 0), xlim=(-10, 4), ylim=(-3, 3))


def four_on_rosenbrock():
    """Draw the picture of the guide to gradients of one's own."""
    makers = {
        "SGD": lambda p: optim.SGD(p, lr=1e-3),
        "momentum": lambda p: optim.SGD(p, lr=1e-3, momentum=0.9),
        "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2),
        "Adam": lambda p: optim.Adam(p, lr=5e-2),
    }
    paths = {
        label: path(make, (-1.2, 1.0), rosenbrock_gradient, 300) for label, make in makers.items()
    }
    plot.optimizer_paths(rosenbrock, paths, minimum=(1, 1), xlim=(-1.8, 1.8), ylim=(-0.8, 2.2))


SGD = partial(optim.SGD, lr=0.3)
OPTIMIZERS = {
    "SGD": {
        "SGD": SGD,
        "momentum": partial(optim.SGD, lr=0.1, momentum=0.8),
        "nesterov": partial(optim.SGD, lr=0.1, momentum=0.8, nesterov=True),
    },
    "NAG": {"SGD": SGD, "NAG": partial(optim.NAG, lr=0.1, momentum=0.8)},
    "Adagrad": {"SGD": SGD, "Adagrad": partial(optim.Adagrad, lr=1.0)},
    "RMSprop": {"SGD": SGD, "RMSprop": partial(optim.RMSprop, lr=0.3)},
    "Adam": {
        "Adam": partial(optim.Adam, lr=0.5),
        "without correction": partial(optim.Adam, lr=0.5, bias_correction=False),
    },
    "AdamW": {
        "Adam": partial(optim.Adam, lr=0.5),
        "AdamW": partial(optim.AdamW, lr=0.5, weight_decay=0.1),
    },
    "Lion": {"SGD": SGD, "Lion": partial(optim.Lion, lr=0.3)},
    "LAMB": {"SGD": SGD, "LAMB": partial(optim.LAMB, lr=0.1)},
}
SCHEDULES = {
    "constant": schedules.constant(0.1),
    "cosine_cycles": schedules.cosine_cycles(0.1, 400),
    "cosine_decay": schedules.cosine_decay(0.1, 400),
    "cyclic": schedules.cyclic(0.02, 0.1, step_size_up=50, mode="triangular2"),
    "exponential_decay": schedules.exponential_decay(0.1, 0.01),
    "inverse_time_decay": schedules.inverse_time_decay(0.1, 0.01),
    "linear": schedules.linear(0.1, 0.02, 300),
    "one_cycle": schedules.one_cycle(0.1, 400),
    "piecewise_constant": schedules.piecewise_constant([100, 250], [0.1, 0.05, 0.01]),
    "polynomial_decay": schedules.polynomial_decay(0.1, 300, power=2.0),
    "step_decay": schedules.step_decay(0.1, 0.5, every=100),
    "warmup": schedules.warmup(schedules.cosine_decay(0.1, 320), 80),
}


# --- solvers, initial values, guides ------------------------------------------------------------


def solver(name):
    """Draw the loss over the iterations beside Adam's over as many passes."""

    def model():
        layers = fastnn.Linear(1, 20), fastnn.Tanh(), fastnn.Linear(20, 1)
        return fastnn.Sequential(*layers, dtype="float64", rng=0)

    x = np.linspace(-1, 1, 400)[:, None]
    y = np.sinc(10 * x / np.pi)
    if name == "lbfgs":
        result = solvers.lbfgs(model(), "mse", x, y, max_iter=100)
    else:
        result = solvers.levenberg_marquardt(model(), x, y, max_iter=100)
    other = model()
    trainer = fastnn.Trainer(other, "mse", optim.Adam(other.parameters(), lr=0.02))
    adam = [trainer.step(x, y) for _ in range(len(result.history))]
    _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    ax.semilogy(result.history, label=name)
    ax.semilogy(adam, "--", label="Adam, as many steps")
    ax.set(xlabel="iteration", ylabel="mean squared error")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)


def initializer(name):
    """Draw the distribution of a weight's elements."""
    values = getattr(initializers, name)((200, 300), rng=0)
    _, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
    ax.hist(values.ravel(), bins=80)
    ax.set(xlabel=f"elements of {name}((200, 300))", yticks=[])


def learning_curves():
    """Draw the picture of the quick start."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    x, _ = fastnn.preprocessing.standardize(x)
    order = np.random.default_rng(0).permutation(len(x))
    model = fastnn.Sequential(fastnn.Linear(13, 32), fastnn.ReLU(), fastnn.Linear(32, 3), rng=0)
    trainer = fastnn.Trainer(model, "cross_entropy", optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(
        x[order], y[order], epochs=30, validation_split=0.2, metrics=["accuracy"], progress=False,
        rng=0,
    ).plot()  # fmt: skip


def ensemble():
    """Draw the picture of the guide to uncertainty."""
    rng = np.random.default_rng(0)
    x = np.sort(np.concatenate([rng.uniform(-3, -0.5, 60), rng.uniform(1, 3, 60)]))[:, None]
    y = np.sin(2 * x) + 0.1 * rng.normal(size=x.shape)
    grid = np.linspace(-4, 4, 200)[:, None]

    def make(seed):
        layers = [fastnn.Linear(1, 64), fastnn.Tanh(), fastnn.Linear(64, 64), fastnn.Tanh()]
        model = fastnn.Sequential(*layers, fastnn.Linear(64, 1), rng=seed)
        return fastnn.Trainer(model, "mse", optim.Adam(model.parameters(), lr=5e-3))

    trainers = [make(seed) for seed in range(10)]
    fastnn.fit_many(trainers, x, y, epochs=150, progress=False, rng=0)
    curves = np.stack([trainer.predict(grid)[:, 0] for trainer in trainers])
    mean, deviation = curves.mean(0), curves.std(0)
    _, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    band = mean - 2 * deviation, mean + 2 * deviation
    ax.fill_between(grid[:, 0], *band, alpha=0.3, label="twice the deviation")
    ax.plot(grid[:, 0], mean, label="mean of ten networks")
    ax.plot(x, y, ".", color="gray", markersize=4, label="data")
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False)


PLAIN = ["ELU", "GELU", "SELU", "LeakyReLU", "Mish", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh"]
NORMAL = [
    "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal", "orthogonal", "uniform",
    "uniform_fan_in", "xavier_normal", "xavier_uniform",
]  # fmt: skip
DRAWINGS = {
    **{f"fastnn.layers.{name}": partial(activation, name) for name in PLAIN},
    **{f"fastnn.layers.{name}": partial(softmax, name) for name in ("Softmax", "LogSoftmax")},
    "fastnn.layers.Linear": linear,
    "fastnn.layers.BatchNorm1d": partial(normalization, "BatchNorm1d"),
    "fastnn.layers.LayerNorm": partial(normalization, "LayerNorm"),
    "fastnn.layers.Dropout": dropout,
    "fastnn.layers.Embedding": embedding,
    "fastnn.layers.Scale": scale,
    "fastnn.layers.LSTM": lstm,
    "fastnn.losses.mse": partial(loss, "mse", 0.0, "prediction, target 0"),
    "fastnn.losses.l1": partial(loss, "l1", 0.0, "prediction, target 0"),
    "fastnn.losses.huber": partial(
        loss, "huber", 0.0, "prediction, target 0", delta=(0.5, 1.0, 2.0)
    ),
    "fastnn.losses.binary_cross_entropy_with_logits": partial(
        loss, "binary_cross_entropy_with_logits", 1.0, "logit, target 1"
    ),
    "fastnn.losses.poisson_nll": partial(loss, "poisson_nll", 3.0, "log of the rate, target 3"),
    "fastnn.losses.quantile": quantile,
    "fastnn.losses.cross_entropy": cross_entropy,
    "fastnn.losses.gaussian_nll": gaussian_nll,
    "fastnn.losses.l2_penalty": l2_penalty,
    **{f"fastnn.optim.{name}": partial(optimizer, **makers) for name, makers in OPTIMIZERS.items()},
    **{
        f"fastnn.schedules.{name}": partial(schedule.plot, 400)
        for name, schedule in SCHEDULES.items()
    },
    "fastnn.solvers.lbfgs": partial(solver, "lbfgs"),
    "fastnn.solvers.levenberg_marquardt": partial(solver, "levenberg_marquardt"),
    **{f"fastnn.initializers.{name}": partial(initializer, name) for name in NORMAL},
    "rosenbrock": four_on_rosenbrock,
    "learning_curves": learning_curves,
    "ensemble": ensemble,
}
# drawn by the package itself
IN_SVG = {
    "graph": partial(
        container,
        fastnn.Linear(64, 128),
        fastnn.LayerNorm(128),
        fastnn.ReLU(),
        fastnn.Linear(128, 10),
    ),
    "Sequential": partial(container, fastnn.Linear(4, 8), fastnn.Tanh(), fastnn.Linear(8, 2)),
    "Residual": partial(container, fastnn.Residual(fastnn.Linear(8, 8), fastnn.ReLU())),
    "Concat": partial(container, fastnn.Concat(fastnn.Linear(4, 3), fastnn.Linear(4, 5))),
    "Flatten": partial(container, fastnn.Flatten(), fastnn.Linear(12, 3), input_shape=(3, 4)),
}
