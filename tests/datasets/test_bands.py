"""Bands of multispectral images: which of them the network sees, whatever their file is like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from segbench.datasets.canonical import read_samples, read_table, read_thumbnails
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import Pixels, as_rgb, read_pixels, resize
from segbench.params.datasets import Folder
from support.own_folder import HEIGHT, LIMITS, TRUTH, WIDTH, own

BANDS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 6), np.uint8)
CHUNKY = {"photometric": "minisblack", "planarconfig": "contig"}


def pages(path: Path, values: np.ndarray, **options: Any) -> None:
    tifffile.imwrite(path, np.ascontiguousarray(np.moveaxis(values, -1, 0)), **options)


def planar(path: Path, values: np.ndarray) -> None:
    pages(path, values, photometric="minisblack", planarconfig="separate")


def unnamed_pages(path: Path, values: np.ndarray) -> None:
    pages(path, values, metadata=None)


def chunky(path: Path, values: np.ndarray, **options: Any) -> None:
    tifffile.imwrite(path, values, **CHUNKY, **options)


def compressed(path: Path, values: np.ndarray) -> None:
    chunky(path, values, compression="lzw", predictor=True, tile=(16, 16))


def with_overview(path: Path, values: np.ndarray) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(values, **CHUNKY, metadata=None)
        small = np.ascontiguousarray(values[::2, ::2])
        file.write(small, **CHUNKY, metadata=None, subfiletype=1)


WRITERS = [pages, planar, unnamed_pages, chunky, compressed, with_overview]


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A folder that lacks the image a.tif only."""
    source = tmp_path / "source"
    for name in ("images", "masks"):
        (source / name).mkdir(parents=True)
    Image.fromarray(TRUTH * 255).save(source / "masks" / "a_mask.png")
    return source


def ingested(params: Folder, folder: Path) -> tuple[Path, Pixels]:
    download(params, folder)
    (name,) = read_samples(folder)["image"]
    return folder / name, read_pixels(folder / name)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("bands", [[4, 3, 2, 6, 1], [5, 2], [3, 2, 1], [5]])
def test_bands_in_the_order_that_is_asked_for(
    write: Callable[..., None], bands: list[int], one: Path, tmp_path: Path
) -> None:
    write(one / "images" / "a.tif", BANDS)
    path, pixels = ingested(own(one, bands=bands), tmp_path / "out")
    expected = BANDS[..., [band - 1 for band in bands]]
    assert path.suffix == (".png" if len(bands) in (1, 3) else ".npy")
    assert (pixels == (expected[..., 0] if len(bands) == 1 else expected)).all()
    assert list(read_samples(tmp_path / "out")["channels"]) == [len(bands)]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_a_range_for_all_bands_or_for_each(dtype: Any, one: Path, tmp_path: Path) -> None:
    values = BANDS.astype(dtype) * 10
    values[..., 1] -= 1000 if dtype != np.uint16 else 0
    chunky(one / "images" / "a.tif", values)
    bands = [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"more than 8 bits a channel .* dataset.value_range"):
        download(own(one, bands=bands), tmp_path / "out")
    low = 0 if dtype == np.uint16 else -1000
    ranges = [(0, 2550), (low, low + 2550), (0, 5100), (0, 1275)]
    _, pixels = ingested(own(one, bands=bands, value_range=ranges), tmp_path / "each")
    assert (pixels[..., :2] == BANDS[..., :2]).all()
    assert (pixels[..., 2] == np.rint(BANDS[..., 2] / 2)).all()
    assert (pixels[..., 3] == np.minimum(BANDS[..., 3] * 2.0, 255)).all()
    clipped = read_table(tmp_path / "each" / "measures.csv")["clipped"]
    assert clipped[0] == pytest.approx((BANDS[..., 3] > 127).mean() / 4, abs=1e-6)
    _, pixels = ingested(own(one, bands=[1, 3], value_range=(0, 2550)), tmp_path / "all")
    assert (pixels == BANDS[..., [0, 2]]).all()


@pytest.mark.parametrize("turn", ["turn", "ignore"])
def test_bands_are_turned_as_the_tag_says(turn: str, one: Path, tmp_path: Path) -> None:
    tag = (274, 3, 1, 3, True)  # upside down
    chunky(one / "images" / "a.tif", BANDS, extratags=[tag])
    _, pixels = ingested(own(one, bands=[1, 2, 3, 4], exif=turn), tmp_path / "out")
    expected = BANDS[..., :4]
    assert (pixels == (expected[::-1, ::-1] if turn == "turn" else expected)).all()
    assert list(read_table(tmp_path / "out" / "measures.csv")["exif"]) == [
        "turned 3" if turn == "turn" else "ignored 3"
    ]


def test_bands_of_other_files(one: Path, tmp_path: Path) -> None:
    """The alpha channel of a PNG is its fourth band."""
    Image.fromarray(BANDS[..., :4]).save(one / "images" / "a.png")
    _, pixels = ingested(own(one, bands=[4, 1]), tmp_path / "out")
    assert (pixels == BANDS[..., [3, 0]]).all()


