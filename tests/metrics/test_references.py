"""Metrics of shapes and objects agree with MONAI and scikit-image."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from segbench.metrics import boundary
from segbench.metrics.distances import Spacing
from segbench.metrics.optional import cldice, objects, surface_distance
from support.masks import own_size

pytestmark = pytest.mark.slow  # seconds of imports

MM = Spacing(0.7, 0.4)
SEEDS = range(8)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) for _ in range(2))
    return (first > 0.02).astype(np.uint8), (first + second > 0.03).astype(np.uint8)


def hot(mask: np.ndarray) -> torch.Tensor:
    """(1, 1, H, W)."""
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.filterwarnings("ignore:(?s).*always_return_as_numpy:FutureWarning")  # MONAI's own
@pytest.mark.parametrize("spacing", [Spacing(), MM])
@pytest.mark.parametrize("seed", SEEDS)
def test_distances_of_monai(seed: int, spacing: Spacing) -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice
    from monai.metrics.utils import get_edge_surface_distance

    pred, mask = blobs(seed)
    both = {"y_pred": hot(pred), "y": hot(mask)}
    units = {"include_background": True, "spacing": (spacing.row, spacing.column)}
    (found,) = boundary.of_class([pred], mask, 1.1, spacing=spacing)
    hausdorff = compute_hausdorff_distance(**both, **units, percentile=95)
    assert found.hausdorff95 == pytest.approx(hausdorff.item(), rel=1e-6)  # of float32
    dice = compute_surface_dice(**both, **units, class_thresholds=[1.1])
    assert found.surface_dice == pytest.approx(dice.item(), abs=1e-6)
    # With `use_subvoxels`, the surface distance of DeepMind.
    scores = surface_distance.of_masks(own_size(pred, mask, spacing=spacing, tolerance=1.1))
    dice = compute_surface_dice(**both, **units, class_thresholds=[1.1], use_subvoxels=True)
    assert scores["surface_dice_by_length"] == pytest.approx(dice.item(), abs=1e-6)
    edges, apart, lengths = get_edge_surface_distance(
        both["y_pred"][0, 0].bool(),
        both["y"][0, 0].bool(),
        spacing=units["spacing"],
        use_subvoxels=True,
        symmetric=True,
    )
    distance = torch.cat([*apart]).double()
    length = torch.cat([own[edge] for own, edge in zip(lengths, edges, strict=True)]).double()
    mean = (distance * length).sum() / length.sum()
    assert scores["average_surface_distance"] == pytest.approx(mean.item(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_of_monai(seed: int) -> None:
    from monai.metrics.panoptic_quality import compute_panoptic_quality

    pred, mask = blobs(seed)
    labels = [
        torch.from_numpy(ndimage.label(one, np.ones((3, 3)))[0]).long() for one in (pred, mask)
    ]
    found = objects.of_masks(own_size(pred, mask))
    tp, fp, fn, iou = compute_panoptic_quality(*labels, output_confusion_matrix=True).tolist()
    assert found["panoptic_quality"] == pytest.approx(iou / (tp + fp / 2 + fn / 2), abs=1e-6)
    assert found["detection_f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_of_torchmetrics(seed: int) -> None:
    # Not in the dev extra: lightning-fabric imports it in every training where it is installed.
    reference = pytest.importorskip("torchmetrics.functional.detection").panoptic_quality
    pred, mask = blobs(seed)
    of_class = []
    for one in (pred, mask):
        labels = torch.from_numpy(ndimage.label(one, np.ones((3, 3)))[0]).long()
        of_class.append(torch.stack([(labels > 0).long(), labels], dim=-1)[None])
    quality = reference(
        *of_class, things={1}, stuffs={0}, return_per_class=True, allow_unknown_preds_category=True
    )
    found = objects.of_masks(own_size(pred, mask))
    assert found["panoptic_quality"] == pytest.approx(quality[0, 0].item(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_centre_lines_are_nearly_those_of_scikit_image(seed: int) -> None:
    """Its table of what thinning removes differs from Zhang's and Suen's rules in some corners."""
    from skimage.morphology import skeletonize

    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=(128, 128)), 5) for _ in range(2))
    mask = (abs(first) < 0.15 * first.std()).astype(np.uint8)
    pred = (abs(first + 0.2 * second) < 0.15 * first.std()).astype(np.uint8)
    lines = [skeletonize(one > 0) for one in (pred, mask)]
    precision = (lines[0] & (mask > 0)).sum() / lines[0].sum()
    sensitivity = (lines[1] & (pred > 0)).sum() / lines[1].sum()
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    found = cldice.of_masks(own_size(pred, mask))["cldice"]
    assert found == pytest.approx(expected, abs=0.02)
    assert 0.1 < expected < 0.99
