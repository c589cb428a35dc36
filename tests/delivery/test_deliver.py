"""A delivery gives what evaluation scored, says what it is, and is whole or not there."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import tifffile
from PIL import Image

from segbench.arrays.store import Header, open_arrays
from segbench.datasets.canonical import DatasetInfo, read_samples
from segbench.datasets.exif import turned
from segbench.delivery import deliver as delivering
from segbench.delivery import finding
from segbench.delivery.card import write_card
from segbench.delivery.deliver import Limits, Paths, check, check_same, deliver, table_text
from segbench.delivery.finding import Layout, find_model
from segbench.delivery.outputs import Wanted
from segbench.delivery.predict import predict_folder
from segbench.delivery.rescore import Row
from segbench.delivery.usage import usage
from segbench.devices import resolve
from segbench.errors import InputError
from segbench.evaluation.drafts import Draft
from segbench.evaluation.evaluate import evaluate, load_networks
from segbench.evaluation.postprocessing import own_mask_by
from segbench.evaluation.predict import Truths, predict
from segbench.exports.description import Description
from segbench.exports.masks import remove_components
from segbench.exports.onnx import save
from segbench.exports.onnx_file import read_description
from segbench.exports.runtimes import Runtime
from segbench.files import sha256_of
from segbench.images import Pixels, most_probable
from segbench.params import Params
from segbench.params.hardware import AUTOMATIC
from segbench.tracking.records import read_run
from segbench.untrusted.onnx_file import checked_onnx
from support.comparison import evaluated
from support.exports import SEVERAL, described, pixels, write_plain_network
from support.params import read_params, shrink
from support.pipeline import fit_one, pack

RUN = "mobilenetv2_035-fold0-seed0"
LIMITS = Limits(dice=0.001, pixels=0.0001)
NOWHERE = Layout(**dict.fromkeys(Layout.__dataclass_fields__, Path("nowhere")))
ROW = Row("onnxruntime", "1.0", "model.onnx", 0.8, 0.0, 3, 0.00001, 5.0, 40.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"difference": 0.002}, r"scores 0\.8000 on test, \+0\.0020 against"),
        ({"difference": -0.002}, r"-0\.0020 against"),
        ({"share_differs": 0.01}, r"1\.0000 % of the pixels differ"),
        ({"dice": float("nan")}, "scores nan"),
        ({"difference": float("nan")}, "nan against"),
    ],
)
def test_other_scores_stop_a_delivery(changes: dict[str, float], said: str) -> None:
    check([ROW], LIMITS, "champion")
    if "dice" in changes:
        changes["difference"] = 0.5
    with pytest.raises(InputError, match=said) as caught:
        check([ROW, replace(ROW, **changes)], LIMITS, "champion")
    assert "\n" not in str(caught.value)
    assert "champion: not delivered: model.onnx by onnxruntime 1.0" in str(caught.value)


def test_the_table_of_runtimes() -> None:
    assert table_text([ROW]).splitlines()[1].split()[:3] == ["onnxruntime", "1.0", "0.8000"]


def write_lines(about: Description, folder: Path) -> None:
    """The few lines, and a network that needs no training."""
    write_plain_network(about, folder / "model.onnx")
    (folder / "use.py").write_text(usage(about))


def mask_by_lines(image: Path) -> Pixels:
    script = [sys.executable, "use.py", image.name, "mask.png"]
    subprocess.run(script, cwd=image.parent, check=True)
    return cv2.imread(str(image.with_name("mask.png")), cv2.IMREAD_UNCHANGED)


def blotches(channels: int) -> Pixels:
    """An image (87, 133, channels) whose masks have small components and large ones."""
    small = cv2.GaussianBlur(pixels(20, 30, channels), (0, 0), 1.5)
    image = cv2.resize(small, (133, 87), interpolation=cv2.INTER_CUBIC).reshape(87, 133, -1)
    return np.clip(3 * (image.astype(int) - 127) + 127, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("rule", [{}, {"min_size": 400}, {"largest": True}])
def test_the_few_lines_make_evaluations_masks(
    channels: int, outputs: int, rule: dict[str, Any], tmp_path: Path
) -> None:
    if outputs == 3 and channels != 3:
        pytest.skip("the made network gives as many classes as it takes channels")
    several = {**SEVERAL, "background": 0} if outputs == 3 else {}
    about = described(channels=channels, **several, **rule)
    write_lines(about, tmp_path)
    image = blotches(channels)
    path = tmp_path / ("image.png" if channels in (1, 3) else "image.npy")
    np.save(path, image) if channels == 5 else cv2.imwrite(str(path), image[..., ::-1])
    found = mask_by_lines(path)

    planes = [
        cv2.resize(np.ascontiguousarray(band), (96, 64), interpolation=cv2.INTER_AREA)
        for band in image.transpose(2, 0, 1)
    ]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (probs,) = session.run(["probs"], {"images": np.stack(planes)[None]})
    large = [
        cv2.resize(plane.astype(np.float32), (133, 87), interpolation=cv2.INTER_LINEAR)
        for plane in probs[0]
    ]
    mask: Pixels = (large[0] >= 256 * about.threshold).astype(np.uint8)
    mask = most_probable(large) if outputs == 3 else mask
    cleaned = remove_components(mask, about.rule, mask.size / (64 * 96), 0)
    assert len(np.unique(cleaned)) > 1
    assert (cleaned != mask).any() == bool(rule)
    np.testing.assert_array_equal(found, cleaned)


def facts(**changes: str) -> dict[str, str]:
    """Of a dataset of the user's own."""
    own = {"name": "folder", "exif": "turn", "background": "0", "bands": "null"}
    mask = {"value_range": "null", "mask.threshold": "128", "mask.invert": "false"}
    return {f"dataset.{key}": text for key, text in {**own, **mask, **changes}.items()}


