"""Files and folders appear whole or not at all."""

from pathlib import Path

import pytest

from segbench.files import atomic_file, atomic_folder
from segbench.tracking.records import Record, Run, now_ms


def test_a_file_replaces_the_former_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_former_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as partial:
        (partial / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    for name in ("first", "second"):
        with atomic_folder(path) as partial:
            (partial / name).touch()
    assert [file.name for file in path.iterdir()] == ["second"]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".partial-folder").mkdir()
    (tmp_path / ".partial-folder" / "stale").touch()
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "new").touch()
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_record_says_how_it_ended(
    error: type[BaseException] | None, status: str, tmp_path: Path
) -> None:
    def work() -> None:
        with Record(tmp_path / "record", Run("a", "train", "e", "n", now_ms())) as record:
            record.log(0, {"loss": 1.0})
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert f'"status": "{status}"' in (tmp_path / "record" / "end.json").read_text()
    assert (tmp_path / "record" / "metrics.jsonl").read_text().count("\n") == 1
