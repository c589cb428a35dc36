"""A finished network is scored on an external set by the rule that was chosen before, as it is."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segbench.arrays.augment_external import augment_external
from segbench.arrays.store import open_arrays
from segbench.datasets.download_external import download_external
from segbench.errors import InputError
from segbench.evaluation.evaluate_external import evaluate_external
from segbench.exports.masks import MaskRule, remove_components
from segbench.files import sha256_of
from segbench.metrics.catalogue import VARIANTS
from segbench.metrics.counts import count_image, dice
from segbench.models.flips import FlipAveraged
from segbench.models.network import build_network, load_network, save_network
from segbench.params import Params
from segbench.tracking.records import read_run
from segbench.tracking.replay import replay
from support.mlflow_server import everything, write_record
from support.own_folder import make_source, own

pytestmark = [pytest.mark.usefixtures("offline"), pytest.mark.filterwarnings("ignore")]
RULE = MaskRule(threshold=0.56, min_size=30, largest=True, flips=True)


@pytest.fixture
def clinic(tree: dict[str, Any], tmp_path: Path) -> Params:
    source = make_source(tmp_path / "source", ["a1", "a2", "b1"], 40, 50)
    section = own(source, classes=["background", "polyp"], group={"pattern": "([a-z])"})
    tree["comparison"]["external"] = {"clinic": section.model_dump()}
    return Params.model_validate(tree)


@pytest.fixture
def left(clinic: Params, packed: Path, tmp_path: Path) -> dict[str, Path]:
    """What the stages before leave behind, of a network that learnt nothing."""
    torch.manual_seed(0)
    network = build_network(clinic.model, clinic.candidates["mobilenetv2_035"], 1)
    trained = tmp_path / "trained"
    write_record(trained / "record")
    save_network(network, trained / "weights.safetensors")
    weights = sha256_of(trained / "weights.safetensors")
    run, chosen = tmp_path / "run.json", tmp_path / "chosen.json"
    run.write_text(json.dumps({"rollbacks": 0, "weights_sha256": weights}))
    chosen.write_text(json.dumps({"chosen": asdict(RULE), "sha256": {"weights": weights}}))
    places = {"dataset": tmp_path / "set", "arrays": tmp_path / "arrays"}
    download_external(clinic, "clinic", places["dataset"])
    augment_external(clinic, "clinic", packed / "arrays", *places.values())
    places |= {"trained": trained, "run": run, "chosen": chosen}
    return places | {"out": tmp_path / "out", "scores": tmp_path / "scores.json"}


def test_every_image_is_scored_by_the_rule_that_is_given(
    clinic: Params, left: dict[str, Path]
) -> None:
    said = evaluate_external(clinic, "clinic", **left)
    rows = pd.read_csv(left["out"] / "images.csv")
    assert rows["id"].tolist() == ["a1", "a2", "b1"]
    assert rows["group"].tolist() == ["a", "a", "b"]
    assert set(rows["split"]) == {"external"}
    part = open_arrays(left["arrays"] / "fold0/test")
    network = load_network(left["trained"] / "weights.safetensors").eval()
    images = torch.from_numpy(np.array(part.images)).permute(0, 3, 1, 2)
    expected: dict[str, list[float]] = {"dice": [], "dice_chosen": []}
    with torch.no_grad():
        default, flipped = (
            torch.sigmoid(one(images))[:, 0].numpy() for one in (network, FlipAveraged(network))
        )
    for at, mask in enumerate(part.masks):
        plain = (default[at] >= 0.5).astype(np.uint8)
        ruled = remove_components((flipped[at] >= RULE.threshold).astype(np.uint8), RULE, 1.0, 0)
        for name, pred in (("dice", plain), ("dice_chosen", ruled)):
            expected[name].append(float(dice(count_image(pred, mask, [1])[0])[0]))
    assert rows["dice"].to_numpy() == pytest.approx(expected["dice"], abs=0.02)
    assert rows["dice_chosen"].to_numpy() == pytest.approx(expected["dice_chosen"], abs=0.02)
    assert not np.allclose(rows["dice"], rows["dice_chosen"], atol=0.03)
    scores = json.loads(left["scores"].read_text())
    assert scores["chosen"] == asdict(RULE)
    assert scores["external/clinic/images"] == 3
    assert scores["external/clinic/dice_per_image"] == pytest.approx(rows["dice"].mean())
    with np.load(left["out"] / "counts.npz") as archive:
        tp, fp, fn, _ = archive["external"].sum(axis=(0, 1))
        assert sorted(archive.files) == sorted(f"external{ending}" for ending in VARIANTS)
    assert scores["external/clinic/precision_micro"] == pytest.approx(tp / (tp + fp))
    assert scores["external/clinic/recall_micro"] == pytest.approx(tp / (tp + fn))
    assert scores["sha256"]["images"] == sha256_of(left["out"] / "images.csv")
    assert scores["sha256"]["counts"] == sha256_of(left["out"] / "counts.npz")
    assert "on clinic (3 images)" in said


def test_a_rule_of_another_training_is_not_used(clinic: Params, left: dict[str, Path]) -> None:
    chosen = json.loads(left["chosen"].read_text())
    chosen["sha256"]["weights"] = "0" * 64
    left["chosen"].write_text(json.dumps(chosen))
    with pytest.raises(InputError, match=r"chosen.json: the scores of other weights; run"):
        evaluate_external(clinic, "clinic", **left)
    left["chosen"].unlink()
    with pytest.raises(InputError, match=r"chosen.json: missing or damaged"):
        evaluate_external(clinic, "clinic", **left)
    assert not left["scores"].exists()


@pytest.mark.mlflow
def test_its_record_joins_the_run_and_replays_once(
    clinic: Params, left: dict[str, Path], tmp_path: Path, offline: Callable[[], str]
) -> None:
    evaluate_external(clinic, "clinic", **left)
    training, record = left["trained"] / "record", left["out"] / "record"
    assert read_run(record).id == read_run(training).id
    # Of another set, and on its own splits, beside it.
    other = shutil.copytree(record, tmp_path / "other")
    for name in ("run.json", "metrics.jsonl", "end.json"):
        (other / name).write_text((other / name).read_text().replace("clinic", "camera"))
    write_record(tmp_path / "evaluated", "evaluate", id=read_run(record).id, params={}, tags={})
    records = [other, record, tmp_path / "evaluated", training]
    replay(records, offline())
    first = everything(offline())
    (run,) = first.values()
    status, points, _, tags, _, digests, _ = run  # type: ignore[misc]
    scores = json.loads(left["scores"].read_text())
    for name in ("clinic", "camera"):
        for metric in ("dice_per_image", "dice_per_image_chosen", "recall_per_image", "dice_micro"):
            ((step, value, _),) = points[f"external/{name}/{metric}"]
            assert (step, value) == (0, pytest.approx(scores[f"external/clinic/{metric}"]))
        assert tags[f"external.{name}.device"] == "cpu"
        assert f"segbench.replayed.evaluate.{name}" in tags
    assert status == "FINISHED"
    digest = read_run(record).inputs[0].digest  # of its data set and of its split
    assert digest.startswith(f"{scores['sha256']['dataset'][:16]}-")
    assert set(digests) == {"d" * 16, digest}
    replay(records[::-1], offline())
    assert everything(offline()) == first
