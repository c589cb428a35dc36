"""The audit page in a real browser."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support.audits import INFO, audit, flawed, leaking, params, write, write_streets

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An audit of nearly all flaws, and one of street scenes."""
    folder = tmp_path_factory.mktemp("audits")
    asked = params(by="predefined", test_share=None, on_leak="warn")
    samples, bad = flawed()
    audit(write(folder / "flawed", samples, replace(INFO, published=50), bad), asked, "embed")
    audit(write_streets(folder / "streets"), asked, "embed")
    return {path.name: path / "out" / "audit.html" for path in folder.iterdir()}


@pytest.mark.parametrize("redistributable", [True, False])
def test_the_audit_stands_alone(
    redistributable: bool, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    info = replace(INFO, redistributable=redistributable)
    asked = params(by="predefined", test_share=None, on_leak="warn")
    said = audit(write(tmp_path, leaking(), info), asked, "auto")
    browser.get((tmp_path / "out" / "audit.html").as_uri())
    headline = browser.find_element(By.TAG_NAME, "h1").text
    assert headline.startswith("Scores on this split will be too good: the same content")
    first = browser.find_element(By.CSS_SELECTOR, ".findings tbody tr").text
    assert "1 near-duplicate pair on both sides of it" in first
    assert "1 near-duplicate pair on both sides of it" in said
    sources = browser.execute_script(
        "return [...document.images].map(i => { i.loading = 'eager'; return i.src })"
    )
    prefix = "data:image/jpeg" if redistributable else "file://"
    assert len(sources) > 12
    assert all(source.startswith(prefix) for source in sources)
    time.sleep(0.5)
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)")
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 3
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (390, 844)])
@pytest.mark.parametrize("name", ["flawed", "streets"])
def test_nothing_lies_beside_the_screen(
    name: str, width: int, height: int, browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    """All tables and texts, not only the first screen; plots alone may scroll on a phone."""
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        browser.get(pages[name].as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        beside = browser.execute_script(
            "return [...document.querySelectorAll('h1, h2, h3, p, td, th, dd, img, a')]"
            ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)"
        )
        assert beside == []
        first = browser.find_element(By.CSS_SELECTOR, ".findings tbody tr").rect
        assert first["y"] + first["height"] <= height
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_findings_are_in_the_order_of_their_severity(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    browser.get(pages["flawed"].as_uri())
    told = [row.text for row in browser.find_elements(By.CSS_SELECTOR, ".findings tbody tr")]
    severities = [text.split()[0] for text in told]
    assert severities == ["warning"] * 6 + ["note"] * 5
    assert "The split leaks: 1 group, 1 exact duplicate" in told[0]


@pytest.mark.parametrize("name", ["flawed", "streets"])
def test_links_lead_to_what_they_name(
    name: str, browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    browser.get(pages[name].as_uri())
    lost = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')]"
        ".map(a => a.getAttribute('href').slice(1)).filter(id => !document.getElementById(id))"
    )
    assert lost == []
    browser.find_element(By.CSS_SELECTOR, ".findings a").click()
    target = browser.current_url.partition("#")[2]
    place = browser.execute_script(
        "return document.getElementById(arguments[0]).getBoundingClientRect().top", target
    )
    assert 0 <= place < 900


def test_pairs_open_large_and_turn_in_one_place(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    browser.get(pages["flawed"].as_uri())
    heading = browser.find_element(By.ID, "near-duplicates")
    heading.find_element(By.XPATH, "following::button[contains(@class, 'picture')][1]").click()
    dialog = browser.find_element(By.ID, "large")
    picture = dialog.find_element(By.TAG_NAME, "img")
    assert picture.get_attribute("alt") == "s00, test"
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert picture.get_attribute("alt") == "s30, train"
    tabs = [tab.text for tab in dialog.find_elements(By.TAG_NAME, "button")]
    assert tabs == ["s00", "s30", "Close"]


def test_classes_sort_and_filter(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    browser.get(pages["streets"].as_uri())
    region = browser.find_element(By.CSS_SELECTOR, "[aria-labelledby=classes]")

    def column(number: int) -> list[str]:
        rows = "return [...arguments[0].querySelectorAll('tbody tr:not([hidden])')]"
        return list(browser.execute_script(f"{rows}.map(r => r.cells[{number}].innerText)", region))

    assert len(column(0)) == 11
    region.find_elements(By.CSS_SELECTOR, "thead button")[4].click()
    tested = [int(text) for text in column(4)]
    assert tested == sorted(tested)
    assert column(0)[0].strip() == "bicyclist"
    field = region.find_element(By.XPATH, "preceding-sibling::input[1]")
    field.send_keys("tree")
    assert [name.strip() for name in column(0)] == ["tree"]


def test_print_shows_what_is_folded(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    browser.get(pages["flawed"].as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        folded = browser.find_elements(By.CSS_SELECTOR, "details:not([open]) p, details dl")
        assert len(folded) >= 3
        assert all(one.rect["height"] > 10 for one in folded)
        assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
