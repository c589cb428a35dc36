"""params.yaml is the only source of choices, and says everything that is wrong with it at once."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segbench.errors import InputError
from segbench.params import REMOVED, RENAMED, Params, Section, load_params
from segbench.params.datasets import Published
from support.own_folder import own
from support.params import ROOT, problems, random_weights, read_params


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("recipes/*.yaml"))])
def test_committed_params_are_valid(path: Path) -> None:
    load_params(path)


def test_no_choice_has_a_default_in_python() -> None:
    for section in Section.__subclasses__():
        for name, field in section.model_fields.items():
            assert field.is_required(), f"{section.__name__}.{name} has a default"


def test_all_problems_are_said_at_once(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["train"]["num_epoch"] = tree["train"].pop("num_epochs")
    tree["evaluate"]["threshold"] = 1.5
    tree["reprot"] = tree.pop("report")
    said = problems(tree, tmp_path)
    assert "train.num_epoch: unknown key (did you mean num_epochs" in said
    assert "train.num_epochs: field required" in said
    assert "evaluate.threshold: input should be less than or equal to 1 (got 1.5)" in said
    assert "reprot: unknown key (did you mean report, " in said


def test_alias_without_definition(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["comparison"]["candidates"].append("resnet81")
    said = problems(tree, tmp_path)
    assert "'resnet81' has no definition; add candidates.resnet81" in said
    assert "did you mean resnet18" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "a.safetensors"}, "needs its weights_sha256"),
        ({"weights_sha256": "0" * 64}, "takes no sha256"),
        ({"weights": "resnet.onnx"}, "must be none, imagenet, random or a file that ends with .sa"),
        ({"weights": "random", "weights_sha256": "0" * 64}, "takes no sha256"),
    ],
)
def test_weights_and_hash_go_together(
    change: dict[str, str], said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["candidates"]["resnet18"].update(change)
    assert said in problems(tree, tmp_path)


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay"])
def test_an_encoder_loads_no_weights_behind_the_back(
    name: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["candidates"]["mobilenetv2_035"]["encoder_args"] = {name: "w.pth"}
    assert f"encoder_args.{name} loads weights that are neither checked nor" in problems(
        tree, tmp_path
    )


def test_random_weights_are_frozen_only_if_that_is_said(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["train"]["freeze_encoder"] = "blocks.2"
    said = problems(tree, tmp_path)
    assert (
        "train.freeze_encoder: blocks.2 would keep random weights in the encoder of mobil" in said
    )
    tree["candidates"] = random_weights(tree)
    assert Params.model_validate(tree).candidates["mobilenetv2_035"].from_scratch


def test_a_learning_curve_ends_at_all_groups(tree: dict[str, Any], tmp_path: Path) -> None:
    whole = tree["candidates"]["resnet18"]
    for alias, share in (("half", 0.5), ("quarter", 0.25), ("fourth", 0.25), ("again", 1.0)):
        tree["candidates"][alias] = {**whole, "train_share": share}
    compared = tree["comparison"]["candidates"] = ["resnet18", "half", "regnetx_002", "quarter"]
    found = Params.model_validate(tree)
    assert found.rivals == ["resnet18", "regnetx_002"]
    assert found.learning_curves == {"resnet18": ["quarter", "half", "resnet18"]}
    point = "comparison.candidates: 'half' (train_share: 0.5) is a point of a learning curve, for"
    for listed, said in (
        ([*compared, "fourth"], "'quarter' (train_share: 0.25) is the same as 'fourth'; a learn"),
        ([*compared, "again"], f"{point} which exactly one candidate that equals it otherwise"),
        ([*compared, "again"], "take all but one of resnet18, again off the list"),
        (["half", "regnetx_002"], "add that one to the list, or take 'half' off it"),
        (["half"], "add that one to the list, or take 'half' off it"),
    ):
        tree["comparison"]["candidates"] = listed
        assert said in problems(tree, tmp_path)
    # Candidates that are the same without a curve are the user's to want.
    tree["comparison"]["candidates"] = ["resnet18", "again"]
    assert Params.model_validate(tree).learning_curves == {}


@pytest.mark.parametrize("share", [0, 1.1, -0.5, ".nan"])
def test_a_share_is_of_the_groups(share: Any, tree: dict[str, Any], tmp_path: Path) -> None:
    tree["candidates"]["resnet18"]["train_share"] = float(str(share).strip("."))
    assert "candidates.resnet18.train_share: input should be" in problems(tree, tmp_path)


def test_a_loss_that_is_not_for_these_classes(tree: dict[str, Any], tmp_path: Path) -> None:
    """Before the first stage, not once all data are made."""
    tree["train"]["loss"] = {"dice": 1.0, "ce": 1.0}
    said = problems(tree, tmp_path)
    assert "train.loss: ce is for several foreground classes, the dataset has 1; use bce" in said
    tree["dataset"] = {**PUBLISHED, "name": "oxford-iiit-pet", "task": "trimap", "border": None}
    Params.model_validate(tree)
    tree["train"]["loss"] = {"mcc": {"weight": 1.0}}
    said = problems(tree, tmp_path)
    assert "train.loss: mcc is for one foreground class, the dataset has 2; use ce" in said
    tree["train"]["loss"] = {"dise": 1.0}
    assert "train: loss: no loss 'dise' (did you mean dice?)" in problems(tree, tmp_path)


def test_channels_that_the_images_do_not_have(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["model"]["in_channels"] = 4
    said = problems(tree, tmp_path)
    assert "model.in_channels: 4 needs as many dataset.bands; set 3, or 1 for grey images" in said
    folder = own(tmp_path, bands=[4, 3, 2, 8]).model_dump(mode="json")
    tree["dataset"] = folder
    Params.model_validate(tree)
    for channels in (1, 3, 5):
        tree["model"]["in_channels"] = channels
        said = problems(tree, tmp_path)
        assert f"model.in_channels: {channels}, but dataset.bands names 4; set 4" in said
    tree["dataset"] = {**folder, "bands": [4, 3, 2]}
    tree["model"]["in_channels"] = 3
    Params.model_validate(tree)


def test_numbers_are_what_dvc_reads(tmp_path: Path) -> None:
    """To PyYAML 1e-3 is a string; DVC's parser and ours agree on a number."""
    from dvc.utils.serialize import load_yaml

    text = (ROOT / "params.yaml").read_text().replace("learning_rate: 3e-3", "learning_rate: 1e-3")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    ours = load_params(path).train.optimizer.learning_rate
    assert ours == load_yaml(str(path))["train"]["optimizer"]["learning_rate"] == 0.001


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "\nsplit: {}\n")
    with pytest.raises(InputError, match=r"line \d+: not valid YAML, found duplicate key"):
        load_params(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "unreadable"),
        (b"a: \x07", "unreadable"),
        (b"a: [1\n", "line 2: not valid YAML"),
        (b"", "is empty; restore it from git"),
        (b"- 1", "has no sections; restore it"),
    ],
)
def test_a_file_that_is_no_params(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_params_are_frozen(params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.train.num_epochs = 3  # type: ignore[misc]


def test_an_optional_metric_that_does_not_exist(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["evaluate"]["extra_metrics"] = ["calibration", "v_rant"]
    assert "extra_metrics: no metric 'v_rant' (did you mean v_rand" in problems(tree, tmp_path)


@pytest.mark.parametrize(
    "spacing",
    [
        0.5,
        "0.5 mm",
        [0.5],
        [0.5, 0.5, 2.0],
        [0, 1],
        [-1, 1],
        ["0.5", "0.5"],
        [True, 1],
        [[1, 1]],
    ],
)
def test_a_spacing_of_the_wrong_kind(spacing: object, tree: dict[str, Any], tmp_path: Path) -> None:
    tree["dataset"] = own(tmp_path).model_dump() | {"spacing": spacing}
    said = problems(tree, tmp_path)
    assert f"dataset.spacing: {spacing} is no distance from pixel to pixel; write [row" in said
    assert "\n" not in said
    table = {"table": "scans.csv", "id": "file", "columns": ["y", "x"]}
    for right in ([0.5, 0.25], [1, 2], None, table):
        tree["dataset"]["spacing"] = right
        assert "dataset.spacing" not in problems({**tree, "split": {}}, tmp_path)
    for wrong, said in (
        ({}, "dataset.spacing.table: field required"),
        ({**table, "columns": []}, "dataset.spacing.columns: list should have at least 1 item"),
    ):
        tree["dataset"]["spacing"] = wrong
        assert said in problems(tree, tmp_path)


PUBLISHED: dict[str, Any] = {
    "name": "cvc-clinicdb",
    "source": None,
    "watch": True,
    "checksums": {},
    "limits": {"megapixels": 1, "unpacked_gib": 1, "size_difference": 0, "on_bad_pair": "skip"},
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "cvc-clinicbd",
            r"no dataset 'cvc-clinicbd' \(did you mean cvc-clinicdb\?\); set name to one",
        ),
        (None, "no dataset 'None'; set name to one of cvc-clinicdb, folder, "),
        ("flood-area", "is now read by name: folder; .* from recipes/flood-vgg19.yaml"),
        ("hgr1", "is now read by name: folder; .* from recipes/hgr1-resnet50.yaml"),
    ],
)
def test_a_dataset_that_is_not_in_the_catalogue(
    name: str | None, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    """One problem, not one for each key that its own dataset would have had."""
    tree["dataset"] = {"name": name, "source": "there", "title": "mine", "group": None}
    found = problems(tree, tmp_path)
    assert found.startswith(f"{tmp_path / 'params.yaml'}: dataset: ")
    assert re.search(said, found)
    assert "problems" not in found


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": "cvc-clinicdb", "title": "x"}, "dataset.title: unknown key"),
        ({"name": "isbi-2012"}, "dataset.slices_per_block: field required"),
        ({"name": "isbi-2012", "slices_per_block": 0}, "dataset.slices_per_block: input should be"),
        ({"limits": {**PUBLISHED["limits"], "megapixels": 0}}, "dataset.limits.megapixels: input"),
        ({"name": "oxford-iiit-pet", "task": "trimap", "border": "pet"}, "dataset: border must be"),
    ],
)
def test_the_keys_of_a_dataset(
    keys: dict[str, Any], said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["dataset"] = {**PUBLISHED, **keys}
    assert problems(tree, tmp_path).startswith(f"{tmp_path / 'params.yaml'}: {said}")


def test_a_dataset_without_keys_of_its_own_needs_no_class(tree: dict[str, Any]) -> None:
    tree["dataset"] = PUBLISHED
    dataset = Params.model_validate(tree).dataset
    assert type(dataset) is Published
    assert dataset.model_dump() == PUBLISHED


def test_a_download_imports_no_other_dataset(tmp_path: Path) -> None:
    """Nor scikit-learn and scipy, which one dataset needs."""
    code = (
        "import sys\nfrom segbench.datasets.download import download\n"
        "from segbench.params import load_params\nfrom pathlib import Path\n"
        f"params = load_params(Path({str(ROOT / 'params.yaml')!r})).dataset\n"
        "few = params.model_copy(update=dict(num_sequences=1, frames_per_sequence=1))\n"
        f"download(few, Path({str(tmp_path / 'out')!r}))\n"
        "print([name for name in sys.modules if name.startswith(('sklearn', 'scipy'))])\n"
        "print([name for name in sys.modules if name.startswith('segbench.datasets.sources.')])\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "['segbench.datasets.sources.synthetic_polyps']"]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_under_its_former_name(
    old: str, new: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    """One problem, which names the new key."""
    *path, name = old.split(".")
    section = tree
    for key in path:
        section = section[key]
    section[name] = section.pop(new.rpartition(".")[2])
    expected = f"{tmp_path / 'params.yaml'}: {old}: is now {new}; rename it"
    assert problems(tree, tmp_path) == expected


@pytest.mark.parametrize("old", REMOVED)
def test_a_key_that_is_gone(old: str, tree: dict[str, Any], tmp_path: Path) -> None:
    section, _, name = old.partition(".")
    tree[section][name] = "error"
    said = problems(tree, tmp_path)
    assert said.startswith(f"{tmp_path / 'params.yaml'}: {old}: is gone (")
    assert said.endswith("; delete it")
    tree[section]["num_epoch"] = 3
    assert problems(tree, tmp_path).startswith(f"{tmp_path / 'params.yaml'}: 2 problems: ")


def test_names_of_former_keys_are_not_taken_again() -> None:
    """And what they are called now is there."""
    tree = read_params()
    for old, new in RENAMED.items():
        here: Any = tree
        for key in new.split("."):
            here = here[key]
        *path, name = old.split(".")
        here = tree
        for key in path:
            here = here[key]
        assert name not in here


def aliases(levels: int, first: str, later: str) -> str:
    """Values of which each but the first is made of aliases of the one before."""
    inner = [f"a{at}: &a{at} {later.format(f'*a{at - 1}')}" for at in range(1, levels)]
    return f"{{a0: &a0 {first}, {', '.join(inner)}}}"


@pytest.mark.parametrize(
    "value",
    [
        aliases(40, "[1]", "[{0}, {0}]"),  # 2^40 values
        aliases(40, "{b: 1}", "{{<<: [{0}, {0}]}}"),
        aliases(200, "[1]", "[{0}]"),
        "&a [*a]",
        "[" * 500 + "]" * 500,
        "[" * 100_000 + "]" * 100_000,
        "'" + "x" * 10**6 + "'",
    ],
    ids=["aliases", "merges", "deep aliases", "an endless alias", "500", "100,000", "long"],
)
def test_what_would_take_long_to_read_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + f"\nextra: {value}\n")
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert str(caught.value) == (
        f"{path}: more than 1000000 characters, 50000 values (each time that an alias repeats "
        "them) or 50 levels; write less into it"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("9" * 5000, "a number of 5000 digits (99999999999999999999...), the limit is 300; write"),
        ("0x" + "f" * 5000, "a number of 5000 digits (ffffffffffffffffffff...), the limit is 300"),
        ("2001-99-99", "holds what cannot be read, month must be in 1..12; mend or quote it"),
    ],
)
def test_numbers_that_are_none(value: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + f"\nextra: {value}\n")
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_candidates_may_share_what_they_have_by_an_alias(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    first, shared = "encoder_args: {}", "encoder_args: *none"
    text = text.replace(first, shared).replace(shared, "encoder_args: &none {}", 1)
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("('a'*90000).replace('a','b'*90000)", "is more than names, numbers, + - * /, comparisons"),
        ("p ** 9 ** 9 ** 9 > 0", "is more than names, numbers"),
        ("1 << 9999999999 > p", "is more than names, numbers"),
        ("[p for p in [p]]", "is more than names, numbers"),
        ("True", "is more than names, numbers"),
        ("p < 1 # `<script>`", "is more than names, numbers"),
        ("(p\n< 1)", "is more than names, numbers"),
        ("-" * 5000 + "1", "'------------------------------------------------------------...' is"),
        ("-" * 400 + "1 > p", "has more than 200 names, numbers and signs; make several require"),
        ("(" * 240 + "p" + ")" * 240, "is no expression"),
    ],
)
def test_a_requirement_compares_names_and_numbers(
    text: str, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["comparison"]["require"] = [text]
    assert said in problems(tree, tmp_path)
    assert len(problems(tree, tmp_path)) < 400


def test_what_a_requirement_may_be(tree: dict[str, Any]) -> None:
    texts = ["0.5 < p <= 1 or not (a + b) * 2.5 / -c != d and lead >= +1e-3", "p == 1"]
    tree["comparison"]["require"] = texts
    assert Params.model_validate(tree).comparison.require == texts


@pytest.mark.parametrize("name", ["=1+1.pth", "-w.pth", "@x.pth", "+x.ckpt"])
def test_weights_are_no_formula(name: str, tree: dict[str, Any], tmp_path: Path) -> None:
    tree["candidates"]["resnet18"].update(weights=name, weights_sha256="0" * 64)
    assert f"begins like a formula of a spreadsheet; write './{name}'" in problems(tree, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("candidates", ["a" * 65], "comparison.candidates.0: string should have at most 64"),
        ("name", "a" * 101, "comparison.name: string should have at most 100 characters"),
        ("seeds", [10**100], "comparison.seeds.0: input should be less than 4294967296"),
    ],
)
def test_names_of_files_are_made_of_them(
    key: str, value: object, said: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["comparison"][key] = value
    assert said in problems(tree, tmp_path)


@pytest.mark.parametrize("value", [0, -0.01, 1, 5])
def test_what_matters_is_a_difference_of_the_metric(tree: dict[str, Any], value: float) -> None:
    tree["comparison"]["smallest_that_matters"] = value
    with pytest.raises(ValueError, match=r"lie in 0 to 1; give one above 0 and below 0\.5"):
        Params.model_validate(tree)
