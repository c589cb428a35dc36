"""The split: which sample trains, which chooses, which tests."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segbench.datasets.canonical import read_table
from segbench.errors import InputError
from segbench.params.split import Split

SPLITS = ("train", "val", "test")
UNUSED = "unused"
"""Stands for a split where a sample is left out, since it continues one of another split."""

COLUMNS = ["id", "split", "fold", "group", "stratum", "drawn"]

# Rounds in which every group may still move to where it is needed more; seldom are three used.
MOST_ROUNDS = 10
UNASSIGNED = -1
"""In place of a split: the unit has none yet."""

Counts = NDArray[np.float64]
"""(units or parts, features): how many samples, in all and of each stratum."""


def split_samples(
    samples: pd.DataFrame, params: Split, former: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Assign every sample to train, val or test, in every fold.

    Whole groups together, unless `params.by` says otherwise, so that each split comes as near as it
    can to its share of the samples and, where asked for, of each stratum. The result depends on the
    seed and the set of samples, not on their order.

    Args:
        samples: with columns id, group, stratum, previous, split (as published).
        params: what to do.
        former: an earlier split whose samples stay where they are, or None.

    Returns:
        A row for each sample and fold, by fold and id: id, split, fold, group, stratum, drawn.
        Where whole groups are split, a sample that continues one of another split is `unused`, and
        `drawn` tells which split its group is in.

    Raises:
        InputError: if there are too few groups for three splits that all hold something, or what
            was published or split before does not fit.
    """
    samples = samples.sort_values("id", ignore_index=True)
    units = samples["id"] if params.by == "random" else samples["group"]
    names, unit_of = np.unique(units.to_numpy(str), return_inverse=True)
    need = 4 if params.num_folds == 2 else max(3, params.num_folds)
    if params.by != "predefined" and len(names) < need:
        of_folds = f" of {params.num_folds} folds" if params.num_folds > 1 else ""
        raise InputError(
            f"{len(samples)} samples in {len(names)} groups cannot fill {', '.join(SPLITS)}"
            f"{of_folds}; at least {need} groups are needed, since a group is "
            "never torn apart; add data or make groups smaller"
        )
    counts = _count(unit_of, samples["stratum"].to_numpy(str), params.stratify)
    if params.by == "predefined":
        folds = [_predefined(samples, params, counts, unit_of)]
    else:
        folds = _draw(counts, params, _former_parts(samples, names, unit_of, params, former))
        folds = [fold[unit_of] for fold in folds]
    tables = []
    for number, parts in enumerate(folds):
        group_split = np.array(SPLITS)[parts]
        split = _keep_apart(samples, group_split) if params.by == "group" else group_split
        columns = samples[["id", "group", "stratum"]]
        table = columns.assign(split=split, fold=number, drawn=group_split)
        missing = [name for name in SPLITS if name not in set(split)]
        if missing:
            raise InputError(
                f"nothing is left for {missing[0]} of fold {number}; "
                "add data, or make groups smaller or, of slices that continue each other, larger"
            )
        tables.append(table[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def _count(unit_of: NDArray[np.int64], strata: NDArray[np.str_], stratify: bool) -> Counts:
    """(U, 1 + S): samples of each unit, in all and by stratum."""
    names, stratum_of = np.unique(strata, return_inverse=True)
    columns = 1 + (len(names) if stratify and len(names) > 1 else 0)
    counts = np.zeros((unit_of.max() + 1, columns))
    counts[:, 0] = np.bincount(unit_of)
    if columns > 1:
        np.add.at(counts, (unit_of, 1 + stratum_of), 1)
    return counts


def _draw(counts: Counts, params: Split, fixed: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The split (0 train, 1 val, 2 test) of each unit, for each fold; `fixed` is (K, U) of it."""
    if params.test_share is not None:
        held = np.where(fixed[0] == UNASSIGNED, UNASSIGNED, fixed[0] == 2)
        two = (1 - params.test_share, params.test_share)
        in_test = _assign(counts, two, (2, 1), held, [params.seed])
        tests = [in_test == 1]
    else:
        shares = (1 / params.num_folds,) * params.num_folds
        known = (fixed != UNASSIGNED).all(axis=0)
        held = np.where(known, (fixed == 2).argmax(axis=0), UNASSIGNED)
        # What is not tested in a fold trains and chooses.
        least = (2 if params.num_folds == 2 else 1,) * params.num_folds
        part = _assign(counts, shares, least, held, [params.seed])
        tests = [part == fold for fold in range(params.num_folds)]
    folds = []
    for fold, test in enumerate(tests):
        rest = np.flatnonzero(~test)
        share = params.val_share * counts[:, 0].sum() / counts[rest, 0].sum()
        if share >= 1:
            raise InputError(
                "groups are so uneven that validation would take all that is left of "
                f"fold {fold}; lower split.val_share or make groups smaller"
            )
        held = np.where(fixed[fold, rest] == UNASSIGNED, UNASSIGNED, fixed[fold, rest] == 1)
        val = _assign(counts[rest], (1 - share, share), (1, 1), held, [params.seed, 1 + fold])
        parts = np.full(len(counts), 2)
        parts[rest] = val
        folds.append(parts)
    return folds


def _assign(
    counts: Counts,
    shares: tuple[float, ...],
    least: tuple[int, ...],
    fixed: NDArray[np.int64],
    seed: list[int],
) -> NDArray[np.int64]:
    """Divide units into parts of about the given shares.

    In seeded random order each unit goes where it brings the parts nearest to their shares, and
    then moves on as long as that brings them nearer. Near is measured by the squared differences of
    counts, each relative to what the part should hold, so that a rare stratum weighs as much as a
    common one. A part that is left with too few units gets the smallest that others can spare.

    Args:
        counts: (U, F) of each unit.
        shares: of the parts, 1 together.
        least: units that each part needs.
        fixed: (U,) the part of units that must not move, -1 of others.
        seed: of the order.

    Returns:
        (U,) the part of each unit.
    """
    division = _Division(counts, shares, least, fixed)
    free = np.flatnonzero(division.part == UNASSIGNED)
    order = np.random.default_rng(seed).permutation(free)
    for unit in order:
        division.place(unit)
    division.fill_up(order)
    for _ in range(MOST_ROUNDS):
        if not division.improve(order):
            break
    return division.part


class _Division:
    """Units divided into P parts, on the way to the shares that these should have.

    Attributes:
        part: (U,) the part of each unit, -1 of those that are not placed yet.
    """

    def __init__(
        self,
        counts: Counts,
        shares: tuple[float, ...],
        least: tuple[int, ...],
        fixed: NDArray[np.int64],
    ) -> None:
        self.part = np.array(fixed, np.int64)
        self._counts, self._least = counts, least
        self._wanted = np.outer(shares, counts.sum(axis=0))  # (P, F)
        self._weights = 1 / np.maximum(self._wanted, 1e-9)
        self._held = np.zeros_like(self._wanted)
        self._sizes = np.zeros(len(shares), np.int64)
        for number in range(len(shares)):
            self._held[number] = counts[self.part == number].sum(axis=0)
            self._sizes[number] = np.count_nonzero(self.part == number)

    def place(self, unit: int) -> None:
        """Put a unit where it brings the parts nearest to their shares."""
        # Among equals the part that lacks most of its share, so that small ones are not starved.
        filled = self._held[:, 0] / self._wanted[:, 0]
        target = int(np.lexsort([filled, self._cost_of_adding(unit)])[0])
        self._add(unit, target)

    def fill_up(self, order: NDArray[np.int64]) -> None:
        """Give parts with too few units the smallest that others can spare."""
        for poor in np.flatnonzero(self._sizes < self._least).tolist():
            while self._sizes[poor] < self._least[poor]:
                spare = [unit for unit in order if self._can_spare(unit)]
                if not spare:
                    break
                unit = min(spare, key=lambda one: self._counts[one, 0])
                self._remove(unit)
                self._add(unit, poor)

    def improve(self, order: NDArray[np.int64]) -> bool:
        """Move each unit that can be spared to where it is needed more; did any move?"""
        moved = False
        for unit in order:
            if not self._can_spare(unit):
                continue
            here = int(self.part[unit])
            self._remove(unit)
            cost = self._cost_of_adding(unit)
            best = int(cost.argmin())
            target = best if cost[best] < cost[here] - 1e-9 else here
            self._add(unit, target)
            moved |= target != here
        return moved

    def _can_spare(self, unit: int) -> bool:
        here = self.part[unit]
        return bool(self._sizes[here] > self._least[here])

    def _add(self, unit: int, target: int) -> None:
        self.part[unit] = target
        self._held[target] += self._counts[unit]
        self._sizes[target] += 1

    def _remove(self, unit: int) -> None:
        here = self.part[unit]
        self._held[here] -= self._counts[unit]
        self._sizes[here] -= 1

    def _cost_of_adding(self, unit: int) -> Counts:
        """(P,): how much further from what is wanted each part would be with the unit in it."""
        own = self._counts[unit]
        change = (2 * (self._held - self._wanted) + own) * own * self._weights
        return np.asarray(change.sum(axis=1))


def _predefined(
    samples: pd.DataFrame, params: Split, counts: Counts, unit_of: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The published split of each sample; validation is drawn from train where none was."""
    published = samples["split"].to_numpy(str)
    unknown = samples["id"][~np.isin(published, SPLITS)]
    if len(unknown):
        raise InputError(
            f"split.by: predefined, but the dataset does not say where '{unknown.iloc[0]}' belongs "
            f"({len(unknown)} of {len(samples)} samples); set split.by: group, or dataset.split"
        )
    parts = np.array([SPLITS.index(name) for name in published])
    if "val" in published or "train" not in published:
        return parts
    train = np.unique(unit_of[parts == 0])
    share = params.val_share * len(samples) / max(counts[train, 0].sum(), 1)
    if share >= 1 or len(train) < 2:
        raise InputError(
            f"{len(train)} groups of published training samples cannot give val_share "
            f"{params.val_share:g} of all to validation; lower it or set split.by: group"
        )
    unassigned = np.full(len(train), UNASSIGNED)
    unit_split = np.zeros(len(counts), np.int64)
    unit_split[train] = _assign(
        counts[train], (1 - share, share), (1, 1), unassigned, [params.seed, 1]
    )
    return np.where(parts == 0, unit_split[unit_of], parts)


def _former_parts(
    samples: pd.DataFrame,
    names: NDArray[np.str_],
    unit_of: NDArray[np.int64],
    params: Split,
    former: pd.DataFrame | None,
) -> NDArray[np.int64]:
    """(K, U): the split of each unit in an earlier split, -1 where it was in none."""
    parts = np.full((params.num_folds, len(names)), UNASSIGNED)
    if former is None:
        return parts
    folds = int(former["fold"].max()) + 1
    if folds != params.num_folds:
        raise InputError(
            f"split.sticky: the former split has {folds} folds, num_folds asks for "
            f"{params.num_folds}; keep the number, or set sticky: false to split anew"
        )
    unit_by_id = dict(zip(samples["id"], unit_of, strict=True))
    for id, fold, split in zip(former["id"], former["fold"], former["drawn"], strict=True):
        unit = unit_by_id.get(id)
        if unit is None:
            continue
        part = SPLITS.index(split)
        if parts[fold, unit] not in (UNASSIGNED, part):
            raise InputError(
                f"split.sticky: '{names[unit]}' lies in {SPLITS[parts[fold, unit]]} and in "
                f"{split} of the former split, and may not be torn apart; "
                "restore its groups, or set sticky: false to split anew"
            )
        parts[fold, unit] = part
    return parts


def _keep_apart(samples: pd.DataFrame, split: NDArray[np.str_]) -> NDArray[np.str_]:
    """Leave out samples that continue one of another split: of each two, the one that trains.

    Between validation and test, the one of validation.
    """
    split = split.astype(object)
    index = {id: at for at, id in enumerate(samples["id"])}
    for at, previous in enumerate(samples["previous"]):
        before = index.get(previous)
        if before is None:
            continue
        pair = sorted((at, before), key=lambda one: (*SPLITS, UNUSED).index(split[one]))
        if UNUSED not in split[pair] and split[pair[0]] != split[pair[1]]:
            split[pair[0]] = UNUSED
    return split.astype(str)


def read_split(path: Path) -> pd.DataFrame:
    """Read a split table; ids, groups and strata as text."""
    try:
        table = read_table(path)
        table["fold"] = table["fold"].astype(int)
        whole = list(table) == COLUMNS and len(table) > 0
        whole = (
            whole and set(table["split"]) <= {*SPLITS, UNUSED} and set(table["drawn"]) <= {*SPLITS}
        )
    except (KeyError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"{path}: not a split table, whose columns are {', '.join(COLUMNS)}; restore it "
            f"('git checkout {path}') or delete it to split anew"
        )
    return table
