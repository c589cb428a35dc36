"""`segbench deliver`: a trained network as files that anyone can use."""

import os
from pathlib import Path

import click

from segbench.workspace import enter_workspace

MOST_NAME = 200
"""Bytes: file systems take 255, and while it is written a folder has a longer name."""


@click.command(
    epilog="""\b
Examples:
  segbench deliver                     the champion
  segbench deliver resnet18            the best run of a candidate
  segbench deliver resnet18-fold0-seed1 --name polyps
"""
)
@click.argument("model", default="champion", metavar="[MODEL]")
@click.option("--name", metavar="NAME", default="", help="Of the folder  [default: of the run]")
@click.option(
    "--most-dice",
    metavar="D",
    default=0.001,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="By how much the dice of a runtime may differ from what was scored.",
)
@click.option(
    "--most-pixels",
    metavar="SHARE",
    default=0.0001,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="The share of test pixels that may be of another class.",
)
def deliver(model: str, name: str, most_dice: float, most_pixels: float) -> None:
    """Write a model as ONNX, pt2 and OpenVINO's files.

    MODEL is champion, a candidate or a run. deliveries/NAME gets the files, a model card, and a
    script of a few lines that calls it. Each is scored anew on the test images by its runtime; if
    one scores otherwise, nothing is written and the exit status is 1.
    """
    if Path(name).name != name or name.startswith("."):
        raise click.UsageError(f"--name '{name}' is no name of a folder")
    if (size := len(os.fsencode(name))) > MOST_NAME:
        raise click.UsageError(f"--name is {size} bytes long, the limit is {MOST_NAME}; shorten it")
    enter_workspace()
    from segbench.delivery.deliver import Limits, Paths
    from segbench.delivery.deliver import deliver as write_delivery
    from segbench.params import load_params

    paths = Paths(
        dataset=Path("data/dataset"),
        arrays=Path("data/arrays"),
        trained=Path("data/train"),
        metrics=Path("reports/metrics"),
        history=Path("reports/history"),
        evaluations=Path("data/evaluate"),
        runs=Path("reports/runs"),
        split=Path("reports/split.csv"),
        audit=Path("reports/split.json"),
        table=Path("reports/comparison.csv"),
        deliveries=Path("deliveries"),
        records=Path("data/deliver"),
    )
    limits = Limits(most_dice, most_pixels)
    click.echo(write_delivery(load_params(Path("params.yaml")), paths, model, name, limits))
