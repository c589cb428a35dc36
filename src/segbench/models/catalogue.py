"""Architectures and encoders, and which of them are compatible."""

import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import segmentation_models_pytorch as smp
import timm

from segbench.errors import InputError
from segbench.models.pretrained import check_file
from segbench.models.published import (
    cvc_mobilenetv2,
    flood_vgg19,
    hgr1_resnet50,
    isbi_unet,
    pet_mobilenetv2,
)
from segbench.models.published.contracting import ContractingPath
from segbench.params.model import Candidate, Model
from segbench.params.section import did_you_mean

PUBLISHED: dict[str, ModuleType] = {
    "cvc-mobilenetv2": cvc_mobilenetv2,
    "pet-mobilenetv2": pet_mobilenetv2,
    "isbi-unet": isbi_unet,
    "flood-vgg19": flood_vgg19,
    "hgr1-resnet50": hgr1_resnet50,
}
"""The published U-Nets by name."""

LIBRARY: dict[str, Callable[..., Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(smp.Unet, smp.UnetPlusPlus, smp.MAnet, smp.Linknet, smp.FPN, smp.PSPNet, smp.PAN),
        *(smp.DeepLabV3, smp.DeepLabV3Plus, smp.UPerNet, smp.Segformer, smp.DPT),
    )
}
"""The architectures of segmentation-models-pytorch."""

_ONE_STRIDE = "all its features have the same stride"
_OTHER_STRIDES = "its features lack the strides 2 or 4, 8, 16, 32"
_ITS_OWN = "features are listed for it that it does not have"
INCOMPATIBLE_ENCODERS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("vit_*", "deit_*", "deit3_*", "beit_*", "beitv2_*", "eva_*", "eva02_*", "cait_*"),
            *("xcit_*", "mixer_*", "gmixer_*", "gmlp_*", "resmlp_*", "convmixer_*", "crossvit_*"),
            *("volo_*", "sequencer2d_*"),
        ),
        _ONE_STRIDE,
    ),
    **dict.fromkeys(("levit_*", "visformer_*", "shvit_*"), _OTHER_STRIDES),
    "nest_*": _ITS_OWN,
}
"""Patterns of timm encoders that work only with DPT, and why. All of segmentation-models-pytorch's
own encoders work. Some take only certain image sizes; see `models.network.check_size`."""

# Architecture arguments that segbench sets itself.
RESERVED_ARGS = {
    *("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params"),
    *("encoder", "num_outputs"),
}


def check_names(model: Model, candidates: dict[str, Candidate]) -> None:
    """Raise InputError for an architecture, an encoder or a weights file that does not exist.

    Reports all problems of all candidates at once, before the first is trained.
    """
    problems = _of_architecture(model)
    for alias, candidate in candidates.items():
        problems += [f"candidates.{alias}.{text}" for text in _of_candidate(model, candidate)]
    if problems:
        raise InputError(f"params.yaml: {'; '.join(problems)}")


def why_incompatible(encoder: str) -> str | None:
    """Why a timm encoder (`tu-...`) cannot be used; None if no reason is known."""
    name = encoder.removeprefix("tu-")
    return next(
        (why for pattern, why in INCOMPATIBLE_ENCODERS.items() if fnmatchcase(name, pattern)), None
    )


def _of_architecture(model: Model) -> list[str]:
    name = model.architecture.lower()
    known = [*PUBLISHED, *LIBRARY]
    if name not in known:
        near = did_you_mean(model.architecture, known)
        return [
            f"model.architecture: unknown '{model.architecture}'{near}; take from "
            f"{', '.join(known)}"
        ]
    maker = PUBLISHED[name].build if name in PUBLISHED else LIBRARY[name]
    takes = inspect.signature(maker).parameters.keys() - RESERVED_ARGS
    return [
        f"model.architecture_args.{key}: {model.architecture} does not take it"
        f"{did_you_mean(key, takes)}"
        for key in sorted(model.architecture_args.keys() - takes)
    ]


def _of_candidate(model: Model, candidate: Candidate) -> list[str]:
    problems = []
    name = candidate.encoder
    native = smp.encoders.get_encoder_names()
    if name == ContractingPath.NAME:
        if model.architecture.lower() not in PUBLISHED:
            problems.append(
                f"encoder: '{name}' goes with {', '.join(PUBLISHED)}, not with {model.architecture}"
            )
        if not candidate.from_scratch:
            problems.append(f"weights: encoder '{name}' has no pretrained weights; set none")
    elif name.startswith("tu-"):
        if not timm.is_model(name[3:].split(".")[0]):
            near = did_you_mean(name, [f"tu-{known}" for known in timm.list_models()])
            problems.append(f"encoder: timm has no '{name[3:]}'{near}")
        elif model.architecture.lower() != "dpt" and (reason := why_incompatible(name)) is not None:
            problems.append(
                f"encoder: {model.architecture} cannot be built on {name}, {reason}; take another "
                "encoder or architecture dpt"
            )
        elif "." in name and name[3:] not in timm.list_pretrained():
            tags = [
                f"tu-{tagged}" for tagged in timm.list_pretrained(f"{name[3:].split('.')[0]}.*")
            ]
            problems.append(f"encoder: no tag '{name}'; take from {', '.join(tags)}")
    elif name not in native:
        near = did_you_mean(name, [*native, *(f"tu-{known}" for known in timm.list_models())])
        problems.append(
            f"encoder: unknown '{name}'{near}; take an encoder of segmentation-models-pytorch, "
            "or tu- and a timm name"
        )
    elif candidate.encoder_args:
        problems.append("encoder_args: only encoders that begin with tu- take any")
    if model.in_channels == 1 and not candidate.from_scratch:
        problems.append(
            f"weights: '{candidate.weights}' are for three channels; set none, or "
            "model.in_channels: 3, which shows grey images as three equal channels"
        )
    if candidate.weights_sha256 is not None:
        try:
            check_file(Path(candidate.weights), candidate.weights_sha256)
        except InputError as problem:
            problems.append(f"weights: {problem}")
    return problems
