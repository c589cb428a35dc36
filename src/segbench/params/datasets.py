"""The section `dataset`: the settings of each dataset in the catalogue."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    Tag,
    model_validator,
)

from segbench.labels import LabelScheme
from segbench.params.section import Section, did_you_mean, modules_of

Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[str, StringConstraints(to_lower=True, pattern=r"^#[0-9a-fA-F]{6}$")]
Range = tuple[float, float]
ValueRange = Annotated[
    Annotated[Range, Tag("of all")] | Annotated[list[Range], Tag("of each")],
    Discriminator(
        lambda value: (
            "of each"
            if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
            else "of all"
        )
    ),
]
"""The values that become 0 and 255: of all bands, or of each."""
Checksum = Annotated[str, StringConstraints(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]


MOST_SHOWN = 40
"""Characters of a wrong value that a message shows."""
REPLACED = {"flood-area": "recipes/flood-vgg19.yaml", "hgr1": "recipes/hgr1-resnet50.yaml"}
"""Datasets removed from the catalogue, and the recipe that shows how to read their files now."""


def _as_spacing(value: Any) -> Any:
    """Raise ValueError unless a value is null, two distances, or a section that names a table."""
    if (
        value is None
        or isinstance(value, dict | Section)
        or (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(type(one) in (int, float) and 0 < one < math.inf for one in value)
        )
    ):
        return value
    shown = str(value)
    raise ValueError(
        f"{shown if len(shown) <= MOST_SHOWN else f'{shown[:MOST_SHOWN]}...'} is no distance from "
        "pixel to pixel; write [row, column] in mm, as in [0.5, 0.5], {table, id, columns} to take "
        "each image's own from a table, or null to measure in pixels"
    )


def catalogue() -> list[str]:
    """Names of all datasets: the modules of `datasets/sources`."""
    return [name.replace("_", "-") for name in modules_of("datasets/sources")]


def _kind_of(kinds: dict[str, str]) -> Callable[[Any], str | None]:
    """What tells sections of a union apart: the key that only one of them has."""

    def kind(value: Any) -> str | None:
        return next((tag for key, tag in kinds.items() if _has(value, key)), None)

    return kind


def _has(value: Any, key: str) -> bool:
    return key in value if isinstance(value, dict) else hasattr(value, key)


class SyntheticPolyps(Section):
    """The generated default dataset."""

    name: Literal["synthetic-polyps"]
    seed: NonNegativeInt
    num_sequences: PositiveInt
    frames_per_sequence: PositiveInt
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    contrast: PositiveFloat
    """How much blobs differ from the wall: 1 is hard, 2 is learnt in a few epochs."""

    @property
    def scheme(self) -> LabelScheme:
        """Of its classes."""
        return LabelScheme(2, 0)


class Limits(Section):
    """What counts as an error in external files."""

    megapixels: PositiveFloat
    """Maximum size of an image; larger ones are refused before they are decoded."""
    unpacked_gib: PositiveFloat
    """Maximum total size of a dataset's archives when unpacked."""
    size_difference: NonNegativeInt
    """Maximum difference in pixels between the width or height of a mask and its image; such masks
    are resized by nearest neighbour, and counted. 0: sizes must agree."""
    on_bad_pair: Literal["error", "skip"]
    """Stop at an unusable pair, or leave it out and list it in the audit."""


