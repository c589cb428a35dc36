"""External test sets: datasets on which networks are scored that were trained on another one."""

from collections.abc import Mapping

from segbench.datasets.classes import check_classes
from segbench.datasets.download import source_of
from segbench.errors import InputError
from segbench.params.datasets import Dataset, Folder


def check_external(dataset: Dataset, external: Mapping[str, Dataset]) -> None:
    """Check what the params alone say of external sets; no file is opened.

    Args:
        dataset: that networks are trained on.
        external: sections of the external sets, by name.

    Raises:
        InputError: for other classes or bands than those of `dataset`.
    """
    ours = source_of(dataset.name).info(dataset)
    bands = dataset.num_bands if isinstance(dataset, Folder) else None
    for name, section in external.items():
        check_classes(name, source_of(section.name).info(section), ours)
        found = section.num_bands if isinstance(section, Folder) else None
        if found != bands:
            raise InputError(
                f"comparison.external.{name}: its images have {found or '1 or 3'} channels, and "
                f"networks are trained on {bands or '1 or 3'}; name the same bands there as in "
                "dataset.bands, or take it out"
            )
