"""An external set is packed as the networks see images: all of it, at their size, unvaried."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.arrays.augment_external import augment_external
from segbench.arrays.store import open_arrays, read_header
from segbench.arrays.tiling import StitchedImages
from segbench.datasets.canonical import read_samples
from segbench.datasets.download_external import download_external
from segbench.datasets.external import check_external
from segbench.errors import InputError
from segbench.images import read_pixels, resize
from segbench.params import Params
from support.own_folder import make_source, own
from support.params import problems

ALIKE = {"classes": ["background", "polyp"]}


def with_clinic(tree: dict[str, Any], folder: Path, **changes: Any) -> Params:
    section = own(folder, **{**ALIKE, **changes}).model_dump()
    tree["comparison"]["external"] = {"clinic": section}
    return Params.model_validate(tree)


def packed_set(params: Params, packed: Path, folder: Path) -> Path:
    download_external(params, "clinic", folder / "set")
    augment_external(params, "clinic", packed / "arrays", folder / "set", folder / "arrays")
    return folder / "arrays"


def test_all_images_are_packed_and_none_is_varied(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["augment"]["copies"] = 2
    source = make_source(tmp_path / "clinic", ["a1", "a2", "b1"])
    grey = source / "images/b1.png"
    Image.open(grey).convert("L").save(grey)
    params = with_clinic(tree, source, group={"pattern": "([a-z])"})
    arrays = packed_set(params, packed, tmp_path)
    part, header = open_arrays(arrays / "fold0/test"), read_header(arrays)
    assert part.samples["id"].tolist() == ["a1", "a2", "b1"]
    assert part.samples["group"].tolist() == ["a", "a", "b"]
    ours = read_header(packed / "arrays")
    assert (header.height, header.width, header.channels) == (ours.height, ours.width, 3)
    assert header.dataset.name == "mine"
    files = read_samples(tmp_path / "set").set_index("id")
    for at, id in enumerate(part.samples["id"]):
        image, mask = (read_pixels(tmp_path / "set" / files[one][id]) for one in ("image", "mask"))
        image, mask = resize(image, mask, ours.height, ours.width)
        assert (part.images[at] == image.reshape(*mask.shape, -1)).all()
        assert (part.masks[at] == mask).all()


def test_large_images_are_cut_as_those_of_the_training_set(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    tree["augment"]["patches"] = {"height": 64, "width": 64, "overlap": 8}
    params = with_clinic(tree, make_source(tmp_path / "clinic", ["a", "b"], 100, 150))
    part = open_arrays(packed_set(params, packed, tmp_path) / "fold0/test")
    whole = StitchedImages(part)
    assert whole.samples["id"].tolist() == ["a", "b"]
    assert len(part.images) == 2 * 2 * 3
    files = read_samples(tmp_path / "set").set_index("id")
    for at, id in enumerate(whole.samples["id"]):
        assert (whole.image(at) == read_pixels(tmp_path / "set" / files["image"][id])).all()
        assert (whole.mask(at) == read_pixels(tmp_path / "set" / files["mask"][id])).all()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (
            ["background", "crack"],
            "its classes are background, crack, networks are trained on background, polyp; name "
            "them alike if they are the same, else take it out",
        ),
        (["polyp", "background"], "background, polyp; list them in that order, with the ids in"),
        (["background", "polyp", "fold"], "its classes are background, polyp, fold, networks"),
    ],
)
def test_other_classes_are_told_before_any_file_is_opened(
    classes: list[str], said: str, tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    params = with_clinic(tree, tmp_path / "nowhere", classes=classes, background=0)
    with pytest.raises(InputError, match=f"^comparison.external.clinic: .*{said}"):
        check_external(params.dataset, params.comparison.external)
    make_source(tmp_path / "nowhere", ["a"])  # of three classes one is in no mask, as may be
    with pytest.raises(InputError, match=said):  # also where DVC runs without that check
        packed_set(params, packed, tmp_path)
    assert not (tmp_path / "arrays").exists()


def test_other_bands_are_told_before_any_file_is_opened(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    params = with_clinic(tree, tmp_path / "nowhere", bands=[1, 2, 3, 4], value_range=[0, 10])
    with pytest.raises(InputError, match=r"its images have 4 channels, and networks .* on 1 or 3;"):
        check_external(params.dataset, params.comparison.external)
    check_external(params.dataset, {})


def test_channels_that_networks_do_not_take_are_refused(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    params = with_clinic(tree, make_source(tmp_path / "clinic", ["a"]))
    header = packed / "arrays/header.json"
    ours = tmp_path / "grey"
    ours.mkdir()
    (ours / "header.json").write_text(header.read_text().replace('"channels": 3', '"channels": 1'))
    (ours / "dataset.json").write_bytes((packed / "arrays/dataset.json").read_bytes())
    download_external(params, "clinic", tmp_path / "set")
    with pytest.raises(InputError, match=r"clinic: a has 3 channels, and networks are .* on 1;"):
        augment_external(params, "clinic", ours, tmp_path / "set", tmp_path / "arrays")


def test_a_set_without_any_object_is_refused(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "clinic", ["a", "b"])
    for path in (source / "masks").iterdir():
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)
    params = with_clinic(tree, source)
    said = r"^comparison.external.clinic: mine: no mask holds the class polyp; .* check "
    with pytest.raises(InputError, match=f"{said}comparison.external.clinic.mask "):
        packed_set(params, packed, tmp_path)


def test_a_set_whose_objects_are_lost_in_resizing_is_refused(
    tree: dict[str, Any], packed: Path, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "clinic", ["a"], 400, 400)
    mask = np.zeros((400, 400), np.uint8)
    mask[1, 1] = 255
    Image.fromarray(mask).save(source / "masks/a_mask.png")
    with pytest.raises(InputError, match="clinic: no mask keeps any object at 64x64"):
        packed_set(with_clinic(tree, source), packed, tmp_path)


def test_params_name_sets_and_check_their_sections(tree: dict[str, Any], tmp_path: Path) -> None:
    section = own(tmp_path).model_dump()
    tree["comparison"]["external"] = {"clinic": {**section, "classes": ["background"]}}
    assert "comparison.external.clinic.classes: list should have at least 2" in problems(
        tree, tmp_path
    )
    tree["comparison"]["external"] = {"clinic": {**section, "maskes": "x"}}
    assert "comparison.external.clinic.maskes: unknown key (did you mean masks" in problems(
        tree, tmp_path
    )
    tree["comparison"]["external"] = {"../Clinic B": section}
    assert "comparison.external.../Clinic B: string should match pattern" in problems(
        tree, tmp_path
    )
    tree["comparison"]["external"] = {"clinic": {"name": "cvc-clinic"}}
    assert "no dataset 'cvc-clinic' (did you mean cvc-clinicdb?)" in problems(tree, tmp_path)
    tree["comparison"]["external"] = None
    assert "comparison.external: input should be a valid dictionary" in problems(tree, tmp_path)
    del tree["comparison"]["external"]
    assert "comparison.external: field required" in problems(tree, tmp_path)
