"""Files that are easily read wrongly: palettes, EXIF, pages, bands, deep values, alpha."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segbench.datasets.canonical import read_samples, read_table
from segbench.datasets.download import download
from segbench.datasets.exif import turned
from segbench.errors import InputError
from segbench.images import Pixels, read_pixels
from support.own_folder import HEIGHT, TRUTH, WIDTH, make_source, noise, own

IDS = ("a", "b", "c")
INDICES = {"values": {0: 0, 1: 1}}
BY_COLOUR = {"colours": {"#000000": 0, "#ffffff": 1}}
THRESHOLD = {"threshold": 128, "invert": False}
FULL = np.ones_like(TRUTH)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", IDS)


def put_masks(source: Path, masks: list[Image.Image], ending: str) -> None:
    for path in [*(source / "masks").iterdir()]:
        path.unlink()
    for id, mask in zip(IDS, masks, strict=True):
        mask.save(source / "masks" / f"{id}_mask{ending}")


def masks_of(out: Path) -> list[Pixels]:
    return [read_pixels(out / name) for name in read_samples(out)["mask"]]


def refused(params: Any, out: Path) -> str:
    with pytest.raises(InputError) as caught:
        download(params, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


# Palettes


def palette(indices: Pixels, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([level for colour in colours for level in colour])
    return image


BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0)
KINDS = (".gif", ".png", ".tif")


@pytest.mark.parametrize("ending", KINDS)
def test_an_index_that_means_another_colour_in_each_file(
    ending: str, source: Path, tmp_path: Path
) -> None:
    """A mask that is all foreground has one colour, which is then index 0."""
    first, full = palette(TRUTH, BLACK, WHITE), palette(FULL * 0, WHITE, BLACK)
    put_masks(source, [first, full, first], ending)
    said = refused(own(source, mask=INDICES), tmp_path / "out")
    assert "b.png: in its mask the palette index 0 shows #ffffff, in that of a.png #000000" in said
    assert "use dataset.mask.colours" in said
    for mask in (BY_COLOUR, THRESHOLD):
        download(own(source, mask=mask), tmp_path / "out")
        for found, truth in zip(masks_of(tmp_path / "out"), (TRUTH, FULL, TRUTH), strict=True):
            assert (found == truth).all()


def test_gifs_as_pillow_writes_them(source: Path, tmp_path: Path) -> None:
    put_masks(source, [Image.fromarray(255 * mask) for mask in (TRUTH, FULL, TRUTH)], ".gif")
    assert "dataset.mask.colours" in refused(own(source, mask=INDICES), tmp_path / "out")
    download(own(source, mask=THRESHOLD), tmp_path / "out")
    assert [mask.mean() for mask in masks_of(tmp_path / "out")] == [0.125, 1, 0.125]


def test_three_classes_in_the_order_of_their_appearance(source: Path, tmp_path: Path) -> None:
    """The next mask meets class 2 before class 1."""
    truth = TRUTH.copy()
    truth[12:15, 3:9] = 2
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    usual, other = palette(truth, BLACK, RED, GREEN), palette(swapped, BLACK, GREEN, RED)
    put_masks(source, [usual, usual, other], ".png")
    classes = ["background", "red", "green"]
    params = own(source, mask={"values": {0: 0, 1: 1, 2: 2}}, classes=classes, background=0)
    assert "c.png: in its mask the palette index 1 shows #00ff00" in refused(
        params, tmp_path / "out"
    )
    colours = {"colours": {"#000000": 0, "#ff0000": 1, "#00ff00": 2}}
    download(own(source, mask=colours, classes=classes, background=0), tmp_path / "out")
    assert all((mask == truth).all() for mask in masks_of(tmp_path / "out"))


@pytest.mark.parametrize(
    "colours",
    [(BLACK, WHITE), ((50, 60, 50), (200, 20, 20)), ((50, 60, 50), (20, 200, 30))],
)
def test_a_palette_that_pillow_has_chosen(
    colours: tuple[tuple[int, int, int], ...], source: Path, tmp_path: Path
) -> None:
    """It puts the brightest colour first, in every file alike."""
    image = Image.fromarray(np.array(colours, np.uint8)[TRUTH]).quantize(2)
    assert image.getpalette()[:3] == list(colours[1])
    put_masks(source, [image] * 3, ".png")
    said = refused(own(source, mask=INDICES), tmp_path / "out")
    dark, bright = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours)
    assert f"the darkest colour of the masks, {dark}, is class 1 and not the background" in said
    assert f'dataset.mask.colours (now they are read as {{"{bright}": 0, "{dark}": 1}})' in said
    download(own(source, mask={"colours": {dark: 0, bright: 1}}), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))
    # Whoever names the indices in this order has looked.
    download(own(source, mask={"values": {0: 1, 1: 0}}), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))


def test_a_grey_palette_that_falls_under_a_threshold(source: Path, tmp_path: Path) -> None:
    grey = [(255 - at,) * 3 for at in range(256)]
    put_masks(source, [palette(255 - 255 * TRUTH, *grey)] * 3, ".png")
    download(own(source, mask=THRESHOLD), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))


def test_a_palette_by_the_grey_values_that_it_shows(source: Path, tmp_path: Path) -> None:
    """Not by indices: the error must not send anyone there."""
    put_masks(source, [palette(TRUTH, BLACK, WHITE)] * 3, ".png")
    said = refused(own(source, mask={"values": {0: 0, 255: 1}}), tmp_path / "out")
    assert "holds the palette indices [1], but [0, 255] are defined" in said
    assert "use dataset.mask.colours, in it are #000000, #ffffff" in said


def test_palettes_beside_grey_masks(source: Path, tmp_path: Path) -> None:
    """0 is black in a grey mask, and white in this palette."""
    grey = Image.fromarray(TRUTH)
    plain, other = palette(TRUTH, BLACK, RED), palette(1 - TRUTH, RED, BLACK)
    put_masks(source, [grey, plain, plain], ".png")
    download(own(source, mask=INDICES), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))
    put_masks(source, [grey, plain, other], ".png")
    assert "c.png: in its mask the palette index 0 shows #ff0000" in refused(
        own(source, mask=INDICES), tmp_path / "again"
    )


def test_a_palette_of_one_colour(source: Path, tmp_path: Path) -> None:
    """As Pillow reads a TIFF colour map that was written in 8 bits instead of 16."""
    put_masks(source, [palette(TRUTH, BLACK, BLACK)] * 3, ".png")
    said = refused(own(source, mask=BY_COLOUR), tmp_path / "out")
    assert "shows the indices 0 to 1 in one colour" in said
    assert "dataset.mask.values" in said
    download(own(source, mask=INDICES), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))


def test_a_bitmap_of_eight_bits_and_two_colours(source: Path, tmp_path: Path) -> None:
    """Which Pillow writes and reads as one of one bit: no pixel is foreground then."""
    put_masks(source, [palette(TRUTH, BLACK, WHITE)] * 3, ".bmp")
    with Image.open(source / "masks" / "a_mask.bmp") as image:
        assert not np.asarray(image).any()
    said = refused(own(source, mask=THRESHOLD), tmp_path / "out")
    assert "a_mask.bmp: a BMP of 8 bits a pixel with a grey palette" in said
    put_masks(source, [palette(TRUTH, BLACK, RED)] * 3, ".bmp")
    download(own(source, mask=INDICES), tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))


def test_equal_palettes_in_plain_order(source: Path, tmp_path: Path) -> None:
    """As in PASCAL VOC: colours that are neither sorted nor all used, and an ignored rim."""
    colours = [BLACK, (128, 0, 0), (0, 128, 0), (224, 224, 192)]
    truth = TRUTH.copy()
    truth[4, 5:20] = 3
    put_masks(source, [palette(mask, *colours) for mask in (truth, TRUTH * 2, TRUTH)], ".png")
    values = {"values": {0: 0, 1: 1, 2: 2, 3: 255}}
    download(
        own(source, mask=values, classes=["background", "one", "two"], background=0),
        tmp_path / "out",
    )
    assert set(np.unique(masks_of(tmp_path / "out")[0])) == {0, 1, 255}


# EXIF


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def scene(seed: int, side: tuple[int, int] = (64, 64)) -> tuple[Pixels, Pixels]:
    """An image with a bright blob, off the centre, and its mask."""
    mask = np.zeros(side, np.uint8)
    cv2.circle(mask, (14 + seed, 20), 9, 1, -1)
    image = np.random.default_rng(seed).normal(90, 6, (*side, 3)) + 80 * mask[..., None]
    return image.clip(0, 255).astype(np.uint8), mask


def store(
    source: Path, orientation: int, drawn: str, side: tuple[int, int] = (64, 64)
) -> list[tuple[Pixels, Pixels]]:
    """Images of an orientation, with masks drawn on the stored or on the shown pixels."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    scenes = [scene(seed, side) for seed in range(3)]
    for id, (image, mask) in zip(IDS, scenes, strict=True):
        stored = np.ascontiguousarray(turned(image, undo))
        Image.fromarray(stored).save(
            source / "images" / f"{id}.png", exif=with_orientation(orientation)
        )
        drawn_mask = turned(mask, undo) if drawn == "stored" else mask
        Image.fromarray(np.ascontiguousarray(255 * drawn_mask)).save(
            source / "masks" / f"{id}_mask.png"
        )
    return scenes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_pillows(orientation: int) -> None:
    from PIL import ImageOps

    pixels = noise(0, 5, 8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    assert (np.asarray(ImageOps.exif_transpose(image)) == turned(pixels, orientation)).all()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("drawn", ["stored", "shown"])
@pytest.mark.parametrize("rule", ["turn", "ignore"])
def test_masks_drawn_on_stored_or_on_turned_images(
    orientation: int, drawn: str, rule: str, source: Path, tmp_path: Path
) -> None:
    scenes = store(source, orientation, drawn)
    said = download(own(source, exif=rule), tmp_path / "out").splitlines()
    right = {"stored": "ignore", "shown": "turn"}[drawn]
    done = {"turn": "turned", "ignore": "ignored"}[rule]
    assert f"3 images have an EXIF orientation, {done} (dataset.exif: {rule})" in said
    warned = [line for line in said if line.startswith("WARNING")]
    if rule == right:
        assert not warned
    else:
        assert warned == [
            "WARNING: 3 of 3 masks fit the edges of their images better where EXIF is read the "
            f"other way; look at some, then set dataset.exif: {right}"
        ]
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["exif"]) == [f"{done} {orientation}"] * 3
    if rule == right:
        samples = read_samples(tmp_path / "out")
        images = [read_pixels(tmp_path / "out" / name) for name in samples["image"]]
        undo = {6: 8, 8: 6}.get(orientation, orientation) if rule == "ignore" else 1
        for found, mask, (image, truth) in zip(
            images, masks_of(tmp_path / "out"), scenes, strict=True
        ):
            assert (found == turned(image, undo)).all()
            assert (mask == turned(truth, undo)).all()


