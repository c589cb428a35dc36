"""Progress: a line when one is due, with numbers that are right after a resume too."""

import io
from typing import Any

import pytest

from segbench.progress import ProgressBar, duration, with_progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(steps: int, seconds: float, done: int = 0, **named: Any) -> list[str]:
    """Lines of a loop of 1,000 steps, of which each takes `seconds`."""
    clock, stream = Clock(), io.StringIO()
    with ProgressBar("train", 1000, clock=clock, stream=stream, **named) as bar:
        if done:
            bar.go_on_from(done)
        for _ in range(steps):
            clock.now += seconds
            bar.update()
    return stream.getvalue().splitlines()


def test_a_line_every_half_minute() -> None:
    assert run(100, 1.0, units="steps") == [
        "train: 30 of 1,000 steps, 3 %, 1 steps/s, 16 min 10 s left",
        "train: 60 of 1,000 steps, 6 %, 1 steps/s, 15 min 40 s left",
        "train: 90 of 1,000 steps, 9 %, 1 steps/s, 15 min 10 s left",
    ]


def test_none_for_a_loop_that_is_soon_over() -> None:
    assert run(1000, 0.029) == []


def test_one_for_each_step_that_takes_longer() -> None:
    lines = run(3, 100.0)
    assert len(lines) == 3
    assert lines[0] == "train: 1 of 1,000 images, 0 %, 0.0 images/s, 27 h 45 min left"


def test_what_was_done_before_has_no_speed() -> None:
    """A resumed training has done 900 steps, and does 2 in a second."""
    (line,) = run(60, 0.5, done=900, units="steps", speed=("images", 16))
    assert line == "train: 960 of 1,000 steps, 96 %, 32 images/s, 0 min 20 s left"


def test_a_place_and_a_note_in_words() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = ProgressBar("train", 10, place=lambda: "epoch 1 of 2", clock=clock, stream=stream)
    bar.note("val dice 0.500")
    clock.now += 31
    bar.remind()
    bar.remind()
    assert stream.getvalue() == "train: epoch 1 of 2, 0 %, 0 images/s, val dice 0.500\n"


def test_a_total_that_shrinks() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = ProgressBar("train", 1000, "steps", clock=clock, stream=stream)
    bar.total = 400
    clock.now += 50
    bar.update(100)
    assert stream.getvalue() == "train: 100 of 400 steps, 25 %, 2 steps/s, 2 min 30 s left\n"


def test_a_download_whose_size_is_unknown() -> None:
    """As pooch uses a bar: a total of 0, chunks, and the whole at the end."""
    clock, stream = Clock(), io.StringIO()
    bar = ProgressBar("a.zip", None, "MB", scale=1e6, clock=clock, stream=stream)
    bar.total = 0
    clock.now += 40
    bar.update(100_000_000)
    bar.total = 400_000_000
    clock.now += 40
    bar.reset()
    bar.update(400_000_000)
    bar.close()
    assert stream.getvalue().splitlines() == [
        "a.zip: 100 MB, 2.5 MB/s",
        "a.zip: 400 of 400 MB, 100 %, 5 MB/s, 0 min 00 s left",
    ]


def test_silent_where_it_is_not_shown() -> None:
    assert run(100, 1.0, shown=False) == []


def test_a_bar_on_a_terminal_goes_on_from_a_resumed_training() -> None:
    stream = Terminal()
    with ProgressBar("train", 1000, "steps", stream=stream) as bar:
        bar.go_on_from(900)
        bar.note("val dice 0.500 after epoch 9")
        bar.update(100)
    last = stream.getvalue().rstrip("\n").rpartition("\r")[2]
    assert last.startswith("train: 100%|")
    assert "1000/1000" in last
    assert "val dice 0.500 after epoch 9" in last
    # No thread beside the network; a library may have one for bars of its own.
    assert "monitor" not in vars(type(bar._bar))


def test_items_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert [*with_progress(iter("abc"), "letters", 3)] == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 min 00 s"), (125, "2 min 05 s"), (4200, "1 h 10 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
