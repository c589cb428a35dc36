"""Reports of runs that nobody trained, to look at: binary, multi-class, folds, one seed, many.

PYTHONPATH=src:tests python -m support.gallery FOLDER

writes FOLDER/<case>/reports/comparison.html and .md of each case, FOLDER/audits/<case>/out/
audit.html, and FOLDER/several/reports/verdict/verdict.html.
"""

import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.comparison.class_scores import find_class_scores
from segbench.comparison.content import Content
from segbench.comparison.examples import MOST_DRAWN, Example, Picture
from segbench.comparison.page import write_report
from segbench.images import Pixels
from segbench.labels import LabelScheme
from segbench.params import Params
from segbench.report.drawing import class_colours, outline
from segbench.report.overlay import overlay
from support.audits import write_audits
from support.comparison import evaluated
from support.finished import write_verdict
from support.params import read_params, shrink
from support.report import content
from support.streets import CLASSES


@dataclass(frozen=True)
class Case:
    """A comparison.

    Attributes:
        candidates, seeds, folds: how many.
        classes: names by class id.
        background: class id; None: there is none.
        shown: images in each part of the gallery.
    """

    candidates: int = 4
    seeds: int = 3
    folds: int = 1
    classes: tuple[str, ...] = ("background", "polyp")
    background: int | None = 0
    shown: int = 4


CASES = {
    "binary": Case(),
    "multi-class": Case(classes=CLASSES, background=None),
    "folds": Case(seeds=1, folds=5),
    "one-seed": Case(candidates=3, seeds=1),
    "12-candidates": Case(12, classes=("background", *CLASSES)),
    "100-candidates": Case(100, classes=("background", *CLASSES)),
}


def made_up(case: Case, folder: Path) -> Content:
    """The content of a report, whose pictures are drawn below `folder`."""
    params = _params(case)
    aliases = params.comparison.candidates
    runs = [
        evaluated(key.candidate, key.seed, 0.8 - at / 100, 0.75 - at / 60, fold=key.fold)
        for key in params.comparison.runs
        for at in [aliases.index(key.candidate) % 30]
    ]
    for number, run in enumerate(runs):  # else they would differ by the same in all images
        noise = np.random.default_rng(number).normal(0, 0.03, len(run.images))
        run.images["dice"] = (run.images["dice"] + noise).clip(0, 1)
        scored = [at for at in range(len(case.classes)) if at != case.background]
        for key, given in run.counts.items():
            cells = [_class_counts(class_id, number, len(given)) for class_id in scored]
            run.counts[key] = np.stack(cells, axis=1)
    base = content(params, folder, True, runs)
    info = replace(
        base.header.dataset, name="made-up", classes=case.classes, background=case.background
    )
    audit = deepcopy(base.audit)
    tested = [run.images[run.images["split"] == "test"] for run in runs]
    for fold in params.comparison.folds:
        rows = next(rows for run, rows in zip(runs, tested, strict=True) if run.fold == fold)
        audit[f"fold{fold}"]["test"] = {"images": len(rows), "groups": rows["group"].nunique()}
    header, number = replace(base.header, dataset=info), len(case.classes)
    rng = np.random.default_rng(0)
    return replace(
        base,
        header=header,
        audit=audit,
        class_scores=find_class_scores(base.runs, base.leaderboard.aliases, header, 0.95),
        confusion=rng.integers(1, 400, (number, number)) + 9000 * np.eye(number, dtype=int),
        requirements=[],
        gallery={
            kind: [
                _example(case, aliases, number + 10 * at, folder) for number in range(case.shown)
            ]
            for at, kind in enumerate(("disagree", "worst"))
        },
    )


def _class_counts(class_id: int, run: int, images: int) -> NDArray[np.int64]:
    """Pixels (N, 4) of a class that are right, invented, missed and neither; rarer classes are
    worse."""
    shared, own = np.random.default_rng(class_id), np.random.default_rng([class_id, run])
    size = shared.integers(200, 600, images) * (shared.random(images) < 0.9 - 0.06 * class_id)
    share = (0.9 - 0.04 * class_id + shared.normal(0, 0.05, images)).clip(0, 1)
    tp = np.rint(size * (share + own.normal(0, 0.02, images)).clip(0, 1)).astype(int)
    return np.stack([tp, (size - tp) // 2, size - tp, 6144 - 2 * size + tp], axis=1)


def _params(case: Case) -> Params:
    tree: dict[str, Any] = shrink(read_params())
    known = list(tree["candidates"].values())
    tree["candidates"] = {
        f"encoder_{at:03d}": known[at % len(known)] for at in range(case.candidates)
    }
    tree["comparison"].update(
        candidates=list(tree["candidates"]),
        seeds=list(range(case.seeds)),
        folds=list(range(case.folds)),
        num_resamples=1000,
    )
    if case.folds > 1:
        tree["split"].update(num_folds=case.folds, test_share=None)
    return Params.model_validate(tree)


def _example(case: Case, aliases: list[str], number: int, folder: Path) -> Example:
    rng = np.random.default_rng(number)
    truth = _scene(case, rng)
    image = np.clip(
        60 + 10 * truth.astype(int)[:, :, None] + rng.normal(0, 12, (*truth.shape, 3)), 0, 255
    )
    image = cv2.GaussianBlur(image.astype(np.uint8), (0, 0), 1.2)
    scheme = LabelScheme(len(case.classes), case.background)
    colours = class_colours((), scheme)
    drawn = {
        "image": outline(image, background=0),
        "truth": overlay(image, truth, colours, case.background),
    }
    scores: list[float | None] = [None, None]
    for alias in aliases[:MOST_DRAWN]:
        pred = _scene(case, np.random.default_rng(number), rng.normal(0, 2.5))
        drawn[alias] = overlay(image, pred, colours, case.background, truth)
        scores.append(float((pred == truth).mean()))
    pictures = []
    for (name, pixels), score in zip(drawn.items(), scores, strict=True):
        path = folder / "data" / f"{number}-{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=85)
        pictures.append(Picture(path, score))
    return Example(
        f"frame_{number:03d}", f"street_{number % 3}", float((truth > 0).mean()), pictures
    )


def _scene(case: Case, rng: np.random.Generator, shift: float = 0.0) -> Pixels:
    """A mask (64, 96): bands and things of all classes, moved by `shift` pixels."""
    mask = np.zeros((64, 96), np.uint8)
    number = len(case.classes)
    for class_id in range(1, number):
        x, y = rng.integers(8, 88), rng.integers(8, 56)
        across, down = rng.integers(6, 20, 2)
        centre = (int(x + shift), int(y + shift / 2))
        cv2.ellipse(mask, centre, (int(across), int(down)), 0, 0, 360, class_id, -1)
    return mask


def main(folder: Path) -> None:
    for name, case in CASES.items():
        reports = folder / name / "reports"
        reports.mkdir(parents=True, exist_ok=True)
        write_report(made_up(case, folder / name), reports)
        page = reports / "comparison.html"
        print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    write_audits(folder / "audits")
    (folder / "several").mkdir(exist_ok=True)
    write_verdict(folder / "several")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
