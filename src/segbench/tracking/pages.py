"""The process behind `segbench ui`: MLflow's server in one process, without its assistant.

    python -m segbench.tracking.pages PORT [--open]

MLflow has no switch for its assistant, which takes requests from every account of this machine and
may run shell commands as the account that started the server.
"""

import os
import re
import sys
import warnings
import webbrowser
from pathlib import Path
from threading import Thread
from typing import Any

from segbench.errors import without_secrets
from segbench.tracking.address import ARTIFACTS, HOST, tracking_uri
from segbench.tracking.client import UNREACHABLE, connect, quiet
from segbench.tracking.reasons import reason_of

# What MLflow's own command sets for the server that it starts.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
import uvicorn
from mlflow.server import constants
from mlflow.tracking import MlflowClient

from segbench.tracking.views import TAG, address_of, lasting_path, list_views

ASSISTANT = re.compile(r"/(ajax-)?api/[^/]+/mlflow/assistant(/.*)?", re.DOTALL)
CLOSED = b"MLflow's assistant is closed: it could run commands as whoever started 'segbench ui'.\n"
CHANGES = (
    # Its button, and its panel, which would open by itself.
    b"<style>[data-assistant-ui]{display:none!important}</style>"
    # Menus for training models, and not for language models, unless somebody has chosen.
    b"<script>localStorage['mlflow.workflowType_v1'] ??= '\"machine_learning\"'</script>"
)
"""Goes into the head of every page."""
SHOWN = 8
"""How many views are told by name, the latest."""
Send = Any  # as ASGI defines it, and so are the arguments of `Pages`


class Pages:
    """MLflow's application (ASGI) with three changes.

    The assistant's addresses answer 403; its panel is hidden; and /views/EXPERIMENT/KEY leads to a
    view by names that are the same on every machine, as reports link to it.

    Args:
        mlflow: the application.
        client: of the same store.
    """

    def __init__(self, mlflow: Any, client: MlflowClient) -> None:
        self._mlflow = mlflow
        self._client = client

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "websocket" and ASSISTANT.fullmatch(path):
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and ASSISTANT.fullmatch(path):
            await _answer(send, 403, CLOSED)
        elif scope["type"] == "http" and path.startswith("/views/"):
            await self._redirect(path, send)
        elif scope["type"] == "http" and path == "/":
            # A browser may still hold the frame as another server sent it, and ask if that is good.
            asked = [one for one in scope["headers"] if not one[0].startswith(b"if-")]
            await self._mlflow({**scope, "headers": asked}, receive, _Changed(send))
        else:
            await self._mlflow(scope, receive, send)

    async def _redirect(self, path: str, send: Send) -> None:
        experiment, _, key = path.removeprefix("/views/").rpartition("/")
        found = self._client.get_experiment_by_name(experiment) if experiment else None
        if found is None or f"{TAG}{key}" not in found.tags:
            said = f"MLflow has no view {key} of {experiment}; 'segbench sync' brings it\n"
            await _answer(send, 404, said.encode())
            return
        place = address_of(found.experiment_id, key).encode()
        await _answer(send, 302, b"", [(b"location", place)])


async def _answer(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    told = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


class _Changed:
    """Sends the frame of all pages on, with `CHANGES` in its head."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: dict[str, Any] = {}
        self._body = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message  # its length is known once the body is
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = self._body.replace(b"<head>", b"<head>" + CHANGES, 1)
        # Nothing to compare by: MLflow's own frame has the same tag and time.
        dropped = {b"content-length", b"etag", b"last-modified"}
        headers = [(key, value) for key, value in self._start["headers"] if key not in dropped]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """Says where the pages are once they can be asked for."""

    def __init__(self, config: uvicorn.Config, said: str, opened: str | None) -> None:
        super().__init__(config)
        self._said = said
        self._opened = opened

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._said, file=sys.stderr, flush=True)
            if self._opened:
                Thread(target=webbrowser.open, args=[self._opened], daemon=True).start()


def main(port: int, opens: bool) -> None:
    """Serve until a signal ends it.

    Args:
        port: on this machine.
        opens: whether a browser shows the newest view, or MLflow's first page if there is none.
    """
    quiet()
    uri = tracking_uri(Path.cwd())
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACTS,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: "./mlartifacts",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    try:
        client = connect(uri)
        views = list_views(client.search_experiments())
    except UNREACHABLE as problem:
        sys.exit(f"error: MLflow does not open {without_secrets(uri)}: {reason_of(problem)}")
    with warnings.catch_warnings(action="ignore"):  # of libraries that MLflow uses
        from mlflow.server.fastapi_app import app

    place = f"http://{HOST}:{port}"
    lines = [f"runs are at {place}; Ctrl-C ends it"]
    for view in views[:SHOWN]:
        lines += [f"  {view.name}: {place}{lasting_path(view.experiment, view.key)}"]
    if len(views) > SHOWN:
        lines += [f"  {len(views) - SHOWN} more: the menu Views of each experiment"]
    opened = place + (address_of(views[0].experiment_id, views[0].key) if views else "")
    config = uvicorn.Config(
        *(Pages(app, client), HOST, port), log_level="warning", timeout_graceful_shutdown=2
    )
    _Server(config, "\n".join(lines), opened if opens else None).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), "--open" in sys.argv)
