"""A network as ONNX, from an image's pixels to its mask."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from segbench.errors import InputError
from segbench.exports.masks import (
    MaskRule,
    binarise,
    enlarge,
    enlarged_classes,
    remove_components,
)
from segbench.images import LEVELS, Pixels, fit_image, most_probable
from segbench.windows import blend, packed_place, tile_windows

KEY = "segbench"
"""Of the description among the file's metadata."""


@dataclass(frozen=True)
class Predicted:
    """What a network says of an image.

    Attributes:
        mask: (H, W) class ids at the image's own size, by the rule.
        probs_u8: (C, H', W') floor(256 p) at the network's size; C is 1 for one class against the
            background.
        classes: names by class id.
        background: class id of what is no object, or None.
    """

    mask: Pixels
    probs_u8: Pixels
    classes: list[str]
    background: int | None


class Predictor:
    """A network that `exports.onnx` wrote.

    Args:
        file: of the network.
        threads: that an image is predicted on; 0: all cores.
    """

    def __init__(self, file: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        found = self._session.get_modelmeta().custom_metadata_map
        self.about: dict[str, Any] = json.loads(found[KEY])
        self._rule = MaskRule(
            *(self.about[key] for key in ("threshold", "min_size", "largest", "flips"))
        )
        self._size = (self.about["height"], self.about["width"])

    def predict(self, image: Pixels, name: str) -> Predicted:
        """Predict an image, as evaluation does.

        Args:
            image: (H, W, C) or (H, W).
            name: of it, for messages.

        Raises:
            InputError: if it is smaller than the windows that the network was trained on.
        """
        patches, background = self.about["patches"], self.about["background"]
        pred_mask, probs_u8 = (
            self._whole(image) if patches is None else self._windows(image, patches, name)
        )
        own, small = image.shape[:2], pred_mask.shape
        if len(probs_u8) == 1:
            plane = probs_u8[0] if own == small else enlarge(probs_u8[0], *own)
            mask = binarise(plane, self._rule.threshold)
        else:
            mask = pred_mask if own == small else enlarged_classes(probs_u8, *own)
        scale = mask.size / pred_mask.size
        mask = remove_components(mask, self._rule, scale, background)
        return Predicted(mask, probs_u8, self.about["classes"], background)

    def _whole(self, image: Pixels) -> tuple[Pixels, Pixels]:
        mask, probs_u8 = self._run(["mask", "probs"], image)
        return mask, probs_u8

    def _windows(self, image: Pixels, patches: dict[str, int], name: str) -> tuple[Pixels, Pixels]:
        height, width = image.shape[:2]
        if height < patches["height"] or width < patches["width"]:
            raise InputError(
                f"{name}: {width}x{height} is smaller than the windows of "
                f"{patches['width']}x{patches['height']} that the network was trained on; send a "
                "larger one"
            )
        windows = tile_windows(width, height, SimpleNamespace(**patches), name)  # type: ignore[arg-type]
        logits = []
        for one in windows:
            part = image[one.top : one.top + one.height, one.left : one.left + one.width]
            logits += self._run(["logits"], part)
        whole = blend(logits, [packed_place(one, *self._size) for one in windows])
        probs = _softmax(whole) if len(whole) > 1 else 1 / (1 + np.exp(-whole))
        probs_u8 = (probs * LEVELS).clip(max=LEVELS - 1).astype(np.uint8)
        return most_probable(whole), probs_u8

    def _run(self, outputs: list[str], image: Pixels) -> list[Any]:
        """Outputs of an image, or a part of one, without the axis of images."""
        small = fit_image(np.ascontiguousarray(image), *self._size).reshape(*self._size, -1)
        batch = np.ascontiguousarray(small.transpose(2, 0, 1)[None])
        return [one[0] for one in self._session.run(outputs, {"images": batch})]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = np.exp(logits - logits.max(axis=0))
    return shares / shares.sum(axis=0)
