"""Layouts as people have them: described by `segbench init`, and read so to the pixel."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segbench.datasets.canonical import read_samples
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import read_pixels
from segbench.onboarding.guess import Guess, guess_dataset
from segbench.onboarding.init import plan_params, write_params
from segbench.params import load_params
from segbench.params.datasets import Folder
from support.layouts import COLOURS, LAYOUTS, Truth, image_of, mask_of, put
from support.params import ROOT
from support.retinas import SIZE, retina

EXPECTED: dict[str, dict[str, Any]] = {
    "flat": {
        "images": "images/{id}.jpg",
        "masks": "masks/{id}.png",
        "mask": {"threshold": 128, "invert": False},
        "group": None,
    },
    "suffix_in_one_folder": {"images": "{id}.jpg", "masks": "{id}_segmentation.png"},
    "folder_per_patient": {
        "images": "{folder}/images/{id}.png",
        "masks": "{folder}/masks/{id}.png",
        "group": {"pattern": "^([^/]+)/"},
    },
    "frames_of_sequences": {
        "images": "frames/{id}.png",
        "masks": "labels/{id}.png",
        "mask": {"values": {0: 0, 1: 1, 2: 2}},
        "classes": ["background", "class_1", "class_2"],
        "group": {"pattern": r"^(seq_\d+)_"},
    },
    "file_per_class": {
        "masks": "masks/{class}/{id}.png",
        "classes": ["background", "crack", "spall"],
    },
    "mask_per_object": {"images": "{id}/images/*.png", "masks": "{id}/masks/{part}.png"},
    "published_split": {"images": "{split}/images/{id}.png", "split": {"pattern": "^([^/]+)/"}},
    "differing_palettes": {"mask": {"colours": {"#000000": 0, "#c81e1e": 1, "#14dc3c": 2}}},
    "colours": {"mask": {"colours": {"#000000": 0, "#c81e1e": 1, "#14dc3c": 2}}},
    "deep_images": {"value_range": [200, 3700]},
    "objects": {"mask": {"instances": "any"}},
    "in_alpha": {
        "images": "{id}.png",
        "masks": "{id}.png",
        "mask": {"alpha": 128, "invert": False},
    },
    "field_of_view": {
        "images": "images/{id}_training.tif",
        "masks": "1st_manual/{id}_manual1.gif",
        "ignore": {"pattern": "mask/{id}_training_mask.gif", "invert": False},
    },
    "stored_on_their_side": {"exif": "ignore"},
}
"""What the section must say, of each layout."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, which is the current one."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def guess(folder: Path) -> Guess:
    return guess_dataset(folder, str(folder), 0.75)


def asked(found: Guess, key: str) -> str:
    return " | ".join(text for one, text in found.asked if one == key)


def ingested(params: Path, out: Path) -> Truth:
    """Class ids by id, as the pipeline reads them by what params.yaml says."""
    download(load_params(params).dataset, out)
    samples = read_samples(out)
    return {
        id: read_pixels(out / mask) for id, mask in zip(samples["id"], samples["mask"], strict=True)
    }


def same(found: Truth, truth: Truth) -> bool:
    return found.keys() == truth.keys() and all((found[id] == truth[id]).all() for id in truth)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_described_and_read_to_the_pixel(layout: str, workspace: Path) -> None:
    """Nothing is edited between the two."""
    truth = LAYOUTS[layout](workspace / layout)
    made = plan_params(workspace / layout, Path("params.yaml"), force=False)
    write_params(made, Path("params.yaml"))
    section = load_params(Path("params.yaml")).dataset
    assert isinstance(section, Folder)
    said = section.model_dump()
    assert {key: said[key] for key in EXPECTED[layout]} == {
        key: tuple(value) if key == "value_range" else value
        for key, value in EXPECTED[layout].items()
    }
    assert made.guess.read == len(truth)
    assert same(ingested(Path("params.yaml"), workspace / "out"), truth)


@pytest.mark.parametrize("ending", ["zip", "gztar"])
def test_an_archive_is_read_as_its_folder_is(ending: str, workspace: Path) -> None:
    truth = LAYOUTS["flat"](workspace / "source" / "top")
    archive = Path(shutil.make_archive(str(workspace / "cracks"), ending, workspace / "source"))
    made = plan_params(archive, Path("params.yaml"), force=False)
    write_params(made, Path("params.yaml"))
    assert made.guess.fields["title"] == "cracks"
    assert made.guess.fields["source"] == archive.name
    assert made.guess.fields["images"] == "top/images/{id}.jpg"
    assert same(ingested(Path("params.yaml"), workspace / "out"), truth)


