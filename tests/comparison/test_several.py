"""One verdict over several data sets: what it claims, what it refuses, and what it asks for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from segbench.cli import command_line
from segbench.comparison import plots
from segbench.comparison.statistics.differences import Interval
from segbench.errors import InputError
from support.finished import finished
from support.params import read_params, shrink, write_params

BEST, NEAR, FAR = "resnet18", "resnet10t", "mobilenetv2_035"
MEANS = {FAR: (0.70, 0.68), NEAR: (0.795, 0.775), BEST: (0.80, 0.78)}
PARAMETERS = {FAR: 400_000, NEAR: 5_000_000, BEST: 12_000_000}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes finished comparisons in runs/ of a workspace, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_params(read_params(), tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")

    def comparison(
        name: str,
        means: dict[str, tuple[float, float]] = MEANS,
        change: Callable[[dict[str, Any]], object] = lambda tree: None,
        groups: int = 12,
    ) -> Path:
        number = len(list(tmp_path.glob("runs/*")))
        tree = shrink(read_params())
        tree["dataset"]["seed"] = number
        tree["comparison"]["num_resamples"] = 1000
        change(tree)
        folder = tmp_path / "runs" / name
        return finished(folder, tree, means, groups, PARAMETERS, noise=1 + number)

    return comparison


def verdict(*arguments: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(command_line(), ["verdict", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    """The one line that it prints instead."""
    with pytest.raises(InputError) as caught:
        verdict(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def three_seeds(tree: dict[str, Any]) -> None:
    tree["comparison"]["seeds"] = [0, 1, 2]


def test_three_data_sets_that_agree(make: Make) -> None:
    for name in "abc":
        make(name, change=three_seeds)
    said = verdict("runs/a", "runs/b", "runs/c")
    assert "resnet18 has the best mean validation dice over 3 data sets (0." in said
    assert (
        "On these data sets, also for networks that are trained anew on their training images, it "
        "is better than mobilenetv2_035 (p < 0.001). On these data sets it differs by less than "
        "0.01 from resnet10t (p < 0.001)." in said
    )
    assert "On data sets like these it is better than mobilenetv2_035 (p < 0.001)." in said
    assert (
        "The smallest candidate that is not worse by 0.01 or more on these data sets is resnet10t "
        "(5.00 M parameters, against 12.00 M parameters), and on data sets like these." in said
    )
    assert "Friedman's test of whether candidates differ at all gives p = 0.028" in said
    assert "a lead on each of 3 data sets gives p = 0.25; it takes 6." in said
    assert said.endswith("in full: reports/verdict/verdict.html\n")
    made = {path.name for path in Path("reports/verdict").iterdir()}
    assert made == {"verdict.html", "verdict.md", "verdict.csv", "datasets.csv"}


def test_the_files_repeat_byte_for_byte(make: Make) -> None:
    for name in "ab":
        make(name)
    for out in ("first", "second"):
        verdict("runs/a", "runs/b", "--out", out)
    for path in Path("first").iterdir():
        assert path.read_bytes() == (Path("second") / path.name).read_bytes()


def test_numbers_are_those_of_the_comparisons(make: Make) -> None:
    make("a", {BEST: (0.8, 0.8), FAR: (0.7, 0.7)})
    make("b", {FAR: (0.6, 0.6), BEST: (0.8, 0.8)}, groups=30)
    verdict("runs/a", "runs/b")
    each = pd.read_csv("reports/verdict/datasets.csv").set_index(["dataset", "candidate"])
    label = "synthetic-polyps ({})".format
    for name in "ab":
        for alias in (BEST, FAR):
            rows = pd.read_csv(f"runs/{name}/data/evaluate/{alias}-fold0-seed0/images.csv")
            test = rows[rows["split"] == "test"]["dice"].mean()
            assert each.loc[(label(name), alias), "test"] == pytest.approx(test)
    table = pd.read_csv("reports/verdict/verdict.csv").set_index("candidate")
    assert list(table.index) == [BEST, FAR]
    # Data sets weigh the same, whatever their size.
    behind = [each.loc[(label(name), FAR), "difference"] for name in "ab"]
    assert table.loc[FAR, "these"] == pytest.approx(sum(behind) / 2)
    assert behind == pytest.approx([-0.1, -0.2], abs=0.01)
    assert table["mean_rank"].tolist() == [1, 2]


def test_two_data_sets_claim_nothing_of_others(make: Make) -> None:
    for name in "ab":
        make(name)
    said = verdict("runs/a", "runs/b")
    assert "What would hold on other data sets like these is not said: two do not show how" in said
    assert "as trained there, it is better than mobilenetv2_035" in said
    assert "on data sets like these" not in said.lower().replace("other data sets like these", "")
    table = pd.read_csv("reports/verdict/verdict.csv")
    assert table[["like_these", "like_these_p", "spread"]].isna().all(axis=None)
    for page in ("verdict.md", "verdict.html"):
        text = " ".join((Path("reports/verdict") / page).read_text().split())
        assert "takes 3 data sets" in text


def test_a_lead_that_turns_holds_on_these_and_not_on_others(make: Make) -> None:
    make("a", {BEST: (0.9, 0.9), FAR: (0.7, 0.7)})
    make("b", {BEST: (0.8, 0.8), FAR: (0.75, 0.75)})
    make("c", {BEST: (0.7, 0.7), FAR: (0.75, 0.75)})
    said = verdict("runs/a", "runs/b", "runs/c")
    assert "On these data sets, as trained there, it is better than mobilenetv2_035" in said
    assert "On data sets like these, how it compares with mobilenetv2_035 (p = 0." in said
    table = pd.read_csv("reports/verdict/verdict.csv").set_index("candidate")
    assert table.loc[FAR, "spread"] == pytest.approx(0.126, abs=0.01)  # of 0.2, 0.05, -0.05


def test_validation_chooses_and_test_contradicts(make: Make) -> None:
    for name in "ab":
        make(name, {BEST: (0.6, 0.8), FAR: (0.8, 0.6)})
    said = verdict("runs/a", "runs/b")
    assert f"{FAR} has the best mean validation dice" in said
    assert f"These test sets contradict the choice: {BEST} (p " in said
    assert "No candidate has fewer parameters (0.40 M parameters)." in said


def test_where_ranks_would_choose_another(make: Make) -> None:
    """One data set on which the other is far better."""
    make("a", {BEST: (0.9, 0.8), FAR: (0.5, 0.6)})
    make("b", {BEST: (0.7, 0.7), FAR: (0.71, 0.7)})
    make("c", {BEST: (0.7, 0.7), FAR: (0.71, 0.7)})
    said = verdict("runs/a", "runs/b", "runs/c")
    assert f"{BEST} has the best mean validation dice" in said
    assert f"By mean rank on validation {FAR} would be first" in said


def test_candidates_that_not_all_have_are_left_out_by_name(make: Make) -> None:
    make("a")
    make("b", {**MEANS, "regnetx_002": (0.99, 0.99)})
    said = verdict("runs/a", "runs/b")
    assert "Left out, since not all comparisons have them: regnetx_002 (only in runs/b)." in said
    assert "regnetx_002  " not in said


def test_points_of_learning_curves_do_not_compete(make: Make) -> None:
    def half(tree: dict[str, Any]) -> None:
        tree["candidates"]["half"] = {**tree["candidates"][BEST], "train_share": 0.5}

    for name in ("a", "b"):
        make(name, {**MEANS, "half": (0.99, 0.99)}, half)
    said = verdict("runs/a", "runs/b")
    assert f"{BEST} has the best mean validation dice" in said
    assert "half" not in said


def test_what_differs_between_recipes_is_said(make: Make) -> None:
    def longer(tree: dict[str, Any]) -> None:
        tree["train"].update(num_epochs=7, batch_size=8)
        tree["model"]["architecture_args"]["decoder_channels"] = [8] * 5

    make("a")
    make("b", change=longer)
    assert (
        "The recipes are not the same on all data sets: "
        "model.architecture_args.decoder_channels, train.num_epochs, train.batch_size." in
        verdict("runs/a", "runs/b")
    )  # fmt: skip


def test_a_split_that_leaks_is_named(make: Make) -> None:
    make("a")
    leaky = make("b") / "reports" / "split.json"
    leaky.write_text('{"fold0": {"leaks": {"near_duplicates": 3}}}')
    said = verdict("runs/a", "runs/b")
    assert "The split of synthetic-polyps (b) leaks, so all scores on it are optimistic." in said


def test_weights_that_lie_elsewhere_are_the_same(make: Make) -> None:
    for name in "ab":

        def of_file(tree: dict[str, Any], name: str = name) -> None:
            weights = {"weights": f"{name}/encoder.pth", "weights_sha256": "a" * 64}
            tree["candidates"][BEST].update(weights)

        make(name, change=of_file)
    assert "over 2 data sets" in verdict("runs/a", "runs/b")


def scaled(tree: dict[str, Any]) -> None:
    tree["candidates"][BEST]["input_scaling"] = "unit"


def by_iou(tree: dict[str, Any]) -> None:
    tree["comparison"]["metric"] = "iou"


def coarse(tree: dict[str, Any]) -> None:
    tree["comparison"]["smallest_that_matters"] = 0.02


def hashed(tree: dict[str, Any]) -> None:
    tree["candidates"][BEST].update(weights="encoder.pth", weights_sha256="b" * 64)


def same_data(tree: dict[str, Any]) -> None:
    tree["dataset"]["seed"] = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scaled, "candidates.resnet18.input_scaling is imagenet in runs/a and unit in runs/b, so"),
        (hashed, f"candidates.resnet18.weights is from scratch in runs/a and {'b' * 64} in runs/b"),
        (by_iou, "comparison.metric is dice in runs/a and iou in runs/b, so they cannot be taken"),
        (coarse, "comparison.smallest_that_matters is 0.01 in runs/a and 0.02 in runs/b, so they"),
        (same_data, "runs/a and runs/b are of the same data ("),
    ],
)
def test_what_is_not_the_same_is_named(
    change: Callable[[dict[str, Any]], None], said: str, make: Make
) -> None:
    make("a")
    make("b", change=change)
    assert refused("runs/a", "runs/b").startswith(said)


def test_other_weights_of_the_hub_are_noticed(make: Make) -> None:
    make("a")
    path = make("b") / "reports/runs" / f"{BEST}-fold0-seed0.json"
    path.write_text(path.read_text().replace("e" * 64, "f" * 64))
    assert refused("runs/a", "runs/b").startswith(
        "resnet18 started from other weights in runs/b than in runs/a"
    )


def test_too_little_to_compare(make: Make) -> None:
    make("a")
    make("b", {BEST: (0.8, 0.8), "regnetx_002": (0.7, 0.7)})
    Path("empty").mkdir()
    assert refused().startswith("a verdict over several data sets needs two comparisons or more")
    assert refused("runs/a").startswith("a verdict over several data sets needs two comparisons")
    assert refused("runs/a", "runs/a").startswith("runs/a is named twice")
    assert refused("runs/a", "empty").startswith("empty: no comparison, it has no params.yaml;")
    assert refused("runs/a", "no").startswith("no: no comparison")
    Path("runs/index.html").touch()
    assert refused("runs/a", "runs/index.html").startswith("runs/index.html: no comparison")
    assert refused("runs/a", "runs/b").startswith(
        "runs/a and runs/b need two candidates in common under the same names and have only "
        "resnet18; add"
    )


def test_a_test_set_of_one_group(make: Make) -> None:
    make("a")
    make("b", groups=1)
    assert refused("runs/a", "runs/b").startswith(
        "runs/b: all its test images belong to one group, so no difference on it has an error"
    )


def test_results_that_are_missing_or_others(make: Make) -> None:
    make("a")
    folder = make("b")
    rows = folder / "data/evaluate" / f"{FAR}-fold0-seed0" / "images.csv"
    rows.write_text(rows.read_text().replace("test,", "val,", 1))
    assert refused("runs/a", "runs/b").startswith(
        "runs/b/data/evaluate/mobilenetv2_035-fold0-seed0/images.csv: missing or not the rows"
    )
    rows.unlink()
    assert "images.csv: missing or not the rows" in refused("runs/a", "runs/b")
    finished_again = make("c")
    (finished_again / "reports/history" / f"{BEST}-fold0-seed0.csv").unlink()
    assert refused("runs/a", "runs/c") == (
        "runs/c/reports/history/resnet18-fold0-seed0.csv: missing or damaged; run 'git checkout' "
        "or 'segbench repro'"
    )
    (folder / "reports/metrics" / f"{FAR}-fold0-seed0.json").unlink()
    assert "mobilenetv2_035-fold0-seed0 was not evaluated" in refused("runs/a", "runs/b")


@pytest.mark.parametrize(
    ("place", "key"), [("metrics", '"dataset"'), ("runs", '"origin"'), ("split.json", '"leaks"')]
)
def test_results_of_an_earlier_version(place: str, key: str, make: Make) -> None:
    make("a")
    path = make("b") / "reports" / place
    path = path / f"{BEST}-fold0-seed0.json" if path.is_dir() else path
    path.write_text(path.read_text().replace(key, '"former"'))
    said = refused("runs/a", "runs/b")
    assert said.startswith("runs/b: ")
    assert "an earlier version" in said
    assert said.endswith("run 'segbench repro' there")


def test_params_that_changed_since(make: Make) -> None:
    make("a")
    folder = make("b")
    tree = YAML(typ="safe", pure=True).load((folder / "params.yaml").read_text())
    known = {"train.num_epochs": tree["train"]["num_epochs"], "model": tree["model"]}
    lock = {"stages": {f"train@{BEST}-0-0": {"params": {"params.yaml": known}}}}
    write_params(lock, folder / "dvc.lock")
    assert "over 2 data sets" in verdict("runs/a", "runs/b")
    tree["train"]["num_epochs"] = 50
    write_params(tree, folder / "params.yaml")
    assert refused("runs/a", "runs/b") == (
        "runs/b: params.yaml is not that of its results, train.num_epochs changed; run "
        "'segbench repro' there"
    )
    (folder / "dvc.lock").write_text("stages: [")
    assert refused("runs/a", "runs/b").startswith("runs/b/dvc.lock: missing or damaged")


def test_a_plot_of_what_nothing_bounds() -> None:
    open_ended = Interval(-0.02, float("-inf"), float("inf"))
    drawn = plots.forest({"b": [("one", open_ended, False)]}, 0.01, "difference")
    assert ">one<" in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn
