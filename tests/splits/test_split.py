"""The audit says what leaks and what is odd, on its page, in its scores and in its last line."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest

from segbench.datasets import download as datasets
from segbench.datasets.canonical import Sample
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels, read_pixels
from segbench.params.datasets import Limits, Published
from segbench.splits.assign import SPLITS
from support.audits import (
    HEIGHT,
    INFO,
    WIDTH,
    audit,
    box,
    jpeg,
    leaking,
    make_samples,
    params,
    published,
    scene,
    write,
)
from support.params import SHARED

KINDS = ("groups", "exact_duplicates", "near_duplicates", "annotated_copies", "neighbours")
REAL = SHARED / "datasets" / "cvc-clinicdb"


def read_scores(path: Path) -> dict[str, Any]:
    """Strictly: JSON knows no NaN, and DVC shows numbers, text and null."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path}")

    tree = json.loads(path.read_text(), parse_constant=refuse)
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            todo += node.values()
        else:
            assert node is None or isinstance(node, int | float | str)
    return tree


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


LEAK_LIST = "audit/leaks.csv"


def sources(page: str) -> list[str]:
    """Everything that the page names by address, but places within it and the list of leaks."""
    page = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
    found = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    return [unescape(one) for one in found if one[0] != "#" and one != LEAK_LIST]


def headline_of(page: str) -> str:
    found = re.search("<h1>(.*?)</h1>", page)
    assert found
    return unescape(found[1])


def findings(page: str) -> list[tuple[str, str]]:
    """Severity and text of each finding of the first screen."""
    rows = re.findall(r'<td role="cell">(\w+)</td><td role="cell">(.*?)</td></tr>', page)
    return [(severity, unescape(re.sub("<[^>]*>", "", text))) for severity, text in rows]


def below(page: str, title: str) -> str:
    """What stands below a heading."""
    found = re.search(rf"<h3[^>]*>{title}</h3>(.*?)(?:<h[23]|<details)", page, re.DOTALL)
    assert found, title
    return found[1]


# What is done about a leak -----------------------------------------------------------------------


@pytest.mark.parametrize("former", [None, "what was here\n"])
def test_a_leak_is_an_error_once_the_page_shows_it(former: str | None, tmp_path: Path) -> None:
    write(tmp_path, leaking())
    out = tmp_path / "out"
    out.mkdir()
    if former:
        (out / "split.csv").write_text(former)
    asked = params(by="predefined", test_share=None)
    with pytest.raises(InputError, match=r"the split leaks: 1 near-duplicate pair") as error:
        audit(tmp_path, asked, "embed")
    assert "\n" not in str(error.value)
    assert str(out / "audit.html") in str(error.value)
    assert not former or (out / "split.csv").read_text() == former
    assert (out / "split.csv").exists() == bool(former)
    leaks = read_scores(out / "split.json")["fold0"]["leaks"]
    assert leaks == dict.fromkeys(KINDS, 0) | {"near_duplicates": 1}
    page = (out / "audit.html").read_text()
    assert headline_of(page) == (
        "Do not use this split yet: the same content lies on both sides of it."
    )
    assert findings(page)[0] == (
        "error",
        "The split leaks: 1 near-duplicate pair on both sides of it. What to do: set split.by: "
        "group, and name the groups in dataset.group or set split.merge_duplicates: true; if the "
        "pairs are different all the same, raise split.near_duplicate above their likeness, or "
        "set split.on_leak: warn. Leaks",
    )
    assert [path.name for path in out.glob(".partial*")] == []
    # The pair on both sides is shown first, with the splits it lies in; then what does not leak.
    captions = re.findall(r"<figcaption>(\w+) <b>(\w+)</b>", below(page, "Near duplicates"))
    assert captions[:2] == [("s00", "test"), ("s30", "train")]
    assert captions[2:] == [("s20", "train"), ("s31", "train")]
    notes = re.findall(r'<p class="note">([^<]*)</p>', below(page, "Near duplicates"))
    assert re.fullmatch(r"likeness [01]\.\d\d; on both sides of the split", notes[1])
    assert re.fullmatch(r"likeness [01]\.\d\d", notes[2])


def test_a_leak_may_be_a_warning(tmp_path: Path) -> None:
    write(tmp_path, leaking())
    line = audit(tmp_path, params(by="predefined", test_share=None, on_leak="warn"))
    assert line.startswith("WARNING: the split leaks: 1 near-duplicate pair")
    rows = read_rows(tmp_path / "out" / "split.csv")
    assert {row["id"]: row["split"] for row in rows} == {one.id: one.split for one in leaking()}
    page = (tmp_path / "out" / "audit.html").read_text()
    assert headline_of(page).startswith("Scores on this split will be too good: the same content")
    assert [severity for severity, _ in findings(page)] == ["warning", "note"]
    assert "on_leak" not in findings(page)[0][1]


