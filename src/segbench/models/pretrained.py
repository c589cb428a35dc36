"""Pretrained encoder weights: from the hub, or from a local file that is checked first."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.errors import InputError
from segbench.files import sha256_of
from segbench.params.model import Candidate

# What torch and safetensors raise for files that are torn or something else.
UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, IndexError, KeyError),
    *(ValueError, AttributeError),
)
# What other tools put before the names of an encoder's weights.
PREFIXES = ("", "encoder.", "encoder.model.", "model.", "module.", "backbone.")


def check_file(path: Path, sha256: str) -> None:
    """Raise InputError unless the file is there and is the one named by its hash."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; fix candidates.<alias>.weights")
    found = sha256_of(path)
    if found != sha256:
        raise InputError(
            f"{path}: its sha256 is {found}, params.yaml expects {sha256}; "
            "fetch the right file or correct weights_sha256"
        )


def load_encoder_weights(encoder: nn.Module, path: Path, sha256: str) -> None:
    """Load a file into an encoder; every weight of the encoder must be in it.

    What the file holds beyond the encoder (a classifier, say) is left out.

    Raises:
        InputError: if the file is missing, is not the one named by `sha256`, or does not fit.
    """
    check_file(path, sha256)
    offered = _read(path)
    wanted = encoder.state_dict()
    prefix = max(PREFIXES, key=lambda prefix: sum(prefix + name in offered for name in wanted))
    state = {name: offered[prefix + name] for name in wanted if prefix + name in offered}
    # Files of old torch versions lack these counters, which only matter to momentum-less BN.
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    if missing:
        raise InputError(
            f"{path}: does not fit the encoder, {len(missing)} of its {len(wanted)} weights are "
            f"not in the file (first {missing[0]}); use a file made for this encoder"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: does not fit the encoder, {name} is {tuple(tensor.shape)} where "
                f"{tuple(wanted[name].shape)} is needed; use a file made for this encoder"
            )
    encoder.load_state_dict(state, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a file of weights must not be able to run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: unreadable as weights ({type(error).__name__}); replace the file"
        ) from None
    inner = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not isinstance(inner, dict):
        inner = {}
    return {name: value for name, value in inner.items() if isinstance(value, Tensor)}


T = TypeVar("T")


def ask_hub(candidate: Candidate, ask: Callable[[], T]) -> T:
    """Call what downloads from the hub; whatever goes wrong becomes an InputError of one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it retries five times, aloud
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
