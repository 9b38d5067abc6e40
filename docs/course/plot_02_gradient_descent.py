r"""
2. Gradient descent and its learning rate
=========================================

Why the gradient's direction, how far along it, and why the way down a valley zig-zags.

**Taylor's argument.** Let the loss :math:`f` curve at most by :math:`\beta` in any direction,
:math:`v^\top \nabla^2 f(x)\, v \le \beta \lVert v \rVert^2`. Taylor's theorem with the remainder of
second order bounds the loss after a step :math:`p`:

.. math:: f(x + p) \le f(x) + \nabla f(x)^\top p + \frac\beta2 \lVert p \rVert^2 .

Among all steps of one length the middle term is smallest for :math:`p` opposite to the gradient
(Cauchy and Schwarz): gradient descent. With :math:`p = -\eta \nabla f(x)`,

.. math::
    f(x - \eta \nabla f(x)) \le f(x) - \eta \left(1 - \frac{\eta\beta}2\right)
    \lVert \nabla f(x) \rVert^2 .

The loss falls for every :math:`0 < \eta < 2 / \beta`. The bound is lowest at :math:`\eta = 1 /
\beta`, which gains at least :math:`\lVert \nabla f(x) \rVert^2 / (2\beta)` in a single step.

**The quadratic tells the rest.** Near a minimum :math:`f(x) \approx \tfrac12 x^\top A x` with the
Hessian :math:`A`. A step is :math:`x \leftarrow (I - \eta A) x`, so the component of :math:`x`
along the eigenvector of eigenvalue :math:`\lambda_i` is multiplied by

.. math:: 1 - \eta \lambda_i

each time, independently of all others. Three cases for the largest eigenvalue, :math:`\beta =
\lambda_{\max}`: below :math:`1 / \beta` its component shrinks and keeps its sign; between :math:`1
/ \beta` and :math:`2 / \beta` it changes sign each time, the zig-zag; beyond, it grows without
bound. Meanwhile the smallest one crawls by :math:`1 - \eta \lambda_{\min} > 1 - 2 / \kappa`, where
:math:`\kappa = \lambda_{\max} / \lambda_{\min}` is the condition number. The best constant rate
balances both ends:

.. math::
    \eta = \frac2{\lambda_{\max} + \lambda_{\min}} \quad\Rightarrow\quad
    1 - \eta \lambda_{\min} = -(1 - \eta \lambda_{\max}) = \frac{\kappa - 1}{\kappa + 1} .

*Sources.* Bubeck, "Convex optimization: algorithms and complexity" (2015), section 3.2; LeCun,
Bottou, Orr and Müller, "Efficient BackProp" (1998), section 5.1; LeCun, Simard and Pearlmutter,
"Automatic learning rate maximization by on-line estimation of the Hessian's eigenvectors" (1992);
Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability"
(2021).
"""

# %%
# Four rates in one valley
# ------------------------
# The valley has :math:`\lambda_{\max} = 20` and :math:`\lambda_{\min} = 1`, so :math:`1 / \beta =
# 0.05`.

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import analysis, optim

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

A = np.diag([1.0, 20.0])
beta = 20.0


def descend(lr, steps=25, start=(-4.0, 0.8)):
    """Return the points that gradient descent visits, (steps + 1, 2)."""
    x = np.array(start)
    optimizer, path = optim.SGD([x], lr=lr), [x.copy()]
    for _ in range(steps):
        optimizer.step([A @ x])  # x changes in place
        path.append(x.copy())
    return np.array(path)


def loss(path):
    """Return the loss of every point."""
    return 0.5 * np.sum(path @ A * path, axis=-1)


paths = {
    "0.5 / β: slow": descend(0.5 / beta), "1 / β: straight to the floor": descend(1 / beta),
    "1.9 / β: zig-zag": descend(1.9 / beta), "2.05 / β: diverges": descend(2.05 / beta),
}

figure, axes = plt.subplots(2, 2, figsize=(9, 4.6), sharex=True, sharey=True)
grid = np.stack(np.meshgrid(np.linspace(-4.6, 1.2, 200), np.linspace(-1.6, 1.6, 200)), axis=-1)
for i, (ax, (name, path)) in enumerate(zip(axes.flat, paths.items(), strict=True)):
    levels = np.geomspace(0.05, loss(grid).max(), 12)
    ax.contour(*np.moveaxis(grid, -1, 0), loss(grid), levels, colors="0.8", linewidths=0.8)
    ax.plot(*path.T, ".-", color=f"C{i}", linewidth=1.2, markersize=6)
    ax.plot(0, 0, "*", color="black", markersize=11)
    ax.set(title=name, xlim=(-4.6, 1.2), ylim=(-1.6, 1.6))
figure.supxlabel("direction of the smallest curvature, λ = 1")
figure.supylabel("of the largest, λ = 20")
plt.show()

# %%
# What the algebra says is what happens: every component follows :math:`(1 - \eta \lambda_i)^t`,
# the step of :math:`1 / \beta` removes the steep one at once, and no rate beats :math:`2 /
# (\lambda_{\max} + \lambda_{\min})`.

steps = np.arange(26)[:, np.newaxis]
for factor, path in zip((0.5, 1, 1.9, 2.05), paths.values(), strict=True):
    exact = path[0] * (1 - factor / beta * np.diag(A)) ** steps
    np.testing.assert_allclose(path, exact, rtol=1e-9, atol=1e-12)
assert abs(paths["1 / β: straight to the floor"][1, 1]) < 1e-15

rates = np.linspace(0.1, 2, 191) / beta
distances = [np.linalg.norm(descend(lr, steps=200)[-1]) for lr in rates]
best = rates[np.argmin(distances)]
print(f"best constant rate: {best:.4f}, and 2 / (20 + 1) = {2 / 21:.4f}")
assert abs(best - 2 / 21) < 1e-3

