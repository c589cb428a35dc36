"""params.yaml, typed: every choice of a comparison, and the only place where one is made.

No field has a default: params.yaml is the only source of values. `auto` values are resolved where
they are used and recorded with the run.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
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
from segbench.params.datasets import Dataset
from segbench.params.section import Section, Share, did_you_mean
from segbench.params.train import Checkpointing, Hardware, Train

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Multiple32 = Annotated[int, Field(ge=64, multiple_of=32)]


class Split(Section):
    """How samples are divided, and what is taken for a leak."""

    by: Literal["group", "random", "predefined"]
    """Whole groups, single images whatever their group, or as the dataset's publishers did."""
    stratify: bool
    """Give every split its share of each stratum too."""
    num_folds: PositiveInt
    """1: a single split. K: cross-validation, each sample is tested in one of K folds; name those
    to be run in `comparison.folds`."""
    val_share: Share
    test_share: Share | None
    """null where it follows: with folds (1 / num_folds) and predefined."""
    seed: NonNegativeInt
    sticky: bool
    """Leave samples that were split before where they are, and only place new ones."""
    on_leak: Literal["error", "warn"]
    """What a group, a duplicate or a near duplicate on both sides of a split does."""
    near_duplicate: Annotated[float, Field(gt=0.5, lt=1)]
    """Correlation of two thumbnails from which they show the same."""
    join_alike: bool
    """Make one group of samples that show the same: equal, nearly equal, annotated copies."""

    @model_validator(mode="after")
    def _agree_on_the_test_share(self) -> Self:
        if self.by == "predefined" and self.num_folds > 1:
            raise ValueError("by: predefined has one fold; set num_folds: 1")
        if self.join_alike and self.by != "group":
            raise ValueError(f"join_alike makes groups, which by: {self.by} tears; set it false")
        if self.sticky and self.by == "predefined":
            raise ValueError("sticky keeps what was drawn, by: predefined draws nothing; set false")
        follows = self.by == "predefined" or self.num_folds > 1
        if follows != (self.test_share is None):
            need = "null, since it follows" if follows else "a share, such as 0.1"
            raise ValueError(
                f"test_share must be {need} (by: {self.by}, num_folds: {self.num_folds})"
            )
        test = self.test_share or (0 if self.by == "predefined" else 1 / self.num_folds)
        if self.val_share + test >= 1:
            raise ValueError(
                f"val_share {self.val_share:g} and a test share of {test:g} leave nothing to train "
                "on; they must stay below 1 together, lower one of them"
            )
        return self


