"""The augmentation pipeline for training images.

Random choices are a function of (seed, epoch, sample) only, so they do not depend on the number of
workers or the order in which samples are fetched.
"""

import os
import random
import warnings
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

# Set before importing albumentations, which else checks for a newer version online.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from segbench.errors import InputError
from segbench.images import IGNORE, Pixels
from segbench.labels import LabelScheme
from segbench.params.augment import Augment
from segbench.params.section import did_you_mean

Pipeline: TypeAlias = A.Compose

FAILURES = (ValueError, TypeError, KeyError, IndexError, NotImplementedError, cv2.error)
"""What transforms raise for images or masks that they do not take."""

RGB = 3

TRIALS = 4
"""Times that transforms are tried, each with other random choices."""

TURNS = 12
"""Times that a transform may show which sizes it makes: one that turns half of all images is missed
once in 4,096 pipelines."""
MOST_SIZES = 8
"""Sizes that are followed through a pipeline: scaling at random makes any number."""

LEAST_EXPLAINED = 0.1
"""Least share of an image's variance that its mask explains after a transform; without any, all of
it. Strong noise and erased parts leave a third."""


def build_pipeline(params: Augment) -> Pipeline:
    """Build the albumentations pipeline of params.yaml.

    Raises:
        InputError: for an unknown transform or an argument that it does not take.
    """
    return A.Compose([_build(item.transform, item.model_extra or {}) for item in params.transforms])


def check_transforms(params: Augment, scheme: LabelScheme, channels: int) -> None:
    """Try every transform, whatever its probability, on masks of all classes and ignored pixels.

    Args:
        params: the section `augment`.
        scheme: of the classes.
        channels: of the images.

    Raises:
        InputError: for a transform that does not take so many channels, changes sizes, makes class
            ids that masks do not have, or moves images and masks apart.
    """
    certain = [
        _build(item.transform, {**(item.model_extra or {}), "p": 1.0}) for item in params.transforms
    ]
    for one in certain:
        if (reason := _failure(one, params, channels)) and not _failure(one, params, RGB):
            raise InputError(
                f"augment.transforms: {type(one).__name__} does not take images of {channels} "
                f"channel{'s' if channels > 1 else ''}, which the dataset has: {reason}; remove it"
            )
    # First all together, since one may need another.
    _check_sizes(build_pipeline(params).transforms, certain, params, channels)
    _check(A.Compose(certain), params, scheme, channels)
    for one in certain:
        if not _failure(one, params, channels):
            _check_alignment(one, params, channels)


def _check_sizes(
    transforms: Sequence[A.BasicTransform],
    certain: Sequence[A.BasicTransform],
    params: Augment,
    channels: int,
) -> None:
    """Raise InputError unless images keep their size, whichever of the transforms are drawn.

    Args:
        transforms: with their probabilities.
        certain: the same with probability 1.
        params: the section.
        channels: of the images.
    """
    own = (params.height, params.width)
    made = {own: ""}  # sizes that an image may have here, with what made them
    for drawn, sure in zip(transforms, certain, strict=True):
        if not isinstance(sure, A.DualTransform):
            continue
        found = {} if drawn.p >= 1 else dict(made)
        for size, maker in made.items():
            image = np.zeros((*size, channels), np.uint8)
            for key in range(TURNS):
                shape = _augmented(A.Compose([sure]), image, image[..., 0], key)[0].shape[:2]
                name = type(sure).__name__
                turned = f"{name} turns {_written(size)} into {_written(shape)}"
                found.setdefault(shape, maker or turned)
        made = dict(islice(found.items(), MOST_SIZES))
    for shape, maker in made.items():
        if shape != own:
            way_out = (
                "set augment.height and augment.width equal"
                if shape == own[::-1]
                else f"add Resize to {_written(own)} with p: 1 at the end"
            )
            raise InputError(
                f"augment.transforms: {maker} (width x height), but all together they must keep "
                f"size and type; {way_out}, or remove it"
            )


def _written(size: tuple[int, ...]) -> str:
    """(H, W) as people write it."""
    return f"{size[1]}x{size[0]}"


def _check(pipeline: Pipeline, params: Augment, scheme: LabelScheme, channels: int) -> None:
    """Raise InputError unless images and masks stay what they are.

    uint8 pixels stay uint8 pixels of the same size, and masks get no class ids but those that they
    have and declared ones that fill what lies outside.
    """
    blocks = _blocks(params)
    image = np.random.default_rng(0).integers(0, 256, (*blocks.shape, channels), np.uint8)
    last = scheme.num_classes - 1
    declared = {*range(scheme.num_classes), IGNORE}
    whole = np.full_like(blocks, last)
    everything = np.array(sorted(declared), np.uint8)[blocks % len(declared)]
    # Between these two lies every other id: interpolation shows.
    extremes = np.where(blocks % 2, IGNORE, 0).astype(np.uint8)
    for key in range(TRIALS):
        filled, *varied = (
            _values_after(pipeline, image, mask, key) for mask in (whole, everything, extremes)
        )
        made_up = (filled - declared) | (varied[0] - declared)
        made_up |= varied[1] - {0, IGNORE} - filled
        if made_up:
            culprits = [one for one in pipeline.transforms if isinstance(one, A.DualTransform)]
            raise InputError(
                f"augment.transforms: make the class ids {sorted(made_up)} of masks that do not "
                f"hold them ({', '.join(type(one).__name__ for one in culprits)}); set "
                f"mask_interpolation: 0, and fill_mask to a class id (0 to {last}) or "
                f"{IGNORE}, which is ignored"
            )
        if 0 in filled and last != 0 and scheme.background != 0:
            raise InputError(
                "augment.transforms: fill what they move in from beyond the mask with class 0, "
                "which is not dataset.background but has a score of its own; set fill_mask: "
                f"{IGNORE}, which is ignored"
            )


