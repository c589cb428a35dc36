"""Every picture of an example is a file of its own, whatever the candidates are called."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from segbench.arrays.store import open_arrays
from segbench.comparison import examples
from segbench.evaluation.outputs import writing_predictions
from segbench.files import sha256_of
from segbench.images import encode_mask
from segbench.params import Params
from support.comparison import evaluated
from support.headers import HEADER


def test_a_candidate_may_be_called_image_or_truth(
    params: Params, packed: Path, tmp_path: Path
) -> None:
    test = open_arrays(packed / "arrays" / "fold0" / "test")
    aliases, runs = ["image", "truth"], []
    for alias in aliases:
        run = evaluated(alias, 0, 0.6, 0.7)
        rows = run.images[run.images["split"] == "test"].head(len(test.masks))
        runs.append(replace(run, images=rows.assign(id=test.samples["id"].to_numpy())))
    with writing_predictions(tmp_path / "predictions.zip") as write:
        for id, mask in zip(test.samples["id"], test.masks, strict=True):
            write("test", id, encode_mask(np.ones_like(mask)))
    summary = {"sha256": {"predictions": sha256_of(tmp_path / "predictions.zip")}}
    runs = [replace(run, folder=tmp_path, summary=summary) for run in runs]
    arrays, out = packed / "arrays", tmp_path / "out"
    gallery = examples.draw_gallery(params, runs, aliases, arrays, HEADER, out)
    for example in (one for kind in gallery.values() for one in kind):
        paths = [picture.path for picture in example.pictures]
        assert len({path.read_bytes() for path in paths}) >= 3  # image, truth, prediction
        assert len(set(paths)) == len(paths) == 4
