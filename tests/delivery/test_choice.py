"""The fastest runtime that agrees is taken."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from segbench.delivery.choice import fastest, masks_of
from segbench.exports.runtimes import Logits, Runtime
from segbench.images import Pixels
from segbench.models.network import predict_classes
from support.exports import pixels


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
