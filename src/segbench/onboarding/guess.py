"""A dataset looked at: its section of params.yaml, what else must fit it, and what is unsure."""

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segbench.datasets.bands import read_bands
from segbench.datasets.doubts import BETTER, some_of
from segbench.datasets.fetching import ENDINGS, locate_files
from segbench.datasets.image_files import read_image
from segbench.datasets.ingest import make_thumbnail
from segbench.datasets.pairs import Pair, find_pairs
from segbench.datasets.patterns import unmatched_files
from segbench.datasets.sources import folder as source_folder
from segbench.errors import InputError
from segbench.images import IGNORE, Pixels
from segbench.onboarding.encoding import Encoding, guess_encoding
from segbench.onboarding.groups import Grouping, candidates_of, guess_groups
from segbench.onboarding.held import read_held
from segbench.onboarding.layout import Layout, guess_layout
from segbench.onboarding.listing import list_files
from segbench.onboarding.photographs import Photographs, find_ranges, read_headers
from segbench.onboarding.sample import SampleRead, read_sample
from segbench.onboarding.sizes import NetworkSize
from segbench.onboarding.tables import find_labels
from segbench.parallel import thread_map
from segbench.params.datasets import Folder, marks_objects
from segbench.splits.near import find_near_duplicates

# Headers, deep images and pairs that are looked at; of large images fewer, so many pixels in all.
HEADERS, DEEP_IMAGES, PAIRS, MOST_MEGAPIXELS = 400, 24, 100, 200
LIKENED = 192
"""Images among which near duplicates are looked for."""
UNPACKED_GIB, MOST_BANDS = 20, 16
# A mask whose size differs by more was hardly resized or cropped by accident.
SMALL_DIFFERENCE = 8
# Foreground that covers more may be the background; a field of view that leaves less is none.
MOST_FOREGROUND, MOST_IGNORED = 0.5, 0.9
# Of several classes, the first is background if it covers more.
LEAST_BACKGROUND = 0.5


@dataclass
class Guess:
    """What was found, and what is written of it.

    Attributes:
        fields: all keys of the section `dataset`.
        comments: to keys, what was seen.
        class_comments: to each class.
        asked: a key and a question each.
        size: of the network's input.
        split: keys of the section `split` that must fit.
        channels: of the images, grey ones shown as three.
        num_pairs: images with masks.
        read: pairs of them that were read as the section says, to check it.
    """

    fields: dict[str, Any]
    size: NetworkSize
    num_pairs: int
    read: int
    comments: dict[str, str] = field(default_factory=dict)
    class_comments: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    split: dict[str, Any] = field(default_factory=dict)
    channels: int = 3


def spread(count: int, most: int) -> list[int]:
    """Indices of a few of many, evenly spread."""
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, most)).round()})


def title_of(source: Path) -> str:
    """A dataset's name, from that of its folder or archive."""
    name = source.name
    while name.endswith(ENDINGS):
        name = name.rpartition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "images"


def guess_dataset(source: Path, written: str, near_duplicate: float) -> Guess:
    """Look at a folder or an archive of images and masks.

    Args:
        source: the folder or archive.
        written: how the section names it.
        near_duplicate: `split.near_duplicate`.

    Raises:
        InputError: if no pairs of images and masks are found, or they cannot be read.
    """
    title = title_of(source)
    before = time.time()
    folder = locate_files(title, (), str(source), {}, UNPACKED_GIB * 2**30)
    try:
        return _guess_folder(folder, title, written, near_duplicate)
    except InputError:
        if source.is_file() and folder.stat().st_mtime >= before:
            shutil.rmtree(folder)  # nobody will read what was unpacked for this
        raise


def _guess_folder(folder: Path, title: str, written: str, near_duplicate: float) -> Guess:
    listing = list_files(folder)
    layout = guess_layout(listing)
    classes = ["background", *(layout.class_names or ["foreground"])]
    pairs = find_pairs(folder, layout.images, layout.masks, classes, layout.ignore)
    whole = [pair for pair in pairs if not pair.problem]
    headers = read_headers([whole[at].image for at in spread(len(whole), HEADERS)])
    broken = len(pairs) - len(whole)
    guess = _Guessing(folder, layout, whole, broken, listing.others, headers)
    return guess.finish(title, written, near_duplicate)


