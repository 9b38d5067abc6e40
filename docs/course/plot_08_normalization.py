r"""
8. BatchNorm and LayerNorm
==========================

Both subtract a mean and divide by a deviation. They differ in what they average over, and that
decides what they do with small batches and with data that have moved.

**Forward.** For a batch of :math:`n` samples with :math:`d` features, :math:`x_{ij}`,

.. math::
    \hat x_{ij} = \frac{x_{ij} - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad
    y_{ij} = \gamma_j \hat x_{ij} + \beta_j ,

========= ======================================================================================
BatchNorm :math:`\mu_j = \frac1n \sum_i x_{ij}`, :math:`\sigma_j^2 = \frac1n \sum_i (x_{ij} -
          \mu_j)^2`: of each feature, over the batch
LayerNorm :math:`\mu_i = \frac1d \sum_j x_{ij}`, :math:`\sigma_i^2 = \frac1d \sum_j (x_{ij} -
          \mu_i)^2`: of each sample, over its features
========= ======================================================================================

LayerNorm does the same thing in training and in prediction. BatchNorm cannot: the answer for one
sample must not depend on who else is asked about. It keeps running means of its statistics in
training, :math:`\bar\mu \leftarrow (1 - m)\, \bar\mu + m\, \mu` and likewise the variance (the
unbiased one, :math:`\sigma^2 n / (n - 1)`), and predicts with those.

**Backward.** Let :math:`x_1, \ldots, x_n` be the values that share statistics, and leave out
:math:`\varepsilon`. With :math:`\partial \mu / \partial x_k = 1 / n` and :math:`\partial \sigma /
\partial x_k = (x_k - \mu) / (n \sigma) = \hat x_k / n`,

.. math::
    \frac{\partial \hat x_i}{\partial x_k}
    = \frac1\sigma \left(\delta_{ik} - \frac1n\right)
    - \frac{x_i - \mu}{\sigma^2}\, \frac{\hat x_k}n
    = \frac1\sigma \left(\delta_{ik} - \frac1n - \frac{\hat x_i \hat x_k}n\right) ,

and so, with :math:`g = \partial L / \partial \hat x = \gamma \odot \partial L / \partial y`,

.. math::
    \frac{\partial L}{\partial x} = \frac1\sigma \bigl(g - \operatorname{mean}(g)
    - \hat x \odot \operatorname{mean}(g \odot \hat x)\bigr) .

The gradient loses its parts along :math:`\mathbf 1` and along :math:`\hat x`: shifting or
stretching the values changes nothing, so there is nothing to learn in these directions.

*Sources.* Ioffe and Szegedy, "Batch normalization" (2015), algorithms 1 and 2; Ba, Kiros and
Hinton, "Layer normalization" (2016), equations 3 and 4; Li et al., "Revisiting batch normalization
for practical domain adaptation" (2017).
"""

# %%
# The formulas, checked
# ---------------------
# Forward and backward by hand, beside :mod:`fastnn.ops`. One function serves both: over axis 0 it
# is BatchNorm, over axis 1 LayerNorm.

import copy

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import ops

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

rng = np.random.default_rng(0)
x, dy = rng.normal(3, 2, (8, 5)), rng.normal(size=(8, 5))
gamma, beta, eps = rng.normal(size=5), rng.normal(size=5), 1e-5


def normalize(x, axis):
    """Return x̂ and 1 / σ."""
    rstd = 1 / np.sqrt(x.var(axis, keepdims=True) + eps)
    return (x - x.mean(axis, keepdims=True)) * rstd, rstd


def normalize_backward(g, x_hat, rstd, axis):
    """Return ∂L/∂x for g = ∂L/∂x̂."""
    return rstd * (g - g.mean(axis, keepdims=True) - x_hat * (g * x_hat).mean(axis, keepdims=True))


x_hat, rstd = normalize(x, axis=1)
y, *saved = ops.layer_norm(x, gamma, beta, eps)
np.testing.assert_allclose(y, gamma * x_hat + beta, atol=1e-12)
dx, dgamma, dbeta = ops.layer_norm_backward(dy, x, gamma, *saved)
np.testing.assert_allclose(dx, normalize_backward(gamma * dy, x_hat, rstd, axis=1), atol=1e-12)
np.testing.assert_allclose(dgamma, (dy * x_hat).sum(axis=0), atol=1e-12)
np.testing.assert_allclose(dbeta, dy.sum(axis=0), atol=1e-12)

layer = fastnn.BatchNorm1d(5, dtype="float64")
layer.weight.data, layer.bias.data = gamma, beta
x_hat, rstd = normalize(x, axis=0)
np.testing.assert_allclose(layer(x, training=True), gamma * x_hat + beta, atol=1e-12)
dx = layer.backward(dy)
np.testing.assert_allclose(dx, normalize_backward(gamma * dy, x_hat, rstd, axis=0), atol=1e-12)
np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)  # nothing along 1

np.testing.assert_allclose(layer.running_mean.data, 0.1 * x.mean(axis=0))
np.testing.assert_allclose(layer.running_var.data, 0.9 + 0.1 * x.var(axis=0, ddof=1))

