"""What this installation is and what it uses here."""

from __future__ import annotations

import platform

import numpy as np

import fastnn
from fastnn._kernels import _core


def show_config():
    """Print version, instruction set and threads.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.show_config()  # doctest: +ELLIPSIS
    fastnn ...
    """
    found = ", ".join(
        name if runs else f"{name} (not on this processor)"
        for name, runs in _core.variants().items()
    )
    print(
        f"fastnn {fastnn.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.system()} {platform.machine()}\n"
        f"instruction set: {_core.isa()}, vectors of {8 * _core.vector_bytes()} bits "
        f"(built: {found}; FASTNN_ISA overrides)\n"
        f"threads: {_core.get_num_threads()}"
        f"{'' if _core.openmp() else ' (built without OpenMP)'} (FASTNN_NUM_THREADS overrides)"
    )
