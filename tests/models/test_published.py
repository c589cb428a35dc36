"""The published U-Nets: parameter counts, agreement with networks written anew, any encoder."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.errors import InputError
from segbench.exports.program import export_network, load_exported
from segbench.models.catalogue import check_names
from segbench.models.freezing import freeze
from segbench.models.network import SegmentationNetwork, build_network, encoder_of
from segbench.models.published.contracting import ContractingPath
from segbench.params.model import Candidate, Model

pytestmark = pytest.mark.filterwarnings("ignore")

KERAS = {"pad_type": "same", "bn_eps": 1e-3, "bn_momentum": 1e-3}
# architecture: (encoder, its arguments, outputs, channels)
SYSTEMS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "cvc-mobilenetv2": ("tu-mobilenetv2_035", KERAS, 1, 3),
    "pet-mobilenetv2": ("tu-mobilenetv2_100", {}, 3, 3),
    "isbi-unet": ("unet", {}, 1, 1),
    "flood-vgg19": ("tu-vgg19", {}, 1, 3),
    "hgr1-resnet50": ("tu-resnet50", {}, 1, 3),
}


def build(
    architecture: str, encoder: str = "", channels: int = 0, device: str = "meta", **arguments: Any
) -> SegmentationNetwork:
    """A published system, or its decoder on another encoder.

    On the meta device, which knows shapes, layers and gradients and spares the numbers.
    """
    own, args, outputs, own_channels = SYSTEMS[architecture]
    candidate = Candidate(
        encoder=encoder or own,
        encoder_args={} if encoder else args,
        weights="none",
        weights_sha256=None,
        input_scaling="imagenet",
        train_share=1.0,
    )
    channels = channels or own_channels
    model = Model(
        architecture=architecture,
        architecture_args=arguments,
        in_channels=channels,  # type: ignore[arg-type]
    )
    check_names(model, {"a": candidate})
    torch.manual_seed(0)
    with torch.device(device):
        return build_network(model, candidate, outputs)


def draw_weights(network: nn.Module) -> nn.Module:
    """Give a network from the meta device weights, and batch norm statistics of its own."""
    network = network.to_empty(device="cpu").eval()
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=fan_in**-0.5 if parameter.ndim > 1 else 0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


# What Keras counts: parameters and the moving statistics of batch norm.
@pytest.mark.parametrize(
    ("architecture", "up_to", "total", "trainable"),
    [
        ("cvc-mobilenetv2", "none", 416_209, 409_025),
        ("pet-mobilenetv2", "all", 10_124_067, 8_280_163),
        ("isbi-unet", "none", 34_512_193, 34_512_193),
        ("flood-vgg19", "all", 31_164_865, 11_140_481),
        ("hgr1-resnet50", "all", 15_464_321, 6_892_865),
    ],
)
def test_as_many_parameters_as_published(
    architecture: str, up_to: str, total: int, trainable: int
) -> None:
    network = build(architecture)
    freeze(network, up_to, 64, 64)
    statistics = [value for name, value in network.named_buffers() if ".running_" in name]
    parameters = list(network.parameters())
    assert sum(value.numel() for value in [*parameters, *statistics]) == total
    assert sum(value.numel() for value in parameters if value.requires_grad) == trainable


# References: the layer lists of the publications, as functions of a state dict, with nothing of
# segbench in them. `w` gives the weights of a prefix.


class Weights:
    """Weights by name, below a prefix; `w / "x"` goes deeper."""

    def __init__(self, state: dict[str, Tensor], prefix: str = "") -> None:
        self.state = state
        self.prefix = prefix

    def __truediv__(self, name: str) -> "Weights":
        return Weights(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.state[self.prefix + name]

    def get(self, name: str) -> Tensor | None:
        return self.state.get(self.prefix + name)


def conv(w: Weights, x: Tensor, **options: Any) -> Tensor:
    return F.conv2d(x, w["weight"], w.get("bias"), **options)


def norm(w: Weights, x: Tensor, eps: float = 1e-3) -> Tensor:
    scale = w["weight"] / torch.sqrt(w["running_var"] + eps)
    shift = w["bias"] - w["running_mean"] * scale
    return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def joined(w: Weights, convs: list[str], x: Tensor, *skip: Tensor) -> Tensor:
    """3x3 convolutions with ReLU, after a concatenation."""
    x = torch.cat([x, *skip], dim=1)
    for name in convs:
        x = F.relu(conv(w / name, x, padding=1))
    return x


def mobilenet(w: Weights, x: Tensor, same: bool, eps: float) -> dict[str, Tensor]:
    """MobileNetV2 as far as there are weights for it, by Keras's names of the points."""

    def strided(part: Weights, y: Tensor, groups: int = 1) -> Tensor:
        if same:  # Keras pads right and below
            return conv(part, F.pad(y, (0, 1, 0, 1)), stride=2, groups=groups)
        return conv(part, y, stride=2, padding=1, groups=groups)

    def block(b: Weights, number: int, x: Tensor, stride: int, residual: bool) -> Tensor:
        y = F.relu6(norm(b / "bn1", conv(b / "conv_pw", x), eps))
        points[f"block_{number}_expand_relu"] = y
        if stride == 2:
            y = strided(b / "conv_dw", y, groups=y.shape[1])
        else:
            y = conv(b / "conv_dw", y, padding=1, groups=y.shape[1])
        y = conv(b / "conv_pwl", F.relu6(norm(b / "bn2", y, eps)))
        points[f"block_{number}_project"] = y
        y = norm(b / "bn3", y, eps)
        return x + y if residual else y

    points: dict[str, Tensor] = {}
    x = F.relu6(norm(w / "bn1", strided(w / "conv_stem", x), eps))
    first = w / "blocks" / "0" / "0"
    x = F.relu6(norm(first / "bn1", conv(first / "conv_dw", x, padding=1, groups=x.shape[1]), eps))
    x = norm(first / "bn2", conv(first / "conv_pw", x), eps)
    number = 1
    try:
        for stage, (count, stride) in enumerate(
            [(2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)], 1
        ):
            for index in range(count):
                place = w / "blocks" / str(stage) / str(index)
                x = block(place, number, x, stride if index == 0 else 1, index > 0)
                number += 1
    except KeyError:
        pass  # the network ends here
    return points


