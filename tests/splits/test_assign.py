"""A split keeps groups whole, comes near its shares, stays where it was, and repeats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from segbench.errors import InputError
from segbench.params.split import Split
from segbench.splits.assign import COLUMNS, SPLITS, UNUSED, read_split, split_samples

ROUNDING = 1e-6
folds_asked = st.integers(1, 6)
seeds = st.integers(0, 1000)
ways = st.sampled_from(["group", "random"])
group_sizes = st.lists(st.integers(1, 12), min_size=18, max_size=40)


def params(**changes: Any) -> Split:
    """The usual ones; with folds, the share of test follows."""
    follows = changes.get("num_folds", 1) > 1 or changes.get("by") == "predefined"
    usual: dict[str, Any] = {
        "by": "group",
        "stratify": False,
        "num_folds": 1,
        "val_share": 0.1,
        "test_share": None if follows else 0.1,
        "seed": 0,
        "sticky": False,
        "on_leak": "error",
        "near_duplicate": 0.75,
        "merge_duplicates": False,
    }
    return Split(**usual | changes)


def table_of(sizes: Sequence[int], strata: Sequence[str] = ("",), first: int = 0) -> pd.DataFrame:
    """Groups of the given sizes; strata go round from sample to sample."""
    groups = [f"g{first + number:03d}" for number, size in enumerate(sizes) for _ in range(size)]
    ids = [f"{group}-{at:04d}" for at, group in enumerate(groups)]
    around = [strata[at % len(strata)] for at in range(len(groups))]
    columns = {"id": ids, "group": groups, "stratum": around, "previous": "", "split": ""}
    return pd.DataFrame(columns)


def random_table(rng: np.random.Generator, num_groups: int, largest: int) -> pd.DataFrame:
    """Groups of all sizes, most samples of a group in one of three uneven strata."""
    sizes = rng.integers(1, largest + 1, num_groups)
    samples = table_of(sizes.tolist())
    usual = rng.choice(3, num_groups, p=(0.6, 0.3, 0.1)).repeat(sizes)
    stratum = np.where(rng.random(len(samples)) < 0.8, usual, rng.integers(0, 3, len(samples)))
    return samples.assign(stratum=np.array(["a", "b", "c"])[stratum])


def slices(volumes: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Volumes of blocks, each a group of consecutive slices."""
    rows: list[tuple[str, ...]] = []
    for volume, blocks in enumerate(volumes):
        previous = ""
        for block, size in enumerate(blocks):
            for _ in range(size):
                id = f"v{volume}-{len(rows):04d}"
                rows.append((id, f"v{volume}b{block:02d}", "", previous, ""))
                previous = id
    return pd.DataFrame(rows, columns=["id", "group", "stratum", "previous", "split"])


