"""A network as a function for C: a pendulum, whose acceleration it has learnt, integrated in C.

Whoever calls functions of C (a solver, a simulator, Numba, Cython, CasADi) can call a predictor by
its address, without Python in between. Here it is a loop that this script compiles.

python examples/predictor_from_c.py
"""

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import fastnn

CODE = """
#include <stddef.h>
typedef void (*network)(void *context, const void *x, ptrdiff_t rows, void *y);

/* leapfrog steps of length h from angle and velocity, q[0] and q[1] */
void swing(network f, void *context, double *q, double h, long steps) {
    double a;
    f(context, q, 1, &a);
    for (long i = 0; i < steps; i++) {
        q[1] += 0.5 * h * a;
        q[0] += h * q[1];
        f(context, q, 1, &a);
        q[1] += 0.5 * h * a;
    }
}
"""


def learn():
    """Return a network that knows -sin(angle), of one input."""
    angle = np.linspace(-np.pi, np.pi, 400)[:, None]
    layers = fastnn.Linear(1, 24), fastnn.Tanh(), fastnn.Linear(24, 1)
    model = fastnn.Sequential(*layers, dtype="float64", rng=0)
    result = fastnn.solvers.levenberg_marquardt(model, angle, -np.sin(angle), max_iter=60)
    print(f"mean squared error of the acceleration: {result.loss:.1e}")
    return model


def compiled(folder):
    """Return the function of CODE."""
    source, library = Path(folder, "swing.c"), Path(folder, "swing.so")
    source.write_text(CODE, encoding="utf-8")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).swing
    pointer = ctypes.c_void_p
    function.argtypes = [pointer, pointer, pointer, ctypes.c_double, ctypes.c_long]
    function.restype = None
    return function


def main():
    """Let the pendulum swing for a while, and look whether it kept its energy."""
    predictor = learn().predictor()
    state, steps = np.array([1.0, 0.0]), 100_000
    with tempfile.TemporaryDirectory() as folder:
        swing = compiled(folder)
        start = time.perf_counter()
        swing(predictor.address, predictor.context, state.ctypes.data, 1e-3, steps)
        elapsed = time.perf_counter() - start
    energy = 0.5 * state[1] ** 2 - np.cos(state[0])
    print(f"{steps:,} steps of the network in C: {1e9 * elapsed / steps:.0f} ns each")
    print(f"energy after 100 seconds: {energy:.5f}, at the start {-np.cos(1.0):.5f}")


if __name__ == "__main__":
    main()
