"""A weights file from a stranger builds the network of its weights, or is refused in one line."""

import json
import socket
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from segbench.errors import InputError
from segbench.files import sha256_of
from segbench.models.network import load_network
from segbench.models.pretrained import load_encoder_weights
from segbench.training.checkpoints import Checkpoints
from support.hostile import dumped, pickled

GOOD: dict[str, Any] = {
    "architecture": "unet",
    "architecture_args": {"decoder_channels": [16, 8, 8, 8, 8]},
    "encoder": "tu-resnet10t",
    "encoder_args": {},
    "num_outputs": 1,
    "mean": [127.5, 127.5, 127.5],
    "std": [50.0, 50.0, 50.0],
}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that what must not run would make; the network is not reached meanwhile."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    torch.save({"state_dict": {}}, tmp_path / "checkpoint.pth")
    (tmp_path / "pickled.pth").write_bytes(pickled(tmp_path / "canary"))
    return tmp_path / "canary"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "tu-hf-hub:somebody/else"}, "timm has no"),
        ({"encoder": "tu-local-dir:/tmp"}, "timm has no"),
        ({"encoder": "os.system"}, "unknown 'os.system'"),
        ({"architecture": "__import__('os')"}, "unknown"),
        ({"encoder_args": {"checkpoint_path": "pickled.pth"}}, "checkpoint_path loads weights"),
        ({"encoder_args": {"pretrained": True}}, "pretrained loads weights"),
        ({"encoder_args": {"pretrained_cfg": {"url": "http://127.0.0.1"}}}, "loads weights"),
        ({"architecture_args": {"encoder_weights": "imagenet"}}, "does not take it"),
        ({"architecture_args": {"activation": "softmax"}}, "does not take it"),
        ({"architecture_args": {"decoder_channels": [10**9] * 5}}, "add up to 5000000000"),
        ({"architecture_args": {"decoder_channels": [90_000, 16, 8, 8, 8]}}, "more than"),
        ({"architecture_args": {"decoder_channels": [32, 16, 8, 8, 8]}}, "Missing key"),
        ({"num_outputs": 10**12}, "not 1 to 256"),
        ({"mean": [0.0] * 1000, "std": [1.0] * 1000}, "less than or equal to 16"),
        ({"std": [0.0, 1.0, 1.0]}, "do not go together"),
        ({"std": ["x", 1.0, 1.0]}, "std.0"),
        ({"encoder": 3}, "encoder: "),
        ({"encoder_args": {"x": "y" * 200_000}}, "characters"),
    ],
)
def test_a_description_of_something_else_is_refused(
    changed: dict[str, Any], said: str, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(canary.parent)
    path = canary.with_name("weights.safetensors")
    save_file({"x": torch.zeros(1)}, path, {"blueprint": json.dumps(GOOD | changed)})
    with pytest.raises(InputError, match=said) as raised:
        load_network(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert not canary.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 50_000, '{"encoder": NaN}'])
def test_a_description_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"blueprint": text})
    with pytest.raises(InputError, match=r"weights\.safetensors: its description is of no network"):
        load_network(path)


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = {"x": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}
    text = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InputError, match="not a complete weights file"):
        load_network(path)
    path.write_bytes((1 << 60).to_bytes(8, "little"))
    with pytest.raises(InputError, match="not a complete weights file"):
        load_network(path)


def test_a_pickled_encoder_runs_nothing(canary: Path) -> None:
    encoder = timm.create_model("resnet10t")
    path = canary.with_name("pickled.pth")
    with pytest.raises(InputError, match="unreadable as weights"):
        load_encoder_weights(encoder, path, sha256_of(path), 3)
    assert not canary.exists()


def test_weights_that_unpack_to_any_size_are_refused(canary: Path) -> None:
    encoder = timm.create_model("resnet10t")
    plain, packed = canary.with_name("plain.pth"), canary.with_name("packed.pth")
    torch.save(encoder.state_dict(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    load_encoder_weights(encoder, plain, sha256_of(plain), 3)
    with pytest.raises(InputError, match=r"packed\.pth: unreadable as weights"):
        load_encoder_weights(encoder, packed, sha256_of(packed), 3)


def test_a_checkpoint_from_a_store_that_others_write_to_runs_nothing(
    canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint's checksum tells damage, and anyone can make one."""
    checkpoints = Checkpoints(canary.with_name("run"), "key")
    checkpoints.folder.mkdir(parents=True)
    for step, content in enumerate((pickled(canary), dumped(canary))):
        crc = zlib.crc32(content).to_bytes(4, "little")
        (checkpoints.folder / f"{step:09d}.pt").write_bytes(content + crc)
    assert checkpoints.load_latest() is None
    assert not canary.exists()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("damaged" in line for line in said)