def test_no_leak_no_warning(tmp_path: Path) -> None:
    line = audit(write(tmp_path, make_samples()), params())
    assert "WARNING" not in line
    assert "\n" not in line
    numbers = Counter(row["split"] for row in read_rows(tmp_path / "out" / "split.csv"))
    for name in SPLITS:
        assert f"{name} {numbers[name]} (" in line
    page = (tmp_path / "out" / "audit.html").read_text()
    assert headline_of(page).startswith("These data may be used: nothing leaks")
    assert findings(page) == []
    assert "Looked for and not found: exact duplicates, near duplicates" in page


def test_every_kind_of_leak_is_counted(tmp_path: Path) -> None:
    samples = published(make_samples(per_group=4))
    drawn = np.asarray(cv2.circle(samples[1].image.copy(), (40, 30), 5, (255, 255, 255), 1))
    samples[30] = replace(samples[30], image=samples[0].image)
    samples[31] = replace(samples[31], image=samples[0].image)
    samples[32] = replace(samples[32], image=drawn)
    samples[33] = replace(samples[33], image=np.ascontiguousarray(samples[2].image[:, ::-1]))
    samples[34] = replace(samples[34], group=samples[0].group)
    samples[35] = replace(samples[35], previous=samples[3].id)
    # Within one split nothing leaks.
    samples[36] = replace(samples[36], image=jpeg(samples[37].image), previous=samples[37].id)
    write(tmp_path, samples)
    line = audit(tmp_path, params(by="predefined", test_share=None, on_leak="warn"))
    expected = dict(zip(KINDS, (1, 2, 1, 1, 1), strict=True))
    assert read_scores(tmp_path / "out" / "split.json")["fold0"]["leaks"] == expected
    assert line.splitlines()[0] == (
        "WARNING: the split leaks: 1 group, 2 exact duplicates, 1 near-duplicate pair, "
        "1 annotated copy, 1 pair of neighbours on both sides of it"
    )
    page = (tmp_path / "out" / "audit.html").read_text()
    row = r'<th scope="row" class="text">([\w ]+)</th><td>(\d+)</td><td>(\d+)</td>'
    found = re.findall(row, page)
    rows = {name: (int(all_of), int(some)) for name, all_of, some in found}
    assert rows["exact duplicates"] == (2, 2)
    assert rows["near duplicates"] == (2, 1)
    assert rows["annotated copies"] == (1, 1)
    assert rows["neighbours"] == (2, 1)
    assert rows["groups"] == (len({one.group for one in samples}), 1)
    listed = [tuple(row.values()) for row in read_rows(tmp_path / "out" / LEAK_LIST)]
    assert [(*row[:4], *row[5:]) for row in sorted(listed)] == [
        ("0", "annotated_copies", "s01", "s32", "", "test", "train", "yes"),
        ("0", "exact_duplicates", "s00", "s30", "", "test", "train", "yes"),
        ("0", "exact_duplicates", "s00", "s31", "", "test", "train", "yes"),
        ("0", "groups", samples[0].group, "", "", "", "", "yes"),
        ("0", "near_duplicates", "s02", "s33", "yes", "test", "train", "yes"),
        ("0", "near_duplicates", "s36", "s37", "no", "train", "train", "no"),
        ("0", "neighbours", "s03", "s35", "", "test", "train", "yes"),
        ("0", "neighbours", "s36", "s37", "", "train", "train", "no"),
    ]
    likeness = [float(row[4]) for row in listed if row[1] == "near_duplicates"]
    assert all(0.75 <= one <= 1 for one in likeness)
    assert f'href="{LEAK_LIST}"' in page


def test_neighbours_by_group_are_left_out_not_leaked(tmp_path: Path) -> None:
    samples = make_samples(per_group=5)
    samples = [replace(one, previous=before.id) for before, one in pairwise(samples)]
    line = audit(write(tmp_path, samples), params(val_share=0.2, test_share=0.2))
    scores = read_scores(tmp_path / "out" / "split.json")["fold0"]
    numbers = Counter(row["split"] for row in read_rows(tmp_path / "out" / "split.csv"))
    assert scores["unused"] == numbers["unused"] > 0
    assert scores["leaks"] == dict.fromkeys(KINDS, 0)
    assert f"unused {numbers['unused']}" in line
    page = (tmp_path / "out" / "audit.html").read_text()
    unused = numbers["unused"]
    assert any(
        text.startswith(f"{unused} image") and "in no split" in text for _, text in findings(page)
    )