class Published(Section):
    """A published dataset, fetched from its official address or read from a local copy."""

    name: str
    source: str | None
    """A local folder or archive; null: fetch it."""
    watch: bool
    """Notice at each `segbench repro` which files of `source` were changed, added or removed, by
    their sizes and times, and read them anew. false: for so many files that listing them takes too
    long."""
    checksums: dict[str, Checksum]
    """Of archives for which the catalogue has none, by name: `{images.zip: "sha256:..."}`."""
    limits: Limits

    @property
    def scheme(self) -> LabelScheme | None:
        """Of its classes; None: known once the dataset is read."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _is_in_the_catalogue(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        name, known = str(value.get("name")), catalogue()
        if name in REPLACED:
            raise ValueError(
                f"'{name}' is now read by name: folder; take its section from {REPLACED[name]}"
            )
        if name not in known:
            raise ValueError(
                f"no dataset '{name}'{did_you_mean(name, known)}; set name to one of "
                f"{', '.join(known)}"
            )
        return value


class OxfordIIITPet(Published):
    """Oxford-IIIT Pet, trimaps."""

    name: Literal["oxford-iiit-pet"]
    task: Literal["trimap", "binary"]
    """Three classes (background, pet, border), or the pet against the rest."""
    border: Literal["ignored", "pet", "background"] | None
    """What the border counts as in the binary task; null for trimaps."""

    @property
    def scheme(self) -> LabelScheme:
        """Of its classes."""
        return LabelScheme(3 if self.task == "trimap" else 2, 0)

    @model_validator(mode="after")
    def _border_belongs_to_binary(self) -> Self:
        if (self.task == "binary") != (self.border is not None):
            need = "null" if self.task == "trimap" else "ignored, pet or background"
            raise ValueError(f"border must be {need} for task '{self.task}'; set it so")
        return self


class Isbi2012(Published):
    """ISBI 2012, neuronal structures in EM stacks."""

    name: Literal["isbi-2012"]
    slices_per_block: PositiveInt
    """Consecutive slices that a split keeps together."""


class MaskThreshold(Section):
    """Binary masks: grey values from `threshold` up are class 1, or class 0 if inverted."""

    threshold: Annotated[int, Field(ge=1, le=255)]
    invert: bool


class MaskAlpha(Section):
    """Binary masks in the alpha channel of their files, from `alpha` up class 1; where images and
    masks are one pattern, in that of the images."""

    alpha: Annotated[int, Field(ge=1, le=255)]
    invert: bool


class MaskValues(Section):
    """Masks whose grey values (or palette indices) stand for class ids; 255 as a class id marks
    ignored pixels."""

    values: dict[Byte, Byte]


class MaskColours(Section):
    """Masks whose colours, `"#rrggbb"`, stand for class ids; 255 marks ignored pixels."""

    colours: dict[Colour, Byte]


class InstanceTable(Section):
    """Classes of instances, from a CSV file with a row for each."""

    model_config = ConfigDict(serialize_by_alias=True)

    table: str
    """Path relative to `source`, or absolute."""
    id: str
    """Column of the image's id."""
    instance: str
    """Column of the instance: its number, or its colour as `#rrggbb`."""
    class_: Annotated[str, Field(alias="class")]
    """Column of its class: a name of `classes` or its id; 255 marks ignored pixels."""


class MaskInstances(Section):
    """Masks whose values, of up to 32 bits, or colours stand for objects; 0 and black are the
    background. `any`: all of them are of class 1."""

    instances: Annotated[
        Annotated[Literal["any"], Tag("any")] | Annotated[InstanceTable, Tag("by table")],
        Discriminator(
            lambda value: "any" if value == "any" else "by table" if _has(value, "table") else None,
            custom_error_type="instances",
            custom_error_message="must be any, or a table with id, instance and class, as in "
            "{table: objects.csv, id: image, instance: label, class: category}",
        ),
    ]


class IgnoreMask(Section):
    """A second mask file of each image, which says where its pixels count: the field of view."""

    pattern: str
    """Below `source`, with the same names in braces as `images`."""
    invert: bool
    """False: pixels count where the file is white; true: where it is black."""


class FromName(Section):
    """A label found in the id: the first parenthesis of a regular expression."""

    pattern: str


class FromTable(Section):
    """A label from a CSV file: the `column` of the row whose `id` column holds the sample's id."""

    table: str
    """Path relative to `source`, or absolute."""
    id: str
    column: str


class SpacingTable(Section):
    """Each image's own spacing in millimetres, from a CSV file: the `columns` of the row whose `id`
    column holds the sample's id."""

    table: str
    """Path relative to `source`, or absolute."""
    id: str
    columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    """Of the distance to the pixel below and of that to the one beside it; one where both are the
    same."""


