"""Models as programs of other languages."""

from fastnn.export.c import export_c

__all__ = ["export_c"]


def __dir__() -> list[str]:
    return __all__
