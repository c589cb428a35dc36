"""The stage augment_external: an external test set, resized and packed as the networks see it."""

import hashlib
from pathlib import Path

import pandas as pd

from segbench.arrays.augment import holds_objects, pack
from segbench.arrays.store import Header, read_header
from segbench.arrays.transforms import build_pipeline
from segbench.datasets.canonical import read_info, read_samples
from segbench.datasets.classes import check_classes
from segbench.errors import InputError
from segbench.files import atomic_folder
from segbench.params import Params

SPLIT = "test"


def augment_external(params: Params, external: str, arrays: Path, dataset: Path, out: Path) -> str:
    """Pack all images of an external set at the networks' size; none is varied or left out.

    `out` receives header.json, dataset.json and fold0/test/, in the form that `augment` writes.

    Args:
        params: all of them.
        external: name of the set.
        arrays: those that networks are trained on, whose classes and channels it must have.
        dataset: its canonical folder.
        out: folder of its arrays.

    Returns:
        A summary line.

    Raises:
        InputError: for other classes or channels, and masks that lose all objects.
    """
    info, samples = read_info(dataset), read_samples(dataset)
    ours = read_header(arrays)
    check_classes(external, info, ours.dataset)
    # Grey images among coloured ones are repeated, as those of the training set are.
    different = samples[~samples["channels"].isin({ours.channels, 1 if ours.channels == 3 else 0})]
    if len(different):
        first = different.iloc[0]
        raise InputError(
            f"comparison.external.{external}: {first['id']} has {first['channels']} channels, and "
            f"networks are trained on {ours.channels}; convert its images, or take it out"
        )
    digest = hashlib.sha256((dataset / "samples.csv").read_bytes()).hexdigest()
    header = Header(info, params.augment.height, params.augment.width, ours.channels, digest)
    chosen = params.augment.model_copy(update={"copies": 0})
    table = samples[["id", "group", "stratum"]].assign(split=SPLIT, fold=0)
    table = table.sort_values("id", ignore_index=True)
    with atomic_folder(out) as partial:
        pack(dataset, table, header, build_pipeline(chosen), chosen, partial)
        if not holds_objects(partial / "fold0" / SPLIT, info.scheme):
            raise InputError(
                f"comparison.external.{external}: no mask keeps any object at "
                f"{header.width}x{header.height}, so nothing can be scored on it; take it out"
            )
    return (
        f"{external}: {len(table)} images in {_groups(table)} packed at "
        f"{header.width}x{header.height}x{header.channels} in {out}"
    )


def _groups(table: pd.DataFrame) -> str:
    number = table["group"].nunique()
    return f"{number} group{'s' if number > 1 else ''}"
