r"""
4. Adagrad, RMSprop, Adam, AdamW, LAMB
======================================

A rate for every parameter of its own, from the gradients that it has seen. All operations on
vectors are element by element here.

**Adagrad** divides each parameter's step by the root of all its squared gradients:

.. math:: G_t = G_{t-1} + g_t^2, \quad x_t = x_{t-1} - \eta\, \frac{g_t}{\sqrt{G_t} + \varepsilon} .

Multiply all gradients of one parameter by a factor :math:`c > 0`: it stands above and below, and
cancels. Parameters whose gradients are small, as those of rare features, get steps of the same
size as all others. But :math:`G` only grows; gradients of constant magnitude give steps
:math:`\eta / \sqrt t`.

**RMSprop** forgets: it puts a running mean in the place of the sum,

.. math::
    v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad
    x_t = x_{t-1} - \eta\, \frac{g_t}{\sqrt{v_t} + \varepsilon} .

**Adam** takes a running mean of the gradients too, and corrects both for having started at 0:

.. math::
    \begin{aligned}
    m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, & \hat m_t &= m_t / (1 - \beta_1^t), \\
    v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, & \hat v_t &= v_t / (1 - \beta_2^t), \\
    & & x_t &= x_{t-1} - \eta\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon) .
    \end{aligned}

*Why just this correction?* Unroll the mean, and let all gradients have the same expectation:

.. math::
    m_t &= (1 - \beta_1) \sum_{k=1}^t \beta_1^{t-k} g_k , \\
    \mathrm E[m_t] &= \mathrm E[g]\, (1 - \beta_1) \sum_{k=1}^t \beta_1^{t-k}
    = \mathrm E[g]\, (1 - \beta_1^t) ,

and :math:`v_t` likewise. Without it the two errors do not cancel: the first step is
:math:`(1 - \beta_1) / \sqrt{1 - \beta_2}` times too long.

**AdamW.** An L2 penalty adds :math:`\lambda x` to :math:`g`, where Adam divides it by
:math:`\sqrt{\hat v}` with the rest: parameters with large gradients are hardly held back. AdamW
shrinks all alike, beside the step: :math:`x_t = (1 - \eta\lambda)\, x_{t-1} - \eta\, \hat m_t /
(\sqrt{\hat v_t} + \varepsilon)`.

**LAMB** lets every layer move by the same share of its length. With :math:`u_t = \hat m_t /
(\sqrt{\hat v_t} + \varepsilon) + \lambda x_{t-1}` and norms over the array,

.. math:: x_t = x_{t-1} - \eta\, \frac{\lVert x_{t-1} \rVert}{\lVert u_t \rVert}\, u_t .

*Sources.* Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
stochastic optimization" (2011); Tieleman and Hinton, lecture 6.5 of "Neural networks for machine
learning" (2012); Kingma and Ba, "Adam" (2015), algorithm 1 and section 3; Loshchilov and Hutter,
"Decoupled weight decay regularization" (2019), algorithm 2; You et al., "Large batch optimization
for deep learning" (2020), algorithm 2.
"""

# %%
# Scaled badly, and turned
# ------------------------
# A bowl whose curvatures differ by 100, along the axes and turned by 45 degrees.

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import optim

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

RULES = {
    "gradient descent": lambda x: optim.SGD([x], lr=0.019),
    "Adagrad": lambda x: optim.Adagrad([x], lr=0.8),
    "RMSprop": lambda x: optim.RMSprop([x], lr=0.05, alpha=0.9),
    "Adam": lambda x: optim.Adam([x], lr=0.15),
}
turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
BOWLS = {"along the axes": np.diag([1.0, 100.0]), "turned": turn @ np.diag([1.0, 100.0]) @ turn.T}
STARTS = {"along the axes": np.array([-3.0, 1.0]), "turned": turn @ [-3.0, 1.0]}


def descend(make, A, start, steps=150):
    """Return the points that an optimizer visits, (steps + 1, 2)."""
    x = start.copy()
    optimizer, path = make(x), [start]
    for _ in range(steps):
        optimizer.step([A @ x])
        path.append(x.copy())
    return np.array(path)


