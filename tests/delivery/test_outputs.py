"""Results of an image are its own: of this model, of where it lies, of the file as it is now."""

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.delivery import predict as predicting
from segbench.delivery.finding import Source
from segbench.delivery.made import WRITTEN
from segbench.delivery.outputs import Wanted
from segbench.delivery.predict import predict_folder
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.exports.formats import DataFormat
from segbench.exports.masks import MaskRule
from segbench.images import Pixels
from segbench.params.hardware import AUTOMATIC
from support.videos import damage_frames, write_video

MASKS = Wanted(overlays=False, probabilities=False)
ALL = Wanted(overlays=True, probabilities=True)
SOURCE = Source(
    name="mine-fold0-seed1",
    files={},
    sha256="a" * 64,
    classes=("background", "polyp"),
    colours=("#000000", "#ff0000"),
    background=0,
    channels=3,
    height=32,
    width=32,
    patches=None,
    rule=MaskRule(0.5, 0, False, False),
    data=DataFormat.of({}, 2),
)


@pytest.fixture(autouse=True)
def brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the network's place: foreground is what is bright."""

    def forward(images: Pixels) -> torch.Tensor:
        return torch.from_numpy(images[..., 0].astype(np.float32))[:, None] - 127.5

    monkeypatch.setattr(predicting, "open_model", lambda *_: (forward, "by brightness"))


def draw(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 50, 3), level, np.uint8)).save(path)


def run(images: Path, out: Path, wanted: Wanted = MASKS, fresh: bool = False) -> str:
    return predict_folder(SOURCE, str(images), out, resolve(AUTOMATIC), 4, wanted, fresh=fresh)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def foreground(path: Path) -> float:
    return float((np.asarray(Image.open(path)) > 0).mean())


def test_images_of_another_folder_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for day, level in (("day1", 0), ("day2", 255)):
        draw(tmp_path / day / "1.bmp", level)
        os.utime(tmp_path / day / "1.bmp", (1, 1))
    draw(tmp_path / "day1/only.bmp", 255)
    run(tmp_path / "day1", out, ALL)
    for where in ("day2", "day1/*.bmp", "day1/1.bmp"):
        with pytest.raises(InputError) as caught:
            run(tmp_path / where, out)
        assert str(caught.value) == (
            f"{out}: holds the masks of {tmp_path}/day1, and these images are {tmp_path}/{where}; "
            "name another folder, or replace them all by --fresh"
        )
    assert foreground(out / "masks/1.png") == 0
    (tmp_path / "today").symlink_to("day1")
    assert "2 were done already" in run(tmp_path / "today", out)
    (out / "masks/mine.png").write_bytes(b"of another program")
    assert run(tmp_path / "day2", out, fresh=True).startswith("1 images")
    assert foreground(out / "masks/1.png") == 1
    left = sorted(one.relative_to(out).as_posix() for one in out.rglob("*.*g"))
    assert left == ["masks/1.png", "masks/mine.png"]


def test_rows_are_of_images_as_they_are_now(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for name in ("a.png", "gone.png", "torn.png", "new.jpg"):
        draw(images / name, 255)
    run(images, out)
    (images / "gone.png").unlink()
    (images / "torn.png").write_bytes((images / "torn.png").read_bytes()[:60])
    draw(images / "new.png", 0)  # beside new.jpg: both keep their endings from now on
    with pytest.raises(InputError) as caught:
        run(images, out)
    assert str(caught.value).startswith("1 of 4 images could not be predicted")
    assert "; 2 images in " in str(caught.value)
    assert "; 1 were done already; 2 earlier results are left out" in str(caught.value)
    assert [(row["image"], row["mask"]) for row in rows(out / "images.csv")] == [
        ("a.png", "masks/a.png"),
        ("new.jpg", "masks/new.jpg.png"),
        ("new.png", "masks/new.png.png"),
    ]
    assert [row["image"] for row in rows(out / "failures.csv")] == ["torn.png"]
    draw(images / "torn.png", 0)
    assert run(images, out).startswith("1 images")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_others_made_is_not_overwritten(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png", 0)
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine") if "." in name else (out / name).mkdir()
    for fresh in (False, True):
        with pytest.raises(InputError, match=rf"out: has {name}, which 'segbench predict' did not"):
            run(tmp_path / "images", out, fresh=fresh)
    assert [one.name for one in out.iterdir()] == [name]


def test_a_folder_of_an_earlier_version(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png", 0)
    out = tmp_path / "out"
    run(tmp_path / "images", out)
    said = json.loads((out / "predict.json").read_text())
    del said["images"]
    (out / "predict.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"predict.json: damaged, or of an earlier version; name"):
        run(tmp_path / "images", out)
    assert run(tmp_path / "images", out, fresh=True).startswith("1 images")


def test_earlier_results_are_said_to_be_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    run(tmp_path, tmp_path / "first")
    said = run(tmp_path, tmp_path / "second")
    assert said.startswith("1 images in ")
    assert "1 images are results of earlier predictions and left out (first/masks/a.png)" in said


def test_one_odd_file_does_not_end_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    longest, longer = "y" * 251 + ".png", "x" * 252 + ".im"  # masks of which have one byte more
    for name in ("a.png", "shut.png", longest):
        draw(images / name, 255)
    (images / longer).write_bytes((images / "a.png").read_bytes())
    os.rename(images / "a.png", os.fsencode(images) + b"/\xff.png")
    draw(images / "a.png", 255)
    (images / "loop.png").symlink_to("loop.png")
    write_video(images / "clip.avi", 5, "MJPG")
    damage_frames(images / "clip.avi", 2, 3)
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "shut.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError) as caught:
        run(images, out, ALL)
    assert str(caught.value).startswith("6 of 11 images could not be predicted")
    assert "; 5 images in " in str(caught.value)
    reasons = {row["image"]: row["reason"] for row in rows(out / "failures.csv")}
    assert reasons.keys() == {"clip.avi", "loop.png", longer, "shut.png", "\ufffd.png"}
    assert reasons["clip.avi"].startswith("frames 2 to 3 cannot be decoded")
    assert reasons["shut.png"].startswith("shut.png: cannot be read (Permission denied); let your")
    assert reasons[longer].endswith("too long a name for a file of results; shorten the image's")
    assert [row["image"] for row in rows(out / "images.csv")] == [
        *("a.png", "clip.avi/000001", "clip.avi/000004", "clip.avi/000005", longest)
    ]
    assert not [*out.rglob(".partial-*")]
