"""An ONNX file from a stranger reads no other file and no other code: it is refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.errors import InputError
from segbench.untrusted.onnx_file import checked_onnx

onnx = pytest.importorskip("onnx")

MODEL = """
<ir_version: 10, opset_import: ["" : 18]>
net (float[N, 3] images) => (float[N, 3] logits)
{ logits = Add (images, weights) }
"""


def model() -> Any:
    made = onnx.parser.parse_model(MODEL)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "weights"))
    return made


def elsewhere(place: str) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        (tensor,) = made.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return change


def in_attribute(made: Any) -> None:
    tensor = onnx.numpy_helper.from_array(np.ones(3, np.float32), "weights")
    made.graph.ClearField("initializer")
    tensor.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("Constant", [], ["weights"], value=tensor)
    made.graph.node.insert(0, node)


def terabyte(made: Any) -> None:
    made.graph.initializer[0].dims[:] = [1 << 40]


def negative(made: Any) -> None:
    made.graph.initializer[0].dims[:] = [-3]


def custom(made: Any) -> None:
    made.opset_import.add(domain="com.stranger", version=1)
    made.graph.node[0].domain = "com.stranger"


def unimported(made: Any) -> None:
    made.graph.node[0].domain = "com.stranger"


def unknown(made: Any) -> None:
    made.graph.node[0].op_type = "RunPython"


def loop(made: Any) -> None:
    made.graph.node[0].op_type = "Loop"


def nested(made: Any) -> None:
    body = onnx.GraphProto()
    body.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "inner"))
    body.initializer[0].external_data.add(key="location", value="/etc/passwd")
    made.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", body))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (elsewhere("../secret"), "in other files: '../secret'"),
        (elsewhere("/etc/passwd"), "in other files: '/etc/passwd'"),
        (elsewhere("weights.bin"), "in other files"),
        (in_attribute, "in other files: '../secret'"),
        (nested, "in other files: '/etc/passwd'"),
        (terabyte, "say 1099511627776 numbers"),
        (negative, "below 0"),
        (custom, "operators of 'com.stranger'"),
        (unimported, "operator com.stranger.Add"),
        (unknown, "RunPython"),
        (loop, "operator Loop"),
    ],
)
def test_what_reaches_beyond_the_file_is_refused(
    change: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    made = model()
    onnx.save_model(made, path)
    assert checked_onnx(path) == made
    change(made)
    path.write_bytes(made.SerializeToString())
    refused(path, said)


@pytest.mark.parametrize("content", [b"", b"onnx", b"\x08" * 1000, b"\x0a\xff\xff\xff\xff\x07"])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, "")


def refused(path: Path, said: str) -> None:
    """Assert that it is, in one line."""
    with pytest.raises(InputError, match=r"model\.onnx: not read") as raised:
        checked_onnx(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
