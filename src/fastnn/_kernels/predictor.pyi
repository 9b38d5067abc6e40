from typing import Any

import numpy as np

from fastnn._kernels.program import Program

_Array = np.ndarray[Any, Any]

ADDRESS: int

def packed_elements(ins: int, outs: int, itemsize: int) -> int: ...

class Frozen:
    dtype: np.dtype[Any]
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    def __init__(
        self,
        program: Program,
        x_shape: tuple[int, ...],
        y_shape: tuple[int, ...],
        rows: int = 0,
        states: dict[str, _Array] | None = None,
    ) -> None: ...
    @property
    def context(self) -> int: ...
    def capsule(self) -> Any: ...
    def __call__(self, x: _Array, y: _Array) -> None: ...

class Caller:
    last: Frozen | None
    single: bool
    def __call__(self, x: Any, *, out: Any = None) -> _Array: ...
