"""A comparison that does not show what is required fails, and says why."""

import pytest

from segbench.comparison.requirements import check, insist
from segbench.errors import InputError

KNOWN = {
    "dice_per_image": 0.85,
    "p": 0.2,
    "parameters": 1e6,
    "runner_up_parameters": 2e6,
    "lead": float("nan"),
}


@pytest.mark.parametrize(
    ("text", "holds"),
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
def test_what_holds(text: str, holds: bool) -> None:
    (gate,) = check([text], KNOWN)
    assert gate.holds is holds
    if not holds:
        with pytest.raises(InputError, match=r"does not hold; see report\.md"):
            insist([gate], "report.md")
    else:
        insist([gate], "report.md")


def test_the_line_has_the_values() -> None:
    gates = check(["dice_per_image >= 0.9", "p < 0.5", "p < 0.05"], KNOWN)
    with pytest.raises(
        InputError, match=r"'dice_per_image >= 0.9' \(dice_per_image is 0.85\); 'p <"
    ):
        insist(gates, "report.md")


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
        check([text], KNOWN)
