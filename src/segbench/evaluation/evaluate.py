"""Evaluation: scores of one finished model on validation and test, a row for each image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import Arrays, Header, open_arrays, read_header
from segbench.arrays.tiling import StitchedImages
from segbench.datasets.canonical import DatasetInfo
from segbench.devices import oom_as_input_error, prepare, resolve
from segbench.errors import InputError
from segbench.evaluation.drafts import Draft, DraftFile
from segbench.evaluation.per_image import (
    ImageScores,
    Scorer,
    absent_classes,
    image_table,
    pooled_confusion,
    summarise,
)
from segbench.evaluation.postprocessing import Choice, MaskRule, Validated, select_rule
from segbench.evaluation.predict import Prediction, Truths, predict
from segbench.evaluation.results import (
    Predictions,
    Write,
    read_run_file,
    write_choices,
    write_confusion,
    write_images,
    write_scores,
    write_soft,
    writing_predictions,
)
from segbench.files import atomic_file, atomic_folder, sha256_of
from segbench.images import Pixels, encode_mask
from segbench.labels import LabelScheme
from segbench.metrics import counts
from segbench.metrics.catalogue import DISTANCES, MLFLOW_METRICS, MOST_CLASSES
from segbench.metrics.probabilities import Histogram, histogram
from segbench.models.export import export_network, load_exported
from segbench.models.flips import FlipAveraged
from segbench.models.network import load_network, num_parameters
from segbench.parallel import thread_map
from segbench.params import Params
from segbench.params.evaluate import Evaluate
from segbench.report.drawing import class_colours
from segbench.report.predictions import (
    PredictedSplit,
    write_extremes,
    write_fixed_samples,
    write_grid,
    write_triptychs,
)
from segbench.tracking import provenance
from segbench.tracking.records import (
    DatasetInput,
    ModelFile,
    Record,
    Run,
    flatten,
    now_ms,
    read_run,
    recorded,
)

SPLITS = ("val", "test")


def evaluate(
    params: Params,
    trained: Path,
    run: Path,
    dataset: Path,
    arrays: Path,
    fold: int,
    out: Path,
    scores: Path,
) -> str:
    """Score a model and write everything that a later statistic or picture needs.

    The network is scored in float32, as it is exported, on whole images: logits of windows are
    stitched first. Masks are made at `evaluate.threshold`, and by the rule that does best on
    validation; at the network's size, and at each image's own.

    Args:
        params: all of them.
        trained: folder of the train stage: weights.safetensors, and the record, from which the
            run's name is taken.
        run: the run file of the train stage, which holds the sha256 of the weights.
        dataset: canonical folder, which has the masks at their own size.
        arrays: folder of the augment stage.
        fold: whose validation and test splits to score.
        out: receives images.csv, soft.npz, confusion.npz, predictions.zip and choices.csv (see
            `results`), model.pt2, pictures/, triptychs/ and record/.
        scores: a JSON file of scores, and of the hashes of what they come from.

    Returns:
        A line that says what was made.

    Raises:
        InputError: if the weights are not those that the training wrote, or a batch does not fit
            into memory.
    """
    weights = trained / "weights.safetensors"
    weights_sha256 = check_weights(weights, run)
    header = read_header(arrays)
    resolved = resolve(params.hardware)
    prepare(resolved)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    tags = params.evaluate.model_dump() | provenance.dvc_tags()
    tags |= {"device": resolved.device, "threads": resolved.threads}
    described = _describe(read_run(trained / "record"), header, f"{arrays}/fold{fold}", tags)
    with recorded(out / "record", described, params.tracking.max_wait_s) as record:
        networks = load_networks(weights, resolved.device)
        splits = {name: open_arrays(arrays / f"fold{fold}" / name) for name in SPLITS}
        stitched = {name: StitchedImages(split) for name, split in splits.items()}
        predictions = out / "predictions.zip"
        with writing_predictions(predictions) as write:
            choices, found = select_and_score(
                params.evaluate,
                networks,
                splits,
                Truths(dataset),
                header.dataset.scheme,
                out,
                write,
                overlap=resolved.device != "cpu",
            )
        chosen = choices[0][1]
        tables = {
            name: image_table(stitched[name].samples, name, found[name], header.dataset)
            for name in SPLITS
        }
        summary = {
            f"{name}/{key}": value
            for name in SPLITS
            for key, value in summarise(
                tables[name], found[name], header.dataset, params.evaluate.batch_size
            ).items()
        }
        write_choices(
            out / "choices.csv",
            [{"val_dice_per_image": dice, **asdict(rule)} for dice, rule in choices],
        )
        soft = {name: np.stack([image.soft for image in found[name]]) for name in SPLITS}
        classes = len(header.dataset.classes)
        confused = {name: pooled_confusion(found[name], classes) for name in SPLITS}
        hashes = {
            "weights": weights_sha256,
            "images": write_images(
                out / "images.csv", pd.concat(tables.values(), ignore_index=True)
            ),
            "predictions": sha256_of(predictions),
            "soft": write_soft(out / "soft.npz", soft),
            "confusion": write_confusion(out / "confusion.npz", confused),
            "dataset": header.digest,
        }
        with ThreadPoolExecutor(1) as pool:
            # Beside the export, which is Python alone and leaves a core to compress pictures on.
            drawn = pool.submit(
                _write_pictures,
                record,
                out,
                predictions,
                stitched,
                header.dataset,
                tables["test"]["dice"].to_numpy(float),
                params.evaluate.num_triptychs,
            )
            with atomic_file(out / "model.pt2") as file:
                export_network(networks[chosen.flips], header.channels, file)
                _check_export(file, networks[chosen.flips], splits["val"], params)
        drawn.result()
        record.log(0, tracked(summary))
        record.tags["segbench.weights_sha256"] = hashes["weights"]
        record.tags |= flatten({"chosen": asdict(chosen)})
        write_scores(scores, summary, asdict(chosen), num_parameters(networks[False]), hashes)
    return (
        f"{described.name}: dice per image {summary['val/dice_per_image']:.4f} on validation "
        f"({summary['val/images']} images), {summary['test/dice_per_image']:.4f} on test "
        f"({summary['test/images']} images), in {scores}"
    )


def check_weights(weights: Path, run: Path) -> str:
    """Sha256 of a weights file, which must be the one in its run file."""
    if not weights.exists():
        raise InputError(f"{weights}: missing; run 'segbench repro'")
    found, expected = sha256_of(weights), read_run_file(run)["weights_sha256"]
    if found != expected:
        raise InputError(
            f"{weights}: damaged, its sha256 is {found}, and the training wrote {expected}; "
            "run 'segbench repro', which restores it or trains anew"
        )
    return found


def _describe(training: Run, header: Header, source: str, tags: dict[str, object]) -> Run:
    return replace(
        training,
        stage="evaluate",
        started_ms=now_ms(),
        params={},  # MLflow's params cannot change, and a model may be evaluated anew
        tags=flatten({"evaluate": tags}),
        inputs=[DatasetInput(header.dataset.name, header.digest[:16], source, {})],
        model=ModelFile("../model.pt2", header.channels, header.num_outputs),
    )


def load_networks(weights: Path, device: str) -> dict[bool, nn.Module]:
    """The network as it is, and averaged over mirror images: by whether it flips."""
    network = load_network(weights).to(device).eval().to(memory_format=torch.channels_last)
    return {False: network, True: FlipAveraged(network).eval()}


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
            truths.spacing,
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
    ) -> tuple[ImageScores, list[list[bytes]], list[Histogram]]:
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

    begun: list[ImageScores] = []
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
        return scorer.finish(begun[at], plain, ruled, stitched.mask(at), truths.read(ids[at]))

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


def tracked(summary: Mapping[str, float], splits: Sequence[str] = SPLITS) -> dict[str, float]:
    """The scores that MLflow gets; what nothing defines is left out, and so are scores of classes
    where there are more than `MOST_CLASSES`.

    Args:
        summary: scores by `<split>/<name>`.
        splits: whose scores.
    """
    told = [
        *(f"{name}_per_image" for name in MLFLOW_METRICS),
        *(f"{name}_per_image_original" for name in DISTANCES),
        "dice_per_image_chosen",
        "dice_micro",
        *counts.MEANS_OF_CLASSES.values(),
    ]
    keys = [f"{split}/{name}" for split in splits for name in told]
    for split in splits:
        of_classes = [key for key in summary if key.startswith(f"{split}/dice_class_")]
        keys += of_classes if len(of_classes) <= MOST_CLASSES else []
    return {key: summary[key] for key in keys if np.isfinite(summary.get(key, np.nan))}


def _write_pictures(
    record: Record,
    out: Path,
    predictions: Path,
    stitched: Mapping[str, StitchedImages],
    info: DatasetInfo,
    test_dice: NDArray[np.float64],
    num_triptychs: int,
) -> None:
    """Draw predictions into folders of `out`, and again into the record."""
    with Predictions(predictions) as masks:
        splits = {
            name: _predicted(own, partial(masks.read, name), info) for name, own in stitched.items()
        }
        with atomic_folder(out / "pictures") as folder:
            write_extremes(folder, splits["test"], test_dice)
            write_grid(folder / "grid.png", splits["test"])
            _add_to(record, folder, "pictures")
        with atomic_folder(out / "triptychs") as folder:
            write_triptychs(folder, splits["test"], num_triptychs)
            _add_to(record, folder, "triptychs")
        write_fixed_samples(record.artifact, splits["val"])


def _predicted(
    stitched: StitchedImages, read: Callable[[str], Pixels], info: DatasetInfo
) -> PredictedSplit:
    ids = [str(id) for id in stitched.samples["id"]]
    return PredictedSplit(
        *(ids, stitched.image, stitched.mask, lambda index: read(ids[index])),
        info.classes,
        class_colours(info.colours, info.scheme),
        info.background,
    )


def _add_to(record: Record, folder: Path, name: str) -> None:
    for picture in folder.iterdir():
        record.artifact(f"{name}/{picture.name}").write_bytes(picture.read_bytes())


def _check_export(path: Path, network: nn.Module, split: Arrays, params: Params) -> None:
    """What ships must be what was scored: the exported program gives the same masks."""
    images, _ = next(iter(PlainBatches(split, min(4, params.evaluate.batch_size))))
    exported = load_exported(path)
    with torch.no_grad():
        ours = network(images.to(next(network.parameters()).device)).cpu()
        theirs = exported(images.contiguous())
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3), "the exported program differs"
