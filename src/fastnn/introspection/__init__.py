"""What a schedule says, for people: summaries and pictures of a model."""

from fastnn.introspection.summary import summary
from fastnn.introspection.text import graph

__all__ = ["graph", "summary"]


def __dir__() -> list[str]:
    return __all__