def test_thumbnails_show_the_first_three_bands(one: Path, tmp_path: Path) -> None:
    chunky(one / "images" / "a.tif", BANDS)
    download(own(one, bands=[4, 3, 2, 1]), tmp_path / "bands")
    download(own(one, bands=[4, 3, 2]), tmp_path / "rgb")
    shown = [read_thumbnails(tmp_path / name) for name in ("bands", "rgb")]
    assert (shown[0] == shown[1]).all()
    assert (as_rgb(BANDS[..., :2]) == BANDS[..., [0, 1, 1]]).all()
    assert (as_rgb(BANDS[..., 0]) == BANDS[..., [0, 0, 0]]).all()


@pytest.mark.parametrize("size", [(16, 8), (64, 96)])
def test_bands_are_resized_like_single_images(size: tuple[int, int]) -> None:
    together, _ = resize(BANDS, TRUTH, *size)
    apart = [resize(np.ascontiguousarray(BANDS[..., at]), TRUTH, *size)[0] for at in range(6)]
    assert (together == np.stack(apart, axis=2)).all()


def two_images(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for _ in range(2):
            file.write(BANDS, **CHUNKY, metadata=None)


def two_sizes(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(BANDS, **CHUNKY, metadata=None)
        file.write(BANDS[:10], **CHUNKY, metadata=None)


def torn(path: Path, size: int) -> None:
    chunky(path, BANDS, compression="lzw")
    path.write_bytes(path.read_bytes()[:size])


def not_finite(path: Path) -> None:
    values = BANDS.astype(np.float32)
    values[0, 0, 3] = np.nan
    chunky(path, values)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (two_images, "holds several images"),
        (two_sizes, "holds several images"),
        (lambda path: chunky(path, BANDS[..., :3]), "has 3 bands, dataset.bands asks for number 4"),
        (lambda path: torn(path, 1500), "unreadable as a TIFF (it is cut off)"),
        (lambda path: torn(path, 100), "unreadable as a TIFF"),
        (lambda path: path.write_bytes(b"II*\0"), "unreadable as a TIFF"),
        (not_finite, "1 of its 2400 pixels are NaN or infinite"),
        (
            lambda path: tifffile.imwrite(path, BANDS[..., 0], photometric="miniswhite"),
            "a TIFF with a palette, or in which white is 0",
        ),
    ],
)
def test_files_whose_bands_cannot_be_read(
    write: Callable[[Path], None], said: str, one: Path, tmp_path: Path
) -> None:
    write(one / "images" / "a.tif")
    with pytest.raises(InputError) as caught:
        download(own(one, bands=[1, 2, 3, 4], value_range=(0, 255)), tmp_path / "out")
    assert said in str(caught.value)
    assert "a.tif: " in str(caught.value)


def test_too_many_pixels_in_bands(one: Path, tmp_path: Path) -> None:
    chunky(one / "images" / "a.tif", BANDS)
    with pytest.raises(InputError, match=r"30x20 pixels, dataset.limits.megapixels allows 0.0001"):
        download(own(one, {**LIMITS, "megapixels": 1e-4}, bands=[1]), tmp_path / "out")


def test_too_many_bytes_in_bands(one: Path, tmp_path: Path) -> None:
    """What a file of few bytes says of its bands would be allocated."""
    chunky(one / "images" / "a.tif", np.zeros((HEIGHT, WIDTH, 1000), np.uint8), compression="lzw")
    with pytest.raises(InputError, match=r"its bands take 0.0 GiB, .* cut it into tiles or raise"):
        download(own(one, {**LIMITS, "megapixels": 600e-6}, bands=[1]), tmp_path / "out")


def test_colours_of_16_bits(one: Path, tmp_path: Path) -> None:
    values = BANDS[..., :3].astype(np.uint16) * 257
    tifffile.imwrite(one / "images" / "a.tif", values, photometric="rgb")
    with pytest.raises(InputError, match=r"read a TIFF by dataset.bands: \[1, 2, 3\] and datas"):
        download(own(one), tmp_path / "out")
    _, pixels = ingested(own(one, bands=[1, 2, 3], value_range=(0, 65535)), tmp_path / "out")
    assert (pixels == BANDS[..., :3]).all()


def test_every_mistake_in_bands(one: Path) -> None:
    for changes, said in (
        ({"bands": [0, 1]}, "greater than 0"),
        ({"bands": [1, 1]}, "names one twice"),
        ({"bands": [*range(1, 18)]}, "at most 16"),
        ({"bands": [1, 2], "value_range": [(0, 1)]}, "1 ranges for 2 bands; give one for each"),
        ({"value_range": [(0, 1)]}, "1 ranges for 0 bands"),
        ({"bands": [1, 2], "value_range": [(0, 1), (1, 0)]}, r"\[1.0, 0.0\] must rise"),
    ):
        with pytest.raises(ValidationError, match=said):
            own(one, **changes)
