"""Pretrained encoder weights, from the hub or from a verified local file."""

import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.files import sha256_of
from segbench.params.model import Candidate
from segbench.untrusted.archives import check_stored

# Errors of torch and safetensors for incomplete files or other formats.
UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, IndexError, KeyError),
    *(ValueError, AttributeError, MemoryError, OverflowError),
)
RGB = 3
# Keys under which training tools save weights among other things.
NESTED = ("state_dict", "model_state_dict", "model")


def check_file(path: Path, sha256: str) -> None:
    """Raise InputError unless the file exists and matches its hash."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; fix candidates.<alias>.weights")
    found = sha256_of(path)
    if found != sha256:
        raise InputError(
            f"{path}: its sha256 is {found}, params.yaml expects {sha256}; "
            "fetch the right file or correct weights_sha256"
        )


def load_encoder_weights(encoder: nn.Module, path: Path, sha256: str, in_channels: int) -> None:
    """Load a file into an encoder; it must contain every weight of the encoder.

    Other weights in the file, such as a classifier, are ignored, and so is what stands before the
    encoder's own names: `module.` of DataParallel, `model.encoder.` of Lightning, and others.
    Weights for RGB images are adapted to an encoder of other channels, as timm and
    segmentation-models-pytorch do it: repeated, and scaled by 3 / channels.

    Args:
        encoder: as its library builds it.
        path: of the file.
        sha256: of the file.
        in_channels: of the encoder.

    Raises:
        InputError: if the file is missing, does not match `sha256`, does not fit, or holds several
            encoders that fit.
    """
    check_file(path, sha256)
    offered = _read(path)
    wanted = encoder.state_dict()
    prefix = _prefix_of(wanted, offered, path)
    state = {name: offered[prefix + name] for name in wanted if prefix + name in offered}
    # Files of old torch versions lack these counters, which only BN without momentum uses.
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    if missing:
        raise InputError(
            f"{path}: does not fit the encoder, {len(missing)} of its {len(wanted)} weights are "
            f"not in the file (first {missing[0]}); use a file made for this encoder"
        )
    for name, tensor in state.items():
        if in_channels != RGB and _is_of_images(tensor, wanted[name], in_channels):
            tensor = state[name] = adapt_input_conv(in_channels, tensor)
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: does not fit the encoder, {name} is {tuple(tensor.shape)} where "
                f"{tuple(wanted[name].shape)} is needed; use a file made for this encoder"
            )
    encoder.load_state_dict(state, strict=False)


def _is_of_images(tensor: Tensor, wanted: Tensor, in_channels: int) -> bool:
    """Are these the weights of a convolution of images, but for the number of their channels?"""
    if tensor.ndim != 4 or wanted.ndim != 4 or tensor.shape[1] != RGB:
        return False
    rest = (0, 2, 3)
    same = all(tensor.shape[axis] == wanted.shape[axis] for axis in rest)
    return same and wanted.shape[1] == in_channels


def _prefix_of(wanted: Mapping[str, Tensor], offered: Mapping[str, Tensor], path: Path) -> str:
    """What stands before the names of an encoder's weights in a file."""
    # By the longest names, which no other part of a network is likely to have.
    probes = sorted(wanted, key=len)[-5:]
    prefixes = {
        name.removesuffix(probe)
        for name in offered
        for probe in probes
        if name == probe or name.endswith(f".{probe}")
    }
    found = {
        prefix: sum(prefix + one in offered for one in wanted)
        for prefix in sorted(prefixes, key=len)
    }
    best = [prefix for prefix in found if found[prefix] == max(found.values())]
    whole = best and found[best[0]] == len(wanted)
    for other in best[1:] if whole else ():
        if any(not torch.equal(offered[best[0] + one], offered[other + one]) for one in wanted):
            raise InputError(
                f"{path}: holds several encoders that fit ({', '.join(best)}); keep one in the file"
            )
    return best[0] if best else ""


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        check_stored(path)
        # weights_only, so that a weights file cannot run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: unreadable as weights ({type(error).__name__}); replace the file"
        ) from None
    inner = content if isinstance(content, dict) else {}
    inner = next((inner[key] for key in NESTED if isinstance(inner.get(key), dict)), inner)
    return {name: value for name, value in inner.items() if isinstance(value, Tensor)}


T = TypeVar("T")


def ask_hub(candidate: Candidate, ask: Callable[[], T]) -> T:
    """Call a function that downloads from the hub; turn any error into a one-line InputError."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its five retries are logged
    try:
        return ask()
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"candidates: the ImageNet weights of {candidate.encoder} cannot be had from the hub: "
            f"{reason}; restore the connection, or set weights to a local .safetensors or .pth "
            "file with its weights_sha256, or to none"
        ) from None
    finally:
        logger.setLevel(level)
