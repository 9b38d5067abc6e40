"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn._door.arrays import as_integers, expect_shape, without_padding
from fastnn._door.numbers import boolean, fraction, positive
from fastnn._kernels.door import as_input, empty
from fastnn._kernels.lstm import panel_elements
from fastnn._planning.builder import ITEMS, Builder, RowCount, Value
from fastnn._typing import Array, Rng, Shape
from fastnn.layers.attribute import fixed, option
from fastnn.layers.base import TYPICAL_LENGTH, Arrays, Layer
from fastnn.layers.parameter import Parameter

__all__ = ["LSTM"]

_DEFAULTS = {"num_layers": 1, "bidirectional": False, "dropout": 0.0, "return_sequences": True}


def _uniform(
    bound: float, shape: Shape, rng: np.random.Generator, dtype: np.dtype[Any]
) -> Array:
    return rng.uniform(-bound, bound, shape).astype(dtype)


class LastRun:
    """What the last run of a recurrent layer has left, both (cells, batch, 2, hidden) or None.

    Attributes
    ----------
    final, initial_grad : ndarray or None
        h and c after the last step, and the gradient with respect to those before the first.
    """

    __slots__ = ("final", "initial_grad")

    def __init__(self) -> None:
        self.final: Array | None = None
        self.initial_grad: Array | None = None


