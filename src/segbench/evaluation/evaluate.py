"""Evaluation: scores of one finished model on validation and test, a row for each image."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import Header, open_arrays, read_header
from segbench.arrays.tiling import StitchedImages
from segbench.devices import prepare, resolve
from segbench.errors import InputError
from segbench.evaluation.exporting import describe, export
from segbench.evaluation.outputs import (
    write_choices,
    write_confusion,
    write_counts,
    write_images,
    write_scores,
    write_soft,
    writing_predictions,
)
from segbench.evaluation.per_image import counts_of, image_table, pooled_confusion, summarise
from segbench.evaluation.pictures import write_pictures
from segbench.evaluation.predict import Truths
from segbench.evaluation.results import read_run_file
from segbench.evaluation.scoring import select_and_score
from segbench.files import sha256_of
from segbench.metrics import counts
from segbench.metrics.catalogue import DISTANCES, MLFLOW_METRICS, MOST_CLASSES
from segbench.models.flips import FlipAveraged
from segbench.models.network import SegmentationNetwork, load_network, num_parameters
from segbench.params import Params
from segbench.tracking import provenance
from segbench.tracking.records import (
    DatasetInput,
    ModelFile,
    Run,
    flatten,
    now_ms,
    read_run,
    recorded,
    split_digest,
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
        out: receives images.csv, counts.npz, soft.npz, confusion.npz, predictions.zip and
            choices.csv (see `results`), model.pt2, model.onnx, pictures/, triptychs/ and record/.
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
    training = read_run(trained / "record")
    splits = {name: open_arrays(arrays / f"fold{fold}" / name) for name in SPLITS}
    stitched = {name: StitchedImages(split) for name, split in splits.items()}
    inputs = [
        scored_on(header, one.samples["id"], f"{arrays}/fold{fold}/{name}", name)
        for name, one in stitched.items()
    ]
    described = _describe(training, header, inputs, tags)
    with recorded(out / "record", described, params.tracking.max_wait_s) as record:
        networks = load_networks(weights, resolved.device)
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
            "counts": write_counts(
                out / "counts.npz", {name: counts_of(found[name]) for name in SPLITS}
            ),
            "predictions": sha256_of(predictions),
            "soft": write_soft(out / "soft.npz", soft),
            "confusion": write_confusion(out / "confusion.npz", confused),
            "dataset": header.digest,
        }
        with ThreadPoolExecutor(1) as pool:
            # Beside the export, which is Python alone and leaves a core to compress pictures on.
            drawn = pool.submit(
                write_pictures,
                record,
                out,
                predictions,
                stitched,
                header.dataset,
                tables["test"]["dice"].to_numpy(float),
                params.evaluate.num_triptychs,
            )
            images, _ = next(iter(PlainBatches(splits["val"], min(4, params.evaluate.batch_size))))
            network = networks[False]
            assert isinstance(network, SegmentationNetwork)
            about = describe(
                *(training, run, header, params.augment.patches, network),
                *(chosen, summary, weights_sha256),
            )
            export(networks, about, images.contiguous().numpy(), out)
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


def scored_on(header: Header, ids: Iterable[str], source: str, role: str) -> DatasetInput:
    """Images that a model is scored on; see `DatasetInput`."""
    listed = list(ids)
    digest = split_digest(header.digest, listed)
    return DatasetInput(header.dataset.name, digest, source, {"images": len(listed)}, role)


def _describe(
    training: Run, header: Header, inputs: list[DatasetInput], tags: dict[str, object]
) -> Run:
    return replace(
        training,
        stage="evaluate",
        started_ms=now_ms(),
        params={},  # MLflow's params cannot change, and a model may be evaluated anew
        tags=flatten({"evaluate": tags}),
        inputs=inputs,
        model=ModelFile("../model.pt2", header.channels, header.num_outputs),
    )


def load_networks(weights: Path, device: str) -> dict[bool, nn.Module]:
    """The network as it is, and averaged over mirror images: by whether it flips."""
    network = load_network(weights).to(device).eval().to(memory_format=torch.channels_last)
    return {False: network, True: FlipAveraged(network).eval()}


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
