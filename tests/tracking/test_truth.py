"""MLflow holds the truth once: comparisons, killed runs, scores and what they were measured on."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segbench.tracking import processes
from segbench.tracking.client import connect
from segbench.tracking.processes import PROCESS_TAG, Writer, close_abandoned, lock_of
from segbench.tracking.records import Record, Run, now_ms
from segbench.tracking.replay import Replay, replay
from support.contest import DATA, Contest

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests here, since to make one takes seconds; each has an experiment of
    its own."""
    address = f"sqlite:///{tmp_path_factory.mktemp('truth') / 'mlflow.db'}"
    connect(address)  # which says that it makes one
    return address


@pytest.fixture
def contest(uri: str, request: pytest.FixtureRequest, tmp_path: Path) -> Contest:
    name = re.sub(r"\W+", "-", request.node.name)[:60]  # as long as a model's name may be
    return Contest(tmp_path / "records", name)


def held(uri: str, contest: Contest) -> dict[str, Any]:
    """The runs of an experiment, by MLflow's id."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(contest.experiment)
    return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}


def comparisons(runs: dict[str, Any]) -> dict[str, Any]:
    """Those of comparisons, by the ids of their records."""
    return {
        run.data.tags["segbench.run"]: run
        for run in runs.values()
        if "segbench.compares" in run.data.tags
    }


def test_a_comparison_made_three_times_with_one_change(uri: str, contest: Contest) -> None:
    """Two runs, of which the last supersedes the other; parent, children and views are its own."""
    trained = [*contest.train("good"), *contest.train("bad")]
    first = contest.compare()
    replay([*trained, first], uri)
    (only,) = comparisons(held(uri, contest)).values()
    again = contest.compare()
    replay([again], uri)
    runs = held(uri, contest)
    (same,) = comparisons(runs).values()
    assert len(runs) == 3
    assert same.info.run_id == only.info.run_id
    assert same.info.end_time == only.info.end_time
    client = connect(uri)
    history = client.get_metric_history(same.info.run_id, "test/dice_per_image")
    assert [point.value for point in history] == [0.8]
    changed = contest.compare(relation="undecided")
    replay([changed], uri)
    runs = held(uri, contest)
    old, new = sorted(comparisons(runs).values(), key=lambda run: run.info.start_time)
    assert old.info.run_id == only.info.run_id
    assert old.data.tags["segbench.superseded_by"] == new.data.tags["segbench.run"]
    assert new.data.tags["segbench.supersedes"] == old.data.tags["segbench.run"]
    assert "segbench.superseded_by" not in new.data.tags
    assert old.data.tags["mlflow.note.content"].startswith("**Superseded** by [comparison: good")
    for run in runs.values():
        if "candidate.alias" in run.data.params:
            assert run.data.tags["mlflow.parentRunId"] == new.info.run_id
            assert (
                run.data.tags["segbench.comparison.comparison"] == (new.data.tags["segbench.run"])
            )
            assert (
                len(client.get_metric_history(run.info.run_id, "comparison/rank"))
                == (len(client.get_metric_history(run.info.run_id, "test/dice_per_image")))
                == 1
            )
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(client.search_logged_models([new.info.experiment_id])) == 2


def test_the_order_of_replays_does_not_matter(uri: str, contest: Contest) -> None:
    """Also where the last says again what the first said, as after a change that was undone."""
    trained = [*contest.train("good"), *contest.train("bad")]
    made = [
        contest.compare(),
        contest.compare(relation="undecided"),
        contest.compare(best="bad"),
        contest.compare(),
    ]
    outcomes = []
    for at, order in enumerate(permutations(range(4))):
        if at not in (0, 17):
            continue
        contest.experiment = f"order-{at}"
        told = []
        for folder in [*trained, *made]:
            copy = contest.folder.parent / str(at) / folder.relative_to(contest.folder)
            shutil.copytree(folder.parent if folder in trained else folder, copy.parent / copy.name)
            told.append(copy / folder.name if folder in trained else copy)
        for folder in told:
            path = folder / "run.json"
            path.write_text(
                path.read_text().replace(
                    '"experiment": "test_the_order_of_replays_does_not_matter"',
                    f'"experiment": "{contest.experiment}"',
                )
            )
        replay(told[: len(trained)], uri)
        for number in order:
            replay([told[len(trained) + number]], uri)
        runs = held(uri, contest)
        found = comparisons(runs)
        assert len(found) == 3
        names = {run.info.run_id: id for id, run in found.items()}
        outcomes.append(
            (
                {id: run.data.tags.get("segbench.superseded_by") for id, run in found.items()},
                {
                    run.info.run_name: (
                        names[run.data.tags["mlflow.parentRunId"]],
                        run.data.tags["segbench.comparison.comparison"],
                    )
                    for run in runs.values()
                    if "candidate.alias" in run.data.params
                },
            )
        )
    assert len(outcomes) == 2
    assert all(one == outcomes[0] for one in outcomes)
    superseded, parents = outcomes[0]
    (last,) = (id for id, by in superseded.items() if by is None)
    assert set(parents.values()) == {(last, last)}


def test_scores_say_of_which_model_and_images_they_are(uri: str, contest: Contest) -> None:
    replay(contest.train("good"), uri)
    client = connect(uri)
    (run,) = held(uri, contest).values()
    used = {one.dataset.digest: one.tags[0].value for one in run.inputs.dataset_inputs}
    assert used == {DATA[::-1]: "training", DATA: "testing", "f" * 33: "validation"}
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, str(model.status)) == ("good-fold0-seed0", "READY")
    assert {(one.key, one.value, one.dataset_digest, one.step) for one in model.metrics} == {
        ("test/dice_per_image", 0.8, DATA, 0),
        ("val/dice_per_image", 0.81, "f" * 33, 0),
        ("epoch/val_loss", 1 / 3, None, 2),  # of the epoch whose weights it has
    }
    assert client.search_logged_models(
        [run.info.experiment_id],
        "metrics.`test/dice_per_image` > 0.7",
        datasets=[{"dataset_name": "polyps", "dataset_digest": DATA}],
    )
    # Evaluated anew with the same outcome: the same model, and no point twice.
    contest.clock += 1000
    replay(contest.train("good")[1:], uri)
    assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert len(client.get_metric_history(run.info.run_id, "test/dice_per_image")) == 1


SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def stage() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


def _growing(contest: Contest, alias: str = "good") -> Path:
    """The record of a training that has not ended."""
    run = Run(
        *(contest.id_of(alias), "train", contest.experiment, f"{alias}-fold0-seed0", now_ms()),
        params={"candidate.alias": alias, "fold": "0", "seed": "0"},
    )
    Record(contest.folder / alias / "train/record", run).log(0, {"epoch/val_loss": 1.0})
    return contest.folder / alias / "train/record"


def _statuses(uri: str, contest: Contest) -> dict[str, str]:
    return {run.info.run_name: run.info.status for run in held(uri, contest).values()}


def test_a_run_of_a_killed_stage_is_closed_by_whoever_comes_next(
    uri: str, contest: Contest, stage: subprocess.Popen[bytes]
) -> None:
    Replay(_growing(contest), uri, stage.pid).advance()
    replay([], uri)  # while it lives
    assert _statuses(uri, contest) == {"good-fold0-seed0": "RUNNING"}
    stage.kill()
    stage.wait()
    Replay(_growing(contest, "bad"), uri, os.getpid()).advance()  # the next stage
    assert _statuses(uri, contest) == {"good-fold0-seed0": "KILLED", "bad-fold0-seed0": "RUNNING"}
    # The training goes on as the same run.
    Replay(_growing(contest), uri, os.getpid()).advance()
    assert set(_statuses(uri, contest).values()) == {"RUNNING"}
    replay([*contest.train("good"), *contest.train("bad")], uri)
    runs = held(uri, contest)
    assert sorted(run.info.run_name for run in runs.values()) == [
        "bad-fold0-seed0",
        "good-fold0-seed0",
    ]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert not any(PROCESS_TAG in run.data.tags for run in runs.values())


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_run_that_ends_while_others_look_for_killed_ones_is_finished(
    is_whole: bool,
    uri: str,
    contest: Contest,
    stage: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its stage ends after it was found RUNNING: what it told last counts, and if its follower
    still tells that, nobody closes it."""
    current = Replay(_growing(contest), uri, stage.pid)
    current.advance()
    search = MlflowClient.search_runs

    def search_and_end(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
        found = search(self, *arguments, **options)
        if "RUNNING" in arguments[1] and stage.poll() is None:
            if is_whole:
                contest.train("good")
                current.advance()
            stage.kill()
            stage.wait()
        return found

    with monkeypatch.context() as patch, nullcontext() if is_whole else lock_of(current.run.id):
        patch.setattr(MlflowClient, "search_runs", search_and_end)
        replay([], uri)
    status = "FINISHED" if is_whole else "RUNNING"
    assert _statuses(uri, contest) == {"good-fold0-seed0": status}
    replay([], uri)
    status = "FINISHED" if is_whole else "KILLED"
    assert _statuses(uri, contest) == {"good-fold0-seed0": status}


@pytest.mark.parametrize("name", ["log_batch", "log_inputs", "set_tag"])
@pytest.mark.parametrize("has_stage", [True, False])
def test_what_a_server_refuses_once_comes_later(
    name: str, has_stage: bool, uri: str, contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The params and data of a run as its scores, whichever call of its start is refused."""
    current = Replay(contest.train("good")[0], uri, os.getpid() if has_stage else 0)
    original = getattr(MlflowClient, name)
    refused: list[str] = []

    def once(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
        if not refused:
            refused.append(name)
            raise MlflowException("database is locked")
        return original(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, name, once)
    for _ in range(3):
        with suppress(MlflowException):
            current.advance()
    assert current.done
    (run,) = held(uri, contest).values()
    assert run.info.status == "FINISHED"
    assert run.data.params == current.run.params
    assert [one.dataset.digest for one in run.inputs.dataset_inputs] == [DATA[::-1]]
    assert {key: run.data.tags[key] for key in current.run.tags} == current.run.tags
    assert run.data.metrics["epoch/val_loss"] == pytest.approx(1 / 3)


def test_a_stage_that_is_killed_before_its_run_is_told_is_killed_there_too(
    uri: str, contest: Contest, stage: subprocess.Popen[bytes]
) -> None:
    stage.kill()
    stage.wait()
    Replay(_growing(contest), uri, stage.pid).advance()
    replay([], uri)
    assert _statuses(uri, contest) == {"good-fold0-seed0": "KILLED"}


def test_the_lock_of_another_account_is_left_alone(
    uri: str, contest: Contest, stage: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    Replay(_growing(contest), uri, stage.pid).advance()
    stage.kill()
    stage.wait()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    client = connect(uri)
    experiment = client.get_experiment_by_name(contest.experiment)
    with monkeypatch.context() as patch:
        patch.setattr(FileLock, "acquire", refuse)
        assert close_abandoned(client, [experiment.experiment_id]) == []
    assert set(_statuses(uri, contest).values()) == {"RUNNING"}


@pytest.mark.parametrize(
    ("place", "silent_s", "status"),
    [("elsewhere", 60, "RUNNING"), ("elsewhere", 1000, "KILLED"), ("", 1000, "RUNNING")],
)
def test_a_process_of_another_machine_is_known_by_its_signs_of_life(
    place: str, silent_s: int, status: str, uri: str, contest: Contest
) -> None:
    current = Replay(_growing(contest), uri, os.getpid())
    current.advance()
    client = connect(uri)
    ((id, run),) = held(uri, contest).items()
    writer = Writer.read(run.data.tags[PROCESS_TAG])
    assert writer is not None
    changed = writer._replace(place=place or writer.place, seen_ms=writer.seen_ms - 1000 * silent_s)
    client.set_tag(id, PROCESS_TAG, changed.value)
    replay([], uri)
    assert _statuses(uri, contest) == {"good-fold0-seed0": status}
    # One that was closed too early, since a network was gone, is opened again by itself.
    current._beat = time.monotonic() - processes.BEAT_S - 1
    current.advance()
    assert _statuses(uri, contest) == {"good-fold0-seed0": "RUNNING"}


def test_runs_of_others_and_of_unknown_writers_stay(
    uri: str, contest: Contest, tmp_path: Path
) -> None:
    replay([_growing(contest)], uri)  # by hand: whether its stage lives is not known
    client = connect(uri)
    experiment = client.get_experiment_by_name(contest.experiment).experiment_id
    client.create_run(experiment, run_name="of another tool", start_time=0)
    replay([], uri)
    assert set(_statuses(uri, contest).values()) == {"RUNNING"}
    ((id, _),) = (one for one in held(uri, contest).items() if "fold0" in one[1].info.run_name)
    _make_older(uri, id)
    replay([], uri)
    assert _statuses(uri, contest) == {"good-fold0-seed0": "KILLED", "of another tool": "RUNNING"}


def _make_older(uri: str, run_id: str) -> None:
    import sqlite3

    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE runs SET start_time = 1 WHERE run_uuid = ?", (run_id,))


def versions(uri: str, contest: Contest) -> tuple[dict[str, str], dict[str, str]]:
    """Candidates of the registered versions, and versions by alias."""
    client: MlflowClient = connect(uri)
    model = client.get_registered_model(f"{contest.experiment}-comparison")
    found = client.search_model_versions(f"name = '{model.name}'")
    return (
        {str(one.version): one.tags["candidate"] for one in found},
        {alias: str(version) for alias, version in model.aliases.items()},
    )


def test_the_champion_is_registered_once(
    uri: str, contest: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    """And has the alias; the next keeps the former as `previous`."""
    records = [*contest.train("good"), *contest.train("bad"), contest.compare()]
    replay(records, uri)
    assert versions(uri, contest) == ({"1": "good"}, {"champion": "1"})
    replay([*records, contest.compare(), contest.compare(relation="undecided")], uri)
    assert versions(uri, contest) == ({"1": "good"}, {"champion": "1"})
    replay([contest.compare(best="bad")], uri)
    assert versions(uri, contest) == (
        {"1": "good", "2": "bad"},
        {"champion": "2", "previous": "1"},
    )
    replay(records, uri)  # an older comparison takes nothing from a later one
    assert versions(uri, contest)[1] == {"champion": "2", "previous": "1"}
    assert "refused" not in capsys.readouterr().err
    client = connect(uri)
    version = client.get_model_version_by_alias(f"{contest.experiment}-comparison", "champion")
    run = client.get_run(version.run_id)
    assert run.info.run_name == version.tags["segbench.run"] == "bad-fold0-seed0"
    assert version.tags["data"] == DATA
    assert version.tags["score"] == "0.6"
    assert version.tags["report"].endswith("/report/comparison.html")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"relation": "undecided"}, "the test set does not tell it from version 1 (good)"),
        ({"doubts": ["requirement 'p < 0.05' is not met"]}, "requirement 'p < 0.05' is not met"),
        (
            {"children": ("bad",)},  # in a comparison without the former champion
            "dice_per_image on the same test images is 0.6000, and 0.8000 of version 1 (good)",
        ),
        ({"children": ("bad",), "data": "other"}, ""),  # scores that cannot be compared
    ],
)
def test_a_downgrade_is_refused(
    changes: dict[str, Any],
    reason: str,
    uri: str,
    contest: Contest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replay([*contest.train("good"), *contest.train("bad"), contest.compare()], uri)
    record = contest.compare(best="bad", **changes)
    replay([record], uri)
    said = capsys.readouterr().err
    if not reason:
        assert versions(uri, contest)[1] == {"champion": "2", "previous": "1"}
        return
    assert versions(uri, contest) == ({"1": "good", "2": "bad"}, {"champion": "1"})
    assert said.startswith(
        f"MLflow: {contest.experiment}-comparison version 2 (bad) is registered, the alias "
        f"champion stays at version 1: {reason}"
    )
    replay([record], uri)
    assert capsys.readouterr().err == ""  # said once
    replay([record], uri, force=True)
    assert versions(uri, contest)[1] == {"champion": "2", "previous": "1"}
    version = connect(uri).get_model_version(f"{contest.experiment}-comparison", "2")
    assert version.tags["champion.forced"].startswith(reason)


def test_a_champion_whose_model_comes_later(uri: str, contest: Contest) -> None:
    record, trained = contest.compare(), contest.train("good")
    replay([trained[0], record], uri)
    replay([trained[1], record], uri)
    assert versions(uri, contest) == ({"1": "good"}, {"champion": "1"})


@pytest.mark.parametrize("first", ["compare", "deliver"])
def test_a_version_says_where_its_card_is(first: str, uri: str, contest: Contest) -> None:
    replay(contest.train("good"), uri)
    made = [getattr(contest, one) for one in ("compare", "deliver")]
    for make in made if first == "compare" else made[::-1]:
        replay([make() if make == contest.compare else make("good")], uri)
    client = connect(uri)
    version = client.get_model_version_by_alias(f"{contest.experiment}-comparison", "champion")
    assert version.tags["card"] == f"runs:/{version.run_id}/card/card.md"
    names = [one.path for one in client.list_artifacts(version.run_id, "card")]
    assert names == ["card/card.md"]
    assert client.get_run(version.run_id).info.status == "FINISHED"


def test_everything_into_another_server(contest: Contest, offline: Callable[[], str]) -> None:
    records = [*contest.train("good"), *contest.train("bad"), contest.compare()]
    records.append(contest.compare(best="bad"))
    replay(records, offline())
    assert versions(offline(), contest)[1] == {"champion": "2", "previous": "1"}
