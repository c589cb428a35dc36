"""A variation is a function of its key, and its transforms are independent of each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest

from segbench.arrays.transforms import (
    augment_sample,
    build_pipeline,
    check_transforms,
    load_pipeline,
    save_pipeline,
)
from segbench.errors import InputError
from segbench.labels import LabelScheme
from segbench.params import Params
from support.masks import CLASSES, stripes


def pipeline_of(tree: dict[str, Any], transforms: list[dict[str, Any]]) -> Any:
    tree["augment"]["transforms"] = transforms
    params = Params.model_validate(tree).augment
    pipeline = build_pipeline(params)
    check_transforms(params, LabelScheme(3, 0), channels=3)
    return pipeline


def test_same_key_same_variation_in_any_order(params: Params) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), np.uint8)
    mask = rng.integers(0, 2, (32, 32), np.uint8)
    one, two = build_pipeline(params.augment), build_pipeline(params.augment)
    keys = [(0, epoch, index) for epoch in range(3) for index in range(10)]
    forwards = {key: augment_sample(one, image, mask, key) for key in keys}
    backwards = {key: augment_sample(two, image, mask, key) for key in reversed(keys)}
    for key in keys:
        assert (forwards[key][0] == backwards[key][0]).all()
        assert (forwards[key][1] == backwards[key][1]).all()
    assert len({forwards[key][0].tobytes() for key in keys}) > 12


def test_transforms_are_drawn_independently(tree: dict[str, Any]) -> None:
    """Re-seeding the pipeline by its own method makes all of them happen or none."""
    flips = [{"transform": "HorizontalFlip", "p": 0.5}, {"transform": "VerticalFlip", "p": 0.5}]
    pipeline = pipeline_of(tree, flips)
    mask = np.array([[1, 2], [3, 4]], np.uint8)
    image = np.repeat(mask[..., None], 3, axis=2)
    corners = [
        augment_sample(pipeline, image, mask, (0, 0, index))[1][0, 0] for index in range(800)
    ]
    counts = np.bincount(corners)[1:]
    assert (counts > 150).all(), counts


def test_masks_move_with_images_and_keep_their_classes(tree: dict[str, Any]) -> None:
    turn = [{"transform": "Affine", "rotate": [-45, 45], "scale": [0.7, 1.3], "p": 1.0}]
    pipeline = pipeline_of(tree, turn)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 10:30] = 1
    mask[40:50, 40:60] = 255
    image = np.repeat((mask > 0).astype(np.uint8)[..., None] * 200, 3, axis=2)
    for index in range(20):
        varied, moved = augment_sample(pipeline, image, mask, (index,))
        assert set(np.unique(moved)) <= {0, 1, 255}
        assert (((varied[..., 0] > 100) == (moved > 0)).mean()) > 0.97


def test_between_two_classes_no_other_is_made_up(tree: dict[str, Any]) -> None:
    pipeline = pipeline_of(tree, [{"transform": "Affine", "rotate": [-45, 45], "p": 1.0}])
    mask = stripes(64, 64)
    image = np.repeat(mask[..., None], 3, axis=2)
    for index in range(20):
        assert set(np.unique(augment_sample(pipeline, image, mask, (index,))[1])) <= set(CLASSES)


def test_a_pipeline_survives_its_file(params: Params, tmp_path: Path) -> None:
    built = build_pipeline(params.augment)
    save_pipeline(built, tmp_path / "pipeline.yaml")
    loaded = load_pipeline(tmp_path / "pipeline.yaml")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for index in range(20):
        ours = augment_sample(built, image, image[..., 0], (index,))
        theirs = augment_sample(loaded, image, image[..., 0], (index,))
        assert (ours[0] == theirs[0]).all()


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"transform": "HorizontalFlop"}, "has no transform 'HorizontalFlop' (did you mean Horiz"),
        ({"transform": "HorizontalFlip", "prob": 0.5}, "HorizontalFlip does not take"),
        ({"transform": "Affine", "scale": "big"}, "Affine does not take"),
        ({"transform": "ToFloat", "p": 0.1}, "they must keep size and type (scaling is"),
        ({"transform": "RandomCrop", "height": 32, "width": 32, "p": 0.1}, "keep size and type"),
        (
            {"transform": "Affine", "rotate": [-45, 45], "fill_mask": 9, "p": 0.1},
            "make the class ids [9] of masks that do not hold them (Affine); set mask_interpolati",
        ),
        ({"transform": "Rotate", "fill_mask": 3}, "make the class ids [3]"),
        ({"transform": "ElasticTransform", "mask_interpolation": 1}, "make the class ids"),
        ({"transform": "CoarseDropout", "fill_mask": 200, "p": 0.1}, "make the class ids [200]"),
    ],
)
def test_unknown_transforms_and_arguments(
    transform: dict[str, Any], said: str, tree: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        pipeline_of(tree, [transform])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_moves_without_its_mask_is_refused(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class ImageFlip(A.HorizontalFlip):
        def apply_to_mask(self, mask: Any, *args: Any, **params: Any) -> Any:
            return mask

    monkeypatch.setattr(A, "ImageFlip", ImageFlip, raising=False)
    with pytest.raises(InputError, match="ImageFlip moves images and masks apart"):
        pipeline_of(tree, [{"transform": "ImageFlip", "p": 0.5}])


@pytest.mark.parametrize(
    "transforms",
    [
        [{"transform": "ShiftScaleRotate", "shift_limit": 0.1, "rotate_limit": 20, "p": 0.5}],
        [{"transform": "Affine", "rotate": [-45, 45], "fill_mask": 255}],
        [{"transform": "Affine", "rotate": [-45, 45], "fill_mask": 1}],
        [{"transform": "GaussNoise", "std_range": [0.4, 0.5]}],
        [{"transform": "Erasing", "scale": [0.3, 0.4]}],
        [{"transform": "ThinPlateSpline"}, {"transform": "ElasticTransform", "alpha": 100}],
        [
            {"transform": "RandomCrop", "height": 40, "width": 48},
            {"transform": "Resize", "height": 64, "width": 64},
        ],
    ],
    ids=lambda transforms: transforms[0]["transform"],
)
def test_what_keeps_masks_true_is_allowed(
    transforms: list[dict[str, Any]], tree: dict[str, Any]
) -> None:
    pipeline_of(tree, transforms)


@pytest.mark.parametrize(
    ("transforms", "said"),
    [
        (["RandomRotate90"], "RandomRotate90 turns 96x64 into 64x96 (width x height), but all"),
        (["HorizontalFlip", "Transpose"], "Transpose turns 96x64 into 64x96"),
        (["D4"], "equal, or remove it"),
        # Together they may keep the size, and sometimes do not.
        (["Transpose", "RandomRotate90"], "Transpose turns 96x64 into 64x96"),
        (["Transpose", "Transpose"], "set augment.height and augment.width equal"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_sides_that_are_swapped_must_be_equal(
    transforms: list[str], said: str, p: float, tree: dict[str, Any]
) -> None:
    listed = [{"transform": name, "p": p} for name in transforms]
    pipeline_of(tree, listed)
    tree["augment"] |= {"height": 64, "width": 96}
    with pytest.raises(InputError, match=re.escape(said)):
        pipeline_of(tree, listed)


def test_what_restores_the_size_must_be_certain(tree: dict[str, Any]) -> None:
    tree["augment"] |= {"height": 64, "width": 96}
    listed: list[dict[str, Any]] = [
        {"transform": "RandomRotate90", "p": 0.5},
        {"transform": "RandomCrop", "height": 48, "width": 48, "p": 1.0},
        {"transform": "Resize", "height": 64, "width": 96, "p": 1.0},
    ]
    pipeline_of(tree, listed)
    listed[-1]["p"] = 0.5
    with pytest.raises(InputError, match=r"RandomCrop turns .* into 48x48 .*add Resize to 96x64"):
        pipeline_of(tree, listed)


def test_the_update_check_is_off() -> None:
    """It would ask the network at every import."""
    code = (
        "import urllib.request as u\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "u.urlopen = u.OpenerDirector.open = refuse\n"
        "import segbench.arrays.transforms\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "channels", "said"),
    [
        ("HueSaturationValue", 5, "does not take images of 5 channels, which the dataset has: Hue"),
        ("ToGray", 2, "does not take images of 2 channels, which the dataset has: ToGray"),
        ("ChannelDropout", 1, "does not take images of 1 channel, which the dataset has: Images"),
    ],
)
def test_transforms_that_do_not_take_the_images(
    name: str, channels: int, said: str, tree: dict[str, Any]
) -> None:
    """They would fail in the midst of packing or training."""
    tree["augment"]["transforms"] = [{"transform": "HorizontalFlip"}, {"transform": name}]
    params = Params.model_validate(tree).augment
    check_transforms(params, LabelScheme(3, 0), channels=3)
    with pytest.raises(InputError, match=f"augment.transforms: {name} {said}.*; remove it"):
        check_transforms(params, LabelScheme(3, 0), channels=channels)


def test_all_bands_move_together(tree: dict[str, Any]) -> None:
    turn = [{"transform": "Affine", "rotate": [-45, 45], "scale": [0.7, 1.3], "p": 1.0}]
    tree["augment"]["transforms"] = turn
    params = Params.model_validate(tree).augment
    check_transforms(params, LabelScheme(3, 0), channels=7)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 7), np.uint8)
    pipeline = build_pipeline(params)
    varied, _ = augment_sample(pipeline, image, image[..., 0], (0,))
    for at in range(7):
        single = np.repeat(image[..., at : at + 1], 3, axis=2)
        alone, _ = augment_sample(pipeline, single, image[..., 0], (0,))
        assert (varied[..., at] == alone[..., 0]).all()


@pytest.mark.parametrize(("background", "fill_mask"), [(None, 0), (2, 0), (None, 255), (0, 0)])
def test_what_is_beyond_the_image_is_no_class_with_a_score(
    background: int | None, fill_mask: int, tree: dict[str, Any]
) -> None:
    turn = {"transform": "Affine", "rotate": [-45, 45], "fill_mask": fill_mask, "p": 1.0}
    tree["augment"]["transforms"] = [turn]
    params = Params.model_validate(tree).augment
    scheme = LabelScheme(4, background)
    if fill_mask == 0 and background != 0:
        with pytest.raises(InputError, match=r"beyond the mask with class 0, .* fill_mask: 255"):
            check_transforms(params, scheme, channels=3)
    else:
        check_transforms(params, scheme, channels=3)
