"""What a network costs is measured once, for all candidates together, and kept by machine."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.arrays.store import write_header
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.evaluation import inference
from segbench.evaluation import measure as measuring
from segbench.evaluation.costs import Machine, model_keys, read_all_costs, read_costs, read_rows
from segbench.evaluation.inference import count_multiply_adds, time_interleaved, weight_bytes
from segbench.evaluation.measure import measure
from segbench.models.flips import FlipAveraged
from segbench.models.network import num_parameters
from segbench.params import Params
from support.headers import HEADER

Timed = list[tuple[str, int | str]]


class Place:
    """A folder of packed arrays, and the costs that are measured for it."""

    def __init__(self, folder: Path) -> None:
        self.arrays = folder / "arrays"
        self.arrays.mkdir()
        write_header(self.arrays, HEADER)
        self.out = folder / "costs.csv"

    def measure(self, tree: dict[str, Any], *candidates: str) -> str:
        tree["comparison"]["candidates"] = [*candidates]
        return measure(Params.model_validate(tree), self.arrays, self.out)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def tree(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """On the CPU, wherever the tests run; with one thread, which waits for no other."""
    tree["hardware"].update(device="cpu", threads=1)
    tree["evaluate"]["batch_size"] = 2
    before = torch.get_num_threads()
    yield tree
    torch.set_num_threads(before)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Costs are not timed, in no process of its own; a list of what would have been."""
    found: Timed = []

    def pretend(works: Any, device: str) -> Any:
        found.extend(works)
        return {name: np.full(3, 0.25) for name in works}

    monkeypatch.setattr(inference, "time_interleaved", pretend)
    monkeypatch.setattr(measuring, "_start_server", lambda: None)
    monkeypatch.setattr(inference, "_peaks_apart", lambda keys, *_: dict.fromkeys(keys, 1.0))
    return found


def tiny() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 2, 1),
        nn.ConvTranspose2d(2, 2, 2, stride=2),
    ).eval()


def test_multiply_adds_by_hand() -> None:
    """On 8x12 pixels, of which the first layer makes 4x6."""
    image = torch.zeros(1, 3, 8, 12)
    by_hand = 24 * 8 * 27 + 24 * 8 * 9 + 24 * 2 * 8 + 24 * 4 * 2 * 2
    assert count_multiply_adds(tiny(), image) == by_hand
    assert count_multiply_adds(FlipAveraged(tiny()), image) == 4 * by_hand


def test_attention_counts_as_its_two_products() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_multiply_adds(Attention(), torch.zeros(1, 2, 5, 4)) == 2 * (2 * 5 * 5 * 4)


def test_parameters_and_bytes_by_hand() -> None:
    learnt = (8 * 27 + 8) + 16 + (8 * 9 + 8) + (8 * 2 + 2) + (2 * 2 * 4 + 2)
    assert num_parameters(tiny()) == learnt
    # Batch norm's mean and variance, and a 64-bit number of batches.
    assert weight_bytes(tiny()) == 4 * (learnt + 16) + 8


def test_rounds_go_through_all_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ROUNDS", 2)
    monkeypatch.setattr(inference, "WARM_CALLS", 1)
    monkeypatch.setattr(inference, "MOST_CALLS", 1)
    calls: list[str] = []
    found = time_interleaved({(name, 1): partial(calls.append, name) for name in "ab"}, "cpu")
    assert calls == [*"ab", *"ab", *"ab"]
    assert {name: len(seconds) for name, seconds in found.items()} == {("a", 1): 2, ("b", 1): 2}


@pytest.mark.parametrize(
    ("seconds", "rounds"),
    [([0.2], inference.FEWEST_ROUNDS), ([0.2, 0.3], inference.ROUNDS)],
)
def test_rounds_end_when_every_median_is_precise(
    seconds: list[float], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_seconds", lambda work, device: work())
    works = {("even", 1): lambda: 0.2, ("other", 1): partial(next, cycle(seconds))}
    assert {len(found) for found in time_interleaved(works, "cpu").values()} == {rounds}


def test_slow_networks_have_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "PRECISE", -1.0)
    monkeypatch.setattr(inference, "ENOUGH_S", 0.0)
    (seconds,) = time_interleaved({("a", 1): lambda: None}, "cpu").values()
    assert len(seconds) == inference.FEWEST_ROUNDS


