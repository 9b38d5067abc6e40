r"""
9. Dropout as an ensemble
=========================

One network trained as very many that share their weights, and how to ask all of them at once.

**The layer.** In training each unit is kept with probability :math:`q = 1 - p`, and what is kept is
divided by :math:`q`:

.. math::
    \tilde h = \frac{m \odot h}q, \quad m_j \sim \operatorname{Bernoulli}(q)
    \qquad\Rightarrow\qquad
    \mathrm E[\tilde h] = h, \quad \operatorname{Var}(\tilde h_j) = \frac pq\, h_j^2 .

The mean is right, so prediction leaves the layer out (the original has the factor :math:`q` in
prediction instead). Backward the gradient goes through the same mask.

**The ensemble.** A layer of :math:`n` units has :math:`2^n` masks, each of which is a network;
every training step trains one of them. Prediction should average over all. Let there be a softmax
behind the dropped layer, with logits :math:`o(m) = W (m \odot h) / q + b`, and take the
*geometric* mean of the probabilities,

.. math::
    \bar P_k \propto \exp \mathrm E[\log P_k(m)]
    \propto \exp \mathrm E[o_k(m)] = \exp (W h + b)_k ,

since the normalizer of the softmax is the same for all classes :math:`k`. So the single pass
without dropout *is* the geometric mean over all :math:`2^n` networks: exactly in this case, nearly
in deeper networks.

**The penalty.** For a linear model with dropped inputs the expected loss is

.. math::
    \mathrm E\, \lVert y - (M \odot X) w / q \rVert^2
    = \lVert y - Xw \rVert^2 + \frac pq \sum_j w_j^2\, \lVert X_{\cdot j} \rVert^2 ,

for the square of an expectation and a variance add up, and the cross terms of independent masks
vanish: a ridge penalty that weighs each weight by its feature's size.

*Sources.* Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to
prevent neural networks from overfitting" (2014), sections 4 and 9.1; Goodfellow, Bengio and
Courville, *Deep Learning* (2016), equations 7.52 to 7.66; Gal and Ghahramani, "Dropout as a
Bayesian approximation" (2016).
"""

# %%
# The layer and its moments
# -------------------------

import itertools

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn
from fastnn import ops

plt.style.use(["seaborn-v0_8-colorblind", {"figure.constrained_layout.use": True}])
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

p = 0.3
h = np.array([1.0, -2.0, 0.5])
layer = fastnn.Dropout(p, dtype="float64", rng=0)
dropped = layer(np.tile(h, (200_000, 1)), training=True)
print("mean    ", dropped.mean(axis=0).round(2), "expected", h)
print("variance", dropped.var(axis=0).round(2), "expected", (p / (1 - p) * h**2).round(2))
np.testing.assert_allclose(dropped.mean(axis=0), h, rtol=0.01)
np.testing.assert_allclose(dropped.var(axis=0), p / (1 - p) * h**2, rtol=0.02)

dx = layer.backward(np.ones_like(dropped))  # the same mask, the same factor
np.testing.assert_allclose(dx * h, dropped)
np.testing.assert_array_equal(layer(h[np.newaxis]), h[np.newaxis])  # prediction: nothing happens

# %%
# All 4,096 networks
# ------------------
# Twelve hidden units can be dropped in :math:`2^{12}` ways. Weighted by their probabilities, the
# geometric mean of all networks is what the network says without dropout; the arithmetic mean, the
# ensemble's vote, is near it and a little less sure.

rng = np.random.default_rng(0)
units, classes = 12, 3
h, b = rng.uniform(0, 1, units), rng.normal(0, 0.5, size=classes)
W = rng.normal(0, 0.5, size=(classes, units))
masks = np.array(list(itertools.product([0.0, 1.0], repeat=units)))
chance = np.prod(np.where(masks == 1, 1 - p, p), axis=1)
assert abs(chance.sum() - 1) < 1e-12

members = ops.softmax(ops.linear(masks * h / (1 - p), W, b))
geometric = np.exp(chance @ np.log(members))
geometric /= geometric.sum()
arithmetic = chance @ members
single = ops.softmax(ops.linear(h[np.newaxis], W, b))[0]
print("one pass   ", single.round(4))
print("geometric  ", geometric.round(4))
print("arithmetic ", arithmetic.round(4))
np.testing.assert_allclose(geometric, single, atol=1e-12)

# %%
# And the penalty, as the mean over many masks beside the formula:

X, w, y = rng.normal(size=(20, 6)) * [1, 1, 1, 3, 3, 3], rng.normal(size=6), rng.normal(size=20)
sampled = []
for _ in range(20_000):
    kept, _ = ops.dropout(X, p, rng)
    sampled.append(np.sum((y - kept @ w) ** 2))
expected = np.sum((y - X @ w) ** 2) + p / (1 - p) * np.sum(w**2 * np.sum(X**2, axis=0))
print(f"mean loss over masks {np.mean(sampled):.1f}, formula {expected:.1f}")
assert abs(np.mean(sampled) / expected - 1) < 0.02