def cvc(w: Weights, image: Tensor) -> Tensor:
    points = mobilenet(w / "encoder" / "body", image, same=True, eps=1e-3)
    x = points["block_13_expand_relu"]
    names = ("block_6_expand_relu", "block_3_expand_relu", "block_1_expand_relu")
    for at, skip in enumerate([*(points[name] for name in names), image]):
        c = w / "steps" / str(at) / "convs"
        x = torch.cat([twice(x), skip], dim=1)
        x = F.relu(norm(c / "1", conv(c / "0", x, padding=1)))
        x = F.relu(norm(c / "4", conv(c / "3", x, padding=1)))
    return conv(w / "head", x)


def pet(w: Weights, image: Tensor) -> Tensor:
    points = mobilenet(w / "encoder" / "body", image, same=False, eps=1e-5)
    x = points["block_16_project"]
    for at, number in enumerate((13, 6, 3, 1)):
        up = w / "steps" / str(at) / "up"
        x = F.conv_transpose2d(x, up["0.weight"], stride=2, padding=1)
        x = F.relu(norm(up / "1", x))
        x = torch.cat([x, points[f"block_{number}_expand_relu"]], dim=1)
    x = F.conv_transpose2d(x, w["head.weight"], w["head.bias"], stride=2)
    return x[..., :-1, :-1]


