"""Losses are what their names say, and ignored pixels do not pull."""

import numpy as np
import pytest
import torch

from segbench.errors import InputError
from segbench.params import Params
from segbench.params.train import LossTerm
from segbench.training.losses import WeightedLoss, class_weights_of, with_class_weights


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


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        *((name, 1) for name in ("dice", "jaccard", "bce", "tversky", "lovasz", "focal", "mcc")),
        *((name, 3) for name in ("dice", "jaccard", "ce", "tversky", "lovasz", "focal")),
    ],
)
def test_a_wholly_ignored_batch_has_no_loss_and_no_gradient(name: str, outputs: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, outputs, 8, 8, requires_grad=True)
    loss = WeightedLoss({name: 1.0}, outputs)(logits, torch.full((2, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_lovasz_by_image_leaves_out_ignored_images(outputs: int) -> None:
    torch.manual_seed(0)
    terms = {"lovasz": LossTerm.model_validate({"weight": 1.0, "per_image": True})}
    loss = WeightedLoss(terms, outputs)
    logits = torch.randn(3, outputs, 8, 8)
    mask = torch.randint(0, max(2, outputs), (3, 8, 8))
    mask[1] = 255
    kept = [0, 2]
    assert loss(logits, mask).item() == pytest.approx(loss(logits[kept], mask[kept]).item())


def weighted(name: str, weights: object, **arguments: object) -> LossTerm:
    return LossTerm.model_validate({"weight": 1.0, "class_weights": weights, **arguments})


def test_class_weights_weigh_pixels_by_their_class() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 8, 8), torch.randint(0, 2, (3, 8, 8))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], mask.float(), reduction="none"
    )
    by_class = torch.tensor([0.5, 4.0])[mask]
    bce = WeightedLoss({"bce": weighted("bce", [0.5, 4])}, 1)(logits, mask)
    assert bce.item() == pytest.approx((each * by_class).mean().item(), rel=1e-5)
    positive = LossTerm.model_validate({"weight": 1.0, "pos_weight": 4})
    found = WeightedLoss({"bce": positive}, 1)(logits, mask)
    assert found.item() == pytest.approx((each * torch.tensor([1.0, 4.0])[mask]).mean().item())
    focal = WeightedLoss({"focal": weighted("focal", [0.5, 4])}, 1)(logits, mask)
    hard = (1 - torch.exp(-each)) ** 2 * each
    assert focal.item() == pytest.approx((hard * by_class).mean().item(), rel=1e-4)


def test_class_weights_of_several_classes() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    weights = torch.tensor([1.0, 2.0, 5.0])
    ce = WeightedLoss({"ce": weighted("ce", [1, 2, 5])}, 3)(logits, mask)
    expected = torch.nn.functional.cross_entropy(logits, mask, weights)
    assert ce.item() == pytest.approx(expected.item(), rel=1e-5)
    plain, equal, other = (
        WeightedLoss({"focal": weighted("focal", given)}, 3)(logits, mask).item()
        for given in (None, [2, 2, 2], [1, 2, 5])
    )
    assert equal == pytest.approx(plain, rel=1e-5)
    assert other != pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "outputs", "weights", "said"),
    [
        ("bce", 1, [1.0, 2.0, 3.0], "are not 2 positive numbers"),
        ("ce", 3, [1.0, 2.0, -3.0], "are not 3 positive numbers, one for each class in the ord"),
        ("ce", 3, "balanced", "are not 3 positive numbers, .*; fix the list or set auto"),
        ("dice", 1, [1.0, 2.0], r"train\.loss\.dice: .*class_weights"),
    ],
)
def test_class_weights_that_do_not_fit(name: str, outputs: int, weights: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        WeightedLoss({name: weighted(name, weights)}, outputs)


def test_automatic_class_weights_make_all_classes_weigh_the_same(params: Params) -> None:
    terms = {"focal": weighted("focal", "auto"), "dice": 1.0, "bce": weighted("bce", [1, 2])}
    recipe = params.train.model_copy(update={"loss": terms})
    pixels = np.array([900, 90, 10, 0])
    found = class_weights_of(with_class_weights(recipe, lambda: pixels))
    assert found["bce"] == [1, 2]
    assert pixels[:3] * found["focal"][:3] == pytest.approx([250] * 3, rel=1e-3)
    assert found["focal"][3] == 1  # of no pixel
