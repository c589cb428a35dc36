"""How the values of mask files become class ids: `dataset.mask` and `dataset.classes`, guessed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segbench.errors import InputError
from segbench.images import IGNORE
from segbench.onboarding.held import GREY, Held

# A value of which fewer pixels lie among their like stands on edges only, where a lossy format or
# a smooth resizing has put it, unless there are few values in all.
INSIDE, LEAST_INSIDE, FEW = 0.05, 8, 8
DARK, BETWEEN, BRIGHT = range(32), range(32, 224), range(224, 256)
# Class ids are smaller than this where 255 means: not labelled.
MOST_IDS = 64
VOID = 0xE0E0C0
"""In palettes of Pascal VOC: not labelled."""
# Numbered objects: so many in one file at least, and in so many of the files with several values.
LEAST_NUMBERS, LEAST_NUMBERED = 4, 0.8
# Colours of objects are drawn anew for each file, mostly.
LEAST_NEW = 0.5
MOST_CLASSES = 254
# Values that are named in a message.
NAMED = 8


@dataclass
class Encoding:
    """What masks mean.

    Attributes:
        mask: the key `dataset.mask`.
        classes: names by class id.
        seen: what the files hold, in words.
        marks: what marks each class in the files, by class id, in words.
        asked: a key and a question each.
    """

    mask: dict[str, Any]
    classes: list[str]
    seen: str
    marks: dict[int, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


def guess_encoding(
    held: Held, class_names: Sequence[str] = (), in_images: bool = False
) -> Encoding:
    """Guess what the values of masks mean.

    Args:
        held: by a sample of their files.
        class_names: where every class has a file of its own, in order; else empty.
        in_images: masks are the alpha channels of the images.

    Raises:
        InputError: if nothing reads such masks.
    """
    if not held.count:
        raise InputError(held.unreadable[0])
    if in_images or 2 * held.transparent > held.count:
        found = Encoding({"alpha": 128, "invert": False}, _names(1), "in the alpha channel")
        found.marks = {0: "transparent", 1: "opaque"}
    elif held.kinds["deep"]:
        found = _deep(held)
    elif _are_instances(held):
        found = _instances(held)
    else:
        found = _by_value(held)
    if not class_names:
        return found
    return _of_class_files(found, class_names)


def _names(count: int) -> list[str]:
    return ["background", *(f"class_{at}" for at in range(1, count + 1))]


def _of_class_files(found: Encoding, class_names: Sequence[str]) -> Encoding:
    """A file's foreground, whatever its values, is the class that its name says."""
    if len(found.classes) > 2:
        found.mask = {"instances": "any"}
    found.classes = ["background", *class_names]
    found.marks = dict.fromkeys(range(1, len(found.classes)), "a file each")
    found.asked = [(key, text) for key, text in found.asked if key != "classes"]
    return found


def _are_instances(held: Held) -> bool:
    several = len(held.objects)
    if held.kinds["colour"] and len(held.pixels) < LEAST_NEW * sum(held.objects):
        return False
    return (
        several > 0
        and held.numbered >= LEAST_NUMBERED * several
        and max(held.objects) >= LEAST_NUMBERS
        and len(set(held.objects)) > 1
    )


def _instances(held: Held) -> Encoding:
    most = max(held.objects, default=1)
    seen = f"{_kinds(held)}, each object numbered: up to {most} in a file"
    found = Encoding({"instances": "any"}, _names(1), seen, {0: "0", 1: "any other number"})
    found.asked.append(
        ("mask", f"values look like numbers of objects (up to {most} in a file): any is class_1")
    )
    return found


def _deep(held: Held) -> Encoding:
    values = sorted(held.pixels)
    if _are_instances(held) or len(values) <= 2 or (held.objects and max(held.objects) > NAMED):
        return _instances(held)
    raise InputError(
        f"masks of more than 8 bits hold the values {_list(values)}, which are class ids and no "
        "numbers of objects; save them as 8-bit PNG"
    )


