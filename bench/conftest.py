"""The limits of a benchmark, before it imports any library, unless told otherwise."""

import os

from bench.environment import HANDICAPS, thread_limits

for name in HANDICAPS:
    os.environ.pop(name, None)
for name, value in thread_limits(1).items():
    os.environ.setdefault(name, value)


def pytest_terminal_summary(terminalreporter):
    """Say what was measured."""
    from bench.libraries import describe_libraries

    terminalreporter.section("libraries")
    for name, use in describe_libraries().items():
        terminalreporter.line(f"{name} {use}")
