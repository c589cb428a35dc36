"""The rule that masks are made by is the best on validation, and takes away what it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo
from segbench.evaluation.drafts import Draft
from segbench.evaluation.per_image import (
    Scorer,
    absent_classes,
    counts_of,
    image_table,
    summarise,
)
from segbench.evaluation.postprocessing import (
    Choice,
    Validated,
    best_threshold,
    select_rule,
)
from segbench.evaluation.predict import Prediction
from segbench.exports.masks import (
    MaskRule,
    binarise,
    enlarge,
    enlarged_classes,
    remove_components,
)
from segbench.labels import LabelScheme
from segbench.metrics.catalogue import (
    DEFINITIONS,
    MASK_METRICS,
    OPTIONAL_METRICS,
    SHAPE_METRICS,
    VARIANTS,
)
from segbench.metrics.counts import dice, iou
from segbench.metrics.distances import Spacing
from segbench.metrics.probabilities import histogram
from segbench.params.evaluate import Choose

BINARY = LabelScheme(2, 0)
INFO = DatasetInfo("made", ("background", "crack", "spall"), "own", False, "")
PLAIN = MaskRule(0.5, 0, False, False)
EXTRA = ["calibration", "pranet", "v_rand"]


def predicted(
    probs_u8: NDArray[Any], mask: NDArray[Any], original: NDArray[Any] | None = None
) -> Prediction:
    probs_u8, mask = probs_u8.astype(np.uint8)[None], mask.astype(np.uint8)
    truth = mask if original is None else original
    pred, soft = binarise(probs_u8[0], 0.5), np.zeros((1, 2), np.float32)
    return Prediction("a", probs_u8, pred, mask, soft, lambda: truth)


def chosen(asked: Choose, predictions: dict[bool, list[Prediction]]) -> list[Choice]:
    """The rules that are tried on predictions of the same images, best first."""
    masks = [each.mask for each in next(iter(predictions.values()))]
    validated = {
        flips: Validated(
            [Draft.of(each, *each.mask.shape) for each in own],
            [histogram(each.probs_u8, each.mask, [1]) for each in own],
        )
        for flips, own in predictions.items()
    }
    held = [1] if any(mask.any() for mask in masks) else []
    return select_rule(PLAIN, asked, validated, masks.__getitem__, held, 0)


def blobs() -> tuple[NDArray[Any], NDArray[Any]]:
    """A network that is too shy, and sees a speck that is not there: probs_u8, mask."""
    mask = np.zeros((32, 32), np.uint8)
    mask[4:16, 4:16] = 1
    probs_u8 = np.where(mask, 90, 10)
    probs_u8[24:26, 24:26] = 220
    return probs_u8, mask


ALL = Choose(threshold=True, min_sizes=[6, 400], largest=True, flips=True)
NOTHING = Choose(threshold=False, min_sizes=[], largest=False, flips=False)


def test_threshold_and_cleaning_are_chosen_together() -> None:
    found = chosen(ALL, {False: [predicted(*blobs())], True: [predicted(*blobs())]})
    dice, rule = found[0]
    assert dice == 1
    # 10 < level <= 90, nearest to one half; of equals the smaller interference, and no flips.
    assert rule == MaskRule(90 / 256, 6, False, False)
    assert PLAIN in [rule for _, rule in found]
    assert len(found) == 2 * (2 + 5)
    assert [dice for dice, _ in found] == sorted((dice for dice, _ in found), reverse=True)


def test_nothing_is_tried_that_was_not_asked_for() -> None:
    assert chosen(NOTHING, {False: [predicted(*blobs())]}) == [(0.0, PLAIN)]


def test_flips_win_where_they_are_better() -> None:
    probs_u8, mask = blobs()
    asked = NOTHING.model_copy(update={"flips": True})
    better = predicted(np.where(mask, 200, 10), mask)
    assert chosen(asked, {False: [predicted(probs_u8, mask)], True: [better]})[0][1].flips


def test_without_foreground_nothing_is_chosen() -> None:
    probs_u8, mask = blobs()
    ((dice, rule),) = chosen(ALL, {False: [predicted(probs_u8, np.zeros_like(mask))]})
    assert np.isnan(dice)
    assert rule == PLAIN


def test_it_does_not_pay_to_find_something_in_an_empty_image() -> None:
    """One image knows its object from level 100 on, an empty one has noise up to 150."""
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 1
    there = histogram(np.where(mask, 100, 0).astype(np.uint8)[None], mask, [1])
    noise = np.arange(256).reshape(16, 16) * 150 // 255
    empty = histogram(noise.astype(np.uint8)[None], np.zeros_like(mask), [1])
    assert best_threshold(np.stack([there, empty]), 0.5) == 151 / 256  # 0 + 1 of 2
    assert best_threshold(np.stack([there, there, empty]), 0.5) == 100 / 256  # 1 + 1 + 0 of 3


@pytest.mark.parametrize("several", [False, True])
def test_small_components_go_and_the_largest_stays(several: bool) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:4, :4] = 1  # 16
    mask[10:13, 10:13] = 1  # 9
    mask[13, 13] = 1  # touches its corner
    mask[18, 2] = 1  # 1
    if several:
        mask[0:2, 15:20] = 2
    sizes = [
        int((remove_components(mask, MaskRule(0.5, size, False, False), 1.0, 0) == 1).sum())
        for size in (1, 2, 11)
    ]
    assert sizes == [27, 26, 16]
    # Ten pixels here are 40 of an image of four times the pixels.
    assert (remove_components(mask, MaskRule(0.5, 10, False, False), 4.0, 0) == 1).sum() == 0
    largest = remove_components(mask, MaskRule(0.5, 0, True, False), 1.0, 0)
    assert (largest == 1).sum() == 16
    assert (largest == 2).sum() == (10 if several else 0)


def test_rows_have_every_variant_and_original_sizes() -> None:
    probs_u8, mask = blobs()
    large = np.kron(mask, np.ones((3, 2), np.uint8))
    chosen = MaskRule(90 / 256, 6, False, False)
    image = predicted(probs_u8, mask, large)
    row = Scorer(BINARY, 2.0, PLAIN, chosen, EXTRA).score(image, image).row
    assert {f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS} <= set(row)
    assert {"average_precision", "calibration_error", "iou_over_thresholds", "v_rand"} <= set(row)
    assert row["dice"] == row["dice_original"] == 0  # the speck alone
    assert row["dice_chosen"] == 1
    assert row["dice_original_chosen"] == pytest.approx(1, abs=0.1)
    assert row["hausdorff95"] > 10
    assert (row["object_size"], row["num_objects"]) == (144 / 1024, 1)
    same = (
        Scorer(BINARY, 2.0, PLAIN, PLAIN, [])
        .score(predicted(probs_u8, mask), predicted(probs_u8, mask))
        .row
    )
    for name in MASK_METRICS:
        assert same[name] == same[f"{name}_original_chosen"]


def test_distances_have_the_unit_of_the_size_they_are_measured_at() -> None:
    """At the network's size they are in its pixels; at the image's own in its pixels, or in mm."""
    probs_u8, mask = blobs()
    probs_u8[24:, 24:] = 0
    mask, probs_u8 = np.roll(mask, 3, axis=1), np.where(mask, 255, 0).astype(np.uint8)
    large = np.kron(mask, np.ones((2, 2), np.uint8))
    image, alike = predicted(probs_u8, mask, large), predicted(probs_u8, mask)
    scorer = Scorer(BINARY, 1.6, PLAIN, PLAIN, ["surface_distance"])

    def in_mm(one: Prediction) -> dict[str, float]:
        one = replace(one, spacing=Spacing(0.5, 0.5))
        return scorer.score(one, one).row

    of_pixels, of_mm = scorer.score(image, image).row, in_mm(image)
    assert of_pixels["hausdorff95"] == of_mm["hausdorff95"] == 3
    assert of_pixels["hausdorff95_original"] == 6
    assert of_mm["hausdorff95_original"] == of_mm["hausdorff95_original_chosen"] == 3
    # Up to 1.6 mm are 3 pixels of the image.
    three = Scorer(BINARY, 3.2, PLAIN, PLAIN, []).score(image, image).row
    assert of_mm["surface_dice_original"] == three["surface_dice_original"]
    assert of_mm["surface_dice"] == of_pixels["surface_dice"]
    assert of_mm["average_surface_distance"] == pytest.approx(
        of_pixels["average_surface_distance"] / 2
    )
    assert of_mm["boundary_iou_original"] == of_pixels["boundary_iou_original"]
    # Of an image that is as large as what the network sees too.
    assert in_mm(alike)["hausdorff95"] == 3
    assert in_mm(alike)["hausdorff95_original"] == 1.5


def test_optional_metrics_leave_out_classes_that_the_split_does_not_hold() -> None:
    mask = blobs()[1]
    probs_u8 = np.zeros((3, *mask.shape), np.uint8)
    probs_u8[1], probs_u8[0] = 255 * (mask == 1), 255 * (mask != 1)
    probs_u8[:, :3, :3] = np.array([0, 0, 255], np.uint8)[:, None, None]  # of the other class
    pred = probs_u8.argmax(axis=0).astype(np.uint8)
    image = Prediction("a", probs_u8, pred, mask, np.zeros((2, 2), np.float32), lambda: mask)
    row = (
        Scorer(INFO.scheme, 2.0, PLAIN, PLAIN, ["cldice", "objects", "surface_distance"], (2,))
        .score(image, image)
        .row
    )
    names = ("cldice", "detection_f1", "panoptic_quality", "surface_dice_by_length")
    assert [row[name] for name in names] == [1] * 4


def test_the_smallest_component_grows_with_the_image() -> None:
    mask = blobs()[1]
    probs_u8 = np.where(mask, 255, 0)
    probs_u8[24:26, 24:26] = 255  # 4 pixels, 24 of the larger image
    image = predicted(probs_u8, mask, np.kron(mask, np.ones((3, 2), np.uint8)))
    found = Scorer(BINARY, 2.0, PLAIN, MaskRule(0.5, 6, False, False), []).score(image, image)
    assert found.row["dice_original"] < found.row["dice_original_chosen"]
    cells = counts_of([found])
    assert [*cells] == list(VARIANTS)
    for ending, own in cells.items():
        assert own.sum() == (mask.size if "original" not in ending else 6 * mask.size)
        assert dice(own).item() == found.row[f"dice{ending}"]
        assert iou(own).item() == found.row[f"iou{ending}"]


def test_a_class_that_the_split_does_not_hold_lowers_no_mean() -> None:
    mask = blobs()[1]
    probs_u8 = np.zeros((3, *mask.shape), np.uint8)
    probs_u8[1], probs_u8[0] = 255 * (mask == 1), 255 * (mask != 1)
    probs_u8[:, :3, :3] = np.array([0, 0, 255], np.uint8)[:, None, None]  # of the other class
    pred = probs_u8.argmax(axis=0).astype(np.uint8)
    image = Prediction("a", probs_u8, pred, mask, np.zeros((2, 2), np.float32), lambda: mask)
    assert absent_classes([mask], INFO.scheme) == (2,)
    held, all_of = (
        Scorer(INFO.scheme, 2.0, PLAIN, PLAIN, [], absent).score(image, image)
        for absent in ((2,), ())
    )
    assert (held.row["dice"], held.row["boundary_iou"], held.row["hausdorff95"]) == (1, 1, 0)
    assert all_of.row["dice"] == all_of.row["boundary_iou"] == 0.5
    assert held.row["accuracy"] == all_of.row["accuracy"] < 1
    table = image_table(pd.DataFrame({"id": ["a"]}), "test", [held], INFO)
    summary = summarise(table, [held], INFO, 1)
    assert np.isnan(summary["dice_class_spall"])
    assert summary["dice_class_crack"] == summary["dice_macro"] == 1
    assert summary["dice_per_image"] == 1


def test_every_column_is_defined() -> None:
    probs_u8, mask = blobs()
    image = predicted(probs_u8, mask)
    row = (
        Scorer(BINARY, 2.0, PLAIN, PLAIN, [*OPTIONAL_METRICS, *SHAPE_METRICS])
        .score(image, image)
        .row
    )
    assert len(OPTIONAL_METRICS) + len(SHAPE_METRICS) >= 7
    plain = {name for name in row if not name.endswith(("_chosen", "_original"))}
    assert plain - set(DEFINITIONS) == {"object_size", "num_objects"}


def test_probabilities_grow_linearly() -> None:
    probs_u8 = np.array([[[0, 100]]], np.uint8)
    assert enlarge(probs_u8[0], 1, 4)[0].tolist() == [0, 25, 75, 100]


def test_of_many_classes_the_most_probable_wins_at_any_size() -> None:
    """Also where several are equally probable: the first, as of the whole array."""
    probs_u8 = np.random.default_rng(0).integers(0, 4, (7, 9, 11), np.uint8)
    every = np.stack([enlarge(channel, 20, 31) for channel in probs_u8])
    assert (enlarged_classes(probs_u8, 20, 31) == every.argmax(axis=0)).all()
