"""A git clone in which a test works as a user would."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.params import write_params


class Workspace:
    """A git clone in which commands run as a user would run them."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True)
        # Also where the source is no branch but a bare commit, as in many a CI.
        self.run("git", "checkout", "--quiet", "-B", "main")

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def repro(self) -> list[str]:
        """Run the pipeline; which stages ran."""
        return re.findall(r"Running stage '(.*)'", self.run("dvc", "repro"))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def change(self, tree: dict[str, Any]) -> None:
        write_params(tree, self.folder / "params.yaml")

    def scores(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.path("reports/metrics").iterdir()}

    def runs(self) -> list[Any]:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{self.path('mlflow.db')}")
        experiment = client.get_experiment_by_name("synthetic-polyps")
        return list(client.search_runs([experiment.experiment_id]))

    def path(self, name: str) -> Path:
        return self.folder / name
