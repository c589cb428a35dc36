"""Imports go in the directions of docs/architecture.md."""

import ast
import shutil
from pathlib import Path

import pytest

from support.imports import SOURCE, imported

FOUNDATIONS = {
    "errors",
    "files",
    "images",
    "labels",
    "parallel",
    "progress",
    "devices",
    "params",
    "untrusted",
    "windows",
}
LEARNING = {"arrays", "models", "metrics", "tracking", "report"}
ALLOWED = {
    **dict.fromkeys(FOUNDATIONS, frozenset()),
    **dict.fromkeys(["datasets", "models", "metrics", "report"], frozenset()),
    "exports": {"datasets", "models"},
    "serving": {"datasets.image_files", "exports"},
    "tracking": {"serving.bundle"},
    "splits": {"datasets", "report"},
    "onboarding": {"datasets", "splits.near"},
    "arrays": {"splits.assign", "datasets", "report"},
    "training": LEARNING,
    "evaluation": LEARNING | {"datasets", "exports"},
    "comparison": LEARNING - {"models"} | {"evaluation.results", "evaluation.costs"},
    "delivery": LEARNING | {"datasets", "exports", "evaluation", "comparison"},
}
"""What a package may import, beside itself and the foundations."""
COMMANDS = {
    *(
        "__main__",
        "cli",
        "cluster",
        "commands",
        "doctor",
        "jobs",
        "planning",
        "recipes",
        "recovery",
        "stage",
    ),
    *("watch", "workspace"),
}
"""May import everything."""


def module(path: Path, source: Path) -> str:
    """`evaluation.results` of a path."""
    return ".".join(path.relative_to(source).with_suffix("").parts)


def forbidden(source: Path) -> list[str]:
    """Imports that go another way, as `one -> other`."""
    found = []
    for path in sorted(source.rglob("*.py")):
        one = module(path, source)
        package = one.split(".")[0]
        if package in {*COMMANDS, "__init__"}:
            continue
        may = ALLOWED[package] | FOUNDATIONS | {package}
        for other in sorted(module(file, source) for file in imported(path, source)):
            parts = other.split(".")
            if parts[-1] != "__init__" and not {parts[0], ".".join(parts[:2])} & may:
                found.append(f"{one} -> {other}")
    return found


def test_imports_go_as_the_picture_says() -> None:
    assert forbidden(SOURCE) == []


@pytest.mark.parametrize(
    ("path", "line", "said"),
    [
        ("training/optim.py", "from segbench.evaluation import results", "evaluation.results"),
        ("evaluation/costs.py", "import segbench.training.optim", "training.optim"),
        ("report/svg.py", "from segbench.metrics.counts import ratios", "metrics.counts"),
        ("arrays/store.py", "from segbench.splits.leaks import Leaks", "splits.leaks"),
        ("comparison/page.py", "from segbench.evaluation import evaluate", "evaluation.evaluate"),
        ("errors.py", "from segbench import stage", "stage"),
    ],
)
def test_an_import_that_goes_another_way_is_found(
    path: str, line: str, said: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(SOURCE, tmp_path / "segbench")
    with (copy / path).open("a") as file:
        file.write(f"\n{line}\n")
    assert forbidden(copy) == [f"{module(copy / path, copy)} -> {said}"]


def test_mlflow_is_imported_where_its_settings_are() -> None:
    """`tracking.client` settles them; what a served model runs is under MLflow already."""
    importing = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(one.name for one in node.names)]
        if (name or "").split(".")[0] == "mlflow"
    }
    assert "tracking/client.py" in importing
    assert {name for name in importing if not name.startswith("tracking/")} == {"serving/script.py"}


def test_every_module_has_a_place() -> None:
    names = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names - {"__pycache__"} <= {*ALLOWED, *COMMANDS, "__init__"}
    for path in SOURCE.rglob("*.py"):
        assert path.stem not in ("util", "utils", "helper", "helpers", "common", "misc")
        if path.name == "__init__.py" and path.parent.name != "params":
            assert all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)
