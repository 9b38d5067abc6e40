r"""
10. An LSTM against a plain recurrent network
=============================================

Why a recurrent network forgets, what gates do about it, and the gates at work.

**The plain network** carries a state from step to step,

.. math:: h_t = \tanh(a_t), \qquad a_t = W x_t + U h_{t-1} + b .

Back-propagation through time is back-propagation through the network unrolled: with :math:`\bar
h_t` the gradient with respect to :math:`h_t`,

.. math::
    \bar a_t &= \bar h_t \odot (1 - h_t^2), \qquad \bar h_{t-1} = U^\top \bar a_t , \\
    \bar W &= \sum_t \bar a_t x_t^\top, \qquad \bar U = \sum_t \bar a_t h_{t-1}^\top, \qquad
    \bar b = \sum_t \bar a_t .

From the end back to step :math:`t` the gradient passes :math:`T - t` such factors, the latest on
the left,

.. math::
    \left\lVert \frac{\partial h_T}{\partial h_t} \right\rVert
    = \Bigl\lVert \prod_{s=t+1}^T \operatorname{diag}(1 - h_s^2)\, U \Bigr\rVert
    \le \lVert U \rVert^{T-t} ,

and vanishes exponentially if :math:`\lVert U \rVert < 1`; with a larger :math:`U` it may explode
instead.

**The LSTM** has a second state :math:`c`, to which it *adds*:

.. math::
    i_t, f_t, o_t &= \sigma(W x_t + U h_{t-1} + b), \qquad g_t = \tanh(W x_t + U h_{t-1} + b), \\
    c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh c_t ,

each gate with weights of its own. Along :math:`c` itself the factors are the forget gates only,

.. math:: \frac{\partial c_T}{\partial c_t} = \prod_{s=t+1}^T f_s \quad\text{(directly)},

no weights and no slopes. A gate at 1 keeps content and gradient for ever; with a bias :math:`b_f =
\log T` it begins at :math:`\sigma(\log T) = T / (T + 1)`, so that the product over :math:`T` steps
is about :math:`1 / e`.

*Sources.* Hochreiter and Schmidhuber, "Long short-term memory" (1997), section 3; Gers,
Schmidhuber and Cummins, "Learning to forget" (2000); Bengio, Simard and Frasconi, "Learning
long-term dependencies with gradient descent is difficult" (1994); Pascanu, Mikolov and Bengio, "On
the difficulty of training recurrent neural networks" (2013), section 2.1; Tallec and Ollivier,
"Can recurrent neural networks warp time?" (2018).
"""

# %%
# The task
# --------
# Sixty random numbers, one of the first ten marked. At the end the marked one is asked for.

import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn import losses, ops, optim

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

T, HIDDEN, BATCH = 60, 24, 32


def draw(count, rng):
    """Return sequences (count, T, 2) of numbers and marks, and the marked numbers (count, 1)."""
    x = np.zeros((count, T, 2))
    x[..., 0] = rng.uniform(-1, 1, (count, T))
    rows, marked = np.arange(count), rng.integers(0, 10, count)
    x[rows, marked, 1] = 1
    return x, x[rows, marked, :1]


# %%
# A plain recurrent network in NumPy
# ----------------------------------
# The formulas above, for a batch. Its arrays can be trained by an optimizer of fastnn, and a
# difference of losses along a random direction says that the gradients are right.


class PlainRNN:
    """h = tanh(W x + U h + b) over all steps, and a linear map of the last h."""

    def __init__(self, rng):
        self.W = rng.normal(0, 1 / np.sqrt(2), (HIDDEN, 2))
        self.U = rng.normal(0, 1 / np.sqrt(HIDDEN), (HIDDEN, HIDDEN))
        self.b = np.zeros(HIDDEN)
        self.V, self.c = rng.normal(0, 1 / np.sqrt(HIDDEN), (1, HIDDEN)), np.zeros(1)
        self.parameters = [self.W, self.U, self.b, self.V, self.c]

    def forward(self, x):
        """Return the predictions; keep all states for the backward pass."""
        self.x, self.h = x, [np.zeros((len(x), HIDDEN))]
        for t in range(x.shape[1]):
            self.h.append(np.tanh(x[:, t] @ self.W.T + self.h[-1] @ self.U.T + self.b))
        return self.h[-1] @ self.V.T + self.c

    def backward(self, dy):
        """Return the gradients of the parameters, and those of the states, last one first."""
        dW, dU, db = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.b)
        dh, states = dy @ self.V, []
        for t in reversed(range(self.x.shape[1])):
            states.append(dh)
            da = dh * (1 - self.h[t + 1] ** 2)
            dW += da.T @ self.x[:, t]
            dU += da.T @ self.h[t]
            db += da.sum(axis=0)
            dh = da @ self.U
        return [dW, dU, db, dy.T @ self.h[-1], dy.sum(axis=0)], states


