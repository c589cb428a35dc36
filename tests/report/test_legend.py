"""The same images of every run, with a legend of the classes that are seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.report.legend import with_legend
from segbench.report.predictions import FIXED, PredictedSplit, fixed_samples, write_fixed_samples

CLASSES = ["background", "polyp", "instrument", "stool"]
COLOURS = ["#000000", "#00ff00", "#ff8000", "#0000ff"]
RGB = {"polyp": (0, 255, 0), "instrument": (255, 128, 0), "stool": (0, 0, 255)}


def named_below(picture: np.ndarray, height: int) -> set[str]:
    """Which classes the legend has a square of."""
    return {
        name
        for name, colour in RGB.items()
        if (picture[height:] == colour).all(axis=-1).sum() > 100
    }


def test_every_run_shows_the_same_images_under_the_same_names(tmp_path: Path) -> None:
    """In whatever order the split lists them, and whatever a run predicts."""
    ids = [f"image_{at:02d}" for at in range(10)]
    truth = np.zeros((64, 64), np.uint8)
    truth[:32] = 1

    def write(folder: Path, listed: list[str], predicted: int) -> dict[str, np.ndarray]:
        def place(name: str) -> Path:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

        split = PredictedSplit(
            listed,
            lambda index: np.full((64, 64, 3), 10 * int(listed[index][-2:]), np.uint8),
            lambda index: truth,
            lambda index: np.where(truth == 1, predicted, 0).astype(np.uint8),
            CLASSES,
            COLOURS,
            0,
        )
        write_fixed_samples(place, split)
        files = sorted((folder / "images").iterdir())
        return {path.stem: np.array(Image.open(path)) for path in files}

    right, wrong = write(tmp_path / "a", ids, 1), write(tmp_path / "b", ids[::-1], 2)
    names = [f"prediction~{id}" for id in fixed_samples(ids)]
    assert [*right] == [*wrong] == names
    assert len(names) == FIXED
    for name in names:
        grey = 10 * int(name[-2:])
        assert (right[name][200, 100] == grey).all()  # the image itself, where nothing is
        assert (wrong[name][200, 100] == grey).all()
        assert named_below(right[name], 256) == {"polyp"}
        assert named_below(wrong[name], 256) == {"polyp", "instrument"}
        assert not (right[name][:256] == 255).all(axis=-1).any()  # nothing is striped


def test_few_images_are_all_shown() -> None:
    assert fixed_samples(["b", "a", "b"]) == ["a", "b"]
    assert fixed_samples([]) == []


@pytest.mark.parametrize("count", [0, 1, 20, 150])
def test_a_legend_of_long_names_stays_below_the_picture(count: int) -> None:
    entries = [(f"a class with quite a long name {at}", "#00ff00") for at in range(count)]
    drawn = np.full((100, 256, 3), 7, np.uint8)
    picture = np.array(with_legend(drawn, entries, "striped: wrong"))
    assert (picture[:100] == 7).all()
    assert picture.shape == (100 + 18 * (count + 1) + 2, 256, 3)
    assert (picture[100:, -2:] == 255).all()
    assert (picture[-18:] < 200).any()


def test_short_names_share_a_line() -> None:
    drawn = np.full((300, 900, 3), 7, np.uint8)
    picture = with_legend(drawn, [*zip(CLASSES[1:], COLOURS[1:], strict=True)], "striped: wrong")
    assert picture.size == (900, 300 + 2 * 64 + 8)
    assert named_below(np.array(picture), 300) == {"polyp", "instrument", "stool"}