def test_a_rule_that_makes_sizes_agree_is_named(source: Path, tmp_path: Path) -> None:
    store(source, 6, "stored", (48, 80))
    said = refused(own(source), tmp_path / "out")
    assert "its mask is 48x80 but the image is 80x48, turned as EXIF says" in said
    assert "sizes must agree, set dataset.exif: ignore" in said
    download(own(source, exif="ignore"), tmp_path / "out")
    assert read_samples(tmp_path / "out")["width"].tolist() == [48] * 3
    store(source, 6, "shown", (48, 80))
    assert "set dataset.exif: turn" in refused(own(source, exif="ignore"), tmp_path / "no")


def test_images_and_masks_turned_alike_are_no_doubt(source: Path, tmp_path: Path) -> None:
    store(source, 3, "stored")
    for path in (source / "masks").iterdir():
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=with_orientation(3))
    assert "WARNING" not in download(own(source), tmp_path / "out")
    assert (read_table(tmp_path / "out" / "measures.csv")["exif_other"] == 0).all()


# Pages and frames


def pages(number: int) -> list[Image.Image]:
    return [Image.fromarray(noise(seed)) for seed in range(number)]


@pytest.mark.parametrize(
    ("ending", "options"),
    [(".tif", {}), (".gif", {"duration": 100}), (".png", {}), (".webp", {"lossless": True})],
)
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_files_of_several_images(
    ending: str, options: dict[str, Any], kind: str, source: Path, tmp_path: Path
) -> None:
    first, *rest = pages(3)
    name = "a" if kind == "image" else "a_mask"
    (source / f"{kind}s" / f"{name}.png").unlink()
    path = source / f"{kind}s" / f"{name}{ending}"
    first.save(path, save_all=True, append_images=rest, **options)
    said = refused(own(source), tmp_path / "out")
    assert f"{name}{ending}: holds 3 images (pages or frames), one is read from a file; " in said
    assert "write each into a file of its own" in said


