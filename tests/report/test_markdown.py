"""The page for a pull request shows texts as they are, whatever Markdown or HTML is in them."""

from dataclasses import replace
from pathlib import Path

from markdown_it import MarkdownIt

from segbench.comparison.page import write_report
from segbench.params import Params
from support.report import content

TEXTS = [
    "<script>alert(1)</script>",
    "![x](http://evil.example/x.png) [click](javascript:alert(1))",
    "a | b | c",
    "**bold** _slanted_ ~~gone~~ `code` \\* &lt;b&gt; $x^2$",
    "crack_wide mobilenetv2_035 _x_ 3 < 4 & 5 > 4",
    "two\nlines\r\n\n# heading",
]


def shown(path: Path) -> tuple[str, set[str]]:
    """The text that a reader sees, and which elements it is in."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    tokens = [child for token in parser.parse(path.read_text()) for child in token.children or []]
    text = "".join(token.content or " " * (token.type == "softbreak") for token in tokens)
    return text, {token.type for token in tokens}


def test_texts_are_shown_as_they_are(params: Params, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    found = content(params, tmp_path, redistributable=True)
    page = tmp_path / "reports/comparison.md"
    write_report(found, tmp_path / "reports")
    words, elements = shown(page)
    assert "U-Net & <b> random" in words
    assert "not comparable: its images were split at random, ours keeps groups together" in words
    text = "; ".join(TEXTS)
    dataset = replace(
        found.header.dataset, licence=text, citation=text, classes=("background", text)
    )
    rows = [replace(row, weights=text) for row in found.leaderboard.rows]
    found = replace(
        found,
        header=replace(found.header, dataset=dataset),
        leaderboard=replace(found.leaderboard, rows=rows),
        verdict=replace(found.verdict, sentence=text, caveats=TEXTS),
    )
    write_report(found, tmp_path / "reports")
    words, others = shown(page)
    assert words.count(" ".join(text.split())) == 4 + len(rows)
    for caveat in TEXTS:
        assert words.count(" ".join(caveat.split())) == 5 + len(rows)
    assert others == elements