def _values_after(pipeline: Pipeline, image: Pixels, mask: Pixels, key: int) -> set[int]:
    """Class ids of a mask that was augmented."""
    varied, moved = _augmented(pipeline, image, mask, key)
    fits = varied.dtype == np.uint8 and varied.shape == image.shape
    fits = fits and moved.dtype == np.uint8 and moved.shape == mask.shape
    if not fits:
        raise InputError(
            f"augment.transforms: turn {image.shape} uint8 into {varied.shape} {varied.dtype}; "
            "they must keep size and type (scaling is inside the network); remove the others"
        )
    return set(np.unique(moved).tolist())


def _augmented(pipeline: Pipeline, image: Pixels, mask: Pixels, key: int) -> tuple[Pixels, Pixels]:
    try:
        varied, moved = augment_sample(pipeline, image, mask, (key,))
        return np.asarray(varied), np.asarray(moved)
    except FAILURES as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"augment.transforms: the pipeline fails: {reason}; fix it") from None


def _failure(transform: A.BasicTransform, params: Augment, channels: int) -> str:
    """Why a transform does not work alone; one that crops needs another that resizes."""
    blocks = _blocks(params)
    image = np.repeat(blocks[..., None], channels, axis=2)
    try:
        varied, moved = augment_sample(A.Compose([transform]), image, blocks, (0,))
    except FAILURES as problem:
        return " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    same = varied.shape == image.shape and moved.shape == blocks.shape
    return "" if same else f"it makes {varied.shape} of {image.shape}"


def _check_alignment(transform: A.BasicTransform, params: Augment, channels: int) -> None:
    """Raise InputError if a transform moves the image without its mask, or the other way round."""
    mask = (_blocks(params) % 2).astype(np.uint8)
    inside, outside = (np.resize(rgb, channels) for rgb in ((200, 170, 60), (60, 100, 180)))
    image = np.where(mask[..., None], inside, outside).astype(np.uint8)
    shares = []
    for key in range(TRIALS):
        varied, moved = augment_sample(A.Compose([transform]), image, mask, (key,))
        shares.append(_explained(varied, moved))
    if np.median(shares) < LEAST_EXPLAINED:
        name = type(transform).__name__
        raise InputError(
            f"augment.transforms: {name} moves images and masks apart: after it, a mask does not "
            "fit its image; soften its arguments or remove it"
        )


def _explained(image: Pixels, mask: Pixels) -> float:
    """Share of the variance of an image (H, W, C), in its best channel, that its mask explains."""
    # Smoothed, since noise moves nothing.
    side = max(3, min(mask.shape) // 64 * 2 + 1)
    smooth = cv2.blur(image, (side, side)).reshape(-1, image.shape[2]).astype(float)
    classes = [smooth[mask.ravel() == value] for value in np.unique(mask)]
    between = sum(len(part) * (part.mean(axis=0) - smooth.mean(axis=0)) ** 2 for part in classes)
    within = sum(((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in classes)
    return float(np.max(between / np.maximum(between + within, 1e-9)))


def _blocks(params: Augment) -> Pixels:
    """(H, W) random numbers below 256 in 8 by 8 blocks, the same in each call."""
    small = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)
    size = (params.width, params.height)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _build(name: str, args: dict[str, Any]) -> A.BasicTransform:
    kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
        known = [key for key in dir(A) if isinstance(getattr(A, key), type)]
        raise InputError(
            f"augment.transforms: albumentations {A.__version__} has no transform "
            f"'{name}'{did_you_mean(name, known)}; take one of its transforms"
        )
    with warnings.catch_warnings():
        # Some recommend another transform; arguments that they do not take are only warned of too.
        warnings.simplefilter("ignore")
        try:
            transform = kind(**args)
        except (ValueError, TypeError) as problem:
            reason = " ".join(str(problem).split())
            raise InputError(
                f"augment.transforms: {name} does not take {args}: {reason}; fix its arguments"
            ) from None
    if transform.invalid_args:
        raise InputError(
            f"augment.transforms: {name} does not take {', '.join(transform.invalid_args)}; fix "
            "its arguments"
        )
    return transform


def augment_sample(
    pipeline: Pipeline, image: Pixels, mask: Pixels, key: tuple[int, ...]
) -> tuple[Pixels, Pixels]:
    """Augment a sample.

    Args:
        pipeline: is reseeded, so threads must not share one.
        image: (H, W, C) uint8.
        mask: (H, W) uint8; geometric transforms move it with the image, by nearest neighbour.
        key: seed; equal keys give equal results.

    Returns:
        Image and mask of the same shapes.
    """
    # Not set_random_seed, which gives every transform the same stream, so that either all of them
    # are applied or none.
    rng = np.random.default_rng(key)
    pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    varied = pipeline(image=image, mask=mask)
    return varied["image"], varied["mask"]


def save_pipeline(pipeline: Pipeline, path: Path) -> None:
    """Write a pipeline in the YAML format of albumentations."""
    A.save(pipeline, path, data_format="yaml")


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline file."""
    return A.load(path, data_format="yaml")
