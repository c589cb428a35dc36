"""What a record may say: kinds and sizes of everything in it, whoever wrote it."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from segbench.errors import InputError

ID = re.compile(r"[0-9a-f]{32,64}")
"""Of runs: they stand in the names of lock files and in queries."""
STAGE = re.compile(r"train|compare|deliver|evaluate(\.[A-Za-z0-9_.-]{1,100})?")
NAME = re.compile(r"[A-Za-z0-9._ -]{1,100}")
"""Of comparisons and registered models: they stand in queries."""
KEY = re.compile(r"(?!.*\.\.)\w[\w./: -]{0,249}")
SERVER_TAGS = re.compile(r"mlflow\.(source\.(name|type|git\.(commit|branch))|note\.content)")
OWN_TAGS = re.compile(r"segbench\.weights_sha256")
"""Of MLflow and of segbench a record sets these alone. With others it would pass for another run's,
or change how MLflow shows it."""
LATEST_MS = 1 << 43
LARGEST_NUMBER = 1 << 53
LONGEST_NAME, LONGEST_PATH, LONGEST_TEXT, LONGEST_PROFILE = 250, 4096, 100_000, 1 << 20
MOST_ENTRIES = 20_000
"""Of params, tags and children, each."""
LONGEST_LINE = 1 << 20
LARGEST_FILES = {"run.json": 32 << 20, "end.json": 4 << 20, "metrics.jsonl": 512 << 20}
"""Bytes."""


def check_run(run: Any) -> None:
    """Raise InputError for a `records.Run` with something in it that no record has."""
    try:
        TypeAdapter(type(run)).validate_json(json.dumps(asdict(run)), strict=True)
        _fits(ID, run.id, "id")
        _fits(STAGE, run.stage, "stage")
        for name in ("experiment", "name"):
            check_text(getattr(run, name), name, LONGEST_NAME)
        _in_range(run.started_ms, "started_ms", LATEST_MS)
        check_entries(run.params, "params", LONGEST_TEXT)
        check_tags(run.tags)
        for item in run.inputs:
            for name, longest in (("name", LONGEST_NAME), ("digest", 36), ("source", LONGEST_PATH)):
                check_text(getattr(item, name), f"inputs.{name}", longest)
            if len(json.dumps(item.profile)) > LONGEST_PROFILE:
                raise ValueError(f"inputs.profile is longer than {LONGEST_PROFILE}")
        for id in (*_few(run.children, "children"), *_few(run.child_metrics, "child_metrics")):
            _fits(ID, id, "children")
        for values in run.child_metrics.values():
            check_values(values)
        if run.comparison:
            _fits(NAME, run.comparison, "comparison")
        check_entries(run.views, "views", LONGEST_TEXT)
        if run.model is not None:
            check_text(run.model.path, "model.path", LONGEST_NAME)
            _in_range(run.model.channels, "model.channels", 1 << 10, least=1)
            _in_range(run.model.num_outputs, "model.num_outputs", 1 << 10, least=1)
        if (champion := getattr(run, "champion", None)) is not None:
            _fits(NAME, champion.model, "champion.model")
            for id in (champion.run, *_few(champion.relations, "champion.relations")):
                _fits(ID, id, "champion.run")
            for text in (*champion.doubts, *champion.relations.values(), champion.data):
                check_text(text, "champion", LONGEST_TEXT)
            check_tags(champion.tags)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(map(str, found["loc"]))
        raise InputError(f"run.json: {_shown(place)}: {found['msg']}") from None
    except (ValueError, TypeError, RecursionError) as problem:
        raise InputError(f"run.json: {problem}") from None


def check_end(end: Any) -> None:
    """Raise ValueError unless it says how a run ended."""
    if not isinstance(end, dict) or end.get("status") not in ("FINISHED", "FAILED", "KILLED"):
        raise ValueError("status is none of FINISHED, FAILED and KILLED")
    _in_range(end.get("time_ms"), "time_ms", LATEST_MS)
    check_tags(end.get("tags"))


def check_metrics(path: Path) -> None:
    """Raise ValueError unless each whole line of a metrics.jsonl holds the values of a step."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise ValueError(f"a line has more than {LONGEST_LINE} bytes")
            if not line.endswith(b"\n"):
                return  # it is being written
            step = json.loads(line)
            if not isinstance(step, dict) or not isinstance(step.get("values"), dict):
                raise ValueError(f"a line has no values: {_shown(str(step))}")
            _in_range(step.get("step"), "step", LARGEST_NUMBER)
            _in_range(step.get("time_ms"), "time_ms", LATEST_MS)
            check_values(step["values"])


def check_values(values: Any) -> None:
    """Raise ValueError unless they are numbers by names that MLflow takes."""
    for key, value in values.items():
        _fits(KEY, key, "the name of a metric")
        if type(value) not in (int, float) or (type(value) is int and abs(value) > LARGEST_NUMBER):
            raise ValueError(f"{_shown(key)} is {_shown(str(value))}, no number")


def check_tags(tags: Any) -> None:
    """Raise ValueError for tags that a record does not set."""
    check_entries(tags, "tags", LONGEST_TEXT)
    for key in tags:
        for prefix, known in (("mlflow.", SERVER_TAGS), ("segbench.", OWN_TAGS)):
            if key.lower().startswith(prefix) and not known.fullmatch(key):
                raise ValueError(f"the tag {_shown(key)} is not a record's to set")


def check_entries(entries: Any, what: str, longest: int) -> None:
    """Raise ValueError unless they are texts by names that MLflow takes."""
    if not isinstance(entries, dict):
        raise ValueError(f"{what} is no table")
    for key, value in _few(entries, what) and entries.items():
        _fits(KEY, key, what)
        check_text(value, f"{what}.{key}", longest)


def check_text(text: Any, what: str, longest: int) -> None:
    """Raise ValueError unless it is a text without control characters but tabs and new lines."""
    if not isinstance(text, str) or len(text) > longest:
        raise ValueError(f"{_shown(what)} is no text of at most {longest} characters")
    if any(ord(one) < 32 and one not in "\n\t" for one in text) or "\x7f" in text:
        raise ValueError(f"{_shown(what)} has control characters: {_shown(text)}")


def _few(entries: Any, what: str) -> Any:
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"{what} has {len(entries)} entries, the limit is {MOST_ENTRIES}")
    return entries


def _fits(pattern: re.Pattern[str], text: Any, what: str) -> None:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{what}: {_shown(str(text))} is none")


def _in_range(number: Any, what: str, most: int, least: int = 0) -> None:
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"{what} is {_shown(str(number))}, not from {least} to {most}")


def _shown(text: str) -> str:
    return ascii(text[:60])
