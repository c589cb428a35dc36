"""The champion comes from validation; the test set confirms, contradicts or cannot tell."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.comparison import POOLED, leaderboard, verdict
from segbench.errors import InputError
from segbench.params import Params
from segbench.pictures import picture_mode
from segbench.results import SCORES, Paths, Scored, image_scores, read_scored


def scored(alias: str, seed: int, val: float, test: float, groups: int = 30) -> Scored:
    """A run whose images score around the given means, in groups of two."""
    rng = np.random.default_rng(0)  # images are as hard for one candidate as for another
    rows = []
    for split, mean in (("test", test), ("val", val)):
        scores = (mean + rng.normal(0, 0.05, 2 * groups)).clip(0, 1)
        for at, score in enumerate(scores):
            group = f"g{at // 2:03d}"
            same = dict.fromkeys(SCORES, score)
            rows.append({"split": split, "id": f"i{at:03d}", "group": group, **same})
    pooled = {f"test/{name}": test for name in POOLED}
    summary: dict[str, Any] = {"parameters": 10, **pooled, "sha256": {}}
    name = f"{alias}-fold0-seed{seed}"
    return Scored(name, alias, 0, seed, summary, pd.DataFrame(rows), pd.DataFrame())


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    tree["comparison"].update(
        candidates=["regnetx_002", "resnet18"], seeds=[0, 1], num_resamples=500
    )
    return Params.model_validate(tree)


def judged(params: Params, scores: dict[str, tuple[float, float]], groups: int = 30) -> str:
    runs = [scored(alias, seed, *pair, groups) for alias, pair in scores.items() for seed in (0, 1)]
    rows = leaderboard(params, runs)
    assert [row.rank for row in rows] == [1, 2]
    assert rows[0].val >= rows[1].val
    assert rows[0].behind is None
    return verdict(params, rows, runs, leaky=False)


def test_validation_chooses_and_test_confirms(params: Params) -> None:
    said = judged(params, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)})
    assert said.startswith("resnet18 has the best validation dice")
    assert "confirms its lead over regnetx_002" in said
    assert "coarse" not in said


def test_validation_chooses_even_if_test_contradicts(params: Params) -> None:
    said = judged(params, {"regnetx_002": (0.6, 0.8), "resnet18": (0.8, 0.6)})
    assert said.startswith("resnet18 has the best validation dice")
    assert "contradicts: regnetx_002 did better there" in said


def test_close_candidates_are_not_told_apart(params: Params) -> None:
    runs = [
        scored("regnetx_002", 0, 0.70, 0.68),
        scored("regnetx_002", 1, 0.70, 0.72),
        scored("resnet18", 0, 0.71, 0.73),
        scored("resnet18", 1, 0.71, 0.68),
    ]
    rows = leaderboard(params, runs)
    assert "cannot tell it from regnetx_002" in verdict(params, rows, runs, leaky=False)
    warned = verdict(params, rows, runs, leaky=True)
    assert warned.startswith("The split leaks (audit.html), so all scores flatter. ")


def test_few_groups_are_said(params: Params) -> None:
    said = judged(params, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)}, groups=8)
    assert "With 8 independent groups of test images, intervals are coarse." in said
    said = judged(params, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)}, groups=5)
    assert "can neither confirm nor refute a lead" in said
    assert "confirms its lead" not in said


def test_scores_are_means_over_images_and_seeds(params: Params) -> None:
    runs = [scored("resnet18", 0, 0.7, 0.6), scored("resnet18", 1, 0.7, 0.8)]
    scores, groups = image_scores(runs, "resnet18", "test", "dice")
    assert scores.shape == (2, 60)
    assert len(set(groups)) == 30
    assert scores.mean() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "free", "mode"),
    [
        ("auto", True, "embed"),
        ("auto", False, "link"),
        ("none", True, "none"),
        ("embed", False, "embed"),
    ],
)
def test_pictures_enter_git_only_where_they_may(asked: str, free: bool, mode: str) -> None:
    assert picture_mode(asked, free) == mode


def test_rows_that_are_not_those_of_the_scores_are_refused(tmp_path: Path) -> None:
    paths = Paths(**{name: tmp_path / name for name in Paths.__annotations__})
    with pytest.raises(InputError, match="was not evaluated; run 'dvc repro'"):
        read_scored(paths, "resnet18", 0, 0)
    rows = paths.evaluations / "resnet18-fold0-seed0" / "images.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text("split,id\n")
    paths.metrics.mkdir()
    hashes = {"images": hashlib.sha256(b"others").hexdigest()}
    (paths.metrics / "resnet18-fold0-seed0.json").write_text(json.dumps({"sha256": hashes}))
    with pytest.raises(InputError, match=r"not the rows that .* was made from"):
        read_scored(paths, "resnet18", 0, 0)
