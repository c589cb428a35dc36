"""What is predicted: all that was named, each once, and a line for what cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from segbench.cli import command_line
from segbench.datasets.image_files import read_image
from segbench.datasets.patterns import files_below
from segbench.delivery import finding
from segbench.delivery import predict as predicting
from segbench.delivery.inputs import Listing, items_of, list_images
from segbench.delivery.targets import targets_of
from segbench.delivery.videos import VIDEOS
from segbench.errors import InputError
from support.videos import damage_frames, write_video


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")


def names_of(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


def taken(listing: Listing) -> tuple[list[str], list[tuple[str, str, int]]]:
    """Names of the items of a listing, and what failed."""
    failed: list[tuple[str, str, int]] = []
    items = items_of(
        *(listing, lambda _: np.zeros((1, 1), np.uint8), 3, ()),
        lambda *fault: failed.append(fault),
    )
    return [item.name for item in items], failed


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["a.png", "b/a.jpg"], ["a", "b/a"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["A.jpg", "a.png"], ["A.jpg", "a.png"]),
        (["a.jpg", "a.png", "a.png.jpg"], ["a.jpg", "a.png", "a.png.jpg"]),
        (["clip.mp4", "clip/000001.png"], ["clip.mp4", "clip/000001"]),
        (["clip.avi", "clip.mp4", "clip.png"], ["clip.avi", "clip.mp4", "clip"]),
        (["a.jpg", "a.png/b.png"], ["a.jpg", "a.png/b"]),  # masks/a.png would be both
        (["a.bmp", "a.jpg/b.png"], ["a.bmp", "a.jpg/b"]),  # overlays/a.jpg
        (["a.jpg", "a.png.mp4"], ["a.jpg", "a.png"]),
    ],
)
def test_results_have_places_of_their_own(names: list[str], targets: list[str]) -> None:
    videos = [name.endswith(VIDEOS) for name in names]
    assert targets_of(names, videos) == targets


def test_results_that_cannot_have_are_refused() -> None:
    names = ["a.jpg", "a.png", "a.jpg.png/b.png"]
    with pytest.raises(InputError, match=r"^a.jpg and a.jpg.png/b.png: their results .* rename"):
        targets_of(names, [False] * 3)


def test_what_cannot_be_an_image_is_listed(tmp_path: Path) -> None:
    images = tmp_path / "images"
    touch(images / "a.png")
    (images / "loop.png").symlink_to("loop.png")
    (images / "nothing.png").symlink_to("none")
    os.mkfifo(images / "pipe.mp4")
    os.rename(images / "a.png", os.fsencode(images) + b"/\xff.png")
    touch(images / "a.png")
    listing = list_images(str(images), tmp_path / "out")
    assert names_of(listing) == ["a.png"]
    assert listing.total == 5
    assert dict(listing.faults) == {
        "loop.png": "gone, or a link to nothing; fetch what it points to",
        "nothing.png": "gone, or a link to nothing; fetch what it points to",
        "pipe.mp4": "a pipe or device, not a file; put the file in its place",
        "\ufffd.png": "its name is not UTF-8; rename it",
    }
    names, failed = taken(listing)
    assert names == ["a.png"]
    assert sorted(name for name, *_ in failed) == sorted(dict(listing.faults))
    with pytest.raises(InputError, match="no such file or folder"):
        list_images("x" * 300, tmp_path / "out")


def test_closed_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read them, whom a test cannot always be."""
    touch(tmp_path / "images/a.png", tmp_path / "images/deep/shut/b.png")
    scandir, access = os.scandir, os.access

    def scan(path: Any) -> Any:
        if Path(os.fspath(path)).name == "shut":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "shut" and access(path, mode)
    )
    for where in ("images", "images/**/*.png"):
        listing = list_images(str(tmp_path / where), tmp_path / "out")
        assert names_of(listing) == ["a.png"]
        assert listing.faults == [
            ("deep/shut/", "a folder that may not be read; let your user read it")
        ]
    with pytest.raises(InputError, match=r"no images or videos \(shut/ is a folder that may not"):
        list_images(str(tmp_path / "images/deep"), tmp_path / "out")
    with pytest.raises(InputError, match=r"shut: a folder that cannot be listed .*; let your user"):
        list(files_below(tmp_path / "images"))


