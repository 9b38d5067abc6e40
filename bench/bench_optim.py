"""Optimizer steps beside PyTorch (fused, foreach), optax (jitted, donated) and NumPy.

python bench/bench_optim.py --threads 1 2
python bench/bench_optim.py --arrays large --rules Adam SGD
python bench/bench_optim.py --quick

Prints tables like those of compare.py, in which the limit is the bandwidth of `a += b`.
As tests it makes one pytest-benchmark group per rule and set of arrays: pytest bench/bench_optim.py
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import repeat
from math import prod

import numpy as np
import pytest
from limits import STATISTICS, environment, idlest_cores
from peers import THREADS
from timing import Disturbance, Machine, Record, interleaved, loop, print_table, record

ARRAYS = {  # name: shapes
    "large": [(10_000_000,)],
    "mlp": [(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)],
    "square": [(64, 64)] * 64,
    "many": [(100,)] * 1000,
    "tiny": [(10,)] * 10_000,
}
TARGETS = {"large": 1, "mlp": 3, "square": 6, "many": 80, "tiny": 100}
RULES = {  # name: arguments that mean the same to fastnn and PyTorch
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3},
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "Adagrad": {"lr": 1e-3},
    "RMSprop": {"lr": 1e-3},
    "LAMB": {"lr": 1e-3},
}
# Parameter, gradient and states. A single pass reads all of them and writes all but the gradient;
# LAMB takes more than one, for it needs the norms of whole arrays.
TOUCHED = {"Adam": 4, "AdamW": 4, "SGD": 3, "Adagrad": 3, "RMSprop": 3}
STATE_TARGETS = {"bfloat16": 1.3, "int8": 1.5}  # gain where memory is the limit
# XLA compiles every array on its own: minutes for ten thousand
TOO_MANY_FOR_XLA = 2000

Step = Callable[[], object]


def data(arrays: str) -> list[np.ndarray]:
    """Return arrays of random numbers."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in ARRAYS[arrays]]


# The libraries: each function returns one that makes a step ---------------------------------------


def fastnn_step(rule: str, arrays: str, **options: str | None) -> Step:
    """Return the step of an optimizer."""
    from fastnn import optim

    optimizer, grads = getattr(optim, rule)(data(arrays), **RULES[rule], **options), data(arrays)
    return lambda: optimizer.step(grads)


def numpy_step(rule: str, arrays: str) -> Step:
    """Return the step of `fastnn.reference.optim`, array by array."""
    from fastnn import reference

    step = getattr(reference.optim, f"{rule.lower()}_step")
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