rng = np.random.default_rng(0)
rnn = PlainRNN(rng)
x, y = draw(BATCH, rng)
gradients, _ = rnn.backward(losses.mse(rnn.forward(x), y)[1])
direction = [rng.normal(size=p.shape) for p in rnn.parameters]
values = []
for sign in 1, -1:
    for p, d in zip(rnn.parameters, direction, strict=True):
        p += sign * 1e-6 * d
    values.append(losses.mse(rnn.forward(x), y)[0])
    for p, d in zip(rnn.parameters, direction, strict=True):
        p -= sign * 1e-6 * d
slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
np.testing.assert_allclose((values[0] - values[1]) / 2e-6, slope, rtol=1e-4, atol=1e-8)

# %%
# An LSTM of fastnn
# -----------------
# As many units. ``return_sequences=False`` gives the last step only. The biases of the forget
# gates, the second quarter, begin at :math:`\log T`.


def make_lstm(rng):
    """Return a model of an LSTM and a linear map of its last output."""
    lstm = fastnn.LSTM(2, HIDDEN, return_sequences=False)
    model = fastnn.Sequential(lstm, fastnn.Linear(HIDDEN, 1), dtype="float64", rng=rng)
    lstm.bias_ih_l0.data[HIDDEN : 2 * HIDDEN] = np.log(T)
    return model


model = make_lstm(0)
print(model.summary(batch_size=BATCH, input_shape=(T, 2)))

# %%
# What comes back through time
# ----------------------------
# Before any training, the length of the gradient with respect to the input at each step.

figure, ax = plt.subplots(figsize=(6.8, 3.8))
pred = rnn.forward(x)
_, states = rnn.backward(np.ones_like(pred))
h = np.array(rnn.h[1:])
plain = np.linalg.norm((np.array(states[::-1]) * (1 - h**2)) @ rnn.W, axis=(1, 2))
model.forward(x, training=True)
gated = np.linalg.norm(model.backward(np.ones_like(pred)), axis=(0, 2))
for color, (name, lengths) in zip("20", {"plain": plain, "LSTM": gated}.items(), strict=True):
    ax.semilogy(np.arange(1, T + 1), lengths / lengths[-1], color=f"C{color}", label=name)
    print(f"{name}: at the first step {lengths[0] / lengths[-1]:.0e} of that at the last")
ax.set(xlabel="step of the input", ylabel="gradient / gradient at the end")
ax.legend(frameon=False)
plt.show()
assert plain[0] / plain[-1] < 1e-3
assert gated[0] / gated[-1] > 0.05

# %%
# Training both
# -------------
# On the same new batches, by Adam with clipped gradients. Chance, which is always to answer 0, has
# the loss of the marked number's variance, 1/3.

STEPS = 900
lstm_adam = optim.Adam(model.parameters(), lr=0.01, clip_norm=1.0)
trainer = fastnn.Trainer(model, "mse", lstm_adam)
rnn_adam = optim.Adam(rnn.parameters, lr=0.003, clip_norm=1.0)
curves = {"plain": [], "LSTM": []}
for _ in range(STEPS):
    x, y = draw(BATCH, rng)
    loss, dy = losses.mse(rnn.forward(x), y)
    rnn_adam.step(rnn.backward(dy)[0])
    curves["plain"].append(loss)
    curves["LSTM"].append(trainer.step(x, y))

figure, ax = plt.subplots(figsize=(6.8, 3.8))
for color, (name, values) in zip("20", curves.items(), strict=True):
    smooth = np.convolve(values, np.ones(25) / 25, "valid")
    ax.semilogy(np.arange(25, STEPS + 1), smooth, color=f"C{color}", label=name)