def test_results_are_no_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    touch(images / "a.png", images / "out/masks/a.png", images / "first/masks/a.png")
    touch(images / "other/b.png")
    (images / "other/predict.json").write_text('{"by": "another program"}')
    (images / "first/predict.json").write_text(json.dumps({"weights_sha256": "a"}))
    for where in ("images", "images/**/*.png"):
        listing = list_images(str(tmp_path / where), images / "out")
        assert names_of(listing) == ["a.png", "other/b.png"]
        assert listing.earlier == ["first/masks/a.png"]
        assert set(listing.others) <= {"other/predict.json"}
    with pytest.raises(InputError, match=r"images: all its images lie in .*, where results go"):
        list_images(str(images), images)
    with pytest.raises(InputError, match=r"1 results of earlier predictions, such as masks/a.png"):
        list_images(str(images / "first"), tmp_path / "out")
    assert names_of(list_images(str(images / "first/masks/a.png"), tmp_path / "out")) == ["a.png"]


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    former = list_images(str(tmp_path), tmp_path / "out").files[0]
    status = former.path.stat()
    (tmp_path / "new").write_bytes(b"other")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new").replace(former.path)
    assert former.path.stat().st_mtime_ns == status.st_mtime_ns
    assert list_images(str(tmp_path), tmp_path / "out").files[0].stamp != former.stamp


@pytest.mark.parametrize("inside", [True, False])
def test_wildcards_in_the_names_of_folders(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a command in a folder `run[1]`; what `run[1]` matches as a glob is not meant."""
    touch(tmp_path / "run[1]/deep/a.png", tmp_path / "run[1]/b.png", tmp_path / "run1/c.png")
    listings: list[Listing] = []

    def stop(_source: Any, images: str, out: Path, *_: Any) -> str:
        listings.append(list_images(images, out))
        return ""

    monkeypatch.setattr(predicting, "predict_folder", stop)
    monkeypatch.setattr(finding, "find_model", lambda *_: None)
    monkeypatch.chdir(tmp_path / "run[1]" if inside else tmp_path)
    for images in (
        ("**/*.png", ".") if inside else ("run[[]1]/**/*.png", "run[1]/**/*.png", "run[1]")
    ):
        options = ["predict", "--model", "champion", "--images", images, "--out", "out"]
        result = CliRunner().invoke(command_line(), options, catch_exceptions=False)
        assert result.exit_code == 0
    assert [names_of(one) for one in listings] == [["b.png", "deep/a.png"]] * (2 if inside else 3)
    with pytest.raises(InputError, match=r"has \.\. behind a wildcard"):
        list_images(str(tmp_path / "*/../*.png"), tmp_path / "out")


def test_frames_that_cannot_be_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.avi", 9, "MJPG")
    write_video(tmp_path / "whole.mkv", 9)
    for name in ("damaged.avi", "cut.avi"):
        (tmp_path / name).write_bytes((tmp_path / "whole.avi").read_bytes())
    damage_frames(tmp_path / "damaged.avi", 4, 5)
    for name in ("cut.avi", "cut.mkv"):
        data = (tmp_path / f"whole{name[3:]}").read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 3])
    names, failed = taken(list_images(str(tmp_path), tmp_path / "out"))
    way_out = "copy the video anew, or convert it to H.264 in MP4"
    kept = {name: [int(one[-6:]) for one in names if one.startswith(name)] for name, *_ in failed}
    assert kept.keys() == {"cut.avi", "cut.mkv", "damaged.avi"}
    assert kept["damaged.avi"] == [1, 2, 3, 6, 7, 8, 9]
    for name, reason, number in failed:
        if name == "damaged.avi":
            assert (reason, number) == (f"frames 4 to 5 cannot be decoded; {way_out}", 2)
        else:
            last = kept[name][-1]
            assert kept[name] == [*range(1, last + 1)]
            assert 0 < last < 8
            assert (reason, number) == (
                f"frames {last + 1} to 9 cannot be decoded; {way_out}",
                9 - last,
            )
    assert sum(name.startswith("whole") for name in names) == 18


def test_the_decoder_says_nothing_itself(tmp_path: Path) -> None:
    """In a process of its own: ffmpeg learns once how much it may say."""
    write_video(tmp_path / "a.avi", 9, "MJPG")
    damage_frames(tmp_path / "a.avi", 4)
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    code = (
        "import sys; from pathlib import Path; from segbench.delivery.inputs import *\n"
        "found = list_images(sys.argv[1], Path('out'))\n"
        "print(len([*items_of(found, None, 3, (), lambda *_: None)]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("8\n", "")


@pytest.mark.filterwarnings("ignore")  # of Pillow, of tags
def test_damaged_images_of_any_format(tmp_path: Path) -> None:
    """Whatever a decoder raises is one line."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8))
    for name, options in (
        *(("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("AVIF", {}), ("ICNS", {})),
        *(("PNG", {}), ("WEBP", {}), ("JPEG2000", {}), ("GIF", {})),
    ):
        path = tmp_path / "image"
        image.save(path, name, **options)
        whole = path.read_bytes()
        refused = 0
        for _ in range(60):
            data = bytearray(whole[: rng.integers(8, len(whole))])
            for at in rng.integers(0, min(len(data), 400), 4):
                data[at] = rng.integers(256)
            path.write_bytes(data)
            try:
                read_image(path, 1.0, None)
            except InputError:
                refused += 1
        assert refused, name