def _by_value(held: Held) -> Encoding:
    real, between = _real(held)
    coloured = any(value % GREY for value in real + between)
    if between and (coloured or len(real) > 2):
        raise InputError(
            f"masks hold {len(real)} {'colours' if coloured else 'values'} "
            f"({_list_values(real, coloured)}) and {len(between)} more on edges only, as a lossy "
            "format or a smooth resizing leaves them, of which none can be told; save the masks as "
            "PNG, resized by nearest neighbour"
        )
    grey = held.kinds["palette"] + held.kinds["colour"] == 0
    values = [value // GREY for value in real]
    if not coloured and (between or values in ([0], [255], [0, 255])):
        return _threshold(held, values, len(between))
    if grey:
        return _values(held, values)
    return _colours(held, real)


def _real(held: Held) -> tuple[list[int], list[int]]:
    """Values that mean something, and those that a lossy format has put between them."""
    values = sorted(held.pixels)
    inner = {
        value
        for value in values
        if held.inside[value] >= max(LEAST_INSIDE, INSIDE * held.pixels[value])
    }
    if any(value % GREY for value in values):
        real = sorted(inner) if len(values) > FEW else values
        return real, sorted(set(values) - set(real))
    greys = [value // GREY for value in values]
    if max((grey for grey in greys if grey < 255), default=0) < MOST_IDS:
        return values, []  # class ids, and perhaps 255 for what is not labelled
    dark, grey, bright = (
        [value for value in values if value // GREY in part] for part in (DARK, BETWEEN, BRIGHT)
    )
    alone = len(grey) == 1 and len(values) <= FEW  # perhaps the outline of objects
    solid = grey if alone else [value for value in grey if value in inner]
    if len(values) <= FEW and (solid or not bright):
        return values, []
    most_common = [max(part, key=held.pixels.__getitem__) for part in (dark, bright) if part]
    real = sorted({*most_common, *solid})
    return real, sorted(set(values) - set(real))


def _threshold(held: Held, values: list[int], between: int) -> Encoding:
    low, high = values[0], values[-1]
    middle = 128 if low < 128 <= high or low == high else (low + high + 1) // 2
    noise = f" and {between} more on edges" if between else ""
    found = Encoding(
        {"threshold": middle, "invert": False},
        _names(1),
        f"{_kinds(held)} of {' and '.join(map(str, values))}{noise}",
        {0: f"below {middle}", 1: f"{middle} and above"},
    )
    if low == high:
        found.asked.append(("mask", f"the masks looked at hold {low} only; is that right?"))
    return found


def _values(held: Held, values: list[int]) -> Encoding:
    ignored = [255] if 255 in values and len(values) > 2 and values[-2] < MOST_IDS else []
    labels = [value for value in values if value not in ignored]
    _check_count(labels)
    background = 0 if 0 in labels else max(labels, key=lambda value: held.border[value * GREY])
    ordered = [background, *(value for value in labels if value != background)]
    table = {value: ordered.index(value) for value in labels}
    found = Encoding(
        {"values": {**table, **dict.fromkeys(ignored, IGNORE)}},
        _names(len(labels) - 1),
        f"{_kinds(held)} of {_list(values)}",
        {class_id: f"value {value}" for value, class_id in table.items()},
    )
    if background:
        found.asked.append(
            ("mask", f"no value is 0; {background}, most common at the border, is the background")
        )
    if ignored:
        found.asked.append(("mask", "the value 255 is taken for: ignored; or is it a class?"))
    return found


def _colours(held: Held, colours: list[int]) -> Encoding:
    _check_count(colours)
    ignored = [VOID] if VOID in colours and len(colours) > 2 else []
    labels = [colour for colour in colours if colour not in ignored]
    background = 0 if 0 in labels else max(labels, key=lambda colour: held.border[colour])
    shown = {next(iter(found)): index for index, found in held.indices.items() if len(found) == 1}
    same = held.kinds["palette"] == held.count and len(shown) == len(held.indices)
    order = shown if same else {colour: -count for colour, count in held.pixels.items()}
    rest = sorted((one for one in labels if one != background), key=lambda one: order.get(one, 0))
    table = {f"#{one:06x}": at for at, one in enumerate([background, *rest])}
    palettes = "" if same or not held.kinds["palette"] else ", palettes that differ"
    found = Encoding(
        {"colours": {**table, **{f"#{one:06x}": IGNORE for one in ignored}}},
        _names(len(rest)),
        f"{_kinds(held)} of {len(colours)} colours{palettes}",
        {class_id: colour for colour, class_id in table.items()},
    )
    if background:
        text = (
            f"no colour is black; #{background:06x}, most common at the border, is the background"
        )
        found.asked.append(("mask", text))
    if ignored:
        found.asked.append(("mask", f"the colour #{VOID:06x} is taken for: ignored"))
    return found


def _check_count(labels: list[int]) -> None:
    if len(labels) > MOST_CLASSES:
        raise InputError(
            f"masks hold {len(labels)} different values or colours, {MOST_CLASSES} classes are the "
            "limit; are they masks? are colours numbers of objects? save each file's objects as 255"
        )


def _kinds(held: Held) -> str:
    words = {"grey": "grey", "palette": "palette", "colour": "RGB", "deep": "16-bit or deeper"}
    return " and ".join(words[kind] for kind, _ in held.kinds.most_common())


def _list(values: Sequence[int]) -> str:
    some = ", ".join(map(str, values[:NAMED]))
    return f"{some} and {len(values) - NAMED} more" if len(values) > NAMED else some


def _list_values(values: Sequence[int], coloured: bool) -> str:
    if coloured:
        some = ", ".join(f"#{value:06x}" for value in values[:NAMED])
        return f"{some}, ..." if len(values) > NAMED else some
    return _list([value // GREY for value in values])