figure, axes = plt.subplots(2, 4, figsize=(11, 5.2), sharex=True, sharey=True)
grid = np.stack(np.meshgrid(*[np.linspace(-3.6, 1.6, 200)] * 2), axis=-1)
for row, (bowl, A) in zip(axes, BOWLS.items(), strict=True):
    height = 0.5 * np.sum(grid @ A * grid, axis=-1)
    for i, (ax, make) in enumerate(zip(row, RULES.values(), strict=True)):
        path = descend(make, A, STARTS[bowl])
        ax.contour(*np.moveaxis(grid, -1, 0), height, np.geomspace(0.1, 800, 11), colors="0.85",
                   linewidths=0.8)
        ax.plot(*path.T, ".-", color=f"C{i}", linewidth=1, markersize=4)
        ax.plot(0, 0, "*", color="black", markersize=10)
        ax.set(xlim=(-3.6, 1.6), ylim=(-3.6, 1.6), aspect="equal")
    row[0].set_ylabel(bowl)
for ax, rule in zip(axes[0], RULES, strict=True):
    ax.set_title(rule)
plt.show()

# %%
# Along the axes the division puts the scale right: in :math:`f = \sum_i c_i\, x_i^2 / 2` the
# factors cancel, and the path is that in a round bowl. Turned, no parameter has a scale of its
# own, and the rules lose their advantage: they depend on the axes, which gradient descent does not
# know.

start = STARTS["along the axes"]
for rule in "Adagrad", "RMSprop", "Adam":
    path = descend(RULES[rule], BOWLS["along the axes"], start)
    np.testing.assert_allclose(path, descend(RULES[rule], np.eye(2), start), atol=1e-5)

turned = descend(RULES["gradient descent"], BOWLS["turned"], STARTS["turned"]) @ turn
straight = descend(RULES["gradient descent"], BOWLS["along the axes"], start)
np.testing.assert_allclose(turned, straight, atol=1e-12)

# %%
# The length of a step
# --------------------
# All gradients are 1. What is left is the rule's own rate.


def step_lengths(make, steps=5000):
    """Return how far each step goes when all gradients are 1."""
    x = np.zeros(1)
    optimizer, visited = make([x]), [0.0]
    for _ in range(steps):
        optimizer.step([np.ones(1)])
        visited.append(x.item())
    return -np.diff(visited)


lengths = {
    "Adagrad": step_lengths(lambda p: optim.Adagrad(p, lr=1.0)),
    "RMSprop, α = 0.99": step_lengths(lambda p: optim.RMSprop(p, lr=1.0)),
    "Adam": step_lengths(lambda p: optim.Adam(p, lr=1.0)),
    "Adam without correction": step_lengths(lambda p: optim.Adam(p, lr=1.0, bias_correction=False)),
}

figure, ax = plt.subplots(figsize=(7, 4))
t = np.arange(1, 5001)
for i, (name, values) in enumerate(lengths.items()):
    ax.loglog(t, values, color=f"C{i + 1}" if i < 3 else "0.4", label=name)
ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
ax.set(xlabel="step", ylabel="step / learning rate")
ax.legend(frameon=False, loc="lower left")
plt.show()

np.testing.assert_allclose(lengths["Adagrad"], 1 / np.sqrt(t), rtol=1e-6)
np.testing.assert_allclose(lengths["RMSprop, α = 0.99"], 1 / np.sqrt(1 - 0.99**t), rtol=1e-6)
np.testing.assert_allclose(lengths["Adam"], 1, rtol=1e-6)
plain = lengths["Adam without correction"]
np.testing.assert_allclose(plain, (1 - 0.9**t) / np.sqrt(1 - 0.999**t), rtol=1e-4)
print(f"without correction: first step {plain[0]:.2f}, longest {plain.max():.1f} (step "
      f"{plain.argmax() + 1}), still {plain[999]:.2f} at step 1000")

