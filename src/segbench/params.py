"""params.yaml, typed: every choice of a comparison, and the only place where one is made.

No field has a default: params.yaml is the only source of values. `auto` values are resolved where
they are used and recorded with the run.
"""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from segbench.errors import InputError

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Multiple32 = Annotated[int, Field(ge=64, multiple_of=32)]


class Section(BaseModel):
    """A part of params.yaml: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SyntheticPolyps(Section):
    """The generated default dataset."""

    name: Literal["synthetic-polyps"]
    seed: NonNegativeInt
    num_sequences: PositiveInt
    frames_per_sequence: PositiveInt
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]


class CvcClinicDB(Section):
    """CVC-ClinicDB (CVC-612), from a local copy."""

    name: Literal["cvc-clinicdb"]
    source: str
    """Folder with `Original/` and `Ground Truth/`, absolute or relative to the repository."""


class MaskThreshold(Section):
    """Binary masks: grey values from `threshold` up are class 1."""

    threshold: Annotated[int, Field(ge=1, le=255)]


class MaskValues(Section):
    """Masks whose grey values stand for class ids; 255 as a class id marks ignored pixels."""

    values: dict[Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]]


class Folder(Section):
    """One's own images and masks."""

    name: Literal["folder"]
    title: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    """What the dataset is called in the report and in MLflow."""
    source: str
    images: str
    """Pattern below `source`, with `*`, `**` and one `{id}`: `images/{id}.jpg`."""
    masks: str
    classes: Annotated[list[str], Field(min_length=2, max_length=255)]
    """Names by class id, background first."""
    mask: MaskThreshold | MaskValues
    group: str | None
    """Regular expression searched in the id; its first parenthesis names what a split keeps
    together (patient, video, tile). null: every image stands alone."""
    licence: str
    redistributable: bool
    """May pictures of it be passed on, that is, be embedded in a report that enters git?"""


Dataset = Annotated[SyntheticPolyps | CvcClinicDB | Folder, Field(discriminator="name")]


class Split(Section):
    """How samples are divided."""

    seed: NonNegativeInt
    val_share: Share
    test_share: Share

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must stay below 1; lower one of them")
        return self


class Transform(BaseModel):
    """One albumentations transform by name; all further keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    transform: str


class Augment(Section):
    """The size the networks see, and how training images are varied."""

    height: Multiple32
    width: Multiple32
    copies: NonNegativeInt
    """Augmented copies of each training image that are stored beside it."""
    online: bool
    """Draw new variations of every training image in every epoch."""
    seed: NonNegativeInt
    transforms: list[Transform]
    preview_samples: PositiveInt


class Model(Section):
    """What all candidates share."""

    architecture: str
    """Architecture of segmentation-models-pytorch by name: unet, unetplusplus, fpn, ..."""
    architecture_args: dict[str, Any]
    """Further arguments of that architecture, such as decoder_channels."""


class Candidate(Section):
    """One contender: an encoder with its weights."""

    encoder: str
    """Encoder of segmentation-models-pytorch by name, or `tu-` and a timm name."""
    encoder_args: dict[str, Any]
    """Further arguments of a timm encoder, such as pad_type."""
    weights: str
    """`none` (from scratch), `imagenet` (from the hub), or a .safetensors / .pth file."""
    weights_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None
    """Of the weights file; null for `none` and `imagenet`."""
    input_scaling: Literal["imagenet", "symmetric", "unit", "pretrained"]
    """What the weights expect: ImageNet mean and std, [-1, 1], [0, 1], or what the encoder's
    library says of its pretrained weights."""

    @model_validator(mode="after")
    def _hash_for_files_only(self) -> Self:
        is_file = self.weights not in ("none", "imagenet")
        if is_file and not self.weights.endswith((".safetensors", ".pth")):
            raise ValueError(
                f"weights '{self.weights}' must be none, imagenet or a .safetensors / .pth file"
            )
        if is_file != (self.weights_sha256 is not None):
            need = "needs its weights_sha256 ('sha256sum FILE')" if is_file else "takes no sha256"
            raise ValueError(f"weights '{self.weights}' {need}; set weights_sha256 accordingly")
        return self


class Optimizer(Section):
    """Which optimiser, and its arguments."""

    name: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    args: dict[str, Any]
    """Further arguments of the torch optimiser, such as momentum."""


class Schedule(Section):
    """How the learning rate moves over the steps of a run."""

    name: Literal["constant", "cosine", "one_cycle", "plateau"]
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of all steps over which the rate rises from near zero (cosine, one_cycle)."""
    factor: Share
    """Plateau: what the rate is multiplied by."""
    patience: NonNegativeInt
    """Plateau: epochs without a better validation loss before the rate falls."""


