"""External images that networks were trained on are found, however they were saved, and said."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.datasets.canonical import read_samples
from segbench.datasets.download import download
from segbench.datasets.download_external import download_external
from segbench.errors import InputError
from segbench.images import Pixels, read_pixels
from segbench.params import Params
from segbench.splits.assign import read_split
from segbench.splits.audit_external import audit_external, pairs_between, used_for
from support.own_folder import own


def source_of(folder: Path, images: dict[str, Pixels]) -> Path:
    """A folder of images, each with a mask."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for id, image in images.items():
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[10:30, 10:30] = 255
        Image.fromarray(image).save(folder / "images" / f"{id}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{id}_mask.png")
    return folder


def clinic(folder: Path, **changes: Any) -> dict[str, Any]:
    changes = {"classes": ["background", "polyp"], **changes}
    return own(folder, **changes).model_dump()


def elsewhere(params: Params) -> list[Pixels]:
    """Images of other generated sequences."""
    from segbench.datasets.sources.synthetic_polyps import readers

    other = params.dataset.model_copy(update={"seed": 99, "num_sequences": 5})
    return [sample.image for reader in readers(other) for sample in reader.read()][::3]


def image_of(packed: Path, split: str) -> tuple[str, Pixels]:
    """The first image of a split, and its id."""
    table = read_split(packed / "split.csv")
    id = str(table["id"][table["split"] == split].iloc[0])
    files = read_samples(packed / "dataset").set_index("id")["image"]
    return id, read_pixels(packed / "dataset" / files[id])


def audited(params: Params, packed: Path, folder: Path) -> tuple[str, dict[str, Any], pd.DataFrame]:
    download_external(params, "clinic", folder / "set")
    said = audit_external(
        *(params, "clinic", packed / "dataset", packed / "split.csv", folder / "set"),
        *(folder / "leaks.csv", folder / "facts.json"),
    )
    pairs = pd.read_csv(folder / "leaks.csv", keep_default_na=False)
    return said, json.loads((folder / "facts.json").read_text()), pairs


def with_clinic(tree: dict[str, Any], folder: Path, **changes: Any) -> Params:
    tree["comparison"]["external"] = {"clinic": clinic(folder, **changes)}
    return Params.model_validate(tree)


def test_copies_of_training_images_are_found(
    tree: dict[str, Any], params: Params, packed: Path, tmp_path: Path
) -> None:
    (first, equal), (second, chosen) = image_of(packed, "train"), image_of(packed, "val")
    (third, tested), others = image_of(packed, "test"), elsewhere(params)
    brighter = cv2.resize(cv2.convertScaleAbs(chosen, alpha=1.1, beta=6), (100, 90))
    images = {"again": equal, "brighter": brighter, "tested": tested, "twice": equal}
    images |= {f"new{at}": image for at, image in enumerate(others)}
    source = source_of(tmp_path / "clinic", images)
    tree["split"]["on_leak"] = "warn"
    asked = with_clinic(tree, source, group={"pattern": "([a-z]+)"})
    said, facts, pairs = audited(asked, packed, tmp_path)
    assert facts["images"] == 4 + len(others)
    assert facts["groups"] == 5
    assert facts["in_training"] == {
        **{"exact_duplicates": 2, "near_duplicates": 1, "annotated_copies": 0}
    }
    assert facts["in_test"] == 1
    found = pairs[["external_id", "id", "kind", "used_for"]].to_numpy().tolist()
    assert [row for row in found if row[2] == "exact_duplicates"] == [
        *(["again", first, "exact_duplicates", "training"],),
        *(["tested", third, "exact_duplicates", "test"],),
        *(["twice", first, "exact_duplicates", "training"],),
    ]
    assert ["brighter", second, "near_duplicates", "training"] in found
    assert not any(row[0].startswith("new") for row in found)
    assert re.match(
        r"WARNING: comparison.external.clinic: 3 of its images show what a training image shows "
        r"\(2 equal to one, 1 nearly equal to one\): again, brighter, twice\n",
        said,
    )


def test_a_leak_is_an_error_unless_it_is_to_be_a_warning(
    tree: dict[str, Any], params: Params, packed: Path, tmp_path: Path
) -> None:
    _, equal = image_of(packed, "train")
    images = dict(enumerate([equal, *elsewhere(params)]))
    source = source_of(tmp_path / "clinic", {f"i{at}": one for at, one in images.items()})
    with pytest.raises(InputError, match=r"1 of its images .*: i0; see .*leaks.csv, then take"):
        audited(with_clinic(tree, source), packed, tmp_path)
    assert (tmp_path / "leaks.csv").exists()


def test_another_set_is_clean_though_its_ids_are_the_same(
    tree: dict[str, Any], params: Params, packed: Path, tmp_path: Path
) -> None:
    ids = read_samples(packed / "dataset")["id"].tolist()
    source = source_of(tmp_path / "clinic", dict(zip(ids, elsewhere(params), strict=False)))
    said, facts, pairs = audited(with_clinic(tree, source), packed, tmp_path)
    assert len(pairs) == 0
    assert sum(facts["in_training"].values()) + facts["in_test"] == 0
    assert said.startswith("clinic: 5 images in 5 groups, 0 of them in the training set")


def test_of_equal_training_images_any_counts(params: Params, tmp_path: Path) -> None:
    """One may test while another trains."""
    others = elsewhere(params)
    ours = source_of(tmp_path / "ours", {"a": others[0], "b": others[0], "c": others[1]})
    theirs = source_of(tmp_path / "theirs", {"x": others[0], "y": others[2]})
    for folder in (ours, theirs):
        download(own(folder), folder / "canonical")
    found = pairs_between(ours / "canonical", theirs / "canonical", 0.75)
    assert found[["external_id", "id"]].to_numpy().tolist() == [["x", "a"], ["x", "b"]]


def test_an_image_that_trains_in_any_compared_fold_counts_as_training() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "a", "b", "b", "c", "c"],
            "fold": [0, 1] * 3,
            "split": ["train", "test", "test", "val", "test", "unused"],
        }
    )
    assert used_for(table, [0, 1]) == {"a": "training", "b": "training", "c": "test"}
    assert used_for(table, [0]) == {"a": "training", "b": "test", "c": "test"}
