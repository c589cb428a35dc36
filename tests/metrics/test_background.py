"""Which classes are scored is what the dataset says: scores of all of them, to scikit-learn's."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)
from torch.nn.functional import one_hot

from segbench.comparison.statistics.panel import Panel, cluster_variance
from segbench.datasets.canonical import DatasetInfo
from segbench.evaluation.per_image import (
    ImageScores,
    Scorer,
    absent_classes,
    counts_of,
    image_table,
    pooled_confusion,
    summarise,
)
from segbench.evaluation.predict import Prediction
from segbench.exports.masks import MaskRule
from segbench.images import IGNORE, Pixels
from segbench.labels import LabelScheme
from segbench.metrics import counts
from segbench.metrics.on_device import count, count_correct, soft_sums, to_probs, to_probs_u8
from segbench.metrics.probabilities import average_precision, histogram

REFERENCES = {
    "dice": f1_score,
    "iou": jaccard_score,
    "precision": precision_score,
    "recall": recall_score,
}
PLAIN = MaskRule(0.5, 0, False, False)


def streets(seed: int, num_classes: int, ignored: bool) -> tuple[torch.Tensor, Pixels]:
    """Logits (1, C, H, W) and a mask (H, W) of every class, with void pixels if asked for."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(0, num_classes, (24, 1)), axis=0)  # as sky, houses, road
    mask = np.repeat(rows, 30, axis=1).astype(np.uint8)
    mask[:, :num_classes] = np.arange(num_classes)
    logits = rng.normal(size=(1, num_classes, 24, 30))
    logits[0] += 1.5 * (mask == np.arange(num_classes)[:, None, None])
    if ignored:
        mask[5:9, 10:] = IGNORE
    return torch.from_numpy(logits), mask


def scored(
    scheme: LabelScheme, ignored: bool, number: int = 6
) -> tuple[pd.DataFrame, dict[str, float], list[tuple[Pixels, Pixels]], list[ImageScores]]:
    """Rows and summary of some images, and the pixels (prediction, truth) of each that count."""
    info = DatasetInfo(
        "streets",
        tuple("abcdefgh"[: scheme.num_classes]),
        "own",
        False,
        "",
        background=scheme.background,
    )
    images, pixels = [], []
    for seed in range(number):
        logits, mask = streets(seed, scheme.num_classes, ignored)
        probs_u8 = to_probs_u8(to_probs(logits))[0].numpy()
        pred = probs_u8.argmax(axis=0).astype(np.uint8)
        soft = soft_sums(to_probs(logits), torch.from_numpy(mask)[None], scheme.scored)[0].numpy()
        images.append(Prediction(str(seed), probs_u8, pred, mask, soft, lambda mask=mask: mask))
        pixels.append((pred[mask != IGNORE], mask[mask != IGNORE]))
    absent = absent_classes([image.mask for image in images], scheme)
    scorer = Scorer(scheme, 1.0, PLAIN, PLAIN, ["calibration", "v_rand"], absent)
    found = [scorer.score(image, image) for image in images]
    samples = pd.DataFrame({"id": range(number), "group": "g", "stratum": ""})
    table = image_table(samples, "test", found, info)
    return table, summarise(table, found, info, 4), pixels, found


def defining(name: str, scheme: LabelScheme, pred: Pixels, truth: Pixels) -> list[int]:
    """Classes that define a score of an image."""
    return [at for at in scheme.scored if at in truth or (at in pred and name != "recall")]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("scheme", [LabelScheme(5, None), LabelScheme(5, 3), LabelScheme(2, None)])
