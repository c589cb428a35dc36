"""Networks are built by name, from weights that are checked, and ship as what was scored."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from timm.layers import Conv2dSame
from torch import nn

from segbench.errors import InputError
from segbench.exports.program import export_network, load_exported
from segbench.files import sha256_of, sha256_of_arrays
from segbench.models.catalogue import check_names
from segbench.models.flips import FlipAveraged
from segbench.models.network import (
    build_network,
    check_batch,
    encoder_of,
    load_network,
    predict_classes,
    save_network,
)
from segbench.models.origin import origin_of
from segbench.params.model import Candidate, Model
from support.params import ROOT, SHARED

SMALL = {"decoder_channels": [16, 16, 8, 8, 8]}


def model(**args: Any) -> Model:
    return Model(architecture="unet", architecture_args={**SMALL, **args}, in_channels=3)


def candidate(encoder: str = "resnet18", **changes: Any) -> Candidate:
    fields = {
        "encoder": encoder,
        "encoder_args": {},
        "weights": "none",
        "weights_sha256": None,
        "input_scaling": "imagenet",
        "train_share": 1.0,
    }
    return Candidate.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "resnet18"),
        ("unet", "tu-regnetx_002"),
        ("fpn", "mobilenet_v2"),
        ("Linknet", "resnet18"),
    ],
)
def test_any_architecture_with_any_encoder(architecture: str, encoder: str) -> None:
    choice = Model(architecture=architecture, architecture_args={}, in_channels=3)
    network = build_network(choice, candidate(encoder), num_outputs=3).eval()
    assert network(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)).shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet81", "resnet18"),
        ("mobilenetv2", "mobilenet_v2"),
        ("tu-mobilenetv2_035x", "tu-mobilenetv2_035"),
        ("mobilenetv2_035", "tu-mobilenetv2_035"),
    ],
)
def test_unknown_encoders_come_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        check_names(model(), {"mine": candidate(name)})
    assert "candidates.mine.encoder" in str(caught.value)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_unknown_names_at_once() -> None:
    wrong = Model(architecture="unet", architecture_args={"decoder_chanels": [1]}, in_channels=3)
    with pytest.raises(InputError) as caught:
        check_names(wrong, {"a": candidate("resnet81"), "b": candidate("resnet19")})
    said = str(caught.value)
    assert "decoder_chanels: unet does not take it (did you mean decoder_channels" in said
    assert "candidates.a.encoder" in said
    assert "candidates.b.encoder" in said


@pytest.mark.parametrize(
    ("scaling", "mean", "std"),
    [
        ("imagenet", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ("symmetric", [127.5] * 3, [127.5] * 3),
        ("unit", [0.0] * 3, [255.0] * 3),
    ],
)
def test_input_scaling_is_inside_the_network(
    scaling: str, mean: list[float], std: list[float]
) -> None:
    torch.manual_seed(0)
    network = build_network(model(), candidate(input_scaling=scaling), 1).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    scaled = (images.float() - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(
        1, 3, 1, 1
    )
    assert torch.allclose(network(images), network.network(scaled), atol=1e-5)


def test_pretrained_scaling_is_the_librarys_own() -> None:
    vit = candidate("tu-mobilenetv3_large_100.miil_in21k", input_scaling="pretrained")
    network = build_network(model(), vit, 1)
    own = timm.get_pretrained_cfg("mobilenetv3_large_100.miil_in21k")
    assert network.mean.flatten().tolist() == pytest.approx([255 * value for value in own.mean])
    assert network.std.flatten().tolist() == pytest.approx([255 * value for value in own.std])


def test_grey_images_are_three_equal_channels() -> None:
    network = build_network(model(), candidate(), 1).eval()
    grey = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    assert torch.equal(network(grey), network(grey.expand(1, 3, 64, 64)))


def test_weights_file_holds_all_it_takes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    timm_candidate = candidate("tu-mobilenetv2_035", encoder_args={"pad_type": "same"})
    network = build_network(model(), timm_candidate, 1).eval()
    save_network(network, tmp_path / "weights.safetensors")
    again = load_network(tmp_path / "weights.safetensors").eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert again.blueprint == network.blueprint
    assert torch.equal(network(images), again(images))
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes((tmp_path / "weights.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match="not a complete weights file"):
        load_network(torn)


# Local weights.


def encoder_file(tmp_path: Path, name: str, prefix: str = "", suffix: str = ".safetensors") -> Path:
    torch.manual_seed(1)
    state = {
        prefix + key: value.clone()
        for key, value in smp.encoders.get_encoder(name, weights=None).state_dict().items()
    }
    state["fc.weight"] = torch.zeros(3)
    path = tmp_path / f"{name}{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    return path


def from_file(path: Path, encoder: str = "resnet18", **changes: Any) -> Candidate:
    fields = {"weights": str(path), "weights_sha256": sha256_of(path)}
    return candidate(encoder, **{**fields, **changes})


@pytest.mark.parametrize(("prefix", "suffix"), [("", ".safetensors"), ("module.", ".pth")])
def test_local_weights_reach_the_encoder(prefix: str, suffix: str, tmp_path: Path) -> None:
    path = encoder_file(tmp_path, "resnet18", prefix, suffix)
    network = build_network(model(), from_file(path), 1)
    torch.manual_seed(1)
    expected = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    found = network.network.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    origin = origin_of(from_file(path), network)
    assert (origin.source, origin.sha256) == (str(path), sha256_of(path))
    assert origin.mean == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize(
    ("name", "first"), [("resnet18", "conv1.weight"), ("tu-mobilenetv2_035", "conv_stem.weight")]
)
def test_weights_for_rgb_are_repeated_over_other_channels(
    name: str, first: str, channels: int, tmp_path: Path
) -> None:
    """As timm and segmentation-models-pytorch do it with the hub's weights: both give the same."""
    path = encoder_file(tmp_path, name)
    choice = Model(architecture="unet", architecture_args=SMALL, in_channels=channels)
    network = build_network(choice, from_file(path, name), 1)
    found = encoder_of(network).state_dict()
    offered = load_file(path)
    offered = {key.removeprefix("model."): value for key, value in offered.items()}
    rgb = offered[first]
    expected = torch.stack([rgb[:, at % 3] for at in range(channels)], dim=1) * 3 / channels
    assert torch.allclose(found[first], expected)
    theirs = nn.Sequential(nn.Conv2d(3, *rgb.shape[::3], bias=False))
    theirs[0].weight = nn.Parameter(rgb.clone())
    patch_first_conv(theirs, channels)
    assert torch.allclose(found[first], theirs[0].weight)
    assert all(torch.equal(found[key], offered[key]) for key in found if key != first)
    assert origin_of(from_file(path, name), network).source == (
        f"{path}, adapted to {channels} channels"
    )
    mean = [123.675, 116.28, 103.53] * 2
    assert network.mean.flatten().tolist() == pytest.approx(mean[:channels])
    assert network(torch.zeros(2, channels, 64, 64, dtype=torch.uint8)).shape == (2, 1, 64, 64)


