"""Which libraries were measured: version, threads, and the kernels that they used."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# The bits of the registers that OpenBLAS's kernels for a processor use, by the processor's name.
OPENBLAS = {"SkylakeX": 512, "Cooperlake": 512, "SapphireRapids": 512}
OPENBLAS |= dict.fromkeys(("Haswell", "Zen", "Excavator", "Piledriver", "Sandybridge"), 256)
OPENBLAS |= dict.fromkeys(("Nehalem", "Barcelona", "Penryn", "Core2", "Prescott"), 128)
TORCH = {"AVX512": 512, "AVX2": 256, "DEFAULT": 128}

# The peers that are other people's programs; times of anything else are our own.
LIBRARIES = {
    "numpy": "NumPy", "torch": "PyTorch", "torch.compile": "torch.compile", "jax": "JAX",
    "onnxruntime": "ONNX Runtime", "sklearn": "scikit-learn", "foreach": "PyTorch, foreach",
    "fused": "PyTorch, fused", "optax": "optax", "autocast": "PyTorch, autocast",
    "PackedSequence": "PyTorch, PackedSequence", "torch, padded": "PyTorch, padded",
    "jax, padded": "JAX, padded",
    "pytabkit": "pytabkit",
}  # fmt: skip
# What a library runs with, and the bits of its registers where they are known.
Use = tuple[str, int | None]


def threads(count: object) -> str:
    """Return the number of threads in words."""
    return f"{count} thread{'' if str(count) == '1' else 's'}"


def compiler(path: str) -> str:
    """Return what has compiled a library, as its file tells it."""
    marks = rb"(GCC): \([^)]*\) ([\d.]+)|(clang) version ([\d.]+)"
    found = re.findall(marks, Path(path).read_bytes())
    return b", ".join(sorted({b" ".join(filter(None, mark)) for mark in found})).decode()


def fastnn_use() -> Use:
    """Return threads and instruction set."""
    import fastnn
    from fastnn._kernels import core

    bits = 8 * core.vector_bytes()
    kernels = f"kernels for {core.isa()} by {compiler(core.__file__)}"
    return f"{threads(fastnn.get_num_threads())}, {kernels}", bits


def numpy_use() -> Use:
    """Return the threads of its BLAS, and for which processor the BLAS has chosen its kernels."""
    if not find_spec("threadpoolctl"):
        return "kernels unknown: threadpoolctl is not installed", None
    from threadpoolctl import threadpool_info

    # SciPy and PyTorch may have brought their own
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    found.sort(key=lambda library: "numpy" not in library["filepath"])
    if not found:
        return "kernels unknown: a BLAS that threadpoolctl does not know", None
    name, kernels = found[0]["internal_api"], found[0].get("architecture", "unknown")
    what = f"{threads(found[0]['num_threads'])}, {name} {found[0]['version']}"
    return f"{what}, kernels for {kernels}", OPENBLAS.get(kernels)


def torch_use() -> Use:
    """Return threads and instruction set."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return f"{threads(torch.get_num_threads())}, kernels for {capability}", TORCH.get(capability)


def compiler_use() -> Use:
    """Return the threads of PyTorch and the registers that its compiler writes loops for."""
    import torch
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    return f"{threads(torch.get_num_threads())}, loops by Inductor", pick_vec_isa().bit_width()


def onnxruntime_use() -> Use:
    """Return the threads that its sessions are given; it picks its kernels (MLAS) by processor."""
    return f"{threads(os.environ.get('OMP_NUM_THREADS', '?'))}, kernels of MLAS", None


def jax_use() -> Use:
    """Return the threads that XLA was given; it compiles for the processor at hand."""
    return f"{threads(os.environ.get('NPROC', '?'))}, kernels by XLA", None


USES: dict[str, tuple[str, Callable[[], Use]]] = {  # module: distribution, its use
    "fastnn": ("fastnn-cpu", fastnn_use),
    "numpy": ("numpy", numpy_use),
    "torch": ("torch", torch_use),
    "torch._inductor": ("torch", compiler_use),
    "onnxruntime": ("onnxruntime", onnxruntime_use),
    "jax": ("jax", jax_use),
    "optax": ("optax", lambda: ("as JAX", None)),
    "sklearn": ("scikit-learn", lambda: ("as NumPy", None)),
}


def widest_registers() -> int:
    """Return the bits of the widest vector registers of this processor that NumPy knows of."""
    features = np.show_config(mode="dicts")["SIMD Extensions"]
    names = [*features.get("baseline", ()), *features.get("found", ())]
    for bits, beginnings in {512: ("AVX512", "X86_V4"), 256: ("AVX2", "X86_V3")}.items():
        if any(name.startswith(beginnings) for name in names):
            return bits
    return 128


def describe_libraries() -> dict[str, str]:
    """Return version, threads and kernels of each library that this process has imported so far.

    A library whose registers are known to be narrower than the processor's is marked.
    """
    found, widest = {}, widest_registers()
    for module, (distribution, use) in USES.items():
        if module in sys.modules:
            what, bits = use()
            line = f"{version(distribution)}, {what}"
            line += f" ({bits} bits)" if bits else ""
            if bits and bits < widest:
                line += f" -- NOT AT ITS BEST: this processor has registers of {widest} bits"
            found[module] = line
    return found


def fastest(times: Mapping[str, float]) -> str:
    """Return whose time is the least: another library's, if there is any among them."""
    return min([name for name in times if name in LIBRARIES] or times, key=times.__getitem__)


@cache
def compiles() -> bool:
    """Return whether torch.compile works here: it needs a C++ compiler."""
    if not find_spec("torch"):
        return False
    import torch

    try:
        torch.compile(torch.sin)(torch.ones(3))
    except Exception:  # whatever it is, it does not work
        return False
    return True
