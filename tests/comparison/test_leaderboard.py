"""The champion comes from validation; the test set confirms, contradicts or cannot tell."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.cheapest import find_cheapest
from segbench.comparison.data_facts import data_facts
from segbench.comparison.examples import pick_examples
from segbench.comparison.leaderboard import make_leaderboard
from segbench.comparison.scores import score_array
from segbench.comparison.subgroups import find_subgroups
from segbench.comparison.tables import to_table
from segbench.comparison.verdict import caveats, verdict_sentence
from segbench.errors import InputError
from segbench.evaluation.outputs import write_counts, write_images
from segbench.evaluation.results import RunResult, read_result
from segbench.params import Params
from segbench.report.links import picture_mode
from support.comparison import COST, DICE, evaluated
from support.finished import finished
from support.headers import HEADER

COSTS = {"regnetx_002": replace(COST, parameters=2_700_000), "resnet18": COST}


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    tree["comparison"].update(
        candidates=["regnetx_002", "resnet18"], seeds=[0, 1, 2], num_resamples=500
    )
    return Params.model_validate(tree)


def judged(params: Params, scores: dict[str, tuple[float, float]], groups: int = 30) -> str:
    runs = [
        evaluated(alias, seed, *pair, groups)
        for alias, pair in scores.items()
        for seed in params.comparison.seeds
    ]
    found = make_leaderboard(params, runs)
    assert found.rows[0].val.mean >= found.rows[1].val.mean
    assert found.rows[0].difference_to_champion is None
    return verdict_sentence(params.comparison, found, COSTS, leaky=False)


def test_validation_chooses_and_test_confirms(params: Params) -> None:
    said = judged(params, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)})
    assert said.startswith("resnet18 has the best validation dice")
    assert (
        "The test set confirms its lead over regnetx_002 (p = 0.002), also for networks that are "
        "trained anew on these training images." in said
    )


def test_a_sentence_names_few_of_many(tree: dict[str, Any]) -> None:
    aliases = [f"encoder{at:02d}" for at in range(12)]
    tree["candidates"] = dict.fromkeys(aliases, tree["candidates"]["resnet18"])
    tree["comparison"].update(candidates=aliases, seeds=[0], num_resamples=100)
    many = Params.model_validate(tree)
    runs = [evaluated(alias, 0, 0.8 - at / 100, 0.7) for at, alias in enumerate(aliases)]
    costs = dict.fromkeys(aliases, COST)
    said = verdict_sentence(many.comparison, make_leaderboard(many, runs), costs, leaky=False)
    assert "encoder07 (p = " in said
    assert "encoder08" not in said
    assert ") and 4 more." in said


def test_validation_chooses_even_if_test_contradicts(params: Params) -> None:
    said = judged(params, {"regnetx_002": (0.6, 0.8), "resnet18": (0.8, 0.6)})
    assert said.startswith("resnet18 has the best validation dice")
    assert "contradicts this: regnetx_002 (p = 0.002) scored higher there" in said


def close(params: Params) -> list[RunResult]:
    return [
        evaluated("regnetx_002", 0, 0.70, 0.68),
        evaluated("regnetx_002", 1, 0.72, 0.72),
        evaluated("regnetx_002", 2, 0.69, 0.70),
        evaluated("resnet18", 0, 0.71, 0.73),
        evaluated("resnet18", 1, 0.69, 0.68),
        evaluated("resnet18", 2, 0.74, 0.71),
    ]


def test_close_candidates_are_not_told_apart(params: Params) -> None:
    """Their seeds differ by more than they do, though every image of a run does."""
    found = make_leaderboard(params, close(params))
    said = verdict_sentence(params.comparison, found, COSTS, leaky=False)
    assert "cannot tell it from regnetx_002" in said
    assert [row.rank for row in found.rows] == [1, 1]
    warned = verdict_sentence(params.comparison, found, COSTS, leaky=True)
    assert warned.startswith("The split leaks (audit.html), so all scores are optimistic. ")
    told = " ".join(caveats(params.comparison, found, {}))
    assert "Winner's curse: resnet18 was chosen for the best of 2 validation scores" in told
    assert "resnet18 ranks first on test in 2 of 3 seeds" in told


def test_the_page_shows_a_pair_from_both_sides(params: Params) -> None:
    found = make_leaderboard(params, close(params))
    square = found.pairwise
    assert square[0][0] is square[1][1] is None
    assert square[0][1] is not None
    assert square[1][0] == square[0][1].turned == found.rows[1].difference_to_champion
    assert square[0][1].interval.low == -square[1][0].interval.high


def test_one_seed_claims_nothing_of_encoders(params: Params, tree: dict[str, Any]) -> None:
    """Nor do two, which may agree by chance."""
    for seeds in ([0], [0, 1]):
        tree["comparison"].update(candidates=["regnetx_002", "resnet18"], seeds=seeds)
        one = Params.model_validate(tree)
        said = judged(one, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)})
        assert "As trained here, it is better than regnetx_002 (p = 0.002)." in said
        assert "would compare if they were trained anew takes 3 seeds to say, and on other" in said
        assert "confirms" not in said


def test_seeds_on_groups_of_which_one_decides_claim_nothing_of_encoders(params: Params) -> None:
    runs = [
        evaluated(alias, seed, mean, mean, 12)
        for alias, mean in (("regnetx_002", 0.6), ("resnet18", 0.8))
        for seed in params.comparison.seeds
    ]
    for run in runs:
        number = run.images.groupby("split").cumcount()
        run.images["group"] = number.where(number >= len(runs[0].images) // 4, -1).astype(str)
    found = make_leaderboard(params, runs)
    said = verdict_sentence(params.comparison, found, COSTS, leaky=False)
    assert "As trained here, it is better than regnetx_002 (p" in said
    assert "if they were trained anew takes 3 folds to say. Seeds alone cannot: the test" in said
    assert "weigh as 3.7 groups of equal size, where it takes 6." in said


def test_folds_claim_most(params: Params, tree: dict[str, Any]) -> None:
    tree["comparison"].update(
        candidates=["regnetx_002", "resnet18"], seeds=[0], folds=[0, 1, 2, 3, 4]
    )
    tree["split"].update(num_folds=5, test_share=None)
    runs = [
        evaluated(alias, 0, mean, mean, 12, fold)
        for alias, mean in (("regnetx_002", 0.6), ("resnet18", 0.8))
        for fold in range(5)
    ]
    folds = Params.model_validate(tree)
    found = make_leaderboard(folds, runs)
    said = verdict_sentence(folds.comparison, found, COSTS, leaky=False)
    assert "The test sets confirm its lead over regnetx_002 (p = 0.002), also for" in said
    assert "trained anew on other images" in said
    told = " ".join(caveats(folds.comparison, found, {}))
    assert "these are test images of other folds" in told


def test_the_cheapest_that_is_as_good_is_named(params: Params) -> None:
    same = {"regnetx_002": (0.71, 0.71), "resnet18": (0.705, 0.705)}
    said = judged(params, same)
    assert "It differs by less than 0.01 from resnet18" in said
    assert (
        "The cheapest candidate that is not worse by 0.01 or more is resnet18 (1.00 M parameters, "
        "against 2.70 M parameters), with a probability of " in said
    )
    far = {"regnetx_002": (0.8, 0.8), "resnet18": (0.7, 0.7)}
    assert "No cheaper candidate is shown to be within 0.01 of it (2.70 M parameters)." in judged(
        params, far
    )
    cheap = {"regnetx_002": (0.7, 0.7), "resnet18": (0.8, 0.8)}
    assert "It is also the cheapest (1.00 M parameters)." in judged(params, cheap)


def test_memory_that_was_not_measured_is_that_of_the_weights(params: Params) -> None:
    scores = {"regnetx_002": (0.7, 0.7), "resnet18": (0.8, 0.8)}
    runs = [evaluated(alias, seed, *pair) for alias, pair in scores.items() for seed in (0, 1, 2)]
    board = make_leaderboard(params, runs)
    by_memory = params.comparison.model_copy(update={"cost": "memory"})
    measured = find_cheapest(by_memory, board, COSTS)
    assert measured.own == "100 MiB at the peak"
    unknown = {alias: replace(cost, peak_mib=None) for alias, cost in COSTS.items()}
    assert find_cheapest(by_memory, board, unknown).own == "3.8 MiB of weights"


def test_an_unstable_candidate_is_named(params: Params) -> None:
    runs = [
        evaluated(alias, seed, 0.7, test)
        for alias, tests in (("regnetx_002", (0.5, 0.9, 0.7)), ("resnet18", (0.7, 0.702, 0.699)))
        for seed, test in enumerate(tests)
    ]
    board = make_leaderboard(params, runs)
    told = " ".join(caveats(params.comparison, board, {}))
    assert board.unstable == ["regnetx_002"]
    assert "Unstable: the scores of regnetx_002 differ more from seed to seed" in told
    table = to_table(board, COSTS).set_index("candidate")
    gap = board.rows[1].difference_to_champion
    assert gap is not None
    assert table["relation"].to_dict()[board.rows[1].alias] == board.rows[1].relation
    assert table["behind_networks_p"].to_dict()[board.rows[1].alias] == gap.p_of_networks < gap.p


def test_few_groups_are_said(params: Params, tree: dict[str, Any]) -> None:
    scores = {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)}
    said = judged(params, scores, groups=5)
    assert "with 5 independent groups of test images and 1 other candidate, even" in said
    assert "can neither confirm nor refute its lead" in said
    assert "confirms its lead" not in said
    assert "confirms its lead" in judged(params, scores, groups=8)
    runs = [
        evaluated(alias, seed, *pair, 8) for alias, pair in scores.items() for seed in (0, 1, 2)
    ]
    told = caveats(params.comparison, make_leaderboard(params, runs), {})
    assert any(said.startswith("Only 8 independent groups") for said in told)


def test_a_rule_that_does_not_carry_over_is_said(params: Params) -> None:
    runs = close(params)
    before = caveats(params.comparison, make_leaderboard(params, runs), {})
    assert "does not carry over" not in " ".join(before)
    for run in runs:
        run.images["dice_chosen"] -= 0.02
    told = caveats(params.comparison, make_leaderboard(params, runs), {})
    assert any("with it resnet18 reaches 0.6" in caveat for caveat in told)


def test_one_of_anything_is_a_caveat(tree: dict[str, Any]) -> None:
    tree["comparison"].update(candidates=["resnet18"], seeds=[0], num_resamples=100)
    params = Params.model_validate(tree)
    found = make_leaderboard(params, [evaluated("resnet18", 0, 0.8, 0.7, groups=1)])
    said = verdict_sentence(params.comparison, found, COSTS, leaky=False)
    assert said.endswith("on test.")
    assert "[" not in said
    told = " ".join(caveats(params.comparison, found, {}))
    for caveat in (
        "All test images belong to one group",
        "nothing is compared",
    ):
        assert caveat in told
    assert np.isnan(found.rows[0].p_best)
    assert np.isnan(to_table(found, {"resnet18": COST}).loc[0, "test_low"])


def test_one_candidate_is_not_the_best(tree: dict[str, Any]) -> None:
    """Not with probability 1 either, however many groups there are."""
    tree["comparison"].update(candidates=["resnet18"], seeds=[0, 1], num_resamples=100)
    runs = [evaluated("resnet18", seed, 0.8, 0.7) for seed in (0, 1)]
    found = make_leaderboard(Params.model_validate(tree), runs)
    assert np.isnan(found.rows[0].p_best)
    assert not np.isnan(found.rows[0].test.low)


def test_scores_are_means_over_images_and_seeds(params: Params) -> None:
    runs = [evaluated("resnet18", 0, 0.7, 0.6), evaluated("resnet18", 1, 0.7, 0.8)]
    scores, groups, folds, _ = score_array(runs, ["resnet18"], "test", DICE)
    assert scores.shape == (1, 2, 60)
    assert len(set(groups)) == 30
    assert set(folds) == {0}
    assert scores.mean() == pytest.approx(0.7, abs=0.02)


def test_runs_of_other_images_are_not_compared(params: Params) -> None:
    runs = [evaluated("resnet18", 0, 0.7, 0.6), evaluated("regnetx_002", 0, 0.7, 0.6, groups=29)]
    with pytest.raises(
        InputError, match=r"regnetx_002-fold0-seed0 was scored on other test images"
    ):
        score_array(runs, ["resnet18", "regnetx_002"], "test", DICE)


def test_a_candidate_without_any_score_is_not_ranked(params: Params) -> None:
    run = evaluated("resnet18", 0, 0.7, 0.6)
    run.images["dice"] = np.nan
    with pytest.raises(
        InputError, match=r"resnet18: no val image defines its dice, as where none has an object"
    ):
        score_array([run], ["resnet18"], "val", DICE)


def test_subgroups_hold_every_image_once_by_each_kind() -> None:
    runs = [evaluated(alias, seed, 0.7, 0.6) for alias in ("a", "b") for seed in (0, 1)]
    found = find_subgroups(runs, ["a", "b"], DICE, 0.95)
    kinds = list(dict.fromkeys(part.kind for part in found))
    assert kinds == ["stratum", "object size", "objects", "hardest groups"]
    for kind in kinds[:3]:
        assert sum(part.images for part in found if part.kind == kind) == 60
    assert [part.label for part in found if part.kind == "objects"] == ["0", "1", "2", "3 or more"]
    near = next(part for part in found if part.label == "near")
    rows = runs[0].images[lambda table: (table["split"] == "test") & (table["stratum"] == "near")]
    assert near.scores[0].mean == pytest.approx(rows["dice"].mean(), abs=0.005)
    assert near.scores[0].low < near.scores[0].mean < near.scores[0].high
    hardest = [part for part in found if part.kind == "hardest groups"]
    means = [sum(score.mean for score in part.scores) for part in hardest]
    assert len(means) == 10
    assert means == sorted(means)


def test_a_subgroup_without_any_score_has_no_mean() -> None:
    runs = [evaluated(alias, 0, 0.7, 0.6) for alias in ("a", "b")]
    for run in runs:
        run.images.loc[run.images["stratum"] == "near", "dice"] = np.nan
    found = find_subgroups(runs, ["a", "b"], DICE, 0.95)
    near = next(part for part in found if part.label == "near")
    assert all(np.isnan([one.mean, one.low, one.high]).all() for one in near.scores)


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
    metrics, evaluations, *_ = folders = [tmp_path / str(at) for at in range(4)]
    with pytest.raises(InputError, match="was not evaluated; run 'segbench repro'"):
        read_result("resnet18", 0, 0, *folders)
    rows = evaluations / "resnet18-fold0-seed0" / "images.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text("split,id\n")
    metrics.mkdir()
    hashes = {"images": hashlib.sha256(b"others").hexdigest()}
    (metrics / "resnet18-fold0-seed0.json").write_text(json.dumps({"sha256": hashes}))
    with pytest.raises(InputError, match=r"not the rows that .* was made from"):
        read_result("resnet18", 0, 0, *folders)


def test_a_run_file_that_lacks_something_is_refused(tmp_path: Path) -> None:
    """An earlier version wrote it: it could hide that the run rolled back, or other weights."""
    metrics, evaluations, history, runs = folders = [tmp_path / str(at) for at in range(4)]
    rows = evaluations / "resnet18-fold0-seed0" / "images.csv"
    for folder in (rows.parent, metrics, history, runs):
        folder.mkdir(parents=True)
    rows.write_text("split,id\n")
    (history / "resnet18-fold0-seed0.csv").write_text("epoch\n")
    hashes = {
        "images": hashlib.sha256(rows.read_bytes()).hexdigest(),
        "counts": write_counts(rows.with_name("counts.npz"), {}),
    }
    scores = metrics / "resnet18-fold0-seed0.json"
    scores.write_text(json.dumps({"sha256": {**hashes, "weights": "w"}}))
    file = runs / "resnet18-fold0-seed0.json"
    file.write_text('{"rollbacks": 1, "weights_sha256": "w"}')
    assert read_result("resnet18", 0, 0, *folders).trained["rollbacks"] == 1
    for text, said in (
        ('{"weights_sha256": "w"}', "seed0.json: no 'rollbacks'.*; run 'segbench repro'"),
        ('{"rollbacks": 1}', "seed0.json: no 'weights_sha256'.*; run 'segbench repro'"),
        ('{"rollbacks": 1, "weights_sha256": "v"}', "scores of other weights than those of"),
        ('{"rollbacks": 1, "wei', "seed0.json: missing or damaged; run"),
        ("", "seed0.json: missing or damaged; run"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said) as caught:
            read_result("resnet18", 0, 0, *folders)
        assert "\n" not in str(caught.value)
    scores.write_text('{"sha256": {')
    with pytest.raises(InputError, match=r"metrics|0/resnet18-fold0-seed0.json: .* damaged"):
        read_result("resnet18", 0, 0, *folders)


def test_runs_that_rolled_back_are_named(params: Params) -> None:
    runs = close(params)
    found = make_leaderboard(params, runs)
    before = caveats(params.comparison, found, {run.name: 0 for run in runs})
    after = caveats(
        params.comparison, found, {"regnetx_002-fold0-seed0": 1, "resnet18-fold0-seed1": 2}
    )
    ending = "after a non-finite loss and trained on at a lower learning rate: the recipe was not "
    assert [caveat for caveat in after if caveat not in before] == [
        f"regnetx_002-fold0-seed0 rolled back once {ending}the same for all.",
        f"resnet18-fold0-seed1 rolled back 2 times {ending}the same for all.",
    ]


def test_no_image_is_shown_twice() -> None:
    scores = pd.DataFrame(
        {"a": [0.9, 0.1, 0.5, np.nan, 0.2], "b": [0.1, 0.1, 0.6, np.nan, 0.4]}, list("vwxyz")
    )
    assert pick_examples(scores, 2) == {"disagree": ["v", "z"], "worst": ["w", "x"]}
    assert pick_examples(scores[["a"]], 2) == {"worst": ["w", "z"]}
    assert pick_examples(scores, 5) == {"disagree": ["v", "z", "x", "w"]}


def test_what_the_choice_of_an_epoch_adds_is_said(params: Params, tree: dict[str, Any]) -> None:
    scores = 0.6 + np.random.default_rng(0).normal(0, 0.03, 20)
    history = pd.DataFrame({"epoch": range(20), "val_dice_per_image": scores})
    runs = [replace(run, history=history) for run in close(params)]
    board = make_leaderboard(params, runs)
    assert 0.02 < board.epoch_choice < 0.08
    by = f"and by up to {board.epoch_choice:.3f} because they chose the best epoch too; rely on"
    assert by in " ".join(caveats(params.comparison, board, {}))
    tree["train"]["keep"] = "last"
    last = Params.model_validate(tree)
    assert "best epoch" not in " ".join(caveats(last.comparison, make_leaderboard(last, runs), {}))


def test_another_metric_does_not_choose_epochs(tree: dict[str, Any]) -> None:
    tree["comparison"].update(
        candidates=["regnetx_002", "resnet18"], seeds=[0, 1, 2], num_resamples=500, metric="iou"
    )
    by_iou = Params.model_validate(tree)
    told = " ".join(caveats(by_iou.comparison, make_leaderboard(by_iou, close(by_iou)), {}))
    assert "ranked by iou, but each training's best epoch and mask rule" in told
    assert "by more where the same images chose the best epoch" in told


def test_images_without_score_are_counted_by_the_metric_that_ranks(
    params: Params, tree: dict[str, Any]
) -> None:
    runs = close(params)
    for run in runs:
        test = run.images["split"] == "test"
        run.images.loc[test & (run.images["id"] == "i0000"), "dice"] = np.nan
    runs[0].images.loc[test & (run.images["id"] == "i0002"), "dice"] = np.nan
    audit = {"fold0": {"leaks": {}}}
    facts = data_facts(params, HEADER, audit, runs)
    assert "60 images in 30 groups, 1 without score (truth and prediction empty)" in facts["Test"]
    assert "1 without score in some runs (the truth is empty" in facts["Test"]
    assert "without score" not in facts["Validation"]
    tree["comparison"].update(params.comparison.model_dump() | {"metric": "iou"})
    by_iou = Params.model_validate(tree)
    assert "without score" not in data_facts(by_iou, HEADER, audit, runs)["Test"]


def test_counts_are_those_of_the_rows_whatever_their_order(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    """Files are in the order of prediction, what is read in that of ids."""
    run = evaluated("resnet18", 0, 0.8, 0.7)
    shuffled = run.images.sample(frac=1, random_state=0)
    order = {
        split: [int(id[1:]) % 1000 for id in shuffled.loc[shuffled["split"] == split, "id"]]
        for split in ("val", "test")
    }
    stored = {
        split: {"": run.counts[split][at], "_chosen": run.counts[split][at] + 1}
        for split, at in order.items()
    }
    folder = finished(tmp_path, tree, {"resnet18": (0.8, 0.7)})
    where = folder / "data/evaluate/resnet18-fold0-seed0"
    scores = folder / "reports/metrics/resnet18-fold0-seed0.json"
    summary = json.loads(scores.read_text())
    summary["sha256"] |= {
        "images": write_images(where / "images.csv", shuffled),
        "counts": write_counts(where / "counts.npz", stored),
    }
    scores.write_text(json.dumps(summary))
    of = (folder / name for name in ("reports/metrics", "data/evaluate", "reports/history"))
    found = read_result("resnet18", 0, 0, *of, folder / "reports/runs")
    assert set(found.counts) == {"val", "val_chosen", "test", "test_chosen"}
    for split in ("val", "test"):
        rows = run.images[run.images["split"] == split]
        assert found.images.loc[found.images["split"] == split, "id"].tolist() == [*rows["id"]]
        assert (found.counts[split] == run.counts[split]).all()
        assert (found.counts[f"{split}_chosen"] == run.counts[split] + 1).all()
    (where / "counts.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"counts\.npz: missing or not the rows that"):
        of = (folder / name for name in ("reports/metrics", "data/evaluate", "reports/history"))
        read_result("resnet18", 0, 0, *of, folder / "reports/runs")