def test_weights_for_rgb_are_not_made_to_fit_otherwise(tmp_path: Path) -> None:
    path = encoder_file(tmp_path, "resnet18")
    state = load_file(path)
    state["conv1.weight"] = state["conv1.weight"][:, :2].clone()
    save_file(state, path)
    for channels in (3, 5):
        choice = Model(architecture="unet", architecture_args=SMALL, in_channels=channels)
        with pytest.raises(InputError, match=r"conv1.weight is \(64, 2, 7, 7\) where"):
            build_network(choice, from_file(path), 1)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("model.encoder.", "state_dict"),  # Lightning around smp
        ("module.model.encoder.", "state_dict"),
        ("module.encoder.", "model_state_dict"),  # DataParallel
        ("net.backbone.", "model"),
    ],
)
def test_weights_of_whole_networks_reach_the_encoder(prefix: str, key: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    state = {prefix + name: value for name, value in expected.items()}
    rest = {f"{prefix}decoder.weight": torch.zeros(3)}
    saved = {"epoch": 3, "optimizer_states": [{"lr": 0.1}], key: {**state, **rest}}
    path = tmp_path / "last.ckpt"
    torch.save(saved, path)
    found = build_network(model(), from_file(path), 1).network.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # Of two encoders that fit, none is taken by chance.
    saved[key] |= {f"teacher.{name}": value + 1 for name, value in expected.items()}  # type: ignore[operator]
    torch.save(saved, path)
    with pytest.raises(InputError, match=r"holds several encoders that fit \(.*teacher\."):
        build_network(model(), from_file(path), 1)


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "deeplabv3"])
def test_a_batch_of_one_is_refused_where_batch_norm_cannot_stand_it(architecture: str) -> None:
    choice = Model(architecture=architecture, architecture_args={}, in_channels=3)
    network = build_network(choice, candidate(), num_outputs=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_batch(network, 2, 64, 64)
    with pytest.raises(InputError, match=r"train\.batch_size: .* batches of one image: .*; set 2"):
        check_batch(network, 1, 64, 64)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    check_batch(build_network(model(), candidate(), 1), 1, 64, 64)


def test_local_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = encoder_file(tmp_path, "resnet18")
    cases = {
        "no such weights file": candidate(weights="/no/w.pth", weights_sha256="0" * 64),
        "params.yaml expects 000": from_file(path, weights_sha256="0" * 64),
        "does not fit the encoder, .* of its .* weights are not in the file": from_file(
            path, "mobilenet_v2"
        ),
    }
    cases["does not fit the encoder, .* where .* is needed"] = from_file(
        encoder_file(tmp_path, "tu-mobilenetv2_050"), "tu-mobilenetv2_035"
    )
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path.read_bytes()[:3000])
    cases["unreadable as weights"] = from_file(torn)
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    cases[r"page\.pth: unreadable as weights"] = from_file(tmp_path / "page.pth")
    for said, wrong in cases.items():
        with pytest.raises(InputError, match=said) as caught:
            build_network(model(), wrong, 1)
        assert "\n" not in str(caught.value)