def isbi(w: Weights, image: Tensor) -> Tensor:
    skips, x = [], image
    for level in range(5):
        x = joined(w / "encoder" / "body" / "levels" / str(level), ["0", "2"], x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = skips.pop()
    for at in range(4):
        step = w / "steps" / str(at)
        x = joined(step / "up", ["1"], twice(x))
        x = joined(step / "convs", ["0", "2"], x, skips.pop())
    return conv(w / "head", x)


def flood(w: Weights, image: Tensor) -> Tensor:
    features = w / "encoder" / "body" / "features"
    skips, x = [], image
    for convs in (("0", "2"), ("5", "7"), ("10", "12", "14", "16"), ("19", "21", "23", "25")):
        x = joined(features, list(convs), x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = joined(features, ["28", "30", "32", "34"], x)
    for at in range(4):
        step = w / "steps" / str(at)
        x = F.conv_transpose2d(x, step["up.weight"], step["up.bias"], stride=2)
        x = joined(step / "convs", ["0", "2"], x, skips.pop())
    return conv(w / "head", x, padding=1)


def hgr1(w: Weights, image: Tensor) -> Tensor:
    resnet = w / "encoder" / "body"
    points = []
    x = conv(resnet / "conv1", image, stride=2, padding=3)
    points.append(x)
    x = F.max_pool2d(F.relu(norm(resnet / "bn1", x, 1e-5)), 3, stride=2, padding=1)
    # Blocks of each stage, the block and the convolution that are tapped.
    for stage, (count, tapped, at) in enumerate(
        [(3, 2, "conv3"), (4, 2, "conv2"), (6, 5, "conv3")], 1
    ):
        for index in range(count):
            b = resnet / f"layer{stage}" / str(index)
            stride = 2 if stage > 1 and index == 0 else 1
            y = F.relu(norm(b / "bn1", conv(b / "conv1", x), 1e-5))
            y = conv(b / "conv2", y, stride=stride, padding=1)  # v1.5: the stride is here
            if (index, at) == (tapped, "conv2"):
                points.append(y)
            y = conv(b / "conv3", F.relu(norm(b / "bn2", y, 1e-5)))
            if (index, at) == (tapped, "conv3"):
                points.append(y)
            if stage == 3 and index == tapped:
                break  # the bottleneck
            if index == 0:
                x = norm(
                    b / "downsample" / "1", conv(b / "downsample" / "0", x, stride=stride), 1e-5
                )
            x = F.relu(norm(b / "bn3", y, 1e-5) + x)
    x = points.pop()
    for number in range(3):
        step = w / "steps" / str(number)
        x = F.conv_transpose2d(x, step["up.weight"], step["up.bias"], stride=2)
        x = torch.cat([x, points.pop()], dim=1)
        x = F.relu(norm(step / "convs" / "2", conv(step / "convs" / "0", x, padding=1)))
    return conv(w / "head" / "1", twice(x))


REFERENCES: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    "cvc-mobilenetv2": cvc,
    "pet-mobilenetv2": pet,
    "isbi-unet": isbi,
    "flood-vgg19": flood,
    "hgr1-resnet50": hgr1,
}


@pytest.mark.parametrize("architecture", SYSTEMS)
def test_it_computes_what_its_layer_list_says(architecture: str) -> None:
    network = draw_weights(build(architecture).network)
    images = torch.randn(2, SYSTEMS[architecture][3], 64, 96)
    with torch.no_grad():
        ours = network(images)
        reference = REFERENCES[architecture](Weights(network.state_dict()), images)
    assert ours.std() > 1e-3
    assert (ours - reference).abs().max() <= 1e-5 * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize("architecture", SYSTEMS)
def test_every_weight_is_used(architecture: str) -> None:
    network = build(architecture)
    size = (2, SYSTEMS[architecture][3], 64, 64)
    images = torch.zeros(size, dtype=torch.uint8, device="meta")
    network(images).square().mean().backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None]
    assert unused == []


@pytest.mark.parametrize("architecture", SYSTEMS)
@pytest.mark.parametrize("encoder", ["resnet18", "vgg11_bn", "tu-regnetx_002", "efficientnet-b0"])
def test_any_encoder_goes_with_any_published_decoder(architecture: str, encoder: str) -> None:
    network = build(architecture, encoder, channels=3)
    images = torch.zeros((2, 3, 64, 96), dtype=torch.uint8, device="meta")
    assert network(images).shape == (2, SYSTEMS[architecture][2], 64, 96)
    assert network.blueprint.encoder == encoder


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SYSTEMS)
def test_they_ship(architecture: str, tmp_path: Any) -> None:
    network = build(architecture, device="cpu").eval()
    channels = SYSTEMS[architecture][3]
    export_network(network, channels, tmp_path / "model.pt2")
    images = torch.randint(0, 256, (3, channels, 64, 128), dtype=torch.uint8)
    exported = load_exported(tmp_path / "model.pt2")
    with torch.no_grad():
        assert torch.allclose(exported(images), network(images), atol=1e-4)
    assert exported.to("meta")(images.to("meta")).device.type == "meta"


