"""Runs of a comparison that nobody trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbench.comparison.leaderboard import POOLED
from segbench.comparison.ranking import Ranking
from segbench.evaluation.costs import Cost, Quartiles
from segbench.evaluation.results import RunResult
from segbench.metrics.catalogue import MASK_METRICS, VARIANTS
from segbench.metrics.counts import Counts
from segbench.params.metric_names import parts_of

DICE = Ranking(parts_of("dice"), False, "", 1.0, 0.01)
COST = Cost("", 10**6, 10**9, 4 * 10**6, Quartiles(5, 4, 6), Quartiles(9, 8, 10), 100.0)


def evaluated(
    alias: str,
    seed: int,
    val: float,
    test: float,
    groups: int = 30,
    fold: int = 0,
    noise: int = 0,
) -> RunResult:
    """A run whose images score around the given means, in groups of two.

    Args:
        alias, seed, fold: which run it is.
        val, test: its means.
        groups: of each split.
        noise: of which data set images are.
    """
    # Images are as hard for one candidate as for another.
    shared = np.random.default_rng([fold, noise] if noise else fold)
    own = np.random.default_rng([len(alias), seed, fold, *([noise] if noise else [])])
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    parts, counts = [], {}
    for split, mean in (("test", test), ("val", val)):
        number = 2 * groups
        scores = mean + shared.normal(0, 0.05, number) + own.normal(0, 0.005, number)
        part = pd.DataFrame(dict.fromkeys([*columns, "average_precision"], scores.clip(0, 1)))
        part["split"], part["stratum"] = split, [("far", "near")[at % 2] for at in range(number)]
        part["id"] = [f"i{fold}{at:03d}" for at in range(number)]
        part["group"] = [f"g{fold}{at // 2:03d}" for at in range(number)]
        part["object_size"] = np.linspace(0, 0.3, number)
        part["num_objects"] = np.arange(number) % 5
        # Objects of many sizes, so that pooled scores are not means over images.
        size = 400 + 200 * (np.arange(number) % 7)
        right = np.rint(size * part["dice"]).astype(int)
        wrong = size - right
        cells = np.stack([right, wrong, wrong, 4096 - 2 * size + right], axis=1)[:, None]
        counts |= {f"{split}{ending}": cells for ending in VARIANTS}
        parts.append(part)
    summary: dict[str, Any] = {
        "parameters": 10**6,
        **{f"test/{name}": test for name in POOLED},
        "chosen": {"threshold": 0.4, "min_size": 0, "largest": False, "flips": False},
        "sha256": {"weights": "w", "predictions": "p"},
    }
    names = ("train_loss", "val_dice_per_image", "val_accuracy_micro", "val_loss")
    history = pd.DataFrame({"epoch": [0, 1], **{name: [0.5, 0.7] for name in names}})
    trials = [(1e-3, 0.5), (1e-2, 0.6)]
    trained = {
        "rollbacks": 0,
        "train_groups": 32,
        "images_per_epoch": 160,
        "tuning": [{"learning_rate": rate, "val_dice_per_image": dice} for rate, dice in trials],
        "origin": {
            "source": "weights/encoder.safetensors",
            "sha256": "e" * 64,
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
        },
    }
    name = f"{alias}-fold{fold}-seed{seed}"
    images = pd.concat(parts)
    return RunResult(name, alias, fold, seed, summary, images, counts, history, trained, Path(name))


def by_split(run: RunResult) -> dict[str, dict[str, Counts]]:
    """The counts of a run as `write_counts` takes them, in the order of its rows."""
    splits = dict.fromkeys(run.images["split"])
    return {
        split: {ending: run.counts[f"{split}{ending}"] for ending in VARIANTS} for split in splits
    }


def elsewhere(run: RunResult, name: str, mean: float) -> RunResult:
    """The run with rows and scores of an external set, whose images score around a mean."""
    rows = run.images[run.images["split"] == "test"].assign(split="external")
    columns = [f"{metric}{ending}" for metric in MASK_METRICS for ending in VARIANTS]
    shift = mean - rows["dice"].mean()
    rows = rows.assign(**{column: (rows[column] + shift).clip(0, 1) for column in columns})
    scores = {
        f"external/{name}/{metric}_micro": mean for metric in ("dice", "iou", "precision", "recall")
    }
    hashes = {"weights": run.trained.get("weights_sha256", "w"), "dataset": "d"}
    counts = {f"external{ending}": run.counts[f"test{ending}"] for ending in VARIANTS}
    return replace(run, images=rows, counts=counts, summary={**scores, "sha256": hashes})


FACTS: dict[str, Any] = {
    **{"name": "clinic", "licence": "CC BY 4.0", "citation": "", "images": 60, "groups": 30},
    **{"sha256": "d", "skipped": 0, "in_test": 0},
    "in_training": {"exact_duplicates": 0, "near_duplicates": 0, "annotated_copies": 0},
}
"""What is known of an external set."""
