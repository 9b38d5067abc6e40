from typing import Any

from numpy.typing import NDArray

def panel_elements(hidden: int, itemsize: int) -> int: ...
def lstm_step(
    x: object, h: object, c: object, weight_ih: object, weight_hh: object, bias: object
) -> tuple[NDArray[Any], NDArray[Any]] | None: ...
