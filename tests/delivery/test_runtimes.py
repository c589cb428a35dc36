"""Every runtime gives the same logits, and the fastest that agrees is taken."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.delivery import onnx_file, packages
from segbench.delivery.choice import fastest, masks_of
from segbench.delivery.packages import there
from segbench.delivery.runtimes import RUNTIMES, Logits, Runtime, open_runtime
from segbench.errors import InputError
from segbench.images import Pixels
from segbench.models.export import export_network
from segbench.models.flips import FlipAveraged
from segbench.models.network import SegmentationNetwork, predict_classes, save_network
from support.delivery import pixels

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


@pytest.mark.parametrize("outputs", [1, 3])
def test_masks_are_evaluations(outputs: int) -> None:
    logits = np.random.default_rng(0).normal(size=(2, outputs, 9, 8)).astype(np.float32)
    expected = predict_classes(torch.from_numpy(logits), 0.25).numpy()  # a 64th level of 256
    np.testing.assert_array_equal(masks_of(logits, 0.25), expected)


def stub(name: str, seconds: float, given: Logits) -> Runtime:
    def call(_: Pixels) -> Logits:
        time.sleep(seconds)
        return given

    return Runtime(name, "1.0", call)


def test_the_fastest_that_agrees_is_taken() -> None:
    given = np.ones((1, 1, 4, 4), np.float32)
    wrong = given.copy()
    wrong[0, 0, 0, :3] = -1
    runtimes = {
        "torch": stub("torch", 0.03, given),
        "onnxruntime": stub("onnxruntime", 0.01, given + 1e-5),
        "openvino": stub("openvino", 0.0, wrong),
    }
    choice = fastest(runtimes, pixels(1, 3, 4, 4), 0.5)
    assert choice.runtime.name == "onnxruntime"
    assert choice.differ == {"torch": 0, "onnxruntime": 0, "openvino": 3}
    assert "by onnxruntime 1.0" in choice.sentence
    assert "openvino is faster, but differs in 3 pixels" in choice.sentence
    assert "torch takes" in choice.sentence
    runtimes["openvino"] = replace(runtimes["openvino"], call=lambda _: given)
    assert fastest(runtimes, pixels(1, 3, 4, 4), 0.5).runtime.name == "openvino"


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
