"""The command line: help that teaches, one line for a mistake, exit statuses, from any folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from segbench import cli
from segbench.tracking.records import Run, now_ms, write_run
from support.params import ROOT, read_params, write_params
from support.workspace import Workspace

COMMANDS = sorted(cli.command_line().commands)
SEGBENCH = (sys.executable, "-m", "segbench")

Said = tuple[int, str, str]
"""Exit status, stdout, stderr."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """Calls the command line in this process."""
    handler = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["segbench", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        if isinstance(end.value.code, str):  # the interpreter prints it at the end
            return 1, out, f"{err}{end.value.code}\n"
        return end.value.code or 0, out, err

    yield command
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params, recipes and dvc.yaml, which is the current one; no DVC, no git."""
    folder = tmp_path / "root"
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def test_the_script_is_this_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"segbench": f"{cli.main.__module__}:{cli.main.__name__}"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_examples(name: str, call: Callable[..., Said]) -> None:
    status, out, err = call(name, "--help")
    assert (status, err) == (0, "")
    _, _, examples = out.partition("Examples:\n")
    assert examples.count(f"segbench {name}") >= 1
    assert max(map(len, out.splitlines())) <= 80
    assert call(name, "-h")[1] == out


def test_the_help_names_every_command_and_teaches(call: Callable[..., Said]) -> None:
    status, out, _ = call("--help")
    assert status == 0
    listed = out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == COMMANDS
    assert "..." not in listed
    assert max(map(len, out.splitlines())) <= 80
    assert "Exit status: 0 done, 1 a mistake" in out
    status, nothing, err = call()
    assert (status, nothing, err) == (2, "", out)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom segbench import cli\nsys.argv = ['segbench', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'dvc', 'mlflow', 'pydantic', 'cv2', 'ruamel'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("reprp", "no such command 'reprp' (did you mean repro?); see 'segbench --help'"),
        (
            "--verison",
            "no such option '--verison' (did you mean --version?); see 'segbench --help'",
        ),
        (
            "repro --froce",
            "no such option '--froce' (did you mean --force?); see 'segbench repro --help'",
        ),
        (
            "recipe --fresh",
            "name the recipe to run; see 'segbench recipe --help'",
        ),
        (
            "recipe train.num_epochs=3",
            "name the recipe before train.num_epochs=3; see 'segbench recipe --help'",
        ),
        (
            "recipe best-cvc --as",
            "option '--as' requires an argument; see 'segbench recipe --help",
        ),
        ("plan best-cvc", "got unexpected extra argument (best-cvc); see 'segbench plan --help'"),
        (
            "plan --jobs 0",
            "invalid value for '-j' / '--jobs': '0' is no number of jobs from 1 on, nor auto; see",
        ),
        (
            "plan -j 2 --workers 2",
            "--jobs is for this machine, --workers for several: name one; see",
        ),
        ("ui 5001", "got unexpected extra argument (5001); see 'segbench ui --help'"),
        (
            "ui --port five",
            "invalid value for '--port': 'five' is not a valid integer range; "
            "see 'segbench ui --help'",
        ),
        (
            "ui --port 99999",
            "invalid value for '--port': 99999 is not in the range 1<=x<=65535; "
            "see 'segbench ui --help'",
        ),
        ("deliver --name a/b", "--name 'a/b' is no name of a folder; see"),
        (f"deliver --name {'x' * 250}", "--name is 250 bytes long, the limit is 200; shorten it"),
        ("completion", "missing argument 'SHELL'. Choose from: bash, zsh, fish; see"),
        (
            "completion bsh",
            "invalid value for 'SHELL': 'bsh' is not one of 'bash', 'zsh', 'fish'; see",
        ),
    ],
)
def test_a_wrong_command_line(
    arguments: str, said: str, root: Path, call: Callable[..., Said]
) -> None:
    status, out, err = call(*arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("repro trian", "no stage 'trian' (did you mean train?); there are download, split, "),
        (
            "repro evalute@mine-0-0",
            "no stage 'evalute' (did you mean evaluate, evaluate_external, measure?); there",
        ),
        (
            "repro train@resnet18",
            "no run 'train@resnet18' (did you mean train@resnet18-0-0, train@resnet18-0-1, ",
        ),
        ("repro train@resnet18-0-7", "no run 'train@resnet18-0-7' (did you mean train@resnet18-0-"),
        (
            "repro evaluate@resnet8-0-0",
            "no run 'evaluate@resnet8-0-0' (did you mean evaluate@resnet",
        ),
        (
            "repro train@regnetx_002-0-0",
            "no run 'train@regnetx_002-0-0': add regnetx_002 to comparison.candidates\n",
        ),
        (
            "repro download_external@clinic",
            "no run 'download_external@clinic'; a run is named download_external@SET, of "
            "comparison.external, all of them download_external\n",
        ),
        ("repro split@resnet18", "split runs once, for all candidates: 'segbench repro split'\n"),
        ("recipe best-cvd", "no recipe 'best-cvd' (did you mean best-cvc"),
        (
            "recipe best-cvc --as a/b",
            "'a/b' cannot name a run; use up to 64 letters, digits, '_' and '-'",
        ),
        ("plan", "DVC: you are not inside of a DVC repository"),
        (f"predict --model {'x' * 300} --images . --out out", "no model 'xxx"),
        (f"deliver {'x' * 300}", "no model 'xxx"),
        ("sync runs/mine", "{root}/runs/mine: no folder; name one that holds records"),
        ("sync params.yaml", "{root}/params.yaml: no folder; name one that holds records"),
    ],
)
def test_a_mistake_beyond_it(
    arguments: str, said: str, root: Path, call: Callable[..., Said]
) -> None:
    status, out, err = call(*arguments.split())
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {said.format(root=root)}"), err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["repro", "repro --dry", "plan"])
def test_params_are_checked_first(arguments: str, root: Path, call: Callable[..., Said]) -> None:
    tree = read_params()
    tree["split"]["val_share"] = 0.95
    tree["train"]["epochs"] = 3
    write_params(tree, root / "params.yaml")
    status, _, err = call(*arguments.split())
    assert status == 1
    assert err.startswith("error: params.yaml: 2 problems: ")
    assert "train.epochs: unknown key (did you mean num_epochs" in err
    assert err.count("\n") == 1


