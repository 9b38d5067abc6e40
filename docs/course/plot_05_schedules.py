r"""
5. Schedules: decaying, cyclical, and of momentum
=================================================

Why a rate that stays must stop somewhere above the minimum, which rates get there, and what rates
that go up again are good for.

**The floor of a constant rate.** Take the simplest noisy problem, :math:`f(x) = \lambda x^2 / 2`
with gradients :math:`\lambda x + \xi`, where :math:`\xi` has mean 0 and variance :math:`\sigma^2`.
A step makes :math:`x \leftarrow (1 - \eta\lambda)\, x - \eta \xi`, so the variance of :math:`x`
follows

.. math::
    V_{t+1} = (1 - \eta\lambda)^2\, V_t + \eta^2 \sigma^2
    \quad\longrightarrow\quad V_\infty = \frac{\eta \sigma^2}{\lambda\, (2 - \eta\lambda)} .

Fast and noisy, or slow and exact: the floor is proportional to the rate. Decay gives both.
Robbins and Monro's conditions say how fast it may be,

.. math:: \sum_t \eta_t = \infty \quad\text{(to get anywhere)}, \qquad
    \sum_t \eta_t^2 < \infty \quad\text{(to forget the noise)},

and :math:`\eta_t = 1 / (\lambda (t + 1))` is the best of all here. Put it in, and :math:`x_t` is
the mean of the noise so far, :math:`x_t = -\frac1{\lambda t} \sum_{k < t} \xi_k`, with

.. math:: V_t = \frac{\sigma^2}{\lambda^2\, t} .

**The decays** of :mod:`fastnn.schedules`, with :math:`t` the step:

============ =========================================== =================================
exponential  :math:`\eta_0 e^{-kt}`                      ends: :math:`\sum \eta_t < \infty`
inverse time :math:`\eta_0 / (1 + kt)`                   Robbins and Monro's
step         :math:`\eta_0\, c^{\lfloor t / T \rfloor}`  when progress stalls
cosine       :math:`\eta_0 (1 + \cos(\pi t / T)) / 2`    flat at both ends
polynomial   :math:`\eta_0 (1 - t / T)^p`                a line for :math:`p = 1`
============ =========================================== =================================

*Sources.* Robbins and Monro, "A stochastic approximation method" (1951); Bottou, Curtis and
Nocedal, "Optimization methods for large-scale machine learning" (2018), section 4; Loshchilov and
Hutter, "SGDR" (2017), equation 5; Smith, "Cyclical learning rates for training neural networks"
(2017); Smith and Topin, "Super-convergence" (2018); Su, Boyd and Candès, "A differential equation
for modeling Nesterov's accelerated gradient method" (2016), theorem 6.
"""

# %%
# The pictures of the formulas
# ----------------------------
# A schedule is a function of the step. It can be called, composed, and given to any optimizer, as
# ``lr`` or as ``momentum``.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn
from fastnn import optim, schedules

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

T = 300
DECAYING = {
    "exponential": schedules.exponential_decay(1.0, 0.012),
    "inverse time": schedules.inverse_time_decay(1.0, 0.04),
    "step": schedules.step_decay(1.0, 0.5, every=60),
    "cosine": schedules.cosine_decay(1.0, T),
    "line, warmed up": schedules.warmup(schedules.polynomial_decay(1.0, T - 30), 30),
}
CYCLICAL = {
    "triangular": schedules.cyclic(0.1, 1.0, 40),
    "triangular2": schedules.cyclic(0.1, 1.0, 40, mode="triangular2"),
    "cosine, longer each time": schedules.cosine_cycles(1.0, T),
    "one cycle": schedules.one_cycle(1.0, T),
}

figure, axes = plt.subplots(2, 5, figsize=(11, 4), sharex=True, sharey=True)
for i, (row, group) in enumerate(zip(axes, (DECAYING, CYCLICAL), strict=True)):
    for ax, (name, schedule) in zip(row, group.items(), strict=False):
        ax.plot([schedule(t) for t in range(T)], color=f"C{2 * i}", linewidth=2)
        ax.set_title(name, fontsize="medium")
        ax.set(xticks=[0, 150, 300], yticks=[0, 0.5, 1])
