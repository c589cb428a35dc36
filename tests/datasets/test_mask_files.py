"""Several mask files of one image: a file for each class, a file for each object."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from segbench.datasets.canonical import read_info, read_samples, read_table
from segbench.datasets.doubts import reading_doubts
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import Pixels, read_pixels
from segbench.params.datasets import Folder
from support.own_folder import HEIGHT, WIDTH, noise, own

THRESHOLD = {"threshold": 128, "invert": False}
CLASSES = ["background", "crack", "spall"]


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def box(top: int, left: int, height: int = 6, width: int = 6, value: int = 255) -> Pixels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = value
    return mask


def images(source: Path, *ids: str) -> None:
    for at, id in enumerate(ids):
        put(source / "images" / f"{id}.png", noise(at))


def masks_of(params: Folder, folder: Path) -> tuple[dict[str, Pixels], str]:
    """The canonical masks by id, and what download says."""
    said = download(params, folder)
    samples = read_samples(folder)
    paths = zip(samples["id"], samples["mask"], strict=True)
    return {id: read_pixels(folder / path) for id, path in paths}, said


PATTERNS = ("masks/{class}/{id}.png", "{id}/masks/{class}.png", "masks/{id}_{class}.png")


def by_class(source: Path, pattern: str = PATTERNS[0], **changes: object) -> Folder:
    fields = {"images": "images/{id}.png", "masks": pattern, "classes": CLASSES, "mask": THRESHOLD}
    return own(source, **{**fields, **changes})


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_mask_file_for_each_class(pattern: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "wall_1", "wall_2")
    for id in ("wall_1", "wall_2"):
        for name, mask in {"crack": box(1, 1), "spall": box(10, 10)}.items():
            put(source / pattern.replace("{id}", id).replace("{class}", name), mask)
    masks, said = masks_of(by_class(source, pattern), tmp_path / "out")
    expected = box(1, 1, value=1) + box(10, 10, value=2)
    assert list(masks) == ["wall_1", "wall_2"]
    assert all((mask == expected).all() for mask in masks.values())
    assert said.startswith("2 images with masks"), "nothing else is said"


def test_a_pixel_in_the_files_of_two_classes(tmp_path: Path) -> None:
    """The last of them in `dataset.classes` has it, whatever the files' order; it is counted."""
    source = tmp_path / "source"
    images(source, "a", "b")
    for id, left in (("a", 4), ("b", 20)):
        put(source / "masks" / "spall" / f"{id}.png", box(1, 1))
        put(source / "masks" / "crack" / f"{id}.png", box(1, left))
    classes = ["background", "spall", "crack"]
    masks, said = masks_of(by_class(source, classes=classes), tmp_path / "out")
    assert (masks["a"][1:7, 1:4] == 1).all()
    assert (masks["a"][1:7, 4:10] == 2).all()
    doubt = (
        "18 pixels in 1 of 2 images belong to several classes by their mask files (most in a.png: "
        "18); each counts as the last of these in dataset.classes"
    )
    assert f"WARNING: {doubt}\n" in said
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["contested"]) == [18, 0]
    said_again = reading_doubts(measures, read_info(tmp_path / "out"))
    assert said_again == [doubt], "and so it is in the audit"


def test_a_class_without_file_is_not_in_the_image(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "a", "b", "c")
    for id in "abc":
        put(source / "masks" / "crack" / f"{id}.png", box(1, 1))
    put(source / "masks" / "spall" / "b.png", box(10, 10))
    masks, said = masks_of(by_class(source), tmp_path / "out")
    assert [np.unique(mask).tolist() for mask in masks.values()] == [[0, 1], [0, 1, 2], [0, 1]]
    assert "taken for images without that class: spall 2 (of 3)\n" in said


def test_a_file_of_the_background(tmp_path: Path) -> None:
    """It adds nothing to what is background anyway, but the image has a mask."""
    source = tmp_path / "source"
    images(source, "a", "b")
    put(source / "masks" / "background" / "a.png", 255 - box(1, 1))
    put(source / "masks" / "crack" / "b.png", box(1, 1))
    put(source / "masks" / "background" / "b.png", box(1, 1))
    classes = ["background", "crack"]
    masks, said = masks_of(by_class(source, classes=classes), tmp_path / "out")
    assert not masks["a"].any()
    assert (masks["b"] == box(1, 1, value=1)).all()
    assert "without that class: crack 1 (of 2)" in said


def test_an_image_without_any_mask_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "a", "b")
    for name in ("crack", "spall"):
        put(source / "masks" / name / "a.png", box(1, 1 if name == "crack" else 10))
        put(source / "masks" / name / "z.png", box(1, 1))
    with pytest.raises(InputError) as caught:
        download(by_class(source), tmp_path / "out")
    assert "b.png: image without mask" in str(caught.value)
    assert "masks/crack/z.png: mask without image" in str(caught.value)
    assert str(caught.value).startswith("2 of 3 pairs")


