"""What a delivered model says of itself: all that a stranger needs to call it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from segbench.datasets.canonical import DatasetInfo
from segbench.errors import InputError
from segbench.exports.masks import MaskRule
from segbench.labels import IGNORE, LabelScheme
from segbench.params.augment import Multiple32, Patches
from segbench.params.datasets import marks_objects

KEY = "segbench"
"""Of the description among the metadata of an ONNX file, and of OpenVINO's `model_info`."""

PREFIX = "dataset."
"""Of the params of a dataset in a record."""
PALETTE = "palette"
Facts = Mapping[str, str]

Text = Annotated[str, StringConstraints(max_length=2000)]
Fact = Annotated[str, StringConstraints(max_length=10_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Description(BaseModel):
    """What a delivered model is: as JSON, it is in the file itself.

    Keys that are not listed here, which a later version may write, are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal[1]
    name: Name
    """Of the run."""
    candidate: Name
    fold: NonNegativeInt
    seed: NonNegativeInt
    architecture: Name
    encoder: Name
    pretrained: Text
    """Where the encoder's weights came from, before training."""
    classes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=IGNORE, strict=False)]
    """By class id."""
    colours: Annotated[tuple[Colour, ...], Field(strict=False)]
    """By class id."""
    background: NonNegativeInt | None
    """Class id of what is no object; null: every class is one."""
    channels: Annotated[int, Field(ge=1, le=1024)]
    height: Multiple32
    """Pixels of what the network was trained on, to which images or windows are resized."""
    width: Multiple32
    patches: Patches | None
    """Windows that an image is cut into before each is resized; null: the whole image is."""
    num_outputs: PositiveInt
    """Channels of logits and probabilities."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    min_size: NonNegativeInt
    largest: bool
    flips: bool
    """Logits are averaged over an image and its three mirror images, inside the graph."""
    dataset: Name
    dataset_digest: Sha256
    split_digest: Sha256 | None
    """Of reports/split.csv; null: as evaluation writes it, which knows its own fold alone."""
    licence: Text
    citation: Text
    weights_sha256: Sha256
    run: Name
    scores: Annotated[dict[Name, Finite], Field(max_length=1000)]
    data: Annotated[dict[Name, Fact], Field(max_length=600)] = {}
    """How its images are read and its masks stored, see `data_facts`; empty: images of 8
    bits, and masks of class ids."""
    segbench: Name
    """The version that delivered it."""

    @model_validator(mode="after")
    def _fit_the_classes(self) -> Self:
        number = len(self.classes)
        if len(self.colours) != number:
            raise ValueError(f"{len(self.colours)} colours for {number} classes")
        if self.background is not None and self.background >= number:
            raise ValueError(f"background {self.background} of {number} classes")
        if self.num_outputs != self.scheme.num_outputs:
            raise ValueError(f"{self.num_outputs} outputs for {number} classes")
        return self

    @property
    def scheme(self) -> LabelScheme:
        """How many classes there are, and which is the background."""
        return LabelScheme(len(self.classes), self.background)

    @property
    def rule(self) -> MaskRule:
        """How probabilities become masks."""
        return MaskRule(self.threshold, self.min_size, self.largest, self.flips)

    def to_json(self) -> str:
        """As it stands in the file."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)


def data_facts(record: Facts, info: DatasetInfo) -> dict[str, str]:
    """What `formats.DataFormat.of` needs of a training, without any path.

    Args:
        record: the params of its record, see `tracking.records.flatten`.
        info: of its dataset.
    """
    wanted = ("name", "exif", "task", "border", "bands", "value_range", "background")
    sections = ("mask.", "limits.megapixels", "value_range")
    facts = {
        key: value
        for key, value in record.items()
        if (name := key.removeprefix(PREFIX)) != key
        and (name in wanted or name.startswith(sections))
        and not name.startswith("mask.instances.")
    }
    if f"{PREFIX}mask.instances.table" in record:
        facts[f"{PREFIX}mask.instances"] = "any"
    if marks_objects(record.get(f"{PREFIX}masks", "")):
        facts[f"{PREFIX}masks"] = "{id}_{class}"
    if info.palette:
        facts[PALETTE] = json.dumps(info.palette)
    return facts


def parse_description(text: str, path: Path) -> Description:
    """Read what `Description.to_json` wrote.

    Args:
        text: JSON.
        path: of the file that it was in, for messages.

    Raises:
        InputError: if it is no description, or of a format that is not known.
    """
    try:
        return Description.model_validate_json(text)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = " ".join(str(first["msg"]).split())[:200]
        raise InputError(
            f"{path}: its description is not one that this version of segbench reads: "
            f"{f'{where}: ' if where else ''}{said}; deliver the model anew"
        ) from None
