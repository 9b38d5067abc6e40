"""How exactly the kernels round an update, in float32 on every instruction set."""

import numpy as np
import pytest

from fastnn import optim

LR, MU, EPS = 1e-3, 0.9, 1e-8
EPSILON = 2.0**-23  # of float32


def single(value):
    """A scalar as the kernels hold it."""
    return float(np.float32(value))


# The update u in x = x - u, in float64, from the gradient g, the states s as the kernel has stored
# them, and those before the step. A sum that may cancel comes with the size of its largest part.


def adam(g, s, before, t):
    step, c2 = single(LR / (1 - 0.9**t)), single(1 / (1 - 0.999**t))
    return step * s["exp_avg"] / (np.sqrt(s["exp_avg_sq"] * c2) + single(EPS))


def lamb(g, s, before, t):
    c1, c2 = single(1 / (1 - 0.9**t)), single(1 / (1 - 0.999**t))
    return single(LR) * (s["exp_avg"] * c1 / (np.sqrt(s["exp_avg_sq"] * c2) + single(EPS)))


def rmsprop(g, s, before, t):
    return single(LR) * g / (np.sqrt(s["square_avg"]) + single(EPS))


def adagrad(g, s, before, t):
    return single(LR) * g / (np.sqrt(s["sum"]) + single(EPS))


def momentum(g, s, before, t):
    return single(LR) * s["momentum_buffer"]


def nesterov(g, s, before, t):
    terms = single(LR) * g, single(LR) * single(MU) * s["momentum_buffer"]
    return sum(terms), np.max(np.abs([*terms, sum(terms)]), axis=0)


def nag(g, s, before, t):
    terms = single(MU) * before["velocity"], -single(1 + MU) * s["velocity"]
    return sum(terms), np.max(np.abs([*terms, sum(terms)]), axis=0)


RULES = [  # the optimizer, its exact update, the bound in ULP
    (lambda p: optim.SGD(p, LR, MU), momentum, 0.5),
    (lambda p: optim.SGD(p, LR, MU, nesterov=True), nesterov, 2.0),
    (lambda p: optim.NAG(p, LR, MU), nag, 2.0),
    (lambda p: optim.Adagrad(p, LR, EPS), adagrad, 2.0),
    (lambda p: optim.RMSprop(p, LR, eps=EPS), rmsprop, 2.0),
    (lambda p: optim.RMSprop(p, LR, eps=EPS, momentum=MU), momentum, 0.5),
    (lambda p: optim.Adam(p, LR, eps=EPS), adam, 2.0),
    (lambda p: optim.AdamW(p, LR, eps=EPS), adam, 2.0),
    (lambda p: optim.LAMB(p, LR, eps=EPS), lamb, 2.5),
]
IDS = [
    "momentum", "nesterov", "NAG", "Adagrad", "RMSprop", "RMSprop-momentum",
    "Adam", "AdamW", "LAMB",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "exact", "bound"), RULES, ids=IDS)
def test_update_is_within_2_ulp_of_the_exact_one(rule, exact, bound, isa):
    """Parameters are 0 before each step, so that they are the negative update after it.

    The exact update is that of the moments as stored, with the scalars rounded to float32: what
    rounding has done to these is the business of the next steps too. A ULP is ε|u| with ε = 2⁻²³,
    the last place of a number just above a power of two; each operation adds half of one to the
    relative error. Adagrad and RMSprop have four (root, + eps, product with the rate, division).
    Adam has that of v̂ besides, which the root halves: 2.25 if all were the worst at once. LAMB has
    Adam's and the product of its rate, which comes last. Where u is a sum that may cancel (the two
    forms of Nesterov's momentum) a ULP is one of the largest of the sum and its terms.
    """
    rng = np.random.default_rng(0)
    x = np.zeros(50_000, np.float32)
    optimizer = rule([x])
    for t in range(1, 6):
        g = (rng.standard_normal(x.size) * 10.0 ** rng.uniform(-6, 6, x.size)).astype(np.float32)
        before = {k: v.astype(np.float64) for k, v in optimizer.state[0].items()}
        x[:] = 0
        optimizer.step([g])
        after = {k: v.astype(np.float64) for k, v in optimizer.state[0].items()}
        update = exact(g.astype(np.float64), after, before, t)
        update, size = update if isinstance(update, tuple) else (update, np.abs(update))
        assert size.min() > 0
        assert np.max(np.abs(-x - update) / (EPSILON * size)) <= bound
