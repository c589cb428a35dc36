"""`folder`: one's own images and masks, matched by their names."""

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

from segbench.datasets.canonical import DatasetInfo, SampleReader
from segbench.datasets.fetching import locate_files
from segbench.datasets.instances import Instances, read_instance_table
from segbench.datasets.mask_values import MaskEncoding, by_colours, by_threshold, by_values
from segbench.datasets.pairs import find_pairs
from segbench.datasets.patterns import time_to_search, unmatched_files
from segbench.datasets.reading import Reading, read_pairs
from segbench.datasets.tables import read_columns
from segbench.errors import InputError
from segbench.params.datasets import (
    Folder,
    FromName,
    FromTable,
    InstanceTable,
    Label,
    MaskAlpha,
    MaskColours,
    MaskInstances,
    MaskThreshold,
    MaskValues,
    SpacingTable,
)

LONGEST_ID = 150
"""Characters: with what stages and MLflow put around it, of 255 in the name of a file."""
PREDEFINED = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Splits by the names that folders and tables give them, in lower case."""


def info(params: Folder) -> DatasetInfo:
    """What the params say of the dataset."""
    return DatasetInfo(
        name=params.title,
        classes=tuple(params.classes),
        licence=params.licence,
        redistributable=params.redistributable,
        citation=params.citation,
        published=params.published,
        foreground=params.foreground or (0.0, 0.5 if params.scheme.is_binary else 1.0),
        colours=_colours(params),
        spacing=None if isinstance(params.spacing, SpacingTable) else params.spacing,
        has_spacings=isinstance(params.spacing, SpacingTable),
        background=params.background,
    )


def _colours(params: Folder) -> tuple[str, ...]:
    """Those of the masks, if they tell every class by a colour of its own."""
    if not isinstance(params.mask, MaskColours):
        return ()
    by_class = {class_id: colour for colour, class_id in params.mask.colours.items()}
    return tuple(by_class.get(at, "#000000") for at in range(len(params.classes)))


def unmatched(params: Folder) -> list[str]:
    """Files below `params.source` that are neither image, mask nor table."""
    folder = _folder(params)
    labels = (params.group, params.stratum, params.split, params.spacing)
    tables = [
        folder / label.table for label in labels if isinstance(label, FromTable | SpacingTable)
    ]
    if isinstance(params.mask, MaskInstances) and isinstance(params.mask.instances, InstanceTable):
        tables.append(folder / params.mask.instances.table)
    patterns = [params.images, params.masks, *([params.ignore.pattern] if params.ignore else [])]
    return unmatched_files(folder, patterns, tables)


def _folder(params: Folder) -> Path:
    budget = int(params.limits.unpacked_gib * 2**30)
    return locate_files(params.title, (), params.source, {}, budget)


def readers(params: Folder) -> list[SampleReader]:
    """Readers of the pairs below `params.source`."""
    folder = _folder(params)
    ignore = params.ignore.pattern if params.ignore else None
    pairs = find_pairs(folder, params.images, params.masks, params.classes, ignore)
    ids = [pair.id for pair in pairs if not pair.problem]
    groups = _labels("group", params.group, ids, folder)
    strata = _labels("stratum", params.stratum, ids, folder)
    splits = _labels("split", params.split, ids, folder)
    spacings = _spacings(params, ids, folder)
    for id, split in splits.items():
        if split.lower() not in PREDEFINED:
            raise InputError(
                f"dataset.split: '{split}' for the id '{id}'; it must be one of "
                f"{', '.join(filter(None, PREDEFINED))}"
            )
    named = [
        replace(
            pair,
            id=file_name(pair.id),
            key=pair.id,
            group=groups.get(pair.id, ""),
            stratum=strata.get(pair.id, ""),
            split=PREDEFINED[splits.get(pair.id, "").lower()],
            spacing=spacings.get(pair.id),
        )
        for pair in pairs
    ]
    reading = Reading(
        encoding=_encoding(params, folder),
        limits=params.limits,
        bands=params.bands,
        value_range=params.value_range,
        turn=params.exif == "turn",
        invert_ignored=params.ignore is not None and params.ignore.invert,
        class_ids=range(1, len(params.classes)) if "{class}" in params.masks else (),
        background=params.background,
    )
    return read_pairs(named, reading)


def file_name(id: str) -> str:
    """An id as file systems, addresses and MLflow take it; another id gives another name.

    Only folders are joined to a name as they are: of `a_b/c` and `a/b_c` ingest refuses the second.
    """
    id = id.replace("/", "_")
    plain = re.sub(r"^[-.]|[^A-Za-z0-9._-]", "_", id)
    if plain == id and len(id) <= LONGEST_ID:
        return id
    return f"{plain[: LONGEST_ID - 9]}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"


def _encoding(params: Folder, folder: Path) -> MaskEncoding | Instances:
    table = params.mask.instances if isinstance(params.mask, MaskInstances) else "any"
    if isinstance(table, InstanceTable):
        return read_instance_table(table, folder, params.classes)
    return encoding(params) or Instances("", {})


def encoding(params: Folder) -> MaskEncoding | None:
    """How its masks are stored; None where their values are numbers of objects."""
    if isinstance(params.mask, MaskThreshold):
        return by_threshold(params.mask.threshold, params.mask.invert)
    if isinstance(params.mask, MaskAlpha):
        return by_threshold(params.mask.alpha, params.mask.invert, alpha=True)
    if isinstance(params.mask, MaskValues):
        return by_values(params.mask.values)
    if isinstance(params.mask, MaskColours):
        return by_colours(params.mask.colours)
    return None


def _labels(kind: str, label: Label | None, ids: list[str], folder: Path) -> dict[str, str]:
    """The label of every id, or nothing where none is asked for."""
    if label is None:
        return {}
    if isinstance(label, FromName):
        return _from_names(kind, label.pattern, ids)
    path = folder / label.table
    rows = _rows_of(f"dataset.{kind}", path, label.id, [label.column], ids)
    values = {id: one for id, (one,) in rows.items()}
    empty = [id for id in ids if not values[id]]
    if empty and kind == "group":
        raise InputError(
            f"dataset.group: {path} leaves '{label.column}' of '{empty[0]}' empty ({len(empty)} of "
            f"{len(ids)} ids); every image needs its group, if only its own id"
        )
    return values


def _rows_of(
    key: str, path: Path, id_column: str, columns: list[str], ids: list[str]
) -> dict[str, list[str]]:
    """Columns of a table, without space around values, by the id in another one.

    Args:
        key: of params.yaml, for messages.
        path: of the table.
        id_column: that must hold each of the ids once.
        columns: that are read.
        ids: of the dataset.
    """
    table = read_columns(key, path, (id_column, *columns))
    twice = table[id_column][table[id_column].duplicated()]
    if len(twice):
        raise InputError(
            f"{key}: {path} names '{twice.iloc[0]}' more than once in '{id_column}'; "
            "every id may stand there once"
        )
    texts = [table[column].str.strip() for column in columns]
    rows = {id: list(row) for id, *row in zip(table[id_column], *texts, strict=True)}
    unlisted = [id for id in ids if id not in rows]
    if unlisted:
        raise InputError(
            f"{key}: {path} names no '{unlisted[0]}' in '{id_column}' "
            f"({len(unlisted)} of {len(ids)} ids are missing); add them"
        )
    return rows


def _spacings(params: Folder, ids: list[str], folder: Path) -> dict[str, tuple[float, float]]:
    """The spacing of every id, or nothing where images have none of their own."""
    asked = params.spacing
    if not isinstance(asked, SpacingTable):
        return {}
    path = folder / asked.table
    rows = _rows_of("dataset.spacing", path, asked.id, asked.columns, ids)
    found = {}
    for id in ids:
        distances = [_distance(text) for text in rows[id]]
        for column, text, distance in zip(asked.columns, rows[id], distances, strict=True):
            if not 0 < distance < math.inf:
                said = f"'{text}'" if text else "nothing"
                raise InputError(
                    f"dataset.spacing: {path} has {said} as '{column}' of '{id}'; it must be a "
                    "distance above 0 in mm, as 0.5"
                )
        found[id] = (distances[0], distances[-1])
    return found


def _distance(text: str) -> float:
    """NaN where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _from_names(kind: str, pattern: str, ids: list[str]) -> dict[str, str]:
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"dataset.{kind}: '{pattern}' is not a regular expression ({error}); fix it"
        ) from None
    labels = {}
    with time_to_search(pattern, len(ids)):
        for id in ids:
            match = expression.search(id)
            if not match or not match.groups() or not match[1]:
                raise InputError(
                    f"dataset.{kind}: '{pattern}' finds no parenthesised part in the id '{id}'; "
                    f"every id must yield one, or set dataset.{kind}: null"
                )
            labels[id] = str(match[1])
    return labels
