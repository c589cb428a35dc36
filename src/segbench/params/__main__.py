"""The check that `make repro` makes before anything runs."""

import sys
from pathlib import Path

from segbench.errors import InputError
from segbench.params import load_params

try:
    load_params(Path(sys.argv[1]))
except InputError as mistake:
    sys.exit(f"error: {mistake}")
