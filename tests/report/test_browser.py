"""The report and MLflow's pages in a real browser."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from segbench.arrays.store import Header
from segbench.comparison import plots
from segbench.comparison.leaderboard import Row, Standings
from segbench.comparison.page import Cell, Content, SampleRow, write_report
from segbench.comparison.requirements import Gate
from segbench.comparison.statistics import Difference, Interval, Stability, VarianceSplit
from segbench.comparison.subgroups import Slice
from segbench.comparison.training_effort import Training
from segbench.datasets.canonical import Info, read_table
from segbench.evaluation.costs import Cost, Spread
from segbench.evaluation.postprocessing import Rule
from segbench.metrics.catalogue import MASK_METRICS, VARIANTS
from segbench.models.origin import Origin
from segbench.params import Params
from segbench.params.compare import Tuning
from segbench.report.drawing import outline
from segbench.report.links import picture_mode
from segbench.splits.assign import SPLITS
from segbench.splits.split import split_and_audit
from segbench.tracking.replay import replay
from support.mlflow_server import server, write_record
from support.pipeline import audit_paths, pack

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


def content(params: Params, folder: Path, redistributable: bool) -> Content:
    rng = np.random.default_rng(0)
    picture = folder / "data" / "s1.jpg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    Image.fromarray(outline(rng.integers(0, 256, (64, 64, 3), np.uint8))).save(picture)
    info = Info("polyps & <b>", ("background", "polyp"), "mine", redistributable, "")
    header = Header(info, 64, 64, 3, "d" * 64)
    gap = Difference(1, 0, Interval(-0.1, -0.2, 0.1), 0.2, 0.05)
    columns = [f"{name}{ending}" for name in MASK_METRICS for ending in VARIANTS]
    rows = [
        Row(
            rank=1,
            alias=alias,
            encoder=alias,
            weights="from scratch",
            parameters=10**6,
            num_runs=2,
            val=Interval(0.8, 0.7, 0.9),
            test=Interval(0.7, 0.6, 0.8),
            seeds=[0.69, 0.71],
            best=0.5,
            behind=gap if at else None,
            scores=dict.fromkeys([*columns, "average_precision"], 0.7),
            pooled={"dice_micro": 0.75, "iou_micro": 0.6},
            split=VarianceSplit(0.1, 0.01, 0.02),
        )
        for at, alias in enumerate(["resnet18", "mobilenet"])
    ]
    found = Standings(rows, {(0, 1): gap.turned}, 20, 2, 0.05, 0.01, Stability([1, 0], 0.5))
    cost = Cost("", 10**6, 10**9, 4 * 10**6, Spread(5, 4, 6), Spread(9, 8, 10), 100.0)
    tuning = Tuning(learning_rates=[0.001, 0.01], share=0.5)
    tuned = params.comparison.model_copy(update={"tuning": tuning})
    params = params.model_copy(update={"comparison": tuned})
    tried = pd.DataFrame([[0.5, 0.6], [0.7, 0.4]], [row.alias for row in rows], [0.001, 0.01])
    history = pd.DataFrame(
        {
            "epoch": [0, 1],
            "train_loss": [1.1, 0.6],
            "val_dice_per_image": [0.5, 0.7],
            "val_accuracy_micro": [0.8, 0.9],
            "val_loss": [1.0, 0.5],
        }
    )
    cell = Cell(picture, 0.5)
    origin = Origin("weights/encoder.safetensors", "e" * 64, [0.5] * 3, [0.25] * 3)
    return Content(
        header=header,
        metric="dice",
        confidence=0.95,
        verdict="resnet18 wins.",
        limits=["One seed."],
        standings=found,
        gates=[Gate("p < 0.05", False, {"p": 0.2})],
        costs=dict.fromkeys(["resnet18", "mobilenet"], cost),
        spent=dict.fromkeys(["resnet18", "mobilenet"], Training(None, 100, 50)),
        machine="a processor",
        tried=tried,
        slices=[Slice("objects", "1", 20, [0.7, float("nan")])],
        rules={"resnet18-fold0-seed0": asdict(Rule(0.4, 0, False, False))},
        histories=[(row.alias, 0, 0, history) for row in rows],
        image_scores={row.alias: rng.random(20) for row in rows},
        samples={"disagree": [SampleRow("s1", [cell] * 4)], "worst": []},
        pictures=picture_mode(params.report.pictures, redistributable),
        preview=picture,
        progress={"resnet18-fold0-seed0": folder / "progress.gif"},
        facts={"Dataset": "polyps"},
        audit={
            "data": {"images": 20, "skipped": 1, "grey_masks": 3, "full_masks": 0},
            "fold0": {
                **{name: {"images": 5, "groups": 2} for name in SPLITS},
                "leaks": {"groups": 0, "near_duplicates": 2},
            },
        },
        origins=dict.fromkeys(["resnet18", "mobilenet"], asdict(origin)),
        params=params,
        provenance={"version.torch": "2"},
        hashes={"resnet18-fold0-seed0": {"weights": "w", "predictions": "p"}},
    )


def test_curves_of_many_runs_stay_small() -> None:
    """12 encoders x 5 seeds x 100 epochs; the page they stand in is to stay below 5 MB."""
    epochs = np.arange(100)
    values = np.random.default_rng(0).random((100, 4))
    names = ["val_dice_per_image", "val_accuracy_micro", "train_loss", "val_loss"]
    history = pd.DataFrame(values, columns=names).assign(epoch=epochs)
    aliases = [f"encoder_{at}" for at in range(12)]
    svg = plots.curves(
        aliases, [(alias, seed, 0, history) for alias in aliases for seed in range(5)]
    )
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
    assert "resnet18" in rows[0].text
    # What is folded away has no text for a browser.
    shown = browser.find_element(By.TAG_NAME, "main").text
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
    said = split_and_audit(tmp_path / "dataset", loose, params.report, audit_paths(tmp_path))
    browser.get((tmp_path / "audit.html").as_uri())
    verdict = browser.find_element(By.CSS_SELECTOR, ".verdict").text
    assert verdict.startswith("The split leaks: ")
    assert verdict.removeprefix("The ").removesuffix(": scores of this split flatter.") in said
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
