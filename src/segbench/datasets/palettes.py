"""What palette indices of masks show, compared over a whole dataset."""

from segbench.datasets.canonical import Palette
from segbench.errors import InputError
from segbench.images import IGNORE


class Palettes:
    """What the palette indices of a dataset's masks show, compared from file to file.

    A tool that saves a palette of its own for each file gives an index another meaning in each:
    read by index, such masks are wrong without any value that is undefined.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int, str]] = {}

    def add(self, palette: Palette, source: str) -> None:
        """Add what the mask of a sample shows.

        Args:
            palette: of the mask.
            source: the file name of the sample, for messages.

        Raises:
            InputError: if an index shows another colour than before.
        """
        for index, code, class_id in palette:
            before, _, other = self._seen.setdefault(index, (code, class_id, source))
            if before != code:
                raise InputError(
                    f"{source}: in its mask the palette index {index} shows #{code:06x}, in that "
                    f"of {other} #{before:06x}; indices mean nothing here, use "
                    "dataset.mask.colours, or save the class ids as grey values"
                )

    def shown(self) -> Palette:
        """What each index shows, if it is more than that 0 is black, as in any grey file."""
        found = tuple((index, code, id) for index, (code, id, _) in sorted(self._seen.items()))
        return found if len(found) > 1 else ()

    def check(self, name: str) -> None:
        """Raise InputError if the darkest colour is not the background's.

        So it is where a tool has sorted a palette by brightness or by frequency.

        Args:
            name: of the dataset.
        """
        shown = {code: class_id for code, class_id, _ in self._seen.values() if class_id != IGNORE}
        darkest = min(shown, key=_brightness, default=0)
        backgrounds = [code for code, class_id in shown.items() if class_id == 0]
        if not backgrounds or _brightness(darkest) == min(map(_brightness, backgrounds)):
            return
        read = ", ".join(f'"#{code:06x}": {class_id}' for code, class_id in shown.items())
        raise InputError(
            f"{name}: by their palette indices, the darkest colour of the masks, #{darkest:06x}, "
            f"is class {shown[darkest]} and not the background; say which colour is which class: "
            f"dataset.mask.colours (now they are read as {{{read}}})"
        )


def _brightness(code: int) -> int:
    return 299 * (code >> 16) + 587 * (code >> 8 & 255) + 114 * (code & 255)
