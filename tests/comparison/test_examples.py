"""Every picture of an example is a file of its own, whatever the candidates are called."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segbench.arrays.store import open_arrays
from segbench.comparison import examples
from segbench.params import Params
from support.comparison import evaluated


def test_a_candidate_may_be_called_image_or_truth(
    params: Params, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_arrays(packed / "arrays" / "fold0" / "test")
    aliases, runs = ["image", "truth"], []
    for alias in aliases:
        run = evaluated(alias, 0, 0.6, 0.7)
        rows = run.images[run.images["split"] == "test"].head(len(test.masks))
        runs.append(replace(run, images=rows.assign(id=test.samples["id"].to_numpy())))
    filled = [np.ones_like(mask) for mask in np.asarray(test.masks)]
    monkeypatch.setattr(examples, "read_predictions", lambda run: filled)
    gallery = examples.draw_gallery(params, runs, aliases, packed / "arrays", tmp_path / "out")
    for example in (one for kind in gallery.values() for one in kind):
        paths = [picture.path for picture in example.pictures]
        assert len({path.read_bytes() for path in paths}) >= 3  # image, truth, prediction
        assert len(set(paths)) == len(paths) == 4
