"""`segbench predict`: masks of new images by a finished model."""

import glob
import os
from pathlib import Path

import click

from segbench.workspace import enter_workspace, find_workspace


@click.command(
    epilog="""\b
Examples:
  segbench predict --model champion --images photos --out masks
  segbench predict --model resnet18 --images 'photos/**/*.png' --out masks
  segbench predict --model resnet18-fold0-seed1 --images clip.mp4 --out frames
  segbench predict --model deliveries/polyps --images photos --out masks
  segbench predict --model models:/polyps@champion --images photos --out masks
"""
)
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="champion, a candidate, a run, a model's file or folder, or models:/NAME@ALIAS.",
)
@click.option("--images", required=True, metavar="PATH", help="A folder, a glob or a video.")
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Gets masks/, overlays/ and images.csv.",
)
@click.option("--probabilities", is_flag=True, help="Also write probabilities of each class.")
@click.option("--overlays/--no-overlays", default=True, help="Masks over images, to look at.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="Where to compute  [default: hardware.device of params.yaml, or auto]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images at a time  [default: evaluate.batch_size of params.yaml, or 16]",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "onnxruntime", "openvino"]),
    default="auto",
    help="By what; auto: the fastest whose masks agree.",
)
@click.option("--fresh", is_flag=True, help="Remove earlier results from --out, and predict all.")
def predict(
    model: str,
    images: str,
    out: Path,
    probabilities: bool,
    overlays: bool,
    device: str | None,
    batch_size: int | None,
    runtime: str,
    fresh: bool,
) -> None:
    """Write masks of new images.

    Masks are those that evaluation would make: the same network, resizing and mask rule, at each
    image's own size, stored as the dataset stores its own. The same command again goes on where it
    stopped. What cannot be predicted is listed in failures.csv; the exit status is then 1.
    """
    here = Path.cwd()
    images, out = _from(here, os.path.expanduser(images)), here / out.expanduser()
    if os.path.exists(here / model) or ("/" in model and not model.startswith("models:/")):
        model = str(here / Path(model).expanduser())
    inside = find_workspace() is not None
    if inside:
        enter_workspace()
    from segbench.delivery.finding import Layout, find_model
    from segbench.delivery.outputs import Wanted
    from segbench.delivery.predict import predict_folder
    from segbench.devices import resolve
    from segbench.params import load_params
    from segbench.params.hardware import AUTOMATIC

    layout = Layout(
        arrays=Path("data/arrays"),
        trained=Path("data/train"),
        evaluations=Path("data/evaluate"),
        metrics=Path("reports/metrics"),
        runs=Path("reports/runs"),
        table=Path("reports/comparison.csv"),
    )
    hardware = AUTOMATIC
    number = batch_size or 16
    if inside:
        params = load_params(Path("params.yaml"))
        hardware, number = params.hardware, batch_size or params.evaluate.batch_size
    if device:
        hardware = hardware.model_copy(update={"device": device})
    source = find_model(model, layout, out / ".model")
    wanted = Wanted(overlays, probabilities)
    resolved = resolve(hardware)
    click.echo(predict_folder(source, images, out, resolved, number, wanted, runtime, fresh))


def _from(here: Path, images: str) -> str:
    """A path or glob, made absolute."""
    path = os.path.join(here, images)
    # Of a glob, signs in the names of the folders above stand for themselves.
    return path if os.path.lexists(path) else os.path.join(glob.escape(str(here)), images)