def test_a_larger_network_costs_more(
    place: Place, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured, but for fewer rounds; memory in processes of their own."""
    monkeypatch.setattr(inference, "ROUNDS", 2)
    monkeypatch.setattr(inference, "TURN_S", 0.0)
    said = place.measure(tree, "mobilenetv2_035", "resnet18")
    assert said.splitlines()[-1].startswith("one image of 96x64 on ")
    costs = read_costs(place.out, Params.model_validate(tree), HEADER)
    small, large = costs["mobilenetv2_035"], costs["resnet18"]
    assert small.parameters < large.parameters
    assert small.multiply_adds < large.multiply_adds
    assert 4 * small.parameters < small.weight_bytes < large.weight_bytes
    assert small.peak_mib is not None
    assert large.peak_mib is not None
    assert large.peak_mib > large.weight_bytes / 2**20
    for cost in costs.values():
        for spread in (cost.latency_ms, cost.images_per_second):
            assert 0 < spread.q1 <= spread.median <= spread.q3


def test_what_is_known_is_not_measured_again(
    place: Place, tree: dict[str, Any], timed: Timed
) -> None:
    place.measure(tree, "mobilenetv2_035", "resnet18")
    before = place.out.read_bytes()
    assert len(timed) == 2 * 2
    said = place.measure(tree, "mobilenetv2_035", "resnet18")
    assert said.startswith("mobilenetv2_035, resnet18: already measured on ")
    # One less, and the same network with other weights.
    tree["candidates"]["pretrained"] = dict(tree["candidates"]["resnet18"], weights="imagenet")
    place.measure(tree, "pretrained")
    assert len(timed) == 2 * 2
    assert place.out.read_bytes() == before


def test_a_new_candidate_has_all_measured_again(
    place: Place, tree: dict[str, Any], timed: Timed
) -> None:
    place.measure(tree, "mobilenetv2_035", "resnet18")
    timed.clear()
    place.measure(tree, "resnet18", "regnetx_002")
    keys = model_keys(Params.model_validate(tree), HEADER)
    assert {key for key, _ in timed} == {*keys.values()}
    # Rows of one machine are of one measurement.
    assert [row["model"] for row in read_rows(place.out)] == [*keys.values()]


def test_aliases_of_one_network_share_a_row(
    place: Place, tree: dict[str, Any], timed: Timed
) -> None:
    tree["candidates"]["again"] = dict(tree["candidates"]["resnet18"], input_scaling="unit")
    place.measure(tree, "resnet18", "again")
    assert len(read_rows(place.out)) == 1
    costs = read_costs(place.out, Params.model_validate(tree), HEADER)
    assert costs["again"] == costs["resnet18"]


def test_rows_of_other_machines_stay(
    place: Place, tree: dict[str, Any], timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.measure(tree, "resnet18")
    here = place.out.read_text()
    other = Machine("cpu", 'another "one", 64 cores', 64)
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "this_machine", lambda _: other)
        place.measure(tree, "mobilenetv2_035", "resnet18")
        assert place.out.read_text().startswith(here)
    there = place.out.read_text().removeprefix(here)
    place.measure(tree, "mobilenetv2_035", "resnet18")
    text = place.out.read_text()
    assert text.splitlines()[1:3] == there.splitlines()
    assert len(text.splitlines()) == 1 + 4
    found = read_all_costs(place.out, Params.model_validate(tree), HEADER)
    assert next(iter(found)) == other  # and last the one that was measured last
    assert {len(costs) for costs in found.values()} == {2}


def test_a_busy_machine_is_said(
    place: Place, tree: dict[str, Any], timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\n" not in place.measure(tree, "resnet18")
    place.out.unlink()
    uneven = np.array([0.1, 0.2, 0.4])
    monkeypatch.setattr(
        inference, "time_interleaved", lambda works, _: dict.fromkeys(works, uneven)
    )
    warning, _ = place.measure(tree, "resnet18").splitlines()
    assert warning.startswith("WARNING: latencies vary by half or more")


def test_other_versions_are_measured_anew(
    place: Place, tree: dict[str, Any], timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.measure(tree, "resnet18")
    monkeypatch.setattr(inference, "library_versions", lambda _: "torch 99")
    place.measure(tree, "resnet18")
    assert [row["versions"] for row in read_rows(place.out)] == ["torch 99"]


@pytest.mark.parametrize("flips", [False, True])
def test_other_runtimes_are_timed_in_the_same_rounds(
    flips: bool, place: Place, tree: dict[str, Any], timed: Timed
) -> None:
    place.measure(tree, "mobilenetv2_035")
    tree["comparison"]["runtimes"] = ["onnxruntime"]
    tree["evaluate"]["flips"] = flips
    timed.clear()
    place.measure(tree, "mobilenetv2_035", "resnet18")
    params = Params.model_validate(tree)
    keys = [*model_keys(params, HEADER).values()]
    assert [*timed] == [(key, what) for key in keys for what in (1, 2, "onnxruntime")]
    for cost in read_costs(place.out, params, HEADER).values():
        assert cost.other_latencies_ms["onnxruntime"].median == 250
        assert f"onnxruntime {version('onnxruntime')}" in cost.versions
    # What is known of more runtimes than are asked for is known.
    tree["comparison"]["runtimes"] = []
    assert "already measured" in place.measure(tree, "mobilenetv2_035", "resnet18")


@pytest.mark.parametrize("flips", [False, True])
def test_what_is_timed_of_another_runtime_gives_the_logits(
    flips: bool, place: Place, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[Any, np.ndarray] = {}

    def call(works: Any, device: str) -> Any:
        with torch.no_grad():
            found.update({what: np.asarray(work()) for (_, what), work in works.items()})
        return {name: np.full(3, 0.25) for name in works}

    monkeypatch.setattr(inference, "time_interleaved", call)
    monkeypatch.setattr(inference, "_peaks_apart", lambda keys, *_: dict.fromkeys(keys, 1.0))
    tree["comparison"]["runtimes"] = ["onnxruntime"]
    tree["evaluate"]["flips"] = flips
    place.measure(tree, "mobilenetv2_035")
    assert found[1].shape == (1, 1, 64, 96)
    np.testing.assert_allclose(found["onnxruntime"], found[1], rtol=1e-3, atol=1e-3)


def test_another_runtime_runs_on_the_cpu(
    place: Place, tree: dict[str, Any], timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["comparison"]["runtimes"] = ["onnxruntime"]
    resolved = replace(resolve(Params.model_validate(tree).hardware), device="cuda")
    monkeypatch.setattr("segbench.devices.resolve", lambda _: resolved)
    with pytest.raises(InputError, match=r"onnxruntime run on the CPU, the networks on cuda; set"):
        place.measure(tree, "resnet18")


def test_mistakes_are_one_line(
    place: Place, tree: dict[str, Any], timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.out.write_text("mine\n")
    with pytest.raises(InputError, match=r"costs.csv: not a table of costs"):
        place.measure(tree, "resnet18")
    assert place.out.read_text() == "mine\n"
    place.out.unlink()
    tree["candidates"]["resnet18"]["encoder"] = "resnet81"
    with pytest.raises(InputError, match=r"resnet18.encoder: unknown 'resnet81' \(did you mean"):
        place.measure(tree, "resnet18")

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(inference, "measure_networks", full)
    with pytest.raises(InputError, match=r"out of memory; evaluate.batch_size: 2 images .* halve"):
        place.measure(tree, "mobilenetv2_035")
    assert not place.out.exists()


def killed(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_killed(
    place: Place, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_growth", killed)
    with pytest.raises(InputError, match=r"was killed, probably out of memory; halve"):
        place.measure(tree, "resnet18")
    assert not place.out.exists()
