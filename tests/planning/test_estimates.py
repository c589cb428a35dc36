"""A plan is made from a few timed steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.errors import InputError
from segbench.params import Params
from segbench.planning import costs, plan, speed
from segbench.planning.costs import estimate_runs
from segbench.planning.samples import Images, read_samples
from segbench.planning.speed import Speed, Timing, time_network
from segbench.planning.stages import parts_of
from support.own_folder import noise, own
from support.params import random_weights


@pytest.mark.parametrize(
    ("of_call", "of_image", "calls", "seconds"),
    [
        (0.1, 0.01, [2, 2, 16, 16, 16, 16], 0.1 / 16 + 0.01),
        (0.1, 1.0, [2, 2], 0.1 / 2 + 1.0),  # 16 images would take longer than 5 s
    ],
)
def test_steps_that_would_take_long_are_timed_with_two_images(
    of_call: float,
    of_image: float,
    calls: list[int],
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, counts = 0.0, []

    def work(count: int) -> None:
        nonlocal now
        counts.append(count)
        now += of_call + of_image * count

    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now))
    assert speed._seconds_per_image(work, 16, "cpu") == pytest.approx(seconds)
    assert counts == calls


def test_each_phase_has_its_own_speed(tree: dict[str, Any]) -> None:
    tree["train"].update(num_epochs=12, freeze_encoder="all")
    tree["candidates"] = random_weights(tree)
    tree["train"]["fine_tune"] = {
        **{"freeze_encoder": "none", "num_epochs": 5, "learning_rate": 3e-4},
        "early_stopping": tree["train"]["early_stopping"],
    }
    tree["comparison"]["tuning"] = {"learning_rates": [3e-3, 1e-2], "share": 0.25}
    params = Params.model_validate(tree)
    own = Speed(steps=[1.0, 4.0], predict=0.5, latency=1.0, num_modules=9, num_parameters=7)
    timing = Timing(start_up=0.0, made=0.25, cores=2, speeds={})
    images = Images(all=100, val=10, test=10, copies=0)
    found = estimate_runs(params, own, timing, read_samples(params.dataset), images)
    validated = 0.5 * 10
    trials, first = 2 * 3 * (80 * 1.25 + validated), 12 * (80 * 1.25 + validated)
    assert found["train"].seconds == pytest.approx(trials + first + 5 * (80 * 4.25 + validated))
    assert found["evaluate"].seconds == pytest.approx(0.5 * 20)


def test_a_larger_network_takes_longer(params: Params) -> None:
    small, large = (
        time_network(params, params.candidates[name]) for name in ("mobilenetv2_035", "resnet18")
    )
    assert small.num_parameters < large.num_parameters
    for found in (small, large):
        assert len(found.steps) == 1
        assert 0 < found.predict < found.steps[0]


def test_masks_that_resizing_empties_are_told_before_anything_runs(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    """Cracks 2 px wide in 512 x 512: at 64 x 64 only every eighth row is looked at."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for at in range(8):
        mask = np.zeros((512, 512), np.uint8)
        mask[at : at + 2] = 1
        Image.fromarray(noise(at, 512, 512)).save(tmp_path / "images" / f"{at}.png")
        Image.fromarray(255 * mask).save(tmp_path / "masks" / f"{at}_mask.png")
    tree["dataset"] = own(tmp_path).model_dump(mode="json")

    unreadable = own(tmp_path, mask={"values": {0: 0, 9: 1}}).model_dump(mode="json")
    params = Params.model_validate(tree | {"dataset": unreadable})
    with pytest.raises(InputError, match=r"not one sample can be read; the first: .*0_mask\.png"):
        read_samples(params.dataset)

    def said(size: int) -> str:
        tree["augment"].update(height=size, width=size)
        params = Params.model_validate(tree)
        samples = read_samples(params.dataset)
        assert len(samples.some) == 8
        return plan._lost_objects(params, samples)

    assert said(64).startswith("6 masks of 8 looked at lose all")
    assert said(512) == ""


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("split", ("split", "", "")),
        ("train@resnet18-0-1", ("train", "resnet18", "")),
        ("download_external@clinic", ("download_external", "", "clinic")),
        ("evaluate_external@resnet18-0-1-clinic", ("evaluate_external", "resnet18", "clinic")),
    ],
)
def test_a_stage_tells_its_candidate_and_its_external_set(
    stage: str, kind: tuple[str, str, str]
) -> None:
    assert parts_of(stage) == kind


def test_an_external_set_costs_what_its_own_images_take(tree: dict[str, Any]) -> None:
    few, many = ({**tree["dataset"], "num_sequences": number} for number in (4, 40))
    tree["comparison"]["external"] = {"few": few, "many": many}
    params = Params.model_validate(tree)
    sets = [read_samples(section) for section in params.comparison.external.values()]
    found = [costs.estimate_set(params, samples, total=36) for samples in sets]
    assert found[1]["download_external"].bytes == 10 * found[0]["download_external"].bytes
    assert found[1]["augment_external"].bytes == 10 * found[0]["augment_external"].bytes
    audited = [one["audit_external"].seconds for one in found]
    assert audited[1] / audited[0] == pytest.approx((120 + 36) / (12 + 36))
    network = Speed(steps=[1.0], predict=0.5, latency=1.0, num_modules=9, num_parameters=7)
    timing = Timing(start_up=0.0, made=0.0, cores=2, speeds={})
    scored = costs.seconds_to_score(params, network, sets[0], 12, timing)
    assert scored == pytest.approx(6.0)