ax.axhline(1 / 3, color="0.4", linestyle="--", linewidth=1, label="chance")
ax.set(xlabel="step", ylabel="loss")
ax.legend(frameon=False, loc="lower left")
plt.show()

x, y = draw(1000, np.random.default_rng(1))
plain_loss, lstm_loss = losses.mse(rnn.forward(x), y)[0], losses.mse(model(x), y)[0]
print(f"on 1,000 new sequences: plain {plain_loss:.4f}, LSTM {lstm_loss:.4f}, chance 0.3333")
assert plain_loss > 0.25
assert lstm_loss < 0.05

# %%
# The gates
# ---------
# Step by step, by the formulas: :func:`fastnn.ops.linear` has all four gates in one product, in
# PyTorch's order i, f, g, o. The cell in the picture is the one that has most to do with the
# answer. At the mark its input gate opens and the number goes in; from there to the end a forget
# gate at 1 keeps it, while the input gate is shut against all other numbers. Below, the same cell
# in twelve sequences: each holds its own number.

lstm = model[0]
weights = [getattr(lstm, f"{name}_l0").data for name in ("weight_ih", "weight_hh")]
bias = lstm.bias_ih_l0.data + lstm.bias_hh_l0.data
x, y = draw(12, np.random.default_rng(10))
h = c = np.zeros((12, HIDDEN))
record = []
for t in range(T):
    gates = ops.linear(x[:, t], weights[0], bias) + ops.linear(h, weights[1])
    i, f, g, o = np.split(gates, 4, axis=1)
    i, f, o, g = ops.sigmoid(i), ops.sigmoid(f), ops.sigmoid(o), np.tanh(g)
    c = f * c + i * g
    h = o * np.tanh(c)
    record.append([i, f, o, c])
np.testing.assert_allclose(model[1](h), model(x), atol=1e-10)  # this is what the model does

shares = model[1].weight.data[0] * h  # of each cell in the answers, (12, HIDDEN)
cell = np.argmax(np.abs([np.cov(share, y[:, 0])[0, 1] for share in shares.T]))
input_gate, forget_gate, output_gate, content = np.array(record)[:, :, :, cell].transpose(1, 2, 0)
mark = int(x[0, :, 1].argmax())

figure, axes = plt.subplots(3, 1, figsize=(8, 5.6), sharex=True)
steps = np.arange(1, T + 1)
axes[0].bar(steps, x[0, :, 0], color="0.75", width=0.8)
axes[0].bar(mark + 1, x[0, mark, 0], color="C2", width=0.8)
axes[0].axhline(0, color="0.5", linewidth=0.8)
axes[0].set(ylabel="input", ylim=(-1.05, 1.05), yticks=[-1, 0, 1])
axes[0].set_title(f"marked: {y[0, 0]:.2f}, answer at the end: {model(x)[0, 0]:.2f}")
axes[1].plot(steps, input_gate[0], color="C2", label="input gate")
axes[1].plot(steps, forget_gate[0], color="C0", label="forget gate")
axes[1].plot(steps, output_gate[0], color="C1", label="output gate")
axes[1].set(ylabel="gates", ylim=(-0.05, 1.05), yticks=[0, 0.5, 1])
axes[1].legend(frameon=False, ncols=3, loc="center right")
shade = plt.cm.ScalarMappable(plt.Normalize(-1, 1), "cividis")
for number, values in zip(y[:, 0], content, strict=True):
    axes[2].plot(steps, values, color=shade.to_rgba(number), linewidth=1.6)
axes[2].set(xlabel="step", ylabel="content of the cell")
figure.colorbar(shade, ax=axes[2], label="marked number", pad=0.01, ticks=[-1, 0, 1])
plt.show()

print(f"cell {cell}: input gate {input_gate[0, mark]:.2f} at the mark, "
      f"{np.delete(input_gate[0], mark).mean():.2f} elsewhere; "
      f"forget gate {forget_gate[0, mark + 1:].mean():.3f} after it")
correlation = np.corrcoef(content[:, -1], y[:, 0])[0, 1]
print(f"correlation of its content at the end with the marked number {correlation:.3f}")
assert np.abs(model(x) - y).max() < 0.3
assert abs(correlation) > 0.8
assert forget_gate[0, mark + 1 :].mean() > 0.9
assert input_gate[0, mark] > 3 * np.delete(input_gate[0], mark).mean()