def test_what_is_alike_is_joined(tmp_path: Path) -> None:
    samples = make_samples(per_group=1)
    for at in range(0, 40, 2):
        samples[at] = replace(samples[at], image=jpeg(samples[at + 1].image))
    write(tmp_path, samples)
    apart = params(on_leak="warn")
    assert "near-duplicate pairs on both sides of it" in audit(tmp_path, apart)
    assert "WARNING" not in audit(tmp_path, params(merge_duplicates=True), out="joined")
    rows = read_rows(tmp_path / "joined" / "split.csv")
    split, group = ({row["id"]: row[column] for row in rows} for column in ("split", "group"))
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert split[first.id] == split[second.id]
        assert group[first.id] == group[second.id] == first.group
    scores = read_scores(tmp_path / "joined" / "split.json")
    assert scores["data"]["groups"] == 20
    assert scores["fold0"]["leaks"] == dict.fromkeys(KINDS, 0)


# Scores ------------------------------------------------------------------------------------------


def assert_scores(folder: Path, samples: list[Sample], near: list[tuple[str, str]]) -> None:
    """The scores are what the table, the masks and the planted pairs come to."""
    scores = read_scores(folder / "split.json")
    rows = read_rows(folder / "split.csv")
    by_id = {one.id: one for one in samples}
    assert scores["data"]["images"] == len(samples)
    assert scores["data"]["groups"] == len({row["group"] for row in rows})
    shares = {one.id: (one.mask == 1).sum() / (one.mask != IGNORE).sum() for one in samples}
    assert scores["data"]["foreground"] == pytest.approx(np.mean([*shares.values()]), abs=2e-6)
    folds = sorted({row["fold"] for row in rows}, key=int)
    assert [key for key in scores if key.startswith("fold")] == [f"fold{fold}" for fold in folds]
    for fold in folds:
        own = [row for row in rows if row["fold"] == fold]
        split = {row["id"]: row["split"] for row in own}
        assert set(split) == set(by_id)
        got = scores[f"fold{fold}"]
        for name in SPLITS:
            ids = [id for id in split if split[id] == name]
            part = got[name]
            assert part["images"] == len(ids)
            assert part["share"] == pytest.approx(len(ids) / len(samples), abs=1e-6)
            assert part["groups"] == len({row["group"] for row in own if row["split"] == name})
            foreground = np.mean([shares[id] for id in ids])
            assert part["foreground"] == pytest.approx(foreground, abs=2e-6)
            strata = Counter(by_id[id].stratum for id in ids)
            strata.pop("", None)
            assert part["strata"] == pytest.approx(
                {stratum: count / len(ids) for stratum, count in strata.items()}, abs=1e-6
            )
        assert got["unused"] == sum(name == "unused" for name in split.values())
        groups: dict[str, set[str]] = {}
        for row in own:
            groups.setdefault(row["group"], set()).add(row["split"])
        assert got["leaks"] == dict.fromkeys(KINDS, 0) | {
            "groups": sum(len(names) > 1 for names in groups.values()),
            "near_duplicates": sum(split[first] != split[second] for first, second in near),
        }


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({"by": "group"}, [0.8, 0.1, 0.1]),
        ({"by": "random", "stratify": False}, [0.8, 0.1, 0.1]),
        ({"by": "predefined", "test_share": None}, [None, None, None]),
        ({"num_folds": 3, "test_share": None, "val_share": 0.2}, [0.466667, 0.2, 0.333333]),
        ({"num_folds": 3, "test_share": None, "by": "random"}, [0.566667, 0.1, 0.333333]),
    ],
    ids=str,
)
def test_scores_are_what_came_out(
    changes: dict[str, Any], shares: list[float | None], tmp_path: Path
) -> None:
    samples = leaking()
    samples[5].mask[:6] = IGNORE
    audit(write(tmp_path, samples), params(on_leak="warn", **changes))
    assert_scores(tmp_path / "out", samples, [("s00", "s30"), ("s20", "s31")])
    asked = read_scores(tmp_path / "out" / "split.json")["asked"]
    assert list(asked) == list(SPLITS)
    for name, share in zip(SPLITS, shares, strict=True):
        assert asked[name] == (None if share is None else pytest.approx(share, abs=1e-6))


