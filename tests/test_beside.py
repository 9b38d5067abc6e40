"""fastnn in one process with other libraries that have threads, whichever comes first."""

import itertools
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
NAMES = [name for name in ("torch", "sklearn", "lightgbm") if find_spec(name)]
pytestmark = pytest.mark.skipif(
    not NAMES or not (BENCH / "others.py").exists(), reason="needs another library, and bench/"
)

CODE = """
import importlib, os, signal, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
import numpy as np, fastnn
from fastnn._kernels import core
from others import OTHERS
names = ["numpy", *(name for name in sys.argv[2:] if name in OTHERS)]
core.share("always")
x = np.random.default_rng(0).normal(size=(256, 30)).astype("f")

def train(threads):
    fastnn.set_num_threads(threads)
    model = fastnn.Sequential(fastnn.Linear(30, 64), fastnn.Tanh(), fastnn.Linear(64, 5), rng=0)
    trainer = fastnn.Trainer(model, "mse", fastnn.optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(x, x[:, :5], epochs=3, rng=0, progress=False)
    return model.get_flat().tobytes()

expected = train(1)
for name in names + names:
    assert OTHERS[name](), name
    assert train(2) == expected, name
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        os._exit(train(2) != expected)
    assert os.waitpid(child, 0)[1] == 0
    assert train(2) == expected
    assert OTHERS[names[-1]]()
print("well")
"""


def orders(long):
    """Return in which orders to import: all, or two in which any two come both ways around."""
    names = ["fastnn", *NAMES]
    if long:
        return list(itertools.permutations(names))
    return [names, names[::-1]]


def test_other_libraries_with_threads(long):
    for order in orders(long):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE, BENCH, *order],
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        assert done.stdout == "well\n", (order, done.stderr)
