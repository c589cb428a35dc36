"""Masks of new images are those of evaluation, of any image that training takes, and go on."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segbench.arrays.store import open_arrays, read_header
from segbench.datasets.canonical import read_samples
from segbench.delivery import predict as predicting
from segbench.delivery.choice import open_model
from segbench.delivery.finding import Layout, Source, find_model
from segbench.delivery.outputs import Wanted
from segbench.delivery.predict import predict_folder
from segbench.devices import ResolvedHardware, resolve
from segbench.errors import InputError
from segbench.evaluation import evaluate as evaluation
from segbench.evaluation.drafts import Draft
from segbench.evaluation.evaluate import evaluate, load_networks
from segbench.evaluation.postprocessing import own_mask_by
from segbench.evaluation.predict import Truths, predict
from segbench.exports.masks import MaskRule
from segbench.exports.onnx import export_onnx
from segbench.exports.onnx_file import read_description
from segbench.models.network import save_network
from segbench.params import Params
from support.exports import SMALL, described, network_of, write_plain_network
from support.params import read_params, shrink
from support.pipeline import fit_one, pack

RUN = "mobilenetv2_035-fold0-seed0"
ALL = Wanted(overlays=True, probabilities=True)
pytestmark = pytest.mark.filterwarnings("ignore")


def finish(tree: dict[str, Any], folder: Path) -> Layout:
    """A comparison of one candidate, trained for a moment and evaluated."""
    params = Params.model_validate(tree)
    pack(params, folder)
    fit_one(params, folder, folder / "one")
    layout = Layout(
        arrays=folder / "arrays",
        trained=folder / "train",
        evaluations=folder / "evaluate",
        metrics=folder / "metrics",
        runs=folder / "runs",
        table=folder / "comparison.csv",
    )
    (folder / "train").mkdir()
    layout.runs.mkdir()
    shutil.move(folder / "one/train", layout.trained / RUN)
    shutil.move(folder / "one/run.json", layout.runs / f"{RUN}.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "export", lambda *_: None)
        evaluate(
            *(params, layout.trained / RUN, layout.runs / f"{RUN}.json", folder / "dataset"),
            *(layout.arrays, 0, layout.evaluations / RUN, layout.metrics / f"{RUN}.json"),
        )
    layout.table.write_text("rank,candidate\n1,mobilenetv2_035\n")
    return layout


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return finish(shrink(read_params()), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def hardware(params: Params) -> ResolvedHardware:
    return resolve(params.hardware)


def dataset_of(layout: Layout) -> Path:
    return layout.arrays.parent / "dataset"


def test_images(layout: Layout, to: Path) -> list[str]:
    """Copy the images of the test split; their ids."""
    dataset = dataset_of(layout)
    files = read_samples(dataset).set_index("id")["image"]
    table = open_arrays(layout.arrays / "fold0/test").samples
    ids = sorted(set(table["whole"] if "whole" in table else table["id"]))
    to.mkdir()
    for id in ids:
        shutil.copy(dataset / files[id], to)
    return ids


def masks_of_evaluation(layout: Layout, source: Source) -> dict[str, np.ndarray]:
    """At the images' own size, by the chosen rule, from the packed arrays."""
    split, truths = open_arrays(layout.arrays / "fold0/test"), Truths(dataset_of(layout))
    networks = load_networks(layout.trained / RUN / "weights.safetensors", "cpu")
    found = predict(
        *(
            networks[source.rule.flips],
            split,
            truths,
            16,
            0.5,
            read_header(layout.arrays).dataset.scheme.scored,
        )
    )
    masks = {}
    for one in found:
        size = one.original().shape
        masks[one.id] = own_mask_by(source.rule, Draft.of(one, *size), size, source.background)
    return masks


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


test_images.__test__ = False  # type: ignore[attr-defined]


def check_equal(layout: Layout, folder: Path, hardware: ResolvedHardware) -> Source:
    source = find_model("champion", layout, folder / "cache")
    ids = test_images(layout, folder / "images")
    said = predict_folder(source, str(folder / "images"), folder / "out", hardware, 4, ALL)
    assert said.startswith(f"{len(ids)} images in ")
    wanted = masks_of_evaluation(layout, source)
    assert sorted(wanted) == ids
    for id, mask in wanted.items():
        stored = np.asarray(Image.open(folder / "out/masks" / f"{id}.png"))
        assert (stored == source.data.values[mask]).all()
    return source


