"""Histograms of probabilities say what the probabilities themselves would have said."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score

from segbench.metrics.definition import Evidence
from segbench.metrics.on_device import count, soft_dice_batch, soft_sums, to_probs, to_probs_u8
from segbench.metrics.optional import calibration, pranet
from segbench.metrics.probabilities import average_precision, counts_at, histogram
from segbench.models.network import predict_classes
from segbench.training.losses import WeightedLoss

RNG = np.random.default_rng(0)


def noisy(size: tuple[int, int] = (24, 20)) -> tuple[torch.Tensor, np.ndarray]:
    """Logits (1, 1, H, W) that know something of a mask (H, W)."""
    mask = (RNG.random(size) < 0.3).astype(np.uint8)
    logits = torch.from_numpy(RNG.normal(2.0 * mask - 1.0, 1.5)).float()
    return logits[None, None], mask


def test_counts_at_every_threshold() -> None:
    logits, mask = noisy()
    mask[:3, :4] = 255
    found = counts_at(histogram(to_probs_u8(to_probs(logits))[0].numpy(), mask, [1]))
    assert found.shape == (1, 256, 4)
    for level in (0, 1, 64, 128, 200, 255):
        pred = predict_classes(logits, level / 256)
        expected = count(pred, torch.from_numpy(mask)[None], [1])
        assert found[0, level].tolist() == expected[0, 0].tolist(), level


def test_each_class_against_the_rest() -> None:
    logits, mask = torch.randn(1, 3, 8, 8), RNG.integers(0, 3, (8, 8)).astype(np.uint8)
    mask[0] = 255
    probs_u8 = to_probs_u8(to_probs(logits))[0].numpy()
    found = histogram(probs_u8, mask, [1, 2])
    assert found.shape == (2, 2, 256)
    for class_id in (1, 2):
        own = probs_u8[class_id][mask == class_id]
        rest = probs_u8[class_id][(mask != class_id) & (mask != 255)]
        assert (found[class_id - 1, 1] == np.bincount(own, minlength=256)).all()
        assert (found[class_id - 1, 0] == np.bincount(rest, minlength=256)).all()


def test_certainty_has_a_level() -> None:
    probs_u8 = to_probs_u8(to_probs(torch.tensor([-100.0, 0.0, 100.0]).view(1, 1, 1, 3)))
    assert probs_u8.flatten().tolist() == [0, 128, 255]


def test_average_precision_agrees_with_scikit_learn() -> None:
    logits, mask = noisy()
    probs_u8 = to_probs_u8(to_probs(logits))[0].numpy()
    expected = average_precision_score(mask.ravel(), probs_u8.ravel())
    assert average_precision(histogram(probs_u8, mask, [1]))[0] == pytest.approx(expected)
    assert np.isnan(average_precision(histogram(probs_u8, np.zeros_like(mask), [1]))[0])


def test_calibration_agrees_with_scikit_learn() -> None:
    logits, mask = noisy()
    probs_u8 = to_probs_u8(to_probs(logits))[0].numpy()
    said = (probs_u8[0].ravel() + 0.5) / 256
    true, mean = calibration_curve(mask.ravel(), said, n_bins=16)
    pixels, _ = np.histogram(said, 16, (0, 1))
    expected = (abs(true - mean) * pixels[pixels > 0]).sum() / pixels.sum()
    evidence = Evidence(mask, mask, histogram(probs_u8, mask, [1]), [1])
    found = calibration.of_image(evidence)["calibration_error"]
    assert found == pytest.approx(expected)


def test_pranet_by_its_own_definition() -> None:
    """Stretch the map to [0, 1], cut it at 256 thresholds, take the mean."""
    logits, mask = noisy()
    probs_u8 = to_probs_u8(to_probs(logits))[0].numpy()
    stretched = (probs_u8[0] - probs_u8.min()) / np.ptp(probs_u8).astype(float)
    dices, ious = [], []
    for threshold in np.linspace(0, 1, 256):
        pred = stretched >= threshold - 1e-9
        shared = (pred & (mask == 1)).sum()
        dices.append(2 * shared / (pred.sum() + mask.sum()))
        ious.append(shared / (pred | (mask == 1)).sum())
    evidence = Evidence(mask, mask, histogram(probs_u8, mask, [1]), [1])
    assert pranet.of_image(evidence) == pytest.approx(
        {"dice_over_thresholds": np.mean(dices), "iou_over_thresholds": np.mean(ious)}
    )
    empty = np.zeros_like(mask)
    nothing = pranet.of_image(Evidence(mask, empty, histogram(probs_u8, empty, [1]), [1]))
    assert np.isnan([*nothing.values()]).all()


def test_a_flat_map_is_stretched_to_nothing() -> None:
    probs_u8, mask = np.full((1, 4, 4), 100, np.uint8), np.eye(4, dtype=np.uint8)
    found = pranet.of_image(Evidence(mask, mask, histogram(probs_u8, mask, [1]), [1]))
    assert found["dice_over_thresholds"] == pytest.approx(2 * 4 / (16 + 4))


def test_soft_dice_of_batches_is_what_the_loss_sees() -> None:
    """1 - soft_dice_batch of a batch is the dice loss of that batch."""
    torch.manual_seed(0)
    logits, mask = torch.randn(5, 1, 6, 6), torch.randint(0, 2, (5, 6, 6))
    loss = WeightedLoss({"dice": 1.0}, num_outputs=1)
    expected = [1 - loss(logits[part], mask[part]).item() for part in (slice(0, 3), slice(3, 5))]
    sums = soft_sums(to_probs(logits), mask, [1])
    assert soft_dice_batch(sums, 3) == pytest.approx(sum(expected) / 2, rel=1e-5)
    several = torch.randn(4, 3, 6, 6)
    classes = torch.randint(0, 3, (4, 6, 6))
    classes[0, 0] = 255
    probs = several.softmax(dim=1)
    kept = classes != 255
    dices = [
        2
        * (probs[:, c] * (classes == c)).sum()
        / ((probs[:, c] * kept).sum() + (classes == c).sum())
        for c in (1, 2)
    ]
    found = soft_dice_batch(soft_sums(to_probs(several), classes, [1, 2]), 4)
    assert found == pytest.approx(float(sum(dices)) / 2, rel=1e-5)


def test_a_perfect_prediction_is_perfectly_calibrated() -> None:
    mask = (RNG.random((24, 20)) < 0.3).astype(np.uint8)
    sure = torch.from_numpy(40.0 * mask - 20.0).float()[None, None]
    probs_u8 = to_probs_u8(to_probs(sure))[0].numpy()
    evidence = Evidence(mask, mask, histogram(probs_u8, mask, [1]), [1])
    assert calibration.of_image(evidence) == {"calibration_error": 0}
