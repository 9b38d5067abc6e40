r"""
3. Momentum, and Nesterov's two forms
=====================================

A velocity that remembers past gradients smooths the zig-zag, and makes the condition number count
by its root only.

**The heavy ball.** Polyak's momentum keeps a velocity :math:`v`, with a friction :math:`\mu < 1`:

.. math::
    v_{t+1} = \mu v_t - \eta \nabla f(x_t), \qquad x_{t+1} = x_t + v_{t+1} .

Written out, :math:`v_{t+1} = -\eta \sum_{k \ge 0} \mu^k \nabla f(x_{t-k})`. Gradients that change
sign cancel; gradients that agree add up, to :math:`1 / (1 - \mu)` times the step of gradient
descent: ten times with :math:`\mu = 0.9`.

**How fast, on a quadratic.** Along an eigenvector with eigenvalue :math:`\lambda` of the Hessian,
:math:`v_t = x_t - x_{t-1}` gives

.. math:: x_{t+1} = (1 + \mu - \eta\lambda)\, x_t - \mu\, x_{t-1},

whose solutions are powers of the roots of :math:`r^2 - (1 + \mu - \eta\lambda)\, r + \mu = 0`. The
roots are a conjugate pair if :math:`(1 - \sqrt\mu)^2 < \eta\lambda < (1 + \sqrt\mu)^2`, and as
their product is :math:`\mu`,

.. math:: |r| = \sqrt\mu \quad\text{whatever the curvature.}

Choose :math:`\eta` and :math:`\mu` so that :math:`\lambda_{\min}` and :math:`\lambda_{\max}` are
the two ends of that interval; with :math:`\kappa = \lambda_{\max} / \lambda_{\min}`,

.. math::
    \sqrt\mu = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}, \qquad
    \eta = \left(\frac2{\sqrt{\lambda_{\max}} + \sqrt{\lambda_{\min}}}\right)^2 .

Gradient descent has :math:`(\kappa - 1) / (\kappa + 1)` in the place of :math:`\sqrt\mu`.

**Nesterov.** Take the gradient where the velocity is about to lead, not where the ball is:

.. math::
    v_{t+1} = \mu v_t - \eta \nabla f(y_t + \mu v_t), \qquad y_{t+1} = y_t + v_{t+1} .

The same lines as above lead to :math:`r^2 - (1 + \mu)(1 - \eta\lambda)\, r + \mu (1 - \eta\lambda)
= 0` and :math:`|r| = \sqrt{\mu (1 - \eta\lambda)}` where the roots are complex: the steeper a
direction, the stronger its friction.

**The other form.** A program holds its parameters in one place, and takes its gradient there. Let
it hold the look-ahead points :math:`x_t = y_t + \mu v_t`. Then

.. math::
    v_{t+1} &= \mu v_t - \eta \nabla f(x_t), \\
    x_{t+1} &= y_{t+1} + \mu v_{t+1} = (x_t - \mu v_t) + v_{t+1} + \mu v_{t+1}
             = x_t - \mu v_t + (1 + \mu)\, v_{t+1} .

*Sources.* Polyak, "Some methods of speeding up the convergence of iteration methods" (1964);
Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k²)" (1983);
Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
learning" (2013), equations 1 to 4; Bengio, Boulanger-Lewandowski and Pascanu, "Advances in
optimizing recurrent networks" (2013), equation 7; Goh, "Why momentum really works", Distill
(2017).
"""

# %%
# Three ways down one valley
# --------------------------
# The condition number is 100. Each method has its best constants. Momentum first swings up in the
# steep direction, for with a double root the solution is :math:`(a + bt)\, r^t`; then it wins.

import matplotlib.pyplot as plt
import numpy as np

from fastnn import optim

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

smallest, largest = 1.0, 100.0
A = np.diag([smallest, largest])
kappa = largest / smallest
q = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)

