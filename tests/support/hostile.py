"""Files as somebody would prepare them who wants to run something on another's machine."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segbench.exports.program import export_network

Parts = dict[str, bytes]


class Payload:
    """Unpickling it makes an empty file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


def pickled(canary: Path) -> bytes:
    """As `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save((Payload(canary),), buffer)
    return buffer.getvalue()


def code(canary: Path) -> str:
    """An expression of Python that makes an empty file."""
    return f"__import__('pathlib').Path('{canary}').touch()"


class Small(nn.Module):
    """A network that is exported in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        self.register_buffer("mean", torch.ones(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.conv(images - self.mean).relu()
        return logits


def small_program(folder: Path) -> Parts:
    """The parts of an exported program, without their root folder."""
    path = folder / "small.pt2"
    export_network(Small(), 3, path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write_program(path: Path, parts: Parts, packing: int = zipfile.ZIP_STORED) -> Path:
    """An archive of parts, as torch reads it."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(f"model/{name}", content)
    return path


def edit(parts: Parts, name: str, change: Callable[[Any], None]) -> None:
    """Change a description among the parts."""
    tree = json.loads(parts[name])
    change(tree)
    parts[name] = json.dumps(tree).encode()


def dumped(canary: Path) -> bytes:
    """A bare pickle."""
    return pickle.dumps(Payload(canary), protocol=2)
