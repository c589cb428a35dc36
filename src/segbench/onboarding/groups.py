"""What a split must keep together: guessed from names, checked against the likeness of images."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segbench.images import Pixels
from segbench.onboarding.names import tokens
from segbench.onboarding.section import in_flow

# Images that are compared: so many groups, so many of each.
MOST_GROUPS, MOST_OF_GROUP = 48, 4
# Of the chance that two images of a group are more alike than two of different groups; 0.5 says
# that groups mean nothing.
CONVINCING = 0.75
# And the difference of their correlations, of which small samples of noise have less.
LEAST_DIFFERENCE = 0.1
# Groups that are as large as this leave too few for three splits.
FEWEST_GROUPS, FEWEST_COARSE = 3, 6
# Share of the samples that must lie in a group of several.
LEAST_GROUPED = 0.3
NEIGHBOURS = 64
NAMED_AS_ONE = re.compile(
    "patient|subject|person|case|video|clip|seq|slide|volume|scan|series|stack", re.IGNORECASE
)
"""Names of groups that begin so are believed: a needless group costs little, a missing one makes
every score too good."""
Label = dict[str, str]
"""The key `dataset.group`."""
Candidate = tuple[Label, dict[str, list[str]]]
"""A label, and ids by the group that it gives them."""
Thumbnails = Callable[[Sequence[str]], dict[str, Pixels]]
"""Thumbnails (32, 32, 3) of images, by their ids; unreadable ones are missing."""


@dataclass
class Grouping:
    """What was found.

    Attributes:
        label: the key `dataset.group`, or None.
        seen: how many groups, how alike, in words.
        asked: a key and a question each.
        by_group: ids by group, where the label gives some.
    """

    label: Label | None
    seen: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    by_group: dict[str, list[str]] = field(default_factory=dict)


def guess_groups(
    ids: Sequence[str],
    candidates: Sequence[Candidate],
    thumbnails: Thumbnails,
) -> Grouping:
    """Choose what finds the group of an id.

    Args:
        ids: of all samples, in order.
        candidates: finest first.
        thumbnails: of some of them.
    """
    tried = []
    for label, by_group in candidates:
        chosen = _some_of(by_group)
        pixels = thumbnails([id for some in chosen.values() for id in some])
        tried.append(_Trial(label, by_group, _correlations(chosen, pixels)))
    convincing = [trial for trial in tried if trial.is_convincing]
    best = convincing[0] if convincing else None
    for coarser in convincing[1:]:
        if len(coarser.by_group) >= FEWEST_COARSE and best and _adds(coarser, best, thumbnails):
            best = coarser
    if best is None:
        found = _without_groups(ids, tried, thumbnails)
    else:
        found = Grouping(
            best.label,
            f"{len(best.by_group)} groups; images of one correlate by {best.within:.2f}, of "
            f"different ones by {best.across:.2f}",
            by_group=best.by_group,
        )
    return found


def _without_groups(
    ids: Sequence[str], tried: Sequence["_Trial"], thumbnails: Thumbnails
) -> Grouping:
    """No groups, and what a person should think of."""
    said = [trial for trial in tried if trial.is_named]
    if said:
        trial = min(said, key=lambda one: len(one.by_group))
        text = (
            f"{len(trial.by_group)} groups, such as {next(iter(trial.by_group))}, for their names; "
            f"images of one are hardly more alike ({trial.within:.2f}) than others "
            f"({trial.across:.2f}). null, if they have nothing in common"
        )
        seen = f"{len(trial.by_group)} groups"
        return Grouping(trial.label, seen, [("group", text)], trial.by_group)
    found = Grouping(None, "every image by itself")
    if tried:
        likely = max(tried, key=lambda trial: trial.chance)
        found.asked.append(
            (
                "group",
                f"do names tell what belongs together (patient, video)? {in_flow(likely.label)} "
                f"would make {len(likely.by_group)} groups, but images of one are hardly more "
                f"alike ({likely.within:.2f}) than others ({likely.across:.2f})",
            )
        )
        return found
    next_to_it = _neighbours(ids, thumbnails)
    if next_to_it.is_convincing:
        text = (
            f"images next to each other by name are alike ({next_to_it.within:.2f}, others "
            f"{next_to_it.across:.2f}): frames of videos, slices of volumes? name them, by a "
            "pattern or a table, or splits will leak"
        )
    else:
        text = "names tell no patient, video or place; if images share one, name it in a table"
    found.asked.append(("group", text))
    return found


@dataclass(frozen=True)
class _Trial:
    """A pattern, its groups, and how alike images are."""

    label: Label
    by_group: dict[str, list[str]]
    correlations: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def within(self) -> float:
        """Median correlation of images of one group."""
        return _median(self.correlations[0])

    @property
    def across(self) -> float:
        """Likewise of different groups."""
        return _median(self.correlations[1])

    @property
    def chance(self) -> float:
        """That two images of a group are more alike than two of different groups."""
        return _chance(*self.correlations)

    @property
    def is_named(self) -> bool:
        """Do all names of groups say that they are some?"""
        return all(NAMED_AS_ONE.match(name.rpartition("/")[2]) for name in self.by_group)

    @property
    def is_convincing(self) -> bool:
        """Do its groups mean something?"""
        return self.chance >= CONVINCING and self.within - self.across >= LEAST_DIFFERENCE


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _chance(more: NDArray[np.float64], less: NDArray[np.float64]) -> float:
    """That a number of the first is above one of the second."""
    if not len(more) or not len(less):
        return 0.0
    ranks = np.searchsorted(np.sort(less), more, side="left")
    return float(ranks.mean() / len(less))


def candidates_of(
    ids: Sequence[str], split_at: int | None, tables: Sequence[tuple[Label, dict[str, str]]]
) -> list[Candidate]:
    """What finds a group for every id, finest first, with the ids of each group.

    Args:
        ids: of all samples.
        split_at: which part of an id between `/` is the split; None: none.
        tables: labels by columns of CSV files, and what each gives to every id.
    """
    found: dict[tuple[str, ...], Candidate] = {}
    labels = [(label, [groups[id] for id in ids]) for label, groups in tables]
    for pattern in _patterns(ids, split_at):
        matches = list(map(re.compile(pattern).search, ids))
        names = [match[1] for match in matches if match and match[1]]
        if len(names) == len(ids):
            labels.append(({"pattern": pattern}, names))
    for label, names in labels:
        by_group: defaultdict[str, list[str]] = defaultdict(list)
        for name, id in zip(names, ids, strict=True):
            by_group[name].append(id)
        in_groups = sum(len(some) for some in by_group.values() if len(some) > 1)
        if len(by_group) >= FEWEST_GROUPS and in_groups >= LEAST_GROUPED * len(ids):
            same = tuple(sorted(some[0] for some in by_group.values()))
            found.setdefault(same, (label, dict(by_group)))
    return sorted(found.values(), key=lambda candidate: -len(candidate[1]))


def _patterns(ids: Sequence[str], split_at: int | None) -> list[str]:
    """Regular expressions of folders and beginnings of names."""
    patterns = []
    depth = ids[0].count("/")
    start = "^" + "[^/]+/" * (0 if split_at is None else split_at + 1)
    first = 0 if split_at is None else split_at + 1
    for at in range(first, depth):
        patterns.append(f"{start}({'/'.join(['[^/]+'] * (at - first + 1))})/")
    folders = "^" + "[^/]+/" * depth
    names = [id.rpartition("/")[2] for id in ids]
    shapes = Counter(tuple(_shape(name)) for name in names)
    shape, count = shapes.most_common(1)[0]
    if count == len(names):
        words = [tokens(name) for name in names]
        parts = []
        for at, kind in enumerate(shape):
            same = {word[at] for word in words}
            parts.append(re.escape(words[0][at]) if len(same) == 1 else kind)
        for at in range(1, len(parts)):
            if parts[at - 1] in (r"\d+", "[A-Za-z]+"):
                rest = parts[at] if re.fullmatch(r"\\?[^A-Za-z\d]", parts[at]) else ""
                patterns.append(f"{folders}({''.join(parts[:at])}){rest}")
    for separator in "_- .":
        if all(separator in name for name in names):
            plain = re.escape(separator).replace("\\ ", " ").replace("\\-", "-")
            patterns.append(f"{folders}([^{plain}/]+){plain}")
            patterns.append(f"{folders}([^/]+){plain}[^{plain}/]*$")
    return patterns


def _shape(name: str) -> list[str]:
    """The kinds of a name's tokens, as regular expressions."""
    return [
        r"\d+" if token.isdigit() else "[A-Za-z]+" if token.isalpha() else re.escape(token)
        for token in tokens(name)
    ]


