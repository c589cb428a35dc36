"""A comparison that does not show what is required fails, and says why."""

from pathlib import Path
from typing import Any

import pytest

from segbench.comparison.leaderboard import POOLED, make_leaderboard
from segbench.comparison.requirements import evaluate_requirements, report_values, require_all
from segbench.comparison.tables import to_table
from segbench.errors import InputError
from segbench.metrics.catalogue import MASK_METRICS, VARIANTS
from segbench.params import Params
from support.comparison import COST, evaluated
from support.params import ROOT

KNOWN = {
    "dice_per_image": 0.85,
    "p": 0.2,
    "parameters": 1e6,
    "runner_up_parameters": 2e6,
    "lead": float("nan"),
}


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("dice_per_image >= 0.9", False),
        ("dice_per_image >= 0.8", True),
        ("p < 0.05 or parameters < runner_up_parameters", True),
        ("p < 0.05 and parameters < runner_up_parameters", False),
        ("not p < 0.05", True),
        ("2 * parameters == runner_up_parameters", True),
        ("lead > 0", False),
        ("lead <= 0", False),
        ("not lead > 0", False),  # what is not known meets nothing, however it is asked
        ("lead != 1", False),
        ("dice_per_image > 0.8 or lead > 0", False),
        ("0.1 < p < 0.3", True),
    ],
)
def test_what_is_met(text: str, is_met: bool) -> None:
    (requirement,) = evaluate_requirements([text], KNOWN)
    assert requirement.is_met is is_met
    if not is_met:
        with pytest.raises(InputError, match=r"not met; see report\.md"):
            require_all([requirement], Path("report.md"))
    else:
        require_all([requirement], Path("report.md"))


def test_the_line_has_the_values() -> None:
    requirements = evaluate_requirements(["dice_per_image >= 0.9", "p < 0.5", "p < 0.05"], KNOWN)
    with pytest.raises(
        InputError, match=r"'dice_per_image >= 0.9' \(dice_per_image is 0.85\); 'p <"
    ):
        require_all(requirements, Path("report.md"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dice_per_imag >= 0.9", "names dice_per_imag, which is not known.*dice_per_image"),
        ("p + 1", "neither true nor false"),
        ("print(p)", "names print"),
        ("'a' < p", "cannot be evaluated"),
    ],
)
def test_what_cannot_be_said(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate_requirements([text], KNOWN)


def test_columns_of_the_table_are_names_of_requirements(params: Params) -> None:
    """Whoever copies a column's name has written a requirement."""
    aliases = params.comparison.candidates
    found = make_leaderboard(params, [evaluated(alias, 0, 0.8, 0.7) for alias in aliases])
    costs = dict.fromkeys(aliases, COST)
    known = report_values(found, costs)
    scores = [name.removeprefix("test_") for name in to_table(found, costs) if "_per_image" in name]
    assert len(scores) == 4 * len(MASK_METRICS) + 1
    assert "dice_per_image_original_chosen" in scores
    for name in scores:
        assert f"runner_up_{name}" in known
        evaluate_requirements([f"{name} >= 0"], known)
    listed = (ROOT / "docs" / "verdict.md").read_text()
    for ending in VARIANTS[1:]:
        assert f"`{ending}`" in listed
    for name in [name for name in scores if name.endswith("_per_image")] + list(POOLED):
        assert f"`{name}`" in listed


def values_of(params: Params, scores: dict[str, tuple[float, float]]) -> dict[str, float]:
    runs = [
        evaluated(alias, seed, *pair)
        for alias, pair in scores.items()
        for seed in params.comparison.seeds
    ]
    return report_values(make_leaderboard(params, runs), dict.fromkeys(scores, COST))


def test_p_is_of_the_champions_lead(tree: dict[str, Any]) -> None:
    """Two-sided, it would be as small where the test contradicts the champion."""
    tree["comparison"].update(candidates=["regnetx_002", "resnet18"], num_resamples=500)
    params = Params.model_validate(tree)
    leads = values_of(params, {"regnetx_002": (0.6, 0.6), "resnet18": (0.8, 0.8)})
    assert leads["p"] < 0.01
    assert 0 < leads["lead_low"] < leads["lead"] < leads["lead_high"]
    refuted = values_of(params, {"regnetx_002": (0.6, 0.804), "resnet18": (0.8, 0.604)})
    assert refuted["p"] > 0.99
    assert refuted["lead_high"] < 0
    gate = "p < 0.05 or parameters < runner_up_parameters"
    assert evaluate_requirements([gate], leads)[0].is_met
    assert not evaluate_requirements([gate], refuted)[0].is_met


def test_a_candidate_may_be_required_not_to_be_worse(tree: dict[str, Any]) -> None:
    tree["comparison"].update(candidates=["regnetx_002", "resnet18"], num_resamples=500)
    params = Params.model_validate(tree)
    near = values_of(params, {"regnetx_002": (0.795, 0.795), "resnet18": (0.8, 0.8)})
    far = values_of(params, {"regnetx_002": (0.7, 0.7), "resnet18": (0.8, 0.8)})
    for values, is_met in ((near, True), (far, False)):
        (found,) = evaluate_requirements(["behind_low_of_regnetx_002 > -0.01"], values)
        assert found.is_met is is_met
