"""A served model: images as they come, evaluation's masks, and one line for what cannot be used."""

import base64
import io
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from mlflow.models import Model
from onnx import parser
from PIL import Image

from segbench.arrays.store import Arrays
from segbench.arrays.tiling import StitchedImages
from segbench.datasets.exif import turned
from segbench.evaluation.drafts import Draft
from segbench.evaluation.postprocessing import large_mask_by, mask_by
from segbench.evaluation.predict import Prediction
from segbench.exports.masks import MaskRule
from segbench.images import Pixels, fit_image, with_channels
from segbench.metrics.on_device import to_probs, to_probs_u8
from segbench.metrics.probabilities import LEVELS
from segbench.models.network import predict_classes
from segbench.params.augment import Patches
from segbench.tracking.client import connect
from segbench.tracking.mlflow_model import save_served, served_signature
from segbench.tracking.records import ModelFile
from segbench.tracking.replay import replay
from segbench.windows import packed_place, tile_windows
from support.exports import FIELDS
from support.mlflow_server import write_record
from support.serving import in_base64, mask_of, of_run_lengths, served

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
HEIGHT, WIDTH = 64, 96
# Logits are the channels, from which one is taken off and which are scaled.
GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
g (uint8[n, 3, h, w] images)
  => (uint8[n, h, w] mask, uint8[n, {k}, h, w] probs, float[n, {k}, h, w] logits)
{{
  pixels = Cast <to: int = 1> (images)
  middle = Constant <value_float: float = 127.3> ()
  centred = Sub (pixels, middle)
  scale = Constant <value_float: float = 0.013> ()
  scaled = Mul (centred, scale)
  start = Constant <value_ints: ints = [0]> ()
  end = Constant <value_ints: ints = [{k}]> ()
  axis = Constant <value_ints: ints = [1]> ()
  logits = Slice (scaled, start, end, axis)
  shares = {shares} (logits)
  levels = Constant <value_float: float = 256.0> ()
  greatest = Constant <value_float: float = 255.0> ()
  all = Mul (shares, levels)
  floats = Min (all, greatest)
  probs = Cast <to: int = 2> (floats)
  {mask}
  mask = Cast <to: int = 2> (found)
}}
"""
ONE = """
  least = Constant <value_float: float = {least}.0> ()
  plane = Squeeze (floats, axis)
  found = GreaterOrEqual (plane, least)
"""
ABOUT = {
    "classes": ["background", "polyp"],
    "background": 0,
    "channels": 3,
    "height": HEIGHT,
    "width": WIDTH,
    "patches": None,
    "threshold": 0.47,
    "min_size": 0,
    "largest": False,
    "flips": False,
}
SEVERAL = {"classes": ["sky", "sea", "land"], "background": None}


def logits_of(image: Pixels, outputs: int) -> torch.Tensor:
    """What the graph gives for an image at the network's size."""
    scaled = (image.astype(np.float32) - np.float32(127.3)) * np.float32(0.013)
    return torch.from_numpy(scaled.transpose(2, 0, 1)[None, :outputs].copy())


Written = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Written:
    """Writes a served model of a network that needs no training."""

    def write(data: dict[str, Any] | None = None, **changes: Any) -> Path:
        about = {**FIELDS, **ABOUT, **changes}
        about["colours"] = ["#000000", "#ff0000", "#00ff00"][: len(about["classes"])]
        about["num_outputs"] = {2: 1}.get(len(about["classes"]), len(about["classes"]))
        binary = len(about["classes"]) == 2
        one = ONE.format(least=math.ceil(about["threshold"] * LEVELS))
        several = "found = ArgMax <axis: int = 1, keepdims: int = 0> (logits)"
        graph = GRAPH.format(
            k=1 if binary else len(about["classes"]),
            shares="Sigmoid" if binary else "Softmax <axis: int = 1>",
            mask=one if binary else several,
        )
        network = parser.parse_model(graph)
        onnx.helper.set_model_props(network, {"segbench": json.dumps(about)})
        onnx.save_model(network, tmp_path / "model.onnx")
        (tmp_path / "model.pt2").write_bytes(b"program")
        root = tmp_path / "model"
        root.mkdir()
        files = (tmp_path / "model.pt2", tmp_path / "model.onnx")
        save_served(str(root), Model(), served_signature(), *files)
        if data:
            held = json.loads((root / "data.json").read_text())
            (root / "data.json").write_text(json.dumps({**held, **data}))
        return root

    return write


