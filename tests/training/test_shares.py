"""A point of a learning curve trains on whole groups, in as many steps as from all of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.arrays.store import open_arrays
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.params import Params
from segbench.training.data import TrainingData, check_shares, open_data
from segbench.training.identity import checkpoint_key
from segbench.training.shares import kept_rows
from support.pipeline import fit_one, one_process, outcome, pack

pytestmark = pytest.mark.usefixtures("offline")

SHARES = (0.01, 0.1, 0.25, 0.29, 0.5, 0.75, 0.99, 1.0)


def samples(strata: list[int]) -> pd.DataFrame:
    """Groups of 1 to 5 images each, so many of each stratum, in an order that mixes them."""
    groups = [
        (f"g{at:03d}", f"s{s}")
        for s, n in enumerate(strata)
        for at in range(1000 * s, 1000 * s + n)
    ]
    rows = [pair for at, pair in enumerate(groups) for _ in range(1 + at % 5)]
    return pd.DataFrame(rows, columns=["group", "stratum"]).sample(frac=1, random_state=0)


def groups_of(table: pd.DataFrame, share: float, fold: int = 0, seed: int = 0) -> set[str]:
    return set(table["group"][kept_rows(table, share, fold, seed)])


@pytest.mark.parametrize("strata", [[1], [7], [100], [60, 30, 10], [1] * 20])
def test_shares_are_whole_groups_one_within_the_other(strata: list[int]) -> None:
    table, before = samples(strata), set[str]()
    for share in SHARES:
        kept = groups_of(table, share)
        assert kept_rows(table, share, 0, 0).sum() == table["group"].isin(kept).sum()
        assert len(kept) == max(1, int(share * sum(strata) + 1e-9))
        assert before <= kept
        before = kept
    assert before == set(table["group"])


def test_each_stratum_has_its_part_in_a_share() -> None:
    table = samples([60, 30, 10])
    for seed in range(20):
        for share, expected in ((0.1, [6, 3, 1]), (0.5, [30, 15, 5])):
            kept = table[kept_rows(table, share, 0, seed)].drop_duplicates("group")
            found = kept["stratum"].value_counts().reindex(["s0", "s1", "s2"])
            assert (found - expected).abs().max() <= 1


def test_every_fold_and_seed_draws_its_own_groups_and_all_are_drawn() -> None:
    table = samples([40])
    drawn = [groups_of(table, 0.5, fold, seed) for fold in range(3) for seed in range(10)]
    assert len({tuple(sorted(kept)) for kept in drawn}) == len(drawn)
    assert groups_of(table.sample(frac=1, random_state=1), 0.5) == drawn[0]
    times = pd.Series([name for kept in drawn for name in kept]).value_counts()
    assert len(times) == 40
    assert 5 <= times.min() <= times.max() <= 25


@pytest.fixture
def half(tree: dict[str, Any]) -> dict[str, Any]:
    """The candidate that tests train, on half of its groups, beside the one on all."""
    tree["candidates"]["whole"] = dict(tree["candidates"]["mobilenetv2_035"])
    tree["candidates"]["mobilenetv2_035"]["train_share"] = 0.5
    tree["comparison"]["candidates"] = ["whole", "mobilenetv2_035"]
    return tree


def opened(tree: dict[str, Any], candidate: str, packed: Path) -> TrainingData:
    params = Params.model_validate(tree)
    resolved = resolve(params.hardware)
    return open_data(params, candidate, 0, 0, packed / "arrays", resolved, one_process())


def test_half_of_the_groups_take_as_many_steps(half: dict[str, Any], packed: Path) -> None:
    part, whole = (opened(half, alias, packed) for alias in ("mobilenetv2_035", "whole"))
    table = open_arrays(packed / "arrays/fold0/train").samples
    assert (part.num_groups, whole.num_groups) == (
        table["group"].nunique() // 2,
        table["group"].nunique(),
    )
    kept = set(table["group"].iloc[part.rows])
    assert set(table.index[table["group"].isin(kept)]) == set(part.rows)  # whole groups
    assert len(part.batches) == len(whole.batches) == len(table) // 4
    seen = [id for step in range(len(part.batches)) for id in part.batches.ids(0, step)]
    assert set(seen) == set(table["id"].iloc[part.rows])
    counts = pd.Series(seen).value_counts()
    assert 1 <= counts.min() <= counts.max() <= 3  # gone through about twice
    half["train"]["steps_per_epoch"] = 3
    assert len(opened(half, "mobilenetv2_035", packed).batches) == 3


def test_rare_classes_and_weights_are_those_of_the_kept_groups(
    half: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    half["train"].update(num_epochs=1, batch_size=2, oversample=0.9)
    half["train"]["loss"] = {"bce": {"weight": 1.0, "class_weights": "auto"}, "dice": 1.0}
    part, whole = (opened(half, alias, packed) for alias in ("mobilenetv2_035", "whole"))
    assert len(part.batches) == len(whole.batches)
    fit_one(Params.model_validate(half), packed, tmp_path)
    masks = open_arrays(packed / "arrays/fold0/train").masks[part.rows]
    share = float((masks == 1).mean())
    expected = pytest.approx([0.5 / (1 - share), 0.5 / share], rel=1e-3)
    assert outcome(tmp_path)["class_weights"]["bce"] == expected
    assert outcome(tmp_path)["train_groups"] == part.num_groups
    record = tmp_path / "train/record"
    assert json.loads((record / "end.json").read_text())["tags"]["train_groups"] == str(
        part.num_groups
    )
    assert json.loads((record / "run.json").read_text())["params"]["candidate.train_share"] == "0.5"


def test_patches_and_copies_follow_their_group(half: dict[str, Any], tmp_path: Path) -> None:
    half["augment"].update(
        patches={"height": 48, "width": 48, "overlap": 16}, copies=1, online=False
    )
    packed = pack(Params.model_validate(half), tmp_path)
    table = open_arrays(packed / "arrays/fold0/train").samples
    part = opened(half, "mobilenetv2_035", packed)
    kept = set(table["group"].iloc[part.rows])
    assert 2 * len(kept) == table["group"].nunique()
    assert set(table.index[table["group"].isin(kept)]) == set(part.rows)
    assert set(table["copy"].iloc[part.rows]) == {0, 1}


def test_a_checkpoint_of_another_share_is_not_resumed(half: dict[str, Any], packed: Path) -> None:
    def key(share: float) -> str:
        half["candidates"]["mobilenetv2_035"]["train_share"] = share
        params = Params.model_validate(half)
        resolved = resolve(params.hardware)
        return checkpoint_key(params, "mobilenetv2_035", 0, 0, resolved, packed / "arrays")

    assert key(0.5) == key(0.5) != key(0.25)


def check(tree: dict[str, Any], packed: Path) -> None:
    params = Params.model_validate(tree)
    check_shares(params, "whole", 0, 0, packed / "arrays")


def test_a_share_that_is_too_small_is_refused_before_any_is_trained(
    half: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    check(half, packed)
    half["candidates"]["mobilenetv2_035"]["train_share"] = 0.01
    with pytest.raises(
        InputError,
        match=r"^candidates.mobilenetv2_035.train_share: 0.01 keeps 1 of "
        r"\d+ training groups in fold 0 with seed 0, 3 images, fewer than "
        r"train.batch_size: 4; raise the share, or lower the batch size for all$",
    ):
        check(half, packed)
    half["train"]["batch_size"] = 2
    check(half, packed)
    table = open_arrays(packed / "arrays/fold0/train").samples
    folder = tmp_path / "arrays/fold0/train"
    folder.mkdir(parents=True)
    for name in ("header.json", "dataset.json"):
        shutil.copy(packed / "arrays" / name, tmp_path / "arrays")
    masks = np.load(packed / "arrays/fold0/train/masks.npy")
    np.save(folder / "images.npy", np.load(packed / "arrays/fold0/train/images.npy"))
    table.to_csv(folder / "samples.csv", index=False)
    masks[kept_rows(table, 0.01, 0, 0)] = 0
    np.save(folder / "masks.npy", masks)
    with pytest.raises(InputError, match=r"1 of .* with seed 0, and no object in them; raise"):
        check(half, tmp_path)
    masks[kept_rows(table, 0.01, 0, 0)] = IGNORE
    np.save(folder / "masks.npy", masks)
    with pytest.raises(InputError, match=r"keeps 0 of .*, 0 images, fewer than train.batch"):
        check(half, tmp_path)
    table.assign(group="one").to_csv(folder / "samples.csv", index=False)
    with pytest.raises(
        InputError, match=r"keeps 1 of 1 training groups .*, which is all; lower it"
    ):
        check(half, tmp_path)
