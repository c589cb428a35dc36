"""What the values of masks mean, told from the values, where they lie and what palettes show."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segbench.errors import InputError
from segbench.images import Pixels
from segbench.onboarding.encoding import Encoding, guess_encoding
from segbench.onboarding.held import read_held
from support.layouts import COLOURS, mask_of, put


def guess(folder: Path, files: list[Image.Image | Pixels], ending: str = "png") -> Encoding:
    paths = [folder / f"{at}.{ending}" for at in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        put(path, file)
    return guess_encoding(read_held(paths, 100))


def values(*table: int) -> list[Pixels]:
    """Masks of as many classes, whose values the table gives."""
    return [np.array(table, np.uint8)[mask_of(at, len(table))] for at in range(6)]


def asked(found: Encoding) -> str:
    return " | ".join(text for _, text in found.asked)


@pytest.mark.parametrize(
    ("table", "mask"),
    [
        ((0, 255), {"threshold": 128, "invert": False}),
        ((0, 1), {"values": {0: 0, 1: 1}}),
        ((0, 38), {"values": {0: 0, 38: 1}}),
        ((0, 1, 2), {"values": {0: 0, 1: 1, 2: 2}}),
        ((0, 128, 255), {"values": {0: 0, 128: 1, 255: 2}}),
        ((0, 85, 170, 255), {"values": {0: 0, 85: 1, 170: 2, 255: 3}}),
        ((2, 1, 3), {"values": {1: 1, 2: 0, 3: 2}}),
        ((0, 1, 2, 255), {"values": {0: 0, 1: 1, 2: 2, 255: 255}}),
    ],
)
def test_grey_values(table: tuple[int, ...], mask: dict[str, Any], tmp_path: Path) -> None:
    found = guess(tmp_path, values(*table))
    assert found.mask == mask
    named = {255} & {*mask.get("values", {}).values()}
    assert len(found.classes) == len(table) - len(named)


def test_what_is_unsure_of_grey_values_is_asked(tmp_path: Path) -> None:
    assert "255 is taken for: ignored" in asked(guess(tmp_path, values(0, 1, 255)))
    assert "2, most common at the border, is the background" in asked(
        guess(tmp_path, values(2, 1, 3))
    )
    assert "hold 0 only" in asked(guess(tmp_path, [np.zeros((30, 30), np.uint8)] * 2))


def test_edges_that_are_grey_do_not_make_classes(tmp_path: Path) -> None:
    """By a lossy format, and by a smooth resizing; of two classes."""
    binary = values(0, 255)
    found = guess(tmp_path, binary, "jpg")
    assert found.mask == {"threshold": 128, "invert": False}
    assert "more on edges" in found.seen
    smooth = [cv2.resize(mask, (75, 61), interpolation=cv2.INTER_CUBIC) for mask in binary]
    assert guess(tmp_path, smooth).mask == {"threshold": 128, "invert": False}


def test_lossy_masks_of_several_classes_are_refused(tmp_path: Path) -> None:
    """Between two classes lie the values of a third: no reading is right."""
    several = [cv2.resize(one, (400, 280), interpolation=0) for one in values(0, 128, 255)]
    with pytest.raises(InputError, match=r"3 values .*and .* more on edges only") as error:
        guess(tmp_path, several, "jpg")
    assert "save the masks as PNG" in str(error.value)
    coloured = [COLOURS[cv2.resize(mask_of(at, 3), (400, 280), interpolation=0)] for at in range(4)]
    with pytest.raises(InputError, match=r"colours .*more on edges only"):
        guess(tmp_path, coloured, "jpg")


def palette_of(mask: Pixels, colours: Pixels) -> Image.Image:
    image = Image.fromarray(mask, "P")
    image.putpalette(colours.ravel().tolist())
    return image


def test_palettes_are_read_by_colour_in_the_order_of_their_indices(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [0, 0, 128], [250, 0, 0], [0xE0, 0xE0, 0xC0]], np.uint8)
    found = guess(tmp_path, [palette_of(mask_of(at, 4), colours) for at in range(5)])
    assert found.mask == {"colours": {"#000000": 0, "#000080": 1, "#fa0000": 2, "#e0e0c0": 255}}
    assert "#e0e0c0 is taken for: ignored" in asked(found)
    grey = np.array([[255, 255, 255], [0, 0, 0]], np.uint8)
    found = guess(tmp_path, [palette_of(1 - mask_of(at), grey) for at in range(5)])
    assert found.mask == {"threshold": 128, "invert": False}


def test_the_background_of_colours_is_black_or_asked_about(tmp_path: Path) -> None:
    shown = np.array([[240, 240, 250], [200, 0, 0], [0, 90, 0]], np.uint8)
    found = guess(tmp_path, [shown[mask_of(at, 3)] for at in range(5)])
    assert found.mask["colours"]["#f0f0fa"] == 0
    assert "#f0f0fa, most common at the border, is the background" in asked(found)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_numbered_objects(kind: type[np.integer[Any]], tmp_path: Path) -> None:
    """Told from classes: as many numbers as objects, and not in every file the same."""
    files = [mask_of(at, 4 + at % 3).astype(kind) for at in range(6)]
    found = guess(tmp_path, files, "tif" if kind == np.int32 else "png")
    assert found.mask == {"instances": "any"}
    assert "numbers of objects (up to 5 in a file)" in asked(found)
    same = guess(tmp_path, [mask_of(at, 5) for at in range(6)])
    assert same.mask == {"values": {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}}


def test_objects_in_colours_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = []
    for at in range(6):
        colours = rng.integers(30, 255, (8, 3), dtype=np.uint8)
        colours[0] = 0
        files.append(colours[mask_of(at, 5 + at % 3)])
    assert guess(tmp_path, files).mask == {"instances": "any"}


def test_deep_masks_of_classes_are_refused(tmp_path: Path) -> None:
    table = np.array([0, 300, 900], np.uint16)
    with pytest.raises(InputError, match="more than 8 bits hold the values 0, 300, 900"):
        guess(tmp_path, [table[mask_of(at, 3)] for at in range(4)])
    two = guess(tmp_path, [mask_of(at).astype(np.uint16) * 65535 for at in range(4)])
    assert two.mask == {"instances": "any"}


def test_alpha_is_the_mask_where_nothing_else_is(tmp_path: Path) -> None:
    files = [
        np.dstack([np.zeros((*(m := mask_of(at)).shape, 3), "u1"), m * 255]) for at in range(4)
    ]
    assert guess(tmp_path, files).mask == {"alpha": 128, "invert": False}
