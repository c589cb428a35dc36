"""Evaluation holds a few images at a time: what later steps need of the others is on disk."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segbench.arrays.store import Arrays
from segbench.errors import InputError
from segbench.evaluation import scoring
from segbench.evaluation.drafts import Draft, DraftFile
from segbench.evaluation.outputs import writing_predictions
from segbench.evaluation.predict import Prediction
from segbench.evaluation.results import RunResult, read_predictions
from segbench.evaluation.scoring import select_and_score
from segbench.files import sha256_of
from segbench.images import Pixels, encode_mask
from segbench.labels import LabelScheme
from segbench.metrics.distances import PIXELS, Spacing
from segbench.parallel import num_cores
from segbench.params import Params
from segbench.params.evaluate import Choose

IDS = ("b", "a.npy", "a", "patient 1/ü#.png")


def random(*size: int, most: int = 255) -> Pixels:
    return np.random.default_rng(sum(size)).integers(0, most, size, np.uint8, endpoint=True)


@pytest.mark.parametrize("several", [False, True])
def test_a_draft_is_read_as_it_was_written(several: bool, tmp_path: Path) -> None:
    if several:
        drafts = [
            Draft(random(30, 41, most=20), None, None),
            Draft(random(8, 9, most=20), None, random(301, 7, most=20)),
        ]
    else:
        drafts = [Draft(random(h, 5, most=1), random(1, h, 5), None) for h in (1, 64, 17)]
    with DraftFile(tmp_path, several) as file:
        for draft in drafts:
            file.append(file.encode(draft))
        assert len(file) == len(drafts)
        for at in reversed(range(len(file))):
            for name in ("pred_mask", "probs_u8", "enlarged"):
                np.testing.assert_equal(getattr(file[at], name), getattr(drafts[at], name))
        assert list(tmp_path.iterdir()) == []  # nothing to clean up after


def test_predictions_of_any_size_are_read_one_at_a_time(tmp_path: Path) -> None:
    masks = {id: random(4 + at, 9 - at, most=150) for at, id in enumerate(IDS)}
    paths = [tmp_path / name for name in ("predictions.zip", "again.zip")]
    for path in paths:
        with writing_predictions(path) as write:
            for id, mask in masks.items():
                write("val", id, encode_mask(mask // 2))
                write("test", id, encode_mask(mask))
    digest = sha256_of(paths[0])
    assert digest == sha256_of(paths[1])
    none = pd.DataFrame()
    summary = {"sha256": {"predictions": digest}}
    run = RunResult("a", "a", 0, 0, summary, none, {}, none, {}, tmp_path)
    with read_predictions(run) as predictions:
        for id in sorted(masks):
            assert (predictions.read("test", id) == masks[id]).all()
            assert (predictions.read("val", id) == masks[id] // 2).all()
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    with pytest.raises(InputError, match=r"predictions.zip: missing or changed; run 'dvc pull'"):
        read_predictions(run)


class Guess(torch.nn.Module):
    """Of each image its red channel, as the logits of some classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.where = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = images[:, :1].float()
        if self.outputs == 1:
            return red / 64 - 2
        return -(red / 40 - torch.arange(self.outputs).view(1, -1, 1, 1)).abs()


@pytest.mark.parametrize("num_classes", [2, 6])
def test_no_more_predictions_are_held_than_wait_for_a_core(
    num_classes: int, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every choice there is, on two networks."""
    images = random(200, 16, 16, 3)
    masks = (images[..., 0] // 50).clip(0, num_classes - 1)
    ids = [f"{at:03}" for at in range(len(images))]
    split = Arrays(images, masks, pd.DataFrame({"id": ids, "group": ids, "stratum": ""}))
    alive: weakref.WeakValueDictionary[int, Prediction] = weakref.WeakValueDictionary()
    most, made, written = 0, 0, []

    def predict(*arguments: Any) -> Iterator[Prediction]:
        nonlocal most, made
        for prediction in original(*arguments):
            alive[made] = prediction
            made, most = made + 1, max(most, len(alive))
            yield prediction

    class Large:
        def spacing(self, id: str) -> Spacing:
            return PIXELS

        def read(self, id: str) -> Pixels:
            return np.kron(masks[int(id)], np.ones((2, 3), np.uint8))

    original = scoring.predict
    monkeypatch.setattr(scoring, "predict", predict)
    choose = Choose(threshold=num_classes == 2, min_sizes=[3], largest=True, flips=True)
    networks = {flips: Guess(num_classes if num_classes > 2 else 1) for flips in (False, True)}
    choices, found = select_and_score(
        params.evaluate.model_copy(update={"choose": choose, "batch_size": 4}),
        networks,
        {"val": split, "test": split},
        Large(),  # type: ignore[arg-type]
        LabelScheme(num_classes, 0),
        tmp_path,
        lambda name, id, png: written.append((name, id)),
        overlap=False,
    )
    assert made in (600, 800)
    assert most <= 2 * (max(4, num_cores()) + 1)  # one on each network
    assert written == [(name, id) for name in ("val", "test") for id in ids]
    # By whatever way they came, rows of the same images are the same.
    for one, other in zip(found["val"], found["test"], strict=True):
        assert one.row == pytest.approx(other.row, nan_ok=True, abs=0)
    assert len(choices) == 2 * (4 if num_classes > 2 else 5)