Mask = Annotated[
    Annotated[MaskThreshold, Tag("by threshold")]
    | Annotated[MaskAlpha, Tag("by alpha")]
    | Annotated[MaskValues, Tag("by values")]
    | Annotated[MaskColours, Tag("by colours")]
    | Annotated[MaskInstances, Tag("by instances")],
    Discriminator(
        _kind_of(
            {key: f"by {key}" for key in ("threshold", "alpha", "values", "colours", "instances")}
        ),
        custom_error_type="mask",
        custom_error_message="needs threshold, alpha, values, colours or instances, as in "
        "{threshold: 128, invert: false}",
    ),
]
Label = Annotated[
    Annotated[FromName, Tag("by pattern")] | Annotated[FromTable, Tag("by table")],
    Discriminator(
        _kind_of({"pattern": "by pattern", "table": "by table"}),
        custom_error_type="label",
        custom_error_message="needs a pattern for the id, or table, id and column",
    ),
]


def marks_objects(masks: str) -> bool:
    """Whether files that such a pattern finds mark objects alone: the rest is of class 0."""
    return "{class}" in masks or "{part}" in masks


class Folder(Section):
    """The user's own images and masks."""

    name: Literal["folder"]
    title: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
    """The dataset's name in the report and in MLflow."""
    source: str
    """A folder or an archive."""
    watch: bool
    """Notice at each `segbench repro` which files of `source` were changed, added or removed, by
    their sizes and times, and read them anew. false: for so many files that listing them takes too
    long."""
    images: str
    """Pattern below `source`, with `*`, `**` and one `{id}`: `images/{id}.jpg`."""
    masks: str
    """Likewise, with the same names in braces; beside them `{class}` for one of the classes, which
    is the foreground of that file, and `{part}` for several masks of one image."""
    classes: Annotated[list[str], Field(min_length=2, max_length=255)]
    """Names by class id."""
    background: NonNegativeInt | None
    """The id of the class that is no object: it has no score, is no foreground, and small
    components that are removed become it. null: there is none, every class counts. Without this key
    it is 0 of two classes, and where files mark objects alone ({class}, {part}, instances)."""
    mask: Mask
    ignore: Annotated[
        IgnoreMask | None,
        BeforeValidator(
            lambda value: {"pattern": value, "invert": False} if isinstance(value, str) else value
        ),
    ]
    """Files whose black pixels are ignored: a pattern, or {pattern: ..., invert: true} for files
    that are white there. null: none."""
    group: Label | None
    """What a split keeps together (patient, video, tile). null: every image is its own group."""
    stratum: Label | None
    """What a split balances (site, camera, diagnosis). null: only the number of images."""
    split: Label | None
    """For `split.by: predefined`: train, val or test of each image; also training, valid,
    validation, dev and testing, in any case."""
    exif: Literal["turn", "ignore"]
    """Turn images and masks upright as the EXIF of each says, or take them as they are stored: for
    masks that were drawn on stored pixels."""
    bands: Annotated[list[PositiveInt], Field(min_length=1, max_length=16)] | None
    """Bands of the images by their numbers in the file, from 1, in the order in which the network
    sees them. null: all of a grey or RGB image."""
    value_range: ValueRange | None
    """Values of images of more than 8 bits that are mapped to 0 and 255; values outside it become
    0 or 255 and are counted. With `bands` also a list, a range for each. null: 8-bit images
    only."""
    spacing: Annotated[SpacingTable | tuple[float, float] | None, BeforeValidator(_as_spacing)]
    """Millimetres from a pixel to the one below it, and to the one beside it, at an image's own
    size: in all images, or each image's own from a table, {table: ..., id: ..., columns: [...]}.
    Distances at that size, and `evaluate.tolerance` there, are then in mm. null:
    they are in pixels."""
    foreground: tuple[float, float] | None
    """Plausible range of the foreground's share of all pixels; outside it, the audit suspects
    inverted masks. null: 0 to 0.5 of one class against the background, else any."""
    licence: str
    redistributable: bool
    """Whether its images may be redistributed, hence embedded in a report that is kept in git."""
    citation: str
    """Reference shown in the report; empty: none."""
    published: NonNegativeInt
    """Number of published samples, so that missing ones are noticed. 0: unknown."""
    limits: Limits

    @property
    def scheme(self) -> LabelScheme:
        """Of its classes."""
        return LabelScheme(len(self.classes), self.background)

    @property
    def num_bands(self) -> int | None:
        """Channels of images that are neither grey nor RGB; None for these."""
        return len(self.bands) if self.bands and len(self.bands) not in (1, 3) else None

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        twice = [name for name in self.classes if self.classes.count(name) > 1]
        if twice:
            raise ValueError(f"classes: '{twice[0]}' stands there more than once; rename one")
        return self

    @model_validator(mode="before")
    @classmethod
    def _say_what_is_background(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "background" in value:
            return value
        classes, mask = value.get("classes"), value.get("mask")
        # Where files mark objects alone, the rest is class 0 and nothing else.
        marked = _has(mask, "instances") or marks_objects(str(value.get("masks")))
        if isinstance(classes, list) and len(classes) > 2 and not marked:
            raise ValueError(
                f"background: missing, and there are {len(classes)} classes; set the id of the one "
                f"that has no score (0 for '{classes[0]}'), or null if every class counts"
            )
        return value | {"background": 0}

    @model_validator(mode="after")
    def _have_the_background_that_is_said(self) -> Self:
        number, background = len(self.classes), self.background
        if background is not None and background >= number:
            raise ValueError(
                f"background: {background} is none of the class ids 0 to {number - 1}; set one of "
                "them, or null if every class counts"
            )
        if number == 2 and background == 1:
            raise ValueError(
                "background: of two classes it is 0; list it first in classes, swap the ids in "
                "mask (or set invert), and set 0"
            )
        objects = isinstance(self.mask, MaskInstances) or marks_objects(self.masks)
        if objects and background != 0:
            raise ValueError(
                f"background: {'null' if background is None else background}, but what no file "
                "marks as an object becomes class 0; set 0"
            )
        if background is None and self.foreground:
            raise ValueError(
                f"foreground: {list(self.foreground)} is of all pixels where background is null; "
                "set foreground: null"
            )
        return self

    @model_validator(mode="after")
    def _files_name_a_class_once(self) -> Self:
        ids: set[int] = set()
        if isinstance(self.mask, MaskValues | MaskColours):
            table = self.mask.values if isinstance(self.mask, MaskValues) else self.mask.colours
            ids = set(table.values())
        if "{class}" in self.masks and getattr(self.mask, "instances", "any") != "any":
            raise ValueError(
                "masks: {class} says the class of all objects in a file, and mask.instances by a "
                "table that of each; set instances: any"
            )
        if "{class}" in self.masks and ids - {0, 1, 255}:
            raise ValueError(
                f"masks: {{class}} says which class a file's foreground is, but mask makes "
                f"{sorted(ids)} of its values; only 0, 1 (that class) and 255 may be among them"
            )
        return self

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        each = isinstance(self.value_range, list)
        ranges: list[Any] = list(self.value_range or ()) if each else [self.value_range]
        for one in filter(None, ranges):
            if one[0] >= one[1]:
                raise ValueError(f"value_range {list(one)} must rise; swap or mend it")
        if each and len(ranges) != len(self.bands or ()):
            raise ValueError(
                f"value_range: {len(ranges)} ranges for {len(self.bands or ())} bands; give one "
                "for each of bands, or one for all, as in [0, 4095]"
            )
        if self.bands and len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands: {self.bands} names one twice; name each once")
        if self.foreground and not 0 <= self.foreground[0] < self.foreground[1] <= 1:
            raise ValueError(f"foreground {list(self.foreground)} must rise within 0 and 1")
        return self


# Datasets with keys of their own, by name; any other of the catalogue is a `Published`.
_OWN_KEYS = ("synthetic-polyps", "oxford-iiit-pet", "isbi-2012", "folder")


def _tag(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if name in _OWN_KEYS else "published"


Dataset = Annotated[
    Annotated[SyntheticPolyps, Tag("synthetic-polyps")]
    | Annotated[OxfordIIITPet, Tag("oxford-iiit-pet")]
    | Annotated[Isbi2012, Tag("isbi-2012")]
    | Annotated[Folder, Tag("folder")]
    | Annotated[Published, Tag("published")],
    Discriminator(_tag),
]
