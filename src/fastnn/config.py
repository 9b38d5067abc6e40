"""What this installation is and what it uses here."""

from __future__ import annotations

import platform

import numpy as np

from fastnn._kernels import core

__all__ = ["show_config"]


def __dir__() -> list[str]:
    return __all__


def show_config() -> None:
    """Print version, instruction set and threads.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.show_config()  # doctest: +ELLIPSIS
    fastnn ...
    """
    from importlib.metadata import version  # takes as long as half the import of fastnn

    found = ", ".join(
        name if runs else f"{name} (not on this processor)"
        for name, runs in core.variants().items()
    )
    print(
        f"fastnn {version('fastnn-cpu')}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.system()} {platform.machine()}\n"
        f"instruction set: {core.isa()}, vectors of {8 * core.vector_bytes()} bits "
        f"(built: {found}; FASTNN_ISA overrides)\n"
        f"threads: {core.get_num_threads()} (FASTNN_NUM_THREADS overrides), "
        f"work shared among them: {core.sharing()} (FASTNN_SHARE overrides)"
    )