class EarlyStopping(Section):
    """When a run ends before num_epochs."""

    patience: PositiveInt | None
    """Epochs without a better validation loss; null: never stop early."""
    min_delta: NonNegativeFloat


class Train(Section):
    """The recipe: the same for every candidate."""

    num_epochs: PositiveInt
    batch_size: PositiveInt
    loss: Annotated[dict[str, PositiveFloat], Field(min_length=1)]
    """Weight of each term by name: dice, tversky, lovasz, focal, and bce (one
    foreground class) or ce (several)."""
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    gradient_clip_norm: PositiveFloat | None
    keep: Literal["best", "last"]
    """Weights of the epoch with the best validation dice, or of the last epoch."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: PositiveInt | Literal["auto"]
    """CPU threads of torch; another number gives other bits."""
    deterministic: bool


class Evaluate(Section):
    """How a finished model is scored."""

    threshold: Probability
    """Probability from which a pixel is foreground, for datasets of one foreground class."""
    batch_size: PositiveInt


class Comparison(Section):
    """Who is compared, and over which repetitions."""

    candidates: Annotated[list[Alias], Field(min_length=1)]
    folds: Annotated[list[Literal[0]], Field(min_length=1)]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    metric: Literal["dice", "iou", "precision", "recall"]
    """What ranks: its mean over images on validation; the test set confirms or refutes."""
    confidence: Share
    num_resamples: PositiveInt

    @model_validator(mode="after")
    def _name_everything_once(self) -> Self:
        for axis in ("candidates", "folds", "seeds"):
            values = getattr(self, axis)
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{axis} name {twice} more than once; remove the repetition")
        return self


class Report(Section):
    """What the report shows."""

    pictures: Literal["auto", "embed", "link", "none"]
    """Sample predictions in the report, which enters git. auto: embed where the dataset may be
    passed on, else link to the local files."""
    num_samples: PositiveInt


class Tracking(Section):
    """How long a stage waits for MLflow."""

    max_wait_s: PositiveFloat
    """Seconds that MLflow may take to catch up once a stage has done its work."""


class Params(Section):
    """The whole of params.yaml."""

    dataset: Dataset
    split: Split
    augment: Augment
    model: Model
    train: Train
    evaluate: Evaluate
    candidates: dict[Alias, Candidate]
    comparison: Comparison
    report: Report
    tracking: Tracking

    @model_validator(mode="after")
    def _define_every_candidate(self) -> Self:
        for alias in self.comparison.candidates:
            if alias not in self.candidates:
                raise ValueError(
                    f"comparison.candidates: '{alias}' has no definition; "
                    f"add candidates.{alias} or take it off the list"
                    + did_you_mean(alias, self.candidates)
                )
        return self


def did_you_mean(name: str, known: Any) -> str:
    """' (did you mean a, b?)' with up to three near names, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(near)}?)" if near else ""


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    The file is read by the parser that DVC uses, so that both see the same values (to PyYAML,
    `1e-3` is a string).

    Raises:
        InputError: with everything that is wrong, each with its path, in one line.
    """
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise InputError(f"{path}{line}: not valid YAML, {problem}; fix that line") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: unreadable as YAML, {reason}; write it as UTF-8 text") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error, raw)))
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        raise InputError(f"{path}: {count}{'; '.join(problems)}") from None


def _problems(error: ValidationError, raw: Any) -> Iterator[str]:
    """One text a problem, with the path of its key."""
    known = sorted({name for kind in Section.__subclasses__() for name in kind.model_fields})
    for problem in error.errors():
        path = _key_path(problem["loc"], raw, missing=problem["type"] == "missing")
        where = f"{path}: " if path else ""
        if problem["type"] == "extra_forbidden":
            yield f"{where}unknown key{did_you_mean(path.split('.')[-1], known)}"
        elif problem["type"] == "value_error":
            yield f"{where}{problem['ctx']['error']}"
        else:
            got = problem["input"]
            value = f" (got {got!r})" if isinstance(got, str | int | float) else ""
            yield f"{where}{problem['msg'][0].lower()}{problem['msg'][1:]}{value}"


def _key_path(location: tuple[int | str, ...], raw: Any, missing: bool) -> str:
    """A pydantic location as the file has it, without the tags that stand for parts of a union."""
    path: list[str] = []
    here = raw
    for part in location:
        if part in here if isinstance(here, dict) else isinstance(part, int):
            path.append(str(part))
            here = here[part]  # type: ignore[index]
    if missing:
        path.append(str(location[-1]))
    return ".".join(path)


if __name__ == "__main__":
    # The check that `make repro` makes before anything runs.
    try:
        load_params(Path(sys.argv[1]))
    except InputError as mistake:
        sys.exit(f"error: {mistake}")
