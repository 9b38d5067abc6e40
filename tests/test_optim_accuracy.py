"""How exactly the kernels round an update, in float32 on every instruction set."""

from fractions import Fraction

import numpy as np
import pytest

from fastnn._kernels.update import corrected, scalars_at

from .optimizers import EXACT, LR

EPSILON = 2.0**-23  # of float32


@pytest.mark.parametrize(
    ("rule", "options", "exact", "bound"), EXACT,
    ids=["-".join([str(rule), *options]) for rule, options, *_ in EXACT],
)  # fmt: skip
def test_update_is_within_2_ulp_of_the_exact_one(rule, options, exact, bound, isa, rng):
    """Parameters are 0 before each step, so that they are the negative update after it.

    The exact update is that of the moments as stored, with the scalars rounded to float32: what
    rounding has done to these is the business of the next steps too. A ULP is ε|u| with ε = 2⁻²³,
    the last place of a number just above a power of two; each operation adds half of one to the
    relative error. Adagrad and RMSprop have four (root, + eps, product with the rate, division).
    Adam has that of v̂ besides, which the root halves: 2.25 if all were the worst at once. LAMB has
    Adam's and the product of its rate, which comes last. Where u is a sum that may cancel (the two
    forms of Nesterov's momentum) a ULP is one of the largest of the sum and its terms.
    """
    x = np.zeros(50_000, np.float32)
    optimizer = rule.optimizer([x], LR, **options)
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


@pytest.mark.parametrize("beta", [0.999, 0.9, 0.99, 0.95, 0.5, 0.1, 0.9999, 1 - 2**-53, 0.0])
def test_powers_of_corrections_are_the_nearest(beta):
    """On every system, whatever its C library's are; a far one costs no time."""
    for t in (*range(1, 200), 500, 1000, 3456):
        power = float(Fraction(beta) ** t)
        assert scalars_at((corrected(1.0, beta),), t) == (1 / (1 - power),), t
    last = 1.0 if beta < 0.99999 else 1 / (1 - np.exp(-(2.0**-53) * 1e6))
    assert scalars_at((corrected(1.0, beta),), 1e6) == (pytest.approx(last, rel=1e-5),)
    assert scalars_at((corrected(1.0, beta),), 1e300) == (1.0,)
