"""Every encoder on offer builds, runs forward and backward, and scales its own input."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from segbench.errors import InputError
from segbench.models.catalogue import INCOMPATIBLE_ENCODERS, check_names, why_incompatible
from segbench.models.network import SegmentationNetwork, build_network, check_size
from segbench.models.scaling import input_scaling
from segbench.params.model import Candidate, Model

pytestmark = pytest.mark.filterwarnings("ignore")

UNET = Model(architecture="unet", architecture_args={}, in_channels=3)
# Of more than 100 million parameters, on the meta device only.
GIANTS = {
    *("resnext101_32x16d", "resnext101_32x32d", "resnext101_32x48d", "senet154"),
    "timm-efficientnet-l2",
}
TIMM = (
    *("resnet26d", "convnext_atto", "regnety_002", "mobilenetv3_small_100", "hrnet_w18_small"),
    *("tf_efficientnetv2_b0", "res2net50_26w_4s", "ghostnet_100", "edgenext_xx_small"),
    *("pvt_v2_b0", "densenet121", "fastvit_t8", "mobilevit_s", "mobilenetv4_conv_small"),
    *("caformer_s18", "davit_tiny"),
)
# One of each pattern of INCOMPATIBLE_ENCODERS.
REFUSED = {
    pattern: next(iter(timm.list_models(pattern)), None) for pattern in INCOMPATIBLE_ENCODERS
}


def candidate(encoder: str, **changes: Any) -> Candidate:
    fields = {
        "encoder": encoder,
        "encoder_args": {},
        "weights": "none",
        "weights_sha256": None,
        "input_scaling": "imagenet",
        "train_share": 1.0,
    }
    return Candidate.model_validate({**fields, **changes})


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*smp.encoders.get_encoder_names(), *(f"tu-{n}" for n in TIMM)])
def test_it_runs_forward_and_backward(name: str) -> None:
    chosen = candidate(name)
    check_names(UNET, {"a": chosen})
    device = "meta" if name in GIANTS else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        network = build_network(UNET, chosen, 1)
    if device == "meta":
        assert sum(value.numel() for value in network.parameters()) > 100e6
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8).to(device)
    logits = network(images)
    assert logits.shape == (2, 1, 64, 64)
    logits.square().mean().backward()
    learnt = [value.grad is not None for value in network.network.encoder.parameters()]
    assert any(learnt)
    if device == "cpu":
        assert logits.isfinite().all()
        assert logits.std() > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("pattern", INCOMPATIBLE_ENCODERS)
def test_what_is_refused_cannot_be_built_indeed(pattern: str) -> None:
    name = REFUSED[pattern]
    assert name is not None, "timm has no such family any more; take it off the list"
    with pytest.raises((ValueError, IndexError, RuntimeError, AttributeError)):
        smp.Unet(f"tu-{name}", encoder_weights=None)(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("pattern", INCOMPATIBLE_ENCODERS)
def test_it_is_refused_with_the_reason(pattern: str) -> None:
    name = f"tu-{REFUSED[pattern]}"
    with pytest.raises(
        InputError, match=rf"candidates\.a\.encoder: unet cannot be built on {name}, "
    ) as said:
        check_names(UNET, {"a": candidate(name)})
    assert INCOMPATIBLE_ENCODERS[pattern] in str(said.value)


def test_dpt_stands_on_plain_transformers() -> None:
    dpt = Model(architecture="dpt", architecture_args={}, in_channels=3)
    check_names(dpt, {"a": candidate("tu-vit_tiny_patch16_224")})
    assert why_incompatible("tu-vit_tiny_patch16_224") is not None
    assert why_incompatible("tu-vitamin_small_224") is None
    assert why_incompatible("tu-convnext_atto") is None


def test_an_encoder_of_one_size_says_so() -> None:
    network = build_network(UNET, candidate("tu-swin_tiny_patch4_window7_224"), 1)
    check_size(network, 224, 224)
    assert network.training
    with pytest.raises(InputError, match=r"does not take images of 96x64: .*set augment\.height"):
        check_size(network, 64, 96)


# The families of segmentation-models-pytorch, the first of each, and some of timm.
FAMILIES = sorted(
    {
        settings["encoder"].__name__: name
        for name, settings in reversed(smp.encoders.encoders.items())
    }.values()
)


@pytest.mark.parametrize("name", [*FAMILIES, "tu-convnext_atto", "tu-mobilenetv2_035"])
@pytest.mark.parametrize(
    ("scaling", "scaled"),
    [
        ("unit", lambda pixels: pixels / 255),
        ("symmetric", lambda pixels: pixels / 127.5 - 1),
        (
            "imagenet",
            lambda pixels: (
                (pixels / 255 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
                / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
            ),
        ),
    ],
)
def test_scaling_is_in_the_graph_of_every_family(name: str, scaling: str, scaled: Any) -> None:
    """What reaches the encoder is what its weights want, whatever family it is of."""

    class Reached(Exception):  # noqa: N818
        pass

    def stop(_: Any, given: tuple[torch.Tensor]) -> None:
        raise Reached(given[0])

    # Without numbers, but for the one that computes with some while it is built.
    with torch.device("cpu" if name == "mit_b0" else "meta"):
        network = build_network(UNET, candidate(name, input_scaling=scaling), 1)
    network = SegmentationNetwork(network.blueprint, network.network)  # its scaling is here
    network.network.encoder.register_forward_pre_hook(stop)
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with pytest.raises(Reached) as reached:
        network(pixels)
    assert torch.allclose(reached.value.args[0], scaled(pixels.float()), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("tu-resnet50.tv_in1k", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("tu-vgg19.tv_in1k", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("tu-inception_v4.tf_in1k", [0.5] * 3, [0.5] * 3),
        ("tu-tf_efficientnet_b0.ap_in1k", [0.5] * 3, [0.5] * 3),
        ("tu-mobilenetv3_large_100.miil_in21k", [0.0] * 3, [1.0] * 3),
        ("tu-dpn68.mx_in1k", [0.486275, 0.458824, 0.407843], [0.234824] * 3),
    ],
)
def test_pretrained_scaling_is_what_each_familys_weights_want(
    name: str, mean: list[float], std: list[float]
) -> None:
    found_mean, found_std = input_scaling(candidate(name, input_scaling="pretrained"), 3)
    assert found_mean == pytest.approx([255 * value for value in mean], abs=1e-3)
    assert found_std == pytest.approx([255 * value for value in std], abs=1e-3)
