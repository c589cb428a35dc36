"""What a team meets: `segbench review` and its workflows, the compose file; docs/team.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segbench.commands.review import MOST_CHARACTERS, _for_a_comment
from segbench.comparison.requirements import missed_in
from support.params import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
COMPOSE = ROOT / "docs/team/compose.yaml"
WHO = {
    f"GIT_{who}_{what}": "tester@example.org"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}
TOY = {
    "params.yaml": "a: 1\n",
    "data.py": "from pathlib import Path\nPath('data').write_text('images')\n",
    "compare.py": "from pathlib import Path\nPath('reports/comparison.md').write_text("
    "'# a\\n\\n![mean](comparison.svg)\\n' + Path('data').read_text())\n",
    "dvc.yaml": """\
stages:
  data:
    cmd: python data.py
    deps: [data.py]
    outs: [data]
  compare:
    cmd: python compare.py
    params: [a]
    deps: [data, compare.py]
    outs: [{reports/comparison.md: {cache: false}}]
""",
}


def call(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **WHO, "PYTHONPATH": str(ROOT / "src"), "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def review(folder: Path, *words: str) -> tuple[int, str, str]:
    done = call(folder, sys.executable, "-m", "segbench", "review", *words)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that has run and is committed, with real git and DVC."""
    folder = tmp_path_factory.mktemp("team") / "author"
    (folder / "reports").mkdir(parents=True)
    for name, text in TOY.items():
        (folder / name).write_text(text)
    for command in (
        "git init -q -b main",
        "dvc init -q",
        "dvc repro -q",
        "git add --all",
        "git commit -qm a",
    ):
        done = call(folder, *command.split())
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def clone(finished: Path, tmp_path: Path) -> Path:
    """What a workflow checks out: no data."""
    call(tmp_path, "git", "clone", "-q", str(finished), "clone")
    assert not (tmp_path / "clone/data").exists()
    return tmp_path / "clone"


def test_results_that_stand(clone: Path) -> None:
    text = (clone / "reports/comparison.md").read_text()
    assert review(clone) == (0, text, "")
    assert review(clone, "--pictures", "https://host/raw/reports/") == (
        *(0, text.replace("(comparison.svg)", "(https://host/raw/reports/comparison.svg)")),
        "",
    )


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("params.yaml", "compare"),
        ("reports/comparison.md", "compare"),
        pytest.param("compare.py", "compare", marks=pytest.mark.slow),
        pytest.param("data.py", "data", marks=pytest.mark.slow),
    ],
)
def test_results_of_something_else(clone: Path, name: str, stale: str) -> None:
    path = clone / name
    path.write_text(path.read_text().replace("a: 1", "a: 2") + "\n# changed\n")
    status, out, err = review(clone)
    assert (status, out) == (1, (clone / "reports/comparison.md").read_text())
    assert err == (
        f"error: dvc.lock is not of what lies beside it: {stale} would run; 'segbench repro', "
        "then 'git add dvc.lock params.yaml reports'\n"
    )


def test_a_requirement_that_is_not_met(clone: Path) -> None:
    """Also where somebody committed it by force."""
    with (clone / "compare.py").open("a") as file:
        file.write(
            "with open('reports/comparison.md', 'a') as file:\n"
            "    file.write('\\n- **Requirement not met**: `p < 0.05` (p is 0.2)\\n')\n"
        )
    assert call(clone, "dvc", "repro", "-q").returncode == 0
    status, _, err = review(clone)
    assert (status, err) == (1, "error: comparison.require: `p < 0.05` (p is 0.2) is not met\n")


def test_no_results_yet(clone: Path) -> None:
    shutil.rmtree(clone / "reports")
    assert "is not there; 'segbench repro' writes it" in review(clone)[2]
    (clone / "dvc.lock").unlink()
    assert review(clone) == (0, "", "no results yet: 'segbench repro' makes them\n")


def test_a_report_that_is_too_long_for_a_comment() -> None:
    text = "# a\n" + "| a | b |\n" * 9000
    cut = _for_a_comment(text, "")
    assert MOST_CHARACTERS - 100 < len(cut) < 65_536
    assert cut.endswith("| a | b |\n\nCut here; all of it is reports/comparison.md.\n")