# %%
# Small batches
# -------------
# The same sample, with the value 1 in standard units, meets 2,000 random batches. In training,
# BatchNorm's answer depends on the others. Mean and deviation of :math:`n` normal values have
# errors of :math:`1 / \sqrt n` and :math:`1 / \sqrt{2n}`, so the answer for :math:`\hat x` has the
# deviation
#
# .. math:: \sqrt{(1 + \hat x^2 / 2) / n} ,
#
# noise that regularizes a little, and is too much in batches of a few. In a batch of two nothing
# but the order is left: the answers are 1 and -1, whatever the values were.

sizes = (2, 4, 16, 64, 256)
answers = {}
for n in sizes:
    batches = rng.normal(size=(n, 2000))  # each column is a batch
    batches[0] = 1.0
    answers[n] = fastnn.BatchNorm1d(2000, eps=1e-15, dtype="float64")(batches, training=True)[0]

figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), sharex=True)
for ax, (n, values) in zip(axes, answers.items(), strict=True):
    ax.hist(values, bins=60, range=(-1.6, 2.6), color="C0")
    ax.axvline(1, color="C2", linewidth=1)
    ax.set(title=f"batch of {n}", yticks=[], xticks=[-1, 0, 1, 2])
    ax.spines["left"].set_visible(False)
figure.supxlabel("BatchNorm's answer for the same sample (line: 1)")
plt.show()

for n in sizes:
    predicted = np.sqrt(1.5 / n)
    print(f"batch of {n:3}: deviation {answers[n].std():.3f}, predicted {predicted:.3f}")
    if n >= 64:
        assert abs(answers[n].std() / predicted - 1) < 0.06
np.testing.assert_allclose(np.abs(answers[2]), 1, atol=1e-6)

# %%
# The effect on training
# ----------------------
# Handwritten digits, five epochs, in batches of 2 to 64. LayerNorm looks at one sample at a time
# and does not care.

pixels, labels = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(
    (pixels / 16).astype(np.float32), labels, train_size=1200, random_state=0
)
NORMS = {"BatchNorm": fastnn.BatchNorm1d, "LayerNorm": fastnn.LayerNorm}


def train(norm, batch_size, epochs=5):
    """Return a network with a normalization before each activation."""
    model = fastnn.Sequential(
        norm(64), fastnn.Linear(64, 64), norm(64), fastnn.ReLU(), fastnn.Linear(64, 10), rng=0
    )
    optimizer = fastnn.optim.Adam(model.parameters(), lr=1e-3 * np.sqrt(batch_size / 16))
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer)
    trainer.fit(train_x, train_y, epochs=epochs, batch_size=batch_size, rng=0, progress=False)
    return model


def accuracy(model, x):
    """Return the share of the test digits that are recognised."""
    return np.mean(model(x).argmax(axis=1) == test_y)


batch_sizes = (2, 4, 8, 16, 32, 64)
figure, ax = plt.subplots(figsize=(6.4, 3.6))
reached = {}
for i, (name, norm) in enumerate(NORMS.items()):
    reached[name] = [accuracy(train(norm, size), test_x) for size in batch_sizes]
    ax.plot(batch_sizes, reached[name], "o-", color=f"C{i}", label=name)
    print(name, [f"{value:.1%}" for value in reached[name]])
ax.set_xscale("log", base=2)
ax.set_xticks(batch_sizes, batch_sizes)
ax.yaxis.set_major_formatter("{x:.0%}")
ax.set(xlabel="batch size", ylabel="test accuracy")
ax.legend(frameon=False)
plt.show()
assert reached["LayerNorm"][0] - reached["BatchNorm"][0] > 0.02
assert abs(reached["LayerNorm"][4] - reached["BatchNorm"][4]) < 0.03

# %%
# Data that have moved
# --------------------
# The test digits are brighter or paler than those of the training: :math:`x \leftarrow a x`.
# LayerNorm, which is the first layer here, takes the factor away, up to :math:`\varepsilon`.
# BatchNorm predicts with the statistics of the training data, which are wrong now. They can be
# taken anew from the data that have come, without any labels, and all is well again.

models = {name: train(norm, 32) for name, norm in NORMS.items()}
factors = np.geomspace(0.125, 8, 25)
curves = {"BatchNorm": [], "BatchNorm, statistics taken anew": [], "LayerNorm": []}
for a in factors:
    moved = (a * test_x).astype(np.float32)
    for name, model in models.items():
        curves[name].append(accuracy(model, moved))
    adapted = copy.deepcopy(models["BatchNorm"])
    adapted[0].momentum = adapted[2].momentum = 1.0  # forget the old statistics
    adapted(moved, training=True)
    curves["BatchNorm, statistics taken anew"].append(accuracy(adapted, moved))

figure, ax = plt.subplots(figsize=(7, 3.8))
for color, style, (name, values) in zip("021", ("-", "--", "-"), curves.items(), strict=True):
    ax.plot(factors, values, style, color=f"C{color}", linewidth=2, label=name)
ax.set_xscale("log", base=2)
ax.yaxis.set_major_formatter("{x:.0%}")
ax.set(xlabel="contrast of the test data, a", ylabel="test accuracy", ylim=(0, 1.02))
ax.legend(frameon=False, loc="lower right")
plt.show()

for name, values in curves.items():
    print(f"{name}: between {min(values):.0%} and {max(values):.0%}")
assert min(curves["LayerNorm"]) > 0.9
assert min(curves["BatchNorm, statistics taken anew"]) > 0.9
assert min(curves["BatchNorm"]) < 0.8
