"""What stages side by side would bring, by arithmetic on small graphs."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.datasets.canonical import Sample
from segbench.errors import InputError
from segbench.jobs.list_schedule import Slots, critical_path, lay_out
from segbench.jobs.pipeline import ALONE, BESIDE, Stage
from segbench.jobs.slots import slots_of
from segbench.params import Params
from segbench.planning import in_slots
from segbench.planning.costs import Costs
from segbench.planning.in_slots import mean, time_in_slots
from segbench.planning.samples import Data, Images, Samples
from segbench.planning.side_by_side import describe_jobs, describe_workers, hint
from segbench.planning.speed import Speed, Timing
from segbench.planning.stages import Planned
from segbench.planning.traffic import LINK, PICTURES, Fleet, Sizes
from support.params import write_params


def stage(name: str, *needs: str, sharing: str = BESIDE) -> Stage:
    return Stage(name, frozenset(needs), sharing)


def spans(stages: list[Stage], number: int, each: dict[str, float]) -> dict[str, tuple[float, ...]]:
    laid = lay_out(stages, Slots(number, each))
    return {one.stage.name: (one.start, one.end, one.place) for one in laid}


DIAMOND = [
    stage("data", sharing=""),
    *(stage(f"train@{at}", "data") for at in range(3)),
    stage("measure", "data", sharing=ALONE),
    stage("compare", "measure", "train@0", "train@1", "train@2", sharing=""),
]
TAKES = {
    "data": 1.0,
    "train@0": 4.0,
    "train@1": 2.0,
    "train@2": 2.0,
    "measure": 3.0,
    "compare": 5.0,
}


def test_stages_start_as_soon_as_they_may() -> None:
    """What runs alone does so as soon as nothing else runs."""
    assert spans(DIAMOND, 2, TAKES) == {
        "data": (0, 1, 0),
        "measure": (1, 4, 0),
        "train@0": (4, 8, 0),
        "train@1": (4, 6, 1),
        "train@2": (6, 8, 1),
        "compare": (8, 13, 0),
    }
    assert max(end for _, end, _ in spans(DIAMOND, 1, TAKES).values()) == sum(TAKES.values())
    assert max(end for _, end, _ in spans(DIAMOND, 9, TAKES).values()) == 1 + 3 + 4 + 5


def test_what_must_be_alone_waits_until_nothing_runs() -> None:
    stages = [stage("a"), stage("b"), stage("timed", "a", sharing=ALONE), stage("c", "a")]
    found = spans(stages, 2, {"a": 1.0, "b": 3.0, "timed": 1.0, "c": 1.0})
    assert found["c"] == (1, 2, 0)  # meanwhile
    assert found["timed"][:2] == (3, 4)


def test_the_critical_path_is_the_chain_that_takes_longest() -> None:
    assert critical_path(DIAMOND, TAKES) == ["data", "train@0", "compare"]
    assert critical_path(DIAMOND, TAKES | {"measure": 9.0}) == ["data", "measure", "compare"]
    assert critical_path([stage("a")], {"a": 1.0}) == ["a"]


NETWORK = Speed(steps=[1.0], predict=0.5, latency=1.0, num_modules=9, num_parameters=25_000_000)
NAMES = ["download", "split", "augment", "measure", "compare"]
RUNS = [f"mobilenetv2_035-{fold}-{seed}" for fold in (0, 1) for seed in (0, 1)]


@pytest.fixture
def two_folds(tree: dict[str, Any]) -> Params:
    tree["comparison"].update(candidates=["mobilenetv2_035"], folds=[0, 1], seeds=[0, 1])
    tree["split"].update(num_folds=2, test_share=None)
    return Params.model_validate(tree)


@pytest.fixture
def data() -> Data:
    sample = Sample(
        "a", np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8), "a", "", "a"
    )
    return Data(Samples([sample], 1000, 0.0), Images(1000, 100, 100, 0), {})


def planned(*, with_data: bool = True) -> Planned:
    """The graph of the pipeline, of two folds and two seeds."""
    stages, reads = [], {}
    if with_data:
        for name, needs in (("download", ()), ("split", ("download",)), ("augment", ("split",))):
            stages.append(stage(name, *needs, sharing=""))
            reads[name] = ["data/dataset"][: len(needs)]
    for run in RUNS:
        alias, fold, seed = run.split("-")
        folder = f"{alias}-fold{fold}-seed{seed}"
        stages.append(stage(f"train@{run}", *(["augment"] if with_data else [])))
        arrays = f"data/arrays/fold{fold}"
        reads[f"train@{run}"] = ["src/segbench/models", f"{arrays}/train", f"{arrays}/val"]
        stages.append(stage(f"evaluate@{run}", f"train@{run}"))
        reads[f"evaluate@{run}"] = [
            *("data/dataset", f"{arrays}/val", f"{arrays}/test"),
            f"data/train/{folder}/weights.safetensors",
        ]
    return Planned(stages, reads)


def costs_of(params: Params, data: Data) -> Costs:
    timing = Timing(start_up=0.0, made=0.0, cores=2, speeds={"mobilenetv2_035": NETWORK})
    return Costs(params, data, timing)


def test_a_machine_pulls_what_it_does_not_hold_yet(two_folds: Params, data: Data) -> None:
    """64 x 64 pixels of four bytes, 800 of them to train, 100 each to validate and to test."""
    pixel = 4 * 64 * 64
    sizes = Sizes(two_folds, data, costs_of(two_folds, data))
    assert sizes.parts(["data/arrays/fold1/train", "src/segbench/models", "data/dataset"]) == {
        "data/arrays/fold1/train": 800 * pixel,
        "data/dataset": 1000 * 100 * 100 * 4,
    }
    assert sum(sizes.parts(["data/arrays"]).values()) == 2 * 1000 * pixel
    assert sizes.made("augment") == sizes.parts(["data/arrays"])
    (weights,) = sizes.made(f"train@{RUNS[0]}").values()
    assert weights == 100_000_000
    (evaluated,) = sizes.made(f"evaluate@{RUNS[0]}").values()
    assert evaluated == weights + PICTURES

    plan = planned(with_data=False)
    each = {one.name: 100.0 for one in plan.stages}
    fleet = Fleet(2, each, plan.reads, sizes)
    first = plan.stages[0]
    took = 100 + (900 * pixel + 2 * weights) / LINK  # to the remote, and from there to here
    assert fleet.seconds(first, 0) == pytest.approx(took)
    laid = lay_out(plan.stages, fleet)
    # A machine evaluates what it trained, and goes on with the fold that it holds.
    places = {one.stage.name: one.place for one in laid}
    for run in RUNS:
        assert places[f"train@{run}"] == places[f"evaluate@{run}"]
    arrays, dataset = 1000 * pixel, 1000 * 100 * 100 * 4
    folds = {(one.place, one.stage.name.split("-")[1]) for one in laid}
    assert fleet.pulled == {"arrays": len(folds) * arrays, "dataset": 2 * dataset}
    assert fleet.pushed == {"train": 4 * weights, "evaluate": 4 * evaluated}
    assert fleet.there == 2 * arrays + dataset
    assert fleet.results == 4 * (weights + evaluated)
    moved = sum(fleet.pulled.values()) + sum(fleet.pushed.values()) + fleet.results
    assert fleet.transfers == pytest.approx(moved / LINK)


def test_what_several_machines_would_take(two_folds: Params, data: Data) -> None:
    tree = two_folds.model_dump(mode="json")
    tree["hardware"]["device"] = "cpu"
    params, plan = Params.model_validate(tree), planned(with_data=False)
    costs = costs_of(params, data)
    # Two epochs of 800 steps of 1 s and 100 predictions of 0.5 s; 200 predictions.
    assert costs.of(f"train@{RUNS[0]}").seconds == 2 * (800 + 50)
    assert costs.of(f"evaluate@{RUNS[0]}").seconds == 100
    said = describe_workers(params, plan, costs, data, 4, seconds=7200.0)
    # 1,800 s, and to pull 56 MB and push 202.5 MB, and from there to here: 3.7 s.
    assert said[0].endswith("one at a time: about 30 min 04 s, 4.0 times as fast")
    assert "critical path: about 30 min 00 s however many there are: train@mobilenetv" in said[1]
    assert said[3] == (
        "  workers pull about 215 MiB (arrays 62 MiB, dataset 153 MiB); a training's arrays are "
        "14 MiB for each worker and fold"
    )
    assert "what is up to date here, 69 MiB, once; this machine pulls 772 MiB" in said[4]
    with_two = describe_workers(params, plan, costs, data, 2, seconds=7200.0)
    assert "about 1 h 00 min, 2.0 times as fast" in with_two[0]


def test_what_jobs_would_take(
    two_folds: Params, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cores train one after another in 1,700 s, and side by side in 2,000 s each."""
    monkeypatch.setenv("SEGBENCH_CORES", "2")
    tree = two_folds.model_dump(mode="json")
    tree["hardware"]["device"] = "cpu"
    params, plan = Params.model_validate(tree), planned(with_data=False)
    costs = costs_of(params, data)
    slower = Speed([1.1875], 0.5, 1.0, 9, NETWORK.num_parameters)
    timing = Timing(start_up=0.0, made=0.0, cores=1, speeds={"mobilenetv2_035": slower})
    monkeypatch.setattr("segbench.planning.side_by_side.time_in_slots", lambda *_: timing)
    said = describe_jobs(params, plan, costs, "auto", seconds=7200.0, size=0)
    assert said[0] == (
        "--jobs auto: 2 at a time, each with 1 core: about 1 h 10 min, 1.7 times as fast"
    )
    assert said[1].startswith("  critical path: about 35 min 00 s however many there are: train@")
    assert said[2].startswith(
        "  stages: about 2.33 core hours, one after another 4.00 core hours; disk: about "
    )
    assert hint(params, plan, costs, 7200.0) == []  # it would have to be timed
    with pytest.raises(InputError, match="--jobs 3: this machine has 2 cores"):
        describe_jobs(params, plan, costs, "3", seconds=7200.0, size=0)


