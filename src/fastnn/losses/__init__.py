"""Losses on arrays: the value and the gradient of the predictions in one call.

Every function returns ``(loss, gradient)``: a float, and an array with the shape and the dtype of
its first argument. By default the loss is a mean, with ``reduction="sum"`` a sum; a `sample_weight`
w, one number for each index of the first axis, makes it Σ w ℓ / Σ w or Σ w ℓ. A mean over nothing
(an empty batch, weights of sum 0, only ignored labels) is NaN, as in PyTorch; its gradient is 0.

:class:`fastnn.Trainer` takes the name of a loss, one of these functions, or a
:func:`functools.partial` of one with its options, such as ``partial(huber, delta=2.0)``, and runs
its kernel without coming back to Python.

Predictions are float32 or float64, and what they are compared with is converted to that; nothing is
broadcast. All functions raise

- TypeError if an argument is no array of real numbers, or masked, if labels are not integers, or
  if an option is of the wrong kind;
- ValueError if a shape does not fit, or a label or an option is out of range.
"""

from fastnn.losses.functions import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber,
    l1,
    l2_penalty,
    mse,
    resolve,
)

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "huber", "l1", "l2_penalty", "mse",
    "resolve",
]


def __dir__() -> list[str]:
    return __all__
