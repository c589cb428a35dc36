"""The augmentation pipeline for training images.

Random choices are a function of (seed, epoch, sample) only, so they do not depend on the number of
workers or the order in which samples are fetched.
"""

import os
import random
import warnings
from pathlib import Path
from typing import Any, TypeAlias

# Set before importing albumentations, which else checks for a newer version online.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from segbench.errors import InputError
from segbench.images import Pixels
from segbench.params.augment import Augment
from segbench.params.section import did_you_mean

Pipeline: TypeAlias = A.Compose


def build_pipeline(params: Augment) -> Pipeline:
    """Build the albumentations pipeline of params.yaml.

    Raises:
        InputError: for an unknown transform or an argument that it does not take.
    """
    asked = [(item.transform, item.model_extra or {}) for item in params.transforms]
    pipeline = A.Compose([_build(name, args) for name, args in asked])
    # Check every transform, whatever its probability.
    _check(A.Compose([_build(name, {**args, "p": 1.0}) for name, args in asked]), params)
    return pipeline


def _check(pipeline: Pipeline, params: Augment) -> None:
    """Raise InputError unless uint8 pixels stay uint8 pixels of the same size."""
    image = np.random.default_rng(0).integers(0, 256, (params.height, params.width, 3), np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    try:
        varied, moved = augment_sample(pipeline, image, mask, (0,))
        fits = varied.dtype == np.uint8 and varied.shape == image.shape
        fits = fits and moved.dtype == np.uint8 and moved.shape == mask.shape
    except (ValueError, TypeError, KeyError, cv2.error) as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"augment.transforms: the pipeline fails: {reason}; fix it") from None
    if not fits:
        raise InputError(
            f"augment.transforms: turn {image.shape} uint8 into {varied.shape} {varied.dtype}; "
            "they must keep size and type (scaling is inside the network); remove the others"
        )


def _build(name: str, args: dict[str, Any]) -> A.BasicTransform:
    kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
        known = [key for key in dir(A) if isinstance(getattr(A, key), type)]
        raise InputError(
            f"augment.transforms: albumentations {A.__version__} has no transform "
            f"'{name}'{did_you_mean(name, known)}; take one of its transforms"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # unknown arguments only warn
        try:
            return kind(**args)
        except (UserWarning, ValueError, TypeError) as problem:
            reason = " ".join(str(problem).split())
            raise InputError(
                f"augment.transforms: {name} does not take {args}: {reason}; fix its arguments"
            ) from None


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
