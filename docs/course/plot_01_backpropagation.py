r"""
1. Back-propagation by hand
===========================

A network with one hidden layer, a loss, an L2 penalty: every derivative written out, computed in
NumPy, and compared with what fastnn computes.

**Forward.** A batch :math:`X` of :math:`n` samples, one in each row, goes through

.. math::
    Z &= X W_1^\top + \mathbf 1 b_1^\top, \qquad H = \varphi(Z), \qquad
    O = H W_2^\top + \mathbf 1 b_2^\top, \\
    L &= -\frac1n \sum_{i=1}^n \log P_{i, y_i} \quad\text{with}\quad
    P_{ij} = \frac{e^{O_{ij}}}{\sum_k e^{O_{ik}}}, \\
    s &= \frac\lambda2 \left(\lVert W_1 \rVert_F^2 + \lVert W_2 \rVert_F^2\right), \quad J = L + s .

:math:`\varphi` acts on every element; it is the ReLU here. Weights are (outputs, inputs), as in
PyTorch.

**Backward.** Write :math:`\bar A` for :math:`\partial J / \partial A`, which has the shape of
:math:`A`, and :math:`\langle A, B \rangle = \sum_{ij} A_{ij} B_{ij}`. A small change of :math:`O`
changes the objective by :math:`dJ = \langle \bar O, dO \rangle`. Put in :math:`dO = dH\, W_2^\top
+ H\, dW_2^\top + \mathbf 1\, db_2^\top`, and move the factors to the other side of the product:

.. math::
    \langle \bar O, dH\, W_2^\top \rangle &= \langle \bar O W_2, dH \rangle, \\
    \langle \bar O, H\, dW_2^\top \rangle &= \langle \bar O^\top H, dW_2 \rangle, \\
    \langle \bar O, \mathbf 1\, db_2^\top \rangle &= \langle \bar O^\top \mathbf 1, db_2 \rangle .

What stands beside :math:`dH`, :math:`dW_2` and :math:`db_2` are their gradients. The same step once
more for the first layer, and the penalty's :math:`\partial s / \partial W = \lambda W`, give
everything:

.. math::
    \begin{aligned}
    \bar O &= \tfrac1n (P - Y), &
    \bar W_2 &= \bar O^\top H + \lambda W_2, &
    \bar b_2 &= \bar O^\top \mathbf 1, \\
    \bar H &= \bar O W_2, & \bar Z &= \bar H \odot \varphi'(Z), & & \\
    & & \bar W_1 &= \bar Z^\top X + \lambda W_1, &
    \bar b_1 &= \bar Z^\top \mathbf 1 .
    \end{aligned}

:math:`Y` holds a one in each row, at the label. The first formula is the reason why softmax and
cross-entropy belong together: with :math:`\ell_i = \log \sum_k e^{O_{ik}} - O_{i, y_i}`,

.. math::
    \frac{\partial \ell_i}{\partial O_{ij}}
    = \frac{e^{O_{ij}}}{\sum_k e^{O_{ik}}} - [j = y_i] = P_{ij} - Y_{ij} .

*Sources.* Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors",
Nature 323 (1986); Goodfellow, Bengio and Courville, *Deep Learning* (2016), section 6.5, whose
algorithm 6.4 is the pass above for any depth, penalty included.
"""

# %%
# Forward and backward in NumPy
# -----------------------------
# The formulas above, line by line. All that the backward pass needs besides the weights is what the
# forward pass has computed on its way: :math:`X`, :math:`H` and :math:`P`. For the ReLU,
# :math:`\varphi'(Z)` is 1 where :math:`H > 0`, so :math:`Z` itself can be forgotten.

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import losses, ops

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])

n, inputs, hidden, classes, lam = 6, 4, 5, 3, 0.1
rng = np.random.default_rng(0)
X, y = rng.normal(size=(n, inputs)), rng.integers(0, classes, n)
W1, b1 = rng.normal(size=(hidden, inputs)), rng.normal(size=hidden)
W2, b2 = rng.normal(size=(classes, hidden)), rng.normal(size=classes)
Y = np.eye(classes)[y]

# forward
Z = X @ W1.T + b1
H = np.maximum(Z, 0)
O = H @ W2.T + b2
P = np.exp(O) / np.exp(O).sum(axis=1, keepdims=True)
J = -np.log(P[np.arange(n), y]).mean() + lam / 2 * ((W1**2).sum() + (W2**2).sum())

