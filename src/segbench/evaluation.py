"""Evaluation: scores of one finished model on validation and test, a row for each image."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from segbench import metrics, provenance
from segbench.arrays import Arrays, Header, open_arrays, read_header
from segbench.batches import PlainBatches
from segbench.hardware import resolve
from segbench.hashing import sha256_of, sha256_of_masks
from segbench.models import SegmentationNetwork, load_network, num_parameters, predict_classes
from segbench.models.exporting import export_network, load_exported
from segbench.params import Params
from segbench.pictures import outline, save_sheet
from segbench.records import DatasetInput, ModelFile, Record, flatten, followed, now_ms, read_run
from segbench.samples import Pixels
from segbench.writing import whole_file, whole_folder

SPLITS = ("val", "test")
EXTREMES = 4
"""Images on each of the sheets of best, median and worst predictions."""
SHOWN = 4
"""Fixed validation samples whose predictions every run shows under the same names."""


def evaluate(
    params: Params, trained: Path, arrays: Path, fold: int, out: Path, scores: Path
) -> str:
    """Score a model and write everything that a later statistic or picture needs.

    The network is scored in float32, as it is exported.

    Args:
        params: all of them.
        trained: folder of the train stage: weights.safetensors, and the record, from which the
            run's name is taken.
        arrays: folder of the augment stage.
        fold: whose validation and test splits to score.
        out: receives images.csv (a row an image, with counts), predictions.npz (class ids of val
            and test), model.pt2, pictures/ and record/.
        scores: a JSON file of scores, and of the hashes of what they come from.

    Returns:
        A line that says what was made.
    """
    header = read_header(arrays)
    resolved = resolve(params.train)
    torch.set_num_threads(resolved.threads)
    on_cuda = resolved.device == "cuda"
    torch.use_deterministic_algorithms(params.train.deterministic, warn_only=on_cuda)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    training = read_run(trained / "record")
    data = DatasetInput(header.dataset.name, header.digest[:16], f"{arrays}/fold{fold}", {})
    run = replace(
        training,
        part="evaluate",
        started_ms=now_ms(),
        params={},  # MLflow's params cannot change, and a model may be evaluated anew
        tags=flatten(
            {
                "evaluate": {
                    **params.evaluate.model_dump(),
                    **provenance.dvc_tags(),
                    "device": resolved.device,
                    "threads": resolved.threads,
                }
            }
        ),
        inputs=[data],
        model=ModelFile("../model.pt2", header.channels, header.num_outputs),
    )
    folder = out / "record"
    with followed(folder, run, params.tracking.max_wait_s), Record(folder, run) as record:
        network = load_network(trained / "weights.safetensors").to(resolved.device).eval()
        tables, predictions, summary = [], {}, {}
        for name in SPLITS:
            split = open_arrays(arrays / f"fold{fold}" / name)
            pred, counts = predict(network, split, header, params, resolved.device)
            tables.append(image_table(split, name, counts))
            predictions[name] = pred
            for key, value in metrics.summarise(counts).items():
                summary[f"{name}/{key}"] = value
        table = pd.concat(tables, ignore_index=True)
        with whole_file(out / "images.csv") as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        with whole_file(out / "predictions.npz") as partial:
            np.savez_compressed(partial, val=predictions["val"], test=predictions["test"])
        with whole_file(out / "model.pt2") as partial:
            export_network(network, header.channels, partial)
            _check_export(partial, network, open_arrays(arrays / f"fold{fold}" / "val"), params)
        with whole_folder(out / "pictures") as partial:
            write_pictures(partial, arrays, fold, table, predictions)
            for picture in partial.iterdir():
                record.artifact(f"pictures/{picture.name}").write_bytes(picture.read_bytes())
        _show_fixed_samples(record, open_arrays(arrays / f"fold{fold}" / "val"), predictions["val"])
        record.log(0, {key: value for key, value in summary.items() if np.isfinite(value)})
        record.tags["segbench.weights_sha256"] = sha256_of(trained / "weights.safetensors")
        result = {
            # JSON knows no NaN: a score that nothing defines is null.
            **{key: value if np.isfinite(value) else None for key, value in summary.items()},
            "parameters": num_parameters(network),
            "sha256": {
                "weights": record.tags["segbench.weights_sha256"],
                "images": sha256_of(out / "images.csv"),
                # Of the pixels: the archive itself holds times.
                "predictions": sha256_of_masks(predictions),
                "dataset": header.digest,
            },
        }
        with whole_file(scores) as partial:
            partial.write_text(json.dumps(result, indent=2) + "\n")
    return (
        f"{run.name}: dice per image {summary['val/dice_per_image']:.4f} on validation "
        f"({summary['val/images']} images), {summary['test/dice_per_image']:.4f} on test "
        f"({summary['test/images']} images), in {scores}"
    )


@torch.no_grad()
def predict(
    network: SegmentationNetwork, split: Arrays, header: Header, params: Params, device: str
) -> tuple[Pixels, torch.Tensor]:
    """Class ids (N, H, W) uint8 and counts (N, F, 4) of all images of a split."""
    network = network.to(memory_format=torch.channels_last)
    preds, counts = [], []
    batches = PlainBatches(split, params.evaluate.batch_size)
    for images, masks in tqdm(batches, desc="evaluate", unit="batch", disable=None):
        logits = network(images.to(device))
        pred = predict_classes(logits, params.evaluate.threshold).cpu()
        preds.append(pred.numpy())
        counts.append(metrics.count(pred, masks, len(header.dataset.classes)))
    return np.concatenate(preds), torch.cat(counts)


def image_table(split: Arrays, name: str, counts: torch.Tensor) -> pd.DataFrame:
    """A row an image: split, id, group, stratum, its scores, and the counts of each class."""
    table = split.samples[["id", "group", "stratum"]].copy()
    table.insert(0, "split", name)
    for score, function in metrics.SCORES.items():
        table[score] = metrics.per_image(counts, function).numpy()
    for at in range(counts.shape[1]):
        for cell, values in zip(metrics.COUNTS, counts[:, at].T, strict=True):
            table[f"{cell}_{at + 1}"] = values.numpy()
    return table


def write_pictures(
    folder: Path, arrays: Path, fold: int, table: pd.DataFrame, predictions: Mapping[str, Pixels]
) -> None:
    """Sheets of the best, median and worst test predictions: image, truth, prediction."""
    split = open_arrays(arrays / f"fold{fold}" / "test")
    scores = table[table["split"] == "test"]["dice"].to_numpy()
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]
    count = min(EXTREMES, len(order))
    middle = max(0, (len(order) - count) // 2)
    picks = {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[::-1][:count],
    }
    for name, picked in picks.items():
        if len(picked) == 0:
            continue  # no test image has a score
        rows, labels = [], []
        for index in picked:
            image, truth = split.images[index], split.masks[index]
            pred = predictions["test"][index]
            rows.append([outline(image), outline(image, truth=truth), outline(image, truth, pred)])
            labels.append(f"{split.samples['id'][index]}   dice {scores[index]:.3f}")
        columns = ["image", "ground truth", "prediction (yellow)"]
        save_sheet(folder / f"{name}.png", rows, columns, labels)


def _show_fixed_samples(record: Record, split: Arrays, predictions: Pixels) -> None:
    """The same validation samples under the same names in every run, for the tracking UI."""
    count = min(SHOWN, len(split.images))
    for index in np.linspace(0, len(split.images) - 1, count).astype(int):
        id = split.samples["id"][index]
        image, truth = split.images[index], split.masks[index]
        row = [outline(image, truth=truth), outline(image, truth, predictions[index])]
        path = record.artifact(f"images/prediction~{id}.png")
        save_sheet(path, [row], ["ground truth", "prediction (yellow)"], [str(id)])


def _check_export(path: Path, network: SegmentationNetwork, split: Arrays, params: Params) -> None:
    """What ships must be what was scored: the exported program gives the same masks."""
    images, _ = next(iter(PlainBatches(split, min(4, params.evaluate.batch_size))))
    exported = load_exported(path)
    with torch.no_grad():
        ours = network(images.to(next(network.parameters()).device)).cpu()
        theirs = exported(images.contiguous())
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3), "the exported program differs"
