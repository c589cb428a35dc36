"""From a folder of images to a report by two commands, in a clone with DVC, git and MLflow."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from segbench.onboarding.params_text import set_values
from support.layouts import LAYOUTS
from support.params import ROOT
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

QUICK = {
    "train.num_epochs": 2,
    "model.architecture_args.decoder_channels": [32, 16, 16, 8, 8],
    "hardware.threads": 1,
    "hardware.workers": 0,
    "comparison.candidates": ["mobilenetv2_035"],
    "comparison.seeds": [0],
    "comparison.num_resamples": 100,
}
"""The demonstration's recipe, made quick; nothing of it has to do with the images."""


@pytest.mark.parametrize("layout", ["file_per_class", "published_split", "field_of_view"])
def test_nothing_is_edited_between_init_and_repro(layout: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "clone", ROOT)
    truth = LAYOUTS[layout](tmp_path / layout)
    segbench = (sys.executable, "-m", "segbench")
    workspace.run(*segbench, "init", str(tmp_path / layout))
    params = workspace.path("params.yaml")
    params.write_text(set_values(params.read_text(), QUICK))
    workspace.run(*segbench, "repro")
    samples = pd.read_csv(workspace.path("data/dataset/samples.csv"))
    assert len(samples) == len(truth)
    table = pd.read_csv(workspace.path("reports/comparison.csv"))
    assert table["candidate"].tolist() == ["mobilenetv2_035"]
    assert table["val"].notna().all()
    assert layout in workspace.path("reports/comparison.md").read_text()
