"""params.yaml, typed: every choice of a comparison, and the only place where one is made.

No field has a default: params.yaml is the only source of values. `auto` values are resolved where
they are used and recorded with the run.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import (
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from yaml import CBaseLoader, parse
from yaml import YAMLError as PyYamlError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from segbench.errors import InputError
from segbench.labels import class_keys
from segbench.params.augment import Augment
from segbench.params.compare import Alias, Comparison, weights_of
from segbench.params.datasets import Dataset, Folder
from segbench.params.evaluate import Evaluate
from segbench.params.hardware import Hardware
from segbench.params.metric_names import (
    MEANS_OF_CLASSES,
    OF_MASKS,
    OF_PROBABILITIES,
    POOLED,
    WEIGHABLE,
    WEIGHTED,
    MetricName,
    names_said,
    parts_of,
)
from segbench.params.model import Candidate, Model
from segbench.params.report import Report, Tracking
from segbench.params.section import Section, did_you_mean
from segbench.params.split import Split
from segbench.params.train import LOSSES, Checkpointing, Train

MOST_CHARACTERS, MOST_VALUES, DEEPEST, MOST_DIGITS = 10**6, 50_000, 50, 300
"""Of params.yaml. A comparison of a hundred candidates has a thousand values."""
LONG_NUMBER = re.compile(rf"[0-9a-fA-F_]{{{MOST_DIGITS + 1},}}")

# Keys of former versions: what they are called now, or why they are gone.
RENAMED = {
    "split.join_alike": "split.merge_duplicates",
    "train.on_non_finite.rewinds": "train.on_non_finite.rollbacks",
}
REMOVED = {
    "train.on_out_of_memory": "a batch was split where memory ran out, which made candidates "
    "unequal; lower train.batch_size for all of them",
}


def former_key(path: str) -> str:
    """What became of a key of a former version, and what to do; empty for any other key."""
    if path in RENAMED:
        return f"is now {RENAMED[path]}; rename it"
    return f"is gone ({REMOVED[path]}); delete it" if path in REMOVED else ""


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
    def _end_learning_curves(self) -> Self:
        for alias in self.comparison.candidates:
            own = self.candidates[alias]
            if own.train_share == 1:
                continue
            where = f"comparison.candidates: '{alias}' (train_share: {own.train_share:g})"
            points = self._points_with(own)
            twice = [
                other
                for other in points
                if self.candidates[other].train_share == own.train_share and other != alias
            ]
            if twice:
                raise ValueError(
                    f"{where} is the same as '{twice[0]}'; a learning curve has each share once, "
                    "so take one of them off the list"
                )
            whole = [other for other in points if self.candidates[other].train_share == 1]
            if len(whole) != 1:
                raise ValueError(
                    f"{where} is a point of a learning curve, for which exactly one candidate that "
                    "equals it otherwise must have train_share: 1.0; "
                    + (
                        f"take all but one of {', '.join(whole)} off the list"
                        if whole
                        else f"add that one to the list, or take '{alias}' off it"
                    )
                )
        return self

    def _points_with(self, candidate: Candidate) -> list[str]:
        """Compared candidates that differ from one in nothing but their share, if in that."""
        return [
            alias
            for alias in self.comparison.candidates
            if self.candidates[alias].besides_share == candidate.besides_share
        ]

    @property
    def rivals(self) -> list[str]:
        """The candidates that compete: those that learn from all training groups."""
        listed = self.comparison.candidates
        return [alias for alias in listed if self.candidates[alias].train_share == 1]

    @property
    def learning_curves(self) -> dict[str, list[str]]:
        """The points of each rival's curve, smallest share first and itself last; of those that
        have one."""
        curves = {}
        for alias in self.rivals:
            points = self._points_with(self.candidates[alias])
            if any(self.candidates[point].train_share < 1 for point in points):
                curves[alias] = sorted(points, key=lambda one: self.candidates[one].train_share)
        return curves

    @model_validator(mode="after")
    def _lose_by_classes_that_are_there(self) -> Self:
        scheme = self.dataset.scheme
        if scheme is None:
            return self
        several = not scheme.is_binary
        for name in self.train.loss:
            if LOSSES[name] == ("one" if several else "several"):
                raise ValueError(
                    f"train.loss: {name} is for {LOSSES[name]} foreground class"
                    f"{'' if several else 'es'}, the dataset has {len(scheme.scored)}; "
                    f"use {'ce' if several else 'bce'}, or dice, jaccard, tversky, lovasz or focal"
                )
        return self

    @model_validator(mode="after")
    def _rank_by_what_is_reported(self) -> Self:
        metric, scheme = self.comparison.metric, self.dataset.scheme
        name = self.rank_name
        # What an optional metric adds is known once its module is imported.
        if not name.is_known and (name.ending or not self.evaluate.extra_metrics):
            known = [*OF_MASKS, *POOLED, *MEANS_OF_CLASSES.values(), *OF_PROBABILITIES]
            raise ValueError(
                f"comparison.metric: no metric '{metric}' is reported"
                f"{did_you_mean(name.stem, known)}; take from {names_said()}"
            )
        if name.needs_classes and (scheme is None or len(scheme.scored) < 2):
            raise ValueError(
                f"comparison.metric: {''.join(name)} needs several classes with a score, and the "
                "dataset has one; set dice or iou"
                + ", and class_weights: null"
                * bool(name.weighted)
            )
        if isinstance(self.dataset, Folder) and name.by_class:
            prefix = name.stem.removesuffix(name.by_class[1])
            keys = class_keys(tuple(self.dataset.classes))
            known = [keys[at] for at in scheme.scored] if scheme else []
            if name.by_class[1] not in known:
                raise ValueError(
                    f"comparison.metric: no class with a score is called '{name.by_class[1]}'"
                    f"{did_you_mean(name.by_class[1], known)}; take from "
                    f"{', '.join(prefix + key for key in known)}"
                )
        return self

    @model_validator(mode="after")
    def _weigh_classes_that_are_there(self) -> Self:
        weights, metric = self.comparison.class_weights, self.comparison.metric
        if weights is None:
            return self
        if parts_of(metric).stem not in WEIGHABLE:
            raise ValueError(
                f"comparison.class_weights: {metric} is no mean over the classes of an image; rank "
                f"by {', '.join(WEIGHABLE)}, or set class_weights: null"
            )
        scheme = self.dataset.scheme
        if isinstance(self.dataset, Folder) and scheme:
            keys = class_keys(tuple(self.dataset.classes))
            weights_of(weights, [keys[at] for at in scheme.scored])
        return self

    @property
    def rank_name(self) -> MetricName:
        """The metric that ranks, in its parts, as reports call it."""
        classes = self.dataset.classes if isinstance(self.dataset, Folder) else ()
        name = parts_of(self.comparison.metric, class_keys(tuple(classes)))
        if self.comparison.class_weights is not None and name.stem in WEIGHABLE:
            return name._replace(stem=f"{name.stem}{WEIGHTED}")
        return name

    @model_validator(mode="after")
    def _remove_into_a_background(self) -> Self:
        scheme, chosen = self.dataset.scheme, self.evaluate.choose
        removes = bool(chosen.min_sizes) or chosen.largest
        if scheme and scheme.background is None and removes:
            raise ValueError(
                "evaluate.choose: min_sizes and largest turn components into background, and "
                "dataset.background is null; set min_sizes: [] and largest: false"
            )
        return self

    @model_validator(mode="after")
    def _take_the_channels_that_are_there(self) -> Self:
        bands = self.dataset.num_bands if isinstance(self.dataset, Folder) else None
        channels = self.model.in_channels
        if bands and channels != bands:
            raise ValueError(
                f"model.in_channels: {channels}, but dataset.bands names {bands}; set {bands}"
            )
        if not bands and channels not in (1, 3):
            raise ValueError(
                f"model.in_channels: {channels} needs as many dataset.bands; set 3, or 1 for grey "
                "images"
            )
        return self

    @model_validator(mode="after")
    def _freeze_what_was_trained(self) -> Self:
        if self.train.freeze_encoder == "none":
            return self
        for alias in self.comparison.candidates:
            if self.candidates[alias].weights == "none":
                raise ValueError(
                    f"train.freeze_encoder: {self.train.freeze_encoder} would keep random weights "
                    f"in the encoder of {alias}, which has none that are pretrained; set "
                    f"freeze_encoder: none, name weights, or, if that is meant, "
                    f"candidates.{alias}.weights: random"
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
        text = path.read_text()
        _check_size(path, text)
        raw = YAML(typ="safe", pure=True).load(text)
    except InputError:
        raise
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
    except ValueError as error:  # of a date, or of a number
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: holds what cannot be read, {reason}; mend or quote it") from None
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else "has no sections"
        raise InputError(f"{path}: {what}; restore it from git, as by 'git checkout {path}'")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error, raw)))
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        raise InputError(f"{path}: {count}{'; '.join(problems)}") from None


def _check_size(path: Path, text: str) -> None:
    """Raise InputError for what would take long to read, as an alias of aliases of aliases does."""
    try:
        values, depth = _measure(text) if len(text) <= MOST_CHARACTERS else (0, 0)
    except PyYamlError:
        return  # for the other parser to word
    if digits := LONG_NUMBER.search(text):
        raise InputError(
            f"{path}: a number of {len(digits[0])} digits ({digits[0][:20]}...), the limit is "
            f"{MOST_DIGITS}; write a smaller one"
        )
    if len(text) > MOST_CHARACTERS or values > MOST_VALUES or depth > DEEPEST:
        raise InputError(
            f"{path}: more than {MOST_CHARACTERS} characters, {MOST_VALUES} values (each time that "
            f"an alias repeats them) or {DEEPEST} levels; write less into it"
        )


def _measure(text: str) -> tuple[int, int]:
    """How many values a YAML text has, with those that aliases repeat, and how deep they are.

    Of each, it may be less where that is over its limit.
    """
    known: dict[str, tuple[int, int]] = {}
    inner: list[tuple[str, int, int]] = [("", 0, 0)]  # anchor, values and depth of what is open
    for event in parse(text, CBaseLoader):
        found = (1, 1)
        if isinstance(event, CollectionStartEvent):
            inner.append((event.anchor or "", 1, 0))
            # An alias of what it is in has no end.
            known[event.anchor or ""] = (MOST_VALUES + 1, 0)
            if len(inner) > DEEPEST + 1:
                return 0, DEEPEST + 1
            continue
        if isinstance(event, CollectionEndEvent):
            anchor, values, depth = inner.pop()
            found = known[anchor] = (values, depth + 1)
        elif isinstance(event, AliasEvent):
            found = known.get(event.anchor or "", found)
        elif isinstance(event, ScalarEvent):
            known[event.anchor or ""] = found
        else:
            continue
        anchor, values, depth = inner[-1]
        inner[-1] = (anchor, values + found[0], max(depth, found[1]))
    return inner[0][1:]


def _problems(error: ValidationError, raw: Any) -> Iterator[str]:
    """One text a problem, with the path of its key."""
    known = sorted({name for kind in _sections(Section) for name in kind.model_fields})
    found = [
        (_key_path(problem["loc"], raw, missing=problem["type"] == "missing"), problem)
        for problem in error.errors()
    ]
    unknown = {path for path, problem in found if problem["type"] == "extra_forbidden"}
    # A key under its former name is one problem, not a second one of the name that is missing.
    renamed = {RENAMED[path] for path in unknown if path in RENAMED}
    for path, problem in found:
        where = f"{path}: " if path else ""
        if problem["type"] == "missing" and path in renamed:
            continue
        if path in unknown and (fate := former_key(path)):
            yield f"{where}{fate}"
        elif problem["type"] == "extra_forbidden":
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