def test_an_archive_without_pairs_leaves_nothing_unpacked(workspace: Path) -> None:
    put(workspace / "source" / "a.jpg", image_of(0))
    archive = Path(shutil.make_archive(str(workspace / "cracks"), "zip", workspace / "source"))
    with pytest.raises(InputError, match="nothing that looks like masks"):
        guess(archive)
    assert not list((workspace / "cache").rglob("*.jpg"))


@pytest.mark.parametrize(
    ("images", "masks", "classes"),
    [
        ("{id}/image.png", "{id}/label.png", ()),
        ("{id}.jpg", "{id}.png", ()),
        ("left/{id}.png", "right/{id}.png", ()),
        ("scan-{id}.png", "seg-{id}.png", ()),
        ("train_images/{id}.png", "train_masks/{id}.png", ()),
        ("train/{id}.jpg", "train_masks/{id}_mask.gif", ()),
        ("JPEGImages/{id}.jpg", "SegmentationClass/{id}.png", ()),
        ("a/b/c/{id}.bmp", "a/b/d/{id}-gt.bmp", ()),
        ("images/{id}.png", "masks/{id}/{class}.png", ("crack", "spall")),
        ("images/{id}.png", "masks/{id}_{class}.png", ("crack", "spall")),
        ("images/{id}.png", "{class}/{id}.png", ("crack", "spall")),
        ("{id}/image.png", "{id}/{class}.png", ("crack", "spall")),
        ("images/{id}.png", "masks/{id}/{part}.png", ("001", "002")),
        ("images/{id}.png", "masks/{id}_{part}.png", ("1", "2")),
        ("images/{id}.tif", "masks/{class}/{id}_{class}.tif", ("EX", "HE")),
    ],
)
def test_a_way_to_name_files_is_found(
    images: str, masks: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    for at in range(8):
        id, mask = f"x{at}", mask_of(at, 3)
        put(tmp_path / images.format(id=id), image_of(at, mask))
        for class_id, name in enumerate(classes, start=1):
            path = tmp_path / masks.format_map({"id": id, "class": name, "part": name})
            put(path, (mask == class_id).astype(np.uint8) * 255)
        if not classes:
            put(tmp_path / masks.format(id=id), (mask > 0).astype(np.uint8) * 255)
    found = guess(tmp_path)
    expected = masks.replace("{class}/", "*/") if masks.count("{class}") > 1 else masks
    assert (found.fields["images"], found.fields["masks"]) == (images, expected)
    assert found.num_pairs == found.read == 8
    if "{class}" in masks:
        assert found.fields["classes"] == ["background", *classes]


def test_images_and_masks_are_told_apart_by_pixels_not_by_name(tmp_path: Path) -> None:
    """DRIVE calls the field of view mask; here even the two folders are called the other way."""
    for at in range(6):
        mask = mask_of(at)
        put(tmp_path / "masks" / f"{at}.png", image_of(at, mask))
        put(tmp_path / "images" / f"{at}.png", mask * 255)
    found = guess(tmp_path)
    assert (found.fields["images"], found.fields["masks"]) == ("masks/{id}.png", "images/{id}.png")


def test_published_splits_are_taken_or_asked_for(tmp_path: Path) -> None:
    """Without masks for test, or without test at all, images are split anew."""
    for split in ("train", "val", "test"):
        for at in range(5):
            mask = mask_of(at)
            put(tmp_path / split / "img" / f"{at}.png", image_of(at, mask))
            if split != "test":
                put(tmp_path / split / "gt" / f"{at}.png", mask * 255)
    found = guess(tmp_path)
    assert found.fields["images"] == "{split}/img/{id}.png"
    assert (found.fields["split"], found.split) == (None, {})
    assert "without test" in asked(found, "split")
    assert "5 images have no mask, such as test/img/0.png" in asked(found, "limits")
    assert found.fields["limits"]["on_bad_pair"] == "skip"


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("all.json", '{"images": [], "annotations": [], "categories": []}', "COCO"),
        ("ann/0.png.json", '{"tags": [], "size": {}, "objects": []}', "Supervisely"),
        ("0.json", '{"version": "5", "shapes": [], "imagePath": "0.png"}', "LabelMe"),
    ],
)
def test_annotations_in_json_are_named_with_the_way_out(
    name: str, keys: str, said: str, tmp_path: Path
) -> None:
    for at in range(3):
        put(tmp_path / "img" / f"{at}.png", image_of(at))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(keys)
    with pytest.raises(
        InputError, match=f"found 3 images, and its annotations are {said}"
    ) as error:
        guess(tmp_path)
    assert "draw each as a mask file" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_described_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        guess(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no files"):
        guess(tmp_path)
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match=r"1 volumes or arrays such as a\.nii\.gz; write their"):
        guess(tmp_path)
    for at in range(4):
        put(tmp_path / f"{at}.jpg", image_of(at))
    with pytest.raises(InputError, match="found 4 images and nothing that looks like masks"):
        guess(tmp_path)
    for at in range(4):
        put(tmp_path / "masks" / f"z{at + 10}.png", mask_of(at) * 255)
    with pytest.raises(InputError, match="names do not go together, such as"):
        guess(tmp_path)


