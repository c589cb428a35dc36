"""The page over several data sets in a real browser."""

from pathlib import Path

import pytest
from selenium import webdriver

from support.finished import write_verdict

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_verdict(tmp_path_factory.mktemp("several"))


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (390, 844)])
def test_the_first_screen_holds_the_candidates(
    width: int, height: int, browser: webdriver.Chrome, page: Path
) -> None:
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        boxes = browser.execute_script(
            "return [...document.querySelectorAll('h1, .lead tbody tr > *')]"
            ".map(e => [e.innerText, e.getBoundingClientRect()])"
            ".map(([text, b]) => [text, b.left, b.right, b.top, b.bottom])"
        )
        assert len(boxes) == 1 + 3 * 5
        assert all(left >= 0 and right <= width for _, left, right, *_ in boxes)
        assert max(bottom for *_, bottom in boxes) <= height
        rank, name = (box[1:3] for box in boxes[1:3])
        assert rank[1] <= name[0], "a rank does not run into the name"
        assert boxes[4][0].startswith("champion")
        assert "equivalent" in boxes[9][0]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_regions_are_named_apart(browser: webdriver.Chrome, page: Path) -> None:
    """So that a screen reader's list of regions tells one from another."""
    browser.get(page.as_uri())
    names = browser.execute_script(
        "return [...document.querySelectorAll('[role=region]')].map(e => e.ariaLabel ?? "
        "document.getElementById(e.getAttribute('aria-labelledby')).innerText)"
    )
    assert len(names) == len(set(names)) == 4
