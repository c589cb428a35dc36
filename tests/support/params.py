"""The committed params, shrunk, as a tree to change."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from segbench.errors import InputError
from segbench.params import load_params

ROOT = Path(__file__).parent.parent.parent
SHARED = ROOT.parent / "shared"
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def read_params(path: Path = ROOT / "params.yaml") -> dict[str, Any]:
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return tree


def write_params(tree: dict[str, Any], path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with path.open("w") as file:
        yaml.dump(tree, file)


def shrink(tree: dict[str, Any]) -> dict[str, Any]:
    """The real params, small enough to run in seconds; every choice that is not a size stays."""
    tree["dataset"].update(num_sequences=12, frames_per_sequence=3, height=72, width=80)
    tree["augment"].update(height=64, width=64, preview_samples=2)
    tree["model"]["architecture_args"]["decoder_channels"] = [32, 16, 16, 8, 8]
    tree["train"].update(num_epochs=2, batch_size=4)
    tree["hardware"].update(threads=1, workers=0)
    tree["comparison"].update(
        candidates=["mobilenetv2_035", "regnetx_002"], seeds=[0], num_resamples=100
    )
    tree["report"]["num_samples"] = 2
    return tree


def random_weights(tree: dict[str, Any]) -> dict[str, Any]:
    """The candidates, with encoders that may be frozen though nothing trained them."""
    return {
        alias: {**fields, "weights": "random"} if fields["weights"] == "none" else fields
        for alias, fields in tree["candidates"].items()
    }


def problems(tree: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "params.yaml"
    write_params(tree, path)
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)
