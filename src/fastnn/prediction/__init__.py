"""A trained model that answers: row by row, step by step, from Python and from C."""

from fastnn.prediction.predictor import Predictor
from fastnn.prediction.stream import Stream

__all__ = ["Predictor", "Stream"]
