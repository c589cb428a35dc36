"""Evaluation: scores of one finished model on validation and test, a row for each image."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from segbench import metrics, provenance
from segbench.arrays import Arrays, Header, open_arrays, read_header
from segbench.batches import Batch, PlainBatches
from segbench.hardware import prepare, resolve, within_memory
from segbench.hashing import sha256_of, sha256_of_masks
from segbench.models import FlipAveraged, load_network, num_parameters, predict_classes
from segbench.models.exporting import export_network, load_exported
from segbench.params import Params
from segbench.pictures import class_colours, outline, paint, save_sheet, shrink, to_colour
from segbench.records import (
    DatasetInput,
    ModelFile,
    Record,
    flatten,
    now_ms,
    read_run,
    recorded,
)
from segbench.results import flat
from segbench.samples import Info, Pixels
from segbench.tiling import Wholes
from segbench.writing import whole_file, whole_folder

SPLITS = ("val", "test")
EXTREMES = 4
"""Images on each of the sheets of best, median and worst predictions."""
SHOWN = 4
"""Fixed validation samples whose predictions every run shows under the same names."""
GRID_ROWS = 8
TRIPTYCH = ("image", "ground truth", "prediction")


def evaluate(
    params: Params, trained: Path, arrays: Path, fold: int, out: Path, scores: Path
) -> str:
    """Score a model and write everything that a later statistic or picture needs.

    The network is scored in float32, as it is exported, on whole images: what it says of windows
    is put together first.

    Args:
        params: all of them.
        trained: folder of the train stage: weights.safetensors, and the record, from which the
            run's name is taken.
        arrays: folder of the augment stage.
        fold: whose validation and test splits to score.
        out: receives images.csv (a row an image, with counts), predictions.npz (class ids of val
            and test, as `results.flat` has them), model.pt2, pictures/, triptychs/ and record/.
        scores: a JSON file of scores, and of the hashes of what they come from.

    Returns:
        A line that says what was made.
    """
    header = read_header(arrays)
    resolved = resolve(params.hardware)
    prepare(resolved)
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
    with recorded(out / "record", run, params.tracking.max_wait_s) as record:
        trained_network = load_network(trained / "weights.safetensors")
        network = FlipAveraged(trained_network) if params.evaluate.flips else trained_network
        network = network.to(resolved.device).eval()
        tables, predictions, wholes = [], dict[str, list[Pixels]](), {}
        summary: dict[str, float] = {}
        for name in SPLITS:
            split = open_arrays(arrays / f"fold{fold}" / name)
            wholes[name] = Wholes(split)
            with within_memory(
                f"evaluate.batch_size: {params.evaluate.batch_size} images at a time do not fit; "
                "halve it, or set hardware.device: cpu"
            ):
                found = predict(network, split, header, params, resolved.device)
            tables.append(image_table(wholes[name].samples, name, found))
            predictions[name] = found.masks
            scores_of = metrics.summarise(found.counts, found.correct)
            scores_of["dice_soft_batch"] = metrics.soft_dice_batch(
                found.soft, params.evaluate.batch_size
            )
            summary |= {f"{name}/{key}": value for key, value in scores_of.items()}
        table = pd.concat(tables, ignore_index=True)
        with whole_file(out / "images.csv") as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        with whole_file(out / "predictions.npz") as partial:
            np.savez_compressed(partial, **flat(predictions))  # type: ignore[arg-type]
        with whole_file(out / "model.pt2") as partial:
            export_network(network, header.channels, partial)
            _check_export(partial, network, open_arrays(arrays / f"fold{fold}" / "val"), params)
        with whole_folder(out / "pictures") as partial:
            write_pictures(partial, wholes["test"], table, predictions["test"])
            write_grid(partial / "grid.png", wholes["test"], predictions["test"], header.dataset)
            _add_to(record, partial, "pictures")
        with whole_folder(out / "triptychs") as partial:
            count = params.evaluate.num_triptychs
            write_triptychs(partial, wholes["test"], predictions["test"], header.dataset, count)
            _add_to(record, partial, "triptychs")
        _show_fixed_samples(record, wholes["val"], predictions["val"])
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
                "predictions": sha256_of_masks(flat(predictions)),
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


@dataclass(frozen=True)
class Predicted:
    """What a network says of a split.

    Attributes:
        masks: class ids (H, W) of each image.
        counts: (N, F, 4), see `metrics.count`.
        correct: (N, 2), see `metrics.count_correct`.
        soft: (N, F, 2), see `metrics.soft_sums`.
    """

    masks: list[Pixels]
    counts: Tensor
    correct: Tensor
    soft: Tensor


@torch.no_grad()
def predict(
    network: nn.Module, split: Arrays, header: Header, params: Params, device: str
) -> Predicted:
    """Predict and count all images of a split."""
    network = network.to(memory_format=torch.channels_last)
    masks: list[Pixels] = []
    counts, correct, soft = [], [], []
    for logits, truth in _logits_of_wholes(network, split, params.evaluate.batch_size, device):
        pred = predict_classes(logits, params.evaluate.threshold)
        masks += [*pred.cpu().numpy()]
        counts.append(metrics.count(pred, truth, len(header.dataset.classes)).cpu())
        correct.append(metrics.count_correct(pred, truth).cpu())
        soft.append(metrics.soft_sums(logits, truth).cpu())
    return Predicted(masks, torch.cat(counts), torch.cat(correct), torch.cat(soft))


def _logits_of_wholes(
    network: nn.Module, split: Arrays, batch_size: int, device: str
) -> Iterator[Batch]:
    """Logits (N, C, H, W) and masks (N, H, W) of whole images, some at a time.

    On the device, or on the CPU where they had to be put together.
    """
    batches = tqdm(PlainBatches(split, batch_size), desc="evaluate", unit="batch", disable=None)
    wholes = Wholes(split)
    if not wholes.cut:
        for images, masks in batches:
            yield network(images.to(device)), masks.to(device)
        return
    windows = (network(images.to(device)).float().cpu().numpy() for images, _ in batches)
    for logits, mask in wholes.blend(windows):
        yield torch.from_numpy(logits)[None], torch.from_numpy(mask)[None]


def image_table(samples: pd.DataFrame, name: str, found: Predicted) -> pd.DataFrame:
    """A row an image: split, id, group, stratum, its scores, and the counts of each class."""
    table = samples.copy()
    table.insert(0, "split", name)
    for score, function in metrics.SCORES.items():
        table[score] = metrics.per_image(found.counts, function).numpy()
    table["accuracy"] = metrics.accuracy(found.correct).numpy()
    for at in range(found.counts.shape[1]):
        for cell, values in zip(metrics.COUNTS, found.counts[:, at].T, strict=True):
            table[f"{cell}_{at + 1}"] = values.numpy()
    return table


def write_pictures(
    folder: Path, wholes: Wholes, table: pd.DataFrame, predictions: list[Pixels]
) -> None:
    """Sheets of the best, median and worst test predictions: image, truth, prediction."""
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
            image, truth, pred = _triple(wholes, predictions, index)
            rows.append([outline(image), outline(image, truth=truth), outline(image, truth, pred)])
            labels.append(f"{wholes.samples['id'][index]}   dice {scores[index]:.3f}")
        columns = ["image", "ground truth", "prediction (yellow)"]
        save_sheet(folder / f"{name}.png", rows, columns, labels)


def write_grid(path: Path, wholes: Wholes, predictions: list[Pixels], info: Info) -> None:
    """A sheet of fixed test samples: image, true mask, predicted mask."""
    rows, labels = [], []
    for index in _evenly(len(wholes), GRID_ROWS):
        rows.append(_triptych(wholes, predictions, index, info))
        labels.append(str(wholes.samples["id"][index]))
    save_sheet(path, rows, list(TRIPTYCH), labels)


def write_triptychs(
    folder: Path, wholes: Wholes, predictions: list[Pixels], info: Info, count: int
) -> None:
    """A file for each of `count` test samples: image, true mask, predicted mask."""
    for index in _evenly(len(wholes), count):
        id = str(wholes.samples["id"][index])
        row = _triptych(wholes, predictions, index, info)
        save_sheet(folder / f"{id}.png", [row], list(TRIPTYCH), [id])


def _triple(wholes: Wholes, predictions: list[Pixels], index: int) -> tuple[Pixels, Pixels, Pixels]:
    """Image, truth and prediction of a sample, of one size that can be shown."""
    image, truth, pred = shrink(wholes.image(index), wholes.mask(index), predictions[index])
    return image, truth, pred


def _triptych(wholes: Wholes, predictions: list[Pixels], index: int, info: Info) -> list[Pixels]:
    image, *masks = _triple(wholes, predictions, index)
    return [to_colour(image), *(paint(mask, class_colours(info)) for mask in masks)]


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` numbers below `total`, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).astype(int).tolist()


def _add_to(record: Record, folder: Path, name: str) -> None:
    for picture in folder.iterdir():
        record.artifact(f"{name}/{picture.name}").write_bytes(picture.read_bytes())


def _show_fixed_samples(record: Record, wholes: Wholes, predictions: list[Pixels]) -> None:
    """The same validation samples under the same names in every run, for the tracking UI."""
    for index in _evenly(len(wholes), SHOWN):
        id = wholes.samples["id"][index]
        image, truth, pred = _triple(wholes, predictions, index)
        row = [outline(image, truth=truth), outline(image, truth, pred)]
        path = record.artifact(f"images/prediction~{id}.png")
        save_sheet(path, [row], ["ground truth", "prediction (yellow)"], [str(id)])


def _check_export(path: Path, network: nn.Module, split: Arrays, params: Params) -> None:
    """What ships must be what was scored: the exported program gives the same masks."""
    images, _ = next(iter(PlainBatches(split, min(4, params.evaluate.batch_size))))
    exported = load_exported(path)
    with torch.no_grad():
        ours = network(images.to(next(network.parameters()).device)).cpu()
        theirs = exported(images.contiguous())
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3), "the exported program differs"