axes[1, 4].remove()
figure.supxlabel("step")
figure.supylabel("rate / largest rate")
plt.show()

t = np.arange(T)
for name, formula in {
    "exponential": np.exp(-0.012 * t), "inverse time": 1 / (1 + 0.04 * t),
    "step": 0.5 ** (t // 60), "cosine": (1 + np.cos(np.pi * t / T)) / 2,
}.items():
    np.testing.assert_allclose([DECAYING[name](step) for step in range(T)], formula, rtol=1e-12)

# %%
# The floor, and below it
# -----------------------
# 2,000 such problems side by side, as one array of parameters. The optimizer gets schedules as
# they are.

steps, count, sigma = 3000, 2000, 1.0
RATES = {
    "constant, 0.3": 0.3,
    "constant, 0.03": 0.03,
    "exponential, too fast": schedules.exponential_decay(0.3, 0.05),
    "1 / (1 + t)": schedules.inverse_time_decay(1.0, 1.0),
}
rng = np.random.default_rng(0)
variances = {}
for name, rate in RATES.items():
    x = np.full(count, 5.0)
    optimizer, values = optim.SGD([x], lr=rate), []
    for _ in range(steps):
        optimizer.step([x + rng.normal(0, sigma, count)])  # λ = 1
        values.append(np.mean(x**2))
    variances[name] = values

figure, ax = plt.subplots(figsize=(7, 4))
for i, (name, values) in enumerate(variances.items()):
    ax.loglog(np.arange(1, steps + 1), values, color=f"C{i}", label=name)
for rate in 0.3, 0.03:
    ax.axhline(rate / (2 - rate), color="0.3", linestyle="--", linewidth=1)
ax.set(xlabel="step", ylabel="mean squared distance")
ax.legend(frameon=False, loc="lower left")
ax.set_title("dashed: ησ² / (λ (2 − ηλ))", fontsize="medium")
plt.show()

for rate in 0.3, 0.03:
    measured, predicted = np.mean(variances[f"constant, {rate}"][-500:]), rate / (2 - rate)
    print(f"rate {rate}: {measured:.4f}, predicted {predicted:.4f}")
    assert abs(measured / predicted - 1) < 0.05
assert abs(variances["1 / (1 + t)"][-1] * steps - 1) < 0.1

# %%
# The rate that decays too fast stops where it stands: its steps add up to 6 only, and the last of
# the noise that it let in stays. :math:`1 / (1 + t)` goes on, at :math:`\sigma^2 / t`.
#
# Up, and down again
# ------------------
# Which rate to begin with? Let it grow by a factor in every step of one short run and watch the
# loss: Smith's range test. Somewhat below where the loss turns up is the peak of a cycle. One
# cycle goes up to it, so that the network is warmed up when it takes the largest steps, then down
# far below, where the floor is low. The momentum runs the other way: high where the rate is low.

pixels, labels = load_digits(return_X_y=True)
pixels = (pixels / 16).astype(np.float32)
batch, epochs = 32, 6
total = epochs * -(-len(pixels) // batch)


def make_trainer(lr, momentum, seed=0):
    """Return a trainer of a small network by SGD."""
    model = fastnn.Sequential(fastnn.Linear(64, 64), fastnn.ReLU(), fastnn.Linear(64, 10), rng=seed)
    sgd = optim.SGD(model.parameters(), lr=lr, momentum=momentum, nesterov=True)
    return fastnn.Trainer(model, "cross_entropy", sgd)



def growing(t):
    """Return the rate of the range test: any function of the step is a schedule."""
    return 1e-3 * 1e4 ** (t / total)  # from 0.001 to 10


tester = make_trainer(growing, 0.9)
tested = []
for _ in range(total):
    rows = rng.integers(0, len(pixels), batch)
    tested.append(tester.step(pixels[rows], labels[rows]))
smooth = np.convolve(tested, np.ones(15) / 15, "valid")
tested_rates = np.array([growing(t) for t in range(total)])[7:-7]

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
axes[0].semilogx(tested_rates, smooth, color="C0")
axes[0].axvline(0.2, color="C2", linestyle="--", linewidth=1)
axes[0].set(title="range test", xlabel="learning rate", ylabel="loss", ylim=(0, 4))

cycle = schedules.one_cycle(0.2, total)
PLANS = {
    "constant 0.02": (0.02, 0.9),
    "constant 0.2": (0.2, 0.9),
    "one cycle up to 0.2": (cycle, lambda t: 0.95 - 0.1 * cycle(t) / 0.2),
}
axes[1].plot([cycle(t) for t in range(total)], color="C2")
axes[1].set(title="one cycle", xlabel="step", ylabel="learning rate", yticks=[0, 0.1, 0.2])
right = axes[1].twinx()
right.plot([PLANS["one cycle up to 0.2"][1](t) for t in range(total)], "--", color="C2")
right.set(ylabel="momentum (dashed)", ylim=(0.8, 1), yticks=[0.85, 0.95])
right.spines["right"].set_visible(True)

final = {}
for i, (name, (lr, momentum)) in enumerate(PLANS.items()):
    curves = []
    for seed in range(3):
        trainer = make_trainer(lr, momentum, seed)
        history = trainer.fit(
            pixels, labels, epochs=epochs, batch_size=batch, rng=seed, progress=False
        )
        curves.append(history.history["loss"])
    final[name] = np.mean(curves, axis=0)[-1]
    axes[2].semilogy(np.arange(1, epochs + 1), np.mean(curves, axis=0), color=f"C{i}", label=name)
axes[2].set(title="training loss", xlabel="epoch")
axes[2].legend(frameon=False)
plt.show()
for name, value in final.items():
    print(f"{name}: loss {value:.4f} in the last epoch")
assert final["one cycle up to 0.2"] == min(final.values())

# %%
# A momentum that grows
# ---------------------
# The best momentum depends on the condition number (:doc:`plot_03_momentum`), which nobody knows,
# and much momentum at the beginning only carries the first large gradients about. Nesterov's own
# schedule
#
# .. math:: \mu_t = \frac{t}{t + 3}
#
# needs no such number. For any convex loss with curvatures up to :math:`1 / \eta` it guarantees
#
# .. math:: f(x_t) - f(x^*) \le \frac{2\, \lVert x_0 - x^* \rVert^2}{\eta\, (t + 1)^2} ,
#
# where gradient descent has :math:`t` in the place of its square. On a bowl in 50 dimensions with
# curvatures from 0.0001 to 1 it is about as good as the best constant of each moment, until the
# end is so near that the constant for this condition number wins.

curvature = np.geomspace(1e-4, 1, 50)
MOMENTA = {
    "μ = 0": 0.0, "μ = 0.9": 0.9, "μ = 0.99": 0.99, "μ = 0.999": 0.999,
    "μ = t / (t + 3)": lambda t: t / (t + 3),
}

figure, ax = plt.subplots(figsize=(7, 4))
t = np.arange(1, 2001)
reached = {}
for i, (name, momentum) in enumerate(MOMENTA.items()):
    x, values = np.ones(50), []
    optimizer = optim.NAG([x], lr=1.0, momentum=momentum)
    for _ in t:
        optimizer.step([curvature * x])
        values.append(curvature @ x**2 / 2)
    reached[name] = np.array(values)
    style = {"color": "black", "linewidth": 2.2} if i == 4 else {"color": f"C{i}"}
    ax.loglog(t, values, label=name, **style)
ax.set(xlabel="step", ylabel="loss", ylim=(1e-9, 1))
ax.legend(frameon=False)
plt.show()

growing_momentum = reached.pop("μ = t / (t + 3)")
best_constant = np.min(list(reached.values()), axis=0)
assert (growing_momentum <= 2 * 50 / (t + 1) ** 2).all()
assert (growing_momentum[:500] < 2 * best_constant[:500]).all()