# %%
# A network that would overfit
# ----------------------------
# Six hundred handwritten digits, a fifth of them with a random label, and two layers of 256 units.
# Without dropout the network learns the wrong labels by heart: the training loss goes on falling,
# and the test loss has turned long ago.

pixels, labels = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(
    (pixels / 16).astype(np.float32), labels, train_size=600, random_state=0
)
wrong = rng.random(600) < 0.2
train_y[wrong] = rng.integers(0, 10, wrong.sum())


def train(p, epochs=80):
    """Return a trained network and its history."""
    model = fastnn.Sequential(
        fastnn.Linear(64, 256), fastnn.ReLU(), fastnn.Dropout(p),
        fastnn.Linear(256, 256), fastnn.ReLU(), fastnn.Dropout(p), fastnn.Linear(256, 10), rng=0,
    )
    trainer = fastnn.Trainer(
        model, "cross_entropy", fastnn.optim.Adam(model.parameters(), lr=1e-3)
    )
    history = trainer.fit(
        train_x, train_y, epochs=epochs, validation_data=(test_x, test_y), metrics=["accuracy"],
        rng=0, progress=False,
    )
    return model, history.history


figure, ax = plt.subplots(figsize=(6.8, 3.8))
models, histories = {}, {}
for i, p in enumerate((0.0, 0.5)):
    models[p], histories[p] = train(p)
    epochs = np.arange(1, 81)
    ax.semilogy(epochs, histories[p]["val_loss"], color=f"C{2 * i}", label=f"test, p = {p:g}")
    ax.semilogy(epochs, histories[p]["loss"], ":", color=f"C{2 * i}", label=f"training, p = {p:g}")
    print(f"p = {p}: test loss {histories[p]['val_loss'][-1]:.3f}, "
          f"accuracy {histories[p]['val_accuracy'][-1]:.1%}")
ax.set(xlabel="epoch", ylabel="loss")
ax.legend(frameon=False, ncols=2, loc="lower left")
plt.show()
assert histories[0.5]["val_loss"][-1] < 0.7 * histories[0.0]["val_loss"][-1]
assert histories[0.5]["val_accuracy"][-1] > histories[0.0]["val_accuracy"][-1]

# %%
# Asking the members
# ------------------
# ``model(x, training=True)`` draws masks, so each call asks one network of the ensemble. A single
# member is worse than the whole, and a vote gets better with every member. The arithmetic mean of
# the probabilities is careful, because its members are; the geometric mean is surer, and comes
# near to the one pass without dropout, which costs as much as a single member.

model = models[0.5]


def loss_of(probabilities):
    """Return the mean negative log-probability of the right digits."""
    return -np.mean(np.log(probabilities[np.arange(len(test_y)), test_y]))


logits = np.array([model(test_x, training=True) for _ in range(96)])
votes = ops.softmax(logits)
counts = np.array([1, 2, 4, 8, 16, 32, 96])
by_count = {"arithmetic mean": [], "geometric mean": []}
for count in counts:  # every member votes once
    groups = slice(0, 96 // count * count)
    shape = (-1, count, *votes.shape[1:])
    arithmetic = votes[groups].reshape(shape).mean(axis=1)
    geometric = ops.softmax(logits[groups].reshape(shape).mean(axis=1))
    by_count["arithmetic mean"].append(np.mean([loss_of(group) for group in arithmetic]))
    by_count["geometric mean"].append(np.mean([loss_of(group) for group in geometric]))
whole = loss_of(ops.softmax(model(test_x)))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
for color, (name, values) in zip("02", by_count.items(), strict=True):
    left.semilogx(counts, values, "o-", color=f"C{color}", label=name)
    print(f"{name}: one member {values[0]:.3f}, all {values[-1]:.3f}; one pass {whole:.3f}")
    assert (np.diff(values) < 0).all()
left.axhline(whole, color="0.3", linestyle="--", linewidth=1.2, label="one pass, no dropout")
left.set_xticks([1, 10, 100], ["1", "10", "100"])
left.set(xlabel="members", ylabel="test loss")
left.legend(frameon=False)
assert abs(by_count["geometric mean"][-1] - whole) < abs(by_count["arithmetic mean"][-1] - whole)

# The members agree where the network is right, and disagree where it is wrong.
right_ones = model(test_x).argmax(axis=1) == test_y
agreement = np.mean(votes.argmax(axis=2) == model(test_x).argmax(axis=1), axis=0)
bins = np.linspace(0, 1, 21)
for chosen, color, label in (right_ones, "C0", "right"), (~right_ones, "C2", "wrong"):
    share = np.ones(chosen.sum()) / chosen.sum()
    right.hist(agreement[chosen], bins, weights=share, histtype="step", color=color, label=label,
               linewidth=2)
right.set(xlabel="members that agree with the whole", ylabel="share of the digits")
right.xaxis.set_major_formatter("{x:.0%}")
right.yaxis.set_major_formatter("{x:.0%}")
right.legend(frameon=False, loc="upper left")
plt.show()
print(f"agreement where right {agreement[right_ones].mean():.0%}, "
      f"where wrong {agreement[~right_ones].mean():.0%}")
assert agreement[right_ones].mean() > agreement[~right_ones].mean() + 0.15
