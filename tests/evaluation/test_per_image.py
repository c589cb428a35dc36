"""Scores of a class keep its name, and distances the unit of the dataset."""

from pathlib import Path

import pytest
from mlflow.utils.validation import validate_param_and_metric_name

from segbench.datasets.canonical import read_info
from segbench.datasets.download import download
from segbench.errors import InputError
from segbench.evaluation.predict import Truths
from segbench.labels import class_keys
from segbench.metrics.distances import Spacing
from segbench.params.datasets import Folder
from support.own_folder import make_source, own


def test_no_two_classes_have_one_key() -> None:
    assert class_keys(("background", "ひび", "剥離", "鉄筋")) == [
        "background",
        "ひび",
        "剥離",
        "鉄筋",
    ]
    assert class_keys(("background", "a b", "a/b", "a-b")) == [
        "background",
        "a_b_1",
        "a_b_2",
        "a-b",
    ]
    assert class_keys(("?", "!", "#", "é")) == ["__0", "__1", "__2", "é"]
    # Also of a name that looks like one of these.
    assert len(set(class_keys(("x", "a b", "a_b", "a_b_1")))) == 4


def test_mlflow_takes_them_all() -> None:
    for key in class_keys(("背景", "Riß, tief", "ça", "a:b")):
        assert validate_param_and_metric_name(f"test/dice_class_{key}")


@pytest.mark.parametrize("spacing", [None, (0.5, 0.25)])
def test_the_spacing_reaches_what_measures_distances(
    spacing: tuple[float, float] | None, tmp_path: Path
) -> None:
    source = make_source(tmp_path / "own", ["a", "b"])
    download(own(source, spacing=spacing), tmp_path / "out")
    assert read_info(tmp_path / "out").spacing == spacing
    assert Truths(tmp_path / "out").spacing("a") == Spacing(*(spacing or (1, 1)))
    assert not (tmp_path / "out" / "spacing.csv").exists()


def with_table(folder: Path, text: str, *columns: str) -> Folder:
    source = make_source(folder / "own", ["a", "b", "007"])
    (source / "scans.csv").write_text(text)
    asked = {"table": "scans.csv", "id": "file", "columns": list(columns)}
    return own(source, spacing=asked)


def test_each_image_may_have_its_own_spacing(tmp_path: Path) -> None:
    text = "file,mm,wide,note\nb,0.5,0.75,x\n007,2,3,\na, 1e-1 ,0.2,y\n"
    for columns, expected in ((("mm", "wide"), (0.1, 0.2)), (("mm",), (0.1, 0.1))):
        folder = tmp_path / "_".join(columns)
        download(with_table(folder, text, *columns), folder / "out")
        info, truths = read_info(folder / "out"), Truths(folder / "out")
        assert (info.spacing, info.unit) == (None, "mm")
        assert truths.spacing("a") == Spacing(*expected)
        assert truths.spacing("007").row == 2
    assert "scans.csv" not in (folder / "out" / "unmatched.csv").read_text()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "scans.csv has nothing as 'mm' of 'b'; it must be a distance above 0 in mm, as 0.5"),
        *((value, f"has '{value}' as 'mm' of 'b'") for value in ("0", "-1", "wide", "nan", "inf")),
    ],
)
def test_a_spacing_that_is_none_names_its_image(value: str, said: str, tmp_path: Path) -> None:
    params = with_table(tmp_path, f"file,mm\na,1\nb,{value}\n007,1\n", "mm")
    with pytest.raises(InputError, match=said):
        download(params, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "file,mm\na,1\nb,1\n",
            "dataset.spacing: .*scans.csv names no '007' in 'file' .1 of 3",
        ),
        ("file,mm\na,1\na,1\nb,1\n007,1\n", "names 'a' more than once in 'file'"),
        ("file,cm\na,1\nb,1\n007,1\n", "has no column 'mm'; it has file, cm"),
    ],
)
def test_a_table_of_spacings_must_hold_every_image(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        download(with_table(tmp_path, text, "mm"), tmp_path / "out")