DEEP = {"value_range": "[200, 4095]"}
EACH = {"bands": "[2, 1]", "value_range": "[[0, 4095], [100, 3000]]"}


@pytest.mark.parametrize(
    ("name", "stored", "channels", "data"),
    [
        ("a.png", blotches(1).astype(np.uint16) * 16, 1, DEEP),
        ("a.png", blotches(1).astype(np.uint16) * 16, 3, DEEP),
        ("a.tif", blotches(1).astype(np.int16) * 16, 3, DEEP),
        ("a.tif", blotches(1).astype(np.float32) * 16, 1, DEEP),
        ("a.png", blotches(3), 3, DEEP),
        ("a.jpg", blotches(3), 3, {"exif": "ignore"}),
        ("a.jpg", blotches(3), 3, {"exif": "turn"}),
        ("a.jpg", blotches(1), 1, {"exif": "ignore"}),
        ("a.png", blotches(3), 3, {"bands": "[3, 1, 2]", "exif": "ignore"}),
        ("a.png", blotches(3), 1, {"bands": "[2]"}),
        ("a.tif", blotches(2).astype(np.uint16) * 16, 2, EACH),
        ("a.tif", blotches(6).astype(np.uint16) * 16, 1, {**DEEP, "bands": "[5]"}),
    ],
)
def test_the_few_lines_read_images_as_training_does(
    name: str, stored: np.ndarray, channels: int, data: dict[str, str], tmp_path: Path
) -> None:
    write_lines(described(channels=channels, data=facts(**data)), tmp_path)
    path = tmp_path / name
    if name.endswith(".tif"):
        pages = np.moveaxis(stored, 2, 0).squeeze()
        tifffile.imwrite(path, pages, photometric="minisblack")
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(stored.squeeze()).save(path, exif=exif)
    source = find_model(str(tmp_path / "model.onnx"), NOWHERE, tmp_path)
    predict_folder(
        *(source, str(path), tmp_path / "out", resolve(AUTOMATIC), 4, Wanted(False, False))
    )
    expected = cv2.imread(str(tmp_path / "out/masks/a.png"), cv2.IMREAD_UNCHANGED) == 255
    if "bands" in data:
        chosen = stored[..., [band - 1 for band in json.loads(data["bands"])]]
        upright = chosen if data.get("exif") == "ignore" or ".tif" in name else turned(chosen, 6)
        path = tmp_path / "a.npy"
        np.save(path, upright[..., 0] if channels == 1 else upright)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(mask_by_lines(path), expected)


