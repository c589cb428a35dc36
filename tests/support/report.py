"""What a report shows, of runs that nobody trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.comparison.class_scores import find_class_scores
from segbench.comparison.content import Content
from segbench.comparison.examples import Example, Picture
from segbench.comparison.expenses import Expenses
from segbench.comparison.external import judge
from segbench.comparison.leaderboard import make_leaderboard
from segbench.comparison.planning import make_plan
from segbench.comparison.published import judge_published
from segbench.comparison.requirements import Requirement
from segbench.comparison.single_images import spread_over_images
from segbench.comparison.subgroups import find_subgroups
from segbench.comparison.training_effort import TrainingEffort
from segbench.comparison.verdict import reach_verdict
from segbench.evaluation.results import RunResult
from segbench.labels import LabelScheme
from segbench.params import Params
from segbench.params.compare import Tuning
from segbench.params.published import PublishedScore
from segbench.report.drawing import outline
from segbench.splits.assign import SPLITS
from support.comparison import COST, FACTS, elsewhere, evaluated
from support.headers import HEADER, INFO

PUBLISHED = [
    PublishedScore(
        name=f"U-Net & <b> {split}",
        metric="dice",
        averaging="pooled",
        mean=0.75,
        sd=None,
        images=61,
        num_classes=2,
        split=split,
        source="a paper | <i>",
    )
    for split in ("group", "random")
]


def content(
    params: Params, folder: Path, redistributable: bool, runs: list[RunResult] | None = None
) -> Content:
    """A report of candidates whose runs nobody trained; one seed each, unless there are `runs`."""
    aliases = params.comparison.candidates
    tuning = Tuning(learning_rates=[0.001, 0.01], share=0.5)
    chosen = params.comparison.model_copy(update={"tuning": tuning, "published": PUBLISHED})
    params = params.model_copy(update={"comparison": chosen})
    given = bool(runs)
    runs = runs or [evaluated(alias, 0, 0.8 - at / 10, 0.7) for at, alias in enumerate(aliases)]
    runs[1].trained["rollbacks"] = 2
    board = make_leaderboard(params, runs)
    assert board.variances is not None
    plan = make_plan(params.comparison, board.variances, len(aliases), dict.fromkeys(aliases, 60.0))
    dataset = replace(INFO, name="polyps & <b>", redistributable=redistributable)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    picture = folder / "data" / "s1.jpg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(outline(noise, background=0)).save(picture)
    leaks = 0 if given else 2
    audit = {
        "data": {"images": 20, "skipped": 1, "grey_masks": 3, "full_masks": 0},
        **{
            f"fold{fold}": {
                **{name: {"images": 5, "groups": 2} for name in SPLITS},
                "leaks": {"groups": 0, "near_duplicates": leaks},
            }
            for fold in params.comparison.folds
        },
    }
    return Content(
        params=params,
        header=replace(HEADER, dataset=dataset),
        audit=audit,
        runs=runs,
        leaderboard=board,
        verdict=reach_verdict(
            params.comparison, board, dict.fromkeys(aliases, COST), audit, runs, plan
        ),
        plan=plan,
        requirements=[Requirement("p < 0.05", False, {"p": 0.2})],
        expenses=Expenses(
            dict.fromkeys(aliases, COST),
            "a processor",
            dict.fromkeys(aliases, TrainingEffort(None, 100, 50)),
        ),
        external=[
            judge(
                *(params.comparison, board, "clinic_b", {**FACTS, "name": "Clinic | <b>"}),
                [
                    elsewhere(run, "clinic_b", 0.5 + at / 10 / len(runs))
                    for at, run in enumerate(runs)
                ],
            )
        ],
        learning_curves=[],
        confusion=np.array([[900, 10], [20, 70]]),
        class_scores=find_class_scores(runs, board.aliases, HEADER, 0.95),
        published=judge_published(params, LabelScheme(2, 0), audit, runs, board),
        subgroups=find_subgroups(runs, board.aliases, board.ranking, 0.95),
        single_images=spread_over_images(runs, board.aliases, board.ranking, 0.95),
        gallery={"disagree": [Example("s1", "g1", 0.1, [Picture(picture, 0.5)] * 4)]},
        preview=picture,
        trained=folder,
        provenance={"version.torch": "2"},
    )
