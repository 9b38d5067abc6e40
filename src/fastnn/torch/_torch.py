"""PyTorch, or an error that says how to get it."""

try:
    import torch
except ImportError:
    raise ImportError(
        "fastnn.torch needs PyTorch, which is not installed: pip install torch"
    ) from None

__all__ = ["torch"]
