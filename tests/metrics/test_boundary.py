"""Boundary metrics agree with references that are written for clarity, not for speed."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from segbench.metrics import boundary
from segbench.metrics.boundary import boundary_scores, of_class
from segbench.metrics.definition import Evidence
from segbench.metrics.optional import v_rand


def reference(pred: np.ndarray, truth: np.ndarray, tolerance: float) -> tuple[float, float, float]:
    """Outlines by erosion, as MONAI has them; all distances between them; margins step by step."""
    edges = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (pred > 0, truth > 0)]
    apart = cdist(*edges)
    ways = [apart.min(axis=1), apart.min(axis=0)]
    near = sum((way <= tolerance).sum() for way in ways) / sum(map(len, ways))
    steps = max(1, round(0.02 * float(np.hypot(*truth.shape))))
    eight = np.ones((3, 3))
    margins = [
        mask & ~ndimage.binary_erosion(mask, eight, iterations=steps)
        for mask in (pred > 0, truth > 0)
    ]
    overlap = (margins[0] & margins[1]).sum() / (margins[0] | margins[1]).sum()
    return overlap, max(np.percentile(way, 95) for way in ways), near


@given(seed=st.integers(0, 10**6), height=st.integers(8, 90), width=st.integers(8, 90))
def test_agrees_with_the_references(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = (
        (ndimage.gaussian_filter(rng.normal(size=(height, width)), 2) > 0.02).astype(np.uint8)
        for _ in range(2)
    )
    pred[0, 0] = truth[-1, -1] = 1  # at the edge of the image too
    assert astuple(of_class([pred], truth, 2.0)[0]) == pytest.approx(reference(pred, truth, 2.0))


def squares(shift: int) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = np.zeros((2, 100, 100), np.uint8)
    truth[20:60, 20:60] = 1
    pred[20:60, 20 + shift : 60 + shift] = 1
    return pred, truth


def test_by_hand() -> None:
    """A square of 40 that is moved by 5 along two of its sides."""
    pred, truth = squares(5)
    (found,) = of_class([pred], truth, 2.0)
    assert found.hausdorff95 == 5
    # Of 4 x 40 - 4 pixels of an outline these are near: on the two sides that were moved along
    # themselves 35 and 2 beyond the end, and on the side that lies within the other square the 2
    # next to either of them.
    assert found.surface_dice == (2 * 37 + 2 * 2) / 156
    (same,) = of_class([truth], truth, 2.0)
    assert (same.boundary_iou, same.hausdorff95, same.surface_dice) == (1, 0, 1)


def test_empty_masks() -> None:
    pred, truth = squares(5)
    empty = np.zeros_like(truth)
    for preds, mask in (([pred], empty), ([empty], truth)):
        (found,) = of_class(preds, mask, 2.0)
        assert astuple(found) == (0, pytest.approx(np.hypot(100, 100)), 0)
    assert np.isnan(boundary_scores([empty], empty, [1], 2.0)).all()


def test_classes_that_are_nowhere_are_left_out_of_the_mean() -> None:
    pred, truth = squares(5)
    alone = boundary_scores([pred], truth, [1], 2.0)
    assert (boundary_scores([pred], truth, [1, 2], 2.0) == alone).all()
    assert boundary_scores([pred], np.where(truth, 2, 0), [1, 2], 2.0)[0, 2] == 0


def test_what_is_predicted_in_ignored_pixels_counts_nowhere() -> None:
    pred, truth = squares(5)
    pred[:10] = 1
    masked = truth.copy()
    masked[:10] = 255
    clean = pred.copy()
    clean[:10] = 0
    found, expected = (
        boundary_scores([pred], masked, [1], 2.0),
        boundary_scores([clean], truth, [1], 2.0),
    )
    assert (found == expected).all()


def ignoring(truth: np.ndarray, where: tuple[slice, slice]) -> np.ndarray:
    mask = truth.copy()
    mask[where] = 255
    return mask


def test_the_edge_of_ignored_lines_is_no_outline() -> None:
    """A square that is 5 too small on all sides, below twelve ignored lines, agrees nowhere."""
    truth, pred = np.zeros((2, 100, 100), np.uint8)
    truth[20:60, 20:60] = 1
    pred[25:55, 25:55] = 1
    mask = truth.copy()
    mask[22:58:3] = 255
    assert np.count_nonzero((mask == 255).all(axis=1)) == 12
    (found,) = boundary_scores([pred], mask, [1], 2.0).tolist()
    assert found[2] == 0
    assert found[1] >= 5


def test_what_ignored_pixels_hide_of_an_outline_by_hand() -> None:
    """A square of 6 whose lower half is hidden: of 20 outline pixels 10 stay.

    The upper line has 6. Of either side 4 rows are visible; the first is in the upper line, the
    last next to ignored pixels: 2 each are left.
    """
    truth = np.zeros((20, 20), np.uint8)
    truth[4:10, 4:10] = 1
    mask = ignoring(truth, np.s_[8:, :])
    lower = np.zeros_like(truth)
    lower[6:10, 4:10] = 1  # its upper line is two lines too low
    (found,) = boundary_scores([lower], mask, [1], 0.0)
    # Of the prediction 4 and 2 x 1 pixels are seen: its upper line (row 6) and of the sides row 6
    # alone, as row 7 is next to what is ignored. (4, 6), (9, 6) lie on sides of the truth.
    assert found[2] == (2 + 2) / (10 + 6)
    assert found[1] == 2  # from one upper line to the other
    assert boundary_scores([truth], mask, [1], 0.0).tolist() == [[1, 0, 1]]


def test_a_right_prediction_is_right_whatever_it_says_in_ignored_pixels() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[4:10, 4:10] = 1
    mask = ignoring(truth, np.s_[:, 7:9])
    for value in (0, 1):
        pred = truth.copy()
        pred[:, 7:9] = value
        assert boundary_scores([pred], mask, [1], 0.0).tolist() == [[1, 0, 1]]


def test_without_any_visible_outline_nothing_is_defined() -> None:
    """A band around the object hides its outline, as void does in street scenes."""
    truth = np.zeros((30, 30), np.uint8)
    truth[10:16, 10:16] = 1
    mask = truth.copy()
    mask[8:18, 8:18] = np.where(truth[8:18, 8:18], 1, 255)
    small, empty = np.zeros_like(truth), np.zeros_like(truth)
    small[12:14, 12:14] = 1
    # The margin of boundary IoU is one pixel wide here, narrower than the band.
    assert np.isnan(boundary_scores([truth, small, empty], mask, [1], 2.0)).all()
    # Without an object, what is marked is wrong; what is marked in ignored pixels is not seen.
    hidden, band = np.zeros_like(truth), np.where(mask == 255, 255, 0).astype(np.uint8)
    hidden[8:10, 8:18] = 1
    wrong, unseen = boundary_scores([small, hidden], band, [1], 2.0)
    assert wrong.tolist() == [0, pytest.approx(np.hypot(30, 30)), 0]
    assert np.isnan(unseen).all()


def test_a_prediction_without_visible_outline_misses_that_of_the_truth() -> None:
    """All of the field of view is marked, and what is ignored around it too."""
    truth = np.zeros((30, 30), np.uint8)
    truth[10:16, 10:16] = 1
    mask = np.full_like(truth, 255)
    mask[5:25, 5:25] = truth[5:25, 5:25]
    (found,) = boundary_scores([np.ones_like(truth)], mask, [1], 2.0)
    assert found.tolist() == [0, pytest.approx(np.hypot(30, 30)), 0]


@given(seed=st.integers(0, 10**6))
def test_ignored_pixels_hide_outlines_as_in_the_reference(seed: int) -> None:
    """Outlines and margins of whole masks, by definition and without cropping."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) for _ in range(3)]
    pred, truth = ((part > 0.05).astype(np.uint8) for part in noise[:2])
    pred[:8], truth[-9:] = 0, 0
    ignored = noise[2] > 0.15
    mask = np.where(ignored, 255, truth).astype(np.uint8)
    near = ndimage.binary_dilation(ignored)
    kept = ~ignored
    wide = np.ones((2 * 2 + 1,) * 2)  # 2 % of the diagonal
    edges, margins = [], []
    for one in (pred > 0, mask == 1):
        edges.append(np.argwhere(one & ~ndimage.binary_erosion(one) & ~near))
        margins.append(one & kept & ~ndimage.binary_erosion(one | ignored, wide))
    apart = cdist(*edges)
    ways = [apart.min(axis=1), apart.min(axis=0)]
    expected = (
        (margins[0] & margins[1]).sum() / (margins[0] | margins[1]).sum(),
        max(np.percentile(way, 95) for way in ways),
        sum((way <= 2).sum() for way in ways) / sum(map(len, ways)),
    )
    assert boundary_scores([pred], mask, [1], 2.0)[0] == pytest.approx(expected)


