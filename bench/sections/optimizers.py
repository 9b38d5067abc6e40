"""Optimizer steps beside PyTorch (fused, foreach), optax (jitted, donated) and NumPy.

The limit is the bandwidth of a += b.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import repeat
from math import prod

import numpy as np

from bench.environment import THREADS
from bench.timing import Record, Run, loop, record
from fastnn import optim, reference

ARRAYS = {  # name: shapes
    "mlp": [(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)],
    "square": [(64, 64)] * 64,
    "many": [(100,)] * 1000,
    "tiny": [(10,)] * 10_000,
    "large": [(10_000_000,)],
}
WORDS = {
    "large": "10 million numbers", "mlp": "784-256-128-10", "square": "64 arrays of 64×64",
    "many": "1,000 arrays of 100", "tiny": "10,000 arrays of 10",
}  # fmt: skip
TARGETS = {"large": 1, "mlp": 3, "square": 6, "many": 80, "tiny": 100}
MOMENTUM = {"SGD": {"momentum": 0.9}}
RULES = {  # name: arguments that mean the same to all libraries
    name: {"lr": 1e-3} | MOMENTUM.get(name, {})
    for name in optim.__all__
    if hasattr(getattr(optim, name), "step") and name != "Optimizer"
}
WHOLE_ARRAYS = ("LAMB",)  # takes more than one pass, for it needs the norms of whole arrays
STATE_TARGETS = {"bfloat16": 1.3, "int8": 1.5}  # gain where memory is the limit
# XLA compiles every array on its own: minutes for ten thousand
TOO_MANY_FOR_XLA = 2000

Step = Callable[[], object]


def data(arrays: str) -> list[np.ndarray]:
    """Return arrays of random numbers."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in ARRAYS[arrays]]


# The libraries: each function returns one that makes a step ---------------------------------------


def optimizer_of(rule: str, params: list[np.ndarray], **options: str | None) -> optim.Optimizer:
    """Return our optimizer."""
    return getattr(optim, rule)(params, **RULES[rule], **options)


def states_of(rule: str) -> int:
    """Return how many states of its shape a parameter has."""
    return len(optimizer_of(rule, [np.zeros(1)]).state[0])


def fastnn_step(rule: str, arrays: str, **options: str | None) -> Step:
    """Return the step of an optimizer."""
    optimizer, grads = optimizer_of(rule, data(arrays), **options), data(arrays)
    return lambda: optimizer.step(grads)


def numpy_step(rule: str, arrays: str) -> Step:
    """Return the step of `fastnn.reference.optim`, array by array."""
    step, states = getattr(reference.optim, f"{rule.lower()}_step"), states_of(rule)
    sets = [
        (p, g, *(np.zeros_like(p) for _ in range(states)))
        for p, g in zip(data(arrays), data(arrays), strict=True)
    ]
    counts = "step" in inspect.signature(step).parameters
    options = RULES[rule] | ({"step": 10} if counts else {})

    def run():
        for one in sets:
            step(*one, **options)

    return run


def torch_parameters(arrays: str) -> list:
    """Return parameters of PyTorch that have gradients."""
    import torch

    torch.set_num_threads(THREADS)
    params = [torch.nn.Parameter(torch.from_numpy(a)) for a in data(arrays)]
    for p, g in zip(params, data(arrays), strict=True):
        p.grad = torch.from_numpy(g)
    return params


def torch_step(rule: str, arrays: str, form: str) -> Step:
    """Return the step of an optimizer in the form "fused" or "foreach"."""
    import torch

    params = torch_parameters(arrays)
    return getattr(torch.optim, rule)(params, **RULES[rule], **{form: True}).step


def adapter_step(rule: str, arrays: str) -> Step:
    """Return the step of our optimizer in the shape of PyTorch's, on its parameters."""
    import fastnn.torch

    params = torch_parameters(arrays)
    return fastnn.torch.Optimizer(params, rule.lower(), **RULES[rule]).step