METHODS = {
    "gradient descent": lambda x: optim.SGD([x], lr=2 / (largest + smallest)),
    "momentum": lambda x: optim.SGD(
        [x], lr=(2 / (np.sqrt(largest) + np.sqrt(smallest))) ** 2, momentum=q**2
    ),
    "Nesterov": lambda x: optim.NAG([x], lr=1 / largest, momentum=q),
}


def descend(make, steps, start=(-4.0, 0.15)):
    """Return the points that an optimizer visits, (steps + 1, 2)."""
    x = np.array(start)
    optimizer, path = make(x), [x.copy()]
    for _ in range(steps):
        optimizer.step([A @ x])  # x changes in place
        path.append(x.copy())
    return np.array(path)


def loss(points):
    """Return the loss of every point."""
    return 0.5 * np.sum(points @ A * points, axis=-1)


figure = plt.figure(figsize=(9, 5.4))
panels = figure.subplot_mosaic(
    [["gradient descent", "loss"], ["momentum", "loss"], ["Nesterov", "loss"]],
    width_ratios=[1.35, 1],
)
grid = np.stack(np.meshgrid(np.linspace(-4.6, 1.2, 200), np.linspace(-0.75, 0.75, 200)), axis=-1)
needed = {}
for i, (name, make) in enumerate(METHODS.items()):
    path, ax = descend(make, 500), panels[name]
    needed[name] = int(np.argmax(loss(path) < 1e-6))
    ax.contour(*np.moveaxis(grid, -1, 0), loss(grid), np.geomspace(0.02, 40, 12), colors="0.8",
               linewidths=0.8)
    ax.plot(*path[:26].T, ".-", color=f"C{i}", linewidth=1.2, markersize=6)
    ax.plot(0, 0, "*", color="black", markersize=11)
    ax.set(title=name, xlim=(-4.6, 1.2), ylim=(-0.75, 0.75))
    ax.label_outer()
    panels["loss"].semilogy(loss(path), color=f"C{i}", label=name)
panels["loss"].set(title="loss", xlabel="step", ylim=(1e-12, 40), xlim=(0, 300))
panels["loss"].legend(frameon=False)
plt.show()

print("steps to a loss of 1e-6:", needed)
assert 4 * needed["momentum"] < needed["gradient descent"]
assert 3 * needed["Nesterov"] < needed["gradient descent"]

# %%
# The factor of each step
# -----------------------
# The roots say by how much a component shrinks in a step, for each curvature. With
# :math:`\mu = 0.9` the heavy ball has :math:`\sqrt{0.9} = 0.95` from :math:`\eta\lambda = 0.0026`
# up to 3.8, where gradient descent has long diverged. Nesterov's method ends at
# :math:`\eta\lambda = 2 (1 + \mu) / (1 + 2\mu) = 1.36`, but kills what is steep at once.

mu = 0.9


def factor(method, curvature):
    """Return the largest |r| for ηλ = `curvature`."""
    c, m = curvature, mu
    linear, constant = {
        "gradient descent": (1 - c, 0.0),
        "momentum": (1 + m - c, m),
        "Nesterov": ((1 + m) * (1 - c), m * (1 - c)),
    }[method]
    return np.abs(np.roots([1, -linear, constant])).max()


figure, ax = plt.subplots(figsize=(6.8, 4))
curvatures = np.geomspace(5e-4, 4.5, 1500)
for i, method in enumerate(METHODS):
    ax.plot(curvatures, [factor(method, c) for c in curvatures], color=f"C{i}", label=method)
ax.axhline(1, color="0.4", linestyle="--", linewidth=1)
ax.set(xlabel="learning rate × curvature, ηλ", ylabel="factor per step", ylim=(0, 1.25))
ax.set_xscale("log")
ax.text(6e-4, 1.02, "diverges above", color="0.3", va="bottom")
ax.legend(frameon=False, loc="lower left")
plt.show()

# %%
# What the optimizers do agrees: the mean factor of steps 200 to 400, from the length of
# :math:`(x_t, x_{t-1})`, is the root's magnitude.

