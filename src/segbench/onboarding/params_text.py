"""params.yaml edited as text: one section replaced, single values set, all else as it was."""

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from segbench.errors import InputError
from segbench.onboarding.section import in_flow


def read_tree(text: str) -> dict[str, Any]:
    """The values of params.yaml."""
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return tree


def replace_section(text: str, name: str, section: str, with_header: bool = False) -> str:
    """Replace a section, with the comments in it; comments around it stay.

    Args:
        text: of params.yaml, which has the section.
        name: of the section.
        section: its text.
        with_header: replace the comments directly above it too.
    """
    lines = text.splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if re.match(rf"{name}\s*:", line))
    last = first + 1
    for at in range(first + 1, len(lines)):
        if lines[at].strip() and not lines[at].startswith("#"):
            if not lines[at][0].isspace():
                break
            last = at + 1
    while with_header and first and lines[first - 1].startswith("#"):
        first -= 1
    return "".join(lines[:first]) + section + "".join(lines[last:])


def set_values(text: str, values: Mapping[str, Any]) -> str:
    """Set values by their dotted keys, where they stand in the text.

    Args:
        text: of params.yaml.
        values: by key; a key that is missing is an error.

    Raises:
        InputError: if a value cannot be set in place.
    """
    root = YAML().compose(text)
    nodes = {key: _find(root, key.split(".")) for key in values}
    for key, node in sorted(nodes.items(), key=lambda item: -item[1].start_mark.index):
        before, behind = text[: node.start_mark.index], text[_end_of(node) :]
        text = f"{before}{in_flow(values[key])}{behind}"
    return text


def rename_key(text: str, path: str, new: str) -> str:
    """Rename a key, given by its dotted path."""
    *sections, last = path.split(".")
    parent = _find(YAML().compose(text), sections)
    assert isinstance(parent, MappingNode)
    key = next(key for key, _ in parent.value if key.value == last)
    return f"{text[: key.start_mark.index]}{new}{text[key.end_mark.index :]}"


def _find(root: Node, path: list[str]) -> Node:
    node = root
    for name in path:
        found = None
        if isinstance(node, MappingNode):
            found = next((value for key, value in node.value if key.value == name), None)
        if found is None:
            raise InputError(f"params.yaml: has no key {'.'.join(path)}; restore it from git")
        node = found
    return node


def _end_of(node: Node) -> int:
    """Where a value ends, without the comments and blank lines that follow it."""
    if isinstance(node, ScalarNode) or getattr(node, "flow_style", True):
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end_of(last[1] if isinstance(last, tuple) else last)
