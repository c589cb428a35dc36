"""Datasets of scenes with boxes, and the audit of their splits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segbench.datasets.canonical import DatasetInfo, Sample, SampleReader
from segbench.datasets.ingest import ingest
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels
from segbench.params.augment import Augment
from segbench.params.report import Report
from segbench.params.split import Split
from segbench.splits.split import split
from support.params import read_params
from support.pipeline import audit_paths
from support.streets import CLASSES, VOID, street

HEIGHT, WIDTH = 48, 64
INFO = DatasetInfo(
    name="hand-made",
    classes=("background", "thing"),
    licence="none <b>needed</b>",
    redistributable=True,
    citation="A & B",
    foreground=(0.01, 0.5),
)
STRATA = ("plain", "a <b> & c")


def params(**changes: Any) -> Split:
    return Split.model_validate(read_params()["split"] | changes)


def scene(seed: int) -> Pixels:
    """A smooth random texture."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (5, 7, 3)).astype(np.float32)
    large = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def jpeg(image: Pixels) -> Pixels:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def box(height: int, width: int = 20) -> Pixels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10 : 10 + height, 10 : 10 + width] = 1
    return mask


def make_samples(number: int = 40, per_group: int = 2) -> list[Sample]:
    """Different scenes with boxes of different heights; two strata."""
    return [
        Sample(
            id=f"s{at:02d}",
            image=scene(at),
            mask=box(4 + at % 20),
            group=f"g{at // per_group:02d}",
            stratum=STRATA[at // per_group % 3 == 0],
            source=f"s{at:02d}.png",
        )
        for at in range(number)
    ]


def published(samples: list[Sample]) -> list[Sample]:
    """The first and second tenth tests and validates, the rest trains."""
    tenth = len(samples) // 10
    names = ["test"] * tenth + ["val"] * tenth + ["train"] * (len(samples) - 2 * tenth)
    return [replace(one, split=name) for one, name in zip(samples, names, strict=True)]


def leaking() -> list[Sample]:
    """As published, with one near duplicate in test and train, and one within train."""
    samples = published(make_samples())
    samples[30] = replace(samples[30], image=jpeg(samples[0].image))
    samples[31] = replace(samples[31], image=jpeg(samples[20].image))
    return samples


def write(
    folder: Path, samples: list[Sample], info: DatasetInfo = INFO, bad: tuple[str, ...] = ()
) -> Path:
    """A dataset of the samples, with a pair left out for each reason in `bad`."""

    def fail(reason: str) -> list[Sample]:
        raise InputError(reason)

    tasks = [SampleReader(1, lambda one=one: [one]) for one in samples]  # type: ignore[misc]
    tasks += [SampleReader(1, lambda reason=reason: fail(reason)) for reason in bad]  # type: ignore[misc]
    ingest(tasks, info, "skip", folder / "dataset")
    return folder


def audit(folder: Path, asked: Split, pictures: str = "none", out: str = "out") -> str:
    (folder / out).mkdir(exist_ok=True)
    report = Report(pictures=pictures, num_samples=1)  # type: ignore[arg-type]
    size = Augment.model_validate(read_params()["augment"])
    return split(folder / "dataset", asked, report, size, audit_paths(folder / out))


def flawed() -> tuple[list[Sample], tuple[str, ...]]:
    """Nearly all that an audit finds, and reasons why pairs were left out."""
    samples = leaking()
    drawn = np.asarray(cv2.circle(samples[1].image.copy(), (40, 30), 5, (255, 255, 255), 1))
    changes: dict[int, dict[str, Any]] = {
        5: {"mask": box(0)},
        6: {"mask": np.ones((HEIGHT, WIDTH), np.uint8)},
        9: {"mask_between": 0.06},
        10: {"mask_resized": True},
        11: {"image": np.full_like(samples[11].image, 90)},
        32: {"image": drawn},
        33: {"image": samples[2].image, "mask": box(9)},
        34: {"group": samples[0].group},
    }
    for at, change in changes.items():
        samples[at] = replace(samples[at], **change)
    return samples, ("x.png: 320x240, but its mask is 352x288", "y.png: cannot be read")


def streets() -> list[Sample]:
    """Street scenes of 11 classes; the test part holds no bicyclist."""
    samples = []
    for sequence in range(18):
        for frame in range(2):
            image, mask = street(sequence, frame)
            name = "test" if sequence < 4 else "val" if sequence < 7 else "train"
            mask[mask == VOID] = IGNORE
            if name == "test":
                mask[mask == CLASSES.index("bicyclist")] = CLASSES.index("road")
            group = f"{sequence:04d}TP"
            id = f"{group}_{6690 + 30 * frame:06d}"
            samples.append(Sample(id, image, mask, group, "", f"{id}.png", split=name))
    return samples


def write_streets(folder: Path) -> Path:
    """A dataset of `streets`, whose test part holds no bicyclist."""
    info = replace(INFO, name="made-up", classes=CLASSES, background=None, foreground=(0, 1))
    return write(folder, streets(), info)


def write_audits(folder: Path) -> None:
    """Audits to look at: of sound data, of nearly all flaws, of folds, of street scenes."""
    published_split = {"by": "predefined", "test_share": None}
    flaws, bad = flawed()
    write(folder / "sound", make_samples())
    audit(folder / "sound", params(), "embed")
    write(folder / "flawed", flaws, replace(INFO, published=50), bad)
    audit(folder / "flawed", params(**published_split, on_leak="warn"), "embed")
    write(folder / "folds", leaking())
    folds = params(num_folds=5, test_share=None, by="random", on_leak="warn")
    audit(folder / "folds", folds, "embed")
    audit(write_streets(folder / "streets"), params(**published_split), "embed")
