"""The repository that a command works in, and DVC run in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from segbench.errors import InputError
from segbench.tracking.follower import UNSENT

if TYPE_CHECKING:
    from segbench.params import Params

MARKS = ("dvc.yaml", "params.yaml")
"""Files at the root of a workspace."""
FORCE, DRY, PART = {"-f", "--force"}, {"--dry"}, {"-s", "--single-item", "--downstream"}
"""Options of `dvc repro`."""
LEAVE_S = 0.2
"""For what is paused to leave the terminal as it was, before the shell writes there."""


def find_workspace(whole: bool = True) -> Path | None:
    """The nearest folder, from the current one up, with dvc.yaml and params.yaml; None: none.

    Args:
        whole: False: one of them is enough.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (all if whole else any)((folder / name).is_file() for name in MARKS):
            return folder
    return None


def enter_workspace(whole: bool = True) -> None:
    """Change into the workspace's root, and say so if that is another folder.

    Args:
        whole: as for `find_workspace`.

    Raises:
        InputError: outside a workspace.
    """
    try:
        root, here = find_workspace(whole), Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder was deleted; cd into one that exists") from None
    if root is None:
        raise InputError(
            f"{here}: neither here nor in a folder above are {' and '.join(MARKS)}; "
            "cd into your clone of segbench"
        )
    if root != here:
        print(f"in {root}", file=sys.stderr)
        os.chdir(root)


def run_pipeline(
    folder: Path,
    params: Params,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    wait: bool = False,
    jobs: str = "",
    cluster: Path | None = None,
) -> None:
    """Run `dvc repro`, with this interpreter and with the code in `folder`, as DVC hashes that.

    What an earlier run left damaged is mended first, and a dataset whose files changed is read;
    with --dry both are only told.

    Args:
        folder: root of a workspace.
        params: those of that workspace.
        arguments: of `dvc repro`.
        environment: variables for DVC and the stages.
        wait: for the lock of another DVC in this workspace.
        jobs: how many stages run at a time, or `auto`; `arguments` are then stages alone. Empty:
            DVC runs one after another.
        cluster: a file that says where workers are that run stages; None: none do.

    Raises:
        InputError: if a stage or DVC fails.
        SystemExit: with 128 plus the signal, if the process is told to stop; the stages have then
            ended too.
    """
    interpreter = Path(sys.executable).parent
    if not shutil.which("python", path=str(interpreter)):
        raise InputError(
            f"{interpreter}: has no 'python', which dvc.yaml calls; install segbench into a "
            "virtual environment"
        )
    code = str((folder / "src").resolve())
    variables = {
        **environment,
        "PATH": _before(str(interpreter), environment.get("PATH", "")),
        "PYTHONPATH": _before(code, environment.get("PYTHONPATH", "")),
    }
    lock = ["--wait-for-lock"] if wait else []
    command = [sys.executable, "-m", "dvc", *lock, "repro"]
    from segbench.datasets.external import check_external
    from segbench.doctor.outside import check_store, check_weights
    from segbench.recovery.mend import finish, mend
    from segbench.watch import look_at_sources

    runs = params.comparison.items
    force, dry, part = (not options.isdisjoint(arguments) for options in (FORCE, DRY, PART))
    if not mend(folder, runs, force, dry):
        raise InputError(
            "what would run can be told once that is mended, which 'segbench repro' does before it "
            "runs anything"
        )
    check_weights(folder, params)
    check_store(folder, params)
    check_external(params.dataset, params.comparison.external)
    sources = [
        source
        for source in look_at_sources(folder, params)
        if not part or {source.stage, source.stage.partition("@")[0]} & set(arguments)
    ]
    for source in sources:
        if source.said:
            again = f"; {source.stage} runs again" * source.is_new
            print(f"{source.said}{again}", file=sys.stderr)
        if source.is_new and not (force or dry):
            # By force, so that no cache takes the place of reading.
            _run_dvc([*command, "--force", "--single-item", source.stage], folder, variables)
            source.note()
    if jobs or cluster:
        how = ["--cluster", str(cluster.resolve())] if cluster else ["--jobs", jobs]
        command = [sys.executable, "-m", "segbench.jobs", *how, *(["--wait"] if wait else [])]
    _run_dvc([*command, *arguments], folder, variables)
    if dry:
        return
    for source in sources:
        source.note()
    finish(folder, runs)
    _catch_up(folder, variables)


def _catch_up(folder: Path, environment: Mapping[str, str]) -> None:
    """Let MLflow have the records that it missed, as where a stage was killed with its follower."""
    marks = {mark: Path(mark.read_text().strip()) for mark in (folder / UNSENT).glob("*")}
    if not marks:
        return
    records = [str(path) for path in marks.values() if path.is_dir()]
    command = [sys.executable, "-m", "segbench", "sync", *records]
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"warning: {done.stderr.strip().removeprefix('error: ')}", file=sys.stderr)
        return
    for mark, path in marks.items():
        if not path.is_dir() or (path / "end.json").exists():
            mark.unlink(missing_ok=True)


def _run_dvc(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    status, stopped_by = run_in_group(command, folder, environment)
    if stopped_by:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + stopped_by)
    if status != 0:
        raise InputError(
            "a stage or DVC failed, see above; mend the cause and run the same command again, "
            f"finished stages are kept (in {folder.resolve()})"
        )


def _before(first: str, paths: str) -> str:
    return os.pathsep.join(filter(None, [first, paths]))


def run_in_group(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    stop_with: signal.Signals = signal.SIGINT,
) -> tuple[int, int]:
    """Run a command in a process group of its own, and hand signals on to all of it.

    Whatever signal tells this process to stop, and whether a terminal or another process sends it,
    the group gets `stop_with`.

    Args:
        command: to run.
        folder: where.
        environment: its variables.
        stop_with: SIGINT suits DVC, which then waits for its stage to end cleanly; SIGTERM would
            end DVC at once, and leave the stage running.

    Returns:
        The exit status, and the first signal to stop, 0 if there was none.
    """
    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []
    woken: list[int] = []

    def send(number: int) -> None:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        send(stop_with)

    def pause(_number: int, _: FrameType | None) -> None:  # Ctrl-Z
        # Not SIGSTOP, which nobody can hear: jobs in groups of their own are to stop too.
        woken.clear()
        send(signal.SIGTSTP)
        time.sleep(LEAVE_S)
        if not (woken or received):
            os.kill(os.getpid(), signal.SIGSTOP)
        send(signal.SIGCONT)

    def wake(number: int, _: FrameType | None) -> None:
        woken.append(number)

    with ExitStack() as stack:
        handlers = {
            **dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop),
            signal.SIGTSTP: pause,
            signal.SIGCONT: wake,
        }
        for number, handler in handlers.items():
            former = signal.getsignal(number)
            if former is signal.SIG_IGN:  # nohup, or in the background of a script
                handler = _ignore  # the child, which would inherit SIG_IGN, must take a SIGINT
            signal.signal(number, handler)
            stack.callback(signal.signal, number, former)
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), process_group=0)
        if received:  # before there was anything to send it to
            send(stop_with)
        return process.wait(), received[0] if received else 0


def _ignore(_number: int, _: FrameType | None) -> None:
    pass
