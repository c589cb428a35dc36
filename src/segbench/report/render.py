"""Renders pages from their templates."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from segbench.files import atomic_file
from segbench.report.words import as_sentence, counted

MARKDOWN = re.compile(r"[\\`*|<>&\[\]~$]|(?<![^\W_])_|_(?![^\W_])")
"""What means something in Markdown; a `_` within a word does not."""


def write_page(
    path: Path,
    template: str,
    values: Mapping[str, object],
    filters: Mapping[str, Callable[..., str]] | None = None,
) -> None:
    """Write a page; pages hold no date, so that they repeat.

    Args:
        path: of the page.
        template: below this package, `comparison/page.html.jinja`.
        values: that it shows.
        filters: of its own, besides those of all pages.
    """
    markdown = template.endswith(".md.jinja")
    environment = Environment(
        loader=PackageLoader("segbench", ""),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_markdown if markdown else None,
    )
    environment.filters["score"] = lambda value: "-" if np.isnan(value) else f"{value:.3f}"
    environment.filters["signed"] = lambda value: f"{value:+.3f}"
    environment.filters["counted"] = counted
    environment.filters["sentence"] = as_sentence
    environment.filters |= filters or {}
    environment.filters["millions"] = lambda value: f"{value / 1e6:.2f} M"
    environment.filters["percent"] = lambda value: "-" if value != value else f"{100 * value:.1f} %"
    text = environment.get_template(template).render(values)
    with atomic_file(path) as partial:
        partial.write_text(text.rstrip() + "\n", encoding="utf-8")


def _escape_markdown(value: object) -> object:
    """A text that Markdown shows as it is, in one line; HTML in it, too."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = MARKDOWN.sub(r"\\\g<0>", " ".join(value.split()))
    return f"\\{text}" if text.startswith(("#", "+ ", "- ")) else text
