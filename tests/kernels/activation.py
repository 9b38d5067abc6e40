"""Activations, softmaxes and the exponential."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import reference

from .table import EDGES, FINITE_EDGES, NON_FINITE, Case, Draw, Row, finite_magnitude, wide


@dataclass(frozen=True)
class Activation:
    """A pair of kernels and of twins, and the function of :mod:`fastnn.ops` that leads to them.

    Attributes
    ----------
    kernel : str
        ``<kernel>_forward`` and ``<kernel>_backward`` in C and in :mod:`fastnn.reference`.
    tolerance : float or pair of float
        As in :class:`Row`.
    options : dict
        Keyword arguments of the function; those that are numbers are the twins' and the kernels'
        too.
    function : str
        Where it is not `kernel`.
    saves_input : bool
        Whether backward takes what forward took, and not what it gave.
    by_row : bool
        Whether an element depends on others of its row.
    special : tuple of float
    """

    kernel: str
    tolerance: float | tuple[float, float] = 4
    options: dict[str, Any] = field(default_factory=dict)
    function: str = ""
    saves_input: bool = False
    by_row: bool = False
    special: tuple[float, ...] = EDGES

    def __str__(self) -> str:
        return "-".join([self.kernel, *map(str, self.options.values())])

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function or self.kernel

    @property
    def scalars(self) -> tuple[float, ...]:
        """The options that are numbers."""
        return tuple(value for value in self.options.values() if not isinstance(value, str))

    @property
    def kernel_scalars(self) -> tuple[float, ...]:
        """What every kernel of the family takes, whether it needs it or not."""
        return self.scalars or (0.0,)

    def twin(self, direction: str = "forward") -> Callable[..., np.ndarray]:
        """The function in NumPy, with the options."""
        function = getattr(reference, f"{self.kernel}_{direction}")
        return lambda *arrays: function(*arrays, *self.scalars)

    def forward(self, draw: Draw, size: int) -> Case:
        x = draw.normal(3, size, scale=3)
        scale = 1 if self.kernel == "log_softmax" else 0
        y = self.twin()(*wide(x))
        return Case((x,), (y,), (size,), self.kernel_scalars, 3, scale=(scale,))

    def backward(self, draw: Draw, size: int) -> Case:
        dy, saved = draw.normal(3, size), draw.normal(3, size, scale=3)
        if not self.saves_input:
            saved = self.twin()(*wide(saved)).astype(draw.dtype)
        dx = self.twin("backward")(*wide(dy, saved))
        # slopes cancel near their zeros, and the softmaxes subtract what the row has in common
        scale = finite_magnitude(dy)
        if self.by_row:
            scale = scale.max(axis=1, keepdims=True, initial=0)
        return Case((dy, saved), (dx,), (size,), self.kernel_scalars, 3, scale=(scale,))

    def forward_row(self) -> Row:
        """The row of its forward kernel."""
        return Row(f"{self.kernel}_forward", self.forward, self.tolerance, self.special)

    def backward_row(self) -> Row:
        """The row of its backward kernel."""
        return Row(f"{self.kernel}_backward", self.backward, self.tolerance, self.special)


EXP = Activation("exp")  # has no gradient of its own
ACTIVATIONS = [
    Activation("relu", 0),
    Activation("leaky_relu", 1, {"negative_slope": 0.3}),
    Activation("elu", options={"alpha": 1.25}),
    # its limit is no float, so that dy = ∞ is multiplied by 0 here and by a rounding error there
    Activation("selu", special=FINITE_EDGES),
    Activation("sigmoid"),
    Activation("tanh"),
    # the twins are ∞ · 0 at -∞ and, far out, no better than the rounding of x² / 2 in double
    Activation("gelu", (4, 400), saves_input=True, special=FINITE_EDGES),
    Activation("gelu_tanh", (4, 400), {"approximate": "tanh"}, "gelu", saves_input=True,
               special=FINITE_EDGES),
    Activation("silu", 8, saves_input=True, special=FINITE_EDGES),
    Activation("mish", 8, saves_input=True, special=FINITE_EDGES),
    Activation("softplus", options={"beta": 0.75}),
    Activation("softmax", 12, by_row=True, special=NON_FINITE),
    Activation("log_softmax", 8, by_row=True, special=NON_FINITE),
]  # fmt: skip
ROWS = [
    EXP.forward_row(),
    *(activation.forward_row() for activation in ACTIVATIONS),
    *(activation.backward_row() for activation in ACTIVATIONS),
]
