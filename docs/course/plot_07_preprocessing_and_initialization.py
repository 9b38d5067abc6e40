r"""
7. Preprocessing and initialization
===================================

Two ways to begin badly: data whose scales have nothing to do with each other, and weights that let
signals die or saturate on their way through the layers.

**Data.** For a linear model :math:`\hat y = Xw` with the mean squared error the Hessian is

.. math:: \nabla^2 \tfrac1n \lVert Xw - y \rVert^2 = \tfrac2n X^\top X .

A column that is 100 times as large as another contributes a curvature 10,000 times as large, and a
column with a mean far from 0 makes one long direction of all ones: both raise the condition number
:math:`\kappa`, on which the speed of gradient descent depends (:doc:`plot_02_gradient_descent`).
Subtract means and divide by deviations, and for columns without correlation
:math:`\tfrac1n X^\top X = I`.

**Weights.** Let :math:`z_j = \sum_{i=1}^n w_{ji} h_i` with independent weights of mean 0. Their
variances multiply and add up:

.. math:: \operatorname{Var}(z_j) = n\, \operatorname{Var}(w)\, \mathrm E[h^2] .

A layer keeps the scale of its input if :math:`\operatorname{Var}(w) = 1 / n`: **randn** :math:`/
\sqrt n`. Backward the sum goes over the :math:`m` outputs, which asks for :math:`1 / m`; Glorot
and Bengio take the middle, :math:`2 / (n + m)`. A ReLU makes half of the values 0, so
:math:`\mathrm E[h^2]
= \operatorname{Var}(z) / 2`, and He's variance is :math:`2 / n`. In :math:`L` layers a factor
:math:`c` per layer becomes :math:`c^L`: there is no room for "about right".

**Zeros** are worse than small: all units of a layer then compute the same thing and get the same
gradient. They stay equal for ever, and behind a tanh or ReLU the gradient of all but the last layer
is 0 altogether.

*Sources.* LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), sections 4.3 and 4.6; Glorot
and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010),
equations 10 to 12 and 16; He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), equation
10.
"""

# %%
# Data as they come, centred, and standardized
# --------------------------------------------
# Two features in different units, one far from 0. The contours are those of the loss over the two
# weights (an intercept is left out, so the raw data have their minimum elsewhere); the path is
# gradient descent with its best rate, :math:`2 / (\lambda_{\max} + \lambda_{\min})`.

from functools import partial

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import analysis, initializers, optim, preprocessing

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

rng = np.random.default_rng(0)
raw = np.stack([rng.normal(3.0, 1.0, 400), rng.normal(0.5, 0.3, 400)], axis=1)
y = raw @ [1.0, -2.0] + rng.normal(0, 0.1, 400)
y -= y.mean()  # the intercept

centred, _ = preprocessing.center(raw)
standardized, statistics = preprocessing.standardize(raw)
np.testing.assert_allclose(standardized.std(axis=0), 1)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.5))
conditions = {}
for i, (ax, (name, x)) in enumerate(
    zip(axes, {"raw": raw, "centred": centred, "standardized": standardized}.items(), strict=True)
):
    hessian = 2 / len(x) * x.T @ x
    smallest, largest = np.linalg.eigvalsh(hessian)
    conditions[name] = largest / smallest
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    w = best + np.array([-1.5, 1.5])
    optimizer, path = optim.SGD([w], lr=2 / (largest + smallest)), [w.copy()]
    for _ in range(30):
        optimizer.step([2 / len(x) * x.T @ (x @ w - y)])
        path.append(w.copy())
    path = np.array(path)

    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 100), np.linspace(-2, 2, 100)), axis=-1)
    height = 0.5 * np.sum(grid @ hessian * grid, axis=-1)
    ax.contour(*np.moveaxis(grid + best, -1, 0), height, np.geomspace(0.01, 40, 12), colors="0.8",
               linewidths=0.8)
    ax.plot(*path.T, ".-", color=f"C{i}", linewidth=1.2, markersize=7)
    ax.plot(*best, "*", color="black", markersize=11)
    ax.set(title=f"{name}, κ = {conditions[name]:.0f}", xlabel="weight 1", aspect="equal")

    # the same largest curvature, without the Hessian
    model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    estimate = analysis.dominant_eigenvalue(model, "mse", x, y[:, None], iterations=200, rng=0)
    assert abs(estimate / largest - 1) < 0.01
axes[0].set_ylabel("weight 2")
plt.show()
assert conditions["raw"] > 4 * conditions["centred"]
assert conditions["standardized"] < 1.3

# %%
# New data get the statistics of the training data, not their own:

np.testing.assert_allclose(statistics.apply(raw), standardized)

# %%
# Four ways to begin
# ------------------
# Eight layers of 200 tanh units, on data of variance 1. Every layer has the function of
# :mod:`fastnn.initializers` that it is given; each takes a shape and random numbers.