@pytest.mark.parametrize("name", ["rust", "Crack"])
def test_a_class_that_is_not_defined(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "a")
    for there in ("crack", "spall", name):
        put(source / "masks" / there / "a.png", box(1, 1))
    found = ", ".join(sorted(["crack", "spall", name]))
    said = (
        f"{{class}} in 'masks/{{class}}/{{id}}.png' finds {found}, of which '{name}' (1 files, as "
        f"masks/{name}/a.png) is none of dataset.classes (background, crack, spall)"
    )
    with pytest.raises(InputError, match=re.escape(said)):
        download(by_class(source), tmp_path / "out")


def test_names_of_classes_that_end_alike(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "wall_1")
    put(source / "masks" / "wall_1_crack.png", box(1, 1))
    put(source / "masks" / "wall_1_deep_crack.png", box(10, 10))
    params = by_class(source, PATTERNS[2], classes=["background", "crack", "deep_crack"])
    masks, _ = masks_of(params, tmp_path / "out")
    assert (masks["wall_1"] == box(1, 1, value=1) + box(10, 10, value=2)).all()


def test_images_and_masks_of_classes_in_one_folder(tmp_path: Path) -> None:
    """`wall_1.png` is no mask of a class `1`."""
    source = tmp_path / "source"
    put(source / "wall_1.png", noise(0))
    put(source / "wall_1_crack.png", box(1, 1))
    put(source / "wall_1_spall.png", box(10, 10))
    params = by_class(source, "{id}_{class}.png", images="{id}.png")
    masks, _ = masks_of(params, tmp_path / "out")
    assert list(masks) == ["wall_1"]
    assert (tmp_path / "out" / "unmatched.csv").read_text() == "file\n"


def test_masks_of_classes_by_values(tmp_path: Path) -> None:
    """255 is ignored, but where another file knows the class."""
    source = tmp_path / "source"
    images(source, "a")
    put(source / "masks" / "crack" / "a.png", box(1, 1, value=1) + box(10, 10, value=9))
    put(source / "masks" / "spall" / "a.png", box(10, 10, width=3, value=1))
    mask = {"values": {0: 0, 1: 1, 9: 255}}
    masks, _ = masks_of(by_class(source, mask=mask), tmp_path / "out")
    expected = box(1, 1, value=1) + box(10, 10, value=255)
    expected[10:16, 10:13] = 2
    assert (masks["a"] == expected).all()
    with pytest.raises(ValidationError, match=r"only 0, 1 .that class. and 255 may be among them"):
        by_class(source, mask={"values": {0: 0, 1: 2}})


def test_classes_belong_to_masks_alone(tmp_path: Path) -> None:
    images(tmp_path, "a")
    with pytest.raises(InputError, match=r"names \{class\}, which dataset.masks alone may"):
        download(by_class(tmp_path, images="images/{class}/{id}.png"), tmp_path / "out")


def by_part(source: Path, **changes: object) -> Folder:
    fields = {"images": "images/{id}.png", "masks": "masks/{id}/{part}.png", "mask": THRESHOLD}
    return own(source, **{**fields, **changes})


def test_a_folder_of_one_mask_for_each_object(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "cell1", "cell2")
    for id in ("cell1", "cell2"):
        for at in range(4):
            put(source / "masks" / id / f"{at:04x}.png", box(1, 7 * at, width=5 + (id == "cell2")))
    masks, said = masks_of(by_part(source), tmp_path / "out")
    expected = sum(box(1, 7 * at, width=5, value=1) for at in range(4))
    assert (masks["cell1"] == expected).all()
    measures = read_table(tmp_path / "out" / "measures.csv")
    assert list(measures["components"]) == [4, 4]
    assert said.startswith("2 images with masks")


def test_objects_of_several_classes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "a")
    put(source / "masks" / "a" / "1.png", box(1, 1, value=2))
    put(source / "masks" / "a" / "2.png", box(1, 4, value=1))
    put(source / "masks" / "a" / "3.png", box(10, 4, value=1))
    values = {"values": {0: 0, 1: 1, 2: 2}}
    masks, said = masks_of(by_part(source, classes=CLASSES, mask=values), tmp_path / "out")
    expected = np.maximum(box(1, 1, value=2), box(1, 4, value=1)) + box(10, 4, value=1)
    assert (masks["a"] == expected).all()
    assert "WARNING: 18 pixels in 1 of 1 images belong to several classes" in said


