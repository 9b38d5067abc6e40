r"""
6. Activations, their gradients, and how units die
==================================================

What an activation lets through forward, what it lets through backward, and what happens where it
lets nothing through.

Without an activation a deep network is a single linear map: :math:`W_2 (W_1 x) = (W_2 W_1) x`. With
one, :math:`h = \varphi(z)`, back-propagation multiplies by its slope, :math:`\bar z = \bar h \odot
\varphi'(z)` (:doc:`plot_01_backpropagation`), in every layer. So the slope decides how much of the
gradient arrives.

========== ========================================== ==========================================
sigmoid    :math:`\sigma(z) = 1 / (1 + e^{-z})`       :math:`\sigma (1 - \sigma) \le \tfrac14`
tanh       :math:`2 \sigma(2z) - 1`                   :math:`1 - \tanh^2 z \le 1`
ReLU       :math:`\max(z, 0)`                         :math:`[z > 0]`
leaky ReLU :math:`\max(z, az)`                        1, or :math:`a` for :math:`z < 0`
ELU        :math:`z`, or :math:`e^z - 1` for          1, or :math:`e^z` for :math:`z < 0`
           :math:`z < 0`
softplus   :math:`\log(1 + e^z)`                      :math:`\sigma(z)`
GELU       :math:`z\, \Phi(z)`, :math:`\Phi` the      :math:`\Phi(z) + z\, \phi(z)`
           normal distribution, :math:`\phi` its
           density
SiLU       :math:`z\, \sigma(z)`                      :math:`\sigma + z\, \sigma (1 - \sigma)`
========== ========================================== ==========================================

The sigmoid's slope follows from :math:`\sigma' = e^{-z} / (1 + e^{-z})^2 = \sigma (1 - \sigma)`,
whose largest value is at :math:`\sigma = \tfrac12`. Sigmoid and tanh *saturate*: their slopes
vanish exponentially on both sides, like :math:`e^{-|z|}` and :math:`4 e^{-2|z|}`.

*Sources.* LeCun et al., "Efficient BackProp" (1998), section 4.4; Glorot and Bengio,
"Understanding the difficulty of training deep feedforward neural networks" (2010); Nair and
Hinton, "Rectified linear units improve restricted Boltzmann machines" (2010); Maas, Hannun and Ng,
"Rectifier nonlinearities improve neural network acoustic models" (2013); Clevert, Unterthiner and
Hochreiter, "ELUs" (2016); Hendrycks and Gimpel, "GELUs" (2016).
"""

# %%
# Values and slopes
# -----------------
# As :mod:`fastnn.ops` computes them. Each has a function for the backward pass: some want the
# output, for :math:`\sigma (1 - \sigma)` needs no :math:`z`; others, as the GELU, the input.

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import ops, plot

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

NAMES = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "gelu", "silu", "mish"]
plot.activations(NAMES)
plt.show()

z = np.linspace(-6, 6, 10001)
one = np.ones_like(z)
s = ops.sigmoid(z)
np.testing.assert_allclose(ops.sigmoid_backward(one, s), s * (1 - s), atol=1e-15)
np.testing.assert_allclose(ops.tanh_backward(one, np.tanh(z)), 1 - np.tanh(z) ** 2, atol=1e-15)
np.testing.assert_allclose(ops.tanh(z), 2 * ops.sigmoid(2 * z) - 1, atol=1e-15)
slope = np.gradient(ops.gelu(z), z)
np.testing.assert_allclose(ops.gelu_backward(one, z)[1:-1], slope[1:-1], atol=1e-6)
assert ops.sigmoid_backward(one, s).max() == 0.25

# %%
# What arrives after many layers
# ------------------------------
# The gradient's length, measured before each of thirty layers of 100 units. The weights have the
# variance that suits each activation (:doc:`plot_07_preprocessing_and_initialization`), and still
# each layer of sigmoids multiplies by less than a quarter.

DEPTH, WIDTH = 30, 100
rng = np.random.default_rng(0)


def gradient_lengths(layer, std):
    """Return the length of the gradient before each layer, relative to that at the output."""
    layers = []
    for _ in range(DEPTH):
        layers += [fastnn.Linear(WIDTH, WIDTH), layer()]
    fastnn.Sequential(*layers, dtype="float64", rng=0)  # gives the layers their arrays
    for linear in layers[::2]:
        linear.weight.data, linear.bias.data = rng.normal(0, std, (WIDTH, WIDTH)), np.zeros(WIDTH)
    lengths, dy = [1.0], rng.normal(size=(64, WIDTH))
    x = rng.normal(size=(64, WIDTH))
    for linear, activation in zip(layers[::2], layers[1::2], strict=True):
        x = activation(linear(x, training=True), training=True)
    start = np.linalg.norm(dy)
    for linear, activation in zip(layers[-2::-2], layers[-1::-2], strict=True):
        dy = linear.backward(activation.backward(dy))
        lengths.append(np.linalg.norm(dy) / start)
    return np.array(lengths)