def splits_of(table: pd.DataFrame) -> "pd.Series[str]":
    """The split by fold and id."""
    return table.set_index(["fold", "id"])["split"]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each id, a column for each fold."""
    return table.pivot(index="id", columns="fold", values="split")


def assert_sound(table: pd.DataFrame, samples: pd.DataFrame, asked: Split) -> None:
    """What holds of every split, whatever came in."""
    assert list(table) == COLUMNS
    assert table["fold"].tolist() == np.repeat(range(asked.num_folds), len(samples)).tolist()
    for _, fold in table.groupby("fold"):
        assert fold["id"].tolist() == sorted(samples["id"])
        assert set(fold["split"]) - {UNUSED} == set(SPLITS)
        if asked.by == "group":
            used = fold[fold["split"] != UNUSED]
            assert (used.groupby("group")["split"].nunique() == 1).all()
            assert (fold.groupby("group")["drawn"].nunique() == 1).all()
        assert ((fold["drawn"] == fold["split"]) | (fold["split"] == UNUSED)).all()
    if asked.num_folds > 1:
        assert ((wide(table) == "test").sum(axis=1) == 1).all()


@given(group_sizes, ways, folds_asked, st.booleans(), st.integers(1, 4), seeds)
def test_every_sample_is_in_one_split_and_groups_stay_whole(
    sizes: list[int], by: str, num_folds: int, stratify: bool, num_strata: int, seed: int
) -> None:
    samples = table_of(sizes, [f"stratum{number}" for number in range(num_strata)])
    asked = params(by=by, num_folds=num_folds, stratify=stratify, seed=seed)
    table = split_samples(samples, asked)
    assert_sound(table, samples, asked)
    kept = table.merge(samples, on="id", suffixes=("", "_given"))
    assert (kept["group"] == kept["group_given"]).all()
    assert (kept["stratum"] == kept["stratum_given"]).all()
    shuffled = samples.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(table, split_samples(shuffled, asked))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), folds_asked, seeds)
def test_few_groups_are_split_soundly_or_refused(
    sizes: list[int], num_folds: int, seed: int
) -> None:
    samples, asked = table_of(sizes), params(num_folds=num_folds, seed=seed)
    try:
        table = split_samples(samples, asked)
    except InputError:
        return
    assert_sound(table, samples, asked)


@pytest.mark.parametrize("sizes", [[30, 1, 1], [1, 30, 1, 1], [60, 2, 2]])
def test_three_groups_always_fill_three_splits(sizes: list[int]) -> None:
    for seed in range(10):
        asked = params(seed=seed)
        assert_sound(split_samples(table_of(sizes), asked), table_of(sizes), asked)


@given(
    st.lists(st.integers(1, 30), min_size=10, max_size=60),
    st.sampled_from([0.05, 0.1, 0.2, 0.3]),
    st.sampled_from([0.05, 0.1, 0.2, 0.3]),
    seeds,
)
def test_shares_are_off_by_half_a_group_at_most(
    sizes: list[int], val: float, test: float, seed: int
) -> None:
    # If a part is off by d, then a group of less than 2 d samples would bring it nearer by moving
    # (d - s < d); so all that may move have 2 d or more. A part's only group may not leave it.
    largest, total = max(sizes), sum(sizes)
    assume(largest <= total / 3)
    table = split_samples(table_of(sizes), params(val_share=val, test_share=test, seed=seed))
    for name, share in (("val", val), ("test", test)):
        off = abs((table["split"] == name).sum() - share * total)
        assert off <= max(largest / 2, largest - share * total) + ROUNDING


@given(group_sizes, st.integers(2, 6), seeds)
def test_folds_differ_by_one_group_at_most(sizes: list[int], num_folds: int, seed: int) -> None:
    # Of two folds that differed by more than a group of the larger one, that group would move.
    asked = params(num_folds=num_folds, seed=seed, val_share=0.2)
    table = split_samples(table_of(sizes), asked)
    tested = table[table["split"] == "test"]["fold"].value_counts()
    assert tested.max() - tested.min() <= max(sizes)
    for _, fold in table.groupby("fold"):
        rest = fold[fold["split"] != "test"]["group"].value_counts()
        off = abs((fold["split"] == "val").sum() - 0.2 * len(fold))
        assert off <= max(rest.max() / 2, rest.max() - 0.2 * len(fold)) + ROUNDING


def test_80_10_10_where_nothing_is_grouped() -> None:
    for by in ("group", "random"):
        table = split_samples(table_of([1] * 200), params(by=by))
        assert dict(table["split"].value_counts()) == {"train": 160, "val": 20, "test": 20}


def test_by_random_tears_groups() -> None:
    table = split_samples(table_of([20] * 10), params(by="random"))
    assert (table.groupby("group")["split"].nunique() > 1).any()
    assert dict(table["split"].value_counts()) == {"train": 160, "val": 20, "test": 20}


@pytest.mark.parametrize("by", ["group", "random"])
@pytest.mark.parametrize("num_folds", [1, 3])
def test_another_seed_is_another_split(by: str, num_folds: int) -> None:
    tables = [
        split_samples(table_of([3] * 20), params(by=by, num_folds=num_folds, seed=seed))
        for seed in range(10)
    ]
    for name in ("val", "test"):
        assert len({tuple(table["split"] == name) for table in tables}) > 8


@pytest.mark.parametrize(
    ("sizes", "num_folds", "message"),
    [
        ([9, 9], 1, "18 samples in 2 groups cannot fill train, val, test; at least 3"),
        ([1] * 4, 5, "4 samples in 4 groups cannot fill train, val, test of 5 folds; at least 5"),
    ],
)
def test_too_few_groups(sizes: list[int], num_folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_samples(table_of(sizes), params(num_folds=num_folds))


def test_a_group_too_large_to_validate_beside() -> None:
    with pytest.raises(InputError, match=r"validation would take all that is left of fold \d"):
        split_samples(table_of([100, *[1] * 10]), params(num_folds=2, val_share=0.2))


# Strata ------------------------------------------------------------------------------------------

labels = st.lists(st.sampled_from("aaaaaabbbcd"), min_size=60, max_size=250)


def counts_of(table: pd.DataFrame, names: list[str]) -> NDArray[np.int64]:
    """How many samples of each stratum."""
    return np.array([(table["stratum"] == name).sum() for name in names], np.int64)


@given(labels, ways, st.sampled_from([0.1, 0.25]), st.sampled_from([0.1, 0.2]), seeds)
def test_single_samples_are_stratified_to_about_one(
    strata: list[str], by: str, val: float, test: float, seed: int
) -> None:
    # Let d be how many samples too many of all, d_s of stratum s, and p_s the share of s, S their
    # number. Where no single move helps, (2 d - 1) / W + (2 d_s - 1) / W_s <= 0 for each s in the
    # part, likewise for what could come in, with W_s = p_s W. Hence |d| <= S / 2, and
    # |d_s| <= 1 / 2 + p_s (1 + S) / 2.
    samples = table_of([1] * len(strata)).assign(stratum=strata)
    asked = params(by=by, stratify=True, val_share=val, test_share=test, seed=seed)
    table = split_samples(samples, asked)
    names = sorted(set(strata))
    rest = table[table["split"] != "test"]
    parts = [("test", table, test), ("val", rest, val * len(table) / len(rest))]
    for name, whole, share in parts:
        total = counts_of(whole, names)
        part = counts_of(whole[whole["split"] == name], names)
        assert abs(part.sum() - share * len(whole)) <= len(names) / 2 + ROUNDING
        most = 0.5 + total / len(whole) * (1 + len(names)) / 2
        assert (abs(part - share * total) <= most + ROUNDING).all()


@given(labels, ways, st.integers(2, 6), seeds)
def test_folds_of_single_samples_are_stratified_alike(
    strata: list[str], by: str, num_folds: int, seed: int
) -> None:
    # As above, of the difference of two folds.
    samples = table_of([1] * len(strata)).assign(stratum=strata)
    table = split_samples(samples, params(by=by, stratify=True, num_folds=num_folds, seed=seed))
    names = sorted(set(strata))
    tested = table[table["split"] == "test"]
    folds = np.array([counts_of(fold, names) for _, fold in tested.groupby("fold")])
    most = 1 + folds.sum(axis=0) / len(samples) * (1 + len(names))
    assert (np.ptp(folds, axis=0) <= most + ROUNDING).all()


def test_strata_matter_only_if_asked() -> None:
    one, other = (table_of([2] * 30, strata) for strata in (("a",), ("a", "b", "c")))
    first, second = (split_samples(table, params())["split"].tolist() for table in (one, other))
    assert first == second
    alike = split_samples(one, params(stratify=True))["split"].tolist()
    assert first == alike


def imbalance(part: pd.DataFrame, samples: pd.DataFrame, share: float) -> float:
    """Squared relative deviations from the share, of all samples and of each stratum."""
    names = sorted(set(samples["stratum"]))
    wanted = share * np.array([len(samples), *counts_of(samples, names)])
    got = np.array([len(part), *counts_of(part, names)])
    return float((((got - wanted) / wanted) ** 2).sum())


def test_groups_are_balanced_no_worse_than_by_scikit_learn() -> None:
    ours, theirs, our_folds, their_folds = [], [], [], []
    for case in range(40):
        rng = np.random.default_rng(case)
        samples = random_table(rng, int(rng.integers(40, 80)), int(rng.integers(8, 26)))
        reference = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=case)
        folds = [
            imbalance(samples.iloc[test], samples, 0.1)
            for _, test in reference.split(samples, samples["stratum"], samples["group"])
        ]
        theirs.append(folds[0])
        their_folds += folds
        table = split_samples(samples, params(stratify=True, seed=case))
        ours.append(imbalance(table[table["split"] == "test"], samples, 0.1))
        table = split_samples(samples, params(stratify=True, seed=case, num_folds=10))
        tested = table[table["split"] == "test"]
        our_folds += [imbalance(fold, samples, 0.1) for _, fold in tested.groupby("fold")]
    assert np.mean(ours) <= np.mean(theirs)
    # Folds are seldom as even as theirs, which place large groups first.
    assert np.mean(our_folds) <= 1.2 * np.mean(their_folds)


# Sticky ------------------------------------------------------------------------------------------


@given(group_sizes, ways, st.integers(1, 4), st.booleans(), st.data())
def test_what_was_split_stays(
    sizes: list[int], by: str, num_folds: int, stratify: bool, data: st.DataObject
) -> None:
    samples = table_of(sizes, ("a", "a", "b"))
    asked = params(by=by, num_folds=num_folds, stratify=stratify, seed=data.draw(seeds))
    former = split_samples(samples, asked)
    more = table_of(data.draw(st.lists(st.integers(1, 9), max_size=20)), ("a", "b"), first=500)
    joined = samples.sample(frac=0.3, random_state=0)
    joined = joined.assign(id="new-" + joined["id"])
    gone = data.draw(st.sets(st.sampled_from(samples["id"].tolist()), max_size=5))
    grown = pd.concat([samples[~samples["id"].isin(gone)], more, joined], ignore_index=True)
    asked = asked.model_copy(update={"seed": data.draw(seeds), "sticky": True})
    try:
        table = split_samples(grown.sample(frac=1, random_state=1), asked, former)
    except InputError as error:
        # What was taken away may have been all of a split.
        assume(not gone and "nothing is left" not in str(error))
        raise
    assert_sound(table, grown, asked)
    before, now = splits_of(former), splits_of(table)
    common = before.index.intersection(now.index)
    assert len(common) == num_folds * (len(samples) - len(gone))
    assert (now[common] == before[common]).all()
    if by == "group":
        # A sample that joins a group goes where the group is, unless the group is new again.
        groups = set(grown["group"]) & set(former[~former["id"].isin(gone)]["group"])
        was = former.groupby(["fold", "group"])["split"].first()
        late = table[table["id"].isin(joined["id"]) & table["group"].isin(groups)]
        place = pd.MultiIndex.from_frame(late[["fold", "group"]])
        assert late["split"].tolist() == was[place].tolist()


def test_new_groups_fill_what_lacks() -> None:
    samples = table_of([2] * 50)
    former = split_samples(samples, params())
    # Test and validation lose most of what they had; new groups bring it back.
    lost = former[former["split"] != "train"].groupby("split").tail(8)["id"]
    left = samples[~samples["id"].isin(lost)]
    grown = pd.concat([left, table_of([2] * 10, first=500)], ignore_index=True)
    shares = split_samples(grown, params(sticky=True), former)["split"].value_counts(normalize=True)
    assert abs(shares["test"] - 0.1) <= 0.011
    assert abs(shares["val"] - 0.1) <= 0.011


def test_a_split_of_nothing_new_stays_as_it_was() -> None:
    samples = table_of([3] * 30, ("a", "b"))
    for num_folds in (1, 4):
        former = split_samples(samples, params(num_folds=num_folds))
        asked = params(num_folds=num_folds, seed=9, stratify=True, sticky=True)
        pd.testing.assert_frame_equal(split_samples(samples, asked, former), former)


def test_a_split_that_lost_all_is_filled_or_refused() -> None:
    samples = table_of([2] * 20)
    former = split_samples(samples, params())
    left = samples[~samples["id"].isin(former[former["split"] == "val"]["id"])]
    with pytest.raises(InputError, match="nothing is left for val of fold 0"):
        split_samples(left, params(sticky=True), former)
    grown = pd.concat([left, table_of([2], first=500)])
    table = split_samples(grown, params(sticky=True), former).set_index("id")["split"]
    assert set(table[table.index.str.startswith("g500")]) == {"val"}


@pytest.mark.parametrize(("before", "now"), [(3, 4), (3, 1), (1, 3)])
def test_sticky_needs_the_same_folds(before: int, now: int) -> None:
    samples = table_of([2] * 20)
    former = split_samples(samples, params(num_folds=before))
    with pytest.raises(InputError, match=f"former split has {before} folds, num_folds asks for"):
        split_samples(samples, params(num_folds=now, sticky=True), former)


def test_sticky_refuses_torn_groups() -> None:
    samples = table_of([5] * 20)
    former = split_samples(samples, params(by="random"))
    with pytest.raises(InputError, match=r"'g0\d\d' lies in \w+ and in \w+ of the former") as error:
        split_samples(samples, params(sticky=True), former)
    assert "\n" not in str(error.value)


# Predefined --------------------------------------------------------------------------------------


def published(splits: Sequence[str], sizes: Sequence[int]) -> pd.DataFrame:
    """A split for each group."""
    return table_of(sizes).assign(split=np.repeat(splits, sizes))


def test_a_published_split_is_taken_as_it_is() -> None:
    samples = published(["train", "val", "test", "test", "train"], [4, 1, 3, 2, 1])
    table = split_samples(samples.sample(frac=1, random_state=0), params(by="predefined", seed=3))
    assert table["split"].tolist() == samples["split"].tolist()


@given(st.lists(st.integers(1, 9), min_size=20, max_size=40), st.booleans(), seeds)
def test_validation_is_carved_from_published_train(
    sizes: list[int], stratify: bool, seed: int
) -> None:
    splits = [("train", "train", "train", "test")[at % 4] for at in range(len(sizes))]
    samples = published(splits, sizes)
    samples = samples if stratify else samples.assign(stratum="a")
    asked = params(by="predefined", stratify=stratify, seed=seed)
    table = split_samples(samples, asked).set_index("id")
    given_as = samples.set_index("id")["split"]
    assert ((table["split"] == "test") == (given_as.loc[table.index] == "test")).all()
    train = table[table["split"] != "test"]
    assert (train.groupby("group")["split"].nunique() == 1).all()
    off = abs((train["split"] == "val").sum() - 0.1 * len(table))
    assert off <= max(max(sizes) / 2, max(sizes) - 0.1 * len(table)) + ROUNDING


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", "train", "", "test"], r"does not say where 'g002-0004' belongs \(2 of 8"),
        (["train", "train", "dev", "test"], "does not say where 'g002-0004' belongs"),
        (["train", "train", "train", "train"], "nothing is left for test of fold 0"),
        (["test", "test", "test", "test"], "nothing is left for train of fold 0"),
        (["val", "test", "test", "test"], "nothing is left for train of fold 0"),
        (["train", "test", "test", "test"], "1 groups of published training samples cannot give"),
    ],
)
def test_a_published_split_that_lacks_something(splits: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_samples(published(splits, [2] * 4), params(by="predefined"))


def test_too_little_published_for_the_share_of_validation() -> None:
    samples = published(["train", "train", *["test"] * 20], [2] * 22)
    with pytest.raises(InputError, match=r"cannot give val_share 0\.1 of all to validation"):
        split_samples(samples, params(by="predefined"))


# Slices that continue each other -----------------------------------------------------------------

volumes = st.lists(
    st.lists(st.integers(3, 6), min_size=3, max_size=12), min_size=2, max_size=4
).filter(lambda drawn: sum(map(len, drawn)) >= 14)


def assert_apart(table: pd.DataFrame, samples: pd.DataFrame) -> None:
    """No two consecutive slices in different splits, and no more is left out than that asks for."""
    linked = [
        (id, before)
        for id, before in zip(samples["id"], samples["previous"], strict=True)
        if before
    ]
    for _, fold in table.groupby("fold"):
        split = dict(zip(fold["id"], fold["split"], strict=True))
        group = dict(zip(fold["id"], fold["group"], strict=True))
        whole = {group[id]: name for id, name in split.items() if name != UNUSED}
        borders = 0
        for id, before in linked:
            pair = {split[id], split[before]}
            assert len(pair - {UNUSED}) == 1
            parts = [whole[group[one]] for one in (before, id)]
            border = parts[0] != parts[1]
            borders += border
            if border:
                # The one of test stays, else that of validation.
                kept = max(parts, key=SPLITS.index)
                assert [split[before], split[id]] == [
                    part if part == kept else UNUSED for part in parts
                ]
        assert [*split.values()].count(UNUSED) == borders
        tested = {name for id, name in split.items() if whole[group[id]] == "test"}
        assert tested == {"test"}


@given(volumes, st.integers(1, 4), seeds)
def test_consecutive_slices_are_kept_apart(
    blocks: list[list[int]], num_folds: int, seed: int
) -> None:
    samples = slices(blocks)
    asked = params(num_folds=num_folds, seed=seed)
    try:
        table = split_samples(samples, asked)
    except InputError:
        assume(False)
    assert_sound(table, samples, asked)
    assert_apart(table, samples)
    shuffled = samples.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(table, split_samples(shuffled, asked))


def test_nothing_is_left_out_by_random() -> None:
    table = split_samples(slices([[5] * 6] * 3), params(by="random"))
    assert set(table["split"]) == set(SPLITS)


def test_a_split_emptied_by_its_neighbours_is_refused() -> None:
    samples = slices([[3, 1, 3, 3, 3]])
    splits = np.repeat(["test", "val", "test", "train", "train"], [3, 1, 3, 3, 3])
    former = samples[["id", "group", "stratum"]].assign(split=splits, fold=0, drawn=splits)
    with pytest.raises(InputError, match=r"nothing is left for val of fold 0; .*slices") as error:
        split_samples(samples, params(sticky=True), former)
    assert "\n" not in str(error.value)


@given(volumes, st.integers(1, 3), seeds)
def test_slices_that_were_split_stay(blocks: list[list[int]], num_folds: int, seed: int) -> None:
    samples = slices(blocks)
    asked = params(num_folds=num_folds, seed=seed, sticky=True)
    try:
        former = split_samples(samples, asked)
    except InputError:
        assume(False)
    before = splits_of(former)
    apart = pd.concat([samples, table_of([3] * 6, first=500)], ignore_index=True)
    now = splits_of(split_samples(apart, asked, former))
    assert (now[before.index] == before).all()
    # Where a volume goes on, its former end may be left out, but goes nowhere else.
    end = samples["id"].iloc[-1]
    row = {"id": "z-next", "group": "z", "stratum": "", "previous": end, "split": ""}
    longer = pd.concat([samples, pd.DataFrame([row])], ignore_index=True)
    now = splits_of(split_samples(longer, asked, former))
    moved = before.index[now[before.index] != before]
    assert all(id == end for _, id in moved)
    assert set(now[moved]) <= {UNUSED}


@pytest.mark.parametrize("num_folds", [1, 3])
def test_groups_that_were_left_out_stay(num_folds: int) -> None:
    samples = slices([[1] * 10 + [5] * 16])
    more = pd.concat([samples, table_of([1] * 3, first=500)], ignore_index=True)
    compared = 0
    for seed in range(30):
        asked = params(num_folds=num_folds, val_share=0.2, seed=seed)
        try:
            former = split_samples(samples, asked)
        except InputError:
            continue
        again = params(num_folds=num_folds, val_share=0.2, seed=seed + 1, sticky=True)
        before, now = splits_of(former), splits_of(split_samples(more, again, former))
        assert (now[before.index] == before).all()
        compared += 1
    assert compared


# The table ---------------------------------------------------------------------------------------


def test_a_table_reads_back(tmp_path: Path) -> None:
    samples = slices([[5] * 9] * 2)
    samples["group"] = samples["group"].str.removeprefix("v")
    table = split_samples(samples.assign(stratum="001"), params(num_folds=2))
    table.to_csv(tmp_path / "split.csv", index=False)
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), table)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<<<<<<< HEAD\n",
        ",".join(COLUMNS) + "\n",
        "id,split,fold,group,stratum\na,train,0,a,\n",
        ",".join(COLUMNS) + "\na,dev,0,a,,dev\n",
        ",".join(COLUMNS) + "\na,train,0,a,,unused\n",
        ",".join(COLUMNS) + "\na,train,first,a,,train\n",
    ],
)
def test_another_table_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"split\.csv: not a split table") as error:
        read_split(path)
    assert "\n" not in str(error.value)
