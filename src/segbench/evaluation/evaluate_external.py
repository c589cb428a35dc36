"""The stage evaluate_external: scores of one finished model on an external test set."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from segbench.arrays.store import Arrays, open_arrays, read_header
from segbench.arrays.tiling import StitchedImages
from segbench.devices import prepare, resolve
from segbench.errors import InputError
from segbench.evaluation.evaluate import check_weights, load_networks, scored_on, tracked
from segbench.evaluation.outputs import write_counts, write_images, write_scores
from segbench.evaluation.per_image import (
    ImageScores,
    Scorer,
    absent_classes,
    counts_of,
    image_table,
    summarise,
)
from segbench.evaluation.postprocessing import MaskRule
from segbench.evaluation.predict import Truths, predict
from segbench.evaluation.results import EXTERNAL, external_key, read_scores
from segbench.evaluation.scoring import default_rule, oom_said, score
from segbench.labels import LabelScheme
from segbench.models.network import num_parameters
from segbench.params import Params
from segbench.params.evaluate import Evaluate
from segbench.tracking import provenance
from segbench.tracking.records import flatten, now_ms, read_run, recorded


def evaluate_external(
    params: Params,
    external: str,
    trained: Path,
    run: Path,
    chosen: Path,
    dataset: Path,
    arrays: Path,
    out: Path,
    scores: Path,
) -> str:
    """Score a model on all images of an external set, as `evaluate` scores the test images.

    Nothing is chosen on them: masks are made at `evaluate.threshold`, and by the rule that did best
    on the validation images of the training set.

    Args:
        params: all of them.
        external: name of the set.
        trained: folder of the train stage: weights.safetensors, and the record of the run.
        run: the run file of the train stage, which holds the sha256 of the weights.
        chosen: the scores file of the evaluate stage, which holds the mask rule.
        dataset: canonical folder of the set, which has the masks at their own size.
        arrays: its packed images.
        out: receives images.csv, counts.npz and record/.
        scores: a JSON file of scores, and of the hashes of what they come from.

    Returns:
        A line that says what was made.

    Raises:
        InputError: if the weights or the rule are not of that training, or a batch does not fit
            into memory.
    """
    weights = trained / "weights.safetensors"
    weights_sha256 = check_weights(weights, run)
    evaluated = read_scores(chosen)
    if evaluated["sha256"]["weights"] != weights_sha256:
        raise InputError(f"{chosen}: the scores of other weights; run 'segbench repro'")
    rule = MaskRule(**evaluated["chosen"])
    header, split = read_header(arrays), open_arrays(arrays / "fold0/test")
    resolved = resolve(params.hardware)
    prepare(resolved)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    tags = {**provenance.dvc_tags(), "device": resolved.device, "threads": resolved.threads}
    key = external_key(external)
    described = replace(
        read_run(trained / "record"),
        stage=f"evaluate.{external}",
        started_ms=now_ms(),
        params={},
        tags=flatten({f"{EXTERNAL}.{external}": tags}),
        inputs=[scored_on(header, StitchedImages(split).samples["id"], str(arrays), key)],
        model=None,
    )
    with recorded(out / "record", described, params.tracking.max_wait_s) as record:
        networks = load_networks(weights, resolved.device)
        found = score_by(
            rule,
            params.evaluate,
            networks,
            split,
            Truths(dataset),
            header.dataset.scheme,
            overlap=resolved.device != "cpu",
        )
        table = image_table(StitchedImages(split).samples, EXTERNAL, found, header.dataset)
        summary = {
            f"{key}/{name}": value
            for name, value in summarise(
                table, found, header.dataset, params.evaluate.batch_size
            ).items()
        }
        hashes = {
            "weights": weights_sha256,
            "images": write_images(out / "images.csv", table),
            "counts": write_counts(out / "counts.npz", {EXTERNAL: counts_of(found)}),
            "dataset": header.digest,
        }
        record.log(0, tracked(summary, [key]))
        write_scores(scores, summary, asdict(rule), num_parameters(networks[False]), hashes)
    return (
        f"{described.name}: dice per image {summary[f'{key}/dice_per_image']:.4f} on {external} "
        f"({summary[f'{key}/images']} images), in {scores}"
    )


def score_by(
    rule: MaskRule,
    params: Evaluate,
    networks: dict[bool, nn.Module],
    split: Arrays,
    truths: Truths,
    scheme: LabelScheme,
    overlap: bool,
) -> list[ImageScores]:
    """Score the images of a split by a mask rule that is given, and by the default one.

    Args:
        rule: chosen elsewhere.
        params: the section `evaluate`.
        networks: without (False) and with (True) averaging over mirror images.
        split: packed images.
        truths: their masks at their own size.
        scheme: of the classes.
        overlap: score images while the network predicts the next ones.

    Raises:
        InputError: if a batch does not fit into memory.
    """
    default = default_rule(params)
    scorer = Scorer(
        *(scheme, params.tolerance, default, rule, params.extra_metrics),
        absent_classes(StitchedImages(split).masks(), scheme),
    )
    first, *others = [
        predict(
            *(networks[flips], split, truths, params.batch_size, params.threshold), scheme.scored
        )
        for flips in dict.fromkeys([default.flips, rule.flips])
    ]
    other = others[0] if others else None
    total = len(StitchedImages(split))
    with oom_said(params):
        return score(
            scorer,
            first,
            other,
            overlap,
            label="evaluate external",
            total=total,
            most=params.batch_size,
        )