def test_all_scores_are_scikit_learns(scheme: LabelScheme, ignored: bool) -> None:
    table, summary, pixels, found = scored(scheme, ignored)
    labels = list(scheme.scored)
    pooled = [np.concatenate(part) for part in zip(*pixels, strict=True)]
    for name, reference in REFERENCES.items():
        each = []
        for pred, truth in pixels:
            told = {"labels": defining(name, scheme, pred, truth), "zero_division": 0}
            each.append(np.mean(reference(truth, pred, average=None, **told)))
        assert table[name].to_numpy() == pytest.approx(np.array(each), abs=1e-6)
        assert summary[f"{name}_per_image"] == pytest.approx(np.mean(each), abs=1e-6)
        whole = reference(pooled[1], pooled[0], labels=labels, average="macro")
        mean = counts.MEANS_OF_CLASSES.get(name, f"{name}_macro")
        assert summary[mean] == pytest.approx(whole, abs=1e-6)
        whole = reference(pooled[1], pooled[0], labels=labels, average="micro")
        assert summary[f"{name}_micro"] == pytest.approx(whole, abs=1e-6)
    right = [accuracy_score(truth, pred) for pred, truth in pixels]
    assert table["accuracy"].to_numpy() == pytest.approx(np.array(right), abs=1e-6)
    for name in ("dice", "iou", "recall"):
        of_classes = REFERENCES[name](pooled[1], pooled[0], labels=labels, average=None)
        for at, value in zip(labels, of_classes, strict=True):
            assert summary[f"{name}_class_{'abcdefgh'[at]}"] == pytest.approx(value, abs=1e-6)
    assert summary["mean_class_accuracy"] == pytest.approx(np.mean(of_classes), abs=1e-6)
    for at in labels:  # which every image holds
        each = [f1_score(truth == at, pred == at) for pred, truth in pixels if at in truth]
        dice = summary[f"dice_per_image_class_{'abcdefgh'[at]}"]
        assert dice == pytest.approx(np.mean(each), abs=1e-6)
        cells = counts_of(found)[""][:, labels.index(at)].sum(axis=0)
        assert sum(cells) == len(pooled[0])
        assert cells[counts.TP] + cells[counts.FN] == (pooled[1] == at).sum()
    parts = counts.mean_ratio_parts(counts_of(found)[""], "iou")
    assert parts.mean() == pytest.approx(summary["mean_iou"], abs=1e-12)
    matrix = pooled_confusion(found, scheme.num_classes)
    expected = confusion_matrix(pooled[1], pooled[0], labels=range(scheme.num_classes))
    assert (matrix == expected).all()


def test_sky_is_a_class_like_others() -> None:
    """Street scenes whose class 0 is sky: without it, the mean says another thing."""
    pred, mask = (np.zeros((4, 8), np.uint8) for _ in range(2))
    mask[2:, :4], mask[2:, 4:] = 1, 2  # half is sky
    pred[2:], pred[1, :2] = 1, 2  # the third class is never found
    by_hand = [2 * 14 / (14 + 16), 2 * 8 / (16 + 8), 0.0]
    for scheme, expected in ((LabelScheme(3, None), by_hand), (LabelScheme(3, 0), by_hand[1:])):
        cells, _ = counts.count_image(pred, mask, scheme.scored)
        assert counts.dice(cells) == pytest.approx(np.array(expected))
        (found,) = counts.per_image(cells[None], counts.dice)
        assert found == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("scheme", [LabelScheme(4, None), LabelScheme(4, 2), LabelScheme(2, 0)])
def test_batches_and_single_images_count_alike(scheme: LabelScheme) -> None:
    _, mask = streets(0, scheme.num_classes, ignored=True)
    pred = np.random.default_rng(1).integers(0, scheme.num_classes, mask.shape).astype(np.uint8)
    batch = torch.from_numpy(pred)[None], torch.from_numpy(mask)[None]
    cells, correct = counts.count_image(pred, mask, scheme.scored)
    assert (count(*batch, scheme.scored)[0].numpy() == cells).all()
    assert (count_correct(*batch)[0].numpy() == correct).all()


