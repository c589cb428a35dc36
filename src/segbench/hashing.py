"""Hashes of what a number came from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segbench.samples import Pixels


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_masks(masks: Mapping[str, Pixels]) -> str:
    """Hex sha256 of the pixels of named masks; how they are stored does not matter."""
    found = hashlib.sha256()
    for name in sorted(masks):
        found.update(np.ascontiguousarray(masks[name]).tobytes())
    return found.hexdigest()
