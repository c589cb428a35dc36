"""Test images that the report shows, with what each candidate made of them."""

from pathlib import Path

import pandas as pd
from PIL import Image

from segbench.arrays.store import open_arrays
from segbench.arrays.tiling import Wholes
from segbench.comparison.page import Cell, SampleRow
from segbench.evaluation.results import Evaluated, Paths, read_predictions
from segbench.files import atomic_folder
from segbench.images import Pixels
from segbench.params import Params
from segbench.report.drawing import SHOWN_SIZE, outline, shrink

MOST_PIXELS = 3_200_000
"""Of all pictures in the report together, so that it can still be mailed: 3 MB of them."""


def draw_samples(
    params: Params,
    paths: Paths,
    aliases: list[str],
    runs: list[Evaluated],
    folder: Path,
) -> dict[str, list[SampleRow]]:
    """Draw test images with the predictions of all candidates: those on which the candidates differ
    most, and those that are worst on average.

    A candidate's prediction is that of its first seed, in the first fold.

    Returns:
        Rows, an image each, by what they show; the pictures lie in `folder`.
    """
    fold = params.comparison.folds[0]
    shown = {run.alias: run for run in reversed(runs) if run.fold == fold}
    wholes = Wholes(open_arrays(paths.arrays / f"fold{fold}" / "test"))
    scores = pd.DataFrame(
        {
            alias: run.images[run.images["split"] == "test"].set_index("id")[
                params.comparison.metric
            ]
            for alias, run in shown.items()
        }
    )
    at = {str(id): index for index, id in enumerate(wholes.samples["id"])}
    predictions = {alias: read_predictions(paths, run) for alias, run in shown.items()}
    picked = pick(scores, params.report.num_samples)
    number = max(1, sum(map(len, picked.values()))) * (2 + len(aliases))
    most = min(SHOWN_SIZE, int((MOST_PIXELS / number) ** 0.5))
    with atomic_folder(folder) as partial:

        def row_of(id: str) -> SampleRow:
            index = at[id]
            image, truth, *preds = shrink(
                *(wholes.image(index), wholes.mask(index)),
                *(predictions[alias][index] for alias in aliases),
                most=most,
            )
            cells = [
                _draw(partial, folder, f"{id}--image", outline(image), None),
                _draw(partial, folder, f"{id}--truth", outline(image, truth), None),
            ]
            for alias, pred in zip(aliases, preds, strict=True):
                score = float(scores[alias][id])
                drawn = outline(image, truth, pred)
                cells.append(_draw(partial, folder, f"{id}--{alias}", drawn, score))
            return SampleRow(id, cells)

        return {name: [row_of(id) for id in ids] for name, ids in picked.items()}


def pick(scores: pd.DataFrame, count: int) -> dict[str, list[str]]:
    """Ids of images to show, none twice.

    Args:
        scores: a row an image, by id, a column a candidate.
        count: of each sort.
    """
    there = scores.dropna(how="all")
    apart = (there.max(axis=1) - there.min(axis=1)).sort_values(ascending=False, kind="stable")
    mean = there.mean(axis=1).sort_values(kind="stable")
    disagree = [str(id) for id in apart.index[:count]] if scores.shape[1] > 1 else []
    worst = [str(id) for id in mean.index if id not in disagree][:count]
    # No picture twice: embedded, it would count twice.
    return {name: ids for name, ids in (("disagree", disagree), ("worst", worst)) if ids}


def _draw(partial: Path, folder: Path, name: str, drawn: Pixels, score: float | None) -> Cell:
    path = partial / f"{name}.jpg"
    Image.fromarray(drawn).save(path, quality=85)
    return Cell(folder / path.name, score)
