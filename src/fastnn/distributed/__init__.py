"""Training on several processes by MPI: `Trainer(comm=)`, and many models at once.

Needs mpi4py and an MPI: pip install mpi4py.
"""

from fastnn.distributed.sweep import map_trainers

__all__ = ["map_trainers"]


def __dir__() -> list[str]:
    return __all__