# %%
# Taylor's bound, and where it is lowest
# --------------------------------------
# Along the gradient the loss lies under a parabola with curvature :math:`\beta`. Its lowest point
# is at :math:`1 / \beta`, and it comes back to the present loss at :math:`2 / \beta`. How much
# better one could do depends on how steep the loss really is in the gradient's direction.

x = np.array([-4.0, 0.12])
gradient = A @ x
rates = np.linspace(0, 2.3 / beta, 200)
now, slope = loss(x), gradient @ gradient
after = loss(x - rates[:, np.newaxis] * gradient)
bound = now - rates * (1 - rates * beta / 2) * slope
assert (after <= bound + 1e-12).all()
assert loss(x - gradient / beta) <= now - slope / (2 * beta)

figure, ax = plt.subplots(figsize=(6.4, 3.8))
ax.plot(rates * beta, bound, color="C2", label="Taylor's bound")
ax.plot(rates * beta, after, color="C0", label="loss after the step")
ax.axhline(now, color="0.6", linewidth=0.8)
ax.plot(1, now - slope / (2 * beta), "o", color="C2")
ax.set_xticks([0, 1, 2], ["0", "1 / β", "2 / β"])
ax.set(xlabel="learning rate", ylabel="loss")
ax.legend(frameon=False)
plt.show()

# %%
# The curvature of a network: power iteration
# -------------------------------------------
# A network's Hessian is not at hand, but its product with a vector is: a difference of two
# gradients,
#
# .. math::
#     Hv \approx \frac{\nabla f(\theta + \epsilon v) - \nabla f(\theta - \epsilon v)}{2 \epsilon} .
#
# Repeat :math:`v \leftarrow Hv / \lVert Hv \rVert`. In the basis of eigenvectors each round
# multiplies the components by their eigenvalues, so the one of largest magnitude takes over, and
# :math:`v^\top H v` tends to it. :func:`fastnn.analysis.dominant_eigenvalue` does that; by hand:

rng = np.random.default_rng(0)
angle = np.sqrt(rng.uniform(0.02, 1, 200)) * 3 * np.pi
label = rng.integers(0, 2, 200)
x = np.stack([angle * np.cos(angle + np.pi * label), angle * np.sin(angle + np.pi * label)], axis=1)
x = x / 6 + rng.normal(0, 0.03, x.shape)  # two spirals


def network():
    """Return the same network each time."""
    return fastnn.Sequential(
        fastnn.Linear(2, 24), fastnn.Tanh(), fastnn.Linear(24, 24), fastnn.Tanh(),
        fastnn.Linear(24, 2), dtype="float64", rng=1,
    )


model = network()
objective = fastnn.objective(model, "cross_entropy", x, label)  # flat θ -> loss, gradient
theta, v = model.get_flat(), rng.normal(size=model.get_flat().size)
for _ in range(30):
    v /= np.linalg.norm(v)
    Hv = (objective(theta + 1e-5 * v)[1] - objective(theta - 1e-5 * v)[1]) / 2e-5
    eigenvalue, v = v @ Hv, Hv

model.set_flat(theta)
by_fastnn = analysis.dominant_eigenvalue(model, "cross_entropy", x, label, rng=0)
suggested = analysis.suggest_lr(model, "cross_entropy", x, label, rng=0)
print(f"by hand {eigenvalue:.3f}, by fastnn {by_fastnn:.3f}, so the rate 1 / λ = {suggested:.3f}")
assert abs(eigenvalue - by_fastnn) < 0.01 * by_fastnn
assert abs(suggested * by_fastnn - 1) < 0.01

# %%
# A network is not a quadratic
# ----------------------------
# Its curvature changes on the way. :math:`2 / \lambda` at the start is therefore no wall: gradient
# descent may go faster and still come down, because it moves to where the loss is flatter. And
# with a small rate the curvature grows until it passes :math:`2 / \eta`, the edge of stability.
# There the steps along the steepest direction grow too, the loss jumps, and the network lands
# where the rate is just endured. The loss no longer falls in every step, but it falls.


def train(lr, steps=600, every=20):
    """Return losses at each step, and the largest curvature every `every` steps."""
    model = network()
    trainer = fastnn.Trainer(model, "cross_entropy", optim.SGD(model.parameters(), lr=lr))
    losses, curvatures = [], []
    for step in range(steps):
        if step % every == 0:
            curvatures.append(
                analysis.dominant_eigenvalue(model, "cross_entropy", x, label, tol=0.02, rng=0)
            )
        losses.append(trainer.step(x, label))
    return np.array(losses), np.array(curvatures)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for i, factor in enumerate((0.5, 1, 2.5)):
    lr = factor * suggested
    losses, curvatures = train(lr)
    print(f"{factor:4} / λ: loss {losses[0]:.3f} -> {losses[-1]:.3f}, "
          f"rate × largest curvature: most {curvatures.max() * lr:.2f}, at the end "
          f"{curvatures[-1] * lr:.2f}")
    assert losses[-1] < losses[0]
    assert curvatures.max() * lr > 2
    left.plot(losses, color=f"C{i}", label=f"{factor:g} / λ")
    right.plot(np.arange(0, 600, 20), curvatures * lr, color=f"C{i}")
right.axhline(2, color="0.4", linestyle="--", linewidth=1, label="edge of stability")
left.set(title="loss", xlabel="step", yscale="log")
right.set(title="rate × largest curvature", xlabel="step", ylim=(0, None))
left.legend(title="rate", frameon=False)
right.legend(frameon=False)
plt.show()
