"""What a dataset's section or folder may hold by mistake or ill will ends in a line, and soon."""

import csv
import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.datasets import patterns, tables
from segbench.datasets.canonical import read_samples, read_table
from segbench.datasets.download import download
from segbench.datasets.patterns import time_to_search
from segbench.errors import InputError
from segbench.params import Params
from support.own_folder import HEIGHT, TRUTH, WIDTH, make_source, noise, own

CATASTROPHES = [
    {"group": {"pattern": "^((a+)+)+$"}},
    {"stratum": {"pattern": "^(a|aa)+$"}},
    {"split": {"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}},
    {"images": "images/*a*a*a*a*a*a*a*{id}!.png"},
    {"masks": "masks/*a*a*a*a*a*a*a*{id}!_mask.png"},
]


def refused(tmp_path: Path, **changes: Any) -> str:
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        download(own(tmp_path / "source", **changes), tmp_path / "out")
    assert time.process_time() - began < 20
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("changes", CATASTROPHES, ids=lambda changes: next(iter(changes)))
def test_a_pattern_that_searches_for_ever(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "SEARCH_S", 0.2)
    make_source(tmp_path / "source", ["a" * 100 + "-"])
    said = refused(tmp_path, **changes)
    assert "searched for more than 0 s in" in said
    assert said.endswith("; write it without repeats of repeats, such as (a+)+, and with fewer *")


def test_honest_patterns_have_time_for_a_million_names() -> None:
    with time_to_search("{id}.png", 10**6):
        expression = patterns.expression_of("{site}/{patient}/**/*_{id}_*.png")
        for number in range(10**6):
            assert expression.fullmatch(f"north/p{number % 97}/1/2/scan_{number}_x.png")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "huge"])
def test_a_table_that_is_none(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(tmp_path / "source", "ab")
    table = source / "groups.csv"
    if kind == "pipe":
        os.mkfifo(table)
    elif kind == "device":
        table.symlink_to("/dev/zero")
    elif kind == "folder":
        table.mkdir()
    elif kind == "huge":
        with table.open("wb") as file:
            file.truncate(tables.MOST_BYTES + 1)
    said = refused(tmp_path, group={"table": "groups.csv", "id": "id", "column": "group"})
    why = "more than the limit of 1 GB" if kind == "huge" else "no such file, or a folder, pipe or"
    assert said.startswith(f"dataset.group: {table} unreadable as CSV ({why}")


@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_source_that_is_no_archive(target: str | None, tmp_path: Path) -> None:
    source = tmp_path / "source"
    if target is None:
        os.mkfifo(source)
    else:
        source.symlink_to(target)
    assert refused(tmp_path).startswith(f"dataset.source: nothing at {source}; set it to a folder")


LABELS = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "-2+3", "'=1+1", "-1.5", "north"]


def test_no_table_holds_a_formula(tmp_path: Path) -> None:
    """Not in labels, ids and file names; other labels stay other labels, and numbers numbers."""
    ids = ["-1", "=1", "+1", "@1", "b1", "c1", "d1", "e1"]
    source = make_source(tmp_path / "source", ids)
    (source / "=cmd.txt").write_text("")
    table = pd.DataFrame({"id": ids, "label": LABELS})
    table.to_csv(source / "labels.csv", index=False)
    label = {"table": "labels.csv", "id": "id", "column": "label"}
    download(own(source, group=label, stratum=label), tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert set(samples["group"]) == {
        *("'=1+1", "'+cmd|' /C calc'!A0", "'@SUM(1)", "'=1", "'-2+3", "''=1+1", "-1.5", "north")
    }
    assert list(samples["stratum"]) == list(samples["group"])
    for path in (tmp_path / "out").glob("*.csv"):
        with path.open(newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or cell == "-1.5"


def test_ids_that_differ_in_capitals_only(tmp_path: Path) -> None:
    """They would be one file where a disk does not tell them apart."""
    make_source(tmp_path / "source", ["Case", "case", "other"])
    assert refused(tmp_path).startswith(
        "case.png: the id 'case' is 'Case' but for capitals; ids must be unique, also where"
    )


def test_every_name_made_of_an_id_fits_into_a_folder(tmp_path: Path, params: Params) -> None:
    ids = ["a" * 209, "a" * 208 + "b", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 100, "short"]
    download(own(make_source(tmp_path / "source", ids)), tmp_path / "out")
    names = list(read_samples(tmp_path / "out")["id"])
    assert len({*names}) == 4
    assert "short" in names
    around = "prediction~{}+step+0+timestamp+1700000000000+{}+compressed.webp"
    for name in names:
        assert len(around.format(name, uuid.uuid4())) <= 255
        assert len(f".partial-{name}--{'x' * 64}.jpg") <= 255


def test_images_with_transparent_pixels_are_counted(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", "abcdef")
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    half = alpha.copy()
    half[: HEIGHT // 2] = 0
    kept = {name: noise(seed) for seed, name in enumerate("abc")}
    for name, see in (("a", alpha), ("b", half)):
        image = Image.fromarray(np.dstack([kept[name], see]), "RGBA")
        image.save(source / f"images/{name}.png")
    grey = kept["c"][..., 0]
    Image.fromarray(np.dstack([grey, half | 127]), "LA").save(source / "images/c.png")
    shades = Image.fromarray(grey // 128)
    shades.putpalette([0, 0, 0, 200, 10, 10])
    shades.save(source / "images/d.png", transparency=1)
    Image.fromarray(kept["a"]).save(source / "images/e.png", transparency=(1, 2, 3))
    said = download(own(source), tmp_path / "out").splitlines()
    note = "3 of 6 images have transparent pixels (up to 5"
    assert sum(note in line for line in said) == 1
    measures = read_table(tmp_path / "out/measures.csv").set_index("id")["transparent"]
    share = round(float((grey >= 128).mean()), 6)
    assert list(measures) == [0, 0.5, 0.5, share, 0, 0]
    stored = np.asarray(Image.open(tmp_path / "out/images/b.png"))
    assert np.array_equal(stored, kept["b"])  # not blended with anything


def test_a_mask_in_the_alpha_channel_is_no_transparency(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", "ab")
    for seed, name in enumerate("ab"):
        pixels = np.dstack([noise(seed), TRUTH * 255])
        Image.fromarray(pixels, "RGBA").save(source / f"images/{name}.png")
    pattern, mask = "images/{id}.png", {"alpha": 128, "invert": False}
    said = download(own(source, images=pattern, masks=pattern, mask=mask), tmp_path / "out")
    assert "transparent" not in said
