"""Models to ONNX and back: what runs a network where Python does not, and what others have trained.

It needs the package `onnx`, and nothing else.
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastnn.onnx needs onnx, which is not installed: pip install onnx, or "
        'pip install "fastnn-cpu[onnx]"'
    ) from error

from fastnn.onnx.export import export
from fastnn.onnx.load import load

__all__ = ["export", "load"]


def __dir__() -> list[str]:
    return __all__
