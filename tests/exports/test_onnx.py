"""An ONNX file gives what the network gives, of any size and batch, and says what it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from segbench.errors import InputError
from segbench.evaluation.exporting import export
from segbench.exports.description import KEY, parse_description
from segbench.exports.graph import assemble
from segbench.exports.onnx import export_onnx
from segbench.exports.onnx_file import read_description
from segbench.images import Pixels
from segbench.metrics.on_device import to_probs, to_probs_u8
from segbench.models.flips import FlipAveraged
from support.exports import FIELDS, SEVERAL, described, network_of, pixels


def run(path: Path, images: Pixels) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["mask", "probs", "logits"]
    return list(session.run(None, {"images": images}))


def agree(network: nn.Module, path: Path, images: Pixels, threshold: float = 0.37) -> None:
    """The file's outputs are those of the network, but for pixels within rounding of a step."""
    with torch.no_grad():
        logits = network(torch.from_numpy(images))
    mask, probs, theirs = run(path, images)
    np.testing.assert_allclose(theirs, logits.numpy(), atol=1e-4, rtol=1e-4)
    ours = to_probs_u8(to_probs(logits)).numpy()
    assert probs.dtype == mask.dtype == np.uint8
    assert np.abs(ours.astype(int) - probs).max() <= 1
    assert (ours != probs).mean() < 1e-3
    by_rule = ours[:, 0] >= threshold * 256 if len(ours[0]) == 1 else logits.argmax(1).numpy()
    assert mask.shape == by_rule.shape
    assert (by_rule != mask).mean() < 1e-3
    assert 0 < mask.mean() < len(ours[0])


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (3, 3, 160, 64), (2, 3, 64, 64)])
def test_the_file_gives_what_the_network_gives(
    shape: tuple[int, ...], exported: tuple[nn.Module, Path]
) -> None:
    agree(*exported, pixels(*shape))


