"""The command's work: params.yaml made to fit a dataset that was looked at."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.errors import InputError
from segbench.files import atomic_file
from segbench.onboarding.guess import Guess, guess_dataset
from segbench.onboarding.params_text import read_tree, rename_key, replace_section, set_values
from segbench.onboarding.section import in_flow, write_section
from segbench.params import load_params

DEFAULT = "synthetic-polyps"
"""The dataset of params.yaml as it comes: no work of anybody's is lost with its section."""
# Pixels of a batch that a machine without an accelerator takes, by the default's model.
MOST_IN_BATCH, FEWEST_IN_BATCH = 32 * 128 * 128, 4
# Steps that an epoch should have, where so many images are there, and the least that a batch holds.
FEWEST_STEPS, LEAST_BATCH = 5, 2


@dataclass(frozen=True)
class Initialised:
    """What was made of params.yaml.

    Attributes:
        section: the section `dataset`.
        changes: what else was changed, in words.
        text: the whole file.
        guess: that it was made of.
        backup: where the former file is, if it described a dataset of the user's.
    """

    section: str
    changes: list[str]
    text: str
    guess: Guess
    backup: Path | None = None


def plan_params(source: Path, params: Path, force: bool) -> Initialised:
    """Look at a dataset, and make params.yaml fit it.

    Args:
        source: a folder or an archive.
        params: the file, which is only read.
        force: replace the section of another dataset.

    Raises:
        InputError: if the dataset cannot be read, or the section is of another dataset.
    """
    load_params(params)
    text = params.read_text()
    tree = read_tree(text)
    former = tree["dataset"]
    if former["name"] != DEFAULT and not force:
        title = former.get("title", former["name"])
        raise InputError(
            f"{params}: its section dataset is that of {title}; --force replaces it (and keeps the "
            "file beside it), --print only shows the new one"
        )
    written = os.path.relpath(source) if source.is_relative_to(Path.cwd()) else str(source)
    guess = guess_dataset(source, written, tree["split"]["near_duplicate"])
    values = _other_values(guess, tree)
    section = _section(guess)
    text = replace_section(text, "dataset", section, with_header=former["name"] == DEFAULT)
    text = set_values(text, values)
    changes = [
        f"{key}: {in_flow(_get(tree, key))} -> {in_flow(value)}" for key, value in values.items()
    ]
    several = len(guess.fields["classes"]) > 2
    wrong, right = ("bce", "ce") if several else ("ce", "bce")
    if wrong in tree["train"]["loss"]:
        text = rename_key(text, f"train.loss.{wrong}", right)
        changes.append(f"train.loss: {right} in place of {wrong}")
    return Initialised(section, changes, text, guess, _backup(params, former))


def _backup(params: Path, former: dict[str, Any]) -> Path | None:
    """A name beside params.yaml that is free."""
    if former["name"] == DEFAULT:
        return None
    names = (f"{params.name}.{ending}" for ending in ("bak", *(f"bak{at}" for at in range(2, 999))))
    return next(path for path in map(params.with_name, names) if not path.exists())


def write_params(made: Initialised, params: Path) -> None:
    """Replace params.yaml, once the new one is known to be valid."""
    if made.backup:
        made.backup.write_bytes(params.read_bytes())
    with atomic_file(params) as partial:
        partial.write_text(made.text)
        load_params(partial)


def _section(guess: Guess) -> str:
    heading = [
        f"Written by 'segbench init'. It found {guess.num_pairs} images with masks, and read "
        f"{guess.read} of them by this section to check it; percentages are of these."
    ]
    items = {"classes": guess.class_comments}
    return write_section(guess.fields, guess.comments, items, heading, guess.asked)


def _other_values(guess: Guess, tree: dict[str, Any]) -> dict[str, Any]:
    """Values outside the section `dataset` that must fit it, by key, where they differ."""
    size = guess.size
    patches = None
    if size.patch:
        patches = {"height": size.patch, "width": size.patch, "overlap": size.patch // 8}
    values: dict[str, Any] = {
        "augment.height": size.height,
        "augment.width": size.width,
        "augment.patches": patches,
    }
    values["train.batch_size"] = _batch_size(tree["train"]["batch_size"], guess)
    if guess.channels != 3 or tree["model"]["in_channels"] != 1:
        values["model.in_channels"] = guess.channels
    split = guess.split
    if not split and tree["split"]["by"] == "predefined":
        split = {"by": "group", "test_share": 0.1}
    values |= {f"split.{key}": value for key, value in split.items()}
    return {key: value for key, value in values.items() if _get(tree, key) != value}


def _batch_size(batch: int, guess: Guess) -> int:
    """One that fits into memory, and gives few images a few steps an epoch."""
    pixels = guess.size.height * guess.size.width
    while batch > FEWEST_IN_BATCH and batch * pixels > MOST_IN_BATCH:
        batch //= 2
    while batch > LEAST_BATCH and not guess.size.patch and batch * FEWEST_STEPS > guess.num_pairs:
        batch //= 2
    return batch


def _get(tree: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return tree[section][name]