for curvature in 0.01, 0.3, 1.2:
    for method, optimizer in (
        ("gradient descent", lambda x: optim.SGD([x], lr=1.0)),
        ("momentum", lambda x: optim.SGD([x], lr=1.0, momentum=mu)),
        ("Nesterov", lambda x: optim.SGD([x], lr=1.0, momentum=mu, nesterov=True)),
    ):
        x = np.array([1.0])
        step, visited = optimizer(x).step, [1.0]
        for _ in range(400):
            step([curvature * x])
            visited.append(x.item())
        early, late = np.hypot(*visited[199:201]), np.hypot(*visited[399:401])
        if early > 1e-100:
            measured = (late / early) ** (1 / 200)
            assert abs(measured - factor(method, curvature)) < 0.01, (method, curvature, measured)

# %%
# Both forms of Nesterov's method
# -------------------------------
# By hand, the textbook form, with its gradient ahead of the position. :class:`fastnn.optim.NAG` is
# the other form: its array holds the look-ahead points, and
# :meth:`~fastnn.optim.NAG.positions` tells the textbook's positions.

mu, eta, start = 0.9, 0.008, np.array([-4.0, 0.5])
y, v = start.copy(), np.zeros(2)
x = start.copy()
nag = optim.NAG([x], lr=eta, momentum=mu)
z = start.copy()
pytorch_form = optim.SGD([z], lr=eta, momentum=mu, nesterov=True)

ys, aheads = [y], []
for _ in range(100):
    ahead = y + mu * v
    np.testing.assert_allclose(x, ahead, atol=1e-12)  # the same points
    v = mu * v - eta * A @ ahead
    y = y + v
    nag.step([A @ x])
    pytorch_form.step([A @ z])
    np.testing.assert_allclose(nag.positions()[0], y, atol=1e-12)
    np.testing.assert_allclose(x, z, atol=1e-12)
    ys.append(y)
    aheads.append(ahead)

# %%
# PyTorch's form, which is ``SGD(nesterov=True)`` here too, has the rate outside: :math:`u_{t+1} =
# \mu u_t + \nabla f(x_t)` and :math:`x_{t+1} = x_t - \eta (\nabla f(x_t) + \mu u_{t+1})`. With
# :math:`v = -\eta u` it takes the same steps; if :math:`\eta` changes on the way, the two differ,
# since here the new rate applies to the old gradients as well.
#
# The picture has the textbook's three movements: with the old velocity ahead to :math:`x_t`, from
# there down the gradient, and that is :math:`y_{t+1}`.

figure, ax = plt.subplots(figsize=(8, 4.2))
ys, aheads = np.array(ys), np.array(aheads)
first, count = 1, 4
grid = np.stack(np.meshgrid(np.linspace(-4, -3.55, 200), np.linspace(-0.3, 0.22, 200)), axis=-1)
ax.contour(*np.moveaxis(grid, -1, 0), loss(grid), 12, colors="0.85", linewidths=0.8)
for t in range(first, first + count):
    arrow = {"arrowstyle": "-|>", "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", aheads[t], ys[t], arrowprops=arrow | {"color": "C2"})
    ax.annotate("", ys[t + 1], aheads[t], arrowprops=arrow | {"color": "C0"})
    ax.annotate(f"$y_{t}$", ys[t], (0, 7), textcoords="offset points", fontsize=12, ha="center")
ax.plot(*ys[first : first + count + 1].T, "o", color="black", label="positions $y_t$")
ax.plot(*aheads[first : first + count].T, "s", color="C2", label="look-ahead points $x_t$")
ax.plot([], [], color="C2", label="ahead by $\\mu v_t$")
ax.plot([], [], color="C0", label="down by $\\eta\\nabla f(x_t)$")
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
ax.set(xticks=[], yticks=[], xlim=(-3.99, -3.56))
plt.show()