def test_masks_of_one_image_differ_in_size(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images(source, "a")
    put(source / "masks" / "a" / "1.png", box(1, 1))
    put(source / "masks" / "a" / "2.png", box(1, 1)[:-1])
    with pytest.raises(InputError, match=r"2.png: is 30x19 but 1.png, .* is 30x20; masks of one"):
        download(by_part(source), tmp_path / "out")
    put(source / "masks" / "a" / "2.tif", box(1, 1))
    params = by_part(source, masks="masks/{id}/{part}.*")
    with pytest.raises(InputError, match=r"2.tif: has the id 'a/2' of .*2.png; ids must be unique"):
        download(params, tmp_path / "out")


def of_objects(source: Path, instances: object = "any", **changes: object) -> Folder:
    fields = {"images": "images/{id}.*", "masks": "masks/{id}.*"}
    return own(source, **{**fields, "mask": {"instances": instances}, **changes})


OBJECTS = box(1, 1, value=1) + box(10, 10, value=2)


def in_colours(objects: np.ndarray) -> np.ndarray:
    """Objects 1, 2, 3 in colours of their own on black."""
    return np.array([(0, 0, 0), (1, 0, 0), (0, 0, 200), (9, 9, 9)], np.uint8)[objects]


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", OBJECTS),
        ("a.png", OBJECTS.astype(np.uint16) * 300),
        ("a.tif", OBJECTS.astype(np.int32) * 70_000),
        ("a.tif", OBJECTS.astype(np.float32) * 256),
        ("a.png", in_colours(OBJECTS)),
    ],
    ids=["8 bits", "16 bits", "32 bits", "whole floats", "colours"],
)
def test_every_instance_is_foreground(name: str, pixels: np.ndarray, tmp_path: Path) -> None:
    images(tmp_path / "source", "a")
    put(tmp_path / "source" / "masks" / name, pixels)
    masks, _ = masks_of(of_objects(tmp_path / "source"), tmp_path / "out")
    assert (masks["a"] == (OBJECTS > 0)).all()


def test_instances_of_a_palette(tmp_path: Path) -> None:
    """By index, whatever colours a file gives them, if the background is black in it."""
    source = tmp_path / "source"
    images(source, "a", "b")
    (source / "masks").mkdir()
    for id, levels in (
        ("a", [0, 0, 0, 255, 0, 0, 0, 255, 0]),
        ("b", [0, 0, 0, 0, 0, 255, 9, 9, 9]),
    ):
        image = Image.fromarray(OBJECTS).convert("P")
        image.putpalette(levels)
        image.save(source / "masks" / f"{id}.png")
    masks, _ = masks_of(of_objects(source), tmp_path / "out")
    assert all((mask == (OBJECTS > 0)).all() for mask in masks.values())
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    image.save(source / "masks" / "b.png")
    with pytest.raises(InputError, match="shows the index 0 as #ffffff and 1 as black, so that"):
        download(of_objects(source), tmp_path / "again")


TABLE = {"table": "objects.csv", "id": "image", "instance": "label", "class": "category"}


def with_table(source: Path, rows: str) -> Folder:
    source.mkdir(exist_ok=True)
    (source / "objects.csv").write_text("image,label,area,category\n" + rows)
    return of_objects(source, TABLE, classes=CLASSES)


def test_classes_of_instances_by_a_table(tmp_path: Path) -> None:
    """By name or id of the class, and by number or colour of the instance."""
    source = tmp_path / "source"
    images(source, "a", "b c")
    objects = OBJECTS + box(1, 20, value=3)
    put(source / "masks" / "a.png", objects.astype(np.uint16) * 300)
    put(source / "masks" / "b c.png", in_colours(objects))
    rows = "a,300.0,36,spall\na,600,36,1\na,900,36,255\na,1200,0,crack\n"
    rows += "b c,#010000,36,2\nb c,#0000C8,36,crack\nb c,#090909,36,255\n"
    masks, said = masks_of(with_table(source, rows), tmp_path / "out")
    expected = np.array([0, 2, 1, 255], np.uint8)[objects]
    assert len(masks) == 2
    assert all((mask == expected).all() for mask in masks.values())
    assert "WARNING" not in said, "the table has its use"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,1,9,spall\n", "objects.csv has no row for its instances 2 (id 'a'); add them"),
        ("a,1,9,crack\na,2,9,rust\n", "line 3: 'rust' is no class; write one of background, crack"),
        ("a,one,9,crack\n", "line 2: 'one' is no instance; write its number, or its colour"),
        ("a,1,9,crack\na,1,9,spall\n", "line 3: gives the instance 1 of 'a' another class"),
    ],
)
def test_a_table_that_lacks_something(rows: str, said: str, tmp_path: Path) -> None:
    images(tmp_path, "a")
    put(tmp_path / "masks" / "a.png", OBJECTS)
    with pytest.raises(InputError, match=re.escape(said)):
        download(with_table(tmp_path, rows), tmp_path / "out")


def test_masks_that_cannot_be_of_instances(tmp_path: Path) -> None:
    images(tmp_path, "a")
    for name, pixels, said in (
        ("a.jpg", OBJECTS, "a JPEG changes the numbers of instances"),
        ("a.tif", OBJECTS.astype(np.float32) / 2, "holds values that are no whole numbers"),
        ("a.tif", -OBJECTS.astype(np.int32), "holds the instance -2, which is below 0"),
    ):
        put(tmp_path / "masks" / name, pixels)
        with pytest.raises(InputError, match=said):
            download(of_objects(tmp_path), tmp_path / "out")
        (tmp_path / "masks" / name).unlink()


def test_a_table_of_instances_in_params() -> None:
    params = of_objects(Path(), TABLE)
    assert params.model_dump(mode="json")["mask"] == {"instances": TABLE}
    with pytest.raises(ValidationError, match="must be any, or a table with id, instance"):
        of_objects(Path(), "all")
    with pytest.raises(ValidationError, match="says the class of all objects in a file"):
        of_objects(Path(), TABLE, masks="{class}/{id}.png")
