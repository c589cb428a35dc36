"""A comparison that does not show what is required fails, and says why."""

from pathlib import Path

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
    scores = [
        name.removeprefix("test_") for name in to_table(found.rows, costs) if "_per_image" in name
    ]
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
