from typing import Any

import numpy as np

from fastnn._kernels.program import Memory, Program, Version
from fastnn._kernels.update import UpdateTable

class TrainingProgram(Program):
    total: float
    by_element: bool
    class_weight: np.ndarray[Any, Any] | None
    def __init__(
        self,
        schedule: Any,
        memory: Memory,
        version: Version,
        row_loss: Any,
        elements: int,
        classes: int = 0,
        class_weight: np.ndarray[Any, Any] | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
        squares: np.ndarray[Any, Any] | None = None,
        factor: np.ndarray[Any, Any] | None = None,
        l2: float = 0.0,
        by_element: bool = False,
    ) -> None: ...
    def set_l2(self, l2: float) -> None: ...
    def accepts(
        self, x: Any, target: Any, weight: Any, by_element: bool = False
    ) -> bool: ...
    def step(  # with arrays that it accepts
        self,
        x: Any,
        target: Any,
        weight: Any = None,
        update: UpdateTable | None = None,
        carried: dict[str, Any] | None = None,
    ) -> float: ...
    def begin(
        self, x: Any, target: Any, weight: Any = None, carried: dict[str, Any] | None = None
    ) -> float: ...
    def divide_by(self, total: float) -> None: ...
    def part(self, x: Any, first: int, last: int) -> None: ...
    def loss_sum(self, rows: int) -> float: ...
    def steps(
        self,
        x: np.ndarray[Any, Any],
        target: np.ndarray[Any, Any],
        weight: np.ndarray[Any, Any] | None,
        index: np.ndarray[Any, Any],
        batch_size: int,
        update: UpdateTable,
        carried: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]: ...
