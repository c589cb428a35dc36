"""Classes of an external test set, which must be those that networks are trained on."""

from segbench.datasets.canonical import DatasetInfo
from segbench.errors import InputError


def check_classes(name: str, external: DatasetInfo, ours: DatasetInfo) -> None:
    """Raise InputError unless an external set has the classes of the training set, in its order.

    Args:
        name: of the external set.
        external: that set.
        ours: the one that networks are trained on.
    """
    where = f"comparison.external.{name}"
    if external.classes == ours.classes and external.background != ours.background:
        raise InputError(
            f"{where}: its background is {_said(external)}, that of the set that networks are "
            f"trained on {_said(ours)}; set {where}.background to that too"
        )
    if external.classes == ours.classes:
        return
    found, wanted = ", ".join(external.classes), ", ".join(ours.classes)
    if sorted(external.classes) == sorted(ours.classes):
        way_out = "list them in that order, with the ids in mask to match"
    else:
        way_out = "name them alike if they are the same, else take it out"
    raise InputError(
        f"{where}: its classes are {found}, networks are trained on {wanted}; {way_out}"
    )


def _said(info: DatasetInfo) -> str:
    return "null" if info.background is None else str(info.background)
