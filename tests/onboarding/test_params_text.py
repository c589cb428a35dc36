"""params.yaml edited as text: what is not meant to change does not."""

import pytest
from ruamel.yaml import YAML

from segbench.errors import InputError
from segbench.onboarding.params_text import read_tree, rename_key, replace_section, set_values
from segbench.onboarding.section import in_flow, write_section
from support.params import ROOT

TEXT = """\
# About the whole.

# About the first.
first:
  a: 1                            # one
# on the first, too
  b:
    - x

# About the second.
second:
  c: {d: 1, e: [1, 2]}   # both
  f:
    g: null
    h: 'text'   # last

  i: 5
"""


def test_a_section_is_replaced_and_comments_around_it_stay() -> None:
    text = replace_section(TEXT, "first", "first:\n  new: 2\n")
    assert (
        text
        == TEXT[: TEXT.index("first:")]
        + "first:\n  new: 2\n"
        + TEXT[TEXT.index("\n# About the second") :]
    )
    text = replace_section(TEXT, "second", "second: 1\n", with_header=True)
    assert text == TEXT[: TEXT.index("# About the second")] + "second: 1\n"


@pytest.mark.parametrize(
    ("key", "value", "was", "now"),
    [
        ("first.a", 17, "a: 1   ", "a: 17   "),
        ("second.c", None, "c: {d: 1, e: [1, 2]}   # both", "c: null   # both"),
        ("second.c.e", [3], "e: [1, 2]}", "e: [3]}"),
        ("second.f.g", {"x": 1}, "g: null", "g: {x: 1}"),
        ("second.f.h", 1.5, "h: 'text'   # last", "h: 1.5   # last"),
        ("second.i", "yes: no", "i: 5", "i: 'yes: no'"),
    ],
)
def test_a_value_is_set_in_place(key: str, value: object, was: str, now: str) -> None:
    assert set_values(TEXT, {key: value}) == TEXT.replace(was, now)


def test_a_value_of_several_lines_is_set_in_place() -> None:
    text = set_values(TEXT, {"second.f": None})
    assert read_tree(text)["second"] == {"c": {"d": 1, "e": [1, 2]}, "f": None, "i": 5}
    assert "   # last\n\n  i: 5" in text


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"has no key second\.z"):
        set_values(TEXT, {"second.z": 1})


def test_a_key_is_renamed_in_place() -> None:
    for text in (TEXT, (ROOT / "params.yaml").read_text()):
        first = "second.c.d" if text is TEXT else "train.loss.bce"
        new = rename_key(text, first, "ce")
        changed = [
            (one, other)
            for one, other in zip(text.splitlines(), new.splitlines(), strict=True)
            if one != other
        ]
        assert len(changed) == 1
        assert (
            changed[0][0].replace(
                "bce" if text is not TEXT else "d:", "ce" if text is not TEXT else "ce:"
            )
            == changed[0][1]
        )


@pytest.mark.parametrize(
    "value",
    [
        *(
            "images/{id}.png",
            "{a}/{id}.*",
            r"^(p\d+)_",
            "it's: a # b",
            "true",
            "null",
            "",
            " x",
            "é",
        ),
        *(None, True, 1.5, 10**12, [], {}, [1, "a,b"], {"values": {0: 0, 255: 1}}),
        {"colours": {"#00ff00": 1}, "of": ["#", "[", "- x"]},
    ],
)
def test_values_survive_the_text(value: object) -> None:
    text = f"key: {in_flow(value)}   # said\n"
    assert YAML(typ="safe", pure=True).load(text) == {"key": value}


def test_the_section_is_read_as_it_was_meant_and_fits_the_page() -> None:
    fields = {"source": "/data/" + "long/" * 30, "classes": ["a b", "c"], "group": None}
    text = write_section(
        fields,
        {"source": "said " * 20, "group": "short"},
        {"classes": ["first", "second"]},
        ["A sentence " * 12],
        [("group", "what is this? " * 10)],
    )
    assert YAML(typ="safe", pure=True).load(text) == {"dataset": fields}
    assert max(len(line) for line in text.splitlines() if "long" not in line) <= 100
    assert "  # 1. group: what is this?" in text
    assert "  group: null                       # short" in text