def test_masks_alone_are_not_taken_for_images(tmp_path: Path) -> None:
    for at in range(4):
        put(tmp_path / f"{at}.png", mask_of(at) * 255)
    with pytest.raises(InputError, match="4 images that all look like masks"):
        guess(tmp_path)


def test_pairs_that_cannot_be_read_are_asked_about(tmp_path: Path) -> None:
    LAYOUTS["flat"](tmp_path)
    put(tmp_path / "masks" / "crack03.png", np.zeros((20, 20), np.uint8))
    found = guess(tmp_path)
    assert found.read == 7
    assert "1 of 8 pairs cannot be used and are left out" in asked(found, "limits")
    assert "crack03" in asked(found, "limits")
    assert found.fields["limits"]["on_bad_pair"] == "skip"


def test_masks_a_little_off_are_resized_if_asked(tmp_path: Path) -> None:
    LAYOUTS["flat"](tmp_path)
    for path in (tmp_path / "masks").iterdir():
        mask = np.array(Image.open(path))
        put(path, mask[:-2])
    found = guess(tmp_path)
    assert found.fields["limits"]["size_difference"] == 2
    assert "8 of 8 masks are up to 2 pixels" in asked(found, "limits")


@pytest.mark.parametrize(("kind", "factor"), [(np.uint8, 1), (np.uint16, 40), (np.float32, 0.01)])
def test_bands_beyond_three_are_named(
    kind: type[np.generic], factor: float, workspace: Path
) -> None:
    """Images of five bands, as satellites make them."""
    truth = {str(at): mask_of(at) for at in range(6)}
    for at, (id, mask) in enumerate(truth.items()):
        grey = [image_of(10 * at + band, mask)[..., 0] for band in range(5)]
        path = workspace / "x" / "images" / f"{id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = (np.dstack(grey).astype(float) * factor).astype(kind)
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
        put(workspace / "x" / "masks" / f"{id}.png", mask * 255)
    made = plan_params(workspace / "x", Path("params.yaml"), force=False)
    write_params(made, Path("params.yaml"))
    params = load_params(Path("params.yaml"))
    assert isinstance(params.dataset, Folder)
    assert params.dataset.bands == [1, 2, 3, 4, 5]
    assert params.model.in_channels == 5
    assert "which of the 5 does the network need?" in asked(made.guess, "bands")
    if kind == np.uint8:
        assert params.dataset.value_range is None
    else:
        assert params.dataset.value_range is not None
        for low, high in params.dataset.value_range:  # type: ignore[misc]
            assert 0 <= low < 70 * factor
            assert 150 * factor < high < 260 * factor
    assert same(ingested(Path("params.yaml"), workspace / "out"), truth)


def test_deep_colours_are_read_by_bands(workspace: Path) -> None:
    """A TIFF of 16-bit RGB, of which Pillow drops the lower half of the bits."""
    truth = {str(at): mask_of(at) for at in range(6)}
    for at, (id, mask) in enumerate(truth.items()):
        path = workspace / "x" / "images" / f"{id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image_of(at, mask).astype(np.uint16) * 4, photometric="rgb")
        put(workspace / "x" / "masks" / f"{id}.png", mask * 255)
    made = plan_params(workspace / "x", Path("params.yaml"), force=False)
    write_params(made, Path("params.yaml"))
    assert made.guess.fields["bands"] == [1, 2, 3]
    low, high = made.guess.fields["value_range"]
    assert low < 4 * 60
    assert 4 * 200 < high <= 1024
    assert load_params(Path("params.yaml")).model.in_channels == 3
    assert same(ingested(Path("params.yaml"), workspace / "out"), truth)