def load(model: Path) -> Callable[..., list[dict[str, Any]]]:
    import mlflow

    loaded = mlflow.pyfunc.load_model(str(model))
    return lambda images, **params: loaded.predict(images, params=params or None)


def refused(model: Path, images: Any, **params: Any) -> str:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as error:
        load(model)(images, **params)
    assert error.value.get_http_status_code() == 400
    error.value.message = f"quoted request: {error.value.message}"  # as MLflow's server does
    line = json.loads(error.value.serialize_as_json())["message"]
    assert "\n" not in line
    assert "quoted" not in line
    return line


def torn_tiff(tag: int, kind: int) -> str:
    """A TIFF in base64, one of whose tags is of another kind than a number, or missing."""
    file = io.BytesIO()
    Image.fromarray(picture(20, 30)).save(file, "TIFF")
    data = bytearray(file.getvalue())
    (start,) = struct.unpack("<I", data[4:8])
    (number,) = struct.unpack_from("<H", data, start)
    places = range(start + 2, start + 2 + 12 * number, 12)
    (place,) = (at for at in places if struct.unpack_from("<H", data, at)[0] == tag)
    struct.pack_into("<H", data, place + 2, kind)
    return base64.b64encode(data).decode()


def picture(height: int, width: int, channels: int = 3) -> Pixels:
    """Smooth, so that there are large components and small ones."""
    noise = np.random.default_rng(height).integers(0, 256, (6, 8, channels), np.uint8)
    return fit_image(noise, height, width).reshape(height, width, channels)


def evaluated(image: Pixels, about: dict[str, Any], patches: Patches | None = None) -> Pixels:
    """The mask that evaluation scores, at the image's own size."""
    outputs = 1 if len(about["classes"]) == 2 else len(about["classes"])
    height, width = image.shape[:2]
    windows = tile_windows(width, height, patches, "it")
    logits = []
    for one in windows:
        part = image[one.top : one.top + one.height, one.left : one.left + one.width]
        logits.append(logits_of(fit_image(part, HEIGHT, WIDTH), outputs))
    if patches is None:
        (whole,) = logits
    else:
        places = [packed_place(one, HEIGHT, WIDTH) for one in windows]
        tops, lefts = zip(*places, strict=True)
        table = {"id": "a", "group": "a", "stratum": "", "whole": "a", "top": tops, "left": lefts}
        blank = np.zeros((len(windows), HEIGHT, WIDTH), np.uint8)
        stitched = StitchedImages(Arrays(blank[..., None], blank, pd.DataFrame(table)))
        ((blended, _),) = stitched.blend([torch.cat(logits).numpy()])
        whole = torch.from_numpy(blended)[None]
    pred = predict_classes(whole, about["threshold"])[0].numpy()
    probs = to_probs_u8(to_probs(whole))[0].numpy()
    truth = np.zeros((1, 2), np.float32)
    said = Prediction("a", probs, pred, pred, truth, lambda: np.zeros((height, width), np.uint8))
    rule = MaskRule(about["threshold"], about["min_size"], about["largest"], about["flips"])
    draft, background = Draft.of(said, height, width), about["background"]
    if (height, width) == pred.shape:
        return mask_by(rule, draft, background)
    return large_mask_by(rule, draft, (height, width), background)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (77, 53), (31, 200), (301, 403)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_size": 40},
        {"largest": True},
        SEVERAL,
        {**SEVERAL, "background": 1, "min_size": 30},
        {"patches": {"height": 30, "width": 40, "overlap": 7}},
        {**SEVERAL, "patches": {"height": 25, "width": 50, "overlap": 3}},
    ],
)
def test_masks_are_those_of_evaluation(
    changes: dict[str, Any], size: tuple[int, int], write: Written
) -> None:
    image = picture(*size)
    patches = changes.get("patches")
    about = {**ABOUT, **changes}
    expected = evaluated(image, about, Patches(**patches) if patches else None)
    assert 0 < (expected == 1).mean() < 1
    predict = load(write(**changes))
    (answer,) = predict([in_base64(image)])
    assert (answer["height"], answer["width"]) == size
    assert np.array_equal(mask_of(answer), expected)
    (answer,) = predict([image.tolist()], output="rle")
    assert set(answer["rle"]) == {*about["classes"]} - (
        {about["classes"][about["background"]]} if about["background"] is not None else set()
    )
    for name, wanted in answer["rle"].items():
        assert np.array_equal(of_run_lengths(wanted), expected == about["classes"].index(name))
    (answer,) = predict([image], output="probs")
    assert all(mask_of({"png": png}).shape == size for png in answer["probs"].values())
    assert len(answer["probs"]) == (3 if len(about["classes"]) == 3 else 1)


