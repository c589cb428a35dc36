"""Test images that the report shows, with what each candidate made of them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from segbench.arrays.store import Header, open_arrays
from segbench.arrays.tiling import StitchedImages
from segbench.comparison.ranking import Ranking, ranking_of
from segbench.evaluation.results import RunResult, read_predictions
from segbench.files import atomic_folder
from segbench.params import Params
from segbench.report.drawing import SHOWN_SIZE, class_colours, outline, shrink
from segbench.report.overlay import overlay

MOST_PIXELS = 3_200_000
"""Of all pictures in the report together, so that it can still be mailed: 3 MB of them."""


MOST_DRAWN = 12
"""Candidates whose predictions are drawn, the first of the leaderboard; more are not to be told
apart at the size that is left."""


@dataclass(frozen=True)
class Picture:
    """A picture of an example: where it lies, and the score of what it shows."""

    path: Path
    score: float | None


@dataclass(frozen=True)
class Example:
    """A test image.

    Attributes:
        id, group: which it is.
        object_size: share of its pixels that are foreground.
        pictures: itself, its ground truth, and the predictions of the first candidates.
    """

    id: str
    group: str
    object_size: float
    pictures: list[Picture]


def draw_gallery(
    params: Params,
    runs: list[RunResult],
    aliases: Sequence[str],
    arrays: Path,
    header: Header,
    folder: Path,
) -> dict[str, list[Example]]:
    """Draw test images with the predictions of all candidates: those on which the candidates differ
    most, and those that are worst on average.

    A candidate's prediction is that of its first seed, in the first fold.

    Args:
        params: all of them.
        runs: of all candidates.
        aliases: by rank; of many, those of the first are drawn, `MOST_DRAWN`.
        arrays: the folder that the augment stage wrote.
        header: of these arrays.
        folder: receives the pictures.

    Returns:
        Examples by what they show, `disagree` and `worst`.
    """
    fold = params.comparison.folds[0]
    first = {run.alias: run for run in reversed(runs) if run.fold == fold}
    ranking = ranking_of(params)
    scores = pd.DataFrame({alias: _test_scores(run, ranking) for alias, run in first.items()})
    picked = pick_examples(scores, params.report.num_samples, ranking.lower_is_better)
    drawn_of = aliases[:MOST_DRAWN]
    number = max(1, sum(map(len, picked.values()))) * (2 + len(drawn_of))
    size = min(SHOWN_SIZE, int((MOST_PIXELS / number) ** 0.5))
    stitched = StitchedImages(open_arrays(arrays / f"fold{fold}" / "test"))
    index_of = {str(id): index for index, id in enumerate(stitched.samples["id"])}
    rows = first[aliases[0]].images
    of_image = rows[rows["split"] == "test"].set_index("id")
    group, size_of = of_image["group"].to_dict(), of_image["object_size"].to_dict()
    info = header.dataset
    colours = class_colours(info.colours, info.scheme)
    filled = partial(overlay, colours=colours, background=info.background)
    with ExitStack() as opened, atomic_folder(folder) as made:
        of_alias = [opened.enter_context(read_predictions(first[alias])) for alias in drawn_of]

        def draw(id: str) -> Example:
            index = index_of[id]
            masks = [stitched.mask(index), *(own.read("test", id) for own in of_alias)]
            image, truth, *preds = shrink(stitched.image(index), *masks, most=size)
            drawn = {
                "image": outline(image, background=info.background),
                "truth": filled(image, truth),
            }
            for alias, pred in zip(drawn_of, preds, strict=True):
                drawn[f"prediction-{alias}"] = filled(image, pred, truth=truth)
            shown = [None, None, *(float(scores[alias][id]) for alias in drawn_of)]
            for name, pixels in drawn.items():
                Image.fromarray(pixels).save(made / f"{id}--{name}.jpg", quality=85)
            paths = [folder / f"{id}--{name}.jpg" for name in drawn]
            return Example(id, str(group[id]), float(size_of[id]), list(map(Picture, paths, shown)))

        return {kind: [draw(id) for id in ids] for kind, ids in picked.items()}


def pick_examples(
    scores: pd.DataFrame, count: int, lower_is_better: bool = False
) -> dict[str, list[str]]:
    """Ids of images to show, none twice.

    Args:
        scores: a row an image, by id, a column a candidate.
        count: of each sort.
        lower_is_better: the highest are the worst.
    """
    there = scores.dropna(how="all")
    apart = (there.max(axis=1) - there.min(axis=1)).sort_values(ascending=False, kind="stable")
    mean = there.mean(axis=1).sort_values(kind="stable", ascending=not lower_is_better)
    disagree = [str(id) for id in apart.index[:count]] if scores.shape[1] > 1 else []
    worst = [str(id) for id in mean.index if id not in disagree][:count]
    # No picture twice: embedded, it would count twice.
    return {kind: ids for kind, ids in (("disagree", disagree), ("worst", worst)) if ids}


def _test_scores(run: RunResult, ranking: Ranking) -> pd.Series:
    ids = run.images.loc[run.images["split"] == "test", "id"]
    return pd.Series(ranking.of_images(run, "test").values, index=ids)
