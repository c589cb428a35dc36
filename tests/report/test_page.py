"""Both pages say how far the claims were checked, and the full one what would resolve more."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from segbench.comparison.coverage import describe
from segbench.comparison.page import write_report
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
    (section,) = re.findall('<h2 id="planning">.*?</table>', pages["html"], re.DOTALL)
    assert found.plan.sentence in section
    for groups, resolved in zip(found.plan.groups, found.plan.rows[0][2], strict=True):
        assert f"{groups} groups" in section
        assert f">{resolved:.3f}<" in section