def test_objects_that_no_size_keeps_are_asked_about(tmp_path: Path) -> None:
    """Lines a pixel wide on images too low for patches."""
    for at in range(3):
        mask = np.zeros((300, 2400), np.uint8)
        mask[20:280, 5::31] = 1
        put(tmp_path / "images" / f"{at}.jpg", image_of(at, mask))
        put(tmp_path / "masks" / f"{at}.png", mask * 255)
    found = guess(tmp_path)
    assert found.size.patch == 0
    assert "at 512x64, the largest size that is tried, 3 of 3" in asked(found, "augment")


def test_pictures_of_masks_are_no_masks(tmp_path: Path) -> None:
    for at in range(6):
        mask = mask_of(at, 3)
        put(tmp_path / "leftImg8bit" / f"a_{at}_leftImg8bit.png", image_of(at, mask))
        put(tmp_path / "gtFine" / f"a_{at}_gtFine_labelIds.png", mask)
        put(tmp_path / "gtFine" / f"a_{at}_gtFine_color.png", COLOURS[mask])
    found = guess(tmp_path)
    assert found.fields["masks"] == "gtFine/{id}_gtFine_labelIds.png"
    assert found.fields["mask"] == {"values": {0: 0, 1: 1, 2: 2}}
    assert "6 other files: gtFine/a_0_gtFine_color.png" in found.comments["source"]


def test_a_second_opinion_is_asked_about(tmp_path: Path) -> None:
    for at in range(6):
        mask = mask_of(at)
        put(tmp_path / "images" / f"{at}.png", image_of(at, mask))
        put(tmp_path / "1st_manual" / f"{at}.png", mask * 255)
        put(tmp_path / "2nd_manual" / f"{at}.png", mask_of(at + 50) * 255)
    found = guess(tmp_path)
    assert found.fields["masks"] == "1st_manual/{id}.png"
    assert "'2nd_manual/{id}.png' fits the images as well" in asked(found, "masks")


