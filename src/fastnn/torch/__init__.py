"""To and from PyTorch: its modules as models and back, and the optimizers in the shape of its own.

PyTorch is imported when one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.torch.convert import from_torch, to_torch

if TYPE_CHECKING:
    from fastnn.torch.optimizer import Optimizer

__all__ = ["Optimizer", "from_torch", "to_torch"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name == "Optimizer":  # a subclass of one of PyTorch's
        from fastnn.torch.optimizer import Optimizer

        return Optimizer
    raise AttributeError(f"module 'fastnn.torch' has no attribute {name!r}")