DEPTH, WIDTH = 8, 200
INITS = {
    "zeros": initializers.zeros,
    "0.01 randn": partial(initializers.normal, std=0.01),
    "randn": partial(initializers.normal, std=1.0),
    "randn / √n": initializers.lecun_normal,
}
x = rng.normal(size=(500, WIDTH))


def look_inside(init, activation=fastnn.Tanh, depth=DEPTH):
    """Return outputs and gradients, (500, WIDTH), of every layer for a random output gradient."""
    layers = []
    for seed in range(depth):
        layers.append((
            fastnn.Linear(WIDTH, WIDTH, init=init, dtype="float64", rng=seed),
            activation(dtype="float64"),
        ))
    h, outputs, gradients = x, [], []
    for linear, layer in layers:
        h = layer(linear(h, training=True), training=True)
        outputs.append(h)
    dh = np.random.default_rng(1).normal(size=h.shape)
    for linear, layer in reversed(layers):
        gradients.insert(0, dh)
        dh = linear.backward(layer.backward(dh))
    return outputs, gradients


inside = {name: look_inside(init) for name, init in INITS.items()}
shown = (0, 1, 3, 5, 7)
figure, axes = plt.subplots(4, 5, figsize=(10, 5.6), sharex=True)
for i, (row, (name, (outputs, _))) in enumerate(zip(axes, inside.items(), strict=True)):
    for ax, layer in zip(row, shown, strict=True):
        ax.hist(outputs[layer].ravel(), bins=41, range=(-1, 1), color=f"C{i}")
        ax.set(yticks=[], xticks=[-1, 0, 1])
        ax.spines["left"].set_visible(False)
        if i == 0:
            ax.set_title(f"layer {layer + 1}")
    row[0].set_ylabel(name)
figure.supxlabel("outputs of the units")
plt.show()

# %%
# Zeros: nothing at all. Small weights: the signal shrinks by :math:`0.01 \sqrt{200} = 0.14` in
# each layer. Large ones: all units at :math:`\pm 1`. Only the last row has something to tell in
# every layer. Backward, small weights shrink the gradient by the same factor; large ones let it
# grow 2.8 times per layer, although nearly all slopes are 0, for the few others meet
# :math:`\sqrt{200} = 14`.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
layers = np.arange(1, DEPTH + 1)
for i, (name, (outputs, gradients)) in enumerate(inside.items()):
    if name == "zeros":
        continue  # no place on these axes
    left.semilogy(layers, [h.std() for h in outputs], "o-", color=f"C{i}", label=name)
    right.semilogy(layers, [g.std() for g in gradients], "o-", color=f"C{i}", label=name)
left.set(title="outputs", ylabel="standard deviation", xlabel="layer")
right.set(title="gradients", xlabel="layer")
left.legend(frameon=False)
plt.show()

spread = {name: [h.std() for h in outputs] for name, (outputs, _) in inside.items()}
print("outputs by layer:")
for name, values in spread.items():
    print(f"{name:11}", " ".join(f"{value:8.2g}" for value in values))
np.testing.assert_allclose(np.divide(spread["0.01 randn"][1:], spread["0.01 randn"][:-1]),
                           0.01 * np.sqrt(WIDTH), rtol=0.03)
growth = [g.std() for g in inside["randn"][1]]
print(f"gradients of randn: × {(growth[0] / growth[-1]) ** (1 / (DEPTH - 1)):.2f} per layer")
assert 2.6 < (growth[0] / growth[-1]) ** (1 / (DEPTH - 1)) < 3.0
assert spread["zeros"] == [0] * DEPTH
assert not any(g.any() for g in inside["zeros"][1][:-1])
assert spread["randn"][-1] > 0.9
assert 0.2 < spread["randn / √n"][-1] < 0.7

# %%
# The factor 2 of ReLUs
# ---------------------
# In thirty layers of ReLUs the difference between :math:`1 / n` and :math:`2 / n` is
# :math:`2^{15}` in the deviation: the signal lives or dies by it.

figure, ax = plt.subplots(figsize=(6.4, 3.8))
FACTORS = {"He: randn · √(2 / n)": initializers.he_normal, "randn / √n": initializers.lecun_normal}
for i, (name, init) in enumerate(FACTORS.items()):
    outputs, _ = look_inside(init, fastnn.ReLU, depth=30)
    scale = np.array([np.sqrt(np.mean(h**2)) for h in outputs])
    ax.semilogy(np.arange(1, 31), scale, "o-", color=f"C{i}", markersize=4, label=name)
    per_layer = (scale[-1] / scale[0]) ** (1 / 29)
    print(f"{name}: × {per_layer:.3f} per layer")
    assert abs(per_layer - (1.0 if i == 0 else np.sqrt(0.5))) < 0.03
ax.set(xlabel="layer", ylabel="root mean square output")
ax.legend(frameon=False)
plt.show()
