"""Why a tracking server did not take a record, in words that say what to do about it."""

from segbench.errors import without_secrets

CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
MOST = 300
"""Characters of what a server or database says."""


def reason_of(problem: Exception) -> str:
    """The reason in one line, without secrets.

    Args:
        problem: one of `client.UNREACHABLE`.
    """
    said = without_secrets(" ".join(str(problem).split()))
    match _status_of(problem):
        case 401:
            return f"it knows no such user with this password; set {CREDENTIALS}"
        case 403 if "Invalid Host header" in said:
            return "it does not serve under this name; its --allowed-hosts has to list it"
        case 403:
            return "this user may not write there; ask whoever runs it for the right"
    return said[:MOST]


def _status_of(problem: Exception) -> int:
    """HTTP status of an answer; 0 if there was none."""
    response = getattr(problem, "response", None)  # of requests
    if response is not None:
        return int(response.status_code)
    status = getattr(problem, "get_http_status_code", None)  # of MLflow
    return int(status()) if status else 0
