"""Bad calls of everything public: see `table`. ``python -m tests.door`` counts them."""

from collections.abc import Iterator

from . import around, layers, losses, models, ops, optim, training
from .table import Row

SUBJECTS = {
    "ops": ops, "losses": losses, "layers": layers, "optim": optim, "training": training,
    "models": models, "around": around,
}  # fmt: skip
GOOD = [call for subject in SUBJECTS.values() for call in subject.CALLS]
ROWS = [row for subject in SUBJECTS.values() for row in subject.ROWS]


def all_rows() -> Iterator[Row]:
    """Yield every bad call."""
    for call in GOOD:
        yield from call.rows()
    yield from ROWS