def test_masks_are_those_of_evaluation(
    layout: Layout, tmp_path: Path, hardware: ResolvedHardware
) -> None:
    source = check_equal(layout, tmp_path, hardware)
    out = tmp_path / "out"
    table = rows(out / "images.csv")
    assert [*table[0]] == [
        "image",
        "mask",
        "width",
        "height",
        "certainty",
        "share_polyp",
        "objects_polyp",
    ]
    for row in table:
        mask = np.asarray(Image.open(out / row["mask"])) > 0
        assert float(row["share_polyp"]) == pytest.approx(mask.mean(), abs=1e-6)
        number = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
        assert int(row["objects_polyp"]) == number
        assert 0.5 <= float(row["certainty"]) <= 1
        name = Path(row["mask"]).stem
        probs = np.asarray(Image.open(out / f"probabilities/polyp/{name}.png"))
        assert ((probs >= 256 * source.rule.threshold) == mask).all()
        assert Image.open(out / f"overlays/{name}.jpg").size == (80, 72)
    assert rows(out / "failures.csv") == []


@pytest.mark.parametrize(
    "size", [pytest.param(32, marks=pytest.mark.slow), 48, pytest.param(64, marks=pytest.mark.slow)]
)
def test_tiled_images(
    tree: dict[str, Any], tmp_path: Path, hardware: ResolvedHardware, size: int
) -> None:
    """Also where windows are packed larger or smaller than they are cut."""
    tree["augment"]["patches"] = {"height": size, "width": size, "overlap": 16}
    tree["train"]["num_epochs"] = 1
    layout = finish(tree, tmp_path / "finished")
    source = check_equal(layout, tmp_path, hardware)
    assert source.patches is not None