def test_reports_say_a_missed_requirement_as_review_reads_it() -> None:
    template = (ROOT / "src/segbench/comparison/page.md.jinja").read_text()
    assert "**Requirement not met**{% endif %}: `{{ one.text | safe }}` (" in template
    said = "- Requirement met: `a` (a is 1)\n- **Requirement not met**: `b` (b is 2)\n"
    assert missed_in(said) == ["`b` (b is 2)"]


def steps_of(name: str, job: str) -> list[dict[str, Any]]:
    tree = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    return list(tree["jobs"][job]["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_little(path: Path) -> None:
    text = path.read_text()
    tree = yaml.safe_load(text)
    assert tree["permissions"] in ({}, {"contents": "read"})
    assert set(re.findall(r"uses: (\S+)", text)) == {"actions/checkout@v5"}
    assert "pull_request_target" not in text
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines()}
    assert set(re.findall(r"run: make (\S+)", text)) <= {*targets, ".venv/.ready"}
    for job in tree["jobs"].values():
        # Nothing that others choose, as the name of a branch, becomes part of a program.
        assert not any("${{" in step.get("run", "") for step in job["steps"])
        may_write = "write" in json.dumps(job.get("permissions", {}))
        assert not (may_write and any("uses" in step for step in job["steps"]))


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """Files and programs that a job finds on GitHub's machines."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in {
        ".venv/bin/segbench": 'printf "%s\\n" "$SAID"; echo "error: $WHY" >&2; exit "$STATUS"',
        "gh": f'echo "$@" > {tmp_path}/asked; cat > {tmp_path}/posted',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_REPOSITORY": "lab/polyps",
        "NUMBER": "7",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PICTURES": "https://host/raw/reports",
    }


@pytest.mark.parametrize("status", ["0", "1"])
def test_the_workflow_posts_the_report_and_fails_as_review_does(
    status: str, tmp_path: Path, machine: dict[str, str]
) -> None:
    (report,) = [one for one in steps_of("review", "review") if one.get("id") == "report"]
    own = {"SAID": "# report", "WHY": "p is 0.2", "STATUS": status, **machine}
    done = call(tmp_path, "bash", "-e", "-c", report["run"], **own)
    assert (done.returncode, done.stderr) == (int(status), "error: p is 0.2\n")
    output = (tmp_path / "output").read_text()
    found = re.fullmatch(r"comment<<(\w{32})\n(.*)\1\n", output, re.DOTALL)
    assert found
    why = "> [!CAUTION]\n> error: p is 0.2\n\n" if status == "1" else ""
    assert found[2] == (tmp_path / "summary").read_text() == f"{why}# report\n"

    (post,) = steps_of("review", "comment")
    done = call(tmp_path, "bash", "-e", "-c", post["run"], COMMENT=found[2].rstrip("\n"), **machine)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "posted").read_text() == found[2]
    assert (tmp_path / "asked").read_text() == (
        "pr comment 7 --repo lab/polyps --body-file - --edit-last --create-if-none\n"
    )


@pytest.mark.parametrize(
    ("schema", "path"),
    [*(("vendor.github-workflows", path) for path in WORKFLOWS), ("vendor.compose-spec", COMPOSE)],
)
def test_files_for_github_and_docker_fit_their_schemas(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file() -> None:
    text = COMPOSE.read_text()
    tree = yaml.safe_load(text)
    asked = set(re.findall(r"\$\{(\w+)", text))
    offered = dict(re.findall(r"(?m)^(\w+)=(.*)$", (COMPOSE.parent / "example.env").read_text()))
    assert asked == set(offered)
    for service in tree["services"].values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?set it in \.env\}", value), name
                assert offered[value[2:].partition(":")[0]] == ""
        for place in service.get("volumes", []):
            source = place.partition(":")[0]
            known = (COMPOSE.parent / source).is_file() if "/" in source else True
            assert known or source in tree["volumes"], source
        assert all(one.startswith("${BIND:-127.0.0.1}:") for one in service.get("ports", []))
        assert not re.search(r":latest$", service.get("image", ""))
    built = tree["services"]["mlflow"]["build"]
    context = COMPOSE.parent / built["context"]
    (copied,) = re.findall(r"COPY (\S+)", built["dockerfile_inline"])
    locked = (context / copied).read_text().lower()
    for package in ("mlflow", "psycopg2-binary", "boto3", "flask-wtf"):
        assert package in built["dockerfile_inline"].lower()
        assert f"\n{package}==" in locked
    ignored = call(ROOT, "git", "check-ignore", "docs/team/.env")
    assert ignored.returncode == 0