# backward
dO = (P - Y) / n
dW2, db2 = dO.T @ H + lam * W2, dO.sum(axis=0)
dH = dO @ W2
dZ = dH * (H > 0)
dW1, db1 = dZ.T @ X + lam * W1, dZ.sum(axis=0)

print(f"J = {J:.4f}")

# %%
# The same as functions of fastnn
# -------------------------------
# :mod:`fastnn.ops` has a pair of functions for each layer. They read like the formulas, and are
# compiled.

h = ops.relu(ops.linear(X, W1, b1))
loss, grad_o = losses.cross_entropy(ops.linear(h, W2, b2), y)
grad_h, grad_w2, grad_b2 = ops.linear_backward(grad_o, h, W2)
_, grad_w1, grad_b1 = ops.linear_backward(ops.relu_backward(grad_h, h), X, W1)

by_ops = grad_w1 + lam * W1, grad_b1, grad_w2 + lam * W2, grad_b2
for by_hand, gradient in zip((dW1, db1, dW2, db2), by_ops, strict=True):
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-12, atol=1e-14)

# %%
# The same as a model
# -------------------
# A model keeps what the backward pass needs and fills the ``grad`` of every parameter;
# :func:`fastnn.losses.l2_penalty` returns :math:`s` and adds :math:`\lambda W` to the gradients.

model = fastnn.Sequential(
    fastnn.Linear(inputs, hidden), fastnn.ReLU(), fastnn.Linear(hidden, classes), dtype="float64"
)
model.load_state_dict({"0.weight": W1, "0.bias": b1, "2.weight": W2, "2.bias": b2})
first, _, last = model

loss, grad_o = losses.cross_entropy(model(X, training=True), y)
model.backward(grad_o)
penalty = losses.l2_penalty([first.weight, last.weight], lam)

np.testing.assert_allclose(loss + penalty, J, rtol=1e-12)
for parameter, by_hand in zip(model.parameters(), (dW1, db1, dW2, db2), strict=True):
    error = np.abs(parameter.grad - by_hand).max()
    print(f"{parameter.name:8}  largest difference between hand and fastnn {error:.0e}")
    assert error < 1e-14

# %%
# And both are right: the loss is differentiated by central differences, parameter by parameter and
# layer by layer. The errors are relative, less what rounding explains; all are 0 then.

report = fastnn.analysis.gradient_check(model, "cross_entropy", X, y)
print(report)
assert report.ok

# %%
# The computational graph
# -----------------------
# Every value is a node. Forward, each one is computed from those that point to it; backward, the
# gradients go the same ways in the opposite direction (orange: what arrives at the arrow's
# beginning), and where two of them meet, as at :math:`W_1`, they are added.

BLUE, GREEN, ORANGE = "#0072B2", "#009E73", "#D55E00"
nodes = {  # name: place and colour
    "X": (0, 1, "0.45"), "Z": (1.5, 1, BLUE), "H": (3, 1, BLUE), "O": (4.5, 1, BLUE),
    "L": (6, 1, BLUE), "J": (7.5, 1, BLUE), "s": (6, 0, BLUE), "y": (6, 2, "0.45"),
    "W_1": (1.5, 0, GREEN), "b_1": (1.5, 2, GREEN), "W_2": (4.5, 0, GREEN), "b_2": (4.5, 2, GREEN),
}
edges = {  # from, to: the gradient that comes back
    ("X", "Z"): "", ("W_1", "Z"): r"$\bar Z^\top X$", ("b_1", "Z"): r"$\bar Z^\top\mathbf{1}$",
    ("Z", "H"): r"$\bar H\odot\varphi'(Z)$", ("H", "O"): r"$\bar O\, W_2$",
    ("W_2", "O"): r"$\bar O^\top H$", ("b_2", "O"): r"$\bar O^\top\mathbf{1}$",
    ("O", "L"): r"$\frac{1}{n}(P-Y)$", ("y", "L"): "", ("L", "J"): "1", ("s", "J"): "1",
    ("W_1", "s"): r"$\lambda W_1$", ("W_2", "s"): r"$\lambda W_2$",
}

