"""Reports of others: HTML that runs no script but that of segbench's own reports."""

import hashlib
import re
from html.parser import HTMLParser

SCRIPTS = {
    "0c362c96ec172eca5f77cb7cb65560f01a9b89d451198cc2893dd5f451d6508f",
    "674b1da2df20b73972b6ea70fc0836529ad4888bf29e44d5559d5f6014391269",
    "d421eb643d4b06c330a33a36592b21a60f789d7fcd708c7568d53a3a0c330259",
    "bce5b8e452295ea7a1d8e4d1e1da56b74a2d4571447bb4477712df3835b243a5",
    "9e471b07aaea2e321e7a33628c0fe16c7f533248274573d31620dc0633a6c091",
}
"""sha256 of every script that a report has had, report/page.js and its former versions: records are
kept."""
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "script", "dialog"),
    *("h1", "h2", "h3", "h4", "p", "a", "b", "i", "em", "strong", "small", "code", "pre", "br"),
    *("hr", "ul", "ol", "li", "dl", "dt", "dd", "div", "span", "section", "nav", "header"),
    *("footer", "article", "aside", "figure", "figcaption", "img", "picture", "details"),
    *("summary", "table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "th"),
    *("td", "button", "label", "input", "select", "option", "output", "sup", "sub", "abbr", "time"),
    *("svg", "g", "path", "line", "rect", "circle", "ellipse", "polyline", "polygon", "text"),
    *("tspan", "defs", "clippath", "marker", "symbol", "desc", "lineargradient", "stop", "pattern"),
    *("use", "image", "title"),
    *("mark", "kbd", "var", "blockquote", "fieldset", "legend"),
}
"""Of which no page of segbench needs more; none embeds another page or sends anything."""
LINKS = ("href", "src", "xlink:href", "action", "formaction", "data", "poster", "srcset")
EMBEDDED = re.compile(r"data:image/(png|jpeg|gif|webp);base64,|(?![a-z0-9+.-]*:|//)", re.I)
"""What a picture may be: in the page, or beside it."""
LARGEST = 64 << 20


def check_page(data: bytes) -> None:
    """Raise ValueError for a page that could run another script, or embed another page."""
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    text = data.decode()
    page = _Page()
    page.feed(text)
    page.close()
    # As often as the parser found it: a browser may see a tag where it sees none.
    if len(re.findall(r"<script", text, re.I)) != page.scripts:
        raise ValueError("it has a script that is none of segbench's reports")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts = 0
        self._script: list[str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            raise ValueError(f"it has a tag <{tag[:30]}>")
        if tag == "script":
            self.scripts += 1
            self._script = []
        for name, value in attributes:
            plain = re.sub(r"[\x00-\x20]", "", value or "")
            if name.startswith("on") or name in ("http-equiv", "srcdoc", "ping", "target"):
                raise ValueError(f"its <{tag}> has {name[:30]}")
            abroad = tag == "a" and re.match("https?://", plain, re.I)
            if name in LINKS and (tag == "script" or not (abroad or EMBEDDED.match(plain))):
                raise ValueError(f"its <{tag}> has a link to {plain[:60]!r}")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag == "script":
            raise ValueError("it has a script that is none of segbench's reports")

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._script is not None:
            code = "".join(self._script).strip()
            self._script = None
            if hashlib.sha256(code.encode()).hexdigest() not in SCRIPTS:
                raise ValueError("it has a script that is none of segbench's reports")
