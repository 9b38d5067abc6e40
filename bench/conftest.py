"""The limits of a benchmark, before it imports any library, unless told otherwise."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from limits import HANDICAPS, thread_limits

for name in HANDICAPS:
    os.environ.pop(name, None)
for name, value in thread_limits(1).items():
    os.environ.setdefault(name, value)


def pytest_terminal_summary(terminalreporter):
    """Say what was measured."""
    from libraries import describe_libraries

    terminalreporter.section("libraries")
    for line in describe_libraries():
        terminalreporter.line(line)