def test_dropout_is_where_and_as_strong_as_asked() -> None:
    def strengths(architecture: str, **arguments: Any) -> list[float]:
        kinds = (nn.Dropout, nn.Dropout2d)
        modules = build(architecture, **arguments).modules()
        return [module.p for module in modules if isinstance(module, kinds)]

    assert [p for p in strengths("flood-vgg19", dropout=0.25) if p] == [0.25] * 4
    assert [p for p in strengths("hgr1-resnet50", dropout=0.1) if p] == [0.1] * 3
    assert [p for p in strengths("pet-mobilenetv2", dropout=0.5) if p] == [0.5] * 4
    assert strengths("isbi-unet") == [0.5]


def test_the_skip_of_the_contracting_path_is_taken_before_the_dropout() -> None:
    path = ContractingPath(1, depth=2)
    image = torch.rand(1, 1, 64, 64)
    features = path(image)
    path.eval()
    still = path(image)
    assert torch.equal(features[1], still[1])
    assert not torch.equal(features[2], still[2])


def test_the_plain_encoder_stays_with_the_published_decoders() -> None:
    model = Model(architecture="unet", architecture_args={}, in_channels=3)
    candidate = Candidate(
        encoder="unet",
        encoder_args={},
        weights="none",
        weights_sha256=None,
        input_scaling="unit",
        train_share=1.0,
    )
    with pytest.raises(InputError, match=r"candidates\.a\.encoder: 'unet' goes with cvc-"):
        check_names(model, {"a": candidate})


# Freezing.


def test_freezing_up_to_a_layer() -> None:
    network = build("hgr1-resnet50")
    frozen = freeze(network, "layer3.3.conv2", 64, 64)
    encoder = encoder_of(network)
    learns = {name: value.requires_grad for name, value in encoder.named_parameters()}
    assert not learns["conv1.weight"]
    assert not learns["layer3.3.conv2.weight"]
    assert learns["layer3.3.bn2.weight"]
    assert learns["layer3.3.conv3.weight"]
    assert learns["layer3.5.conv3.weight"]
    assert dict(encoder.named_modules())["layer3.0.downsample.1"] in frozen
    assert all(value.requires_grad for value in network.network.steps.parameters())


def test_freezing_a_whole_stage_and_nothing_and_what_is_not_there() -> None:
    network = build("flood-vgg19")
    freeze(network, "features.33", 64, 64)
    learns = {name for name, value in encoder_of(network).named_parameters() if value.requires_grad}
    assert learns == {"features.34.weight", "features.34.bias"}
    assert freeze(network, "none", 64, 64) == []
    assert all(value.requires_grad for value in network.parameters())
    with pytest.raises(InputError, match=r"tu-vgg19 has no layer 'features\.99'.*begins with"):
        freeze(network, "features.99", 64, 64)


def test_order_is_that_of_the_forward_pass() -> None:
    """A library may list layers in another order than it calls them."""
    network = build("hgr1-resnet50", encoder="resnet18")
    freeze(network, "layer2", 64, 64)
    learns = {n for n, value in encoder_of(network).named_parameters() if value.requires_grad}
    assert not any(name.startswith(("conv1", "layer1", "layer2")) for name in learns)
    assert any(name.startswith("layer3") for name in learns)


def test_timm_gives_the_same_features_at_the_taps() -> None:
    """The graph that is cut out computes what hooks see in the whole model."""
    network = build("cvc-mobilenetv2", device="cpu").eval()
    whole = timm.create_model("mobilenetv2_035", **KERAS).eval()
    whole.load_state_dict(encoder_of(network).state_dict(), strict=False)
    seen = []
    for name in ("blocks.1.0.bn1", "blocks.5.0.bn1"):
        whole.get_submodule(name).register_forward_hook(lambda *_: seen.append(_[2]))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole(image)
        features = list(encoder_of(network)(image).values())
    assert torch.equal(features[0], seen[0])
    assert torch.equal(features[3], seen[1])