# `predict` works anywhere, with a model's own files.
@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"completion", "predict"}))
def test_outside_a_repository(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Said]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(name) == (
        *(1, ""),
        f"error: {tmp_path}: neither here nor in a folder above are dvc.yaml and params.yaml; "
        "cd into your clone of segbench\n",
    )


def test_in_a_folder_that_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Said]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert call("recipe") == (
        *(1, ""),
        "error: the current folder was deleted; cd into one that exists\n",
    )


def test_recipes_are_listed_from_a_subfolder(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Said]
) -> None:
    monkeypatch.chdir(root / "recipes")
    status, out, err = call("recipe")
    assert (status, err) == (0, f"in {root}\n")
    assert [line.split()[0] for line in out.splitlines()] == [
        path.stem for path in sorted((ROOT / "recipes").iterdir())
    ]


def test_a_port_that_is_taken(root: Path, call: Callable[..., Said]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        status, out, err = call("ui", "--port", str(port))
    assert (status, out) == (1, "")
    assert err == (
        f"error: port {port} is taken; end what uses it, or take another: "
        f"segbench ui --port {port + 1}\n"
    )


def test_the_pages_of_a_server_elsewhere(
    root: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.lab:5000")
    assert call("ui") == (0, "runs are at http://mlflow.lab:5000\n", "")


def test_an_address_that_mlflow_cannot_show(
    root: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs.db")
    status, out, err = call("ui")
    assert (status, out) == (1, "")
    assert err.startswith("error: MLFLOW_TRACKING_URI: MLflow cannot show runs.db; set http://... ")


def test_nothing_to_replay(root: Path, call: Callable[..., Said]) -> None:
    said = "no records found; 'segbench repro' writes them, 'dvc pull' brings them\n"
    assert call("sync") == (0, said, "")


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_does_not_answer(
    root: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = root / "runs/mine/data/train/a/record"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").touch()
    write_run(folder, Run("a" * 32, "train", "polyps", "a", now_ms()))
    status, out, err = call("sync")
    assert (status, out) == (1, "")
    assert err.startswith("error: MLflow at http://127.0.0.1:9 does not take the records: ")
    assert err.endswith("; start it, or set MLFLOW_TRACKING_URI to another\n")
    assert err.count("\n") == 1


def test_a_defect_keeps_its_traceback(
    root: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("segbench.commands.recipe.enter_workspace", work)
    with pytest.raises(ZeroDivisionError):
        call("recipe")


def completed(line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line, by the script that is meant for ~/.bashrc."""
    script = folder / "bin" / "segbench"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {" ".join(SEGBENCH)} "$@"\n')
    script.chmod(0o755)
    words = line.split(" ")
    code = (
        'eval "$(segbench completion bash)"\n'
        f"COMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}\n"
        '_segbench_completion segbench\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(root: Path) -> None:
    assert completed("segbench re", root) == ["recipe", "repro", "review"]
    assert completed("segbench recipe best-", root) == ["best-cvc", "best-isbi", "best-pet"]
    assert completed("segbench repro e", root) == ["evaluate", "evaluate_external"]
    assert completed("segbench repro --f", root) == ["--force"]
    (root / "dvc.yaml").unlink()  # no repository any more, which is not the time to say so
    assert completed("segbench recipe best-", root) == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_that_asks_for_completions(
    shell: str, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = call("completion", shell)
    assert (status, err) == (0, "")
    assert f"_SEGBENCH_COMPLETE={shell}_complete" in out
    monkeypatch.chdir(ROOT)
    words = "segbench recipe best-c"
    monkeypatch.setenv("_SEGBENCH_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "2" if shell == "zsh" else "best-c")
    status, out, _ = call()
    assert status == 0
    assert "best-cvc" in out
    assert "What the same encoder reaches on CVC-ClinicDB" in out


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("repro", "repro"),
        ("plan", "plan"),
        ("plan JOBS=auto", "plan --jobs auto"),
        ("plan WORKERS=8", "plan --workers 8"),
        ("doctor", "doctor"),
        ("deliver", "deliver champion"),
        ("deliver MODEL=resnet18 NAME=polyps", "deliver resnet18 --name polyps"),
        ("sync", "sync"),
        ("ui", "ui --port 5000"),
        ("ui PORT=5001", "ui --port 5001"),
        ("recipe", "recipe"),
        ("recipe NAME=best-cvc", "recipe best-cvc"),
        ("recipe NAME=best-cvc AS=mine", "recipe best-cvc --as mine"),
        ("recipe NAME=a FRESH=1 SET=x=1", "recipe a --fresh x=1"),
    ],
)
def test_what_make_runs(asked: str, expected: str) -> None:
    """To make itself, AS is the name of the assembler."""
    command = ["make", "--dry-run", "--no-print-directory", *asked.split()]
    environment = {name: value for name, value in os.environ.items() if name not in ("AS", "PORT")}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    last = " ".join(done.stdout.replace("\\\n", " ").splitlines()[-1].split())
    assert last == f"segbench {expected}"


STAGE = """\
import os
import sys
import time
from pathlib import Path

import segbench
from segbench import stage
from segbench.errors import InputError

asked = os.environ.get("ASKED", "")


def work() -> str:
    if asked == "fail":
        raise InputError("image 7 has no mask; add one")
    try:
        if asked == "linger":
            time.sleep(2)
            Path("lingered").touch()
        if asked == "wait":
            Path("waiting").touch()
            time.sleep(60)
    except BaseException as end:
        time.sleep(0.5)  # what a stage does at its end takes a moment
        Path("ended").write_text(type(end).__name__)
        raise
    Path("data/compare").mkdir(parents=True, exist_ok=True)
    Path("data/compare/leaderboard.txt").write_text("1 resnet18\\n")
    return f"{sys.executable} {segbench.__file__} {Path.cwd()}"


stage.run("compare", work)
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone whose pipeline is one stage, which does as ASKED."""
    workspace = Workspace(tmp_path_factory.mktemp("commands") / "clone", ROOT)
    shutil.copytree(ROOT / "src", workspace.path("src"), dirs_exist_ok=True)  # committed or not
    shutil.copy(ROOT / "params.yaml", workspace.folder)
    workspace.path("dvc.yaml").write_text(
        "stages:\n  compare:\n    cmd: python stages/compare.py\n    always_changed: true\n"
        "    outs:\n      - data/compare\n"
    )
    workspace.path("stages/compare.py").write_text(STAGE)
    # As in an environment that is not active, whose `python` is not this one.
    bare = os.pathsep.join(
        part
        for part in workspace.environment["PATH"].split(os.pathsep)
        if Path(part) != Path(sys.executable).parent
    )
    workspace.environment |= {"PATH": bare, "PYTHONPATH": str(ROOT / "src")}
    return workspace


def run(workspace: Workspace, *arguments: str, asked: str = "", at: str = ".") -> Said:
    done = subprocess.run(
        [*SEGBENCH, *arguments],
        cwd=workspace.path(at),
        env={**workspace.environment, "ASKED": asked},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_stages_run_with_this_interpreter_and_the_code_of_their_repository(
    workspace: Workspace,
) -> None:
    code = workspace.path("src/segbench/__init__.py")
    told = f"compare: {sys.executable} {code} {workspace.folder}\n"
    for options in ([], ["--keep-going"]):  # side by side, and one after another by DVC
        status, out, err = run(workspace, "repro", *options, at="src/segbench")
        assert status == 0, err
        assert err.startswith(f"in {workspace.folder}\n")
        assert told in out + err
        assert out.endswith("1 resnet18\n")
        workspace.path("dvc.lock").unlink()


def test_only_what_would_run_is_printed(workspace: Workspace) -> None:
    status, out, _ = run(workspace, "repro", "--dry", asked="fail")
    assert status == 0
    assert "Running stage 'compare'" in out
    assert "resnet18" not in out


def test_jobs_run_side_by_side(workspace: Workspace) -> None:
    status, out, err = run(workspace, "repro", "--jobs", "auto")
    assert status == 0, err
    assert "jobs at a time, each with " in err
    assert "compare: done in 0 min 0" in err
    assert out == "1 resnet18\n"
    status, _, err = run(workspace, "repro", "--jobs", "1", asked="fail")
    assert status == 1
    assert "\n  compare: error: compare: image 7 has no mask; add one (exit status 1)\n" in err
    for wrong, said in {
        ("--jobs", "0"): "'0' is no number of jobs from 1 on, nor auto",
        ("--jobs", "few"): "'few' is no number of jobs",
        ("--jobs", "2", "--force"): "--jobs does not go with --force",
        ("--jobs", "2", "--", "--downstream", "split"): "--jobs does not go with --downstream",
    }.items():
        status, _, err = run(workspace, "repro", *wrong)
        assert (status, said in err) == (2, True), err


def test_options_of_dvc_are_handed_on(workspace: Workspace) -> None:
    status, out, _ = run(workspace, "repro", "compare", "--", "--dry", "--quiet", asked="fail")
    assert (status, out) == (0, "")


def test_a_stage_that_fails(workspace: Workspace) -> None:
    status, _, err = run(workspace, "repro", asked="fail")
    assert status == 1
    assert "error: compare: image 7 has no mask; add one\n" in err
    assert err.splitlines()[-1] == (
        "error: a stage or DVC failed, see above; mend the cause and run the same command again, "
        f"finished stages are kept (in {workspace.folder})"
    )
    assert "Traceback" not in err


def start_a_stage_that_waits(
    workspace: Workspace, *options: str
) -> tuple[subprocess.Popen[str], Path]:
    """The running command, and the file in which its stage will say how it ended."""
    waiting, ended = workspace.path("waiting"), workspace.path("ended")
    for path in (waiting, ended):
        path.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*SEGBENCH, "repro", *options],
        cwd=workspace.folder,
        env={**workspace.environment, "ASKED": "wait"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not waiting.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, ended


@pytest.mark.parametrize("options", [("--keep-going",), ("--jobs", "1")])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stage_cleanly(
    number: signal.Signals, status: int, options: tuple[str, ...], workspace: Workspace
) -> None:
    """Sent to the command alone, as by a supervisor; it ends after the stage has."""
    process, ended = start_a_stage_that_waits(workspace, *options)
    process.send_signal(number)
    said = process.communicate()[0]
    assert process.returncode == status, said
    assert ended.read_text() == "KeyboardInterrupt"
    assert said.endswith("stopped; the same command goes on from here\n")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "name"), [(("--keep-going",), "dvc"), (("--jobs", "1"), "segbench.jobs")]
)
def test_a_stage_ends_with_the_dvc_that_ran_it(
    options: tuple[str, ...], name: str, workspace: Workspace
) -> None:
    """Where DVC alone is killed, the next would run the stage a second time beside it."""
    process, ended = start_a_stage_that_waits(workspace, *options)
    (dvc,) = psutil.Process(process.pid).children()
    assert name in dvc.cmdline()
    dvc.kill()
    said = process.communicate(timeout=30)[0]  # until nobody writes to it any more
    assert process.returncode == 1
    deadline = time.monotonic() + 30
    while not ended.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ended.read_text() == "SystemExit"
    if name == "dvc":  # else who would have handed it on is gone
        assert "error: compare: ended, since DVC was; run the same command again\n" in said


def test_a_stage_that_dvc_runs_by_another_name_goes_on(workspace: Workspace) -> None:
    """As where a program uses DVC as a library."""
    code = "from dvc.repo import Repo\nRepo().reproduce()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workspace.folder,
        env={
            **workspace.environment,
            "ASKED": "linger",
            "PATH": f"{Path(sys.executable).parent}:{workspace.environment['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.path("lingered").exists()


TICKING = """\
import sys, time
from pathlib import Path
for number in range(3000):
    with Path("ticks").open("a") as file:
        file.write(".")
    time.sleep(0.02)
"""
RUNNING = (
    "import os, sys\nfrom pathlib import Path\nfrom segbench.workspace import run_in_group\n"
    "_, number = run_in_group([sys.executable, '-c', sys.argv[1]], Path(), os.environ)\n"
    "sys.exit(number)\n"
)


def ticks(folder: Path, more_than: int) -> int:
    """How often it has ticked, once that is more than a number."""
    path, deadline = folder / "ticks", time.monotonic() + 60
    while not path.exists() or path.stat().st_size <= more_than:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.stat().st_size


def test_what_runs_pauses_and_goes_on_with_the_command(tmp_path: Path) -> None:
    """As by Ctrl-Z and fg; and SIGTERM ends it though SIGINT is ignored, as in the background."""
    start = [sys.executable, "-c", RUNNING, TICKING]
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the process inherits
    try:
        process = subprocess.Popen(start, cwd=tmp_path, stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, former)
    seen = ticks(tmp_path, 0)
    process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    time.sleep(0.1)
    paused = ticks(tmp_path, seen - 1)
    time.sleep(0.3)
    assert ticks(tmp_path, 0) == paused
    process.send_signal(signal.SIGCONT)
    seen = ticks(tmp_path, paused)
    process.send_signal(signal.SIGINT)
    ticks(tmp_path, seen + 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == signal.SIGTERM
    seen = ticks(tmp_path, 0)
    time.sleep(0.1)
    assert ticks(tmp_path, 0) == seen


@pytest.mark.slow
def test_the_pages_are_served_until_they_are_not(workspace: Workspace) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*SEGBENCH, "ui", "--port", str(port)],
        cwd=workspace.folder,
        env=workspace.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(300):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert f"runs are at http://127.0.0.1:{port}" in said
    assert "Traceback" not in said