def test_carved_validation_is_asked_for(tmp_path: Path) -> None:
    samples = make_samples()
    samples = [replace(one, split="test" if at < 6 else "train") for at, one in enumerate(samples)]
    audit(write(tmp_path, samples), params(by="predefined", test_share=None))
    assert_scores(tmp_path / "out", samples, [])
    asked = read_scores(tmp_path / "out" / "split.json")["asked"]
    assert asked == {"train": None, "val": 0.1, "test": None}


def test_sticky_without_a_former_split_is_a_warning(tmp_path: Path) -> None:
    line = audit(write(tmp_path, make_samples()), params(sticky=True))
    assert "WARNING: sticky, but there is no former split" in line


def test_unstratified_samples_have_no_strata(tmp_path: Path) -> None:
    samples = [replace(one, stratum="") for one in make_samples()]
    audit(write(tmp_path, samples), params())
    assert_scores(tmp_path / "out", samples, [])
    assert "strata, as shares" not in (tmp_path / "out" / "audit.html").read_text()


def test_a_small_split_has_scores_and_no_nan(tmp_path: Path) -> None:
    # One sample in val and test: no deviation of one value.
    samples = make_samples(8, per_group=1)
    audit(write(tmp_path, samples), params())
    assert_scores(tmp_path / "out", samples, [])


def test_a_page_of_a_small_split_shows_no_nan(tmp_path: Path) -> None:
    audit(write(tmp_path, make_samples(8, per_group=1)), params())
    assert "nan" not in (tmp_path / "out" / "audit.html").read_text().split("<svg")[0]


def test_all_folds_are_shown(tmp_path: Path) -> None:
    samples = leaking()
    asked = params(num_folds=3, test_share=None, on_leak="warn", by="random")
    line = audit(write(tmp_path, samples), asked)
    assert "likewise in 2 more folds" in line
    assert re.search(r"the split leaks: fold [012] \(the worst\): ", line)
    page = (tmp_path / "out" / "audit.html").read_text()
    scores = read_scores(tmp_path / "out" / "split.json")
    for fold in range(3):
        assert f">fold {fold}</th>" in page
        part = scores[f"fold{fold}"]["train"]
        cells = f"<td>{part['images']}</td><td>{100 * part['share']:.1f} %</td>"
        assert f'<td class="text">{fold}</td><th scope="row" class="text">train</th>{cells}' in page
    near = "".join(f"<td>{scores[f'fold{at}']['leaks']['near_duplicates']}</td>" for at in range(3))
    assert f'<th scope="row" class="text">near duplicates</th><td>2</td>{near}' in page
    groups = [scores[f"fold{fold}"]["leaks"]["groups"] for fold in range(3)]
    worst = max(range(3), key=lambda fold: sum(scores[f"fold{fold}"]["leaks"].values()))
    assert f"fold {worst} (the worst): {groups[worst]} groups" in line
    # The pairs below are those of that fold.
    table = read_rows(tmp_path / "out" / "split.csv")
    split = {row["id"]: row["split"] for row in table if row["fold"] == str(worst)}
    captions = re.findall(r"<figcaption>(\w+) <b>(\w+)</b>", below(page, "Near duplicates"))
    assert captions
    assert all(split[id] == name for id, name in captions)
    pairs = read_rows(tmp_path / "out" / LEAK_LIST)
    listed = Counter(row["fold"] for row in pairs if row["crosses"] == "yes")
    assert sum(row["kind"] == "near_duplicates" for row in pairs) == 2 * 3
    sums = {str(at): sum(scores[f"fold{at}"]["leaks"].values()) for at in range(3)}
    assert listed == sums


# What is odd -------------------------------------------------------------------------------------


def by_hand(holding: dict[str, list[int]]) -> list[Sample]:
    """Scenes in a published split; `holding` lists the class ids that each sample holds."""
    samples = []
    for name, classes in holding.items():
        for class_id in classes:
            at = len(samples)
            mask = np.where(box(4 + at % 20), class_id, 0).astype(np.uint8)
            samples.append(
                Sample(f"s{at:02d}", scene(at), mask, f"g{at}", "", f"s{at}.png", split=name)
            )
    return samples


@pytest.mark.parametrize(
    ("holding", "said"),
    [
        ({"train": [1] * 6, "val": [0] * 3, "test": [1] * 3}, "val holds any object, so nothing c"),
        ({"train": [1] * 6, "val": [1] * 3, "test": [0] * 3}, "test holds any object, so nothing"),
        ({"train": [0] * 6, "val": [1] * 3, "test": [1] * 3}, "train holds any object, so nothing"),
        ({"train": [1] * 6, "val": [IGNORE] * 2, "test": [1] * 3}, "val holds any object, so noth"),
    ],
)
def test_a_split_without_any_object_is_refused(
    holding: dict[str, list[int]], said: str, tmp_path: Path
) -> None:
    """Scores on it would be 0 or nothing, and the best epoch whichever comes first."""
    write(tmp_path, by_hand(holding))
    with pytest.raises(InputError, match=f"no image of {said}") as error:
        audit(tmp_path, params(by="predefined", test_share=None))
    assert "\n" not in str(error.value)
    assert "audit.html, then correct what dataset.split says" in str(error.value)
    assert (tmp_path / "out" / "audit.html").exists()
    assert not (tmp_path / "out" / "split.csv").exists()


