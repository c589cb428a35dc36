"""Both pages say how far the claims were checked, and the full one what would resolve more."""

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.comparison.coverage import describe
from segbench.comparison.leaderboard import make_leaderboard
from segbench.comparison.page import write_report
from segbench.comparison.requirements import report_values
from segbench.evaluation.costs import Quartiles
from segbench.params import Params
from support.report import content


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    """A difference so small matters that the made-up comparison does not find it."""
    tree["comparison"]["smallest_that_matters"] = 0.001
    return Params.model_validate(tree)


@pytest.fixture
def pages(params: Params, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "reports").mkdir()
    write_report(content(params, tmp_path, redistributable=True), tmp_path / "reports")
    return {
        ending: html.unescape((tmp_path / f"reports/comparison.{ending}").read_text())
        for ending in ("md", "html")
    }


@pytest.mark.parametrize("spacing", [None, (0.5, 0.25)])
def test_distances_have_a_unit_and_are_of_the_original_size(
    spacing: tuple[float, float] | None, params: Params, tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    found = content(params, tmp_path, redistributable=True)
    changed = {
        **{"hausdorff95": 111.0, "hausdorff95_original": 222.0, "surface_dice_original": 0.123},
        **{"average_surface_distance": 4.5, "cldice": 0.678, "detection_f1_large": np.nan},
    }
    runs = [replace(run, images=run.images.assign(**changed)) for run in found.runs]
    dataset = replace(found.header.dataset, spacing=spacing)
    found = replace(
        found,
        runs=runs,
        leaderboard=make_leaderboard(found.params, runs),
        header=replace(found.header, dataset=dataset),
    )
    write_report(found, tmp_path / "reports")
    short, page = (
        html.unescape((tmp_path / f"reports/comparison.{ending}").read_text())
        for ending in ("md", "html")
    )
    unit = "mm" if spacing else "pixels"
    assert f"| Hausdorff 95, {unit} |" in short
    assert "| 222.000 |" in short
    assert "111.000" not in short + page
    (table,) = re.findall('<h2 id="scores">.*?</table>', page, re.DOTALL)
    for name in ("Hausdorff 95", "average surface distance"):
        assert f">{name}, {unit}</th>" in table
    for name in ("surface dice", "cldice", "detection f1 large"):
        assert f">{name}</th>" in table
    for value in ("222.000", "0.123", "4.500", "0.678"):
        assert f"<td>{value}</td>" in table
    assert f"the tolerance of the surface dice is 2 {unit}" in page
    assert "No test image defines detection f1 large: it is left out where neither" in page
    assert ("0.5 x 0.25 mm (row, column)" in page) == (spacing is not None)


def test_latencies_by_other_runtimes_and_their_order_are_shown(
    params: Params, tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    found = content(params, tmp_path, redistributable=True)
    aliases = found.leaderboard.aliases
    costs = {
        alias: replace(
            found.expenses.predicting[alias],
            latency_ms=Quartiles(10 + at, 10, 20),
            other_latencies_ms={"openvino": Quartiles(7.5 - at, 1, 9)},
        )
        for at, alias in enumerate(aliases)
    }
    found = replace(found, expenses=replace(found.expenses, predicting=costs))
    write_report(found, tmp_path / "reports")
    page = html.unescape((tmp_path / "reports/comparison.html").read_text())
    assert "<br>openvino 7.5</span>" in page
    order = ", ".join(reversed(aliases))
    assert f"By openvino the order of latencies is another: {order}." in page
    known = report_values(found.leaderboard, costs)
    assert known["latency_ms_openvino"] == 7.5
    assert known["runner_up_latency_ms_openvino"] == 6.5


def test_the_nearest_simulated_case_is_quoted(
    params: Params, pages: dict[str, str], tmp_path: Path
) -> None:
    case = content(params, tmp_path, redistributable=True).leaderboard.simulated
    assert case is not None
    for text in pages.values():
        assert " ".join(describe(case).split()) in " ".join(text.split())


def test_what_resolves_the_difference_that_matters_is_said(
    params: Params, pages: dict[str, str], tmp_path: Path
) -> None:
    found = content(params, tmp_path, redistributable=True)
    assert found.plan is not None
    assert found.leaderboard.resolvable > params.comparison.smallest_that_matters
    assert found.verdict.caveats[-1] == found.plan.sentence
    assert found.plan.sentence in pages["md"]
    (section,) = re.findall('<h3 id="planning">.*?</table>', pages["html"], re.DOTALL)
    assert pages["html"].count(found.plan.sentence) == 1, "once is enough"
    for groups, resolved in zip(found.plan.groups, found.plan.rows[0][2], strict=True):
        assert f"{groups} groups" in section
        assert f">{resolved:.3f}<" in section
