"""`folder`: one's own images and masks, matched by their names."""

import re
from collections.abc import Iterator
from pathlib import Path

from segbench.datasets.pairs import by_threshold, by_values, find_pairs, read_image, read_mask
from segbench.errors import InputError
from segbench.params import Folder, MaskThreshold
from segbench.samples import Info, Sample


def info(params: Folder) -> Info:
    """What the params say of the dataset."""
    return Info(
        name=params.title,
        classes=tuple(params.classes),
        licence=params.licence,
        redistributable=params.redistributable,
        citation="",
    )


def num_samples(params: Folder) -> int:
    """How many pairs there are."""
    return len(find_pairs(Path(params.source), params.images, params.masks))


def read(params: Folder) -> Iterator[Sample]:
    """Yield the pairs below `params.source`."""
    if isinstance(params.mask, MaskThreshold):
        decode = by_threshold(params.mask.threshold)
    else:
        decode = by_values(params.mask.values)
    for pair in find_pairs(Path(params.source), params.images, params.masks):
        yield Sample(
            # What file systems, addresses and MLflow all take.
            id=re.sub(r"[^A-Za-z0-9._-]", "_", pair.id),
            image=read_image(pair.image),
            mask=decode(read_mask(pair.mask), pair.mask),
            group=_group(pair.id, params.group),
            stratum="",
            source=str(pair.image),
        )


def _group(id: str, expression: str | None) -> str:
    if expression is None:
        return id
    try:
        match = re.search(expression, id)
    except re.error as error:
        raise InputError(
            f"dataset.group: '{expression}' is not a regular expression ({error}); fix it"
        ) from None
    if not match or not match.groups() or match[1] is None:
        raise InputError(
            f"dataset.group: '{expression}' finds no parenthesised part in the id '{id}'; "
            "every id must yield its group, or set dataset.group: null"
        )
    return str(match[1])