@pytest.mark.parametrize(("height", "width"), [(65, 100), (64, 97), (1, 33), (300, 20)])
def test_any_size_is_padded_inside_and_cut_back(
    height: int, width: int, exported: tuple[nn.Module, Path]
) -> None:
    network, path = exported
    images = pixels(2, 3, height, width)
    rows, columns = (max(64, -(-size // 32) * 32) for size in (height, width))
    padded = np.pad(images, ((0, 0), (0, 0), (0, rows - height), (0, columns - width)), "edge")
    with torch.no_grad():
        whole = network(torch.from_numpy(padded)).numpy()[..., :height, :width]
    mask, probs, logits = run(path, images)
    assert mask.shape == (2, height, width)
    assert probs.shape == (2, 1, height, width)
    np.testing.assert_allclose(logits, whole, atol=1e-4, rtol=1e-4)


TAKEN = onnx.parser.parse_model(
    """
    <ir_version: 10, opset_import: ["" : 18]>
    core (uint8[n, 3, h, w] x) => (float[n, 3, h, w] y) {
      floats = Cast <to: int = 1> (x)
      scale = Constant <value_float: float = 0.01> ()
      scaled = Mul (floats, scale)
      rows = Constant <value_ints: ints = [2]> ()
      y = CumSum <exclusive: int = 0> (scaled, rows)
    }
    """
)
"""A network of three outputs that its own mirror image is not."""


class Taken(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * 0.01).cumsum(2)


@pytest.mark.parametrize("flips", [False, True])
def test_several_classes_and_mirror_images(flips: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(assemble(TAKEN, 3, 3, 0.5, flips), path)
    agree(FlipAveraged(Taken()) if flips else Taken(), path, pixels(2, 3, 64, 96))


ONE = onnx.parser.parse_model(
    """
    <ir_version: 10, opset_import: ["" : 18]>
    core (uint8[n, 3, h, w] x) => (float[n, 1, h, w] y) {
      floats = Cast <to: int = 1> (x)
      channel = Constant <value_ints: ints = [1]> ()
      mean = ReduceMean (floats, channel)
      scale = Constant <value_float: float = 50.0> ()
      middle = Constant <value_float: float = 127.0> ()
      away = Sub (mean, middle)
      y = Mul (away, scale)
    }
    """
)


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.5, 1.0])
def test_the_threshold_up_to_its_ends(threshold: float, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(assemble(ONE, 3, 1, threshold, False), path)
    mask, probs, _ = run(path, pixels(1, 3, 64, 64))
    np.testing.assert_array_equal(mask, probs[:, 0] >= threshold * 256)
    if threshold in (0, 1):
        assert (mask == (threshold == 0)).all()
    else:
        assert 0 < mask.mean() < 1


def test_the_file_says_what_it_is(exported: tuple[nn.Module, Path]) -> None:
    _, path = exported
    assert read_description(path) == described()
    (session_says,) = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map.items()
    assert session_says == (KEY, described().to_json())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format"),
        ({"threshold": 2.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"classes": ["a"] * 300}, "classes"),
        ({"colours": ["#000000"]}, "1 colours for 2 classes"),
        ({"background": 7}, "background 7"),
        ({"num_outputs": 9}, "9 outputs"),
        ({"height": 65}, "height"),
        ({"weights_sha256": "../../etc"}, "weights_sha256"),
        ({"name": None}, "name"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    text = json.dumps({**FIELDS, **changes})
    with pytest.raises(InputError, match=said) as caught:
        parse_description(text, Path("model.onnx"))
    assert "\n" not in str(caught.value)


def test_what_is_no_file_of_ours_is_refused(
    exported: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    whole = onnx.load(exported[1])
    outside = onnx.ModelProto.FromString(whole.SerializeToString())
    first = outside.graph.initializer[0]
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="/etc/passwd")
    silent = onnx.ModelProto.FromString(whole.SerializeToString())
    del silent.metadata_props[:]
    cases = {
        "other files": outside.SerializeToString(),
        "says nothing of itself": silent.SerializeToString(),
        "no ONNX file": b"\x80\x04garbage",
        "empty": b"",
    }
    for said, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=said) as caught:
            read_description(path)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "encoder_args", "outputs", "channels"),
    [
        ("unet", "tu-mobilenetv2_035", {"pad_type": "same"}, 1, 3),
        ("unetplusplus", "tu-mobilenetv3_small_050", {}, 1, 3),
        ("fpn", "tu-tf_efficientnet_lite0", {}, 1, 3),
        ("deeplabv3plus", "tu-regnetx_002", {}, 1, 3),
        ("manet", "resnet18", {}, 1, 3),
        ("segformer", "mit_b0", {}, 1, 3),
        ("linknet", "resnet18", {}, 1, 3),
        ("cvc-mobilenetv2", "tu-mobilenetv2_035", {"pad_type": "same"}, 1, 3),
        ("pet-mobilenetv2", "tu-mobilenetv2_100", {}, 3, 3),
        ("isbi-unet", "unet", {}, 1, 1),
    ],
)
def test_architectures_and_encoders(
    architecture: str,
    encoder: str,
    encoder_args: dict[str, Any],
    outputs: int,
    channels: int,
    tmp_path: Path,
) -> None:
    network = network_of(architecture, encoder, outputs, channels, encoder_args)
    path = tmp_path / "model.onnx"
    several = SEVERAL if outputs > 1 else {}
    images = pixels(3, channels, 64, 128)
    with torch.no_grad():  # random weights: half of the pixels are of each class
        threshold = float(to_probs(network(torch.from_numpy(images)))[:, 0].median())
    export_onnx(network, described(channels=channels, threshold=threshold, **several), path)
    agree(network, path, images, threshold)


@pytest.mark.slow
def test_what_onnx_has_no_words_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = network_of("upernet", "tu-convnext_atto", 1, 3, {})
    with pytest.raises(InputError, match=r"cannot write this network as ONNX .*model.pt2"):
        export_onnx(network, described(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    assert capsys.readouterr().out == ""
    # Evaluation goes on: the program is there, and what is missing is said.
    export({False: network}, described(), pixels(1, 3, 64, 64), tmp_path)
    assert (tmp_path / "model.pt2").exists()
    assert not (tmp_path / "model.onnx").exists()
    assert "no model.onnx: torch" in capsys.readouterr().err
