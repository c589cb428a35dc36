"""Losses are what their names say, and ignored pixels do not pull."""

import pytest
import torch

from segbench.errors import InputError
from segbench.params.train import LossTerm
from segbench.training.losses import WeightedLoss


def test_weighted_sum_of_known_losses() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 8, 8), torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    probs, truth = logits.sigmoid()[:, 0], mask.float()
    dice = 1 - 2 * (probs * truth).sum() / (probs.sum() + truth.sum())
    bce = torch.nn.functional.binary_cross_entropy(probs, truth)
    loss = WeightedLoss({"dice": 2.0, "bce": 0.5}, num_outputs=1)(logits, mask)
    assert loss.item() == pytest.approx((2 * dice + 0.5 * bce).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        *((name, 1) for name in ("dice", "jaccard", "bce", "tversky", "lovasz", "focal", "mcc")),
        *((name, 3) for name in ("dice", "jaccard", "ce", "tversky", "lovasz", "focal")),
    ],
)
def test_ignored_pixels_have_no_gradient(name: str, outputs: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, outputs, 8, 8, requires_grad=True)
    mask = torch.randint(0, max(2, outputs), (2, 8, 8))
    mask[:, :4] = 255
    WeightedLoss({name: 1.0}, outputs)(logits, mask).backward()
    assert logits.grad is not None
    assert logits.grad[:, :, :4].abs().max() == 0
    assert logits.grad[:, :, 4:].abs().max() > 0


def test_unknown_loss_names_the_near_ones() -> None:
    with pytest.raises(InputError, match=r"no binary loss named dise \(did you mean dice"):
        WeightedLoss({"dise": 1.0}, 1)
    with pytest.raises(InputError, match="no multiclass loss named bce"):
        WeightedLoss({"bce": 1.0}, 3)


@pytest.mark.parametrize("smooth", [1e-15, 1.0, 100.0])
def test_dice_with_its_smooth(smooth: float) -> None:
    """As the publications write it: over the whole batch, smooth above and below."""
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 8, 8), torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    probs, truth = logits.sigmoid()[:, 0], mask.float()
    dice = (2 * (probs * truth).sum() + smooth) / (probs.sum() + truth.sum() + smooth)
    terms = {"dice": LossTerm.model_validate({"weight": 3.0, "smooth": smooth})}
    loss = WeightedLoss(terms, num_outputs=1)(logits, mask)
    assert loss.item() == pytest.approx(3 * (1 - dice).item(), rel=1e-5)


def test_arguments_reach_a_loss() -> None:
    logits, mask = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 8, 8), dtype=torch.uint8)

    def value(**arguments: float) -> float:
        terms = {"tversky": LossTerm.model_validate({"weight": 1.0, **arguments})}
        return WeightedLoss(terms, num_outputs=1)(logits, mask).item()

    dice = WeightedLoss({"dice": 1.0}, num_outputs=1)(logits, mask).item()
    assert value(alpha=0.5, beta=0.5) == pytest.approx(dice, rel=1e-5)
    assert value(alpha=0.9, beta=0.1) != pytest.approx(dice, rel=1e-3)


def test_arguments_that_a_loss_does_not_take() -> None:
    terms = {"bce": LossTerm.model_validate({"weight": 1.0, "smooth": 1.0})}
    with pytest.raises(InputError, match=r"train\.loss\.bce: .*'smooth'; fix its arguments"):
        WeightedLoss(terms, num_outputs=1)