class _Guessing:
    """The guesses that follow from a layout."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        pairs: list[Pair],
        broken: int,
        others: list[str],
        headers: Photographs,
    ) -> None:
        self.folder, self.layout, self.pairs, self.headers = folder, layout, pairs, headers
        self.broken, self.others = broken, others
        self.comments: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = list(layout.asked)
        # Of large images, fewer.
        self.most = max(8, min(PAIRS, int(MOST_MEGAPIXELS / max(0.01, headers.megapixels))))

    def finish(self, title: str, written: str, near_duplicate: float) -> Guess:
        """Guess all keys, and read a sample by them."""
        some = [self.pairs[at] for at in spread(len(self.pairs), 2 * self.most)]
        files = [file.path for pair in some for file in pair.masks]
        held = read_held(
            [files[at] for at in spread(len(files), 2 * self.most)], self._limits()["megapixels"]
        )
        layout = self.layout
        encoding = guess_encoding(held, layout.class_names, layout.images == layout.masks)
        self.asked += encoding.asked
        fields = self._draft(title, encoding)
        read = self._checked(fields)
        size = read.trial.choose()
        if size.lost:
            text = (
                f"at {size.width}x{size.height}, the largest size that is tried, {size.lost} of "
                f"{read.count} masks still lose an object; are these objects, or specks?"
            )
            self.asked.append(("augment", text))
        grouping = self._group(fields, near_duplicate)
        fields["group"] = grouping.label
        split = self._split(fields)
        fields["background"] = self._background(fields, encoding, read)
        self._describe(fields, encoding, read, grouping)
        fields["source"] = written
        return Guess(
            fields=fields,
            size=size,
            num_pairs=len(self.pairs),
            read=read.count,
            comments=self.comments,
            class_comments=_class_comments(fields["classes"], encoding, read),
            asked=self.asked,
            split=split,
            channels=len(fields["bands"] or "RGB"),
        )

    def _limits(self) -> dict[str, Any]:
        megapixels = 100
        if self.headers.megapixels > megapixels:
            megapixels = int(1.2 * self.headers.megapixels) + 1
        return {
            "megapixels": megapixels,
            "unpacked_gib": UNPACKED_GIB,
            "size_difference": 0,
            "on_bad_pair": "skip" if self.broken else "error",
        }

    def _draft(self, title: str, encoding: Encoding) -> dict[str, Any]:
        bands = min(max(self.headers.bands, default=1), MOST_BANDS)
        value_range: list[Any] | None = None
        if self.headers.deep:
            some = [self.pairs[at].image for at in spread(len(self.pairs), DEEP_IMAGES)]
            ranges, (least, greatest) = find_ranges(some, by_band=bands > 3)
            value_range = (ranges if bands > 3 else ranges[0]) if ranges else None
            self.comments["value_range"] = f"of {len(some)} images: {least:g} to {greatest:g}"
            text = "are these the values that matter? what lies beyond becomes 0 or 255"
            self.asked.append(("value_range", text))
        if bands > 3:
            text = f"which of the {bands} does the network need? pictures show the first three"
            self.asked.append(("bands", text))
        return {
            "name": "folder",
            "title": title,
            "source": str(self.folder),
            "watch": True,
            "images": self.layout.images,
            "masks": self.layout.masks,
            "ignore": self.layout.ignore,
            "classes": encoding.classes,
            "background": 0,
            "mask": encoding.mask,
            "bands": list(range(1, bands + 1)) if bands > 1 else None,
            "group": None,
            "stratum": None,
            "split": None,
            "exif": "turn",
            "value_range": value_range,
            "spacing": None,
            "foreground": None,
            "licence": "unknown",
            "redistributable": False,
            "citation": "",
            "published": 0,
            "limits": self._limits(),
        }

    def _read(self, fields: dict[str, Any]) -> SampleRead:
        readers = source_folder.readers(Folder.model_validate(fields))
        return read_sample([readers[at] for at in spread(len(readers), self.most)])

    def _checked(self, fields: dict[str, Any]) -> SampleRead:
        """Read a sample; change what it says to be wrong, and read again."""
        read = self._read(fields)
        turned = [text for text in read.problems if "set dataset.exif: ignore" in text]
        if turned or (read.other and np.median(read.other) > BETTER):
            fields["exif"] = "ignore"
            read = self._read(fields)
            self.comments["exif"] = (
                f"{read.exif} of {read.count} images have an EXIF orientation; masks fit their "
                "edges as they are stored"
            )
        elif read.exif:
            self.comments["exif"] = f"{read.exif} of {read.count} images have an EXIF orientation"
            if read.other and np.median(read.other) > 1 / BETTER:
                text = "do masks fit the images turned upright (turn), or as stored (ignore)?"
                self.asked.append(("exif", text))
        if fields["ignore"] and read.pixels[IGNORE] > MOST_IGNORED * read.pixels.total():
            text = f"{fields['ignore']} would ignore nearly all pixels, and is not used"
            self.asked.append(("ignore", text))
            fields["ignore"] = None
            read = self._read(fields)
        differences = read.size_differences()
        if differences and max(differences) <= SMALL_DIFFERENCE:
            fields["limits"]["size_difference"] = max(differences)
            text = (
                f"{len(differences)} of {read.count + len(read.problems)} masks are up to "
                f"{max(differences)} pixels larger or smaller than their image, and are resized"
            )
            self.asked.append(("limits", text))
            read = self._read(fields)
        wrong = [text for text in read.problems if "without" not in text]
        if not read.count or len(wrong) > read.count:
            raise InputError(wrong[0] if wrong else read.problems[0])
        if wrong:
            fields["limits"]["on_bad_pair"] = "skip"
            text = (
                f"{len(wrong)} of {read.count + len(wrong)} pairs cannot be used and are left out"
            )
            self.asked.append(("limits", f"{text}: {wrong[0]}"))
        return read

    def _group(self, fields: dict[str, Any], near_duplicate: float) -> Grouping:
        images = {pair.id: pair.image for pair in self.pairs}
        params = Folder.model_validate(fields)
        megapixels, value_range = params.limits.megapixels, params.value_range
        known: dict[str, Pixels | None] = {}

        def read(id: str) -> Pixels:
            if params.bands:
                return read_bands(images[id], params.bands, megapixels, value_range).pixels
            return read_image(images[id], megapixels, value_range).pixels

        def thumbnail(id: str) -> Pixels | None:
            try:
                return make_thumbnail(read(id))
            except InputError:
                return None

        def thumbnails(ids: Sequence[str]) -> dict[str, Pixels]:
            some = list(dict.fromkeys(ids))[: 4 * self.most]  # by whole groups, as they come
            new = [id for id in some if id not in known]
            known.update(zip(new, thread_map(thumbnail, new, "likeness", len(new)), strict=True))
            return {id: pixels for id in some if (pixels := known[id]) is not None}

        at = self.layout.fields.index("split") if "split" in self.layout.fields else None
        tables = find_labels(self.folder, self.others, set(images))
        candidates = candidates_of(list(images), at, tables)
        grouping = guess_groups(list(images), candidates, thumbnails)
        self.asked += grouping.asked
        some = thumbnails([list(images)[at] for at in spread(len(images), LIKENED)])
        ids, names = list(some), {id: name for name, own in grouping.by_group.items() for id in own}
        _, group_of = np.unique([names.get(id, id) for id in ids], return_inverse=True)
        pixels = np.array(list(some.values()))
        near = find_near_duplicates(
            pixels, lambda row: read(ids[row]), near_duplicate, group_of, within_groups=False
        )
        if near.count:
            text = (
                f"among {len(ids)} images are {near.count} pairs that look equal; "
                "'segbench repro' shows all in reports/audit.html, and stops if splits share any"
            )
            self.asked.append(("group", text))
        return grouping

    def _split(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Keys of the section `split` that follow from folders of a published split."""
        counts = self.layout.splits
        if not counts:
            return {}
        held = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        known = {source_folder.PREDEFINED[name.lower()] for name in counts}
        if not {"train", "test"} <= known:
            missing = "test" if "train" in known else "train"
            text = f"folders hold a split ({held}) without {missing}: all are split anew"
            self.asked.append(("split", text))
            return {}
        at = self.layout.fields.index("split")
        fields["split"] = {"pattern": "^" + "[^/]+/" * at + "([^/]+)/"}
        self.comments["split"] = held
        return {
            "by": "predefined",
            "num_folds": 1,
            "test_share": None,
            "sticky": False,
            "merge_duplicates": False,
        }

    def _background(
        self, fields: dict[str, Any], encoding: Encoding, read: SampleRead
    ) -> int | None:
        """The class that has no score: 0, unless class 0 looks like one of many."""
        number = len(encoding.classes)
        if number == 2 or "instances" in encoding.mask or marks_objects(fields["masks"]):
            self.comments["background"] = "the class without a score; null: every class counts"
            return 0
        share = 1 - read.foreground
        named = (
            f"class 0 ({encoding.marks.get(0, 'id 0')}) covers {100 * share:.0f} % of the pixels"
        )
        if share > LEAST_BACKGROUND:
            self.comments["background"] = f"{named}: taken for background, which has no score"
            self.asked.append(
                ("background", f"{named}; is it background? if it is a class like others: null")
            )
            return 0
        encoding.classes[0] = "class_0"
        self.comments["background"] = f"{named}: taken for a class like others"
        self.asked.append(
            ("background", f"{named}; is it a class like others? if it is background: 0")
        )
        return None

    def _describe(
        self, fields: dict[str, Any], encoding: Encoding, read: SampleRead, grouping: Grouping
    ) -> None:
        """Comments on what was seen, and questions that follow from it."""
        comments = self.comments
        if alone := self.layout.alone:
            text = f"{len(alone)} images have no mask, such as {alone[0]}, and are left out"
            self.asked.append(("limits", text))
        elif self.broken:
            text = f"{self.broken} files have no partner and are left out"
            self.asked.append(("limits", text))
        patterns = [fields[key] for key in ("images", "masks", "ignore") if fields.get(key)]
        label = fields["group"] or {}
        tables = [self.folder / label["table"]] if "table" in label else []
        unused = unmatched_files(self.folder, patterns, tables)
        comments["source"] = f"{len(self.pairs)} images with masks" + (
            f"; {len(unused)} other files: {some_of(unused)}" if unused else ""
        )
        comments["images"] = _sizes_and_modes(self.headers)
        comments["mask"] = encoding.seen
        comments["group"] = grouping.seen
        comments["licence"] = "in words; the report repeats it, and what to cite"
        if encoding.classes[1:2] == ["class_1"]:
            first = 1 if encoding.classes[0] == "background" else 0
            names = " and ".join(encoding.classes[first : first + 2])
            which = f"what are {names}" if len(encoding.classes) > 2 else f"what is {names}"
            self.asked.insert(0, ("classes", f"{which}? rename, in the order of the ids"))
        if read.foreground > MOST_FOREGROUND and len(encoding.classes) == 2:
            way = "invert: true" if "invert" in encoding.mask else "the other way round"
            text = f"{100 * read.foreground:.0f} % of the pixels are foreground; if not: {way}"
            self.asked.append(("mask", text))
        absent = [name for at, name in enumerate(encoding.classes) if at and not read.images[at]]
        if absent:
            text = f"no mask looked at holds {', '.join(absent)}"
            self.asked.append(("classes", text))


def _class_comments(classes: Sequence[str], encoding: Encoding, read: SampleRead) -> list[str]:
    labelled = max(1, sum(read.pixels.values()) - read.pixels[IGNORE])
    texts = []
    for at in range(len(classes)):
        share = 100 * read.pixels[at] / labelled
        mark = f"{encoding.marks[at]}: " if at in encoding.marks else ""
        texts.append(
            f"{mark}{share:.3g} % of the pixels, in {read.images[at]} of {read.count} images"
        )
    return texts


def _sizes_and_modes(headers: Photographs) -> str:
    """Sizes and kinds of images in words."""
    names = {"L": "grey", "P": "palette", "1": "black and white", "LA": "grey with alpha"}
    modes = {
        "16-bit grey"
        if mode.startswith("I;16")
        else "32-bit"
        if mode == "I"
        else "float"
        if mode == "F"
        else names.get(mode, mode)
        for mode in headers.modes
    }
    heights, widths = zip(*headers.sizes, strict=True)
    if len(headers.sizes) == 1:
        size = f"{widths[0]}x{heights[0]}"
    else:
        size = f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}"
    return f"{', '.join(sorted(modes))}, {size} (width x height)"
