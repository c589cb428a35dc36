"""Ratios of counts agree with independent implementations and with cases worked out by hand."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from segbench.images import IGNORE
from segbench.metrics import counts as metrics
from segbench.metrics.on_device import count, count_correct

REFERENCES = {
    "dice": f1_score,
    "iou": jaccard_score,
    "precision": precision_score,
    "recall": recall_score,
    "specificity": lambda truth, found: recall_score(~truth, ~found),
}


def random_masks(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (6, 16, 16)
    return (
        torch.randint(0, num_classes, shape, generator=generator),
        torch.randint(0, num_classes, shape, generator=generator),
    )


def summarised(pred: torch.Tensor, mask: torch.Tensor, num_classes: int) -> dict[str, float]:
    cells, correct = count(pred, mask, range(1, num_classes)), count_correct(pred, mask)
    return metrics.summarise(cells.numpy(), correct.numpy())


# (truth, prediction, recall, precision, specificity) of images of four pixels; None: left out
BY_HAND = {
    "two of three found, one false": ("1110", "1101", 2 / 3, 2 / 3, 0),
    "empty, one false": ("0000", "1000", None, 0, 3 / 4),
    "empty, all false": ("0000", "1111", None, 0, 0),
    "empty, left empty": ("0000", "0000", None, None, 1),
    "all foreground, all found": ("1111", "1111", 1, 1, None),
    "all foreground, half found": ("1111", "1100", 1 / 2, 1, None),
    "all foreground, nothing found": ("1111", "0000", 0, 0, None),
    "an object, nothing found": ("0110", "0000", 0, 0, 1),
    "an object, another marked": ("0110", "1000", 0, 0, 1 / 2),
}


def of_row(values: str) -> torch.Tensor:
    return torch.tensor([[[int(value) for value in values]]])


@pytest.mark.parametrize("name", list(BY_HAND))
def test_of_empty_and_full_images_by_hand(name: str) -> None:
    truth, pred, *expected = BY_HAND[name]
    cells = count(of_row(pred), of_row(truth), [1]).numpy()
    found = [
        float(metrics.SCORES[score](cells)[0, 0])
        for score in ("recall", "precision", "specificity")
    ]
    expected = [math.nan if value is None else value for value in expected]
    assert found == pytest.approx(expected, nan_ok=True)


def test_false_positives_on_empty_images_do_not_lower_the_recall() -> None:
    """They lower specificity and precision: the better finder is not taken for the worse."""
    finder, other = (  # an image with an object, one without
        np.array([[[right, 0, 100 - right, 900]], [[0, wrong, 0, 1000 - wrong]]])
        for right, wrong in ((95, 50), (80, 0))
    )
    recall = [metrics.mean_of_defined(metrics.recall(part)[:, 0]) for part in (finder, other)]
    assert recall == pytest.approx([0.95, 0.8])
    specificity = [metrics.specificity(part)[:, 0].mean() for part in (finder, other)]
    assert specificity == pytest.approx([(1 + 0.95) / 2, 1])


def test_marking_nothing_where_unsure_does_not_raise_the_precision() -> None:
    unsure = np.array([[[50, 50, 0, 0]], [[50, 50, 0, 0]]])
    silent = np.array([[[50, 50, 0, 0]], [[0, 0, 50, 50]]])
    means = [metrics.mean_of_defined(metrics.precision(part)[:, 0]) for part in (unsure, silent)]
    assert means == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("name", list(REFERENCES))
@pytest.mark.parametrize("num_classes", [2, 4])
def test_agrees_with_scikit_learn(name: str, num_classes: int) -> None:
    pred, mask = random_masks(num_classes)
    scores = metrics.SCORES[name](count(pred, mask, range(1, num_classes)).numpy())
    for image in range(len(mask)):
        for at in range(num_classes - 1):
            truth, found = mask[image].flatten() == at + 1, pred[image].flatten() == at + 1
            assert scores[image, at].item() == pytest.approx(REFERENCES[name](truth, found))


def test_agrees_with_smp_on_pooled_counts() -> None:
    pred, mask = random_masks(2)
    cells = smp.metrics.get_stats(pred.unsqueeze(1), mask.unsqueeze(1), mode="binary")
    summary = summarised(pred, mask, 2)
    assert summary["iou_micro"] == pytest.approx(smp.metrics.iou_score(*cells, "micro").item())
    assert summary["dice_micro"] == pytest.approx(smp.metrics.f1_score(*cells, "micro").item())
    per_image = smp.metrics.f1_score(*cells, "micro-imagewise").item()
    assert summary["dice_per_image"] == pytest.approx(per_image)


def test_by_hand() -> None:
    mask = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 0]]])
    pred = torch.tensor([[[1, 0, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    counts = count(pred, mask, [1]).numpy()
    assert counts[0, 0].tolist() == [1, 1, 1, 1]
    dice = metrics.per_image(counts, metrics.dice)
    assert dice[0] == 0.5
    assert math.isnan(dice[1])  # both empty: left out
    assert dice[2] == dice[3] == 0
    assert metrics.precision(counts)[2, 0] == 0  # nothing predicted, something there
    assert math.isnan(metrics.recall(counts)[3, 0])  # nothing there to find
    assert metrics.specificity(counts)[:, 0].tolist() == [0.5, 1, 1, 0.75]
    summary = summarised(pred, mask, 2)
    assert summary["dice_per_image"] == pytest.approx(0.5 / 3)
    assert summary["dice_micro"] == pytest.approx(2 / (2 + 2 + 2))
    assert summary["images"] == 4
    assert summary["images_without_score"] == 1


def test_ignored_pixels_count_nowhere() -> None:
    mask = torch.tensor([[[1, 255, 255, 0]]])
    pred = torch.tensor([[[1, 1, 0, 0]]])
    assert count(pred, mask, [1])[0, 0].tolist() == [1, 0, 0, 1]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        count(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), [1])


def test_accuracy_is_of_all_pixels_that_count() -> None:
    mask = torch.tensor([[[0, 1, 2, 255]], [[2, 2, 2, 2]]])
    pred = torch.tensor([[[0, 2, 2, 1]], [[2, 2, 2, 0]]])
    correct = count_correct(pred, mask)
    assert correct.tolist() == [[2, 3], [3, 4]]
    summary = summarised(pred, mask, 3)
    assert summary["accuracy_micro"] == pytest.approx(5 / 7)
    assert summary["accuracy_per_image"] == pytest.approx((2 / 3 + 3 / 4) / 2)


def test_classes_are_pooled_or_averaged_as_the_name_says() -> None:
    """smp's words: micro pools pixels of all classes, macro is the mean over classes."""
    pred, mask = random_masks(4)
    found = summarised(pred, mask, 4)
    cells = smp.metrics.get_stats(pred, mask, mode="multiclass", num_classes=4)
    foreground = [part[:, 1:] for part in cells]
    for name, score in (("dice", smp.metrics.f1_score), ("iou", smp.metrics.iou_score)):
        assert found[f"{name}_micro"] == pytest.approx(score(*foreground, "micro").item())
        assert found[metrics.MEANS_OF_CLASSES.get(name, f"{name}_macro")] == pytest.approx(
            score(*foreground, "macro").item()
        )
        per_image = score(*foreground, "macro-imagewise").item()
        assert found[f"{name}_per_image"] == pytest.approx(per_image)