def tensors_step(rule: str, arrays: str) -> Step:
    """Return the step of our optimizer on parameters of PyTorch."""
    return optimizer_of(rule, torch_parameters(arrays)).step


def optax_step(rule: str, arrays: str) -> Step:
    """Return a jitted step with donated buffers, whose result may still be on its way."""
    import jax
    import optax

    # Handing a step to another thread costs more than it brings when there is one core.
    jax.config.update("jax_cpu_enable_async_dispatch", THREADS > 1)
    optimizer = getattr(optax, rule.lower())(RULES[rule]["lr"], **MOMENTUM.get(rule, {}))

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
    """Return makers of steps by name, ours first; those of the libraries that have the rule."""
    found = {
        "fastnn": partial(fastnn_step, rule, arrays),
        "numpy": partial(numpy_step, rule, arrays),
    }
    if find_spec("torch"):
        import torch

        twin = getattr(torch.optim, rule, None)
        for form in ("foreach", "fused"):
            if twin and form in inspect.signature(twin).parameters:
                found[form] = partial(torch_step, rule, arrays, form)
    if find_spec("optax") and len(ARRAYS[arrays]) <= TOO_MANY_FOR_XLA:
        import optax

        if hasattr(optax, rule.lower()):
            found["optax"] = partial(optax_step, rule, arrays)
    return found


def waiting(step: Step) -> Callable[[int], None]:
    """Return a function of n that makes n steps and waits for the last one's result."""

    def run(n):
        for _ in repeat(None, n):
            result = step()
        if result is not None:  # only optax has one
            import jax

            jax.block_until_ready(result)

    return run


# The sections -----------------------------------------------------------------------------------


def optimizers(run: Run) -> Iterator[Record]:
    """Optimizer steps beside those of others"""
    for arrays in run.some(ARRAYS, 1):
        shapes = ARRAYS[arrays]
        size = 4 * sum(map(prod, shapes))
        for rule in run.some(RULES, 3):
            makers = contenders(rule, arrays)
            times = run.times({name: waiting(make()) for name, make in makers.items()})
            # a pass reads parameter, gradient and states, and writes all of them but the gradient
            touched = 2 + states_of(rule)
            limit = (2 * touched - 1) * size / run.machine.bandwidth(touched * size)
            yield record(
                f"{rule}, {WORDS[arrays]}",
                times,
                target=TARGETS[arrays],
                limit=None if rule in WHOLE_ARRAYS else limit,
            )


def optimizer_states(run: Run) -> Iterator[Record]:
    """Optimizer steps with states in fewer bits, beside full ones"""
    for arrays in run.some(ARRAYS, 1):
        for rule in run.some(RULES, 1):
            kinds = {"float32": None} | {kind: kind for kind in STATE_TARGETS}
            steps = {k: fastnn_step(rule, arrays, state_dtype=kind) for k, kind in kinds.items()}
            times = run.times({kind: loop(step) for kind, step in steps.items()})
            for kind, target in STATE_TARGETS.items():
                compared = {"fastnn": times[kind], "float32": times["float32"]}
                target = target if arrays == "large" else None
                yield record(f"{rule}, {kind}, {WORDS[arrays]}", compared, target=target)


def torch_optimizers(run: Run) -> Iterator[Record]:
    """fastnn.torch.Optimizer on parameters of PyTorch, beside PyTorch's own"""
    if not find_spec("torch"):
        return
    import torch

    for arrays in run.some(ARRAYS, 1):
        for rule in run.some(reversed(RULES)):
            if not hasattr(torch.optim, rule):
                continue
            forms = inspect.signature(getattr(torch.optim, rule)).parameters
            makers = {
                "fastnn": partial(adapter_step, rule, arrays),
                "fastnn.optim": partial(tensors_step, rule, arrays),
            }
            makers |= {
                form: partial(torch_step, rule, arrays, form)
                for form in ("foreach", "fused")
                if form in forms
            }
            times = run.times({name: waiting(make()) for name, make in makers.items()})
            yield record(f"{rule}, {WORDS[arrays]}", times)
