"""Losses on arrays: the value and the gradient of the predictions in one call.

Every function returns ``(loss, gradient)``: a float, and an array with the shape and the dtype of
its first argument. By default the loss is a mean, with ``reduction="sum"`` a sum, with
``reduction="batch"`` the sum over the batch size: summed over outputs, a mean over the batch. A
`sample_weight` w, one number for each index of the first axis, makes it Σ w ℓ / Σ w, Σ w ℓ, or
Σ w ℓ over the batch size; so does an `element_weight`, one number for each one that is compared
with. A mean over nothing (an empty batch, only ignored labels, weights of sum 0 or so small that
it has no inverse) is NaN, as in PyTorch; its gradient is 0. Weights of a mean are not negative.

Called with options only, a function returns the loss with these options for a
:class:`fastnn.Trainer`, which runs its kernel without coming back to Python:
``Trainer(model, losses.huber(delta=2.0), optimizer)``. A name or the function itself stands for
its defaults.

Predictions are float32 or float64, and what they are compared with is converted to that; nothing is
broadcast. All functions raise

- TypeError if an argument is no array of real numbers, or masked, if labels are not integers, or
  if an option is of the wrong kind;
- ValueError if a shape does not fit, a label or an option is out of range, or a weight of a mean
  is negative.
"""

from typing import TYPE_CHECKING

from fastnn.losses.functions import *  # noqa: F403
from fastnn.losses.functions import __all__ as _functions
from fastnn.losses.penalty import l2_penalty

__all__ = [*_functions, "l2_penalty"]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # type checkers would believe in any name

    def __getattr__(name):
        from fastnn._hints import missing

        raise missing(__name__, name)
