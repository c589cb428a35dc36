"""What the lock brings: licences that a user of segbench can live with, and no malicious release.

`python tests/test_licences.py` prints the licence of every package that is locked for this machine.
"""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

from packaging.requirements import Requirement

from support.lock import locked

COPYLEFT = re.compile(r"GPL|General Public License|Affero", re.IGNORECASE)

ACCEPTED = {
    "asyncssh": (
        "EPL-2.0 OR GPL-2.0-or-later",
        "DVC's git over SSH: a choice; the EPL asks nothing of a program that imports it",
    ),
    "dulwich": ("Apache-2.0 OR GPL-2.0-or-later", "DVC's git: a choice, taken under Apache-2.0"),
    "grandalf": ("GPLv2 | EPLv1", "`dvc dag`: a choice; the EPL as for asyncssh"),
    "matplotlib": ("FTL OR GPL-2.0-or-later", "FreeType inside it: a choice, taken under the FTL"),
    "psycopg2-binary": (
        "LGPL with exceptions",
        "for a team's server alone, an extra, imported as it is: MLflow's way to PostgreSQL",
    ),
    "pygit2": (
        "GPLv2 with linking exception",
        "DVC's git, and libgit2 inside it: what only links to them may have any licence",
    ),
    "scipy": (
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "GCC's runtime inside it: what GCC compiled may have any licence",
    ),
}
"""Packages that name a GPL, an AGPL or an LGPL: in which words, and why that is accepted."""

UNSTATED = {
    "cuda-toolkit": "no code: it only depends on NVIDIA's libraries, which state theirs",
    "huey": "MIT, says the licence file",
    "skops": "MIT, says the licence file",
}
"""Packages whose metadata name no licence."""

MALICIOUS = {
    "lightning": {"2.6.2", "2.6.3"},  # GHSA-w37p-236h-pfx3
    "lightning-fabric": {"2.6.2", "2.6.3"},  # of the same release
    "ultralytics": {"8.3.41", "8.3.42", "8.3.45", "8.3.46"},
}
"""Releases that ran an attacker's code; lightning's are why this list is here."""


def stated(package: str) -> list[str]:
    """What a package's metadata say of its licence: in each field a name, or a whole text."""
    about = metadata(package)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier", [])
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    fields = (about.get("License-Expression"), about.get("License"), *classifiers)
    return [field.strip() for field in fields if field and field.strip()]


def licences() -> dict[str, list[str]]:
    """Of every package locked for this machine; on Linux that is every one for macOS too."""
    return {
        requirement.name: stated(requirement.name)
        for requirement in locked()
        if requirement.marker is None or requirement.marker.evaluate()
    }


def test_no_copyleft_but_what_is_accepted() -> None:
    texts = {name: "\n".join(fields) for name, fields in licences().items()}
    found = {name: text for name, text in texts.items() if COPYLEFT.search(text)}
    new = {
        name: text[:200]
        for name, text in found.items()
        if name not in ACCEPTED or ACCEPTED[name][0] not in text
    }
    assert not new, "do without these, or say in ACCEPTED why they may be here"
    assert found.keys() == ACCEPTED.keys(), "ACCEPTED holds more than is needed"


def test_every_licence_is_known() -> None:
    assert {name for name, fields in licences().items() if not fields} == UNSTATED.keys()


def test_no_malicious_release_is_locked_or_allowed() -> None:
    for requirement in locked():
        for version in MALICIOUS.get(requirement.name, ()):
            assert not requirement.specifier.contains(version), requirement
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        for version in MALICIOUS.get(requirement.name, ()):
            assert not requirement.specifier.contains(version), requirement


if __name__ == "__main__":
    for package, fields in licences().items():
        named = [field for field in fields if "\n" not in field] or [
            UNSTATED.get(package, "a text")
        ]
        print(f"{package:40}{named[0]}")
