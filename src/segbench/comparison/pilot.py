"""What a planned comparison would find, from a pilot: finished runs of one or two candidates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from segbench.comparison.planning import make_plan
from segbench.comparison.ranking import ranking_of
from segbench.comparison.scores import score_array, upward
from segbench.comparison.statistics.panel import FEWEST_FOLDS, Panel, group_limit
from segbench.comparison.statistics.planning import foreseen
from segbench.comparison.verdict import seeds_cannot
from segbench.errors import InputError
from segbench.evaluation.results import RunResult, read_result
from segbench.params import Params
from segbench.params.compare import Comparison, RunKey

NAME = re.compile(r"(?P<candidate>[a-z0-9_]+)-fold(?P<fold>\d+)-seed(?P<seed>\d+)")


@dataclass(frozen=True)
class Pilot:
    """Finished runs: all folds and seeds of some candidates.

    Attributes:
        candidates, folds, seeds: whose.
        runs: all of them.
    """

    candidates: list[str]
    folds: list[int]
    seeds: list[int]
    runs: list[RunResult]


def read_pilot(
    params: Params, digest: str, metrics: Path, evaluations: Path, history: Path, runs: Path
) -> Pilot | None:
    """The finished runs of these data that are there; None if none is whole.

    Of candidates that have different folds and seeds, those which all of them have. Points of
    learning curves are no candidates here.

    Args:
        params: all of them.
        digest: of the packed arrays; runs of others would foretell another comparison.
        metrics, evaluations, history, runs: as of `evaluation.results.read_result`.
    """
    found = {}
    for path in sorted(metrics.glob("*.json")):
        name = NAME.fullmatch(path.stem)
        chosen = params.candidates.get(name["candidate"]) if name else None
        if name is None or chosen is None or chosen.train_share < 1:
            continue
        key = RunKey(name["candidate"], int(name["fold"]), int(name["seed"]))
        try:
            run = read_result(*key, metrics, evaluations, history, runs)
        except InputError:  # half a run, or one whose rows were not pulled, is no pilot
            continue
        if run.summary["sha256"]["dataset"] == digest:
            found[key] = run
    candidates = list(dict.fromkeys(key.candidate for key in found))

    def has_all(fold: int, seed: int) -> bool:
        return all((alias, fold, seed) in found for alias in candidates)

    folds = sorted({key.fold for key in found})
    seeds = sorted({key.seed for key in found})
    folds = [fold for fold in folds if any(has_all(fold, seed) for seed in seeds)]
    seeds = [seed for seed in seeds if all(has_all(fold, seed) for fold in folds)]
    if not seeds:
        return None
    whole = [found[RunKey(*key)] for key in product(candidates, folds, seeds)]
    return Pilot(candidates, folds, seeds, whole)


def describe_pilot(params: Params, pilot: Pilot | None, seconds: Mapping[str, float]) -> list[str]:
    """What the planned comparison would find, in lines; none where it compares nothing.

    Args:
        params: of the planned comparison.
        pilot: finished runs.
        seconds: that a training takes, by candidate.
    """
    chosen, number = params.comparison, len(params.rivals)
    if number < 2:
        return []
    if pilot is None:
        return [
            "certainty: how small a difference this comparison would find is not known before two "
            "candidates, or one with two seeds, have been run on these data and this split; run "
            "these first, then plan again"
        ]
    ranking = ranking_of(params)
    scores = upward(score_array(pilot.runs, pilot.candidates, "test", ranking), ranking)
    is_pair = len(pilot.candidates) == 1
    if is_pair and (len(pilot.seeds) == 1 or len(pilot.folds) > 1):
        return [
            f"certainty: the finished runs of {pilot.candidates[0]} alone do not say how small a "
            "difference this comparison would find; add a second candidate to them"
        ]
    if is_pair:
        weights = None if scores.weights is None else scores.weights.transpose(1, 0, 2)
        scores = scores._replace(values=scores.values.transpose(1, 0, 2), weights=weights)
    panel = Panel(*scores)
    whose = ", ".join(pilot.candidates)
    if panel.num_groups < 2:
        return [f"certainty: the test images of {whose} are one group, so nothing can be tested"]
    found = foreseen(panel, is_pair, number, len(chosen.seeds), len(chosen.folds))
    plan = make_plan(chosen, found, number, seconds)
    now = found.resolvable(1.0, found.trainings_now, number - 1, chosen.confidence)
    limit = group_limit(panel) if len(chosen.folds) == 1 and len(chosen.seeds) > 1 else None
    refused = " It would speak of networks as trained here, not of encoders trained anew. "
    return [
        f"certainty, from the finished runs of {whose} ({_count(pilot.folds, 'fold')}, "
        f"{_count(pilot.seeds, 'seed')}): with {number} candidates, "
        f"{_count(chosen.folds, 'fold')}, {_count(chosen.seeds, 'seed')} and {found.groups} groups "
        f"of test images a true difference of {_at_least(chosen, pilot)}{now:.3f}"
        f"{ranking.unit_text} {ranking.name} to the champion is found in 80 of 100 comparisons. "
        f"{plan.sentence}" + (refused + seeds_cannot(limit) if limit else "")
    ]


def _at_least(params: Comparison, pilot: Pilot) -> str:
    """What makes a pilot show too little."""
    no_trainings = len(pilot.seeds) == 1 and len(pilot.folds) == 1
    no_training_sets = len(params.folds) >= FEWEST_FOLDS and len(pilot.folds) == 1
    one_encoder = len(pilot.candidates) == 1
    varies = len(params.seeds) > 1 or len(params.folds) > 1
    return "at least " * (no_training_sets or one_encoder or (no_trainings and varies))


def _count(values: list[int], noun: str) -> str:
    return f"{len(values)} {noun}{'' if len(values) == 1 else 's'}"
