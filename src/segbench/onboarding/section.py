"""The section `dataset` as text: a line for each key, with what was seen, and questions on top."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

WIDTH = 100
COLUMN = 36
"""Where comments begin, if the value leaves room."""


def write_section(
    fields: Mapping[str, Any],
    comments: Mapping[str, str],
    items: Mapping[str, Sequence[str]],
    heading: Sequence[str],
    questions: Sequence[tuple[str, str]],
) -> str:
    """Write the section.

    Args:
        fields: values of all keys, in order.
        comments: to keys.
        items: to the items of keys whose value is a list that takes a line for each item.
        heading: sentences above all.
        questions: a key and what is to be decided there; numbered.
    """
    comments = {key: _plain(text) for key, text in comments.items()}
    lines = ["dataset:"]
    for sentence in heading:
        lines += _wrapped("  # ", "  # ", sentence)
    if questions:
        lines.append("  # Please check:")
    for number, (key, text) in enumerate(questions, start=1):
        lines += _wrapped(f"  # {number}. ", "  #    ", f"{key}: {text}")
    for key, value in fields.items():
        if key in items:
            lines.append(_commented(f"  {key}:", comments.get(key, "")))
            lines += [
                _commented(f"    - {in_flow(item)}", comment)
                for item, comment in zip(value, items[key], strict=True)
            ]
        else:
            text = f"  {key}: {in_flow(value)}"
            comment = comments.get(key, "")
            if comment and len(_commented(text, comment)) > WIDTH:
                lines += _wrapped("  # ", "  # ", comment)
                comment = ""
            lines.append(_commented(text, comment))
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """In one line, and in UTF-8, as names of files need not be."""
    return " ".join(text.encode(errors="replace").decode().split())


def in_flow(value: Any) -> str:
    """A value of YAML in one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 1_000_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = StringIO()
    yaml.dump({"k": value}, out)
    return out.getvalue().strip().removeprefix("{k: ").removesuffix("}")


def _commented(text: str, comment: str) -> str:
    return f"{text:<{COLUMN - 1}} # {comment}" if comment else text


def _wrapped(first: str, others: str, text: str) -> list[str]:
    return textwrap.wrap(
        _plain(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