# %%
# Without the correction Adam's first step is 3.2 times too long, its twelfth 6.6 times, and after a
# thousand there is still a quarter too much. RMSprop, which has no correction, begins ten times too
# fast.
#
# Decay that is held back, and decay that is not
# ----------------------------------------------
# The gradients are noise of standard deviation :math:`\sigma`; nothing but the decay pulls the
# weights to 0. Coupled, :math:`\lambda x` is divided by :math:`\sqrt{\hat v} \approx
# \sqrt{\sigma^2 + \lambda^2 x^2}`, about :math:`\sigma`, so the weights fall like
# :math:`e^{-\eta\lambda t / \sigma}`. Decoupled, they fall like :math:`e^{-\eta\lambda t}`
# whatever the noise.

steps, eta, lam = 1000, 0.02, 0.1
rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for ax, (title, rule) in zip(
    axes, {"Adam with an L2 penalty": optim.Adam, "AdamW": optim.AdamW}.items(), strict=True
):
    for i, sigma in enumerate((0.5, 1.0, 4.0)):
        weights, means = np.ones(4000), [1.0]
        optimizer = rule([weights], lr=eta, weight_decay=lam)
        for _ in range(steps):
            optimizer.step([rng.normal(0, sigma, weights.shape)])
            means.append(weights.mean())
        rate = eta * lam / (sigma if rule is optim.Adam else 1)
        predicted = np.exp(-rate * np.arange(steps + 1))
        ax.plot(means, color=f"C{i}", label=f"σ = {sigma:g}")
        ax.plot(predicted, color="0.2", linewidth=0.8, linestyle="--")
        print(f"{title}, σ = {sigma:g}: mean weight {means[-1]:.2f}, predicted {predicted[-1]:.2f}")
        assert abs(means[-1] - predicted[-1]) < 0.06
    ax.set(title=title, xlabel="step", ylim=(0, 1.02))
axes[0].set_ylabel("mean weight (dashed: predicted)")
axes[0].legend(frameon=False, loc="lower left")
plt.show()

# %%
# Every layer by the same share
# -----------------------------
# Adam moves each element by about :math:`\eta`, whatever its size: a layer of small weights is
# rewritten in a step that a layer of large ones hardly notices. With large batches and large rates
# the first such layer breaks the training. LAMB's steps have the length :math:`\eta \lVert x
# \rVert` in every array (in one that is all 0 the ratio of norms is replaced by 1).

x, y = rng.normal(size=(256, 20)), rng.integers(0, 5, 256)
shares = {}
for rule in optim.Adam, optim.LAMB:
    model = fastnn.Sequential(
        fastnn.Linear(20, 400), fastnn.Tanh(), fastnn.Linear(400, 30), fastnn.Tanh(),
        fastnn.Linear(30, 200), fastnn.Tanh(), fastnn.Linear(200, 5), rng=0,
    )
    weights = [p for p in model.parameters() if p.name.endswith("weight")]
    before = [p.data.copy() for p in weights]
    fastnn.Trainer(model, "cross_entropy", rule(model.parameters(), lr=0.02)).step(x, y)
    shares[rule.__name__] = [
        np.linalg.norm(p.data - old) / np.linalg.norm(old)
        for p, old in zip(weights, before, strict=True)
    ]

figure, ax = plt.subplots(figsize=(6.8, 3.6))
names = [f"{p.shape[1]} → {p.shape[0]}" for p in weights]
for i, (name, values) in enumerate(shares.items()):
    bars = ax.bar(np.arange(4) + 0.38 * i, values, 0.36, color=f"C{3 - 3 * i}", label=name)
    ax.bar_label(bars, fmt="{:.0%}", padding=2)
ax.set_xticks(np.arange(4) + 0.19, names)
ax.set(xlabel="weights of the layer", ylabel="‖step‖ / ‖weights‖", yticks=[])
ax.spines["left"].set_visible(False)
ax.legend(frameon=False)
plt.show()

np.testing.assert_allclose(shares["LAMB"], 0.02, rtol=1e-3)
assert max(shares["Adam"]) > 3 * min(shares["Adam"])