def test_a_table_that_names_groups_is_used(tmp_path: Path) -> None:
    """As CVC-ClinicDB: names are numbers, a table says which video a frame is of."""
    rows = ["frame,video"]
    for at in range(32):
        mask = mask_of(at)
        put(tmp_path / "images" / f"{at}.png", image_of(at, mask, scene=at // 4))
        put(tmp_path / "masks" / f"{at}.png", mask * 255)
        rows.append(f"{at},v{at // 4}")
    found = guess(tmp_path)
    assert found.fields["group"] is None
    assert "images next to each other by name are alike" in asked(found, "group")
    (tmp_path / "videos.csv").write_text("\n".join(rows))
    found = guess(tmp_path)
    assert found.fields["group"] == {"table": "videos.csv", "id": "frame", "column": "video"}
    assert asked(found, "group") == ""
    assert "other files" not in found.comments["source"]


def test_groups_whose_images_are_not_alike_are_asked_about(tmp_path: Path) -> None:
    """Their names decide: leaving out what is called a patient would be the costlier mistake."""
    for word, group in (("area", None), ("Patient", {"pattern": r"^(Patient\d+)_"})):
        for at in range(24):
            mask = mask_of(at)
            put(tmp_path / word / "images" / f"{word}{at // 3}_{at % 3}.png", image_of(at, mask))
            put(tmp_path / word / "masks" / f"{word}{at // 3}_{at % 3}.png", mask * 255)
        found = guess(tmp_path / word)
        assert found.fields["group"] == group
        said = asked(found, "group")
        assert "8 groups" in said
        assert "hardly more alike" in said


def test_images_seen_twice_are_told(tmp_path: Path) -> None:
    LAYOUTS["flat"](tmp_path)
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        copy = tmp_path / kind / f"again.{ending}"
        shutil.copy(tmp_path / kind / f"crack03.{ending}", copy)
    assert "among 9 images are 1 pairs that look equal" in asked(guess(tmp_path), "group")


def test_different_retinas_are_not_taken_for_one(tmp_path: Path) -> None:
    for at in range(20):
        put(tmp_path / "images" / f"{at}.png", retina(at))
        put(tmp_path / "masks" / f"{at}.png", mask_of(at, 2, SIZE, SIZE) * 255)
    assert "look equal" not in asked(guess(tmp_path), "group")


def test_phones_whose_masks_fit_turned_images_are_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for at in range(6):
        mask = mask_of(at)
        put(tmp_path / "images" / f"{at}.jpg", image_of(at, mask), exif=exif, quality=95)
        put(tmp_path / "masks" / f"{at}.png", np.rot90(mask, 2) * 255)
    found = guess(tmp_path)
    assert found.fields["exif"] == "turn"
    assert found.comments["exif"] == "6 of 6 images have an EXIF orientation"


def test_the_split_of_folders_whose_names_hold_it(tmp_path: Path) -> None:
    """As CamVid: train and trainannot, val and valannot, test and testannot."""
    for start, split in enumerate(("train", "val", "test")):
        for at in range(4):
            mask = mask_of(10 * start + at)
            put(tmp_path / split / f"{at}.png", image_of(10 * start + at, mask))
            put(tmp_path / f"{split}annot" / f"{at}.png", mask)
    found = guess(tmp_path)
    assert found.fields["images"] == "{split}/{id}.png"
    assert found.fields["masks"] == "{split}annot/{id}.png"
    assert found.fields["split"] == {"pattern": "^([^/]+)/"}
    assert found.num_pairs == found.read == 12


def test_images_of_a_test_set_without_masks_are_left_aside(tmp_path: Path) -> None:
    """As Carvana: the folder of the test images is many times larger, and has no masks."""
    for at in range(4):
        mask = mask_of(at)
        put(tmp_path / "train" / f"{at}.jpg", image_of(at, mask))
        put(tmp_path / "train_masks" / f"{at}_mask.gif", mask * 255)
    for at in range(30):
        put(tmp_path / "test" / f"{at + 50}.jpg", image_of(at + 50))
    found = guess(tmp_path)
    assert found.fields["images"] == "train/{id}.jpg"
    assert found.fields["limits"]["on_bad_pair"] == "error"
    assert "30 other files: test/50.jpg" in found.comments["source"]


def test_few_images_of_many_have_masks(tmp_path: Path) -> None:
    """As Pascal VOC, whose other images are for other tasks."""
    for at in range(60):
        mask = mask_of(at)
        put(tmp_path / "JPEGImages" / f"{at}.jpg", image_of(at, mask))
        if at < 6:
            put(tmp_path / "SegmentationClass" / f"{at}.png", mask * 255)
    found = guess(tmp_path)
    assert found.num_pairs == 6
    assert "54 images have no mask" in asked(found, "limits")


def test_names_that_no_text_can_hold_do_no_harm(workspace: Path) -> None:
    truth = LAYOUTS["flat"](workspace / "x")
    (workspace / "x" / "two\nlines: {a}.txt").touch()
    with open(bytes(workspace / "x") + b"/latin\xe9.txt", "wb"):
        pass
    made = plan_params(workspace / "x", Path("params.yaml"), force=False)
    write_params(made, Path("params.yaml"))
    assert same(ingested(Path("params.yaml"), workspace / "out"), truth)


def test_a_class_0_that_is_one_of_many_is_no_background(tmp_path: Path) -> None:
    """Street scenes, whose ids begin at 0 with sky; or objects on a background."""
    for name, top in (("streets", 20), ("objects", 60)):
        for at in range(6):
            mask = np.zeros((80, 96), np.uint8)
            mask[top:], mask[top + 10 :, 48:] = 1, 2
            put(tmp_path / name / "images" / f"{at}.png", image_of(at, mask))
            put(tmp_path / name / "masks" / f"{at}.png", mask)
    streets, objects = guess(tmp_path / "streets"), guess(tmp_path / "objects")
    assert streets.fields["background"] is None
    assert streets.fields["classes"] == ["class_0", "class_1", "class_2"]
    assert "covers 25 % of the pixels; is it a class like others?" in asked(streets, "background")
    assert objects.fields["background"] == 0
    assert objects.fields["classes"] == ["background", "class_1", "class_2"]
    assert "covers 75 % of the pixels; is it background?" in asked(objects, "background")
