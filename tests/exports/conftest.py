"""A network as an ONNX file, which takes seconds to write."""

from pathlib import Path

import pytest

from segbench.exports.onnx import export_onnx
from segbench.models.network import SegmentationNetwork
from support.exports import SMALL, described, network_of


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentationNetwork, Path]:
    network = network_of(**SMALL)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(network, described(), path)
    return network, path
