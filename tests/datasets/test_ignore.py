"""A second mask file of each image says where its pixels count: the field of view."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.datasets.canonical import read_info, read_table
from segbench.datasets.doubts import reading_doubts
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import IGNORE, read_pixels
from segbench.params.datasets import Folder
from support.own_folder import HEIGHT, LIMITS, TRUTH, WIDTH, encoded, make_source, own

INSIDE = np.zeros((HEIGHT, WIDTH), bool)
INSIDE[2:-2, 8:-2] = True  # some of the object, which begins at 5, is outside
EXPECTED = np.where(INSIDE, TRUTH, IGNORE)
PATTERN = "fov/{id}_fov.gif"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = make_source(tmp_path / "source", "ab")
    (folder / "fov").mkdir()
    for id in "ab":
        put(folder, id, INSIDE)
    return folder


def put(source: Path, id: str, inside: np.ndarray, value: int = 255) -> None:
    image = Image.fromarray(inside.astype(np.uint8) * np.uint8(value))
    (source / "fov" / f"{id}_fov.gif").write_bytes(encoded(image, "GIF"))


def fundus(source: Path, **changes: object) -> Folder:
    return own(source, **{"ignore": PATTERN, **changes})


def test_pixels_outside_are_ignored(source: Path, tmp_path: Path) -> None:
    said = download(fundus(source), tmp_path / "out")
    for id in "ab":
        assert (read_pixels(tmp_path / "out" / "masks" / f"{id}.png") == EXPECTED).all()
    assert "dataset.ignore leaves out 20 % of the foreground\n" in said
    assert "WARNING" not in said
    assert (tmp_path / "out" / "unmatched.csv").read_text() == "file\n"
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["ignored_foreground"]) == [15, 15]
    assert list(measures["ignored"]) == pytest.approx([1 - INSIDE.mean()] * 2, abs=1e-6)


def test_files_that_are_black_where_pixels_count(source: Path, tmp_path: Path) -> None:
    for id in "ab":
        put(source, id, ~INSIDE)
    said = download(fundus(source), tmp_path / "out")
    doubt = "dataset.ignore leaves out 80 % of the foreground; are its files black where pixels"
    assert f"WARNING: {doubt}" in said
    out = tmp_path / "out"
    (audited,) = reading_doubts(read_table(out / "measures.csv"), read_info(out))
    assert audited.startswith(doubt)
    download(fundus(source, ignore={"pattern": PATTERN, "invert": True}), tmp_path / "again")
    assert (read_pixels(tmp_path / "again" / "masks" / "a.png") == EXPECTED).all()


def test_nothing_is_left(source: Path, tmp_path: Path) -> None:
    for id in "ab":
        put(source, id, TRUTH == 0)
    with pytest.raises(InputError, match=r"holds the class crack where dataset.ignore lea"):
        download(fundus(source), tmp_path / "out")


def test_an_image_without_its_file(source: Path, tmp_path: Path) -> None:
    (source / "fov" / "b_fov.gif").rename(source / "fov" / "z_fov.gif")
    with pytest.raises(InputError) as caught:
        download(fundus(source), tmp_path / "out")
    assert "b.png: image without ignore mask" in str(caught.value)
    assert "z_fov.gif: ignore mask without image" in str(caught.value)
    skip = {**LIMITS, "on_bad_pair": "skip"}
    assert download(fundus(source, limits=skip), tmp_path / "out").endswith(
        f"1 images with masks of mine, 2 left out (see skipped.csv there) in {tmp_path / 'out'}"
    )


def test_files_that_cannot_be_meant(source: Path, tmp_path: Path) -> None:
    put(source, "a", INSIDE, value=1)
    with pytest.raises(InputError, match="an ignore mask of values up to 1, all below 128"):
        download(fundus(source), tmp_path / "out")
    put(source, "a", INSIDE[1:])
    with pytest.raises(InputError, match=r"a_fov.gif: is 30x19 but its image is 30x20"):
        download(fundus(source), tmp_path / "out")
    download(fundus(source, limits={**LIMITS, "size_difference": 1}), tmp_path / "out")
    with pytest.raises(InputError, match=r"dataset.ignore: 'fov/\*.gif'|needs \{id\} exactly once"):
        download(fundus(source, ignore="fov/*.gif"), tmp_path / "again")


def test_all_files_in_one_folder(source: Path, tmp_path: Path) -> None:
    """A field of view is no class, and no image."""
    for path in [*source.rglob("*.*")]:
        path.rename(source / path.name.replace("_mask", "_crack"))
    params = fundus(source, images="{id}.png", masks="{id}_{class}.png", ignore="{id}_fov.gif")
    assert download(params, tmp_path / "out").endswith(
        f"2 images with masks of mine in {tmp_path}/out"
    )
    params = fundus(source, images="{id}.*", masks="{id}_{part}.*", ignore="{id}_fov.gif")
    assert download(params, tmp_path / "parts").startswith("dataset.ignore leaves out 20 %")