class Transform(BaseModel):
    """One albumentations transform by name; all further keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    transform: str


class Patches(Section):
    """Windows that images are cut into after the split, before they are resized."""

    height: PositiveInt
    width: PositiveInt
    overlap: NonNegativeInt
    """Pixels that neighbouring windows share at least; windows are spread evenly, so that they
    cover the image."""

    @model_validator(mode="after")
    def _overlap_less_than_all(self) -> Self:
        if self.overlap >= min(self.height, self.width):
            raise ValueError("overlap must stay below height and width; lower it")
        return self


class Augment(Section):
    """The size the networks see, and how training images are varied."""

    height: Multiple32
    width: Multiple32
    patches: Patches | None
    """null: whole images."""
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
    """A published U-Net (cvc-mobilenetv2, pet-mobilenetv2, isbi-unet, flood-vgg19, hgr1-resnet50)
    or an architecture of segmentation-models-pytorch (unet, unetplusplus, fpn, ...)."""
    architecture_args: dict[str, Any]
    """Further arguments of that architecture, such as decoder_channels or dropout."""
    in_channels: Literal[1, 3]
    """1: the network sees grey images as one channel, which pretrained weights do not know.
    3: as three equal ones."""


class Candidate(Section):
    """One contender: an encoder with its weights."""

    encoder: str
    """Encoder of segmentation-models-pytorch by name, or `tu-` and a timm name; with a published
    U-Net also `unet`, the contracting path of 2015."""
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


class Choose(Section):
    """What is tried on validation, to make better masks of the same network; what is best there
    is scored on test beside the plain masks."""

    threshold: bool
    """All of 256 thresholds, for datasets of one foreground class."""
    min_sizes: list[PositiveInt]
    """Components of fewer pixels (at the network's size) become background: sizes to try."""
    largest: bool
    """Keep the largest component of each class alone."""
    flips: bool
    """The other of `evaluate.flips`; if it is chosen, the exported model has it."""


class Evaluate(Section):
    """How a finished model is scored."""

    threshold: Probability
    """Probability from which a pixel is foreground, for datasets of one foreground class."""
    batch_size: PositiveInt
    flips: bool
    """Average the logits of an image and its three mirror images, in the exported model too."""
    choose: Choose
    tolerance: Annotated[float, Field(ge=0)]
    """Pixels that outlines may lie apart, for the surface dice."""
    extra_metrics: list[Literal["calibration", "pranet", "v_rand"]]
    """What is scored besides: expected calibration error; mean over thresholds as PraNet has it;
    the Rand score of ISBI 2012."""
    num_triptychs: NonNegativeInt
    """Test images, evenly picked, that are drawn with truth and prediction, a file each."""


def _check_once(name: str, values: list[Any]) -> None:
    """Raise ValueError for a list that names something twice."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{name} name {twice} more than once; remove the repetition")


class Tuning(Section):
    """Learning rates that every run tries before it is trained, so that each candidate has its own.

    The rate with the best validation dice per image is kept; the test set is not seen.
    """

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=2)]
    """In place of `train.optimizer.learning_rate`."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Of `train.num_epochs`, rounded, at least one: how long a trial is."""

    @model_validator(mode="after")
    def _try_each_rate_once(self) -> Self:
        _check_once("learning_rates", self.learning_rates)
        return self


class Comparison(Section):
    """Who is compared, and over which repetitions."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    """What the report and MLflow call it."""
    candidates: Annotated[list[Alias], Field(min_length=1)]
    folds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    """[0], or folds of split.num_folds."""
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    tuning: Tuning | None
    """null: all are trained at the one rate of `train`."""
    metric: Literal[
        "dice", "iou", "precision", "recall", "accuracy", "boundary_iou", "surface_dice"
    ]
    """What ranks: its mean over images on validation; the test set confirms or refutes."""
    confidence: Share
    num_resamples: PositiveInt
    require: list[str]
    """What must hold of the outcome, or the stage fails, after the report is written; such as
    `dice_per_image >= 0.9` or `p < 0.05 or parameters < runner_up_parameters`; see gates.py."""

    @model_validator(mode="after")
    def _name_everything_once(self) -> Self:
        for axis in ("candidates", "folds", "seeds"):
            _check_once(axis, getattr(self, axis))
        return self

    @model_validator(mode="after")
    def _require_what_can_be_read(self) -> Self:
        for text in self.require:
            try:
                ast.parse(text, mode="eval")
            except SyntaxError:
                raise ValueError(
                    f"require: '{text}' is no expression; write it like 'dice_per_image >= 0.9'"
                ) from None
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
    hardware: Hardware
    checkpoints: Checkpointing
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

    @model_validator(mode="after")
    def _fold_what_is_split(self) -> Self:
        beyond = [fold for fold in self.comparison.folds if fold >= self.split.num_folds]
        if beyond:
            raise ValueError(
                f"comparison.folds: {beyond} beyond the folds 0 to {self.split.num_folds - 1}; "
                "raise split.num_folds or take them off the list"
            )
        return self


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
    known = sorted({name for kind in _sections(Section) for name in kind.model_fields})
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


def _sections(kind: type[Section]) -> Iterator[type[Section]]:
    for narrower in kind.__subclasses__():
        yield narrower
        yield from _sections(narrower)


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
