"""Fixtures of all tests: the committed params, shrunk, and a small dataset on its way through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from segbench.params import Params
from segbench.tracking import follower
from support.params import read_params, shrink
from support.pipeline import pack

settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)  # make test-all
settings.load_profile("quick")


class NoFollower:
    """In place of the process that replays a record into MLflow, which takes seconds to start."""

    def follow(self, folder: Path) -> None:
        pass

    def wait(self, max_wait_s: float) -> bool:
        return True

    def end(self) -> None:
        pass


LONGEST = ("test_end_to_end.py", "test_recipes.py", "test_resume.py", "test_statistics.py")
"""Begun first, since a file is one worker's: one that is begun last is waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _no_follower(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are not replayed, unless a test is marked `mlflow`."""
    if request.node.get_closest_marker("mlflow") is None:
        monkeypatch.setattr(follower, "Follower", NoFollower)


@pytest.fixture
def tree() -> dict[str, Any]:
    """The shrunk params as a tree to change."""
    return shrink(read_params())


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    return Params.model_validate(tree)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dataset/, split.csv, arrays/ and preview.png of the shrunk params."""
    return pack(Params.model_validate(shrink(read_params())), tmp_path_factory.mktemp("packed"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """Send MLflow to a database of the test's own; returns its address."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return lambda: uri
