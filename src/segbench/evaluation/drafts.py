"""What masks of validation images are made of, kept on disk until a rule is chosen."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from segbench.evaluation.predict import Prediction
from segbench.exports.masks import enlarged_classes
from segbench.images import Pixels, decode_mask, encode_mask


@dataclass(frozen=True)
class Draft:
    """What an image's masks are made of, by any rule.

    Attributes:
        pred_mask: (H, W) class ids from the default rule.
        probs_u8: (1, H, W), see `on_device.to_probs_u8`; None without a threshold, which needs
            one class against the background.
        enlarged: (H', W') most probable classes at the image's own size; None with a
            threshold, and where that is the network's size.
    """

    pred_mask: Pixels
    probs_u8: Pixels | None
    enlarged: Pixels | None

    @classmethod
    def of(cls, prediction: Prediction, height: int, width: int) -> Self:
        """The draft of a prediction of an image whose own size is (height, width)."""
        return cls.of_parts(prediction.probs_u8, prediction.pred_mask, height, width)

    @classmethod
    def of_parts(cls, probs_u8: Pixels, pred_mask: Pixels, height: int, width: int) -> Self:
        """The same of what a network says: probabilities (C, H, W) and class ids (H, W)."""
        if len(probs_u8) == 1:
            return cls(pred_mask, probs_u8, None)
        resized = (height, width) != pred_mask.shape
        return cls(pred_mask, None, enlarged_classes(probs_u8, height, width) if resized else None)


class Drafts(Protocol):
    """Drafts of many images, read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Draft: ...


class DraftFile:
    """Drafts of many images, one after another in a temporary file, and read one at a time.

    It has no name, so that nothing is left of it whatever happens. Reading is safe from any thread.

    Args:
        folder: on the disk that is to hold it.
        several: whether the most probable class is predicted, without a threshold.
    """

    def __init__(self, folder: Path, several: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._several = several
        self._places: list[list[tuple[int, int]]] = []
        self._end = 0

    def encode(self, draft: Draft) -> list[bytes]:
        """What `append` takes; encoding is most of the work, and safe from any thread."""
        other = draft.enlarged if draft.probs_u8 is None else draft.probs_u8[0]
        return [encode_mask(plane) for plane in (draft.pred_mask, other) if plane is not None]

    def append(self, planes: Sequence[bytes]) -> None:
        """Add a draft, from one thread."""
        self._places.append([])
        for plane in planes:
            self._places[-1].append((self._end, len(plane)))
            while plane:
                plane = plane[self._file.write(plane) :]
            self._end = sum(self._places[-1][-1])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> Draft:
        """Read a draft."""
        mask, *others = (
            decode_mask(os.pread(self._file.fileno(), size, start))
            for start, size in self._places[index]
        )
        if self._several:
            return Draft(mask, None, others[0] if others else None)
        return Draft(mask, others[0][None], None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
