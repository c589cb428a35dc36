"""What evaluation exports: the network that it scored, as a program of torch and as ONNX."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segbench.arrays.store import Header
from segbench.errors import InputError
from segbench.evaluation.results import read_run_file
from segbench.exports.description import KEY, Description, data_facts
from segbench.exports.graph import INPUT, LOGITS
from segbench.exports.masks import MaskRule
from segbench.exports.onnx import export_onnx
from segbench.exports.program import export_program, load_exported, save_program
from segbench.files import atomic_file
from segbench.images import Pixels
from segbench.models.network import SegmentationNetwork
from segbench.params.augment import Patches
from segbench.report.drawing import class_colours
from segbench.tracking.records import Run


def export(
    networks: Mapping[bool, nn.Module], description: Description, images: Pixels, out: Path
) -> None:
    """Write model.pt2 and model.onnx, which give what was scored.

    Where torch has no words of ONNX for a network, there is no model.onnx, and a warning.

    Args:
        networks: without (False) and with (True) averaging over mirror images.
        description: of the network, with the rule that was chosen.
        images: (N, C, H, W) to check both on.
        out: folder that receives them.
    """
    network, channels = networks[description.flips], description.channels
    program = export_program(network, channels)
    with atomic_file(out / "model.pt2") as file:
        save_program(program, file)
        with torch.no_grad():
            given = load_exported(file)(torch.from_numpy(images)).numpy()
            device = next(network.parameters()).device
            expected = network(torch.from_numpy(images).to(device)).cpu().numpy()
        assert np.allclose(expected, given, atol=1e-3, rtol=1e-3), "the exported program differs"
    try:
        with atomic_file(out / "model.onnx") as file:
            export_onnx(network, description, file)
            assert np.allclose(expected, _run(file, images), atol=1e-3, rtol=1e-3), "ONNX differs"
    except InputError as problem:  # the scores stand all the same
        print(f"warning: {description.name}: no model.onnx: {problem}", file=sys.stderr)


def _run(path: Path, images: Pixels) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run([LOGITS], {INPUT: images})[0]
    return logits


def describe(
    training: Run,
    run: Path,
    header: Header,
    patches: Patches | None,
    network: SegmentationNetwork,
    rule: MaskRule,
    summary: Mapping[str, float],
    weights_sha256: str,
) -> Description:
    """What the exported network says of itself.

    Args:
        training: the record of the training, named `<candidate>-fold<fold>-seed<seed>`.
        run: its run file.
        header: of the packed arrays.
        patches: that images are cut into.
        network: that was scored.
        rule: that was chosen.
        summary: scores by `<split>/<name>`.
        weights_sha256: of the network.
    """
    info = header.dataset
    candidate, fold, seed = training.name.rsplit("-", 2)
    content: dict[str, Any] = {
        "format": 1,
        "name": training.name,
        "candidate": candidate,
        "fold": int(fold.removeprefix("fold")),
        "seed": int(seed.removeprefix("seed")),
        "architecture": network.blueprint.architecture,
        "encoder": network.blueprint.encoder,
        "pretrained": Path(read_run_file(run)["origin"]["source"]).name,
        "classes": info.classes,
        "colours": class_colours(info.colours, info.scheme),
        "background": info.background,
        "channels": header.channels,
        "height": header.height,
        "width": header.width,
        "patches": patches,
        "num_outputs": header.num_outputs,
        "threshold": rule.threshold,
        "min_size": rule.min_size,
        "largest": rule.largest,
        "flips": rule.flips,
        "dataset": info.name,
        "dataset_digest": header.digest,
        "split_digest": None,
        "licence": info.licence,
        "citation": info.citation,
        "weights_sha256": weights_sha256,
        "run": training.id,
        "scores": {
            name: float(value)
            for name, value in summary.items()
            if name.startswith("test/") and np.isfinite(value)
        },
        "segbench": version(KEY),
        "data": data_facts(training.params, info),
    }
    return Description.model_validate(content)
