"""Costs are kept by model and machine; what a training took is read from what it left."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.comparison.expenses import Expenses
from segbench.comparison.training_effort import images_to_reach, training_seconds
from segbench.errors import InputError
from segbench.evaluation.costs import (
    COLUMNS,
    Cost,
    Machine,
    Quartiles,
    model_key,
    model_keys,
    read_all_costs,
    read_costs,
    read_rows,
    to_row,
    write_rows,
)
from segbench.params import Params
from support.headers import HEADER, INFO

HERE, THERE = Machine("cpu", "slow, 2 cores", 2), Machine("cuda", "fast", 8)


def cost(latency: float) -> Cost:
    quartiles = Quartiles(latency, latency / 2, 2 * latency)
    return Cost("torch 2", 10, 1000, 40, quartiles, Quartiles(8.0, 7.5, 8.125), 12.5)


def write(path: Path, params: Params, found: dict[Machine, dict[str, Cost]]) -> None:
    keys = model_keys(params, HEADER)
    rows = [
        to_row(keys[alias], machine, params, alias, HEADER, value)
        for machine, costs in found.items()
        for alias, value in costs.items()
    ]
    write_rows(path, rows)


def test_what_is_written_is_read(params: Params, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    unknown = replace(cost(2.0), peak_mib=None)
    costs = {"mobilenetv2_035": cost(1.0), "regnetx_002": unknown}
    write(path, params, {HERE: costs})
    assert read_costs(path, params, HEADER) == costs
    text = path.read_bytes()
    write_rows(path, read_rows(path))
    assert path.read_bytes() == text


def test_latencies_by_other_runtimes_are_kept(params: Params, tmp_path: Path) -> None:
    """Beside rows without them, and in a file of an earlier version, which has no such columns."""
    path = tmp_path / "costs.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{GOOD}\n")
    quick = replace(cost(1.0), other_latencies_ms={"openvino": Quartiles(0.5, 0.25, 0.75)})
    costs = {"mobilenetv2_035": quick, "regnetx_002": cost(2.0)}
    rows = read_rows(path)
    write(path, params, {HERE: costs})
    write_rows(path, [*rows, *read_rows(path)])
    assert read_costs(path, params, HEADER) == costs
    assert path.read_text().splitlines()[1].startswith(GOOD)


def test_another_order_by_another_runtime() -> None:
    quick, slow = (
        replace(cost(own), other_latencies_ms={"openvino": Quartiles(by, by, by), "same": same})
        for own, by, same in ((1.0, 9.0, Quartiles(1, 1, 1)), (2.0, 8.0, Quartiles(2, 2, 2)))
    )
    expenses = Expenses({"a": quick, "b": slow}, "here", {})
    assert expenses.other_orders() == {"openvino": ["b", "a"]}
    assert Expenses({"a": cost(1.0), "b": cost(2.0)}, "here", {}).other_orders() == {}


def test_of_several_machines_the_last_that_has_all_counts(params: Params, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    both = {"mobilenetv2_035": cost(1.0), "regnetx_002": cost(2.0)}
    faster = {alias: cost(0.5) for alias in both}
    one = {"mobilenetv2_035": cost(3.0)}
    write(path, params, {HERE: both, THERE: faster})
    assert read_costs(path, params, HEADER) == faster
    write(path, params, {HERE: both, THERE: one})
    assert read_costs(path, params, HEADER) == both
    assert read_all_costs(path, params, HEADER) == {HERE: both, THERE: one}
    write(path, params, {THERE: one})
    with pytest.raises(InputError, match="no machine has current costs of all of mobilenetv2_035"):
        read_costs(path, params, HEADER)
    with pytest.raises(InputError, match="missing; run 'segbench repro measure' to measure costs"):
        read_costs(tmp_path / "none.csv", params, HEADER)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["model"].update(architecture="fpn"),
        lambda tree: tree["model"]["architecture_args"].update(decoder_channels=[8, 8, 8, 8, 8]),
        lambda tree: tree["candidates"]["resnet18"].update(encoder="resnet34"),
        lambda tree: tree["candidates"]["resnet18"].update(encoder_args={"a": 1}),
        lambda tree: tree["evaluate"].update(batch_size=3),
        lambda tree: tree["evaluate"].update(flips=True),
        lambda tree: tree["hardware"].update(deterministic=False),
    ],
)
def test_what_costs_something_is_in_the_key(change: Any, tree: dict[str, Any]) -> None:
    before = model_key(Params.model_validate(tree), "resnet18", HEADER)
    change(tree)
    assert model_key(Params.model_validate(tree), "resnet18", HEADER) != before


def test_sizes_are_in_the_key_and_weights_are_not(tree: dict[str, Any]) -> None:
    params = Params.model_validate(tree)
    key = model_key(params, "resnet18", HEADER)
    assert model_key(params, "resnet18", replace(HEADER, width=64)) != key
    classes = ("background", "a", "b")
    more = replace(HEADER, dataset=replace(INFO, classes=classes))
    assert model_key(params, "resnet18", more) != key
    tree["candidates"]["resnet18"].update(weights="imagenet", input_scaling="pretrained")
    tree["train"].update(num_epochs=7)
    assert model_key(Params.model_validate(tree), "resnet18", HEADER) == key


HEAD = ",".join(COLUMNS)
GOOD = "k,cpu,p,2,v,unet,resnet18,64,96,16,1,2,3,1.0,1.0,1.0,1.0,1.0,1.0,1.0"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "a,b\n1,2\n",
        f"<<<<<<< HEAD\n{HEAD}\n",
        f"{HEAD}\n{GOOD}\n=======\n",
        f"{HEAD}\n{GOOD},1\n",
        f"{HEAD}\n{GOOD}\n{GOOD}\n",
        f"{HEAD}\n{GOOD[:-3]}fast\n",
        f"{HEAD}\n{GOOD[:-3]}nan\n",
        f"{HEAD}\n{GOOD.replace('p,2', 'p,two')}\n",
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_refused(content: str | bytes, params: Params, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(f"{HEAD}\n{GOOD}\n")
    read_rows(path)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"costs.csv: not a table of costs .*; restore") as caught:
        read_costs(path, params, HEADER)
    assert "\n" not in str(caught.value)


def test_images_to_reach_by_hand() -> None:
    history = pd.DataFrame({"val_dice_per_image": [np.nan, 0.3, 0.73, 0.5, 0.8, 0.79]})
    assert images_to_reach(history, 0.9, 100) == 300  # 0.73 is more than 0.9 x 0.8
    assert images_to_reach(history, 0.95, 100) == 500
    assert images_to_reach(history, 1.0, 100) == 500
    assert images_to_reach(history, 0.1, 100) == 200
    assert images_to_reach(history[:1], 0.9, 100) is None


def test_training_seconds_by_hand(tmp_path: Path) -> None:
    assert training_seconds(tmp_path) is None
    lines = [{"step": step, "values": {"train_seconds": 2.0 * (1 + step)}} for step in (0, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert training_seconds(tmp_path) == 2 + 4