def test_networks_are_timed_in_all_slots_at_once(
    tree: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tree["hardware"].update(device="cpu", threads="auto")
    write_params(tree, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGBENCH_CORES", "2")
    begun: list[str] = []

    class Noted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            begun.append(named["env"]["OMP_NUM_THREADS"])

    monkeypatch.setattr(in_slots.subprocess, "Popen", Noted)
    slots = slots_of("2", Params.model_validate(tree))
    found = time_in_slots(slots, ["mobilenetv2_035"])
    assert begun == ["1", "1"]
    assert found.cores == 1
    assert found.start_up > 0.1
    (speed,) = found.speeds.values()
    assert speed.steps[0] > speed.predict > 0

    (tmp_path / "params.yaml").unlink()
    with pytest.raises(InputError, match="could not be timed in slots, for the reason above"):
        time_in_slots(slots, ["mobilenetv2_035"])
    assert "params.yaml" in capfd.readouterr().err


def test_slots_are_averaged() -> None:
    one, other = (
        Timing(by, 2 * by, 1, {"a": Speed([by, 4 * by], 3 * by, 5 * by, 9, 7)}) for by in (1.0, 2.0)
    )
    assert mean([one, other]) == Timing(1.5, 3.0, 1, {"a": Speed([1.5, 6.0], 4.5, 7.5, 9, 7)})
