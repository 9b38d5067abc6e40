"""Optimizer steps: fastnn against PyTorch (fused, foreach), optax (jitted, donated) and NumPy.

As a script it prints one line per optimizer and set of arrays, with the best peer's time divided by
ours; contenders take turns, so that a slow moment of the machine strikes all alike::

    python bench/bench_optim.py                         # everything, with one and with two threads
    python bench/bench_optim.py --threads 1 --arrays large --rules Adam SGD

As tests it makes one pytest-benchmark group per line: ``pytest bench/bench_optim.py``.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

ARRAYS = {  # name: shapes
    "large": [(10_000_000,)],
    "mlp": [(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)],
    "square": [(64, 64)] * 64,
    "many": [(100,)] * 1000,
    "tiny": [(10,)] * 10_000,
}
RULES = {  # name: arguments that mean the same to fastnn and PyTorch
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3},
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "RMSprop": {"lr": 1e-3},
    "Adagrad": {"lr": 1e-3},
    "LAMB": {"lr": 1e-3},
}
# XLA compiles every array on its own: minutes for ten thousand
TOO_MANY_FOR_XLA = 2000


def data(arrays):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in ARRAYS[arrays]]


def fastnn_step(rule, arrays, **options):
    from fastnn import optim

    optimizer, grads = getattr(optim, rule)(data(arrays), **RULES[rule], **options), data(arrays)
    return lambda: optimizer.step(grads)


def numpy_step(rule, arrays):
    from fastnn import reference_optim

    step = getattr(reference_optim, f"{rule.lower()}_step")
    counts = {"SGD": 1, "RMSprop": 1, "Adagrad": 1}
    sets = [
        (p, g, *(np.zeros_like(p) for _ in range(counts.get(rule, 2))))
        for p, g in zip(data(arrays), data(arrays), strict=True)
    ]
    kwargs = RULES[rule] | ({} if rule in ("SGD", "RMSprop") else {"step": 10})

    def run():
        for one in sets:
            step(*one, **kwargs)

    return run


def torch_step(rule, arrays, form):
    import torch

    params = [torch.nn.Parameter(torch.from_numpy(a)) for a in data(arrays)]
    for p, g in zip(params, data(arrays), strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = getattr(torch.optim, rule)(params, **RULES[rule], **{form: True})
    return optimizer.step


def optax_step(rule, arrays):
    import jax
    import optax

    name = rule.lower()
    kwargs = {"learning_rate": RULES[rule]["lr"]}
    if rule == "SGD":
        kwargs["momentum"] = 0.9
    optimizer = getattr(optax, name)(**kwargs)

    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    grads = [jax.numpy.asarray(a) for a in data(arrays)]
    params = [jax.numpy.asarray(a) for a in data(arrays)]
    held = [params, optimizer.init(params)]
    step = jax.jit(update, donate_argnums=(0, 1))

    def run():
        held[:] = jax.block_until_ready(step(*held, grads))

    return run


def contenders(rule, arrays):
    """Functions that make a step, by name; ours first."""
    found = {
        "fastnn": lambda: fastnn_step(rule, arrays),
        "bfloat16": lambda: fastnn_step(rule, arrays, state_dtype="bfloat16"),
        "int8": lambda: fastnn_step(rule, arrays, state_dtype="int8"),
        "numpy": lambda: numpy_step(rule, arrays),
    }
    if rule != "LAMB":
        found["torch foreach"] = lambda: torch_step(rule, arrays, "foreach")
    if rule in ("Adam", "AdamW", "SGD", "Adagrad"):
        found["torch fused"] = lambda: torch_step(rule, arrays, "fused")
    if len(ARRAYS[arrays]) <= TOO_MANY_FOR_XLA:
        found["optax"] = lambda: optax_step(rule, arrays)
    return found


OURS = ("fastnn", "bfloat16", "int8")
CASES = [(r, a, c) for a in ARRAYS for r in RULES for c in contenders(r, a)]


@pytest.mark.parametrize(("rule", "arrays", "contender"), CASES)
def test_step(benchmark, rule, arrays, contender):
    benchmark.group = f"{arrays} {rule}"
    step = contenders(rule, arrays)[contender]()
    step()
    benchmark(step)


# As a script -----------------------------------------------------------------------------------


def best_of(function, seconds=0.05):
    """Best time of one call, over about `seconds`."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def compare(functions, rounds):
    """Median over the rounds of each function's best time in a round."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(best_of(function))
    return {name: statistics.median(values) for name, values in times.items()}


def bandwidth(rounds):
    """Bytes per second of an in-place ``a += b`` on arrays of ten million float32."""
    a, b = data("large"), data("large")
    times = compare({"add": lambda: np.add(a[0], b[0], out=a[0])}, rounds)
    return 3 * a[0].nbytes / times["add"]


MOVED = {"Adam": 7, "AdamW": 7, "SGD": 5, "RMSprop": 5, "Adagrad": 5}  # arrays read and written


def measure(threads, arrays, rules, rounds, names):
    import torch

    torch.set_num_threads(threads)
    reached = bandwidth(rounds)
    print(f"\n{threads} thread(s); a += b moves {reached / 1e9:.1f} GB/s on one", flush=True)
    for which in arrays:
        for rule in rules:
            functions = {
                name: make()
                for name, make in contenders(rule, which).items()
                if not names or name in names
            }
            gc.collect()
            times = compare(functions, rounds)
            peers = {name: t for name, t in times.items() if name not in OURS}
            ours = times["fastnn"]
            line = f"{which:7} {rule:8} {ours * 1e6:9.1f} us"
            if peers:
                best = min(peers, key=peers.get)
                line += f"  {peers[best] / ours:7.2f} x ({best} {peers[best] * 1e6:.1f} us)"
            line += f"  {ours / len(ARRAYS[which]) * 1e9:8.0f} ns/array"
            if which == "large" and rule in MOVED:
                speed = MOVED[rule] * 4e7 / ours
                line += f"  {speed / 1e9:6.1f} GB/s = {speed / reached:.2f} of a += b"
            for name in OURS[1:]:
                if name in times:
                    line += f"  {name} {ours / times[name]:.2f} x"
            print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--arrays", nargs="+", choices=ARRAYS, default=list(ARRAYS))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--contenders", nargs="+", help="only these")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if len(arguments.threads) > 1:  # one process each: XLA takes its threads from the affinity
        rest = [a for a in sys.argv[1:] if a not in map(str, arguments.threads)]
        rest = [a for a in rest if a != "--threads"]
        for threads in arguments.threads:
            subprocess.run([sys.executable, __file__, "--threads", str(threads), *rest], check=True)
        return
    threads = arguments.threads[0]
    os.environ["FASTNN_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    measure(
        threads,
        arguments.arrays,
        arguments.rules,
        arguments.rounds,
        set(arguments.contenders or []),
    )


if __name__ == "__main__":
    main()
