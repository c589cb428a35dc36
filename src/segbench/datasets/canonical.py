"""Writing a dataset in canonical form, every pair checked."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from segbench.errors import InputError
from segbench.samples import IGNORE, Info, Sample
from segbench.writing import whole_folder


def check_sample(sample: Sample, classes: tuple[str, ...]) -> None:
    """Raise InputError unless the pair fits together and the mask holds defined classes only."""
    height, width = sample.mask.shape
    if sample.image.shape[:2] != (height, width):
        image_height, image_width = sample.image.shape[:2]
        raise InputError(
            f"{sample.source}: its mask is {width}x{height} but the image is "
            f"{image_width}x{image_height}; image and mask must have one size, fix the pair"
        )
    undefined = sorted(set(np.unique(sample.mask).tolist()) - set(range(len(classes))) - {IGNORE})
    if undefined:
        raise InputError(
            f"{sample.source}: its mask holds the class ids {undefined}, the dataset defines "
            f"0 to {len(classes) - 1}; fix the mask or dataset.classes"
        )


def write_canonical(samples: Iterable[Sample], info: Info, total: int, folder: Path) -> int:
    """Write samples in canonical form: images/, masks/, samples.csv and dataset.json.

    Images are PNG, RGB or grey; masks are single-channel PNG of class ids. samples.csv has one
    row a sample, in the order of ids: id, image, mask, group, stratum, width, height and the
    sha256 of the pixels of image and mask, which does not depend on how a PNG was compressed.

    Args:
        samples: in any order.
        info: of the dataset.
        total: how many there will be, for the progress bar.
        folder: appears whole or not at all.

    Returns:
        How many samples were written.

    Raises:
        InputError: for a pair that does not fit, an id seen twice, or no samples at all.
    """
    rows: list[dict[str, object]] = []
    seen: dict[str, str] = {}
    present: set[int] = set()
    with whole_folder(folder) as partial:
        (partial / "images").mkdir()
        (partial / "masks").mkdir()
        for sample in tqdm(samples, total=total, desc="download", unit="image", disable=None):
            check_sample(sample, info.classes)
            if sample.id in seen:
                raise InputError(
                    f"{sample.source}: the id '{sample.id}' was taken by {seen[sample.id]}; "
                    "ids must be unique, rename one or widen {id} in dataset.images"
                )
            seen[sample.id] = sample.source
            present |= set(np.unique(sample.mask).tolist())
            image, mask = f"images/{sample.id}.png", f"masks/{sample.id}.png"
            grey = sample.image.ndim == 2
            bgr = sample.image if grey else cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
            for name, pixels in ((image, bgr), (mask, sample.mask)):
                if not cv2.imwrite(str(partial / name), pixels):
                    raise OSError(f"could not write {folder / name}")
            height, width = sample.mask.shape
            digest = hashlib.sha256(np.ascontiguousarray(sample.image).tobytes())
            digest.update(np.ascontiguousarray(sample.mask).tobytes())
            rows.append(
                {
                    "id": sample.id,
                    "image": image,
                    "mask": mask,
                    "group": sample.group,
                    "stratum": sample.stratum,
                    "width": width,
                    "height": height,
                    "sha256": digest.hexdigest(),
                }
            )
        if not rows:
            raise InputError(
                f"{info.name}: found no samples; at least one image with a mask is needed, "
                "check dataset.source and the patterns"
            )
        absent = [name for at, name in enumerate(info.classes) if at > 0 and at not in present]
        if absent:
            raise InputError(
                f"{info.name}: no mask holds the class {', '.join(absent)}; every class must "
                "occur, check dataset.mask (a threshold above all values?) and dataset.classes"
            )
        table = pd.DataFrame(rows).sort_values("id")
        table.to_csv(partial / "samples.csv", index=False, lineterminator="\n")
        (partial / "dataset.json").write_text(json.dumps(asdict(info), indent=2) + "\n")
    return len(rows)