class LSTM(Layer):
    r"""Long short-term memory over a sequence, in one or several layers.

    .. math::
        i, f, o &= \sigma(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}), \quad
        g = \tanh(\ldots) \\
        c_t &= f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t)

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int
        Each layer but the first reads the output of the one before.
    bidirectional : bool
        Whether a second set of weights reads the sequence backwards; its output is joined to the
        first one's.
    dropout : float
        Probability with which outputs of a layer are dropped, in training, before the next one.
    return_sequences : bool
        Whether the output is that of every step, or that after the last step of each sequence
        (with `bidirectional` of both directions, which for the second one is the first element).
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (4 hidden_size, input_size)
        Then ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, those of the other direction
        (``weight_ih_l0_reverse``, ...) and of the next layers (``weight_ih_l1``, ...), as in
        PyTorch; gates in the order i, f, g, o.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, `dropout` no number in [0, 1], or a switch neither True
        nor False.

    Notes
    -----
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8), with the forget gate of Gers et al.
    2000. Backward through time, with bars for gradients, τ = tanh(c) and a for what the gates'
    functions take,

    .. math::
        \bar c_t &\mathrel{+}= \bar h_t \odot o \odot (1 - \tau^2), \qquad
        \bar c_{t-1} = f \odot \bar c_t \\
        \bar a_i &= \bar c_t \odot g \odot i (1 - i), \qquad
        \bar a_f = \bar c_t \odot c_{t-1} \odot f (1 - f) \\
        \bar a_g &= \bar c_t \odot i \odot (1 - g^2), \qquad
        \bar a_o = \bar h_t \odot \tau \odot o (1 - o) \\
        \bar x_t &= W_{ih}^\top \bar a, \qquad \bar h_{t-1} \mathrel{+}= W_{hh}^\top \bar a \\
        \bar W_{ih} &= \sum_t \bar a x_t^\top, \qquad
        \bar W_{hh} = \sum_t \bar a h_{t-1}^\top, \qquad \bar b = \sum_t \bar a

    Inside a container sequences have full length, and the state starts at zero unless a
    trainer with ``stateful=True`` carries it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> lstm = fastnn.LSTM(3, 5, rng=0)
    >>> lstm(np.ones((2, 7, 3), np.float32)).shape
    (2, 7, 5)
    >>> h, c = lstm.final_state
    >>> h.shape
    (1, 2, 5)
    """

    input_size, hidden_size, num_layers = fixed[int](), fixed[int](), fixed[int]()
    bidirectional = fixed[bool]()
    dropout, return_sequences = option(fraction), option(boolean)
    _derived = Layer._derived | {
        "final_state": "h0 and c0 of forward are the state to start from",
        "initial_state_grad": "dh_n and dc_n of backward are the gradients to start from",
    }
    # of the first cell; the others are set by name
    weight_ih_l0: Parameter
    weight_hh_l0: Parameter
    bias_ih_l0: Parameter
    bias_hh_l0: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_sequences: bool = True,
        *,
        dtype: DTypeLike | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.input_size = positive("input_size", input_size)
        self.hidden_size = positive("hidden_size", hidden_size)
        self.num_layers = positive("num_layers", num_layers)
        self.bidirectional, self.dropout = boolean("bidirectional", bidirectional), dropout
        self.return_sequences = return_sequences
        self._last = LastRun()
        self._directions = 2 if self.bidirectional else 1
        init = partial(_uniform, 1 / sqrt(self.hidden_size))
        gates = 4 * self.hidden_size
        self._suffixes = [suffix for suffix, _, _ in self._cells()]
        for suffix, features, _ in self._cells():
            shapes = {"weight_ih": (gates, features), "weight_hh": (gates, self.hidden_size),
                      "bias_ih": (gates,), "bias_hh": (gates,)}
            for kind, shape in shapes.items():
                name = f"{kind}_{suffix}"
                setattr(self, name, self.parameter(name, shape, init))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the states that the last passes have left."""
        return super().__getstate__() | {"_last": LastRun()}

    def _cells(self) -> Iterator[tuple[str, int, int]]:
        """Yield for each set of weights its suffix, input features and direction."""
        features = self.input_size
        for layer in range(self.num_layers):
            for direction in range(self._directions):
                yield f"l{layer}" + "_reverse" * direction, features, direction
            features = self._directions * self.hidden_size

    def uses_random_numbers(self) -> bool:
        """Return whether there is dropout between layers."""
        return self.dropout > 0 and self.num_layers > 1

    def keeps_shape(self) -> bool:
        """Return False."""
        return False

    def _typical_shape(self) -> Shape:
        """Return the shape of a sequence of some length."""
        return (TYPICAL_LENGTH, self.input_size)

    # The program -----------------------------------------------------------------------------

    def plan(self, builder: Builder, x: Value) -> Value:
        """For each layer and direction one product over all steps, then the recurrence."""
        if len(x.shape) != 2 or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x: expected (batch, time, {self.input_size}), got shape {('batch', *x.shape)}"
            )
        steps, width = x.shape[0], self._directions * self.hidden_size
        lengths = builder.value((), "lengths", "int64", slot="lengths")
        shape = (2, self.hidden_size)
        parts = [*builder.carry(self, self._suffixes, shape),
                 *(builder.states(name, self._suffixes, shape) for name in ("dinitial", "dfinal"))]
        states = dict(zip(self._suffixes, zip(*parts, strict=True), strict=True))
        for layer in range(self.num_layers):
            if layer and self.dropout and builder.training:
                x = self._plan_dropout(builder, x)
            last = layer == self.num_layers - 1 and not self.return_sequences
            y = builder.value((width,) if last else (steps, width))
            for direction in range(self._directions):
                suffix = f"l{layer}" + "_reverse" * direction
                self._plan_cell(builder, suffix, x, y, lengths, states[suffix], direction, last)
            x = y
        return y

    def _plan_dropout(self, builder: Builder, x: Value) -> Value:
        y, mask = builder.value(x.shape), builder.value(x.shape, dtype="uint8")
        state = builder.random_state(self.random_state)
        details: dict[str, Any] = {
            "sizes": (x.shape[-1],), "scalars": (self.dropout,), "items": x.shape[0],
        }
        builder.forward("dropout_forward", [y, mask, x, state], **details)
        builder.backward("dropout_backward", [x.grad, y.grad, mask], **details)
        return y

    def _plan_cell(
        self,
        builder: Builder,
        suffix: str,
        x: Value,
        y: Value,
        lengths: Value,
        states: tuple[Value, ...],
        direction: int,
        last: bool,
    ) -> None:
        """One direction of one layer: its columns of y from x."""
        (steps, features), hidden = x.shape, self.hidden_size
        gates, dtype = 4 * hidden, builder.dtype
        parameters = [getattr(self, f"{kind}_{suffix}")
                      for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        weight_ih, weight_hh, bias_ih, bias_hh = parameters
        initial, final, dinitial, dfinal = states
        if steps == 1 and not (builder.training or builder.frozen):
            # nothing that packing the weights would pay for
            builder.forward(
                "lstm_single",
                [y, final, builder.value((5, hidden)), x, initial, lengths,
                 *(p.array for p in parameters)],
                sizes=(features, hidden, y.shape[-1], direction * hidden, last),
            )  # fmt: skip
            return
        size = panel_elements(hidden, dtype.itemsize)
        packed = builder.room(f"packed_{suffix}", size)
        transposed = builder.room(f"transposed_{suffix}", size) if builder.training else None
        bias = builder.room(f"bias_{suffix}", gates)
        builder.forward("lstm_pack", [packed, transposed, bias, *(p.array for p in parameters[1:])],
                        sizes=(hidden,), items=hidden, split=ITEMS)

        products = builder.value((steps, gates))
        acts = builder.value((steps, gates), f"gates_{suffix}")
        cells = builder.value((steps, 2, hidden), f"cells_{suffix}")
        previous = builder.value((steps, hidden), f"previous_{suffix}")
        dgates = builder.value((steps, gates), f"dgates_{suffix}")
        shape = (features, gates)
        sizes = (hidden, steps, y.shape[-1], direction * hidden, direction, last)
        builder.forward("linear_forward", [products, x, weight_ih.array, bias], sizes=shape,
                        items=steps)
        builder.forward(
            "lstm_forward",
            [acts, cells, previous, final, y, products, initial, lengths, packed],
            sizes=sizes,
        )
        # the backward pass runs in reverse: the recurrence comes first
        builder.backward("linear_backward_input", [x.grad, dgates, weight_ih.array], sizes=shape,
                         items=steps)
        builder.backward(
            "lstm_backward",
            [dgates, dinitial, acts, cells, y.grad, dfinal, lengths, transposed],
            sizes=sizes,
        )
        for weight, bias, source in ((weight_ih, bias_ih, x), (weight_hh, bias_hh, previous)):
            builder.gradient("linear_backward_weight",
                             [weight.grad_array, bias.grad_array, dgates, source],
                             items=gates, sizes=(source.shape[-1], gates, RowCount(steps)))

    def _states(
        self, names: Sequence[str], arrays: Sequence[Any], batch: int, dtype: np.dtype[Any]
    ) -> Array:
        """Interleave h and c as the kernels take them, (cells, batch, 2, hidden)."""
        shape = (len(self._suffixes), batch, self.hidden_size)
        both = np.zeros((*shape[:2], 2, shape[2]), dtype)
        for place, (name, array) in enumerate(zip(names, arrays, strict=True)):
            if array is not None:
                array = as_input(array, name, dtype)
                expect_shape(name, array, shape)
                both[:, :, place] = array
        return both

    # Running ---------------------------------------------------------------------------------

    def forward(  # type: ignore[override]  # the state comes before the switch, as in PyTorch
        self,
        x: ArrayLike,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        training: bool = False,
    ) -> Array:
        """Run over whole sequences.

        Parameters
        ----------
        x : array_like, shape (batch, time, input_size)
        h0, c0 : array_like, shape (num_layers * directions, batch, hidden_size), optional
            Initial state; zero if None.
        lengths : array_like of int, shape (batch,), optional
            How many steps of each sequence count, from 0 to time; what lies past them counts for
            nothing. All steps if None.
        training : bool
            Whether a backward pass follows.

        Returns
        -------
        ndarray, shape (batch, time, directions * hidden_size)
            Zero past a sequence's length. Without `return_sequences` (batch, directions *
            hidden_size).

        Raises
        ------
        ValueError
            If a shape does not fit or a length is out of range.
        TypeError
            If an argument is not numeric or `lengths` are not integers.
        """
        dtype = self._built().dtype
        x = as_input(x, "x", dtype)
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x: expected (batch, time, {self.input_size}), got shape {x.shape}")
        arrays: Arrays = {}
        if h0 is not None or c0 is not None:
            arrays["initial"] = self._states(("h0", "c0"), (h0, c0), x.shape[0], dtype)
        if lengths is not None:
            arrays["lengths"] = lengths = _lengths(lengths, x.shape[0], x.shape[1])
            # gradients of the weights are products over all steps, in which 0 times NaN is NaN
            x = without_padding(x, np.arange(x.shape[1]) < lengths[:, None], "x")
        return self._run(x, training, arrays)

    __call__ = forward  # type: ignore[assignment]  # its arguments are those of forward

    def backward(  # type: ignore[override]  # the same
        self,
        dy: ArrayLike,
        dh_n: ArrayLike | None = None,
        dc_n: ArrayLike | None = None,
        accumulate: bool = False,
    ) -> Array:
        """Back-propagate through all steps of the last training forward pass.

        Parameters
        ----------
        dy : array_like
            Gradient of the loss with respect to the output, of the output's shape.
        dh_n, dc_n : array_like, shape (num_layers * directions, batch, hidden_size), optional
            Gradient with respect to the final state; zero if None.
        accumulate : bool
            Add to the parameter gradients instead of overwriting them.

        Returns
        -------
        ndarray, shape (batch, time, input_size)
            Gradient with respect to x. That of the initial state is `initial_state_grad`.

        Raises
        ------
        RuntimeError
            If no training forward pass came before, or another thread made it.
        ValueError
            If a shape does not fit.
        """
        model = self._built()
        with model.lock:
            pending = model.awaited()
            gradient = empty((len(self._suffixes), pending.rows, 2, self.hidden_size), model.dtype)
            arrays = {"dinitial": gradient}
            if dh_n is not None or dc_n is not None:
                arrays["dfinal"] = self._states(
                    ("dh_n", "dc_n"), (dh_n, dc_n), pending.rows, model.dtype)
            dx = self._run_back(pending, dy, accumulate, arrays)
            self._last.initial_grad = gradient
        assert dx is not None  # for x is no integers
        return dx

    @property
    def final_state(self) -> tuple[Array, Array]:
        """``(h_n, c_n)`` after the last forward pass, (layers * directions, batch, hidden_size).

        Whoever ran it: the layer itself or a model that holds it; a trainer's steps leave none.
        """
        if self._last.final is None:
            raise RuntimeError("final_state: expected a forward call of this layer before it")
        return _apart(self._last.final)

    @property
    def initial_state_grad(self) -> tuple[Array, Array]:
        """``(dh0, dc0)`` of the last backward call, shaped like the initial state."""
        if self._last.initial_grad is None:
            raise RuntimeError(
                "initial_state_grad: expected a backward call of this layer before it"
            )
        return _apart(self._last.initial_grad)

    def __repr__(self) -> str:
        text = f"LSTM({self.input_size}, {self.hidden_size}"
        for name, default in _DEFAULTS.items():
            if (value := getattr(self, name)) != default:
                text += f", {name}={value}"
        return text + ")"


def _apart(states: Array) -> tuple[Array, Array]:
    """Return the h and the c of all cells, each (cells, batch, hidden)."""
    return states[:, :, 0].copy(), states[:, :, 1].copy()


def _lengths(given: Any, batch: int, steps: int) -> Array:
    lengths = as_integers(given, "lengths", steps + 1)
    expect_shape("lengths", lengths, (batch,))
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= steps):
        raise ValueError(
            f"lengths: expected from 0 to {steps} steps, got {lengths.min()} to {lengths.max()}"
        )
    return lengths.copy()  # a copy: the caller may write into it before the backward pass
