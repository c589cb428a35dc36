"""What a view of jobs says, in a log and on a terminal, by a clock of the test's own."""

import io
from collections.abc import Iterable

import pytest

from segbench.jobs.forecast import Forecast
from segbench.jobs.pipeline import ALONE, BESIDE, Stage
from segbench.jobs.view import View
from segbench.progress import rough_duration


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def stage(name: str, *needs: str, sharing: str = BESIDE) -> Stage:
    return Stage(name, frozenset(needs), sharing)


def trainings(*items: str) -> list[Stage]:
    return [stage(f"train@{item}") for item in items]


def took(forecast: Forecast, name: str, seconds: float) -> None:
    forecast.started(name, 0)
    forecast.done(name, seconds)


def test_nothing_is_said_where_nothing_is_known() -> None:
    forecast = Forecast(trainings("a-0-0", "a-0-1"), 2)
    assert forecast.words(0) == ""
    forecast.started("train@a-0-0", 0)
    forecast.heard("train@a-0-0", "reads 3 files", 5)
    assert forecast.words(100) == ""


def test_stages_take_as_long_as_those_of_their_kind() -> None:
    forecast = Forecast(trainings(*(f"a-0-{seed}" for seed in range(6))), 2)
    took(forecast, "train@a-0-0", 100)
    took(forecast, "train@a-0-1", 140)
    assert forecast.words(200) == "about 4 min left"  # two after two others, of 120 s each
    forecast.started("train@a-0-2", 200)
    forecast.started("train@a-0-3", 260)
    assert forecast.words(260) == "about 4 min left"  # the first is half done, the last one not
    took(forecast, "train@a-0-2", 320)
    forecast.kept("train@a-0-4")
    forecast.kept("train@a-0-5")
    assert forecast.words(1000) == ""  # it should have ended long ago


def test_the_same_candidate_tells_more_than_others_do() -> None:
    forecast = Forecast(trainings("small-0-0", "big-0-0", "small-0-1", "big-0-1", "new-0-0"), 1)
    took(forecast, "train@small-0-0", 60)
    took(forecast, "train@big-0-0", 600)
    forecast.kept("train@new-0-0")
    assert forecast.words(0) == "about 11 min left"
    forecast.kept("train@big-0-1")
    assert forecast.words(0) == "about 1 min left"


def test_a_stage_that_says_how_far_it_is_counts_until_one_has_ended() -> None:
    forecast = Forecast(trainings("a-0-0", "a-0-1", "a-0-2"), 2)
    forecast.started("train@a-0-0", 0)
    forecast.started("train@a-0-1", 0)
    line = "a: epoch 2 of 5, step 37 of 54, 34 %, 4.8 images/s, 4 min 59 s left"
    forecast.heard("train@a-0-0", line, 301)
    # The second as the first, of which nothing else is known; the third is 600 s more.
    assert forecast.words(301) == "about 15 min left"
    forecast.heard("train@a-0-1", "train: 1 of 1,000 images, 0 %, 1 h 10 min left", 301)
    assert forecast.words(301) == "about 1 h 10 min left"


def test_what_may_take_any_time_makes_it_the_least() -> None:
    forecast = Forecast([*trainings("a-0-0", "a-0-1"), stage("compare", "train@a-0-1")], 2)
    took(forecast, "train@a-0-0", 40)
    assert forecast.words(40) == "at least 40 s left"


def test_what_runs_alone_and_what_waits_are_counted_so() -> None:
    ends = stage("last", "work@0", "work@1")
    stages = [stage("work@0"), stage("work@1"), stage("timed@0", sharing=ALONE), ends]
    known = [stage(name) for name in ("work@9", "timed@9", "last@9")]
    forecast = Forecast([*known, *stages], 4)
    for name, seconds in (("work@9", 120), ("timed@9", 180), ("last@9", 240)):
        took(forecast, name, seconds)
    # As the schedule has it, the one alone is first: 180 s, then 120 s side by side, then 240 s.
    assert forecast.words(0) == "about 9 min left"
    forecast.started("work@0", 0)
    forecast.failed("work@0")  # and with it 'last'
    assert forecast.words(0) == "about 5 min left"


def test_more_may_run_than_there_are_slots() -> None:
    forecast = Forecast(trainings("a-0-0", "a-0-1", "a-0-2", "a-0-3"), 2)
    took(forecast, "train@a-0-0", 600)
    for seed in (1, 2, 3):
        forecast.started(f"train@a-0-{seed}", 0)
    forecast.slots = 1  # a worker was lost
    assert forecast.words(0) == "about 10 min left"


def test_rough_durations() -> None:
    seconds = (1, 14, 54, 56, 100, 3560, 3600, 5000)
    words = "10 s, 10 s, 50 s, 1 min, 2 min, 59 min, 1 h 00 min, 1 h 23 min"
    assert ", ".join(rough_duration(one) for one in seconds) == words


def test_a_log_says_now_and_then_how_far_all_is() -> None:
    clock, log = Clock(), io.StringIO()
    stages = [stage("timed"), *trainings(*(f"a-0-{seed}" for seed in range(5)))]
    with View(stages, 2, log, clock) as view:
        view.kept(stages[0])
        view.starts(stages[1])
        view.started(stages[1], "1 core")
        view.starts(stages[2])
        view.started(stages[2], "1 core")
        view.heard(stages[2], "warning: it [/is] :x: [red]")
        clock.now = 29
        view.look(3)
        clock.now = 31
        view.look(3)
        clock.now = 61
        view.done(stages[1])
        view.starts(stages[3])
        view.started(stages[3], "1 core")
        view.look(2)
    assert log.getvalue().splitlines() == [
        "train@a-0-0: starts, with 1 core",
        "train@a-0-1: starts, with 1 core",
        "train@a-0-1: warning: it [/is] :x: [red]",
        "2 run, 3 could start (1 of 6 stages)",
        "train@a-0-0: done in 1 min 01 s (2 of 6 stages)",
        "train@a-0-2: starts, with 1 core",
        "2 run, 2 could start (2 of 6 stages), about 2 min left",
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in (("COLUMNS", "60"), ("LINES", "10")):
        monkeypatch.setenv(name, value)
    return Terminal()


def said(view: View, one: Stage, lines: Iterable[str]) -> None:
    for line in lines:
        view.heard(one, line)


def test_a_terminal_shows_all_that_a_failed_stage_said(terminal: Terminal) -> None:
    (one,) = trainings("a-0-0")
    with View([one], 1, terminal) as view:
        view.starts(one)
        view.started(one, "")
        said(
            view,
            one,
            ["a: 3 %, 0 min 05 s left", "Traceback [/of]", "  File :x:", "ValueError: bad"],
        )
        view.look(0)
        for line in ("Traceback", "File"):
            assert line not in terminal.getvalue()
        view.failed(one, "ValueError: bad (exit status 1)")
    shown = terminal.getvalue()
    for line in ("Traceback [/of]", "  File :x:", "failed: ValueError: bad (exit status 1)"):
        assert shown.count(f"train@a-0-0: {line}") == 1
    assert "3 %" not in shown


def test_a_terminal_shows_warnings_at_once(terminal: Terminal) -> None:
    (one,) = trainings("a-0-0")
    with View([one], 1, terminal) as view:
        view.starts(one)
        view.started(one, "")
        said(view, one, ["warning: MLflow is away", "epoch 1"])
        assert "train@a-0-0: warning: MLflow is away" in terminal.getvalue()
        assert "train@a-0-0: epoch 1" not in terminal.getvalue()