def test_smaller_versions_are_no_pages(source: Path, tmp_path: Path) -> None:
    """A pyramid, as cloud-optimised GeoTIFF has it."""
    full = Image.fromarray(noise(5))
    small = full.resize((WIDTH // 2, HEIGHT // 2))
    small.encoderinfo = {"tiffinfo": ImageFileDirectory_v2()}
    small.encoderinfo["tiffinfo"][254] = 1
    (source / "images" / "a.png").unlink()
    full.save(source / "images" / "a.tif", save_all=True, append_images=[small])
    with Image.open(source / "images" / "a.tif") as image:
        assert image.n_frames == 2
    download(own(source), tmp_path / "out")
    assert (read_pixels(tmp_path / "out" / "images" / "a.png") == noise(5)).all()


# Bands and values of TIFF files


def set_tag(path: Path, number: int, value: int) -> None:
    """Change a tag of one short number, which Pillow does not write so."""
    data = bytearray(path.read_bytes())
    head = struct.pack("<HHI", number, 3, 1)
    assert data.count(head) == 1
    at = data.index(head) + len(head)
    data[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(data)


@pytest.mark.parametrize("extra", [0, 2])
def test_a_fourth_band(extra: int, source: Path, tmp_path: Path) -> None:
    """Pillow shows three and says nothing; marked as alpha, it is none if it varies."""
    pixels = np.concatenate([noise(1), noise(2)[..., :1]], axis=2)
    (source / "images" / "b.png").unlink()
    path = source / "images" / "b.tif"
    Image.fromarray(pixels).save(path)
    set_tag(path, 338, extra)
    said = refused(own(source), tmp_path / "out")
    assert "b.tif: has 4 bands, the limit is 3 (red, green, blue) unless dataset.bands" in said


def test_a_transparent_tiff(source: Path, tmp_path: Path) -> None:
    """Wholly opaque or wholly transparent pixels, as at the rim of a map, are no fourth band."""
    pixels = np.concatenate([noise(1), 255 * TRUTH[..., None]], axis=2)
    (source / "images" / "b.png").unlink()
    Image.fromarray(pixels).save(source / "images" / "b.tif")
    download(own(source), tmp_path / "out")
    assert (read_pixels(tmp_path / "out" / "images" / "b.png") == noise(1)).all()


def test_signed_values_of_eight_bits(source: Path, tmp_path: Path) -> None:
    """-1 is no 255: an ignored rim would be foreground."""
    for name in ("images/b", "masks/b_mask"):
        with Image.open(source / f"{name}.png") as image:
            pixels = image.convert("L")
        (source / f"{name}.png").rename(tmp_path / "aside.png")
        pixels.save(source / f"{name}.tif", tiffinfo={339: 2})
        said = refused(own(source, mask=THRESHOLD), tmp_path / "out")
        assert f"{name}.tif: signed values of 8 bits" in said
        (source / f"{name}.tif").unlink()
        (tmp_path / "aside.png").rename(source / f"{name}.png")


def test_deep_values_in_which_white_is_zero(source: Path, tmp_path: Path) -> None:
    """Pillow inverts such a TIFF of 8 bits, and not of 16."""
    (source / "images" / "b.png").unlink()
    path = source / "images" / "b.tif"
    Image.fromarray(noise(1)[..., 0]).save(path)
    set_tag(path, 262, 0)
    download(own(source), tmp_path / "out")
    assert (read_pixels(tmp_path / "out" / "images" / "b.png") == 255 - noise(1)[..., 0]).all()
    Image.fromarray(noise(1)[..., 0].astype(np.uint16)).save(path)
    set_tag(path, 262, 0)
    said = refused(own(source, value_range=(0, 255)), tmp_path / "no")
    assert "b.tif: a TIFF of 16 bits in which white is 0" in said


# Deep values


def deep(source: Path, write: Callable[[int], np.ndarray]) -> None:
    for at, id in enumerate(IDS):
        (source / "images" / f"{id}.png").unlink()
        Image.fromarray(write(at)).save(source / "images" / f"{id}.tif")


def test_values_outside_the_range_are_counted(source: Path, tmp_path: Path) -> None:
    ramp = np.linspace(0, 999, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    deep(source, lambda at: ramp * (at + 1))
    said = download(own(source, value_range=(0, 1499)), tmp_path / "out").splitlines()
    clipped = read_table(tmp_path / "out" / "measures.csv")["clipped"]
    assert list(clipped) == pytest.approx([0, 0.25, 0.5], abs=0.01)
    assert said[0].startswith("25.0 % of the pixels lie outside dataset.value_range and become 0 ")
    assert said[0].endswith("(in 2 of 3 images, most in c.tif: 50.0 %)")
    said = download(own(source, value_range=(0, 100)), tmp_path / "out").splitlines()
    assert said[0].startswith("WARNING: 93.")
    assert said[0].endswith("; is it too narrow?")
    assert len(download(own(source, value_range=(0, 3000)), tmp_path / "out").splitlines()) == 1


def test_negative_values(source: Path, tmp_path: Path) -> None:
    """Hounsfield units."""
    row = np.repeat(np.array([-1024, -160, 40, 240, 3000]), WIDTH // 5)
    for kind in (np.int32, np.float32):
        deep(source, lambda at, kind=kind: np.tile(row, (HEIGHT, 1)).astype(kind))  # type: ignore[misc]
        download(own(source, value_range=(-160, 240)), tmp_path / "out")
        pixels = read_pixels(tmp_path / "out" / "images" / "a.png")
        assert pixels[0, :: WIDTH // 5].tolist() == [0, 0, 128, 255, 255]
        for path in [*(source / "images").iterdir()]:
            path.with_suffix(".png").write_bytes(b"")
            path.unlink()


def test_a_range_of_fractions(source: Path, tmp_path: Path) -> None:
    """Reflectances."""
    deep(source, lambda at: np.full((HEIGHT, WIDTH), 0.2, np.float32))
    download(own(source, value_range=(-0.1, 0.5)), tmp_path / "out")
    assert (read_pixels(tmp_path / "out" / "images" / "a.png") == 128).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float, source: Path, tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.float32)
    deep(source, lambda at: pixels)
    pixels[3, 4:6] = value
    Image.fromarray(pixels).save(source / "images" / "b.tif")
    said = refused(own(source, value_range=(0, 1)), tmp_path / "out")
    assert "images/b.tif: 2 of its 600 pixels are NaN or infinite; write a number in" in said


# Alpha


def test_a_mask_in_alpha(source: Path, tmp_path: Path) -> None:
    masks = [Image.fromarray(np.dstack([noise(at), 255 * TRUTH])) for at in range(3)]
    put_masks(source, masks, ".png")
    params = own(source, mask={"alpha": 128, "invert": False})
    download(params, tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))
    download(own(source, mask={"alpha": 128, "invert": True}), tmp_path / "out")
    assert all((mask == 1 - TRUTH).all() for mask in masks_of(tmp_path / "out"))
    transparent = palette(TRUTH, RED, GREEN)
    transparent.save(source / "masks" / "a_mask.png", transparency=bytes([0, 255]))
    download(params, tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))
    Image.fromarray(255 * TRUTH).save(source / "masks" / "b_mask.png")
    assert "b_mask.png: has no alpha channel, which dataset.mask.alpha asks for" in refused(
        params, tmp_path / "again"
    )


def test_the_alpha_of_the_images_themselves(source: Path, tmp_path: Path) -> None:
    for at, id in enumerate(IDS):
        pixels = np.dstack([noise(at), 255 * TRUTH])
        Image.fromarray(pixels).save(source / "images" / f"{id}.png")
    pattern = "images/{id}.png"
    params = own(source, images=pattern, masks=pattern, mask={"alpha": 128, "invert": False})
    download(params, tmp_path / "out")
    assert all((mask == TRUTH).all() for mask in masks_of(tmp_path / "out"))
    assert (read_pixels(tmp_path / "out" / "images" / "b.png") == noise(1)).all()


@pytest.mark.parametrize("mask", [THRESHOLD, {"values": {0: 0, 255: 1}}, BY_COLOUR])
def test_a_mask_that_only_alpha_tells(mask: dict[str, Any], source: Path, tmp_path: Path) -> None:
    """White throughout, hence all foreground to whoever drops the alpha channel."""
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    Image.fromarray(np.dstack([white, 255 * TRUTH])).save(source / "masks" / "b_mask.png")
    said = refused(own(source, mask=mask), tmp_path / "out")
    assert "b_mask.png: its pixels have one colour and differ in their transparency only" in said
    assert "is that the mask? use dataset.mask.alpha" in said


# What is no file


@pytest.mark.parametrize("kind", ["images/b.png", "masks/b_mask.png"])
@pytest.mark.parametrize("thing", ["pipe", "device", "folder"])
def test_what_is_no_file(thing: str, kind: str, source: Path, tmp_path: Path) -> None:
    path = source / kind
    path.unlink()
    if thing == "pipe":
        os.mkfifo(path)
    elif thing == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    said = refused(own(source), tmp_path / "out")
    if thing == "folder":
        assert "without" in said
    else:
        assert f"{kind}: a folder, pipe or device, not a file" in said
