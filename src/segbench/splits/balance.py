"""What each split holds: images of each class, and colours that are like those trained on."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import DatasetInfo
from segbench.splits.assign import SPLITS

MOST_CLASSES = 12
"""Classes that a line lists, the rarest first; the audit page has all."""

COLOURS = ("red", "green", "blue")

# From here on the colours of two splits differ by more than chance: in grey levels, in deviations
# of the groups' means, and in standard errors of the difference.
LEAST_LEVELS, LEAST_DEVIATIONS, LEAST_ERRORS = 10.0, 0.8, 4.0

Holdings = dict[int, dict[str, dict[str, int]]]
"""Images that hold each scored class, by fold, split and class."""


def read_class_pixels(measures: pd.DataFrame) -> NDArray[np.int64]:
    """(N, K): pixels of each class in each sample's mask, by measures.csv."""
    return np.array([row.split() for row in measures["class_pixels"]], np.int64)


def holdings_of(table: pd.DataFrame, measures: pd.DataFrame, info: DatasetInfo) -> Holdings:
    """Count the images of each fold and split that hold each class that is scored.

    Args:
        table: a row for each sample and fold.
        measures: of the samples.
        info: of the dataset.
    """
    pixels = read_class_pixels(measures)[:, list(info.scheme.scored)]
    holds = pd.DataFrame(pixels > 0, measures["id"], list(info.scored))
    found: Holdings = {}
    for fold, rows in table.groupby("fold"):
        found[int(str(fold))] = {
            name: {
                str(of): int(count)
                for of, count in holds.loc[rows["id"][rows["split"] == name]].sum().items()
            }
            for name in SPLITS
        }
    return found


def without_objects(holdings: Holdings) -> str:
    """The first split that holds no foreground at all, in words; empty if all hold some."""
    what = {"train": "nothing can be learnt from it", "val": "nothing can be chosen on it"}
    for fold, parts in holdings.items():
        for name, counts in parts.items():
            if not any(counts.values()):
                why = what.get(name, "nothing can be scored on it")
                return f"no image of {name}{_of_fold(fold, holdings)} holds any object, so {why}"
    return ""


def absent_classes(holdings: Holdings) -> list[str]:
    """A sentence for each split of each fold that lacks some of the classes."""
    what = {"train": "no network can learn it"}
    said = []
    for fold, parts in holdings.items():
        for name, counts in parts.items():
            absent = [of for of, count in counts.items() if not count]
            if absent and any(counts.values()):
                why = what.get(name, "it has no score there, and is left out of means over classes")
                said.append(
                    f"no image of {name}{_of_fold(fold, holdings)} holds the class "
                    f"{' or '.join(absent)}: {why}; balance it by dataset.stratum, change the "
                    "shares, or take another split.seed"
                )
    return said


def describe_classes(holdings: Holdings) -> list[str]:
    """A line for each fold: how many images of each split hold each class; none for one class."""
    lines = []
    for fold, parts in holdings.items():
        names = sorted(parts["train"], key=lambda of: sum(parts[name][of] for name in SPLITS))
        if len(names) < 2:
            continue
        told = [
            f"{of} {' / '.join(str(parts[name][of]) for name in SPLITS)}"
            for of in names[:MOST_CLASSES]
        ]
        more = len(names) - len(told)
        lines.append(
            f"images with each class in {' / '.join(SPLITS)}{_of_fold(fold, holdings)}: "
            f"{', '.join(told)}{f' and {more} more' if more else ''}"
        )
    return lines


def other_colours(table: pd.DataFrame, measures: pd.DataFrame) -> list[str]:
    """A sentence for val and test if their colours are not those of train.

    Means of groups are compared, since images of one group are alike.

    Args:
        table: a row for each sample and fold.
        measures: of the samples.
    """
    colours = measures.set_index("id")[list(COLOURS)]
    far: dict[str, tuple[float, str]] = {}
    for _, rows in table.groupby("fold"):
        means = colours.loc[rows["id"]].groupby([rows["split"].values, rows["group"].values]).mean()
        trained = means.loc["train"]
        for name in SPLITS[1:]:
            for colour in COLOURS:
                ours, theirs = (part[colour].to_numpy() for part in (trained, means.loc[name]))
                gap = _gap(ours, theirs)
                if gap > far.get(name, (0.0, ""))[0]:
                    far[name] = (
                        gap,
                        f"mean {colour} {theirs.mean():.0f}, {ours.mean():.0f} in train",
                    )
    return [
        f"{name} holds images of other colours than train ({found}, of 255): its scores say little "
        "of images like those trained on; if that is not meant, draw the split anew (split.by: "
        "group) and balance what differs, such as site or camera, by dataset.stratum"
        for name, (_, found) in far.items()
    ]


def _gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Difference of two means in standard errors; 0 where it may be chance."""
    sizes = np.array([len(ours), len(theirs)])
    if sizes.sum() < 4:
        return 0.0
    squares = sum(((part - part.mean()) ** 2).sum() for part in (ours, theirs))
    deviation = max(1.0, float(np.sqrt(squares / (sizes.sum() - 2))))
    gap = abs(float(ours.mean() - theirs.mean()))
    errors = gap / (deviation * float(np.sqrt((1 / sizes).sum())))
    differs = gap >= max(LEAST_LEVELS, LEAST_DEVIATIONS * deviation) and errors >= LEAST_ERRORS
    return errors if differs else 0.0


def _of_fold(fold: int, holdings: Mapping[int, object]) -> str:
    return f" of fold {fold}" if len(holdings) > 1 else ""
