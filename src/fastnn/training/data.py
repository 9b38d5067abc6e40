"""Data sets and batches at the door: samples, targets, weights and lengths that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn._door.arrays import as_any, as_integers, describe, without_padding
from fastnn._kernels.training_program import TrainingProgram
from fastnn._typing import Array

__all__ = [
    "Data", "against_infinity", "count_samples", "counted_steps", "expect_lengths", "sequences",
    "several", "split", "validation_arguments",
]


class Data(NamedTuple):
    """A data set, converted and checked.

    Attributes
    ----------
    x : ndarray, shape (samples, ...)
    y : ndarray, shape (samples, ...), or a tuple or dict of such
        Several are for losses in Python alone.
    sample_weight, element_weight : ndarray or None
    lengths : ndarray of int64, shape (samples,), or None
        How many steps of each sequence count.
    mask : ndarray of bool, shape (samples, time), or None
        Which steps of the predictions count, if they are sequences.
    row_weight : ndarray or None
        All weights as the kernel of the loss reads them.
    loss : Loss or callable
        For which it has been checked.
    program : TrainingProgram or None
        That runs it, if the loss is not in Python.
    """

    x: Array
    y: Any
    sample_weight: Array | None = None
    element_weight: Array | None = None
    lengths: Array | None = None
    mask: Array | None = None
    row_weight: Array | None = None
    loss: Any = None
    program: TrainingProgram | None = None

    def batch(self, rows: Any) -> tuple[Any, ...]:
        """Return what a step takes for some of the samples."""
        return tuple(cut(values, rows) for values in self[:5])


def cut(values: Any, rows: Any) -> Any:
    """Return some rows of an array, of each of several, or of none."""
    if values is None:
        return None
    if isinstance(values, tuple):
        return tuple(part[rows] for part in values)
    if isinstance(values, Mapping):
        return {name: part[rows] for name, part in values.items()}
    return values[rows]


def count_samples(x: Array, **others: Any) -> None:
    """Raise ValueError unless all have as many samples as x; those without a length pass."""
    for name, values in others.items():
        try:
            count = len(values)
        except TypeError:
            continue
        if count != len(x):
            raise ValueError(
                f"x and {name}: expected as many samples, got {len(x)} and {count}"
            )


def several(y: Any, samples: int) -> Any:
    """Return the target of a loss in Python: an array, or a tuple or dict of arrays.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If one has not as many rows as there are samples.
    """
    if isinstance(y, Mapping):
        return {name: _rows(part, f"y[{name!r}]", samples) for name, part in y.items()}
    if isinstance(y, tuple) and y and all(np.ndim(part) for part in y):
        return tuple(_rows(part, f"y[{i}]", samples) for i, part in enumerate(y))
    return _rows(y, "y", samples)


def _rows(part: Any, name: str, samples: int) -> Array:
    array = as_any(part, name)
    if array.ndim == 0 or len(array) != samples:
        raise ValueError(f"{name}: expected {samples} samples, as x has, got shape {array.shape}")
    return array


# Sequences of different lengths ----------------------------------------------------------------


def sequences(x: Any, lengths: Any) -> tuple[Any, Array | None, Array | None]:
    """Return x with zeros for padding, lengths as int64, and for each step whether it counts.

    Raises
    ------
    TypeError
        If `lengths` are not integers.
    ValueError
        If there is not one from 0 to time for each sequence.
    """
    if lengths is None:
        return x, None, None
    shape = as_any(x, "x").shape
    lengths = as_integers(lengths, "lengths")
    if len(shape) < 2 or lengths.shape != shape[:1]:
        raise ValueError(
            f"lengths: expected one for each sequence of x, which has shape {shape}, "
            f"got shape {lengths.shape}"
        )
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= shape[1]):
        raise ValueError(
            f"lengths: expected from 0 to {shape[1]} steps, got {lengths.min()} to {lengths.max()}"
        )
    mask = np.arange(shape[1]) < lengths[:, None]
    return without_padding(x, mask, "x"), lengths.copy(), mask


def expect_lengths(program: Any) -> None:
    """Raise ValueError unless the model takes lengths."""
    if not program.has_slot("lengths"):
        raise ValueError("lengths: expected None for a model without recurrent layers")


def counted_steps(program: Any, mask: Array | None) -> Array | None:
    """Return which steps of the predictions count; None if these are no sequences.

    Raises
    ------
    ValueError
        If the model takes no lengths.
    """
    if mask is None:
        return None
    expect_lengths(program)
    pred = program.schedule.y.shape
    return mask if len(pred) > 1 and pred[0] == mask.shape[1] else None


# Parts -----------------------------------------------------------------------------------------


def split(given: Mapping[str, Any], share: float, samples: int) -> Iterator[dict[str, Any]]:
    """Yield the arguments of a training, and those of a validation with the last samples.

    Raises
    ------
    ValueError
        If there are no samples left for one of them.
    """
    first = samples - int(samples * share)
    if not 0 < first < samples:
        raise ValueError(
            f"validation_split: expected a share that leaves samples for both parts, got {share} "
            f"of {samples}"
        )
    for rows in (slice(first), slice(first, None)):
        yield {name: cut(values, rows) for name, values in given.items()}


def validation_arguments(given: Any) -> dict[str, Any]:
    """Return the arguments of `evaluate` that `validation_data` stands for.

    Raises
    ------
    TypeError
        If it is neither a tuple nor a dict of those.
    """
    names = ("x", "y", "sample_weight", "element_weight", "lengths")
    if isinstance(given, Mapping) and {"x", "y"} <= given.keys() <= set(names):
        return dict(given)
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        return dict(zip(names, given, strict=False))
    raise TypeError(
        "validation_data: expected (x, y), (x, y, sample_weight) or a dict of some of "
        f"{', '.join(names)}, got {describe(given)}"
    )


# Losses that are not finite --------------------------------------------------------------------


def against_infinity(x: Any, y: Any, sample_weight: Any) -> str:
    """Say what usually helps against a loss that is not finite."""
    for name, array in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        real = isinstance(array, np.ndarray) and array.dtype.kind == "f"
        if real and not np.isfinite(array).all():
            return f"{name} holds numbers that are not finite"
    return "a smaller lr, clip_norm or x scaled to small numbers usually helps"