def _some_of(by_group: dict[str, list[str]]) -> dict[str, list[str]]:
    """A few ids of a few groups, evenly spread."""
    several = [name for name, ids in by_group.items() if len(ids) > 1]
    picked = {several[at] for at in _spread(len(several), MOST_GROUPS)}
    return {
        name: [by_group[name][at] for at in _spread(len(by_group[name]), MOST_OF_GROUP)]
        for name in several
        if name in picked
    }


def _spread(count: int, most: int) -> list[int]:
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, most)).round()})


def _matrix(pixels: Sequence[Pixels]) -> NDArray[np.float64]:
    """(N, N) correlations of thumbnails, without what all of them have in common."""
    flat = np.array(pixels, np.float64).reshape(len(pixels), -1)
    if len(flat) > 2:
        flat -= flat.mean(axis=0)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat @ flat.T


def _correlations(
    chosen: dict[str, list[str]], pixels: dict[str, Pixels]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of pairs within groups, and of pairs across them."""
    rows = [(name, id) for name, ids in chosen.items() for id in ids if id in pixels]
    if len(rows) < 2:
        return np.zeros(0), np.zeros(0)
    matrix = _matrix([pixels[id] for _, id in rows])
    group = np.array([name for name, _ in rows])
    upper = np.triu(np.ones_like(matrix, bool), 1)
    same = group[:, None] == group
    return matrix[upper & same], matrix[upper & ~same]


def _adds(coarser: _Trial, finer: _Trial, thumbnails: Thumbnails) -> bool:
    """Are images of one coarse group alike, though of different fine ones?"""
    fine_of = {id: name for name, ids in finer.by_group.items() for id in ids}
    chosen = {}
    for name, ids in coarser.by_group.items():
        firsts = list({fine_of[id]: id for id in ids}.values())
        if len(firsts) > 1:
            chosen[name] = [firsts[at] for at in _spread(len(firsts), MOST_OF_GROUP)]
    chosen = {name: chosen[name] for name in list(chosen)[:MOST_GROUPS]}
    pixels = thumbnails([id for some in chosen.values() for id in some])
    return _chance(*_correlations(chosen, pixels)) >= CONVINCING


def _neighbours(ids: Sequence[str], thumbnails: Thumbnails) -> _Trial:
    """Images next to each other by name, taken for groups of two."""
    ordered = sorted(ids, key=_natural)
    pairs = {str(at): ordered[at : at + 2] for at in _spread(max(1, len(ordered) - 1), NEIGHBOURS)}
    pixels = thumbnails([id for some in pairs.values() for id in some])
    return _Trial({}, pairs, _correlations(pairs, pixels))


def _natural(id: str) -> list[tuple[bool, int, str]]:
    """A key by which 2 comes before 10."""
    return [(token.isdigit(), int(token) if token.isdigit() else 0, token) for token in tokens(id)]