def test_grey_transparent_and_turned_images_are_read_as_for_training(write: Written) -> None:
    predict = load(write())
    grey, colour = picture(40, 70, 1)[..., 0], picture(40, 70)
    expected = evaluated(with_channels(grey, 3), ABOUT)
    transparent = Image.fromarray(np.dstack([colour, grey]), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = in_base64(colour, exif=exif)
    answers = predict([in_base64(grey), grey, grey[..., None], in_base64(transparent), stored])
    for answer in answers[:3]:
        assert np.array_equal(mask_of(answer), expected)
    assert np.array_equal(mask_of(answers[3]), evaluated(colour, ABOUT))
    upright = np.ascontiguousarray(turned(colour, 6))
    assert np.array_equal(mask_of(answers[4]), evaluated(upright, ABOUT))
    frame = pd.DataFrame({"image": [in_base64(colour)]})
    assert predict(frame) == predict([f"data:image/png;base64,{in_base64(colour)}"])


def test_what_the_dataset_says_of_its_files_holds_for_requests(write: Written) -> None:
    data = {"value_range": [100, 4095], "turn": False, "values": [0, 255]}
    predict = load(write(data))
    deep = np.random.default_rng(0).integers(0, 5000, (40, 70)).astype(np.uint16)
    scaled = np.rint(((deep.astype(np.float32) - 100) * np.float32(255 / 3995)).clip(0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = picture(40, 70)
    first, second = predict([in_base64(deep), in_base64(colour, exif=exif)])
    shown = with_channels(scaled.astype(np.uint8), 3)
    assert np.array_equal(mask_of(first), 255 * evaluated(shown, ABOUT))
    assert np.array_equal(mask_of(second), 255 * evaluated(colour, ABOUT))


def test_masks_have_the_palette_of_the_dataset(write: Written) -> None:
    palette = [[0, 0, 0], [255, 0, 0]] + [[0, 0, 0]] * 254
    predict = load(write({"palette": palette}))
    image = picture(40, 70)
    (answer,) = predict([image])
    with Image.open(io.BytesIO(base64.b64decode(answer["png"]))) as png:
        assert png.mode == "P"
        ids = evaluated(image, ABOUT)
        assert np.array_equal(np.asarray(png), ids)
        assert np.array_equal(np.asarray(png.convert("RGB"))[..., 0], 255 * ids)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("text", "inputs is text; send a list of images"),
        (np.array(7), "inputs is ndarray; send a list of images"),
        ([], "0 images in a request; send 1 to 32"),
        ([[[0]]] * 33, "33 images in a request"),
        (["no base64!"], "image 0: not base64"),
        ([[[1]], "aGVsbG8="], "image 1: unreadable as an image (of no known format); send another"),
        ([[[1, 2], [3]]], "image 0: rows of different lengths"),
        ([[[256]]], "image 0: values from 256 to 256"),
        ([[[0.5]]], "image 0: values of type float64"),
        ([None], "image 0: null"),
        ([[[[1, 2, 3, 4]]]], "image 0: has 4 channels; the network takes 3"),
        ([in_base64(np.zeros((4, 4), np.uint16))], "image 0: more than 8 bits a channel"),
        ([in_base64(picture(40, 40))[:400]], "image 0: unreadable as an image"),
        ([in_base64(np.zeros((50, 50), np.uint8))], "50x50 pixels, the limit allows 0.002 million"),
        ([np.zeros((50, 50), np.uint8)], "image 0: 50x50 pixels; the limit is 0.002 million"),
        (["A" * 40_004], "image 0: too large a file"),
        *(
            ([torn_tiff(tag, kind)], "image 0: unreadable as an image")
            for tag in (256, 257, 258, 273, 277)  # sizes, bits, place and number of samples
            for kind in (2, 5, 7, 12)  # text, a ratio, bytes, a float
        ),
        (picture(20, 30), "inputs has the shape (20, 30, 3), which is one image; send a list"),
        (picture(1, 30), "(1, 30, 3), which is one image"),
        (picture(20, 30, 1)[..., 0], "(20, 30), which is one image"),
        (picture(20, 30).tolist(), "(20, 30, 3), which is one image"),
        ([*picture(20, 30)], "(20, 30, 3), which is one image"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(images: Any, said: str, write: Written) -> None:
    assert said in refused(write({"megapixels": 0.002}), images)


def test_several_images_as_one_array(write: Written) -> None:
    predict = load(write())
    images = np.stack([picture(40, 70), picture(40, 70)[::-1]])
    assert predict(images) == predict([*images]) == predict(images.tolist())


def test_a_form_that_is_not_known_and_an_image_below_a_window(write: Written) -> None:
    model = write(patches={"height": 30, "width": 40, "overlap": 7})
    assert "choose one of png, rle, probs" in refused(model, [picture(40, 70)], output="gif")
    assert "20x20 is smaller than the windows of 40x30" in refused(model, [picture(20, 20)])


def test_run_lengths_are_those_of_coco() -> None:
    from segbench.serving.answers import run_lengths

    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]
    assert run_lengths(np.ones((2, 2), bool)) == [0, 4]


@pytest.mark.parametrize("kind", ["pip", "conda"])
def test_mlflow_finds_what_the_model_asks_for(kind: str, write: Written) -> None:
    """Also to make its environment: without Conda's file it does not look for the other."""
    from mlflow.pyfunc import get_model_dependencies
    from mlflow.utils.virtualenv import _get_python_env

    model = write()
    said = Path(get_model_dependencies(str(model), format=kind)).read_text()
    needs = (model / "requirements.txt").read_text().split()
    assert all(one in said for one in needs)
    assert _get_python_env(model).dependencies == ["-r requirements.txt"]


def test_it_needs_no_segbench_no_torch_and_no_pickle(write: Written, tmp_path: Path) -> None:
    model = write()
    needs = (model / "requirements.txt").read_text()
    assert "torch" not in needs
    assert "segbench" not in needs
    for path in model.rglob("*"):
        assert path.suffix in ("", ".onnx", ".pt2", ".py", ".json", ".txt", ".yaml")
    # Modules of an installed segbench would be found here, and torch.
    check = (
        "import sys, mlflow; sys.modules.update({name: None for name in ('segbench', 'torch')}); "
        f"model = mlflow.pyfunc.load_model({str(model)!r}); "
        "print(model.predict([[[0, 255], [0, 255]]], params={'output': 'rle'})); "
        "print([n for n in sys.modules if n.startswith('segbench') and sys.modules[n]])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    answers, loaded = done.stdout.splitlines()[-2:]
    wanted = {"polyp": {"size": [2, 2], "counts": [2, 2]}}
    assert answers == str([{"height": 2, "width": 2, "rle": wanted}])
    names = json.loads(loaded.replace("'", '"'))
    assert len({name.split(".")[0] for name in names}) == 1
    assert names[0].startswith("segbench_")


def test_a_replayed_run_has_it(write: Written, tmp_path: Path) -> None:
    import mlflow

    write()
    write_record(tmp_path / "record", stage="evaluate", model=ModelFile("../model.pt2", 3, 1))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay([tmp_path / "record"], uri)
    client = connect(uri)
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    (logged,) = client.search_logged_models([experiment.experiment_id])
    model = mlflow.pyfunc.load_model(logged.model_uri)
    image = picture(40, 70)
    (answer,) = model.predict([image])
    assert np.array_equal(mask_of(answer), evaluated(image, ABOUT))
    assert set(model.metadata.flavors) == {"python_function", "pytorch"}
    assert model.predict(model.input_example)[0]["height"] == 48


@pytest.mark.slow
def test_it_is_served_over_http(write: Written, tmp_path: Path) -> None:
    model = write()
    with served(str(model), Path(sys.executable).parent, tmp_path / "there") as call:
        example = json.loads((model / "serving_input_example.json").read_text())
        assert call(example)[0] == 200
        for size in ((41, 59), (203, 1)):
            image = picture(*size)
            sent = [in_base64(image, "JPEG", quality=95), image.tolist()]
            status, answer = call({"inputs": sent})
            assert status == 200
            first, second = answer["predictions"]
            assert mask_of(first).shape == size
            assert np.array_equal(mask_of(second), evaluated(image, ABOUT))
        grey = picture(40, 70, 1)[..., 0]
        status, answer = call({"inputs": [in_base64(grey)], "params": {"output": "rle"}})
        assert status == 200
        found = of_run_lengths(answer["predictions"][0]["rle"]["polyp"])
        assert np.array_equal(found, evaluated(with_channels(grey, 3), ABOUT))
        broken = in_base64(picture(40, 70))[:400]
        status, answer = call({"inputs": [in_base64(grey), broken]})
        assert status == 400
        assert answer["message"].startswith("image 1: unreadable as an image")
        assert "\n" not in answer["message"]
