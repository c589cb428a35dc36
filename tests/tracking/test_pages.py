"""`segbench ui` as its user has it: a process, asked as a browser asks."""

import http.client
import json
import resource
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from segbench.tracking.replay import replay
from support.mlflow_server import pages, write_comparison

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("pages")
    records = write_comparison(folder / "records")
    replay(records, f"sqlite:///{folder / 'mlflow.db'}")
    with pages(folder) as (place, said):
        yield place, said
    assert not [line for line in said if "Traceback" in line]


def ask(place: str, method: str, path: str, body: str = "") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(place.removeprefix("http://"), timeout=30)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    found = {key.lower(): value for key, value in answer.getheaders()}
    return answer.status, found, answer.read().decode()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
        ("PATCH", "/ajax-api/3.0/mlflow/assistant/sessions/x"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/sessions/x/stream"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/sessions/x/permission"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/skills/install"),
        ("POST", "/ajax-api/3.0/mlflow/%61ssistant/message"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/"),
    ],
)
def test_the_assistant_is_closed(served: tuple[str, list[str]], method: str, path: str) -> None:
    status, _, text = ask(served[0], method, path, "{}" * (method != "GET"))
    assert (status, text) == (
        403,
        "MLflow's assistant is closed: it could run commands as whoever started 'segbench ui'.\n",
    )


@pytest.mark.parametrize(
    "path",
    [
        "//ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/3.0/mlflow//assistant/config",
        "/x/../ajax-api/3.0/mlflow/assistant/config",
        "/AJAX-API/3.0/mlflow/assistant/config",
    ],
)
def test_no_spelling_reaches_it(served: tuple[str, list[str]], path: str) -> None:
    assert ask(served[0], "GET", path)[0] == 404


def test_every_route_of_it_is_closed() -> None:
    """Also those that a later MLflow adds."""
    from fastapi.routing import APIRoute
    from mlflow.server.assistant.api import assistant_router

    from segbench.tracking.pages import ASSISTANT

    paths = [route.path for route in assistant_router.routes if isinstance(route, APIRoute)]
    assert len(paths) > 5
    assert all(ASSISTANT.fullmatch(path) for path in paths)


def test_views_have_addresses_that_last(served: tuple[str, list[str]]) -> None:
    place, said = served
    assert said[0] == "MLflow starts, in a few seconds"
    assert said[1] == f"runs are at {place}; Ctrl-C ends it"
    kinds = ("leaderboard", "curves", "cost", "pictures")
    assert said[2:6] == [
        f"  comparison: {kind}: {place}/views/polyps/comparison-{kind}" for kind in kinds
    ]
    status, headers, _ = ask(place, "GET", "/views/polyps/comparison-curves")
    assert status == 302
    assert headers["location"].startswith("/#/experiments/1/runs?workflowType=machine_learning&")
    for unknown in ("/views/polyps/other-curves", "/views/cracks/comparison-curves", "/views/"):
        status, _, text = ask(place, "GET", unknown)
        assert status == 404
        assert "'segbench sync' brings it" in text


def test_the_rest_is_as_mlflow_serves_it(served: tuple[str, list[str]]) -> None:
    status, headers, text = ask(served[0], "GET", "/")
    assert (status, len(text.encode())) == (200, int(headers["content-length"]))
    assert text.count("[data-assistant-ui]{display:none!important}") == 1
    assert text.endswith("</html>")
    assert ask(served[0], "HEAD", "/")[0] == 200
    # A browser that MLflow's own server has served before gets the page all the same.
    later = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    with urllib.request.urlopen(urllib.request.Request(served[0], headers=later)) as page:
        assert page.read().decode() == text
    path = "/ajax-api/2.0/mlflow/experiments/search?max_results=5"
    names = {one["name"] for one in json.loads(ask(served[0], "GET", path)[2])["experiments"]}
    assert names == {"polyps", "Default"}


def test_it_answers_soon(tmp_path: Path) -> None:
    """Within 15 s on a machine that does nothing else: told by processor time, since tests run side
    by side."""
    replay(write_comparison(tmp_path / "records"), f"sqlite:///{tmp_path / 'mlflow.db'}")
    before = _children_s()
    with pages(tmp_path) as (place, _), urllib.request.urlopen(f"{place}/") as page:
        assert b"<title>MLflow</title>" in page.read()
    assert _children_s() - before < 13


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
