"""Animation of the predictions for one sample over the epochs."""

from pathlib import Path

from segbench.images import as_rgb
from segbench.report.animation import save_animation
from segbench.report.drawing import class_colours, colourise, shrink
from segbench.training.data import TrainingData
from segbench.training.state import TrainingState

FRAME_SIZE = 256
"""Longer side of a picture in the animation, in pixels."""


def save_preview(path: Path, data: TrainingData, state: TrainingState) -> None:
    """Write a GIF with one frame per epoch: image, ground truth, prediction.

    Args:
        path: of the file.
        data: the training's.
        state: final state.
    """
    info, index = data.header.dataset, data.preview_index
    colours = class_colours(info.colours, info.scheme)
    image, truth, *preds = shrink(
        data.held_out.images[index],
        data.held_out.masks[index],
        *(mask.numpy() for mask in state.preview_masks),
        most=FRAME_SIZE,
    )
    fixed = [as_rgb(image), colourise(truth, colours)]
    frames = ([*fixed, colourise(pred, colours)] for pred in preds)
    id = str(data.held_out.samples["id"][index])
    labels = [f"{id}   epoch {number} of {len(preds)}" for number in range(1, len(preds) + 1)]
    save_animation(path, frames, ["image", "ground truth", "prediction"], labels, colours)