figure, ax = plt.subplots(figsize=(9, 3.6))
for (start, end), label in edges.items():
    (x0, y0, _), (x1, y1, _) = nodes[start], nodes[end]
    bend = 0.32 if (start, end) == ("W_1", "s") else 0.0
    arrow = {"arrowstyle": "-|>", "color": "0.35", "shrinkA": 17, "shrinkB": 17, "lw": 1.3}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops=arrow | {"connectionstyle": f"arc3,rad={bend}"})
    if label:
        place = ((x0 + x1) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2)
        align = {"ha": "center", "va": "bottom"} if y0 == y1 else {"ha": "left", "va": "center"}
        offset = (0, 5) if y0 == y1 else (6, 0) if x0 == x1 else (8, -9)
        ax.annotate(label, place, offset, textcoords="offset points", color=ORANGE, fontsize=12,
                    **align)
for name, (x, y_, color) in nodes.items():
    ax.text(x, y_, f"${name}$", color="white", fontsize=14, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.35", "color": color})
ax.set(xlim=(-0.4, 7.9), ylim=(-0.75, 2.35))
ax.set_title("values along the arrows, gradients against them")
ax.axis("off")
plt.show()

# %%
# fastnn plans the same graph as a list of kernel calls; that the ReLU works in place, where its
# input was, is because :math:`Z` is not needed again.

print(model.graph())

# %%
# The memory of a training step
# -----------------------------
# Prediction can forget each layer's output as soon as the next one is computed. Training cannot:
# the backward pass begins at the last layer and needs the input of every layer, so all of them are
# kept until it comes by. With :math:`D` hidden layers of :math:`h` units, a batch of :math:`n`
# samples of :math:`d` numbers takes, with 4 bytes for a number,
#
# .. math:: \text{bytes kept} = 4\, n\, (d + D h),
#
# in proportion to the batch *and* to the depth, while the parameters do not depend on the batch at
# all. :meth:`Layer.summary <fastnn.layers.Layer.summary>` prints it:


def network(depth, width=256, features=64):
    """Return a network with `depth` hidden layers."""
    layers = [fastnn.Linear(features, width), fastnn.ReLU()]
    for _ in range(depth - 1):
        layers += [fastnn.Linear(width, width), fastnn.ReLU()]
    return fastnn.Sequential(*layers, fastnn.Linear(width, 10), rng=0)


def kept(depth, batch, width=256, features=64):
    """Return the bytes that a training step keeps of its intermediate values."""
    return 4 * batch * (features + depth * width)


print(network(2).summary(batch_size=128))
for depth in 1, 2, 8:
    for batch in 1, 128:
        expected = f"{kept(depth, batch):,} bytes for a batch of {batch}"
        assert expected in network(depth).summary(batch_size=batch)

# %%
# The linear layers keep nothing of their own: their inputs are the outputs of the layers before,
# which stand in the lines above them. From a batch of 60 samples (one hidden layer) to 242
# (sixteen) on, the intermediate values outweigh the parameters (dots). A network that does not fit
# into memory takes smaller batches and adds up their gradients: ``Trainer(..., accumulate=4)``.

figure, ax = plt.subplots(figsize=(6.4, 4))
batches = 2.0 ** np.arange(0, 14)
for i, depth in enumerate((1, 4, 16)):
    parameters = 4 * sum(p.data.size for p in network(depth).parameters())
    equal = parameters / kept(depth, 1)
    print(f"{depth:2} hidden: as much as the parameters for a batch of {equal:.0f}")
    ax.loglog(batches, kept(depth, batches) / 2**20, color=f"C{i}", base=2)
    ax.plot(equal, parameters / 2**20, "o", color=f"C{i}")
    layers = "1 hidden layer" if depth == 1 else f"{depth} hidden layers"
    ax.annotate(layers, (batches[-1], kept(depth, batches[-1]) / 2**20), (6, 0),
                textcoords="offset points", color=f"C{i}", va="center")
ax.spines[["top", "right"]].set_visible(False)
ax.set_yticks([2.0**-8, 2.0**-4, 1, 16, 128], ["4 KiB", "64 KiB", "1 MiB", "16 MiB", "128 MiB"])
ax.set_xticks(4 ** np.arange(7), [str(4**i) for i in range(7)])
ax.set(xlabel="batch size", ylabel="kept for the backward pass")
ax.set_title("dots: as much as the parameters take", fontsize="medium")
plt.show()