def test_a_class_that_no_image_holds_has_no_score() -> None:
    """Nothing of it can be found; pixels that are taken for it are wrong all the same."""
    mask, pred = torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, 4, 4, dtype=torch.long)
    mask[:, :2] = pred[:, :2] = 1
    pred[0, 3, :2] = 2
    found, without = summarised(pred, mask, 3), summarised(pred % 2, mask, 2)
    for name in ("dice", "iou", "precision", "recall", "specificity"):
        assert (
            found[metrics.MEANS_OF_CLASSES.get(name, f"{name}_macro")] == without[f"{name}_micro"]
        )
    assert found["dice_per_image"] == 1
    assert found["dice_micro"] == pytest.approx(2 * 16 / (2 * 16 + 2))
    assert found["accuracy_micro"] == 30 / 32


def test_without_any_object_nothing_has_a_score() -> None:
    mask, pred = torch.zeros(3, 4, 4, dtype=torch.long), torch.zeros(3, 4, 4, dtype=torch.long)
    pred[0, 0, 0] = 1
    found = summarised(pred, mask, 2)
    assert all(math.isnan(found[f"dice_{of}"]) for of in ("micro", "per_image"))
    assert found["images_without_score"] == 3
    assert found["accuracy_micro"] == 47 / 48


def test_every_score_is_defined() -> None:
    assert set(metrics.DEFINITIONS) == {*metrics.SCORES, "accuracy"}


@pytest.mark.parametrize("num_classes", [2, 4])
def test_one_image_alone_counts_as_in_a_batch(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    pred = rng.integers(0, num_classes, (7, 9)).astype(np.uint8)
    mask = rng.choice([*range(num_classes), IGNORE], (7, 9)).astype(np.uint8)
    cells, correct = metrics.count_image(pred, mask, range(1, num_classes))
    batch = torch.from_numpy(pred)[None], torch.from_numpy(mask)[None]
    assert np.array_equal(cells, count(*batch, range(1, num_classes))[0].numpy())
    assert np.array_equal(correct, count_correct(*batch)[0].numpy())
    matrix = metrics.confusion(pred, mask, num_classes)
    kept = mask != IGNORE
    assert np.array_equal(matrix, confusion_matrix(mask[kept], pred[kept]))
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.count_image(pred[:-1], mask, range(1, num_classes))
