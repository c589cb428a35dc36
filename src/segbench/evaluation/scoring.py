"""Scoring: a mask rule chosen on validation, and the scores of both splits by it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from segbench.arrays.store import Arrays
from segbench.arrays.tiling import StitchedImages
from segbench.devices import oom_as_input_error
from segbench.evaluation.drafts import Draft, DraftFile
from segbench.evaluation.outputs import Write
from segbench.evaluation.per_image import Begun, ImageScores, Scorer, absent_classes
from segbench.evaluation.postprocessing import Choice, MaskRule, Validated, select_rule
from segbench.evaluation.predict import Prediction, Truths, predict
from segbench.images import encode_mask
from segbench.labels import LabelScheme
from segbench.metrics.probabilities import Histogram, histogram
from segbench.parallel import thread_map
from segbench.params.evaluate import Evaluate


def default_rule(params: Evaluate) -> MaskRule:
    """The mask rule of the params alone."""
    return MaskRule(params.threshold, 0, False, params.flips)


def oom_said(params: Evaluate) -> AbstractContextManager[None]:
    """In which a device that runs out of memory is an InputError that says what to do."""
    return oom_as_input_error(
        f"evaluate.batch_size: {params.batch_size} images at a time do not fit; "
        "halve it, or set hardware.device: cpu"
    )


def select_and_score(
    params: Evaluate,
    networks: Mapping[bool, nn.Module],
    splits: Mapping[str, Arrays],
    truths: Truths,
    scheme: LabelScheme,
    scratch: Path,
    write: Write,
    overlap: bool,
) -> tuple[list[Choice], dict[str, list[ImageScores]]]:
    """Select a mask rule on validation, and score both splits by it and by the default rule.

    Memory does not grow with the number of images, but for their rows of scores. What masks of
    validation images are made of waits on disk for the choice: one plane of bytes an image,
    compressed, is written and read in a fraction of the time in which the network would predict it
    again.

    Args:
        params: the section `evaluate`.
        networks: without (False) and with (True) averaging over mirror images.
        splits: packed validation and test images.
        truths: their masks at their own size.
        scheme: of the classes.
        scratch: folder of the disk for a temporary file.
        write: gets the default rule's masks, those of a split in order.
        overlap: score images while the network predicts the next ones.

    Returns:
        The rules that were tried, best first, and the scores of the images of each split, in order.

    Raises:
        InputError: if a batch does not fit into memory.
    """

    def predict_split(name: str, flips: bool) -> Iterator[Prediction]:
        return predict(
            *(networks[flips], splits[name], truths, params.batch_size, params.threshold),
            scheme.scored,
        )

    default = default_rule(params)
    of_split = {
        name: Scorer(
            *(scheme, params.tolerance, default, default, params.extra_metrics),
            absent_classes(StitchedImages(split).masks(), scheme),
        )
        for name, split in splits.items()
    }
    tried = (default.flips, not default.flips) if params.choose.flips else (default.flips,)
    with oom_said(params), ExitStack() as opened:
        drafts = {
            flips: opened.enter_context(DraftFile(scratch, not scheme.is_binary)) for flips in tried
        }
        choices, val = _choose(
            params,
            of_split["val"],
            {flips: predict_split("val", flips) for flips in tried},
            drafts,
            StitchedImages(splits["val"]),
            truths,
            partial(write, "val"),
            overlap,
        )
        chosen = choices[0][1]
        other = None if chosen.flips == default.flips else predict_split("test", chosen.flips)
        test = score(
            replace(of_split["test"], chosen=chosen),
            predict_split("test", default.flips),
            other,
            overlap,
            label="evaluate test",
            total=len(StitchedImages(splits["test"])),
            most=params.batch_size,
            write=partial(write, "test"),
        )
    return choices, {"val": val, "test": test}


def _choose(
    params: Evaluate,
    scorer: Scorer,
    predictions: Mapping[bool, Iterable[Prediction]],
    drafts: Mapping[bool, DraftFile],
    stitched: StitchedImages,
    truths: Truths,
    write: Callable[[str, bytes], None],
    overlap: bool,
) -> tuple[list[Choice], list[ImageScores]]:
    """Select a mask rule, and score the same images by it.

    Args:
        params: the section `evaluate`.
        scorer: by the default rule.
        predictions: of the images, by whether logits are averaged over flips; the default first.
        drafts: empty, likewise.
        stitched: the images.
        truths: their masks at their own size.
        write: gets id and default mask of each.
        overlap: work while the network predicts the next images.
    """
    scheme, total = scorer.scheme, len(stitched)
    several = not scheme.is_binary

    def begin(
        found: tuple[Prediction, ...],
    ) -> tuple[Begun, list[list[bytes]], list[Histogram]]:
        own = [
            histogram(each.probs_u8, each.mask, scheme.scored)
            for each in found[: 1 if several else None]
        ]
        # Reading the mask for its size; of one class, what is kept has the network's.
        height, width = (found[0].original() if several else found[0].mask).shape
        made = [
            file.encode(Draft.of(each, height, width))
            for file, each in zip(drafts.values(), found, strict=True)
        ]
        return scorer.begin(found[0], own[0]), made, [] if several else own

    begun: list[Begun] = []
    histograms: dict[bool, list[Histogram]] = {flips: [] for flips in drafts}
    pairs = zip(*predictions.values(), strict=True)
    ids = [str(id) for id in stitched.samples["id"]]
    parts = thread_map(begin, pairs, "predict val", total, overlap, params.batch_size)
    for id, (scores, made, own) in zip(ids, parts, strict=True):
        begun.append(scores)
        write(id, made[0][0])
        for file, planes in zip(drafts.values(), made, strict=True):
            file.append(planes)
        for each, counted in zip(histograms.values(), own, strict=not several):
            each.append(counted.astype(np.uint32))
    choices = select_rule(
        scorer.default,
        params.choose,
        {flips: Validated(file, histograms[flips]) for flips, file in drafts.items()},
        stitched.mask,
        [at for at in scheme.scored if at not in scorer.absent],
        scheme.background,
    )
    scorer = replace(scorer, chosen=choices[0][1])

    def finish(at: int) -> ImageScores:
        plain = ruled = drafts[scorer.default.flips][at]
        if scorer.chosen.flips != scorer.default.flips:
            ruled = drafts[scorer.chosen.flips][at]
        truth, spacing = truths.read(ids[at]), truths.spacing(ids[at])
        return scorer.finish(begun[at], plain, ruled, stitched.mask(at), truth, spacing)

    return choices, [*thread_map(finish, range(total), "score val", total)]


def score(
    scorer: Scorer,
    default: Iterable[Prediction],
    chosen: Iterable[Prediction] | None = None,
    overlap: bool = False,
    *,
    label: str = "evaluate",
    total: int | None = None,
    most: int | None = None,
    write: Callable[[str, bytes], None] | None = None,
) -> list[ImageScores]:
    """Score images on all cores.

    Args:
        scorer: of single images.
        default: what the default rule's network predicts of each.
        chosen: what the chosen rule's does, if that is another.
        overlap: score while the network predicts the next images, on a device of its own.
        label: of the progress bar.
        total: number of images, None if it is unknown.
        most: predictions that are held at a time, see `thread_map`.
        write: gets id and default mask of each, in order.
    """
    pairs = ((one, one) for one in default) if chosen is None else zip(default, chosen, strict=True)

    def work(pair: tuple[Prediction, Prediction]) -> tuple[ImageScores, str, bytes]:
        png = b"" if write is None else encode_mask(pair[0].pred_mask)
        return scorer.score(*pair), pair[0].id, png

    found = []
    for scores, id, png in thread_map(work, pairs, label, total, overlap, most):
        found.append(scores)
        if write is not None:
            write(id, png)
    return found
