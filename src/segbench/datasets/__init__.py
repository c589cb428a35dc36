"""The catalogue: a module for each dataset, and the one place that names them all.

A module offers `info(params)`, what is known of the dataset before it is read,
`num_samples(params)`, and `read(params)`, which yields its samples in any order.
"""

from pathlib import Path
from types import ModuleType

from segbench.datasets import cvc_clinicdb, folder, synthetic_polyps
from segbench.datasets.canonical import write_canonical
from segbench.params import Dataset

CATALOGUE: dict[str, ModuleType] = {
    "synthetic-polyps": synthetic_polyps,
    "cvc-clinicdb": cvc_clinicdb,
    "folder": folder,
}


def download(params: Dataset, out: Path) -> str:
    """Bring a dataset into canonical form in the folder `out`.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for anything wrong with its files.
    """
    module = CATALOGUE[params.name]
    info = module.info(params)
    count = write_canonical(module.read(params), info, module.num_samples(params), out)
    return f"{count} images and masks of {info.name} in {out}"
