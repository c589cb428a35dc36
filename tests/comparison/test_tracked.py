"""What MLflow is told of a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest

from segbench.comparison import tracked
from segbench.comparison.content import Content
from segbench.comparison.tracked import describe_comparison
from segbench.evaluation.costs import Quartiles
from segbench.params import Params
from segbench.tracking import provenance
from segbench.tracking.records import Run
from segbench.tracking.views import unpacked
from support.report import content


def described(found: Content) -> Run:
    return describe_comparison(
        found.params,
        found.header,
        found.audit,
        found.runs,
        found.leaderboard,
        found.expenses,
        found.external,
        found.verdict,
        found.requirements,
    )


@pytest.fixture
def found(params: Params, tmp_path: Path) -> Content:
    made = content(params, tmp_path, redistributable=True)
    runs = [
        replace(run, trained={**run.trained, "run": f"{at:032x}"}, summary={"sha256": f"{at}"})
        for at, run in enumerate(made.runs)
    ]
    return replace(made, runs=runs)


def with_latency(found: Content, *milliseconds: float) -> Content:
    """The same with a latency by OpenVINO of each candidate."""
    predicting = {
        alias: replace(cost, other_latencies_ms={"openvino": Quartiles(value, 0, 99)})
        for (alias, cost), value in zip(
            found.expenses.predicting.items(), milliseconds, strict=True
        )
    }
    return replace(found, expenses=replace(found.expenses, predicting=predicting))


def test_each_run_gets_what_its_candidate_costs(found: Content) -> None:
    run = described(with_latency(found, 7.25, 3.5))
    for at, (alias, latency) in enumerate(zip(found.leaderboard.aliases, (7.25, 3.5), strict=True)):
        told = run.child_metrics[f"{at:032x}"]
        cost = found.expenses.predicting[alias]
        assert told["cost/latency_openvino_ms"] == latency
        assert told["cost/latency_ms"] == cost.latency_ms.median
        assert told["cost/parameters_M"] == pytest.approx(cost.parameters / 1e6, abs=1e-3)
    assert any("cost/latency_openvino_ms" in str(unpacked(view)) for view in run.views.values())
    without = described(found)
    assert not any("openvino" in str(told) for told in without.child_metrics.values())


def test_a_comparison_is_known_again_by_what_it_says(
    found: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever and by whatever code it is made, and whatever else says something else."""
    first = described(found)
    monkeypatch.setattr(tracked, "now_ms", lambda: 1)
    monkeypatch.setattr(provenance, "tags", lambda: {"git.commit": "another"})
    again = described(found)
    assert (again.id, again.started_ms, again.tags["git.commit"]) == (first.id, 1, "another")
    others = [
        with_latency(found, 7.25, 3.5),
        replace(found, verdict=replace(found.verdict, sentence="another")),
        replace(found, requirements=[]),
        replace(found, external=[]),
        replace(found, runs=[replace(run, summary={"sha256": "x"}) for run in found.runs]),
    ]
    assert len({first.id, *(described(other).id for other in others)}) == 1 + len(others)
