"""The report and MLflow's pages in a real browser."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segbench.comparison import plots
from segbench.comparison.page import write_report
from segbench.params import Params
from segbench.tracking.replay import replay
from support.gallery import CASES, made_up
from support.mlflow_server import pages, server, write_comparison, write_record
from support.report import content

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_curves_of_many_runs_stay_small() -> None:
    """12 encoders x 5 seeds x 100 epochs; the page they stand in is to stay below 5 MB."""
    epochs = np.arange(100)
    values = np.random.default_rng(0).random((100, 4))
    names = ["val_dice_per_image", "val_accuracy_micro", "train_loss", "val_loss"]
    history = pd.DataFrame(values, columns=names).assign(epoch=epochs)
    aliases = [f"encoder_{at}" for at in range(12)]
    svg = plots.curves(aliases, [(alias, history) for alias in aliases for _ in range(5)])
    assert 100_000 < len(svg) < 600_000


@pytest.mark.parametrize("redistributable", [True, False])
def test_the_report_stands_alone(
    redistributable: bool, browser: webdriver.Chrome, params: Params, tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    write_report(content(params, tmp_path, redistributable), tmp_path / "reports")
    page = tmp_path / "reports" / "comparison.html"
    browser.get(page.as_uri())
    assert browser.find_element(By.CLASS_NAME, "kicker").text.endswith("polyps & <b>")
    assert "mobilenetv2_035 leads" in browser.find_element(By.TAG_NAME, "h1").text
    rows = browser.find_elements(By.CSS_SELECTOR, "table:not(.samples) tbody tr")
    assert "mobilenetv2_035" in rows[0].text
    # What is folded away has no text for a browser.
    shown = browser.find_element(By.TAG_NAME, "main").text
    assert "regnetx_002-fold0-seed0 rolled back 2 times" in shown
    assert "Requirement not met: p < 0.05 (p is 0.2)." in shown
    for said in ("2 near duplicates", "Of 20 masks 3 are grey; 1 image was left out", "e" * 64):
        assert said in shown
    assert "weights/encoder.safetensors" in shown
    script = "return [...document.images].map(i => { i.loading = 'eager'; return i.src })"
    sources = browser.execute_script(script)
    assert len(sources) == 4
    # A dataset that may not be passed on is linked, never embedded.
    prefix = "data:image/jpeg" if redistributable else "file://"
    assert all(source.startswith(prefix) for source in sources)
    time.sleep(0.5)
    loaded = "return [...document.images].every(i => i.naturalWidth > 0)"
    assert browser.execute_script(loaded)
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 5
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1300
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.fixture(scope="module")
def made_up_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A made-up report of each kind."""
    folder = tmp_path_factory.mktemp("gallery")
    found = {}
    for name in ("multi-class", "100-candidates"):
        reports = folder / name / "reports"
        reports.mkdir(parents=True)
        write_report(made_up(CASES[name], folder / name), reports)
        found[name] = reports / "comparison.html"
    return found


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (390, 844)])
def test_the_first_screen_holds_what_a_reviewer_needs(
    width: int, height: int, browser: webdriver.Chrome, made_up_pages: dict[str, Path]
) -> None:
    """Headline and leaderboard, with nothing of it beside or below the screen."""
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        browser.get(made_up_pages["multi-class"].as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        boxes = browser.execute_script(
            "return [...document.querySelectorAll('h1, .lead td, .lead th[scope=row]')]"
            ".map(e => e.getBoundingClientRect()).map(b => [b.left, b.right, b.bottom])"
        )
        assert len(boxes) == 1 + 4 * 5
        assert all(left >= 0 and right <= width for left, right, _ in boxes)
        assert max(bottom for *_, bottom in boxes) <= height
        shown = browser.find_element(By.CLASS_NAME, "lead").text
        for said in ("encoder_000", "champion", "0.7", " to ", "1.00 M"):
            assert said in shown
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_tables_sort_and_filter(browser: webdriver.Chrome, made_up_pages: dict[str, Path]) -> None:
    browser.get(made_up_pages["100-candidates"].as_uri())
    region = browser.find_element(By.CSS_SELECTOR, "[aria-labelledby=in-full]")

    def column(number: int) -> list[str]:
        rows = "return [...arguments[0].querySelectorAll('tbody tr:not([hidden])')]"
        return list(browser.execute_script(f"{rows}.map(r => r.cells[{number}].innerText)", region))

    names = column(0)
    head = region.find_elements(By.CSS_SELECTOR, "thead button")[3]
    head.click()
    scores = [float(text.split()[0]) for text in column(3)]
    assert scores == sorted(scores)
    head.click()
    assert [float(text.split()[0]) for text in column(3)] == sorted(scores, reverse=True)
    head.click()
    assert column(0) == names
    field = region.find_element(By.XPATH, "preceding-sibling::input[1]")
    field.send_keys("encoder_07")
    assert sorted(column(0)) == [f"encoder_07{at}" for at in range(10)]
    assert "10 shown" in region.find_element(By.XPATH, "preceding-sibling::span[1]").text


def test_pictures_open_large_and_turn_in_one_place(
    browser: webdriver.Chrome, made_up_pages: dict[str, Path]
) -> None:
    browser.get(made_up_pages["multi-class"].as_uri())
    browser.find_element(By.CSS_SELECTOR, ".samples td:nth-child(2) .picture").click()
    dialog = browser.find_element(By.ID, "large")
    assert dialog.is_displayed()

    def shown() -> tuple[str, str]:
        picture = dialog.find_element(By.TAG_NAME, "img")
        return picture.get_attribute("alt") or "", picture.get_attribute("src") or ""

    truth = shown()
    assert truth[0] == "frame_000: ground truth"
    for turn in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        browser.switch_to.active_element.send_keys(turn)
    assert shown()[0] == "frame_000: encoder_001"
    assert shown()[1] != truth[1]
    for turn in (Keys.ARROW_LEFT, Keys.ARROW_LEFT):
        browser.switch_to.active_element.send_keys(turn)
    assert shown() == truth
    browser.find_element(By.CSS_SELECTOR, "#large .tabs button:last-child").click()
    assert not dialog.is_displayed()


def test_an_image_leads_to_its_row_and_back(
    browser: webdriver.Chrome, made_up_pages: dict[str, Path]
) -> None:
    browser.get(made_up_pages["multi-class"].as_uri())
    browser.find_element(By.LINK_TEXT, "frame_001").click()
    row = browser.find_element(By.CSS_SELECTOR, "#scores-disagree-2")
    assert row.is_displayed()  # what was folded away is unfolded
    row.find_element(By.TAG_NAME, "a").click()
    assert browser.current_url.endswith("#pictures-disagree-2")


def test_a_report_of_100_candidates_stays_small(
    browser: webdriver.Chrome, made_up_pages: dict[str, Path]
) -> None:
    page = made_up_pages["100-candidates"]
    assert 1e6 < page.stat().st_size < 6e6
    browser.get(page.as_uri())
    (summary,) = browser.find_elements(By.XPATH, "//summary[.='85 more candidates']")
    summary.click()
    assert len(browser.find_elements(By.CSS_SELECTOR, ".lead tbody tr")) == 100


def test_mlflow_lists_runs(browser: webdriver.Chrome, tmp_path: Path) -> None:
    write_record(tmp_path / "one", id="1" * 32, name="resnet18-fold0-seed0")
    write_record(tmp_path / "two", id="2" * 32, name="mobilenet-fold0-seed0")
    with server(tmp_path / "server") as uri:
        replay([tmp_path / "one", tmp_path / "two"], uri)
        from mlflow.tracking import MlflowClient

        experiment = MlflowClient(uri).get_experiment_by_name("polyps").experiment_id
        browser.get(f"{uri}/#/experiments/{experiment}/runs")
        wanted = {"resnet18-fold0-seed0", "mobilenet-fold0-seed0"}
        for _ in range(120):
            text = browser.find_element(By.TAG_NAME, "body").text
            if all(name in text for name in wanted):
                break
            time.sleep(0.5)
        assert all(name in text for name in wanted)


def test_mlflow_opens_with_the_views_of_two_comparisons(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """Both of one experiment; each shows its own runs, by candidate, with their means."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay(write_comparison(tmp_path / "one", "one"), uri)
    replay(write_comparison(tmp_path / "two", "two", scale=0.5), uri)

    def shown(*wanted: str) -> str:
        for _ in range(120):
            text = str(browser.find_element(By.TAG_NAME, "body").text)
            if all(part in text for part in wanted):
                return text
            time.sleep(0.5)
        raise AssertionError(f"{wanted} not in {text}")

    with pages(tmp_path) as (place, _):
        for name, good, bad in (("one", "0.805", "0.405"), ("two", "0.405", "0.205")):
            browser.get(f"{place}/views/polyps/{name}-leaderboard")
            text = shown("Group: good", "Group: bad", "4 matching runs", good, bad)
            assert text.index("Group: good") < text.index("Group: bad")
            assert "Model training" in text
            browser.get("about:blank")
            browser.get(f"{place}/views/polyps/{name}-curves")
            shown("epoch/val_dice_per_image", "epoch/val_loss", "Group: good")
            browser.get("about:blank")
            browser.get(f"{place}/views/polyps/{name}-cost")
            shown("test/dice_per_image against cost", "Group: good")
            browser.get("about:blank")
            browser.get(f"{place}/views/polyps/{name}-pictures")
            shown("prediction/s0", "prediction/s1", "good-fold0-seed0", "2 matching runs")
            loaded = "return document.querySelectorAll('td img, [role=cell] img').length"
            for _ in range(60):
                if browser.execute_script(loaded) == 4:
                    break
                time.sleep(0.5)
            assert browser.execute_script(loaded) == 4
        assistant = "return [...document.querySelectorAll('[data-assistant-ui]')]"
        seen = browser.execute_script(f"{assistant}.filter(e => e.offsetParent !== null).length")
        assert seen == 0
