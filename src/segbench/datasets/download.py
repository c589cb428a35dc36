"""The catalogue: a module for each dataset, and the one place that names them all.

A module offers `info(params)`, what is known of the dataset before it is read, and
`tasks(params)`, which read its samples, in the order of their ids.
"""

from pathlib import Path
from types import ModuleType

from segbench.datasets.ingest import ingest
from segbench.datasets.sources import (
    cvc_clinicdb,
    flood_area,
    folder,
    hgr1,
    isbi_2012,
    oxford_iiit_pet,
    synthetic_polyps,
)
from segbench.params.datasets import Dataset, SyntheticPolyps

CATALOGUE: dict[str, ModuleType] = {
    "synthetic-polyps": synthetic_polyps,
    "folder": folder,
    "cvc-clinicdb": cvc_clinicdb,
    "oxford-iiit-pet": oxford_iiit_pet,
    "isbi-2012": isbi_2012,
    "flood-area": flood_area,
    "hgr1": hgr1,
}


def download(params: Dataset, out: Path) -> str:
    """Bring a dataset into canonical form in the folder `out`.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for anything wrong with its files.
    """
    module = CATALOGUE[params.name]
    on_bad_pair = "error" if isinstance(params, SyntheticPolyps) else params.limits.on_bad_pair
    return ingest(module.tasks(params), module.info(params), on_bad_pair, out)