def test_a_fold_without_any_object_is_refused(tmp_path: Path) -> None:
    samples = [
        replace(one, mask=one.mask * (at < 2), group=one.id)
        for at, one in enumerate(make_samples())
    ]
    asked = params(num_folds=4, test_share=None, stratify=False)
    said = r"no image of \w+ of fold \d holds any object, so .*, lower split.num_folds, or balance"
    with pytest.raises(InputError, match=said):
        audit(write(tmp_path, samples), asked)


THREE = replace(INFO, classes=("background", "crack", "spall", "rust"), foreground=(0.0, 1.0))


def test_classes_by_split(tmp_path: Path) -> None:
    holding = {"train": [1] * 4 + [2] * 3 + [3], "val": [1, 1, 3], "test": [1, 3, 3]}
    write(tmp_path, by_hand(holding), THREE)
    lines = audit(tmp_path, params(by="predefined", test_share=None)).splitlines()
    absent = [line for line in lines if "holds the class spall" in line]
    assert [line.partition(":")[0] for line in absent] == ["WARNING"] * 2
    assert "no image of val holds the class spall: it has no score there, and is left" in absent[0]
    assert "no image of test holds the class spall" in absent[1]
    assert lines[-2] == (
        "images with each class in train / val / test: "
        "spall 3 / 0 / 0, rust 1 / 1 / 2, crack 4 / 2 / 1"
    )
    scores = read_scores(tmp_path / "out" / "split.json")["fold0"]
    assert scores["test"]["classes"] == {"crack": 1, "spall": 0, "rust": 2}
    page = (tmp_path / "out" / "audit.html").read_text()
    assert re.search(r";spall</th><td>[\d.]+ %</td><td>3</td><td>0</td><td>0</td>", page)
    assert re.search(r"</span>&nbsp;rust</th><td>[\d.]+ %</td><td>1</td><td>1</td><td>2</td>", page)


def test_classes_by_fold(tmp_path: Path) -> None:
    samples = by_hand({"": [1] * 12 + [2] * 12 + [3]})
    asked = params(num_folds=3, test_share=None, val_share=0.2)
    lines = audit(write(tmp_path, samples, THREE), asked).splitlines()
    rows = read_rows(tmp_path / "out" / "split.csv")
    for fold in range(3):
        (own,) = (row for row in rows if row["id"] == "s24" and row["fold"] == str(fold))
        without = {*SPLITS} - {own["split"]}
        for name in SPLITS:
            said = rf"no image of {name} of fold {fold} holds the class [^:]*rust:"
            assert any(re.search(said, line) for line in lines) == (name in without)
        assert any(f"/ test of fold {fold}: rust " in line for line in lines)
    assert any("no network can learn it" in line for line in lines)


