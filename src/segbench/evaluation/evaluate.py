"""Evaluation: scores of one finished model on validation and test, a row for each image."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from segbench.arrays.batches import PlainBatches
from segbench.arrays.store import Arrays, Header, open_arrays, read_header
from segbench.arrays.tiling import Wholes
from segbench.devices import prepare, resolve, within_memory
from segbench.evaluation.per_image import Scored, Scorer
from segbench.evaluation.postprocessing import Rule, choose
from segbench.evaluation.predict import Seen, Truths, look
from segbench.evaluation.results import flat
from segbench.files import sha256_of, sha256_of_arrays, whole_file, whole_folder
from segbench.metrics import counts
from segbench.metrics.catalogue import (
    MASK_METRICS,
    MLFLOW_METRICS,
    SUMMARY_METRICS,
    TRUTH_COLUMNS,
    VARIANTS,
)
from segbench.metrics.on_device import soft_dice_batch
from segbench.models.export import export_network, load_exported
from segbench.models.flips import FlipAveraged
from segbench.models.network import load_network, num_parameters
from segbench.parallel import in_threads
from segbench.params import Params
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
    dataset: Path,
    arrays: Path,
    fold: int,
    out: Path,
    scores: Path,
) -> str:
    """Score a model and write everything that a later statistic or picture needs.

    The network is scored in float32, as it is exported, on whole images: what it says of windows
    is put together first. Masks are made at `evaluate.threshold`, and by the rule that does best on
    validation; at the network's size, and at each image's own.

    Args:
        params: all of them.
        trained: folder of the train stage: weights.safetensors, and the record, from which the
            run's name is taken.
        dataset: canonical folder, which has the masks at their own size.
        arrays: folder of the augment stage.
        fold: whose validation and test splits to score.
        out: receives images.csv (a row an image, with counts), histograms.npz (levels of val and
            test, see `probabilities.histogram`), predictions.npz (class ids of val and test, as
            `results.flat` has them), choices.csv (the rules that were tried), model.pt2, pictures/,
            triptychs/ and record/.
        scores: a JSON file of scores, and of the hashes of what they come from.

    Returns:
        A line that says what was made.
    """
    header = read_header(arrays)
    resolved = resolve(params.hardware)
    prepare(resolved)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    tags = params.evaluate.model_dump() | provenance.dvc_tags()
    tags |= {"device": resolved.device, "threads": resolved.threads}
    run = _describe(read_run(trained / "record"), header, f"{arrays}/fold{fold}", tags)
    with recorded(out / "record", run, params.tracking.max_wait_s) as record:
        network = load_network(trained / "weights.safetensors").to(resolved.device).eval()
        network = network.to(memory_format=torch.channels_last)
        looks: dict[bool, nn.Module] = {False: network, True: FlipAveraged(network).eval()}
        truths = Truths(dataset)
        splits = {name: open_arrays(arrays / f"fold{fold}" / name) for name in SPLITS}
        wholes = {name: Wholes(split) for name, split in splits.items()}
        plain = Rule(params.evaluate.threshold, 0, False, params.evaluate.flips)
        asked = params.evaluate.choose

        def see(name: str, flips: bool) -> Iterator[Seen]:
            batch_size = params.evaluate.batch_size
            return look(looks[flips], splits[name], truths, batch_size, plain.threshold)

        with within_memory(
            f"evaluate.batch_size: {params.evaluate.batch_size} images at a time do not fit; "
            "halve it, or set hardware.device: cpu"
        ):
            tried = (plain.flips, not plain.flips) if asked.flips else (plain.flips,)
            seen = {flips: list(see("val", flips)) for flips in tried}
            choices = choose(plain, asked, seen)
            chosen = choices[0][1]
            scorer = Scorer(
                len(header.dataset.classes),
                params.evaluate.tolerance,
                plain,
                chosen,
                params.evaluate.extra_metrics,
            )
            found = {
                "val": score(scorer, seen[plain.flips], seen[chosen.flips]),
                "test": score(
                    scorer,
                    see("test", plain.flips),
                    None if chosen.flips == plain.flips else see("test", chosen.flips),
                    beside=resolved.device != "cpu",
                ),
            }
        tables, summary = [], dict[str, float]()
        for name in SPLITS:
            tables.append(image_table(wholes[name].samples, name, found[name]))
            own = summarise(tables[-1], found[name], header.dataset.classes)
            soft = torch.from_numpy(np.stack([image.soft for image in found[name]]))
            own["dice_soft_batch"] = soft_dice_batch(soft, params.evaluate.batch_size)
            summary |= {f"{name}/{key}": value for key, value in own.items()}
        table = pd.concat(tables, ignore_index=True)
        predictions = {name: [image.pred_mask for image in found[name]] for name in SPLITS}
        histograms = {
            name: np.stack([image.histogram for image in found[name]]).astype(np.uint32)
            for name in SPLITS
        }
        with whole_file(out / "images.csv") as file:
            table.to_csv(file, index=False, lineterminator="\n")
        with whole_file(out / "choices.csv") as file:
            rows = [{"val_dice_per_image": dice, **asdict(rule)} for dice, rule in choices]
            pd.DataFrame(rows).to_csv(file, index=False, lineterminator="\n")
        with whole_file(out / "histograms.npz") as file:
            np.savez_compressed(file, **histograms)  # type: ignore[arg-type]
        with whole_file(out / "predictions.npz") as file:
            np.savez_compressed(file, **flat(predictions))  # type: ignore[arg-type]
        with whole_file(out / "model.pt2") as file:
            export_network(looks[chosen.flips], header.channels, file)
            _check_export(file, looks[chosen.flips], splits["val"], params)
        colours = class_colours(header.dataset.colours, len(header.dataset.classes))
        shown = {
            name: PredictedSplit(
                [str(id) for id in wholes[name].samples["id"]],
                wholes[name].image,
                wholes[name].mask,
                predictions[name],
                colours,
            )
            for name in SPLITS
        }
        with whole_folder(out / "pictures") as folder:
            dice = table[table["split"] == "test"]["dice"].to_numpy(float)
            write_extremes(folder, shown["test"], dice)
            write_grid(folder / "grid.png", shown["test"])
            _add_to(record, folder, "pictures")
        with whole_folder(out / "triptychs") as folder:
            write_triptychs(folder, shown["test"], params.evaluate.num_triptychs)
            _add_to(record, folder, "triptychs")
        write_fixed_samples(record.artifact, shown["val"])
        record.log(0, tracked(summary))
        record.tags["segbench.weights_sha256"] = sha256_of(trained / "weights.safetensors")
        record.tags |= flatten({"chosen": asdict(chosen)})
        result = {
            # JSON knows no NaN: a score that nothing defines is null.
            **{key: value if np.isfinite(value) else None for key, value in summary.items()},
            "chosen": asdict(chosen),
            "parameters": num_parameters(network),
            "sha256": {
                "weights": record.tags["segbench.weights_sha256"],
                "images": sha256_of(out / "images.csv"),
                # Of the content: the archives themselves hold times.
                "predictions": sha256_of_arrays(flat(predictions)),
                "histograms": sha256_of_arrays(histograms),
                "dataset": header.digest,
            },
        }
        with whole_file(scores) as file:
            file.write_text(json.dumps(result, indent=2) + "\n")
    return (
        f"{run.name}: dice per image {summary['val/dice_per_image']:.4f} on validation "
        f"({summary['val/images']} images), {summary['test/dice_per_image']:.4f} on test "
        f"({summary['test/images']} images), in {scores}"
    )


def _describe(training: Run, header: Header, source: str, tags: dict[str, object]) -> Run:
    return replace(
        training,
        part="evaluate",
        started_ms=now_ms(),
        params={},  # MLflow's params cannot change, and a model may be evaluated anew
        tags=flatten({"evaluate": tags}),
        inputs=[DatasetInput(header.dataset.name, header.digest[:16], source, {})],
        model=ModelFile("../model.pt2", header.channels, header.num_outputs),
    )


def score(
    scorer: Scorer,
    plain: Iterable[Seen],
    chosen: Iterable[Seen] | None = None,
    beside: bool = False,
) -> list[Scored]:
    """Score images by all cores.

    Args:
        scorer: of single images.
        plain: as the plain rule's network sees them.
        chosen: as the chosen rule's does, if that is another.
        beside: while the network looks at the next ones, on a device of its own.
    """
    pairs = ((seen, seen) for seen in plain) if chosen is None else zip(plain, chosen, strict=True)
    return [*in_threads(lambda pair: scorer.score(*pair), pairs, "evaluate", None, beside)]


def image_table(samples: pd.DataFrame, name: str, found: list[Scored]) -> pd.DataFrame:
    """A row an image: split, id, group, stratum, its scores, and the counts of each class."""
    rows = pd.DataFrame([image.row for image in found])
    cells = np.stack([image.counts for image in found])  # (N, F, 4)
    columns = [f"{cell}_{at + 1}" for at in range(cells.shape[1]) for cell in counts.COUNTS]
    flat_cells = pd.DataFrame(cells.reshape(len(cells), -1), columns=columns)
    table = pd.concat([samples.reset_index(drop=True), rows, flat_cells], axis=1)
    table.insert(0, "split", name)
    return table


def summarise(
    table: pd.DataFrame, found: list[Scored], classes: tuple[str, ...]
) -> dict[str, float]:
    """What a split's rows come to: pooled scores, those of each class, and means over images."""
    cells, correct = (
        np.stack([getattr(image, name) for image in found]) for name in ("counts", "correct")
    )
    summary = counts.summarise(cells, correct)
    if len(classes) > 2:
        of_classes = counts.dice(cells.sum(axis=0))
        for name, value in zip(classes[1:], of_classes.tolist(), strict=True):
            summary[f"dice_class_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"] = value
    of_masks = {f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS}
    told = {
        f"{name}{ending}": f"{name}_per_image{ending}"
        for name in SUMMARY_METRICS
        for ending in VARIANTS
    }
    told |= {name: f"{name}_per_image" for name in MASK_METRICS}
    told |= {name: f"{name}_per_image" for name in found[0].row if name not in of_masks}
    for column, key in told.items():
        if column not in TRUTH_COLUMNS:
            summary.setdefault(key, float(table[column].mean()))
    return summary


def tracked(summary: Mapping[str, float]) -> dict[str, float]:
    """The scores that MLflow gets; what nothing defines is left out."""
    told = [
        *(f"{name}_per_image" for name in MLFLOW_METRICS),
        "dice_per_image_chosen",
        "dice_micro",
    ]
    keys = [f"{split}/{name}" for split in SPLITS for name in told]
    return {key: summary[key] for key in keys if np.isfinite(summary.get(key, np.nan))}


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
