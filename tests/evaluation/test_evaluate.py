"""Several classes, grey images, ignored pixels and empty images, through every room."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from segbench.arrays.augment_external import augment_external
from segbench.arrays.store import open_arrays, read_header
from segbench.comparison.compare import Paths, compare
from segbench.datasets.download_external import download_external
from segbench.errors import InputError
from segbench.evaluation import evaluate as evaluation
from segbench.evaluation import inference, scoring
from segbench.evaluation import measure as measuring
from segbench.evaluation.evaluate import evaluate, tracked
from segbench.evaluation.evaluate_external import evaluate_external
from segbench.evaluation.measure import measure
from segbench.exports.program import load_exported
from segbench.files import sha256_of
from segbench.models.network import build_network, save_network
from segbench.params import Params
from segbench.splits.audit_external import audit_external
from segbench.training.train import train
from support.mlflow_server import write_record
from support.pipeline import pack

pytestmark = [pytest.mark.usefixtures("offline"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def several_classes(tree: dict[str, Any], tmp_path: Path) -> Params:
    """Grey images of three classes, some pixels ignored, a few images without any object."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "source" / name).mkdir(parents=True)
    for number in range(24):
        mask = np.zeros((70, 90), np.uint8)
        if number % 4:
            mask[10:30, 10:50] = 100
            mask[40:60, 30:80] = 200
            mask[:4] = 9
        pixels = (mask // 2 + rng.integers(0, 60, mask.shape)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "source" / "images" / f"a {number:02}#.png")
        Image.fromarray(mask).save(tmp_path / "source" / "masks" / f"a {number:02}#.png")
    tree["dataset"] = {
        "name": "folder",
        "title": "grey",
        "source": str(tmp_path / "source"),
        "watch": True,
        "images": "images/{id}.png",
        "masks": "masks/{id}.png",
        "classes": ["background", "low", "high"],
        "background": 0,
        "mask": {"values": {0: 0, 100: 1, 200: 2, 9: 255}},
        **dict.fromkeys(("group", "stratum", "split", "bands")),
        **dict.fromkeys(("value_range", "spacing", "foreground")),
        "ignore": None,
        "exif": "turn",
        "licence": "own",
        "redistributable": False,
        "citation": "",
        "published": 0,
        "limits": {
            "megapixels": 1,
            "unpacked_gib": 1,
            "size_difference": 0,
            "on_bad_pair": "error",
        },
    }
    tree["train"].update(loss={"dice": 1.0, "ce": 1.0}, num_epochs=5)
    tree["comparison"]["candidates"] = ["resnet18"]  # the quickest to export
    # They are alike but for noise.
    tree["split"].update(on_leak="warn", test_share=0.2)
    # The same images again, of which none holds the last class.
    of_two = {"values": {0: 0, 100: 1, 200: 0, 9: 255}}
    tree["comparison"]["external"] = {"again": {**tree["dataset"], "mask": of_two}}
    return Params.model_validate(tree)


def leave_untrained(params: Params, folder: Path) -> tuple[Path, Path]:
    """What a training leaves behind that learnt nothing."""
    torch.manual_seed(0)
    network = build_network(params.model, params.candidates["mobilenetv2_035"], 1)
    write_record(folder / "record")
    save_network(network, folder / "weights.safetensors")
    run = folder / "run.json"
    weights_sha256 = sha256_of(folder / "weights.safetensors")
    origin = {"source": "from scratch"}
    content = {"rollbacks": 0, "weights_sha256": weights_sha256, "origin": origin}
    run.write_text(json.dumps(content))
    return folder, run


def test_damaged_weights_are_never_scored(params: Params, packed: Path, tmp_path: Path) -> None:
    trained, run = leave_untrained(params, tmp_path / "train")
    weights = trained / "weights.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-4000] ^= 1  # still a file of weights, by which a network can be built
    rest = (packed / "dataset", packed / "arrays", 0, tmp_path / "out", tmp_path / "scores.json")
    for content in (flipped, flipped[:5000], None):
        weights.write_bytes(content) if content else weights.unlink()
        with pytest.raises(InputError, match=r"weights.safetensors: .*segbench repro") as caught:
            evaluate(params, trained, run, *rest)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.mlflow
def test_out_of_memory_says_what_to_lower(
    params: Params,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def predict(*_: Any) -> None:
        raise torch.OutOfMemoryError("no more")

    trained, run = leave_untrained(params, tmp_path / "train")
    monkeypatch.setattr(scoring, "predict", predict)
    with pytest.raises(InputError, match=r"evaluate.batch_size: 16 images .* halve it"):
        evaluate(
            *(params, trained, run, packed / "dataset", packed / "arrays", 0),
            *(tmp_path / "out", tmp_path / "scores.json"),
        )
    assert not (tmp_path / "scores.json").exists()
    assert "MLflow" not in capfd.readouterr().err  # it took the run, which has no model


def test_the_rule_is_chosen_on_validation(
    params: Params, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is exported is tested below.
    monkeypatch.setattr(evaluation, "export", lambda *_: None)
    made = leave_untrained(params, tmp_path / "train")
    evaluate(
        params,
        *made,
        packed / "dataset",
        packed / "arrays",
        0,
        tmp_path / "out",
        tmp_path / "scores.json",
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    best = pd.read_csv(tmp_path / "out" / "choices.csv").iloc[0]
    assert scores["chosen"]["threshold"] == best["threshold"] != params.evaluate.threshold
    assert scores["val/dice_per_image_chosen"] == pytest.approx(best["val_dice_per_image"])
    assert scores["val/dice_per_image_chosen"] > scores["val/dice_per_image"]


def test_several_classes_from_end_to_end(
    several_classes: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That memory is measured in processes of their own is tested beside.
    monkeypatch.setattr(measuring, "_start_server", lambda: None)
    monkeypatch.setattr(inference, "_peaks_apart", lambda keys, *_: dict.fromkeys(keys, 1.0))
    monkeypatch.setattr(inference, "TURN_S", 0.0)
    params, name = several_classes, "resnet18-fold0-seed0"
    arrays = pack(params, tmp_path) / "arrays"
    assert read_header(arrays).channels == 1
    assert read_header(arrays).num_outputs == 3
    assert set(np.unique(open_arrays(arrays / "fold0" / "train").masks)) == {0, 1, 2, 255}
    paths = Paths(
        **{field: tmp_path / field for field in Paths.__annotations__}
        | {
            "arrays": arrays,
            "preview": tmp_path / "preview.png",
            "split": tmp_path / "split.json",
        }
    )
    trained = tmp_path / "trained"
    train(
        *(params, "resnet18", 0, 0, arrays, trained),
        *(paths.history / f"{name}.csv", paths.runs / f"{name}.json", tmp_path / "checkpoints"),
    )
    scores = paths.metrics / f"{name}.json"
    run = paths.runs / f"{name}.json"
    evaluate(
        *(params, trained, run, tmp_path / "dataset", arrays, 0),
        *(paths.evaluations / name, scores),
    )
    sets, arrays_of_set = paths.external_sets / "again", paths.external_sets / "again/arrays"
    download_external(params, "again", sets / "dataset")
    audit_external(
        *(params, "again", tmp_path / "dataset", tmp_path / "split.csv", sets / "dataset"),
        *(sets / "leaks.csv", paths.metrics / "external/again.json"),
    )
    augment_external(params, "again", arrays, sets / "dataset", arrays_of_set)
    evaluate_external(
        *(params, "again", trained, run, scores, sets / "dataset", arrays_of_set),
        *(sets / "evaluate" / name, paths.metrics / f"external/again/{name}.json"),
    )
    # What is left of a run that is no longer named goes; what else lies there stays.
    (paths.metrics / "external/again/mobilenetv2_035-fold0-seed0.json").write_text("{}")
    (paths.metrics / "external/former").mkdir()
    (paths.metrics / "external/former.json").write_text("{}")
    (paths.metrics / "mobilenetv2_035-fold0-seed0.json").write_text("{}")
    (paths.metrics / "notes.txt").touch()
    measure(params, arrays, paths.costs)
    compare(params, paths)
    left = {path.relative_to(paths.metrics).as_posix() for path in paths.metrics.rglob("*.*")}
    of_set = {"external/again.json", f"external/again/{name}.json"}
    assert left == {f"{name}.json", "notes.txt"} | of_set
    assert not (paths.metrics / "external/former").exists()

    found = json.loads(scores.read_text())
    assert found["test/dice_per_image"] > 0.3
    rows = pd.read_csv(paths.evaluations / name / "images.csv")
    assert not [name for name in rows if name.startswith("tp_")]
    with np.load(paths.evaluations / name / "counts.npz") as archive:
        cells = {key: archive[key].astype(int) for key in archive.files}
    assert len(cells) == 8
    total = np.concatenate([cells[split][:, 0].sum(axis=1) for split in ("val", "test")])
    ignored = [
        (open_arrays(arrays / "fold0" / split).masks == 255).sum((1, 2))
        for split in ("val", "test")
    ]
    assert (total == 64 * 64 - np.concatenate(ignored)).all()
    exported = load_exported(paths.evaluations / name / "model.pt2")
    assert exported(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).shape == (1, 3, 64, 64)
    # Not to be passed on: linked, not embedded.
    page = (paths.reports / "comparison.html").read_text()
    assert "data:image" not in page
    assert "../out/pictures/a_" in page
    assert page.count("<img") == 2 * 3
    # All images of the set were trained on or tested, and one class is in none of them.
    external = json.loads((paths.metrics / f"external/again/{name}.json").read_text())
    assert external["external/again/images"] == 24
    assert external["external/again/dice_class_high"] is None
    assert external["external/again/dice_class_low"] > 0.3
    assert re.search(r"\d+ of the 24 images of again show what a training image shows", page)
    assert "On again, resnet18 reaches dice 0." in page
    table = pd.read_csv(paths.reports / "external.csv")
    assert table["dice_per_image"].tolist() == [
        pytest.approx(external["external/again/dice_per_image"])
    ]
    classes = pd.read_csv(paths.reports / "classes.csv").set_index("class")
    assert list(classes.index) == ["low", "high"]
    assert classes.loc["low", "iou"] == pytest.approx(found["test/iou_class_low"])
    confusion = pd.read_csv(paths.reports / "confusion.csv").set_index(["truth", "predicted"])
    hits = confusion["pixels"]
    assert hits["low", "low"] == cells["test"][:, 0, 0].sum()
    assert hits.sum() == cells["test"][:, 0].sum()
    told = (paths.reports / "comparison.md").read_text()
    assert "\n## Classes\n\n| class | test images | resnet18 |\n|---|--:|--:|\n| low | " in told
    assert f"\n| mean IoU (mIoU) | | {found['test/mean_iou']:.3f} |\n" in told
    assert re.search(r"\|\n\n[^|\n]+\n\nDice of each class, mean over", told)
    for metric, key in (("dice_class_low", "dice_per_image_class_low"), ("mean_iou", "mean_iou")):
        ranked = params.comparison.model_copy(update={"metric": metric})
        compare(params.model_copy(update={"comparison": ranked}), paths)
        board = pd.read_csv(paths.reports / "comparison.csv")
        assert board.loc[0, "test"] == pytest.approx(found[f"test/{key}"])
        assert board.loc[0, "test_low"] < board.loc[0, "test"] < board.loc[0, "test_high"]
        told = (paths.reports / "comparison.md").read_text()
        assert f"best validation {metric} " in told
        assert " nan " not in told
    # What is required and does not hold fails the stage, and the report says so.
    asked = params.comparison.model_copy(update={"require": ["test > 2"]})
    with pytest.raises(InputError, match=r"'test > 2' \(test is 0\.\d+\) not met"):
        compare(params.model_copy(update={"comparison": asked}), paths)
    assert (
        "Requirement not met: <code>test &gt; 2</code>"
        in (paths.reports / "comparison.html").read_text()
    )
    # Scores of other data are not compared with what is at hand.
    found["sha256"]["dataset"] = "0" * 64
    scores.write_text(json.dumps(found))
    with pytest.raises(InputError, match="its scores are of other data than what is packed now"):
        compare(params, paths)


def test_mlflow_gets_few_scores() -> None:
    names = [
        *("dice_per_image", "dice_per_image_chosen", "dice_micro", "calibration_error_per_image"),
        *("hausdorff95_per_image_original", "surface_dice_per_image_original"),
    ]
    told = {f"{split}/{name}": 0.5 for split in ("val", "test") for name in names}
    spared = {"val/dice_per_image_original": 0.5, "test/specificity_micro": 0.5, "test/images": 8}
    spared["test/hausdorff95_per_image"] = 3.0  # in pixels of the network's size
    assert tracked({**told, **spared, "test/iou_per_image": np.nan}) == told