def test_splits_of_other_colours_are_said(tmp_path: Path) -> None:
    samples = published(make_samples())
    line = audit(write(tmp_path, samples), params(by="predefined", test_share=None))
    assert "other colours" not in line
    for at, one in enumerate(samples):
        if one.split == "test":
            samples[at] = replace(one, image=one.image // 3)
    for folder in ("dark", "few"):
        (tmp_path / folder).mkdir()
    line = audit(write(tmp_path / "dark", samples), params(by="predefined", test_share=None))
    assert "WARNING: test holds images of other colours than train (mean " in line
    assert "val holds" not in line
    # Of two groups nothing can be said.
    few = [replace(one, group=one.split if one.split != "train" else "g") for one in samples[:9]]
    few += [replace(samples[20], group="g")]
    line = audit(write(tmp_path / "few", few), params(by="predefined", test_share=None))
    assert "other colours" not in line


def test_wholly_ignored_masks_are_counted(tmp_path: Path) -> None:
    samples = make_samples()
    samples[3] = replace(samples[3], mask=np.full_like(samples[3].mask, IGNORE))
    line = audit(write(tmp_path, samples), params())
    assert "WARNING: wholly ignored masks: 1; their images neither train nor count" in line


def test_warnings(tmp_path: Path) -> None:
    samples = [replace(one, mask=1 - one.mask) for one in make_samples()]
    info = replace(INFO, published=50)
    write(tmp_path, samples, info, bad=("x.png: too dark", "y.png: torn"))
    lines = audit(tmp_path, params()).splitlines()
    warnings = [line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING")]
    assert len(lines) == len(warnings) + 1
    assert len(warnings) == 4
    foreground = np.mean([one.mask.mean() for one in samples])
    assert warnings[0].startswith(f"foreground covers {100 * foreground:.1f} % of the images")
    assert "expected are 1 to 50 %; are the masks inverted" in warnings[0]
    assert warnings[1].startswith("40 of the 50 published images are here")
    assert warnings[2].startswith("2 images were left out")
    assert warnings[3].startswith("40 masks look inverted")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert headline_of(page) == (
        "Nothing leaks through this split, but 4 points need a decision before it is used."
    )
    told = findings(page)
    assert [severity for severity, _ in told] == ["warning"] * 4
    for text, (_, said) in zip(warnings, told, strict=True):
        assert text[1:] in said
    assert "x.png: too dark" in page
    assert "y.png: torn" in page
    scores = read_scores(tmp_path / "out" / "split.json")["data"]
    assert (scores["images"], scores["skipped"]) == (40, 2)


def test_several_classes_need_no_background(tmp_path: Path) -> None:
    """Street scenes: the first class is sky, and every pixel has a class."""
    samples = []
    for at, one in enumerate(make_samples()):
        mask = np.full((HEIGHT, WIDTH), 1, np.uint8)
        mask[:14] = 0 if at % 3 else 3
        mask[14:, 20:40] = 2
        samples.append(replace(one, mask=mask, mask_between=0.4, mask_values=3))
    line = audit(write(tmp_path, samples, replace(THREE, background=None)), params())
    assert "WARNING" not in line
    data = read_scores(tmp_path / "out" / "split.json")["data"]
    assert not any(count for name, count in data.items() if name.endswith("_masks"))
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "nothing needs a decision" in headline_of(page)
    assert "expected 0" not in page
    assert "<dt>Foreground</dt><dd>no background, every class counts" in page
    held = read_scores(tmp_path / "out" / "split.json")["fold0"]["train"]["classes"]
    assert list(held) == list(THREE.classes)
    said = audit(write(tmp_path, samples, replace(THREE, foreground=(0.0, 0.5))), params())
    assert "foreground covers " in said, "where there is a background it is asked about"


def test_lost_objects_are_said_first(tmp_path: Path) -> None:
    samples = make_samples()
    for at in (3, 7, 11):
        mask = np.zeros((512, 512), np.uint8)
        mask[:2] = 1  # of every eight rows, the fifth is what 64 rows hold
        image = np.asarray(cv2.resize(samples[at].image, (512, 512)), np.uint8)
        samples[at] = replace(samples[at], image=image, mask=mask)
    line = audit(write(tmp_path, samples), params(), "link")
    assert "WARNING: 3 masks lose all of the foreground at 64x64; raise augment.height" in line
    page = (tmp_path / "out" / "audit.html").read_text()
    assert findings(page)[0][1].startswith("3 masks lose all")
    captions = re.findall(r"<figcaption>(\w+)", below(page, "Lost masks"))
    assert captions == ["s03", "s07", "s11"]
    assert read_scores(tmp_path / "out" / "split.json")["data"]["lost_masks"] == 3


def test_too_little_foreground_is_a_warning_too(tmp_path: Path) -> None:
    info = replace(INFO, foreground=(0.4, 0.5), published=40)
    line = audit(write(tmp_path, make_samples(), info), params())
    assert line.count("WARNING") == 1
    assert "foreground covers" in line


def test_blank_images_are_a_warning(tmp_path: Path) -> None:
    samples = make_samples()
    for at in (3, 7):
        samples[at] = replace(samples[at], image=np.full_like(samples[at].image, 10 * at))
    line = audit(write(tmp_path, samples), params())
    assert line.count("WARNING") == 1
    assert (
        "WARNING: 2 images show nothing (one even colour) and were not compared: s03, s07;" in line
    )


def test_shares_far_from_what_was_asked_are_a_warning(tmp_path: Path) -> None:
    samples = [replace(one, group=f"g{at // 10}") for at, one in enumerate(make_samples())]
    line = audit(write(tmp_path, samples), params())
    for name in ("val", "test"):
        assert re.search(rf"WARNING: {name} holds 25\.0 % of the images\b.* 10\.0 %", line)
    assert "train holds" not in line


def speckled() -> Pixels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[::8, ::8] = 1
    return mask


def test_suspects(tmp_path: Path) -> None:
    samples = make_samples()
    odd: dict[str, dict[int, dict[str, Any]]] = {
        "empty_masks": {1: {"mask": box(0)}, 2: {"mask": box(0)}},
        "full_masks": {3: {"mask": np.ones((HEIGHT, WIDTH), np.uint8)}},
        # A full mask is as well one that looks inverted.
        "inverted_masks": {3: {}, 4: {"mask": 1 - box(8)}},
        "grey_masks": {5: {"mask_between": 0.06}},
        "speckled_masks": {6: {"mask": speckled()}},
    }
    for changes in odd.values():
        for at, change in changes.items():
            samples[at] = replace(samples[at], **change)
    # Just not odd: a large thing in the middle or at one side, a rim, few grey pixels.
    middle = np.zeros((HEIGHT, WIDTH), np.uint8)
    middle[2:-2, 2:-2] = 1
    rim = np.ones((HEIGHT, WIDTH), np.uint8)
    rim[4:-4, 4:-4] = 0
    side = np.ones((HEIGHT, WIDTH), np.uint8)
    side[:, :14] = 0
    samples[7] = replace(samples[7], mask=middle)
    samples[11] = replace(samples[11], mask=side)
    samples[8] = replace(samples[8], mask=rim)
    samples[9] = replace(samples[9], mask_between=0.04)
    samples[10] = replace(samples[10], mask_resized=True)
    audit(write(tmp_path, samples), params(), "link")
    data = read_scores(tmp_path / "out" / "split.json")["data"]
    assert {name: data[name] for name in odd} == {name: len(found) for name, found in odd.items()}
    assert data["resized_masks"] == 1
    page = (tmp_path / "out" / "audit.html").read_text()
    for name, changes in odd.items():
        title = name.replace("_", " ").capitalize()
        captions = re.findall(r"<figcaption>(\w+)", below(page, title))
        assert captions == [f"s{at:02d}" for at in changes]
    told = [text for severity, text in findings(page) if severity == "note"]
    assert "1 mask was of another size than the image." in told
    assert "2 empty masks: no foreground at all. Empty masks" in told
    assert not any("inverted" in text for text in told), "a warning says that"


def test_how_files_were_read_is_doubted(tmp_path: Path) -> None:
    samples = [replace(one, exif="turned 3", exif_other=2.0, clipped=0.9) for one in make_samples()]
    said = audit(write(tmp_path, samples), params())
    number = len(samples)
    assert f"WARNING: {number} of {number} masks fit the edges of their images better" in said
    assert "WARNING: 90.0 % of the pixels lie outside dataset.value_range" in said
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "then set dataset.exif: ignore" in page


def test_a_dataset_of_large_things_is_not_inverted(tmp_path: Path) -> None:
    samples = [replace(one, mask=1 - one.mask) for one in make_samples()]
    info = replace(INFO, foreground=(0.6, 1.0))
    assert "WARNING" not in audit(write(tmp_path, samples, info), params())
    assert read_scores(tmp_path / "out" / "split.json")["data"]["inverted_masks"] == 0


# The page ----------------------------------------------------------------------------------------


def test_embedded_pictures_need_no_files(tmp_path: Path) -> None:
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, leaking()), asked, "embed")
    page = (tmp_path / "out" / "audit.html").read_text()
    found = sources(page)
    assert found
    assert all(one.startswith("data:image/jpeg;base64,") for one in found)
    assert len(found) == page.count("<img") >= 2
    assert str(tmp_path) not in page