figure, ax = plt.subplots(figsize=(7, 4))
CASES = {
    "sigmoid": (fastnn.Sigmoid, 1 / np.sqrt(WIDTH)),
    "tanh": (fastnn.Tanh, 1 / np.sqrt(WIDTH)),
    "ReLU": (fastnn.ReLU, np.sqrt(2 / WIDTH)),
}
for i, (name, (layer, std)) in enumerate(CASES.items()):
    lengths = gradient_lengths(layer, std)
    ax.semilogy(np.arange(DEPTH + 1), lengths, ".-", color=f"C{i}")
    ax.annotate(name, (DEPTH, lengths[-1]), (6, 0), textcoords="offset points", color=f"C{i}",
                va="center", fontsize="large")
    print(f"{name}: {lengths[-1]:.0e} of the gradient's length after {DEPTH} layers, "
          f"{lengths[-1] ** (1 / DEPTH):.2f} per layer")
    if name == "sigmoid":
        assert lengths[-1] < 0.25**DEPTH
    elif name == "ReLU":
        assert 0.1 < lengths[-1] < 10
ax.set(xlabel="layers passed backward", ylabel="length of the gradient", xlim=(0, DEPTH + 4))
plt.show()

# %%
# Saturation
# ----------
# A tanh whose input is large is :math:`\pm 1` and has no slope. With standard-normal weights the
# inputs of 100 units have a standard deviation of :math:`\sqrt{100} = 10`, and nearly all of them
# are there.

x = rng.normal(size=(2000, WIDTH))
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
saturated = {}
for ax, (label, std) in zip(
    axes, {"0.1 / √n": 0.01, "1 / √n": 0.1, "1": 1.0}.items(), strict=True
):
    h = ops.tanh(ops.linear(x, rng.normal(0, std, (WIDTH, WIDTH))))
    slopes = ops.tanh_backward(np.ones_like(h), h)
    saturated[label] = np.mean(slopes < 0.01)
    ax.hist(h.ravel(), bins=40, range=(-1, 1), color="C0")
    ax.set(xlabel="output of tanh", yticks=[])
    ax.set_title(f"weights' deviation {label}\nmean slope {slopes.mean():.2f}", fontsize="medium")
    ax.spines["left"].set_visible(False)
    print(f"deviation {label}: {saturated[label]:.0%} of the slopes are below 0.01")
plt.show()
assert saturated["1 / √n"] < 0.01
assert saturated["1"] > 0.7

# %%
# Dead ReLUs
# ----------
# A ReLU whose input is negative for *every* sample puts out 0, and its slope is 0: the gradient
# with respect to its weights and bias is 0 as well, so gradient descent can never bring it back. A
# few steps with too large a rate are enough, for they push biases far below 0.
# :func:`fastnn.plot.dead_units` counts the dead.

t = rng.uniform(-1, 1, (512, 2))
target = np.sin(3 * t[:, :1]) * np.cos(2 * t[:, 1:])


def train(activation, lr, seed=0):
    """Return the trainer of a network with two hidden layers, after 40 epochs."""
    model = fastnn.Sequential(
        fastnn.Linear(2, 24), activation(), fastnn.Linear(24, 24), activation(),
        fastnn.Linear(24, 1), rng=seed,
    )
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=lr))
    trainer.fit(t, target, epochs=40, rng=0, progress=False)
    return trainer


figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharex=True)
for ax, lr in zip(axes, (0.003, 0.3), strict=True):
    model = train(fastnn.ReLU, lr).model
    plot.dead_units(model, t, ax=ax)
    ax.set_title(f"rate {lr}")
    print(f"rate {lr}:", plot.dead_fractions(model, t))
plt.show()

# %%
# A careful rate afterwards does not wake the dead. What is left of the network learns on with the
# few units that it has; six networks for each activation show how much better off they are with a
# slope on the left.


def recover(activation, seed):
    """Return a network's loss after the large rate and 80 epochs of a small one."""
    trainer = train(activation, 0.3, seed)
    before = plot.dead_fractions(trainer.model, t)
    trainer.optimizer.lr = 0.003
    trainer.optimizer.reset_state()
    trainer.fit(t, target, epochs=80, rng=1, progress=False)
    after = plot.dead_fractions(trainer.model, t)
    assert all(after[path] > before[path] - 0.1 for path in before)
    return trainer.evaluate(t, target)["loss"]


figure, ax = plt.subplots(figsize=(6.4, 3.2))
losses = {}
for activation in fastnn.ReLU, fastnn.LeakyReLU, fastnn.ELU, fastnn.GELU:
    losses[activation.__name__] = [recover(activation, seed) for seed in range(6)]
for i, (name, values) in enumerate(losses.items()):
    ax.semilogx(values, np.full(6, i), "o", color=f"C{i % 4}", alpha=0.6, markersize=9)
    print(f"{name:9}  median loss {np.median(values):.5f}")
ax.set_yticks(range(4), losses)
ax.invert_yaxis()
ax.set(xlabel="loss at last, six networks each")
plt.show()
assert np.median(losses["ReLU"]) > 5 * np.median(losses["LeakyReLU"])
assert np.median(losses["LeakyReLU"]) > 5 * np.median(losses["GELU"])
