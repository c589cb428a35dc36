"""Images of five bands through every stage, with weights that were trained on RGB images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

from segbench.arrays.store import open_arrays, read_header
from segbench.comparison.compare import Paths, compare
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.evaluation import inference
from segbench.evaluation import measure as measuring
from segbench.evaluation.evaluate import evaluate
from segbench.evaluation.measure import measure
from segbench.exports.program import load_exported
from segbench.files import sha256_of
from segbench.models.network import load_network
from segbench.params import Params
from segbench.training.data import check_data
from segbench.training.train import train
from support.own_folder import own
from support.pipeline import pack

pytestmark = [pytest.mark.usefixtures("offline"), pytest.mark.filterwarnings("ignore")]

BANDS = [4, 3, 2, 1, 6]


def write_images(source: Path) -> None:
    """Six bands of 12 bits; objects show in the last alone, the near infrared."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (source / name).mkdir(parents=True)
    for number in range(16):
        mask = np.zeros((64, 64), bool)
        top, left = rng.integers(0, 40, 2)
        mask[top : top + 20, left : left + 20] = True
        values = rng.integers(0, 1500, (64, 64, 6), np.uint16)
        values[mask, 5] += 2500
        image = source / "images" / f"{number:02}.tif"
        tifffile.imwrite(image, values, photometric="minisblack", planarconfig="contig")
        Image.fromarray(mask).save(source / "masks" / f"{number:02}_mask.png")


@pytest.fixture
def five_bands(tree: dict[str, Any], tmp_path: Path) -> Params:
    write_images(tmp_path / "source")
    params = own(tmp_path / "source", bands=BANDS, value_range=(0, 4095), redistributable=True)
    tree["dataset"] = params.model_dump(mode="json")
    tree["model"]["in_channels"] = 5
    torch.manual_seed(0)
    weights = tmp_path / "resnet18.safetensors"
    save_file(smp.encoders.get_encoder("resnet18", weights=None).state_dict(), weights)
    tree["candidates"]["resnet18"].update(weights=str(weights), weights_sha256=sha256_of(weights))
    tree["comparison"]["candidates"] = ["resnet18"]
    tree["augment"]["transforms"] = [{"transform": "HorizontalFlip", "p": 0.5}]
    tree["split"].update(on_leak="warn", test_share=0.2)
    return Params.model_validate(tree)


def test_five_bands_are_packed(five_bands: Params, tmp_path: Path) -> None:
    arrays = pack(five_bands, tmp_path) / "arrays"
    header = read_header(arrays)
    assert header.channels == 5
    check_data(five_bands, header, resolve(five_bands.hardware))
    split = open_arrays(arrays / "fold0" / "train")
    raw = tifffile.imread(tmp_path / "source" / "images" / f"{split.samples['id'][0]}.tif")
    shown = np.rint(raw[..., [band - 1 for band in BANDS]] * (255 / 4095))
    assert np.abs(split.images[0] - shown).max() <= 1
    with Image.open(next((tmp_path / "audit").glob("*.jpg"))) as picture:
        assert picture.mode == "RGB"


@pytest.mark.slow
def test_from_files_to_the_report(
    five_bands: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That memory is measured in processes of their own is tested beside.
    monkeypatch.setattr(measuring, "_start_server", lambda: None)
    monkeypatch.setattr(inference, "_peaks_apart", lambda keys, *_: dict.fromkeys(keys, 1.0))
    monkeypatch.setattr(inference, "TURN_S", 0.0)
    params, name = five_bands, "resnet18-fold0-seed0"
    arrays = pack(params, tmp_path) / "arrays"
    split = open_arrays(arrays / "fold0" / "train")
    paths = Paths(
        **{field: tmp_path / field for field in Paths.__annotations__}
        | {"arrays": arrays, "preview": tmp_path / "preview.png", "split": tmp_path / "split.json"}
    )
    trained = tmp_path / "trained"
    said = train(
        *(params, "resnet18", 0, 0, arrays, trained),
        *(paths.history / f"{name}.csv", paths.runs / f"{name}.json", tmp_path / "checkpoints"),
    )
    assert said.startswith(
        f"{name}: pretrained weights are for RGB images; those of the first convolution were "
        "repeated over 5 channels and scaled by 3/5\n"
    )
    scores, run = paths.metrics / f"{name}.json", paths.runs / f"{name}.json"
    evaluate(
        *(params, trained, run, tmp_path / "dataset", arrays, 0),
        *(paths.evaluations / name, scores),
    )
    assert "test/dice_per_image" in json.loads(scores.read_text())
    exported = load_exported(paths.evaluations / name / "model.pt2")
    images = torch.from_numpy(np.array(split.images[:2])).permute(0, 3, 1, 2)
    network = load_network(trained / "weights.safetensors").eval()
    with torch.no_grad():
        assert torch.allclose(exported(images), network(images), atol=1e-4)
    measure(params, arrays, paths.costs)
    compare(params, paths)
    page = (paths.reports / "comparison.html").read_text()
    assert "64x64, 5 channels" in page
    assert "resnet18.safetensors, adapted to 5 channels" in page
    picture = sorted((paths.out / "pictures").glob("*--image.jpg"))[0]
    with Image.open(picture) as image:
        assert image.mode == "RGB"


def test_a_transform_for_colours_stops_before_packing(five_bands: Params, tmp_path: Path) -> None:
    tree = five_bands.model_dump(mode="json", by_alias=True)
    tree["augment"]["transforms"] = [{"transform": "ColorJitter", "p": 0.5}]
    with pytest.raises(InputError, match="ColorJitter does not take images of 5 channels"):
        pack(Params.model_validate(tree), tmp_path)
    assert not (tmp_path / "arrays").exists()