def test_linked_pictures_are_where_the_page_says(tmp_path: Path) -> None:
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, leaking()), asked, "link")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "data:" not in page
    found = sources(page)
    assert found[:2] == ["audit/s00.jpg", "audit/s30.jpg"]
    assert {Path(one).name for one in found} == {
        path.name for path in (tmp_path / "out" / "audit").glob("*.jpg")
    }
    for one in found:
        height, width = read_pixels(tmp_path / "out" / one).shape[:2]
        assert (height, width) == (192, 256)
    assert str(tmp_path) not in page


def test_links_to_ids_of_odd_characters(tmp_path: Path) -> None:
    samples = [replace(one, id=f"{one.id} #1 50%25") for one in leaking()]
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, samples), asked, "link")
    page = (tmp_path / "out" / "audit.html").read_text()
    found = [unescape(one) for one in re.findall(r'<img[^>]* src="([^"]*)"', page)]
    assert len(found) >= 2
    for one in found:
        assert (tmp_path / "out" / unquote(urlsplit(one).path)).is_file()


@pytest.mark.parametrize("redistributable", [True, False])
def test_auto_embeds_what_may_be_passed_on(redistributable: bool, tmp_path: Path) -> None:
    info = replace(INFO, redistributable=redistributable)
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, leaking(), info), asked, "auto")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert ("data:image" in page) == redistributable
    assert ("linked from the local data folder" in page) != redistributable


