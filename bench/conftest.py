"""Hold every library to one thread, before a benchmark imports any, unless told otherwise."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from limits import environment

for name, value in environment(1).items():
    os.environ.setdefault(name, value)
