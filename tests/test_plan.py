"""A plan is made from a few timed steps."""

from types import SimpleNamespace
from typing import Any

import pytest

from segbench import plan
from segbench.params import Params
from segbench.plan import Images, Speed, estimate_runs, read_samples, time_network
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

    monkeypatch.setattr(plan, "time", SimpleNamespace(perf_counter=lambda: now))
    assert plan._seconds_per_image(work, 16, "cpu") == pytest.approx(seconds)
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
    speed = Speed(steps=[1.0, 4.0], predict=0.5, latency=1.0, num_modules=9, num_parameters=7)
    images = Images(all=100, val=10, test=10, copies=0)
    found = estimate_runs(params, speed, 0.25, read_samples(params), images, start_up=0.0)
    validated = 0.5 * 10
    trials, first = 2 * 3 * (80 * 1.25 + validated), 12 * (80 * 1.25 + validated)
    assert found["train"].seconds == pytest.approx(trials + first + 5 * (80 * 4.25 + validated))
    assert found["evaluate"].seconds == pytest.approx(0.5 * 20)


def test_a_larger_network_takes_longer(params: Params) -> None:
    small, large = (
        time_network(params, params.candidates[name]) for name in ("mobilenetv2_035", "resnet18")
    )
    assert small.num_parameters < large.num_parameters
    for speed in (small, large):
        assert len(speed.steps) == 1
        assert 0 < speed.predict < speed.steps[0]
