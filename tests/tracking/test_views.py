"""What MLflow's pages show first of a comparison; `test_pages` shows them in a browser."""

import json
from types import SimpleNamespace

import pytest

from segbench.tracking.views import (
    KINDS,
    TAG,
    Pictures,
    address_of,
    describe_views,
    keys_of,
    lasting_address,
    list_views,
    made_ms,
    unpacked,
)

SCORES = ["test/dice_per_image", "val/dice_per_image", "test/iou_per_image"]
COSTS = ["cost/latency_ms", "cost/parameters_M"]


def views(name: str = "a.b-c", candidates: int = 3, made: int = 1000) -> dict[str, str]:
    aliases = [f"candidate_{at}" for at in range(candidates)]
    pictures = Pictures(1, 7, ["prediction/s1", "prediction/s2"])
    return describe_views(name, "f" * 32, aliases, SCORES, COSTS, made, pictures)


def test_keys_and_names_come_from_the_comparison() -> None:
    found = views()
    assert [*found] == [f"a.b-c-{kind}" for kind in KINDS] == [*keys_of("a.b-c").values()]
    for kind, value in zip(KINDS, found.values(), strict=True):
        assert json.loads(value)["name"] == f"a.b-c: {kind}"
    assert "a.b-c-curves" in address_of("12", "a.b-c-curves")
    assert address_of("12", "a.b-c-curves").startswith("/#/experiments/12/runs?")
    assert "compareRunsMode=CHART" in address_of("12", "a.b-c-curves")
    assert "compareRunsMode=TABLE" in address_of("12", "a.b-c-leaderboard")
    assert lasting_address("my data/set", "a.b-c-cost") == (
        "http://127.0.0.1:5000/views/my%20data%2Fset/a.b-c-cost"
    )


def test_every_view_shows_this_comparison_alone() -> None:
    for key, value in views().items():
        state = unpacked(value)
        own = f"tags.`segbench.comparison.a.b-c` = '{'f' * 32}' AND metrics.`a.b-c/rank` >= 1"
        assert state["searchFilter"].startswith(own)
        grouped = state.get("groupBy")
        if key.endswith("pictures"):
            assert grouped is None
            assert state["searchFilter"].endswith(" AND params.fold = '1' AND params.seed = '7'")
        else:
            assert grouped["groupByKeys"] == [{"mode": "param", "groupByData": "candidate.alias"}]
            assert state["groupsExpanded"]["param.candidate.alias.candidate_2"] is False


def test_charts_stand_in_sections_that_are_there() -> None:
    for value in views().values():
        state = unpacked(value)
        sections = {one["uuid"]: one for one in state["compareRunSections"]}
        charts = state["compareRunCharts"]
        assert len({one["uuid"] for one in charts}) == len(charts) > 0
        assert len(sections) == len({one["name"] for one in sections.values()})
        for chart in charts:
            assert sections[chart["metricSectionId"]]["display"]
        # What MLflow adds by itself is folded: `test/...` goes to the section `test`.
        folded = {one["name"] for one in sections.values() if not one["display"]}
        assert {"", "val", "test", "epoch", "cost"} <= folded


def test_what_each_view_shows() -> None:
    states = {kind: unpacked(views()[f"a.b-c-{kind}"]) for kind in KINDS}
    columns = states["leaderboard"]["columnOrder"]
    wanted = ["a.b-c/rank", *SCORES[:2], *COSTS, SCORES[2]]
    assert [one for one in columns if "metrics" in one] == [f"metrics.`{one}`" for one in wanted]
    assert states["leaderboard"]["orderByKey"] == "metrics.`val/dice_per_image`"
    lines = states["curves"]["compareRunCharts"]
    assert {one["type"] for one in lines} == {"LINE"}
    assert lines[0]["metricKey"] == "epoch/val_dice_per_image"
    points = states["cost"]["compareRunCharts"]
    assert [(one["xaxis"]["key"], one["yaxis"]["key"]) for one in points] == [
        (cost, SCORES[0]) for cost in COSTS
    ]
    (grid,) = states["pictures"]["compareRunCharts"]
    assert (grid["type"], grid["imageKeys"]) == ("IMAGE", ["prediction/s1", "prediction/s2"])


@pytest.mark.parametrize(("candidates", "mode"), [(20, "SHOW_ALL"), (100, "FIRST_20_RUNS")])
def test_many_candidates_fit(candidates: int, mode: str) -> None:
    for value in views(candidates=candidates).values():
        assert len(value) < 5000  # what a tag of an older server holds
        assert unpacked(value)["runsHiddenMode"] == mode


def test_views_are_listed_the_latest_first() -> None:
    def experiment(name: str, tags: dict[str, str]) -> SimpleNamespace:
        return SimpleNamespace(name=name, experiment_id=name[0], tags=tags)

    of_user = json.dumps({"name": "mine", "createdAt": 9999, "state": "{}"})
    polyps = {f"{TAG}{key}": value for key, value in views("first", made=1000).items()}
    polyps |= {f"{TAG}0a1b": of_user, f"{TAG}broken-cost": "{", "mlflow.note.content": "x"}
    cracks = {f"{TAG}{key}": value for key, value in views("second", made=2000).items()}
    found = list_views([experiment("polyps", polyps), experiment("cracks", cracks)])
    assert [view.key for view in found] == [*keys_of("second").values(), *keys_of("first").values()]
    assert found[0].name == "second: leaderboard"
    assert (found[-1].experiment, found[-1].experiment_id) == ("polyps", "p")
    assert made_ms("{") == made_ms("[]") == made_ms("") == 0
