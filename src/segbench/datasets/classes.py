"""Classes of an external test set, which must be those that networks are trained on."""

from collections.abc import Sequence

from segbench.errors import InputError


def check_classes(name: str, classes: Sequence[str], ours: Sequence[str]) -> None:
    """Raise InputError unless an external set has the classes of the training set, in its order.

    Args:
        name: of the external set.
        classes: of the external set, background first.
        ours: those that networks are trained on.
    """
    if list(classes) == list(ours):
        return
    found, wanted = ", ".join(classes), ", ".join(ours)
    if sorted(classes) == sorted(ours):
        way_out = "list them in that order, with the ids in mask to match"
    else:
        way_out = "name them alike if they are the same, else take it out"
    raise InputError(
        f"comparison.external.{name}: its classes are {found}, networks are trained on {wanted}; "
        f"{way_out}"
    )