def torch_step(rule: str, arrays: str, form: str) -> Step:
    """Return the step of an optimizer in the form "fused" or "foreach"."""
    import torch

    torch.set_num_threads(THREADS)
    params = [torch.nn.Parameter(torch.from_numpy(a)) for a in data(arrays)]
    for p, g in zip(params, data(arrays), strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = getattr(torch.optim, rule)(params, **RULES[rule], **{form: True})
    return optimizer.step


def optax_step(rule: str, arrays: str) -> Step:
    """Return a jitted step with donated buffers, whose result may still be on its way."""
    import jax
    import optax

    # Handing a step to another thread costs more than it brings when there is one core.
    jax.config.update("jax_cpu_enable_async_dispatch", THREADS > 1)
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
        held[:] = step(*held, grads)
        return held

    return run


def contenders(rule: str, arrays: str) -> dict[str, Callable[[], Step]]:
    """Return makers of steps by name, ours first; those of the libraries that are installed."""
    found = {
        "fastnn": lambda: fastnn_step(rule, arrays),
        "numpy": lambda: numpy_step(rule, arrays),
    }
    if find_spec("torch") and rule != "LAMB":
        found["foreach"] = lambda: torch_step(rule, arrays, "foreach")
        if rule != "RMSprop":
            found["fused"] = lambda: torch_step(rule, arrays, "fused")
    if find_spec("optax") and len(ARRAYS[arrays]) <= TOO_MANY_FOR_XLA:
        found["optax"] = lambda: optax_step(rule, arrays)
    return found


CASES = [(r, a, c) for a in ARRAYS for r in RULES for c in contenders(r, a)]


@pytest.mark.parametrize(("rule", "arrays", "contender"), CASES)
def test_step(benchmark, rule, arrays, contender):
    benchmark.group = f"{arrays} {rule}"
    step = contenders(rule, arrays)[contender]()
    wait = waiting(step)
    wait(1)
    benchmark(wait, 1)


def waiting(step: Step) -> Callable[[int], None]:
    """Return a function of n that makes n steps and waits for the last one's result."""

    def run(n):
        for _ in repeat(None, n):
            result = step()
        if result is not None:  # only optax has one
            import jax

            jax.block_until_ready(result)

    return run


# The tables -------------------------------------------------------------------------------------


def against_peers(machine: Machine, rounds: int, arrays: str, rules: list) -> Iterator[Record]:
    """Yield a row for each rule, with what one array costs us."""
    shapes = ARRAYS[arrays]
    size = 4 * sum(map(prod, shapes))
    for rule in rules:
        makers = contenders(rule, arrays)
        times = interleaved({name: waiting(make()) for name, make in makers.items()}, rounds)
        touched = TOUCHED.get(rule)
        yield record(
            f"{rule}: {1e9 * times['fastnn'] / len(shapes):.0f} ns per array",
            times,
            target=TARGETS[arrays],
            limit=touched and (2 * touched - 1) * size / machine.bandwidth(touched * size),
        )


def stored_states(rounds: int, arrays: str, rules: list) -> Iterator[Record]:
    """Yield a row for each rule and way to store its states, beside full ones."""
    for rule in rules:
        kinds = {"float32": None} | {kind: kind for kind in STATE_TARGETS}
        steps = {k: fastnn_step(rule, arrays, state_dtype=kind) for k, kind in kinds.items()}
        times = interleaved({kind: loop(step) for kind, step in steps.items()}, rounds)
        for kind, target in STATE_TARGETS.items():
            compared = {"fastnn": times[kind], "float32": times["float32"]}
            yield record(f"{rule}, {kind}", compared, target=target if arrays == "large" else None)


def measure(arrays: list[str], rules: list[str], rounds: int) -> None:
    """Print the tables of this process, whose threads are already limited."""
    machine, disturbance = Machine(THREADS), Disturbance()
    unit = f"[µs, {THREADS} thread{'s' if THREADS > 1 else ''}]"
    for name in arrays:
        rows = against_peers(machine, rounds, name, rules)
        print_table(f"{name}, {len(ARRAYS[name])} arrays: optimizer steps {unit}", rows)
        rows = stored_states(rounds, name, rules)
        print_table(f"{name}: states stored in fewer bits {unit}", rows)
    print(f"Other processes kept {disturbance.share():.2f} processors busy meanwhile.")


def main() -> None:
    """Run one process for each number of threads, limited before it imports anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--arrays", nargs="+", choices=ARRAYS, default=list(ARRAYS))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--rounds", type=int, default=15, help="samples of each measurement")
    parser.add_argument("--quick", action="store_true", help="do all rules run? one sample of mlp")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.arrays, options.rounds = ["mlp"], 1
    if options.worker:
        measure(options.arrays, options.rules, options.rounds)
        return
    cores = idlest_cores() if STATISTICS.exists() else []
    for count in options.threads:
        if cores:  # the process that starts next stays on as many cores
            os.sched_setaffinity(0, cores[:count])
        command = [sys.executable, __file__, "--worker", "--rounds", str(options.rounds)]
        command += ["--arrays", *options.arrays, "--rules", *options.rules]
        subprocess.run(command, env=os.environ | environment(count), check=True)


if __name__ == "__main__":
    main()
