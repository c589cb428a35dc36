"""The download stage: a dataset of the catalogue, brought into canonical form.

The catalogue is the folder `sources`: a module for each dataset, named as params.yaml names it. It
offers `info(params)`, what is known of the dataset before it is read, and `readers(params)`, which
read its samples, in the order of their ids.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from segbench.datasets import sources
from segbench.datasets.ingest import ingest
from segbench.params.datasets import Dataset, Folder, SyntheticPolyps


def source_of(name: str) -> ModuleType:
    """The module of a dataset; no other is imported.

    Args:
        name: as in params.yaml, where it was checked.
    """
    return import_module(f"{sources.__name__}.{name.replace('-', '_')}")


def download(params: Dataset, out: Path) -> str:
    """Bring a dataset into canonical form in the folder `out`; every class must occur.

    Returns:
        A line that says what was made.

    Raises:
        InputError: for anything wrong with its files.
    """
    return bring(params, out)


def bring(params: Dataset, out: Path, lacks_classes: bool = False) -> str:
    """Bring any dataset of the catalogue into canonical form.

    Args:
        params: its section.
        out: its folder.
        lacks_classes: whether some classes, but not all, may be in no mask.
    """
    source = source_of(params.name)
    on_bad_pair = "error" if isinstance(params, SyntheticPolyps) else params.limits.on_bad_pair
    readers = source.readers(params)
    unmatched = source.unmatched(params) if isinstance(params, Folder) else []
    return ingest(readers, source.info(params), on_bad_pair, out, unmatched, lacks_classes)
