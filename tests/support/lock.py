"""requirements.lock, read."""

from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).parents[2] / "requirements.lock"


def entries() -> dict[str, str]:
    """The lines of each package, hashes included; two versions for two Pythons are one entry."""
    found: dict[str, str] = {}
    for line in LOCK.read_text().splitlines(keepends=True):
        if not line.startswith(" "):
            name = line.partition("==")[0]
        found[name] = found.get(name, "") + line
    return found


def locked() -> list[Requirement]:
    """Every version that is locked, with the marker that says where."""
    lines = LOCK.read_text().splitlines()
    return [Requirement(line.removesuffix("\\")) for line in lines if not line.startswith(" ")]