@pytest.mark.parametrize("background", [None, 0, 2])
def test_probabilities_are_of_the_classes_that_are_scored(background: int | None) -> None:
    scheme = LabelScheme(4, background)
    logits, mask = streets(0, 4, ignored=True)
    probs_u8, there = to_probs_u8(to_probs(logits))[0].numpy(), mask != IGNORE
    areas = average_precision(histogram(probs_u8, mask, scheme.scored))
    sums = soft_sums(to_probs(logits), torch.from_numpy(mask)[None], scheme.scored)[0].numpy()
    for row, at in enumerate(scheme.scored):
        truth, probs = mask[there] == at, probs_u8[at][there]
        assert areas[row] == pytest.approx(average_precision_score(truth, probs), abs=1e-6)
        soft = logits[0].float().softmax(dim=0)[at].numpy()[there]
        assert sums[row] == pytest.approx([soft[truth].sum(), soft.sum() + truth.sum()], rel=1e-5)


def test_a_dataset_says_what_it_scores() -> None:
    binary, several, none = LabelScheme(2, 0), LabelScheme(4, 2), LabelScheme(2, None)
    assert (binary.scored, binary.is_binary, binary.num_outputs) == ((1,), True, 1)
    assert (several.scored, several.is_binary, several.num_outputs) == ((0, 1, 3), False, 4)
    assert (none.scored, none.is_binary, none.num_outputs) == ((0, 1), False, 2)
    mask = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert several.is_foreground(mask).tolist() == [[True, True, False, False]]
    assert none.is_foreground(mask).tolist() == [[True, True, True, False]]


@pytest.mark.slow  # seconds of imports
@pytest.mark.filterwarnings("ignore:(?s).*always_return_as_numpy:FutureWarning")  # MONAI's own
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("background", [None, 2])
def test_means_over_classes_are_those_of_monai(background: int | None, ignored: bool) -> None:
    from monai.metrics import compute_dice, compute_iou, get_confusion_matrix

    scheme = LabelScheme(5, background)
    _, summary, pixels, _ = scored(scheme, ignored)
    pred, truth = (
        one_hot(torch.from_numpy(np.concatenate(part)).long(), 5).T[None, :, None].float()
        for part in zip(*pixels, strict=True)
    )
    kept = list(scheme.scored)
    dice, iou = (score(pred, truth)[0, kept].mean() for score in (compute_dice, compute_iou))
    assert summary["dice_macro"] == pytest.approx(dice.item(), abs=1e-6)
    assert summary["mean_iou"] == pytest.approx(iou.item(), abs=1e-6)
    cells = get_confusion_matrix(pred, truth)[0, kept]  # (F, 4): TP, FP, TN, FN
    found = cells[:, 0] / (cells[:, 0] + cells[:, 3])
    assert summary["mean_class_accuracy"] == pytest.approx(found.mean().item(), abs=1e-6)


def test_the_interval_of_mean_iou_is_that_of_resampled_groups() -> None:
    """Its parts vary over groups as the mean IoU itself does in a bootstrap of whole groups."""
    rng = np.random.default_rng(0)
    groups, hardness = np.repeat(np.arange(60), 3), rng.normal(0, 0.08, 60)
    there = rng.integers(200, 900, (180, 3))
    there[:, 2] *= rng.random(180) < 0.3  # a class that few images hold
    share = np.clip(np.array([0.9, 0.7, 0.5]) + hardness[groups, None], 0.05, 1)
    hits = np.rint(there * share).astype(np.int64)
    cells = np.stack([hits, there - hits, there - hits, 9999 - there], axis=2)
    parts = counts.mean_ratio_parts(cells, "iou")
    drawn = []
    for _ in range(2000):
        picked = rng.integers(0, 60, 60)
        rows = (3 * picked[:, None] + np.arange(3)).ravel()
        drawn.append(np.mean(counts.iou(cells[rows].sum(axis=0))))
    assert parts.mean() == pytest.approx(np.mean(counts.iou(cells.sum(axis=0))), abs=1e-12)
    panel = Panel(parts[None, None], groups.astype(str), np.zeros(180, np.int64))
    variance, _ = cluster_variance(panel.groups, np.array([0]))
    assert np.sqrt(variance[0]) == pytest.approx(np.std(drawn), rel=0.06)