def test_masks_of_one_image_do_not_touch_each_other() -> None:
    (near, truth), (far, _) = squares(5), squares(30)
    preds = [near, np.zeros_like(truth), far]
    alone = [boundary_scores([pred], truth, [1], 2.0)[0] for pred in preds]
    assert (boundary_scores(preds, truth, [1], 2.0) == alone).all()
    assert (alone[0] != alone[2]).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        boundary_scores([np.zeros((2, 2), np.uint8)], np.zeros((2, 3), np.uint8), [1], 2.0)


def test_every_score_is_defined() -> None:
    assert tuple(boundary.Boundary.__annotations__) == boundary.NAMES


@pytest.mark.parametrize("seed", range(5))
def test_v_rand_counts_pairs_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = (rng.random((2, 9, 9)) < 0.6).astype(np.uint8)
    objects, found = (ndimage.label(mask)[0].ravel() for mask in (truth, pred))
    inside = objects > 0
    objects, found = objects[inside], found[inside]
    together = objects[:, None] == objects
    seen_together = (found[:, None] == found) & (found > 0) | np.eye(len(found), dtype=bool)
    expected = 2 * (together & seen_together).sum() / (together.sum() + seen_together.sum())
    evidence = Evidence(pred, truth, np.zeros((1, 2, 256), np.int64), [1])
    assert v_rand.of_image(evidence)["v_rand"] == pytest.approx(expected)


def test_v_rand_of_a_perfect_and_of_a_missing_object() -> None:
    pred, truth = squares(0)
    histogram = np.zeros((1, 2, 256), np.int64)
    assert v_rand.of_image(Evidence(pred, truth, histogram, [1])) == {"v_rand": 1.0}
    nothing = np.zeros_like(truth)
    assert np.isnan(v_rand.of_image(Evidence(pred, nothing, histogram, [1]))["v_rand"])
