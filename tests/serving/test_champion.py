"""The champion over HTTP, from an environment that has what the model asks for and no more."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.arrays.store import open_arrays, read_header
from segbench.datasets.canonical import read_samples
from segbench.evaluation.drafts import Draft
from segbench.evaluation.evaluate import evaluate, load_networks
from segbench.evaluation.postprocessing import own_mask_by
from segbench.evaluation.predict import Truths, predict
from segbench.exports.formats import DataFormat
from segbench.exports.onnx_file import read_description
from segbench.params import Params
from segbench.tracking.client import connect
from segbench.tracking.replay import replay
from support.params import ROOT, SHARED, read_params
from support.pipeline import fit_one, pack
from support.serving import mask_of, served

FRAMES = SHARED / "datasets/cvc-clinicdb"
WEIGHTS = SHARED / "weights/mobilenetv2_035.imagenet-keras.timm.safetensors"
pytestmark = [pytest.mark.exhaustive, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


def params_of_a_minute() -> Params:
    """The published network for CVC-ClinicDB, on small images, for one epoch."""
    tree: dict[str, Any] = read_params(ROOT / "recipes/cvc-mobilenetv2.yaml")
    tree["dataset"]["source"] = str(FRAMES)
    tree["candidates"]["mobilenetv2_035"]["weights"] = str(WEIGHTS)
    tree["augment"].update(height=128, width=128)
    tree["train"]["num_epochs"] = 1
    tree["hardware"].update(device="cpu", workers=0)
    tree["evaluate"]["choose"] = {
        **{"threshold": True, "min_sizes": [10, 40], "largest": True, "flips": True}
    }
    return Params.model_validate(tree)


@pytest.mark.skipif(not (FRAMES.exists() and WEIGHTS.exists()), reason="needs the real frames")
def test_it_gives_evaluations_masks_of_real_frames(tmp_path: Path) -> None:
    params = params_of_a_minute()
    pack(params, tmp_path)
    fit_one(params, tmp_path, tmp_path, seed=42)
    out = tmp_path / "evaluate/run"
    paths = (tmp_path / "train", tmp_path / "run.json", tmp_path / "dataset", tmp_path / "arrays")
    evaluate(params, *paths, 0, out, tmp_path / "scores.json")

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay([tmp_path / "train/record", out / "record"], uri)
    client = connect(uri)
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    (logged,) = client.search_logged_models([experiment.experiment_id])
    client.create_registered_model("polyps")
    client.create_model_version("polyps", logged.model_uri, model_id=logged.model_id)
    client.set_registered_model_alias("polyps", "champion", "1")

    wanted = masks_of_evaluation(tmp_path, out)
    bin, there = Path(sys.executable).parent, tmp_path / "there"
    files = read_samples(tmp_path / "dataset").set_index("id")["image"]
    differ = total = 0
    with served("models:/polyps@champion", bin, there, uri, "uv") as call:
        for id, mask in wanted.items():
            data = (tmp_path / "dataset" / files[id]).read_bytes()
            status, answer = call({"inputs": [base64.b64encode(data).decode()]})
            assert status == 200
            found = mask_of(answer["predictions"][0])
            assert found.shape == mask.shape
            differ += int((found != mask).sum())
            total += mask.size
    (python,) = there.glob("envs/**/bin/python")
    check = "import importlib.util as u; print(u.find_spec('segbench'), u.find_spec('torch'))"
    said = subprocess.run([python, "-Ic", check], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None", "None"]
    print(f"{len(wanted)} frames: {differ} of {total} pixels differ")
    # torch and ONNX Runtime add in another order: logits differ in the last digits.
    assert len(wanted) == 61
    assert differ <= total * 1e-6


def masks_of_evaluation(folder: Path, out: Path) -> dict[str, np.ndarray]:
    """Of the test images, at their own size, by the chosen rule, as the dataset stores its own."""
    about = read_description(out / "model.onnx")
    stored = DataFormat.of(about.data, len(about.classes)).values
    networks = load_networks(folder / "train/weights.safetensors", "cpu")
    split, truths = open_arrays(folder / "arrays/fold0/test"), Truths(folder / "dataset")
    scheme = read_header(folder / "arrays").dataset.scheme
    masks = {}
    for one in predict(networks[about.flips], split, truths, 8, 0.5, scheme.scored):
        size = one.original().shape
        own = own_mask_by(about.rule, Draft.of(one, *size), size, about.background)
        masks[one.id] = stored[own]
    return masks
