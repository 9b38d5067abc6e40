from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._kernels.program import Program

def lstm_step(
    x: object, h: object, c: object, weight_ih: object, weight_hh: object, bias: object
) -> tuple[NDArray[Any], NDArray[Any]] | None: ...
def lstm_forward(
    program: Program,
    slots: dict[str, list[str]],
    shape: tuple[int, int, int],
    x: NDArray[Any],
    initial: NDArray[Any] | None,
    lengths: NDArray[np.int64] | None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def lstm_backward(
    program: Program,
    slots: dict[str, list[str]],
    shape: tuple[int, int, int],
    x: NDArray[Any],
    dy: NDArray[Any],
    dfinal: NDArray[Any] | None,
    lengths: NDArray[np.int64] | None,
    accumulate: bool,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
