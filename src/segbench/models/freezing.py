"""Freezing of encoder layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from segbench.errors import InputError
from segbench.models.network import SegmentationNetwork, encoder_of
from segbench.params.section import did_you_mean


def freeze(network: SegmentationNetwork, up_to: str, height: int, width: int) -> list[nn.Module]:
    """Freeze the encoder up to a layer; everything after the encoder stays trainable.

    Args:
        network: its parameters' `requires_grad` are set.
        up_to: `none`, `all`, or the last layer to freeze. The order of layers is that of a forward
            pass, not the order in which a library lists them.
        height, width: an image size that the network accepts.

    Returns:
        The modules to keep in eval mode, so that batch norm uses and keeps its pretrained
        statistics.

    Raises:
        InputError: if the encoder has no layer of that name.
    """
    encoder = encoder_of(network)
    encoder.requires_grad_(up_to != "all")
    if up_to == "none":
        return []
    if up_to == "all":
        return list(encoder.modules())
    modules = dict(encoder.named_modules())
    order = _order_of_calls(network, modules, height, width)
    reached = [at for at, name in enumerate(order) if f"{name}.".startswith(f"{up_to}.")]
    if not reached:
        raise InputError(
            f"freeze_encoder: {network.blueprint.encoder} has no layer '{up_to}'"
            f"{did_you_mean(up_to, order)}; it begins with {', '.join(order[:3])} and ends with "
            f"{', '.join(order[-3:])}; or set none or all"
        )
    frozen = [modules[name] for name in order[: reached[-1] + 1]]
    for module in frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return frozen


def _order_of_calls(
    network: SegmentationNetwork, modules: dict[str, nn.Module], height: int, width: int
) -> list[str]:
    """Names of modules in the order of a forward pass."""
    order: dict[str, None] = {}
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
        for name, module in modules.items()
        if name
    ]
    device = next(network.parameters()).device
    image = torch.zeros(1, len(network.blueprint.mean), height, width, device=device)
    try:
        with torch.no_grad(), _in_eval_mode(network):
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


@contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    yield
    network.train(training)
