"""``python -m fastnn``: version, instruction set, threads."""

from fastnn.config import show_config

show_config()
