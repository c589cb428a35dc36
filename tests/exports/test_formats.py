"""Masks are written so that they read as those of the dataset that trained the model."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.canonical import DatasetInfo
from segbench.datasets.download import source_of
from segbench.datasets.mask_values import read_mask
from segbench.errors import InputError
from segbench.exports.formats import DataFormat, data_facts
from segbench.params.datasets import Isbi2012, OxfordIIITPet, Published
from segbench.tracking.records import flatten
from support.own_folder import LIMITS, own

BY_VALUE = {
    "dataset.name": "folder",
    "dataset.exif": "turn",
    **dict.fromkeys(("dataset.bands", "dataset.value_range"), "null"),
    "dataset.background": "0",
    "dataset.mask.values.0": "0",
    "dataset.mask.values.5": "1",
}
CLASSES = ("background", "crack", "hole")
SIMPLE = {"source": None, "watch": False, "checksums": {}, "limits": LIMITS}


def facts_of(section: Any, palette: tuple[Any, ...] = ()) -> dict[str, str]:
    tree = {"dataset": section.model_dump(mode="json")}
    info = DatasetInfo("mine", CLASSES, "own", False, "", palette=palette)
    return data_facts(flatten(tree), info)


SECTIONS = [
    own(Path("x")),
    own(Path("x"), mask={"threshold": 128, "invert": False}),
    own(Path("x"), mask={"threshold": 128, "invert": True}),
    own(Path("x"), mask={"alpha": 128, "invert": False}),
    own(
        Path("x"), mask={"values": {0: 0, 100: 1, 200: 2, 9: 255}}, classes=[*CLASSES], background=0
    ),
    own(Path("x"), mask={"values": {7: 0, 3: 2, 5: 1, 4: 1}}, classes=[*CLASSES], background=None),
    own(
        Path("x"),
        mask={"colours": {"#000000": 0, "#ff0000": 1, "#00ff10": 2, "#0000ff": 1}},
        classes=[*CLASSES],
        background=0,
    ),
    OxfordIIITPet(name="oxford-iiit-pet", task="trimap", border=None, **SIMPLE),
    OxfordIIITPet(name="oxford-iiit-pet", task="binary", border="pet", **SIMPLE),
    Isbi2012(name="isbi-2012", slices_per_block=2, **SIMPLE),
    Published(name="cvc-clinicdb", **SIMPLE),
]


@pytest.mark.parametrize("section", SECTIONS)
def test_masks_read_as_those_of_the_dataset(section: Any, tmp_path: Path) -> None:
    facts = facts_of(section)
    assert not any("/" in text for text in facts.values())
    encoding = source_of(section.name).encoding(section)
    number = section.scheme.num_classes if section.scheme else 2
    mask = np.random.default_rng(0).integers(0, number, (40, 50), np.uint8)
    path = tmp_path / "mask.png"
    path.write_bytes(DataFormat.of(facts, number).encode(mask))
    assert (read_mask(path, encoding, 1).class_ids == mask).all()


def test_the_palette_of_the_masks_is_kept(tmp_path: Path) -> None:
    section = own(Path("x"), mask={"values": {0: 0, 5: 1}})
    facts = facts_of(section, ((0, 0x102030, 0), (5, 0xFF8000, 1)))
    mask = np.eye(4, dtype=np.uint8)
    image = Image.open(io.BytesIO(DataFormat.of(facts, 2).encode(mask)))
    assert image.mode == "P"
    assert (np.asarray(image) == 5 * mask).all()
    assert image.convert("RGB").getpixel((0, 0)) == (255, 128, 0)
    assert image.convert("RGB").getpixel((1, 0)) == (16, 32, 48)


@pytest.mark.parametrize(
    "section",
    [
        own(Path("x"), masks="masks/{id}_{class}.png", classes=[*CLASSES]),
        own(Path("x"), mask={"instances": "any"}),
    ],
)
def test_where_objects_have_files_or_numbers_masks_are_of_class_ids(section: Any) -> None:
    number = len(section.classes)
    found = DataFormat.of(facts_of(section), number)
    assert found.values.tolist() == list(range(number))


def test_images_are_read_as_training_reads_them(tmp_path: Path) -> None:
    section = own(Path("x"), bands=[2, 1], value_range=[[0, 100], [0, 1000]], exif="ignore")
    found = DataFormat.of(facts_of(section), 2)
    assert (found.bands, found.turn, found.megapixels) == ([2, 1], False, 50)
    import tifffile

    values = np.stack([np.full((8, 9), 500), np.full((8, 9), 100)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert found.read(tmp_path / "a.tif")[0, 0].tolist() == [255, 128]


def test_a_palette_that_is_none_is_refused_whatever_its_masks_are() -> None:
    threshold = {"dataset.mask.threshold": "128", "dataset.mask.invert": "false"}
    plain = {key: text for key, text in BY_VALUE.items() if "values" not in key}
    assert DataFormat.of({**plain, **threshold}, 2).palette is None
    assert DataFormat.of({**BY_VALUE, "palette": "[[5,255,1]]"}, 2).palette is not None
    with pytest.raises(InputError):
        DataFormat.of({**plain, **threshold, "palette": "nonsense"}, 2)


def test_a_model_that_says_nothing_of_its_data() -> None:
    assert DataFormat.of({}, 3).values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "facts",
    [
        {"dataset.name": "nowhere"},
        {"dataset.name": "folder", "dataset.mask.threshold": "import os"},
        {"dataset.name": "folder", "dataset.mask": "1", "dataset.mask.values.0": "0"},
        {"dataset.bands": "[1]"},
        {"dataset.name": "x" * 40_000},
        {**BY_VALUE, "dataset.background": "[" * 9_000},
        {**BY_VALUE, **{f"dataset.mask.values.{value}": "0" for value in range(256)}},
        *(
            {**BY_VALUE, "palette": palette}
            for palette in (
                *("nonsense", "", "null", '"x"', '{"a":1}', "7", "[" * 9_000, "9" * 5_000),
                *("[[1,2]]", '[["a",1,1]]', '[[1,"x",2]]', "[[999,1,1]]", "[[-1,5,0]]"),
                *("[[1,-5,0]]", "[[1,16777216,0]]", "[[1,5,256]]", "[[1,5,0,0]]", "[[1,0.5,0]]"),
            )
        ),
    ],
)
def test_what_describes_no_dataset_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        DataFormat.of(facts, 2)
    assert "\n" not in str(caught.value)
