"""Which files belong together: every file is used, named or counted."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from segbench.datasets.canonical import read_samples, read_table
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.images import read_pixels
from segbench.params import load_params
from segbench.params.augment import Augment
from segbench.params.report import Report
from segbench.params.split import Split
from segbench.splits.split import SplitPaths, split
from support.own_folder import TRUTH, make_source, noise, own
from support.params import ROOT, read_params


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", ("p1_a", "p1_b", "p2_a"))


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def split_of(folder: Path, **changes: object) -> str:
    fields = {
        **{"by": "random", "stratify": False, "num_folds": 1, "val_share": 0.3},
        **{"test_share": 0.3, "seed": 0, "sticky": False, "on_leak": "error"},
        **{"near_duplicate": 0.75, "merge_duplicates": False},
    }
    names = ("split.csv", "scores.json", "audit.html", "pictures")
    paths = SplitPaths(*(folder / name for name in names))
    report = Report(pictures="auto", num_samples=2)
    size = Augment.model_validate(read_params()["augment"])
    return split(folder / "out", Split.model_validate({**fields, **changes}), report, size, paths)


def test_files_that_fit_no_pattern_are_counted_and_shown(source: Path, tmp_path: Path) -> None:
    """Images, masks, tables, archives: whatever lies there and is not read."""
    put(source / "images" / "deep" / "c.png", noise(7))
    put(source / "masks" / "c.png", TRUTH * 255)
    (source / "list.csv").write_text("id,wall\np1_a,1\np1_b,1\np2_a,2\n")
    (source / "more.zip").write_bytes(b"PK")
    label = {"table": "list.csv", "id": "id", "column": "wall"}
    said = download(own(source, group=label), tmp_path / "out")
    warning = (
        "3 files below dataset.source fit neither dataset.images nor dataset.masks and are not "
        "read: images/deep/c.png, masks/c.png, more.zip"
    )
    assert f"WARNING: {warning}\n" in said
    assert warning in split_of(tmp_path, on_leak="warn")
    assert warning in (tmp_path / "audit.html").read_text()


def test_nothing_is_said_where_every_file_has_its_use(source: Path, tmp_path: Path) -> None:
    assert "WARNING" not in download(own(source), tmp_path / "out")
    assert (tmp_path / "out" / "unmatched.csv").read_text() == "file\n"


def test_an_ending_in_capitals_is_the_same_ending(source: Path, tmp_path: Path) -> None:
    (source / "images" / "p1_b.png").rename(source / "images" / "p1_b.PNG")
    (source / "masks" / "p1_b_mask.png").rename(source / "masks" / "p1_b_mask.PNG")
    params = own(source, images="images/{id}.png", masks="masks/{id}_mask.png")
    said = download(params, tmp_path / "out")
    assert said.startswith("3 images with masks")


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    for folder, form in (("images", "NFC"), ("masks", "NFD")):
        name = unicodedata.normalize(form, "Größe" + ("_mask" if folder == "masks" else ""))
        pixels = TRUTH * 255 if folder == "masks" else noise(0)
        put(tmp_path / "source" / folder / f"{name}.png", pixels)
    assert download(own(tmp_path / "source"), tmp_path / "out").startswith("1 images")


def test_files_without_their_other_are_left_out_where_one_says_so(
    source: Path, tmp_path: Path
) -> None:
    (source / "masks" / "p1_a_mask.png").unlink()
    (source / "images" / "p2_a.png").unlink()
    said = download(own(source, {"on_bad_pair": "skip"}), tmp_path / "out")
    assert said.startswith("1 images with masks of mine, 2 left out")
    reasons = "".join(pd.read_csv(tmp_path / "out" / "skipped.csv")["reason"])
    assert "p1_a.png: image without mask" in reasons
    assert "p2_a_mask.png: mask without image" in reasons


def test_all_bad_pairs_are_named_at_once(source: Path, tmp_path: Path) -> None:
    for name in ("p1_a", "p1_b"):
        put(source / "masks" / f"{name}_mask.png", np.rot90(TRUTH) * 255)
    (source / "images" / "p2_a.png").unlink()
    with pytest.raises(InputError) as caught:
        download(own(source), tmp_path / "out")
    said = str(caught.value)
    assert said.startswith("3 of 3 pairs cannot be used: ")
    assert "p1_a.png: its mask is 20x30 but the image is 30x20, " in said
    assert "p1_b.png: its mask is 20x30 but the image is 30x20; " in said
    assert "p2_a_mask.png: mask without image" in said
    assert said.count("size_difference") == 1
    # A larger limit would pair an image with the mask of another.
    assert "raise it" not in said
    assert said.endswith("leave them out by dataset.limits.on_bad_pair: skip")
    assert "\n" not in said


def test_patterns_that_match_nothing_say_what_is_there(source: Path, tmp_path: Path) -> None:
    (source / "top").mkdir()
    for name in ("images", "masks"):
        (source / name).rename(source / "top" / name)
    with pytest.raises(InputError) as caught:
        download(own(source), tmp_path / "out")
    assert "there are top/images/p1_a.png, top/masks/p1_a_mask.png and 4 more" in str(caught.value)
    assert str(caught.value).endswith("put **/ in front of the patterns")
    params = own(source, images="**/images/{id}.*", masks="**/Masks/{id}.*")
    with pytest.raises(InputError, match=r"no file matches '\*\*/Masks/\{id\}\.\*'; .* there are"):
        download(params, tmp_path / "out")


def test_a_home_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download(own(Path("~/source")), tmp_path / "out").startswith("3 images")


def test_a_table_whose_rows_end_in_a_comma(source: Path, tmp_path: Path) -> None:
    (source / "list.csv").write_text("id,wall\np1_a,1,\np1_b,1,\np2_a,2,\n")
    label = {"table": "list.csv", "id": "id", "column": "wall"}
    download(own(source, group=label), tmp_path / "out")
    assert list(read_samples(tmp_path / "out")["group"]) == ["1", "1", "2"]


def test_a_table_with_more_values_than_columns(source: Path, tmp_path: Path) -> None:
    (source / "list.csv").write_text("id,wall\np1_a,1,x\np1_b,1,y\np2_a,2,z\n")
    label = {"table": "list.csv", "id": "id", "column": "wall"}
    with pytest.raises(InputError, match=r"more values in a row than the 2 columns"):
        download(own(source, group=label), tmp_path / "out")


def test_a_folder_for_each_patient_with_equal_file_names(tmp_path: Path) -> None:
    parts = {"train": ("p1", "p2"), "val": ("p3",), "test": ("p4",)}
    for at, (part, patient) in enumerate((a, b) for a, names in parts.items() for b in names):
        for slice_ in ("01", "02"):
            folder = tmp_path / "source" / part / patient
            put(folder / "images" / f"{slice_}.png", noise(10 * at + int(slice_)))
            put(folder / "masks" / f"{slice_}.png", TRUTH * 255)
    params = own(
        tmp_path / "source",
        images="{split}/{patient}/images/{id}.png",
        masks="{split}/{patient}/masks/{id}.png",
        group={"pattern": "^[^/]+/([^/]+)/"},
        split={"pattern": "^([^/]+)/"},
    )
    download(params, tmp_path / "out")
    samples = read_samples(tmp_path / "out").set_index("id")
    assert len(samples) == 8
    assert samples.loc["train_p1_01", "group"] == "p1"
    assert samples.groupby("split").size().to_dict() == {"test": 2, "train": 4, "val": 2}
    shown = read_pixels(tmp_path / "out" / samples.loc["val_p3_02", "image"])
    assert (shown == noise(22)).all()


def test_names_of_splits(tmp_path: Path) -> None:
    names = {
        **dict.fromkeys(("train", "Training"), "train"),
        **dict.fromkeys(("val", "valid", "validation", "DEV"), "val"),
        **dict.fromkeys(("Test", "testing"), "test"),
    }
    for at, name in enumerate(names):
        put(tmp_path / "source" / name / f"{at}.png", noise(at))
        put(tmp_path / "source" / name / f"{at}_mask.png", TRUTH * 255)
    patterns = {"images": "{split}/{id}.png", "masks": "{split}/{id}_mask.png"}
    params = own(tmp_path / "source", split={"pattern": "^([^/]+)/"}, **patterns)
    download(params, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert dict(zip(samples["id"].str[:-2], samples["split"], strict=True)) == names
    (tmp_path / "source" / "DEV").rename(tmp_path / "source" / "holdout")
    with pytest.raises(InputError, match=r"'holdout' for the id 'holdout/5'; .* train, tr"):
        download(params, tmp_path / "again")


def test_equal_images_with_different_masks(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", "abcdefgh")
    put(source / "images" / "b.png", noise(0))
    other = TRUTH * 255
    other[5, 5:15] = 0
    put(source / "masks" / "b_mask.png", other)
    download(own(source), tmp_path / "out")
    said = split_of(tmp_path, on_leak="warn")
    share = 100 * (1 - 10 / TRUTH.size)
    assert f"1 pair of equal images has different masks: a and b ({share:.1f} % alike)" in said


def test_the_way_out_of_a_leak_is_accepted(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", "abcdefgh")
    for name in "bcde":
        put(source / "images" / f"{name}.png", noise(0))
    download(own(source), tmp_path / "out")
    with pytest.raises(InputError, match=r"set split.by: group, and .*merge_duplicates: true"):
        split_of(tmp_path)
    said = split_of(tmp_path, by="group", merge_duplicates=True)
    assert "the split leaks" not in said


def test_what_is_not_read_stays_text(source: Path, tmp_path: Path) -> None:
    (source / "NA").write_text("")
    download(own(source), tmp_path / "out")
    assert list(read_table(tmp_path / "out" / "unmatched.csv")["file"]) == ["NA"]


@pytest.mark.parametrize(
    ("section", "value", "said"),
    [
        ("mask", {"threshold": 128}, "dataset.mask.invert: field required"),
        ("mask", {"values": {0: 300}}, "dataset.mask.values.0: input should be less than"),
        (
            "mask",
            {"limit": 128},
            "dataset.mask: needs threshold, alpha, values, colours or instances",
        ),
        ("mask", None, "dataset.mask: needs threshold, alpha, values, colours or instances"),
        ("group", {"table": "a.csv", "id": "id"}, "dataset.group.column: field required"),
        ("group", {"regex": "a"}, "dataset.group: needs a pattern for the id, or table, id and"),
    ],
)
def test_one_problem_of_a_section_of_several_kinds(
    section: str, value: object, said: str, tmp_path: Path
) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "recipes" / "flood-vgg19.yaml").read_text())
    params["dataset"][section] = value
    with open(tmp_path / "params.yaml", "w") as file:
        yaml.dump(params, file)
    with pytest.raises(InputError) as caught:
        load_params(tmp_path / "params.yaml")
    assert f"params.yaml: {said}" in str(caught.value)
