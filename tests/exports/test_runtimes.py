"""Every runtime gives the same logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.errors import InputError
from segbench.exports import onnx_file, packages
from segbench.exports.packages import there
from segbench.exports.program import export_network
from segbench.exports.runtimes import RUNTIMES, open_runtime
from segbench.models.flips import FlipAveraged
from segbench.models.network import SegmentationNetwork, save_network
from support.exports import pixels

FILES = {
    "torch": "model.pt2",
    "weights": "model.safetensors",
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
}


@pytest.fixture(scope="module")
def delivered(exported: tuple[SegmentationNetwork, Path]) -> tuple[SegmentationNetwork, Path]:
    network, path = exported
    save_network(network, path.with_name("model.safetensors"))
    export_network(network, 3, path.with_name("model.pt2"))
    return network, path.parent


@pytest.mark.parametrize("name", FILES)
def test_every_runtime_gives_the_same_logits(
    name: str, delivered: tuple[SegmentationNetwork, Path]
) -> None:
    network, folder = delivered
    if name == "openvino":
        pytest.importorskip("openvino")
    runtime = open_runtime("torch" if name == "weights" else name, folder / FILES[name], 1)
    assert runtime.name in RUNTIMES
    assert runtime.version
    for size in (2, 1, 2):  # the last batch is smaller
        images = pixels(size, 3, 64, 96)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        found = runtime(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        later = runtime(pixels(size, 3, 64, 96)[::-1].copy())
        assert not np.shares_memory(found, later)  # what was given is not written to again


def test_weights_are_averaged_over_mirror_images_if_asked(
    delivered: tuple[SegmentationNetwork, Path],
) -> None:
    network, folder = delivered
    images = pixels(1, 3, 64, 96)
    found = open_runtime("torch", folder / "model.safetensors", 1, flips=True)(images)
    with torch.no_grad():
        expected = FlipAveraged(network)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} reads") as caught:
        open_runtime(name, tmp_path / "model.pkl", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01garbage")
    with pytest.raises(InputError, match="no ONNX file") as caught:
        open_runtime(name, tmp_path / "model.onnx", 1)
    assert "\n" not in str(caught.value)


def test_a_runtime_that_is_not_installed_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not there("no-such-package")
    assert there("torch")
    monkeypatch.setattr(packages, "there", lambda _: False)
    with pytest.raises(InputError, match=r"onnxruntime .*pip install -e '\.\[delivery\]'"):
        open_runtime("onnxruntime", tmp_path / "model.onnx", 1)
    with pytest.raises(InputError, match=r"onnx is not installed"):
        onnx_file.read_description(tmp_path / "model.onnx")
