"""A finished comparison on disk, whose runs nobody trained."""

import json
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from segbench.cli import command_line
from segbench.evaluation.outputs import write_counts, write_images
from support.comparison import by_split, evaluated
from support.params import read_params, shrink, write_params


def finished(
    folder: Path,
    tree: dict[str, Any],
    means: dict[str, tuple[float, float]],
    groups: int = 12,
    parameters: dict[str, int] | None = None,
    noise: int = 0,
) -> Path:
    """Write params and results as a comparison leaves them.

    Args:
        folder: of it.
        tree: its params; the candidates are those of `means`.
        means: validation and test score by candidate.
        groups: of test images, and of validation images.
        parameters: of networks, by candidate; a million each.
        noise: of the images.
    """
    tree["comparison"]["candidates"] = [*means]
    write = {name: folder / "reports" / name for name in ("metrics", "history", "runs")}
    for path in write.values():
        path.mkdir(parents=True)
    write_params(tree, folder / "params.yaml")
    folds = tree["comparison"]["folds"]
    audit = {f"fold{fold}": {"leaks": {"near_duplicates": 0}} for fold in folds}
    (folder / "reports" / "split.json").write_text(json.dumps(audit))
    for alias, (val, test) in means.items():
        for fold in folds:
            for seed in tree["comparison"]["seeds"]:
                run = evaluated(alias, seed, val, test, groups, fold, noise)
                where = folder / "data/evaluate" / run.name
                hashes = {
                    "weights": sha256(run.name.encode()).hexdigest(),
                    "images": write_images(where / "images.csv", run.images),
                    "counts": write_counts(where / "counts.npz", by_split(run)),
                    "dataset": sha256(json.dumps(tree["dataset"]).encode()).hexdigest(),
                }
                summary = {
                    **run.summary,
                    "parameters": (parameters or {}).get(alias, 10**6),
                    "sha256": hashes,
                }
                trained = {**run.trained, "weights_sha256": hashes["weights"]}
                for name, content in (("metrics", summary), ("runs", trained)):
                    (write[name] / f"{run.name}.json").write_text(json.dumps(content))
                run.history.to_csv(write["history"] / f"{run.name}.csv", index=False)
    return folder


def write_verdict(folder: Path) -> Path:
    """The page over three data sets, of comparisons that are finished in a workspace `folder`."""
    write_params(read_params(), folder / "params.yaml")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    means = {"mobilenetv2_035": (0.7, 0.68), "resnet10t": (0.795, 0.775), "resnet18": (0.8, 0.78)}
    parameters = {"mobilenetv2_035": 400_000, "resnet10t": 5_000_000, "resnet18": 12_000_000}
    names = ("polyps", "retinas", "cells")
    for at, name in enumerate(names):
        tree = shrink(read_params())
        tree["dataset"]["seed"] = at
        tree["comparison"].update(num_resamples=1000, seeds=[0, 1, 2])
        finished(folder / "runs" / name, tree, means, 12, parameters, noise=1 + at)
    with chdir(folder):
        asked = ["verdict", *(f"runs/{name}" for name in names)]
        CliRunner().invoke(command_line(), asked, catch_exceptions=False)
    return folder / "reports" / "verdict" / "verdict.html"
