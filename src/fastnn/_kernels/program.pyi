from collections.abc import Iterable
from typing import Any

import numpy as np

ROWS: str
ITEMS: str
SERIAL: str

class RowCount:
    per_sample: int
    def __init__(self, per_sample: int = 1) -> None: ...

class Scalar:
    name: str
    def __init__(self, name: str) -> None: ...

class Version:
    value: int
    def __init__(self) -> None: ...

class SeveralLocks:
    def __init__(self, locks: Iterable[Any]) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *exception: object) -> None: ...

class Memory:
    data: np.ndarray[Any, Any] | None
    def __init__(self) -> None: ...

class Failure: ...

class PythonCall:
    def __init__(
        self, operation: Any, memory: Memory, bound: dict[str, Any], failure: Failure
    ) -> None: ...

class Program:
    schedule: Any
    memory: Memory
    capacity: int
    nbytes: int
    marked: int
    threads: int
    def __init__(self, schedule: Any, memory: Memory, version: Version) -> None: ...
    def reserve(self, rows: int) -> None: ...
    def check_rows(self, rows: int) -> None: ...
    @property
    def current(self) -> bool: ...
    def has_slot(self, name: str) -> bool: ...
    def read(self, value: Any, out: np.ndarray[Any, Any]) -> None: ...
    def set_scalar(self, name: str, value: float) -> None: ...
    def forward(
        self,
        rows: int,
        x: np.ndarray[Any, Any],
        y: np.ndarray[Any, Any] | None,
        arrays: dict[str, Any] | None = None,
    ) -> None: ...
    def backward(
        self,
        rows: int,
        dy: np.ndarray[Any, Any],
        dx: np.ndarray[Any, Any] | None,
        arrays: dict[str, Any] | None = None,
        accumulate: bool = False,
    ) -> None: ...
