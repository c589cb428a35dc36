"""A split keeps groups whole, comes near the shares asked for, and repeats."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.errors import InputError
from segbench.params import Split
from segbench.splitting import split_samples


def samples(sizes: list[int]) -> pd.DataFrame:
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    ids = [f"s{number:04d}" for number in range(len(groups))]
    return pd.DataFrame({"id": ids, "group": groups, "stratum": ""})


def params(seed: int = 0) -> Split:
    return Split(seed=seed, val_share=0.1, test_share=0.1)


@given(st.lists(st.integers(1, 30), min_size=3, max_size=60), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_groups_stay_whole_and_no_part_is_empty(sizes: list[int], seed: int) -> None:
    table = split_samples(samples(sizes), params(seed))
    assert len(table) == sum(sizes)
    assert table["id"].is_unique
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}


def test_80_10_10_where_nothing_is_grouped() -> None:
    table = split_samples(samples([1] * 200), params())
    assert dict(table["split"].value_counts()) == {"train": 160, "val": 20, "test": 20}


def test_shares_with_groups_come_near() -> None:
    sizes = list(np.random.default_rng(0).integers(6, 27, 29))
    for seed in range(10):
        shares = split_samples(samples(sizes), params(seed))["split"].value_counts(normalize=True)
        assert abs(shares["val"] - 0.1) < 0.035
        assert abs(shares["test"] - 0.1) < 0.035


def test_the_order_of_samples_does_not_matter() -> None:
    table = samples([3] * 20)
    shuffled = table.sample(frac=1, random_state=0)
    assert split_samples(table, params()).equals(split_samples(shuffled, params()))


def test_another_seed_is_another_split() -> None:
    table = samples([3] * 20)
    first, other = split_samples(table, params(0)), split_samples(table, params(1))
    assert not first["split"].equals(other["split"])


def test_too_few_groups() -> None:
    with pytest.raises(InputError, match="18 samples in 2 groups cannot fill train, val, test"):
        split_samples(samples([9, 9]), params())
