"""Numbers and sentences."""

import pytest

from segbench.report.words import as_sentence, counted


def test_one_and_many() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no image is here", "No image is here."),
        ("dataset.ignore leaves out 3 %", "dataset.ignore leaves out 3 %."),
        ("is that meant?", "Is that meant?"),
        ("2 masks", "2 masks."),
    ],
)
def test_sentences(text: str, said: str) -> None:
    assert as_sentence(text) == said
