"""A record from a stranger is replayed if it holds what records hold, else refused in one line."""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segbench.comparison.page import write_report
from segbench.errors import InputError
from segbench.files import PACKAGE
from segbench.params import Params
from segbench.tracking.inspection import check_record, sound_records
from segbench.tracking.records import ModelFile, read_run
from segbench.untrusted.pages import SCRIPTS, check_page
from support.hostile import pickled, small_program, write_program
from support.mlflow_server import everything, write_record
from support.report import content

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


def _set(**fields: Any) -> Callable[[Path], None]:
    """Write fields of run.json."""

    def change(folder: Path) -> None:
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    change.__name__ = "_".join(fields)
    return change


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    change.__name__ = name
    return change


def _link(folder: Path) -> None:
    (folder / "artifacts/pictures/notes.txt").symlink_to(folder.parent / "secret.txt")


def _linked_folder(folder: Path) -> None:
    (folder / "artifacts/more").symlink_to(folder.parent / "private")


def _linked_metrics(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(folder.parent / "secret.txt")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "artifacts/pictures/pipe.png")


def _model(place: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_program(folder.parent / "model.pt2", small_program(folder.parent))
        _set(model={"path": place, "channels": 3, "num_outputs": 1})(folder)

    return change


def _pickled_model(folder: Path) -> None:
    parts = small_program(folder.parent)
    parts["data/sample_inputs/model.pt"] = pickled(folder.parent / "canary")
    write_program(folder.parent / "model.pt2", parts)
    _set(model={"path": "../model.pt2", "channels": 3, "num_outputs": 1})(folder)


def _network(folder: Path) -> None:
    """ONNX beside the program, with weights in a file of somebody else."""
    onnx = pytest.importorskip("onnx")
    _model("../model.pt2")(folder)
    weights = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    weights.external_data.add(key="location", value="../secret.txt")
    made = onnx.ModelProto(ir_version=10)
    made.graph.initializer.append(weights)
    (folder.parent / "model.onnx").write_bytes(made.SerializeToString())


def _linked_network(folder: Path) -> None:
    _model("../model.pt2")(folder)
    (folder.parent / "model.onnx").symlink_to(folder.parents[1] / "secret.txt")


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


SCRIPT = "<!doctype html><html><body><script>fetch('/api')</script></body></html>"
LINE = '{"step": 0, "time_ms": 1, "values": {%s}}\n'
BAD: list[tuple[Callable[[Path], None], str]] = [
    (_set(id="../../../tmp/x"), "id: '../../../tmp/x'"),
    (_set(id="a' or ''='"), "id: "),
    (_set(stage="deploy"), "stage: 'deploy'"),
    (_set(started_ms=10**30), "started_ms"),
    (_set(started_ms="yesterday"), "started_ms"),
    (_set(name="x" * 300), "'name' is no text"),
    (_set(name="\x1b[2J"), "control characters"),
    (_set(params={"../x": "1"}), "params: '../x'"),
    (_set(params={f"p{at}": "1" for at in range(30_000)}), "30000 entries"),
    (_set(params={"x": "y" * 200_000}), "at most 100000 characters"),
    (_set(tags={"segbench.run": "b" * 32}), "'segbench.run' is not a record's"),
    (_set(tags={"mlflow.parentRunId": "b" * 32}), "'mlflow.parentRunId' is not a record's"),
    (_set(children=["x"]), "children: 'x'"),
    (_set(comparison="x' or name != '"), "comparison: "),
    (_set(child_metrics={"b" * 32: {"../m": 1.0}}), "name of a metric"),
    (_set(inputs=[{"name": "x", "digest": "d", "source": "s", "profile": {"x": "y" * 2_000_000}}]),
     "profile"),
    (_set(unknown="x"), "unknown"),
    (_file("run.json", b"[" * 100_000), "run.json"),
    (_file("run.json", b"{"), "run.json"),
    (_file("end.json", b'{"status": "RUNNING", "time_ms": 1, "tags": {}}'), "status is none"),
    (_file("metrics.jsonl", (LINE % '"../../x": 1').encode()), "name of a metric"),
    (_file("metrics.jsonl", (LINE % '"x": "1"').encode()), "no number"),
    (_file("metrics.jsonl", b"x" * 2_000_000), "a line has more than"),
    (_file("artifacts/.htaccess", b""), "no name of an artifact"),
    (_file("artifacts/a/b/c/d/e.txt", b""), "no name of an artifact"),
    (_file("artifacts/x.svg", b"<svg onload='x'/>"), "no such kind of file"),
    (_file("artifacts/model.pkl", b""), "no such kind of file"),
    (_file("artifacts/report/other.html", b""), "no such kind of file"),
    (_file("artifacts/report/comparison.html", SCRIPT.encode()), "script that is none of segbench"),
    (_file("artifacts/pictures/x.png", b"<html>"), "no PNG picture"),
    (_file("artifacts/images/x.png", _bomb(60_000, 60_000)), "60000x60000 pixels"),
    (_file("artifacts/images/x.gif", b""), "no such kind of file"),
    (_file("artifacts/report/x.md", b"\xff\xfe"), "x.md"),
    (_link, "lies outside"),
    (_linked_folder, "link to another folder"),
    (_linked_metrics, "lies outside"),
    (_pipe, "no file"),
    (_model("../../secret.pt2"), "lies outside"),
    (_model("/etc/passwd"), "does not end with .pt2"),
    (_model("../other.pt2"), "'dvc pull' may bring it"),
    (_pickled_model, "pickle calls for"),
    (_network, "in other files: '../secret.txt'"),
    (_linked_network, "lies outside"),
]  # fmt: skip


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A good one, and files outside it that are nobody's business."""
    folder = tmp_path / "evaluated" / "record"
    write_record(folder)
    for place in (tmp_path, tmp_path / "evaluated"):
        (place / "secret.txt").write_text("{}\n")
        (place / "secret.pt2").write_text("")
    (tmp_path / "evaluated/private").mkdir()
    return folder


@pytest.mark.parametrize(("change", "said"), BAD)
def test_a_record_with_what_no_record_has_is_refused(
    change: Callable[[Path], None], said: str, record: Path
) -> None:
    check_record(record)
    change(record)
    (sound, refused) = sound_records([record])
    assert sound == []
    (line,) = refused
    assert said in line
    assert line.startswith(f"{record}: not replayed, nothing of it was sent: ")
    assert "\n" not in line
    assert line.isprintable()
    assert not (record.parent / "canary").exists()


def test_a_bad_record_is_refused_whole_and_the_others_are_sent(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from segbench.cli import command_line

    bad = tmp_path / "bad/record"
    write_record(bad, id="b" * 32, name="bad", experiment="bad")
    (tmp_path / "bad/secret.txt").write_text("secret")
    _link(bad)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("segbench.commands.sync.enter_workspace", lambda: None)
    done = CliRunner().invoke(
        command_line(), ["sync", str(tmp_path / "bad"), str(tmp_path / "evaluated")]
    )
    assert done.exit_code == 1
    assert f"1 records are in {uri}" in done.output
    assert list(everything(uri)) == ["resnet18-fold0-seed0"]
    assert len([line for line in done.output.splitlines() if "not replayed" in line]) == 1


def test_what_dvc_links_to_its_cache_is_inside(record: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache/files/md5/ab"
    cache.mkdir(parents=True)
    for at, name in enumerate(("artifacts/pictures/best.png", "metrics.jsonl")):
        place = cache / f"{at}".rjust(30, "0")
        (record / name).rename(place)
        (record / name).symlink_to(place)
    check_record(record)


def test_a_model_that_was_exported_passes(record: Path) -> None:
    write_program(record.parent / "model.pt2", small_program(record.parent))
    write_record(record, model=ModelFile("../model.pt2", 3, 1))
    assert check_record(record) == read_run(record)


def test_a_run_that_goes_on_does_so_by_a_sound_description_alone(record: Path) -> None:
    """As that in a store of checkpoints, which others may write to."""
    _set(id="../../x")(record)
    with pytest.raises(InputError, match=r"run\.json: id"):
        read_run(record)


def test_a_report_of_segbench_passes(params: Params, tmp_path: Path) -> None:
    script = (PACKAGE / "report/page.js").read_text().strip()
    assert hashlib.sha256(script.encode()).hexdigest() in SCRIPTS
    write_report(content(params, tmp_path, True), tmp_path / "reports")
    check_page((tmp_path / "reports/comparison.html").read_bytes())


PAGE = "<!doctype html><html><body>{}</body></html>"


@pytest.mark.parametrize(
    "body",
    [
        "<script src='https://somebody.example/x.js'></script>",
        "<script/src=x></script>",
        "<img src=x onerror=alert(1)>",
        "<img alt='>' onerror=alert(1)>",
        "<svg><script>alert(1)</script></svg>",
        "<svg><a xlink:href='java\tscript:alert(1)'><text>x</text></a></svg>",
        "<a href='&#106;avascript:alert(1)'>x</a>",
        "<a href=data:text/html,x>x</a>",
        "<iframe src='x'></iframe>",
        "<object data='x'></object>",
        "<base href='https://somebody.example'>",
        "<meta http-equiv='refresh' content='0;url=https://somebody.example'>",
        "<form action='https://somebody.example'><input name='x'></form>",
        "<img src='https://somebody.example/x.png'>",
        "<svg><foreignObject></foreignObject></svg>",
        "<svg><animate attributeName='href' values='javascript:alert(1)'/></svg>",
        "<!-- --!><script>alert(1)</script> -->",
        "<style><script></style>",
        "<math><mtext></mtext></math>",
    ],
)
def test_a_page_that_could_run_or_embed_something_is_refused(body: str) -> None:
    check_page(PAGE.format("<p>text <a href='https://example.org'>x</a></p>").encode())
    with pytest.raises(ValueError, match=r"it has|its <"):
        check_page(PAGE.format(body).encode())


def test_a_picture_is_not_decoded_to_be_checked(record: Path) -> None:
    Image.new("L", (8000, 7000)).save(record / "artifacts/pictures/large.png")
    check_record(record)