@pytest.mark.parametrize("data", [{}, {"bands": "[3, 2, 1]"}])
def test_the_few_lines_refuse_bits_that_training_refused(
    data: dict[str, str], tmp_path: Path
) -> None:
    write_lines(described(data=facts(**data)), tmp_path)
    image = blotches(3).astype(np.uint16) * 256
    np.save(tmp_path / "a.npy", image) if data else cv2.imwrite(str(tmp_path / "a.png"), image)
    script = [sys.executable, "use.py", "a.npy" if data else "a.png", "mask.png"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "more than 8 bits a channel, which training did not take" in done.stderr
    assert not (tmp_path / "mask.png").exists()


def test_the_card_is_written_from_the_records(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["candidates"]["resnet18"]["weights"] = "none"
    params = Params.model_validate(tree)
    run = evaluated("resnet18", 0, 0.8, 0.75)
    part = {"images": 60, "groups": 30}
    leaks = {"near_duplicates": 4, "exact_duplicates": 0}
    audit = {"fold0": {**dict.fromkeys(("train", "val", "test"), part), "leaks": leaks}}
    (tmp_path / "split.json").write_text(json.dumps(audit))
    (tmp_path / "table.csv").write_text(
        "rank,candidate,runs,test,test_low,test_high,relation\n"
        "1,resnet18,3,0.751,0.7,0.8,\n1,regnetx_002,3,0.7,0.6,0.8,undecided\n"
    )
    info = DatasetInfo("polyps", ("background", "polyp"), "CC BY 4.0", True, "")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"onnx")
    about = described(citation="Who et al. 2020")
    write_card(
        *(params, tmp_path / "split.json", tmp_path / "table.csv", run),
        *(Header(info, 64, 96, 3, "a" * 64), about, [ROW], folder),
    )
    card = (folder / "card.md").read_text()
    for text in (
        "**Both sides share 4 near duplicates: scores are optimistic.**",
        "first of 2, beside regnetx_002 (undecided)",
        "its 3 trainings together: 0.751 on test (95 % interval 0.700 to 0.800)",
        "## Where it fails",
        "| stratum: ",
        "dice_per_image_chosen | 0.7",
        "trained from random weights",
        "CC BY 4.0. Cite: Who et al. 2020",
        "| onnxruntime 1.0 | `model.onnx` | 0.8000 | +0.000000 | 3 (0.0010 %) | 5.0 | 40.0 |",
        about.weights_sha256,
        sha256_of(folder / "model.onnx"),
        usage(about).strip(),
    ):
        assert text in card, text
    assert len(card.splitlines()) < 110


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Paths]:
    """A comparison of one candidate, trained for a moment and evaluated."""
    folder, tree = tmp_path_factory.mktemp("delivery"), shrink(read_params())
    params = Params.model_validate(tree)
    pack(params, folder)
    fit_one(params, folder, folder / "one")
    paths = Paths(
        dataset=folder / "dataset",
        arrays=folder / "arrays",
        trained=folder / "train",
        metrics=folder / "metrics",
        history=folder / "history",
        evaluations=folder / "evaluate",
        runs=folder / "runs",
        split=folder / "split.csv",
        audit=folder / "split.json",
        table=folder / "comparison.csv",
        deliveries=folder / "deliveries",
        records=folder / "records",
    )
    for place in (paths.trained, paths.runs, paths.history):
        place.mkdir()
    shutil.move(folder / "one/train", paths.trained / RUN)
    shutil.move(folder / "one/run.json", paths.runs / f"{RUN}.json")
    shutil.move(folder / "one/history.csv", paths.history / f"{RUN}.csv")
    evaluate(
        *(params, paths.trained / RUN, paths.runs / f"{RUN}.json", paths.dataset, paths.arrays),
        *(0, paths.evaluations / RUN, paths.metrics / f"{RUN}.json"),
    )
    paths.table.write_text(
        "rank,candidate,runs,test,test_low,test_high,relation\n"
        "1,mobilenetv2_035,1,0.5,0.4,0.6,\n1,regnetx_002,1,0.4,0.3,0.5,undecided\n"
    )
    return params, paths


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_delivery_gives_evaluations_masks(
    finished: tuple[Params, Paths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, paths = finished
    said = deliver(params, paths, "champion", "polyps", LIMITS)
    folder = paths.deliveries / "polyps"
    assert f"{RUN} is delivered in {folder}" in said
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.onnx", "model.pt2", "card.md", "use.py", "runtimes.csv"}
    with (folder / "runtimes.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert {row["runtime"] for row in rows} >= {"evaluation", "torch", "onnxruntime"}
    assert {float(row["share_differs"]) for row in rows} == {0.0}
    assert all(abs(float(row["difference"])) < 1e-6 for row in rows)
    assert find_model(str(folder), paths.layout, tmp_path).name == RUN
    about = read_description(folder / "model.onnx")
    assert about.weights_sha256 == sha256_of(paths.trained / RUN / "weights.safetensors")

    card = (folder / "card.md").read_text()
    assert about.weights_sha256 in card
    assert usage(about).strip() in card
    for path in folder.iterdir():
        assert path.name == "card.md" or sha256_of(path) in card

    record = paths.records / "polyps/record"
    assert (record / "artifacts/card/card.md").read_text() == card
    assert read_run(record).id == about.run

    former = tmp_path / "former.onnx"
    save(checked_onnx(folder / "model.onnx"), described(name=RUN), former)
    with pytest.raises(InputError, match=rf"not delivered: {RUN} of this workspace has weights"):
        deliver(params, paths, str(former), "former", LIMITS)

    # The script needs no segbench, and gives the masks that evaluation made at each image's size.
    networks = load_networks(paths.trained / RUN / "weights.safetensors", "cpu")
    split, truths = open_arrays(paths.arrays / "fold0/test"), Truths(paths.dataset)
    found = predict(networks[about.flips], split, truths, 16, 0.5, about.scheme.scored)
    one = next(iter(found))
    size = one.original().shape
    expected = own_mask_by(about.rule, Draft.of(one, *size), size, about.background)
    image = paths.dataset / read_samples(paths.dataset).set_index("id")["image"][one.id]
    script = [sys.executable, "-I", "use.py", str(image), str(tmp_path / "mask.png")]
    subprocess.run(script, cwd=folder, check=True)
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, expected)

    # A runtime that gives something else stops it, and what was delivered before stays.
    before = {path.name: sha256_of(path) for path in folder.iterdir()}
    opened = delivering.open_runtime

    def shifted(name: str, file: Path, threads: int) -> Runtime:
        own = opened(name, file, threads)
        if name != "onnxruntime":
            return own
        return replace(own, call=lambda images: own.call(images) + np.float32(0.1))

    monkeypatch.setattr(delivering, "open_runtime", shifted)
    with pytest.raises(InputError, match=r"not delivered: model\.onnx by onnxruntime"):
        deliver(params, paths, RUN, "polyps", LIMITS)
    with pytest.raises(InputError, match=r"not delivered: model\.onnx by onnxruntime"):
        deliver(params, paths, RUN, "other", LIMITS)
    assert [path.name for path in paths.deliveries.iterdir()] == ["polyps"]
    assert {path.name: sha256_of(path) for path in folder.iterdir()} == before


def test_a_model_that_only_has_the_name_of_a_run_is_not_delivered() -> None:
    run = evaluated("resnet18", 0, 0.8, 0.75)
    run.trained["weights_sha256"] = "c" * 64
    about, wanted = described(), "models:/polyps@champion"
    source = finding._described(about, {})
    check_same(wanted, source, run, about)
    for changes, said in (
        ({"weights_sha256": "e" * 64}, "has weights cccccccccccc, and it has eeeeeeeeeeee; name"),
        ({"threshold": 0.9}, r"has the mask rule MaskRule\(threshold=0\.37"),
        ({"flips": True}, "has the mask rule"),
    ):
        other = finding._described(described(**changes), {})
        with pytest.raises(InputError, match=said) as caught:
            check_same(wanted, other, run, about)
        assert str(caught.value).startswith(f"{wanted}: not delivered: {run.name} of this")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wanted", ["resnet99", "resnet18-fold0-seed7", "x" * 300])
def test_a_name_of_no_run(wanted: str, tmp_path: Path, params: Params) -> None:
    names = Paths.__annotations__
    paths = Paths(**{name: tmp_path / name for name in names})
    with pytest.raises(InputError, match=wanted) as caught:
        deliver(params, paths, wanted, "", LIMITS)
    assert "\n" not in str(caught.value)