def test_it_goes_on_where_it_stopped(
    layout: Layout, tmp_path: Path, hardware: ResolvedHardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_model(RUN, layout, tmp_path)
    ids = test_images(layout, tmp_path / "images")
    out, where = tmp_path / "out", str(tmp_path / "images")
    finish_one, seen = predicting.Outputs.finish, []

    def stop(self: Any, item: Any, row: Any) -> None:
        finish_one(self, item, row)
        seen.append(item.name)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predicting.Outputs, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_folder(source, where, out, hardware, 1, ALL)
    with (out / ".done.jsonl").open("a") as file:
        file.write('["half a li')  # as a kill leaves it
    first = out / f"masks/{Path(seen[0]).stem}.png"
    stamp = first.stat().st_mtime_ns
    said = predict_folder(source, where, out, hardware, 1, ALL)
    assert said.startswith(f"{len(ids) - 1} images")
    assert "; 1 were done already" in said
    assert first.stat().st_mtime_ns == stamp
    assert len(rows(out / "images.csv")) == len(ids)
    # Nothing is left to do; what is lost or changed is made again.
    assert predict_folder(source, where, out, hardware, 1, ALL).startswith("0 images")
    first.unlink()
    image = next((tmp_path / "images").glob(f"{ids[1]}.*"))
    image.write_bytes(image.read_bytes() + b" ")
    assert predict_folder(source, where, out, hardware, 1, ALL).startswith("2 images")
    # Another rule makes other masks.
    changed = predicting.Source(
        **{**source.__dict__, "rule": MaskRule(0.9, 0, False, False), "name": "other"}
    )
    with pytest.raises(InputError, match=rf"out: holds the masks of {RUN}, and this model \(other"):
        predict_folder(changed, where, out, hardware, 1, ALL)
    said = predict_folder(changed, where, out, hardware, 1, ALL, fresh=True)
    assert said.startswith(f"{len(ids)} images")
    assert not [*out.rglob(".partial-*")]


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(
    layout: Layout, tmp_path: Path, hardware: ResolvedHardware
) -> None:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (50, 90, 3), np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    Image.fromarray(pixels).save(images / "a.jpg")  # of the same name but for its ending
    Image.fromarray(pixels[..., 0]).save(images / "grey.png")
    Image.fromarray(pixels).convert("P").save(images / "palette.gif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(images / "deep/turned.jpg", exif=exif)
    Image.fromarray(pixels.astype(np.uint16)[..., 0] * 256).save(images / "bits.png")
    (images / "torn.png").write_bytes((images / "a.png").read_bytes()[:900])
    (images / "notes.txt").write_text("no image")
    (images / "=cmd.png").write_bytes((images / "a.png").read_bytes())
    source, out = find_model("mobilenetv2_035", layout, tmp_path), images / "out"
    for again in range(2):
        with pytest.raises(InputError) as caught:
            predict_folder(source, str(images), out, hardware, 4, Wanted(False, False))
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(f"2 of 8 images could not be predicted, listed in {out}/failures.c")
        assert f"; {0 if again else 6} images in " in said
        assert "1 other files are no images (notes.txt)" in said
    assert [row["image"] for row in rows(out / "failures.csv")] == ["bits.png", "torn.png"]
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert names == [
        f"masks/{name}.png" for name in ("=cmd", "a.jpg", "a.png", "deep/turned", "grey", "palette")
    ]
    assert Image.open(out / "masks/deep/turned.png").size == (50, 90)
    assert rows(out / "images.csv")[0]["image"] == "'=cmd.png"


def test_a_video_has_no_bands_to_choose(tmp_path: Path, hardware: ResolvedHardware) -> None:
    write_plain_network(described(), tmp_path / "model.onnx")
    (tmp_path / "clip.mp4").touch()
    nowhere = Layout(**dict.fromkeys(Layout.__dataclass_fields__, tmp_path / "nowhere"))
    plain = find_model(str(tmp_path / "model.onnx"), nowhere, tmp_path)
    source = replace(plain, data=replace(plain.data, bands=[3, 2, 1]))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"^clip.mp4: a video, but .* bands 3, 2, 1") as caught:
        predict_folder(source, str(tmp_path), out, hardware, 2, ALL)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_frames_of_a_video(layout: Layout, tmp_path: Path, hardware: ResolvedHardware) -> None:
    path = tmp_path / "clip.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 80))
    for level in range(5):
        video.write(np.full((80, 96, 3), 40 * level, np.uint8))
    video.release()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[:200])
    source, out = find_model("champion", layout, tmp_path), tmp_path / "out"
    with pytest.raises(InputError, match=r"broken.mp4: no frame of it can be decoded.*; 5 images"):
        predict_folder(source, str(tmp_path / "*.mp4"), out, hardware, 2, ALL)
    names = [row["image"] for row in rows(out / "images.csv")]
    assert names == [f"clip.mp4/{number:06d}" for number in range(1, 6)]
    assert Image.open(out / "masks/clip/000005.png").size == (96, 80)
    broken.unlink()
    said = predict_folder(source, str(tmp_path / "*.mp4"), out, hardware, 2, ALL)
    assert said.startswith("0 images")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("champoin", r"no model 'champoin' \(did you mean champion\?\)"),
        ("resnet18", r"there are mobilenetv2_035\), a run such as"),
        ("there/is/none.onnx", "no such file or folder"),
        ("deliveries/polyps/model.xml", r"name model\.onnx beside it, which OpenVINO runs too"),
    ],
)
def test_a_name_of_no_model(
    name: str, said: str, layout: Layout, tmp_path: Path, offline: Any
) -> None:
    offline()
    with pytest.raises(InputError, match=said) as caught:
        find_model(name, layout, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow  # to write an ONNX file takes seconds
def test_a_delivered_model_needs_no_workspace(tmp_path: Path, hardware: ResolvedHardware) -> None:
    """ONNX alone, and the same weights by torch beside a description."""
    pytest.importorskip("onnxruntime")
    network, path = network_of(**SMALL), tmp_path / "model.onnx"
    export_onnx(network, described(), path)
    nowhere = Layout(**dict.fromkeys(Layout.__dataclass_fields__, tmp_path / "nowhere"))
    source = find_model(str(path), nowhere, tmp_path)
    assert source.files == {"onnx": path}
    folder = tmp_path / "delivery"
    folder.mkdir()
    save_network(network, folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"delivery: no description.json beside it"):
        find_model(str(folder), nowhere, tmp_path)
    (folder / "description.json").write_text(read_description(path).to_json())
    (tmp_path / "images").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (70 + 9 * seed, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{seed}.png")
    where = str(tmp_path / "images")
    with pytest.raises(InputError, match="ONNX alone, which runs on the CPU; name --device cpu"):
        open_model(source, replace(hardware, device="cuda"), "auto", None)
    masks = []
    for name, found in (("onnx", source), ("torch", find_model(str(folder), nowhere, tmp_path))):
        out = tmp_path / name
        said = predict_folder(found, where, out, hardware, 2, Wanted(False, False), "auto")
        assert f"by {'onnxruntime' if name == 'onnx' else 'torch'} " in said
        masks.append([np.asarray(Image.open(one)) for one in sorted(out.glob("masks/*.png"))])
    assert [mask.shape for mask in masks[0]] == [(70, 80), (79, 80), (88, 80)]
    assert all((ours == theirs).all() for ours, theirs in zip(*masks, strict=True))


def test_weights_that_were_not_scored_are_refused(layout: Layout, tmp_path: Path) -> None:
    copied = tmp_path / "finished"
    shutil.copytree(layout.arrays.parent, copied)
    other = Layout(
        **{
            name: copied / path.relative_to(layout.arrays.parent)
            for name, path in layout.__dict__.items()
        }
    )
    weights = other.trained / RUN / "weights.safetensors"
    assert find_model(str(weights), other, tmp_path).files == {"weights": weights}
    flipped = bytearray(weights.read_bytes())
    flipped[-4000] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(InputError, match="not the weights that"):
        find_model("champion", other, tmp_path)


def test_no_images(layout: Layout, tmp_path: Path, hardware: ResolvedHardware) -> None:
    source = find_model("champion", layout, tmp_path)
    for where, said in (("none", "no such file or folder"), ("*.png", r"no images or videos \(no")):
        with pytest.raises(InputError, match=said):
            predict_folder(source, str(tmp_path / where), tmp_path / "out", hardware, 4, ALL)
    assert not (tmp_path / "out").exists()