def test_no_pictures(tmp_path: Path) -> None:
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, leaking()), asked, "none")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "<img" not in page
    assert sources(page) == []
    assert list((tmp_path / "out" / "audit").glob("*.jpg")) == []
    assert "1 near-duplicate pair" in page


def test_grey_and_tall_images_are_drawn(tmp_path: Path) -> None:
    samples = leaking()
    for at in (0, 30):
        image = np.ascontiguousarray(samples[at].image[:, :20, 0])
        samples[at] = replace(samples[at], image=image, mask=box(4)[:, :20].copy())
    asked = params(by="predefined", test_share=None, on_leak="warn")
    audit(write(tmp_path, samples), asked, "link")
    assert read_pixels(tmp_path / "out" / "audit" / "s00.jpg").shape == (256, 107, 3)


def test_text_is_escaped(tmp_path: Path) -> None:
    write(tmp_path, make_samples(), bad=('<script>alert(1)</script> & "more"',))
    audit(tmp_path, params())
    page = (tmp_path / "out" / "audit.html").read_text()
    assert page.count("<script") == 1  # the page's own
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;more&#34;" in page
    assert '<th scope="row" class="text">a &lt;b&gt; &amp; c</th>' in page
    assert "a <b>" not in page
    assert "none &lt;b&gt;needed&lt;/b&gt;" in page
    assert "A &amp; B" in page


@pytest.mark.parametrize("pictures", ["embed", "link", "none"])
def test_everything_repeats_byte_for_byte(pictures: str, tmp_path: Path) -> None:
    write(tmp_path, leaking())
    asked = params(by="predefined", test_share=None, on_leak="warn")
    for out in ("first", "second", "second"):
        audit(tmp_path, asked, pictures, out)
    files = [
        {
            path.relative_to(tmp_path / out): path.read_bytes()
            for path in sorted((tmp_path / out).rglob("*"))
            if path.is_file()
        }
        for out in ("first", "second")
    ]
    assert (len(files[0]) > 4) == (pictures != "none")
    assert files[0] == files[1]


def test_a_sticky_split_stays_as_samples_come(tmp_path: Path) -> None:
    samples = make_samples(48)
    write(tmp_path / "first", samples[:40])
    audit(tmp_path / "first", params())
    write(tmp_path / "then", samples)
    (tmp_path / "then" / "out").mkdir()
    former = (tmp_path / "first" / "out" / "split.csv").read_text()
    (tmp_path / "then" / "out" / "split.csv").write_text(former)
    line = audit(tmp_path / "then", params(sticky=True, seed=1))
    assert "sticky: 40 samples stay, 8 are new, 0 are gone" in line
    before, now = (
        {row["id"]: row["split"] for row in read_rows(tmp_path / name / "out" / "split.csv")}
        for name in ("first", "then")
    )
    assert before == {id: now[id] for id in before}
    assert len(now) == 48


# Real data ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of colonoscopies, of which consecutive ones are nearly equal."""
    if not REAL.exists():
        pytest.skip("the dataset is not here")
    folder = tmp_path_factory.mktemp("frames")
    limits = Limits(megapixels=10, unpacked_gib=1, size_difference=0, on_bad_pair="error")
    chosen = Published(
        name="cvc-clinicdb", source=str(REAL), watch=True, checksums={}, limits=limits
    )
    datasets.download(chosen, folder / "dataset")
    return folder


def test_real_frames_leak_by_random(frames: Path) -> None:
    line = audit(frames, params(by="random", on_leak="warn"), out="random")
    scores = read_scores(frames / "random" / "split.json")
    assert scores["fold0"]["leaks"]["groups"] > 20
    assert scores["fold0"]["leaks"]["near_duplicates"] > 50
    assert scores["data"]["images"] == 612
    assert f"{scores['fold0']['leaks']['near_duplicates']} near-duplicate pairs" in line


def test_real_frames_do_not_leak_by_group(frames: Path) -> None:
    line = audit(frames, params(), out="group")
    scores = read_scores(frames / "group" / "split.json")
    assert scores["fold0"]["leaks"] == dict.fromkeys(KINDS, 0)
    assert scores["data"]["groups"] == 29
    assert "WARNING" not in line
