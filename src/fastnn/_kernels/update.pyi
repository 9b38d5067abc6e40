from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

def corrected(value: float, beta: float) -> tuple[Any, ...]: ...
def slowed(value: float, decay: float) -> tuple[Any, ...]: ...
def started(first: float, value: float) -> tuple[Any, ...]: ...
def scalars_at(scalars: tuple[Any, ...], t: float) -> tuple[float, ...]: ...

class UpdateTable:
    names: list[str]
    def __new__(
        cls,
        sources: list[Any],
        arrays: list[NDArray[Any]],
        names: list[str],
        rules: list[tuple[str, str | None, np.dtype[Any]]],
        rule_of: list[int],
        states: list[tuple[NDArray[Any] | None, ...]],
        state_memory: list[NDArray[Any]],
        block: int,
        merge: bool,
    ) -> Self: ...
    def set_scalars(self, scalars: list[tuple[Any, ...]]) -> None: ...
    def prepare(
        self,
        grads: Sequence[Any] | None,
        scalars: list[list[tuple[Any, ...]]] | None,
        t: int,
        steps: int,
        clip_norm: float,
        check_finite: bool,
    ) -> None: ...
    def run(self) -> None: ...
    def raise_not_finite(self) -> None: ...
    def release(self) -> None: ...
    def current(self) -> list[NDArray[Any]]: ...
    @property
    def grad_norm(self) -> float: ...
