"""Optional metrics: by hand, and against references that are written for clarity, not for speed."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import brier_score_loss

from segbench.metrics import boundary
from segbench.metrics.catalogue import SHAPE_METRICS
from segbench.metrics.definition import Evidence
from segbench.metrics.distances import Spacing
from segbench.metrics.optional import brier, cldice, objects, surface_distance
from segbench.metrics.probabilities import histogram
from support.masks import own_size

MM = Spacing(0.5, 0.25)


def blobs(seed: int, size: tuple[int, int], sigma: float = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two masks (H, W) that overlap here and there."""
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=size), sigma) for _ in range(2))
    return (first > 0).astype(np.uint8), (first + second > 0).astype(np.uint8)


def square(top: int, left: int, side: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


@pytest.mark.parametrize("name", ["cldice", "surface_distance", "objects"])
def test_of_empty_masks(name: str) -> None:
    empty, there = square(0, 0, 0), square(10, 10, 10)
    score = SHAPE_METRICS[name]
    both = score(own_size(empty, empty))
    assert np.isnan([*both.values()]).all()
    for pred, mask in ((empty, there), (there, empty)):
        found = score(own_size(pred, mask))
        worst = dict.fromkeys(found, 0.0)
        worst["average_surface_distance"] = pytest.approx(np.hypot(40, 40))
        for column, value in found.items():
            # 100 pixels are a small object.
            undefined = column.endswith(("medium", "large"))
            assert np.isnan(value) if undefined else value == worst[column], column
    perfect = score(own_size(there, there))
    assert perfect.pop("average_surface_distance", 0) == 0
    assert {value for value in perfect.values() if not np.isnan(value)} == {1}


@pytest.mark.parametrize("name", ["cldice", "surface_distance", "objects"])
def test_classes_are_averaged_where_they_are_defined(name: str) -> None:
    pred, mask = square(10, 10, 10), square(10, 12, 10)
    score = SHAPE_METRICS[name]
    alone = score(own_size(pred, mask))
    assert score(own_size(pred, mask, num_classes=4)) == pytest.approx(alone, nan_ok=True)
    lower = square(25, 25, 10)
    several = score(own_size(pred + 2 * lower, mask + 2 * lower, num_classes=3))
    for column, value in alone.items():
        perfect = 0 if column == "average_surface_distance" else 1
        assert several[column] == pytest.approx((value + perfect) / 2, nan_ok=True)


class TestClDice:
    @staticmethod
    def of(pred: np.ndarray, mask: np.ndarray) -> float:
        return cldice.of_masks(own_size(pred, mask))["cldice"]

    def test_a_gap_by_hand(self) -> None:
        line = np.zeros((9, 30), np.uint8)
        line[4, 5:25] = 1
        torn = line.copy()
        torn[4, 10:18] = 0  # 12 of 20 are found, and nothing else is marked
        assert self.of(torn, line) == pytest.approx(2 * 1 * 0.6 / 1.6)

    def test_width_does_not_matter(self) -> None:
        line, wide = np.zeros((2, 9, 30), np.uint8)
        line[4, 5:25] = 1
        wide[2:7, 3:27] = 1
        found = self.of(wide, line)
        on = np.count_nonzero(cldice.skeleton(wide) & line)
        precision = on / np.count_nonzero(cldice.skeleton(wide))
        assert found == pytest.approx(2 * precision / (1 + precision))
        assert found > 0.9
        assert 2 * 20 / (20 + 5 * 24) < 0.3  # dice

    def test_what_ignored_pixels_hide_is_not_counted(self) -> None:
        line = np.zeros((9, 30), np.uint8)
        line[4, 5:25] = 1
        torn, mask = line.copy(), line.copy()
        torn[4, 10:18] = 0
        mask[:, 10:18] = 255
        assert self.of(torn, mask) == self.of(line, mask) == 1
        torn[0] = 1  # a false line of 30, of which 8 are ignored
        assert self.of(torn, mask) == pytest.approx(2 * (12 / 34) / (1 + 12 / 34))

    @given(seed=st.integers(0, 10**6), sigma=st.sampled_from([0.5, 1.0, 2.0]))
    def test_thinning_by_the_rules_of_zhang_and_suen(self, seed: int, sigma: float) -> None:
        mask, _ = blobs(seed, (18, 22), sigma)
        assert np.array_equal(cldice.skeleton(mask), self.thinned(mask))

    @staticmethod
    def thinned(mask: np.ndarray) -> np.ndarray:
        left = np.pad(mask, 1).astype(bool)
        ring = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
        while True:
            before = left.copy()
            for first in (True, False):
                gone = []
                for y, x in np.argwhere(left):
                    p = [bool(left[y + down, x + right]) for down, right in ring]
                    north, east, south, west = p[::2]
                    rises = sum(then and not now for now, then in pairwise([*p, p[0]]))
                    if first:
                        free = not (north and east and south) and not (east and south and west)
                    else:
                        free = not (north and east and west) and not (north and south and west)
                    if 2 <= sum(p) <= 6 and rises == 1 and free:
                        gone.append((y, x))
                for y, x in gone:
                    left[y, x] = False
            if (left == before).all():
                return left[1:-1, 1:-1].astype(np.uint8)

    def test_what_thinning_takes_away_wholly_stands_for_itself(self) -> None:
        dot = square(3, 3, 2, size=8)
        assert not self.thinned(dot).any()
        assert np.array_equal(cldice.skeleton(dot), dot)


def contour(mask: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Corners of pixels on a contour, in the unit of the spacing, and the length at each."""
    wide = np.pad(mask, 1).astype(int)
    at, lengths = [], []
    for y, x in np.ndindex(mask.shape[0] + 1, mask.shape[1] + 1):
        four = wide[y : y + 2, x : x + 2]
        cut = np.hypot(spacing.row, spacing.column) / 2
        across = four[0, 0] == four[0, 1] and four[1, 0] == four[1, 1]
        along = four[0, 0] == four[1, 0] and four[0, 1] == four[1, 1]
        if four.sum() in (0, 4):
            continue
        if four.sum() == 2:
            length = spacing.column if across else spacing.row if along else 2 * cut
        else:
            length = cut
        at.append((y * spacing.row, x * spacing.column))
        lengths.append(length)
    return np.array(at), np.array(lengths)


class TestSurfaceDistance:
    def test_by_hand(self) -> None:
        """A square of 10 that is moved by 3 columns."""
        found = surface_distance.of_masks(
            own_size(square(10, 13, 10), square(10, 10, 10), spacing=MM, tolerance=0.25)
        )
        # Each side of a contour has 9 straight corners; its 4 ends cut off the corner of a pixel.
        cut = np.hypot(0.5, 0.25) / 2
        whole = 2 * 9 * 0.25 + 2 * 9 * 0.5 + 4 * cut
        # Above and below, 7 straight corners and an end lie on the other contour, and one lies a
        # column, 0.25 mm, beyond its end. The sides are 0.5 mm away at least.
        assert found["surface_dice_by_length"] == pytest.approx((2 * 8 * 0.25 + 2 * cut) / whole)

    @pytest.mark.parametrize("spacing", [Spacing(), MM, Spacing(0.3, 0.3)])
    @pytest.mark.parametrize("seed", range(5))
    def test_agrees_with_all_distances(self, seed: int, spacing: Spacing) -> None:
        pred, mask = blobs(seed, (30, 37))
        pred[0, 0] = mask[-1, -1] = 1  # at the edge of the image too
        (at, length), (true_at, true_length) = (contour(one, spacing) for one in (pred, mask))
        apart = cdist(at, true_at)
        distance = np.concatenate([apart.min(axis=1), apart.min(axis=0)])
        weight = np.concatenate([length, true_length])
        found = surface_distance.of_masks(own_size(pred, mask, spacing=spacing, tolerance=0.61))
        assert list(found.values()) == pytest.approx(
            [
                weight[distance <= 0.61].sum() / weight.sum(),
                (distance * weight).sum() / weight.sum(),
            ]
        )

    def test_the_unit_is_that_of_the_spacing(self) -> None:
        pred, mask = blobs(0, (30, 37))
        pixels = surface_distance.of_masks(own_size(pred, mask, tolerance=2))
        half = surface_distance.of_masks(
            own_size(pred, mask, spacing=Spacing(0.5, 0.5), tolerance=1)
        )
        assert half["surface_dice_by_length"] == pixels["surface_dice_by_length"]
        assert half["average_surface_distance"] == pytest.approx(
            pixels["average_surface_distance"] / 2
        )

    def test_ignored_pixels_hide_contours(self) -> None:
        """The edge of what is ignored is no contour on which two masks agree."""
        truth, small = square(10, 10, 20), square(15, 15, 10)
        mask = truth.copy()
        mask[12:28:3] = 255
        found = surface_distance.of_masks(own_size(small, mask, tolerance=2))
        assert found["surface_dice_by_length"] == 0
        assert surface_distance.of_masks(own_size(truth, mask)) == {
            "surface_dice_by_length": 1,
            "average_surface_distance": 0,
        }
        band = np.where(ndimage.binary_dilation(truth, iterations=2), 255, 0).astype(np.uint8)
        band[truth == 1] = 1
        for pred in (truth, small, np.zeros_like(truth)):
            assert np.isnan([*surface_distance.of_masks(own_size(pred, band)).values()]).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_outlines_of_pixels_are_measured_in_the_unit_too(self, seed: int) -> None:
        """Hausdorff 95 and surface dice of `boundary`."""
        pred, mask = blobs(seed, (40, 52))
        edges = [np.argwhere(one & ~ndimage.binary_erosion(one)) for one in (pred > 0, mask > 0)]
        apart = cdist(*(edge * [MM.row, MM.column] for edge in edges))
        ways = [apart.min(axis=1), apart.min(axis=0)]
        (found,) = boundary.of_class([pred], mask, 0.6, spacing=MM)
        assert found.hausdorff95 == pytest.approx(max(np.percentile(way, 95) for way in ways))
        near = sum((way <= 0.6).sum() for way in ways) / sum(map(len, ways))
        assert found.surface_dice == pytest.approx(near)
        (empty,) = boundary.of_class([np.zeros_like(mask)], mask, 0.6, spacing=MM)
        assert empty.hausdorff95 == pytest.approx(np.hypot(40 * 0.5, 52 * 0.25))


def components(mask: np.ndarray) -> Iterator[NDArray[np.bool_]]:
    labels, number = ndimage.label(mask, np.ones((3, 3)))
    for at in range(1, number + 1):
        yield labels == at


class TestObjects:
    def test_by_hand(self) -> None:
        """Of three true objects one is found wholly, one in part; the third is missed."""
        mask = square(2, 2, 10) + square(2, 20, 10) + square(20, 2, 10)
        pred = square(2, 2, 10) + square(20, 20, 5)
        pred[2:12, 20:28] = 1  # IoU 0.8
        found = objects.of_masks(own_size(pred, mask))
        assert found["detection_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
        assert found["panoptic_quality"] == pytest.approx((1 + 0.8) / (2 + 0.5 + 0.5))
        assert found["detection_f1_small"] == found["detection_f1"]
        assert np.isnan(found["panoptic_quality_large"])

    def test_half_is_not_enough(self) -> None:
        mask, pred = square(2, 2, 10), square(2, 2, 10)
        pred[2:12, 2:7] = 0
        assert objects.of_masks(own_size(pred, mask))["detection_f1"] == 0
        pred[2, 6] = 1
        assert objects.of_masks(own_size(pred, mask))["detection_f1"] == 1

    def test_a_match_has_the_size_of_the_true_object(self) -> None:
        """A true object of 1024 pixels is medium, found with 1023 or not."""
        mask = square(0, 0, 32) + square(40, 0, 31, size=40)
        pred = mask.copy()
        pred[0, 0] = 0
        found = objects.of_masks(own_size(pred, mask))
        assert found["detection_f1_medium"] == 1
        assert found["panoptic_quality_medium"] == pytest.approx(1023 / 1024)
        assert np.isnan(found["detection_f1_small"])
        false = objects.of_masks(own_size(pred, np.zeros_like(mask)))
        assert false["detection_f1_small"] == 0
        assert np.isnan(false["detection_f1_medium"])
        large = np.ones((96, 96), np.uint8)
        assert objects.of_masks(own_size(large, large))["detection_f1_large"] == 1

    def test_ignored_pixels_decide_no_match(self) -> None:
        mask, pred = square(2, 2, 10), square(2, 2, 10)
        pred[2:12, 12:30] = 1  # all of it beyond the object is ignored
        mask[:, 12:] = 255
        assert objects.of_masks(own_size(pred, mask))["panoptic_quality"] == 1
        mostly = np.zeros_like(mask)
        mostly[30:32, 9:20] = 1  # 3 of 11 columns count
        found = objects.of_masks(own_size(pred | mostly, mask))
        assert found["detection_f1"] == 1
        mostly[30:32, 3:9] = 1  # 9 of 17
        found = objects.of_masks(own_size(pred | mostly, mask))
        assert found["detection_f1"] == pytest.approx(2 / 3)

    @given(seed=st.integers(0, 10**6))
    def test_agrees_with_all_pairs(self, seed: int) -> None:
        pred, mask = blobs(seed, (60, 50), 1.5)
        true, found = list(components(mask)), list(components(pred))
        iou = np.array([[(a & b).sum() / (a | b).sum() for b in found] for a in true])
        right = iou.max(initial=0, where=iou > 0.5, axis=1) if iou.size else np.zeros(0)
        halves = (len(true) + len(found)) / 2
        scores = objects.of_masks(own_size(pred, mask))
        assert scores["detection_f1"] == pytest.approx((right > 0).sum() / halves)
        assert scores["panoptic_quality"] == pytest.approx(right.sum() / halves)


class TestBrierScore:
    def test_agrees_with_scikit_learn(self) -> None:
        rng = np.random.default_rng(0)
        mask = (rng.random((30, 20)) < 0.3).astype(np.uint8)
        probs = np.clip(rng.normal(0.2 + 0.5 * mask, 0.3), 0, 1)
        probs_u8 = np.minimum(probs * 256, 255).astype(np.uint8)
        found = brier.of_image(Evidence(mask, mask, histogram(probs_u8[None], mask, [1]), [1]))
        stored = (probs_u8 + 0.5) / 256
        stored[probs_u8 == 0], stored[probs_u8 == 255] = 0, 1
        exact = brier_score_loss(mask.ravel(), stored.ravel())
        assert found["brier_score"] == pytest.approx(exact, abs=1e-12)
        # What 256 levels may change, and what they do.
        assert abs(exact - brier_score_loss(mask.ravel(), probs.ravel())) < 1e-4 < 2 / 256

    def test_ignored_and_empty(self) -> None:
        mask = np.zeros((4, 4), np.uint8)
        probs_u8 = np.full((1, 4, 4), 128, np.uint8)
        found = brier.of_image(Evidence(mask, mask, histogram(probs_u8, mask, [1]), [1]))
        assert found["brier_score"] == pytest.approx((128.5 / 256) ** 2)
        ignored = np.full_like(mask, 255)
        nothing = brier.of_image(Evidence(mask, ignored, histogram(probs_u8, ignored, [1]), [1]))
        assert np.isnan(nothing["brier_score"])

    def test_each_class_against_the_rest(self) -> None:
        mask = np.array([[0, 1, 2, 2]], np.uint8)
        probs_u8 = np.array([[[255, 0, 0, 0]], [[0, 255, 255, 0]], [[0, 0, 0, 255]]], np.uint8)
        own = histogram(probs_u8, mask, [1, 2])
        found = brier.of_image(Evidence(mask, mask, own, [1, 2]))
        assert found["brier_score"] == pytest.approx((1 / 4 + 1 / 4) / 2)