def test_a_weights_file_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="unreadable as weights"):
        build_network(model(), from_file(tmp_path / "evil.pth"), 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not (SHARED / "weights").exists(), reason="needs the real weights")
def test_real_imagenet_weights_fit() -> None:
    path = SHARED / "weights" / "mobilenetv2_035.imagenet-keras.timm.safetensors"
    args = {"pad_type": "same", "bn_eps": 1e-3}
    chosen = from_file(path, "tu-mobilenetv2_035", encoder_args=args, input_scaling="symmetric")
    network = build_network(model(), chosen, 1)
    assert network.network.encoder.model.bn1.eps == 1e-3
    assert network.network.encoder.model.conv_stem.weight.std() > 0.1


# The hub.


Hub = dict[str, bytes]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Files that a hub has, which is all that this process knows of hubs."""
    files: Hub = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bool) -> None:
            content = files.get(self.path.split("/")[-1])
            self.send_response(200 if content is not None else 404)
            if content is not None:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    path = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield files
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore")
def test_imagenet_weights_come_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file(dict(state), tmp_path / "model.safetensors")
    config = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "input_range": [0, 1]}
    hub["config.json"] = json.dumps(config).encode()
    hub["model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    chosen = candidate(weights="imagenet")
    network = build_network(model(), chosen, 1)
    assert torch.equal(network.network.encoder.conv1.weight, state["conv1.weight"])
    origin = origin_of(chosen, network)
    source, at, revision = origin.source.split()
    assert (source, at, len(revision)) == ("smp-hub/resnet18.imagenet", "at", 40)
    assert origin.sha256 == sha256_of_arrays({name: part.numpy() for name, part in state.items()})
    with pytest.raises(InputError, match="but its ImageNet weights expect mean"):
        build_network(model(), candidate(weights="imagenet", input_scaling="symmetric"), 1)


@pytest.mark.usefixtures("hub")
@pytest.mark.filterwarnings("ignore")
def test_a_hub_out_of_reach_is_an_error_not_random_weights(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        InputError, match="the ImageNet weights of resnet18 cannot be had from the hub"
    ) as caught:
        build_network(model(), candidate(weights="imagenet"), 1)
    assert "set weights to a local .safetensors or .pth file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not caplog.records  # nor does the hub's library say anything beside it


# What ships.


@pytest.mark.parametrize(
    "chosen",
    [
        candidate("resnet18"),
        pytest.param(
            candidate("tu-mobilenetv2_035", encoder_args={"pad_type": "same"}),
            marks=pytest.mark.slow,
        ),
        pytest.param(candidate("efficientnet-b0"), marks=pytest.mark.slow),
    ],
    ids=lambda chosen: chosen.encoder,
)
@pytest.mark.filterwarnings("ignore")
def test_the_exported_program_is_the_network(chosen: Candidate, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(model(), chosen, 1).eval()
    export_network(network, 3, tmp_path / "model.pt2")
    exported = load_exported(tmp_path / "model.pt2")
    for shape in ((1, 3, 64, 64), (5, 3, 64, 160), (2, 3, 128, 96)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(exported(images), network(images), atol=1e-5)
    assert exported.to("meta")(images.to("meta")).device.type == "meta"  # so any device will do


@pytest.mark.filterwarnings("ignore")
def test_same_padding_is_exported(tmp_path: Path) -> None:
    """Of odd and even kernels, with and without stride, dilation and groups."""

    class Padded(torch.nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = super().forward(images.float() / 255)
            return x

    torch.manual_seed(0)
    network = Padded(
        Conv2dSame(3, 4, 3, stride=2),
        Conv2dSame(4, 4, 5, stride=2, groups=4),
        Conv2dSame(4, 4, (2, 3), stride=(1, 2), bias=False),
        torch.nn.Sequential(Conv2dSame(4, 2, 3, dilation=2)),
    ).eval()
    export_network(network, 3, tmp_path / "model.pt2")
    exported = load_exported(tmp_path / "model.pt2")
    for shape in ((1, 3, 64, 64), (5, 3, 64, 160), (2, 3, 128, 96)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(exported(images), network(images), atol=1e-5)


def test_classes_from_logits() -> None:
    logits = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    assert predict_classes(logits, 0.5).tolist() == [[[0, 1, 1]]]
    assert predict_classes(logits, 0.8).tolist() == [[[0, 0, 1]]]
    several = torch.tensor([[[[0.0, 3.0]], [[1.0, 0.0]], [[0.5, 0.0]]]])
    assert predict_classes(several, 0.5).tolist() == [[[1, 0]]]


def test_flips_at_test_time_make_the_network_even() -> None:
    """A mirrored image gives the mirrored logits."""
    torch.manual_seed(0)
    network = build_network(model(), candidate(), 1).eval()
    even = FlipAveraged(network).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        logits = even(images)
        assert not torch.allclose(network(images).flip(3), network(images.flip(3)), atol=1e-4)
        for axes in ([2], [3], [2, 3]):
            assert torch.allclose(even(images.flip(axes)), logits.flip(axes), atol=1e-5)
        ways = [network(images.flip(axes)).flip(axes) for axes in ([], [2], [3], [2, 3])]
        assert torch.allclose(logits, torch.stack(ways).mean(dim=0), atol=1e-6)


@pytest.mark.slow
def test_the_exported_program_averages_over_flips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    even = FlipAveraged(build_network(model(), candidate(), 1)).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        export_network(even, 3, tmp_path / "model.pt2")
        assert torch.allclose(
            load_exported(tmp_path / "model.pt2")(images), even(images), atol=1e-4
        )


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_what_docs_say_of_exported_programs_runs(
    num_outputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/team.md").read_text()
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", text, re.DOTALL)
    (path,) = re.findall(r'load\("(.*?)"\)', code)
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(parents=True)
    network = build_network(model(), candidate("tu-mobilenetv2_035"), num_outputs).eval()
    export_network(network, 3, Path(path))
    names: dict[str, Any] = {"images": torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)}
    exec(code, names)
    with torch.no_grad():
        logits = network(names["images"])
    expected = logits[:, 0] >= 0 if num_outputs == 1 else logits.argmax(1)
    assert names["mask"].shape == (2, 64, 96)
    assert (names["mask"] == expected).float().mean() > 0.999
