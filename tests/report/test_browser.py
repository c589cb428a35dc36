"""The report and MLflow's pages in a real browser."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from segbench.comparison import plots
from segbench.comparison.page import write_report
from segbench.datasets.canonical import read_table
from segbench.params import Params
from segbench.splits.split import split
from segbench.tracking.replay import replay
from support.mlflow_server import pages, server, write_comparison, write_record
from support.pipeline import audit_paths, pack
from support.report import content

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
        *("--window-size=1300,1000", f"--user-data-dir={profile}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


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
    assert browser.find_element(By.TAG_NAME, "h1").text.endswith("polyps & <b>")
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
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 4
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1300
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("redistributable", [True, False])
def test_the_audit_shows_what_leaks(
    redistributable: bool, browser: webdriver.Chrome, params: Params, tmp_path: Path
) -> None:
    pack(params, tmp_path)
    info = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    info["redistributable"] = redistributable
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps(info))
    measures = read_table(tmp_path / "dataset" / "measures.csv")
    measures["image_sha256"] = "the same everywhere"
    measures.to_csv(tmp_path / "dataset" / "measures.csv", index=False)
    loose = params.split.model_copy(update={"by": "random", "on_leak": "warn"})
    said = split(
        *(tmp_path / "dataset", loose, params.report, params.augment, audit_paths(tmp_path))
    )
    browser.get((tmp_path / "audit.html").as_uri())
    verdict = browser.find_element(By.CSS_SELECTOR, ".verdict").text
    assert verdict.startswith("The split leaks: ")
    assert (
        verdict.removeprefix("The ").removesuffix(": scores on this split are optimistic.") in said
    )
    sources = browser.execute_script(
        "return [...document.images].map(i => { i.loading = 'eager'; return i.src })"
    )
    prefix = "data:image/jpeg" if redistributable else "file://"
    assert len(sources) >= 2
    assert all(source.startswith(prefix) for source in sources)
    time.sleep(0.5)
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)")
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 3
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1300
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


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
