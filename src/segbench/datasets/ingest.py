"""Ingest: a dataset brought into canonical form in one pass, every pair checked and measured."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from segbench.datasets.canonical import (
    THUMBNAIL_SIZE,
    DatasetInfo,
    Palette,
    Sample,
    SampleReader,
    plain_text,
    read_table,
)
from segbench.datasets.doubts import (
    INVERT_IGNORE,
    describe_unmatched,
    reading_doubts,
    reading_notes,
)
from segbench.datasets.palettes import Palettes
from segbench.errors import InputError
from segbench.files import atomic_folder
from segbench.images import BANDS_ENDING, IGNORE, Pixels, as_rgb, count_values, encode_mask
from segbench.labels import LabelScheme
from segbench.parallel import thread_map

SAMPLE_COLUMNS = (
    *("id", "image", "mask", "group", "stratum", "previous", "split"),
    *("width", "height", "channels", "sha256"),
)
MEASURE_COLUMNS = (
    *("id", "file", "image_sha256", "foreground", "border", "ignored", "components"),
    *("red", "green", "blue", "contrast", "mask_values", "mask_between", "mask_resized"),
    *(
        "exif",
        "exif_other",
        "clipped",
        "transparent",
        "contested",
        "ignored_foreground",
        "without_file",
    ),
    "class_pixels",
)
# Pairs with one way out that a message names.
NAMED = 10
CsvRow = dict[str, object]
_Kept = tuple[CsvRow, CsvRow, bytes, set[int], Palette, tuple[float, float] | None]
"""Of a sample: its row of samples.csv, that of measures.csv, its thumbnail, its class ids, the
palette of its mask, and its spacing."""
_Read = tuple[int, list[_Kept], str]
"""Of a reader: how many samples it has, those that were kept, and why none was."""


@dataclass
class _Done:
    """What has been written: ids, class ids and palettes, and how many samples were left out."""

    ids: dict[str, str] = field(default_factory=dict)
    """By themselves in small letters."""
    classes: set[int] = field(default_factory=set)
    skipped: int = 0
    ignored_foreground: int = 0
    problems: list[str] = field(default_factory=list)
    palettes: Palettes = field(default_factory=Palettes)
    spacings: dict[str, tuple[float, float]] = field(default_factory=dict)


def ingest(
    readers: list[SampleReader],
    info: DatasetInfo,
    on_bad_pair: str,
    folder: Path,
    unmatched: Sequence[str] = (),
    lacks_classes: bool = False,
) -> str:
    """Write samples in canonical form.

    - `images/`: PNG or JPEG, 8-bit RGB or grey, upright. A file that is so already is copied. Of
      two bands, or more than three, .npy: (H, W, C) uint8.
    - `masks/`: PNG of class ids, 255 where ignored.
    - `samples.csv`: id, image, mask, group, stratum, previous, split (empty, or as published),
      width, height, channels, and the sha256 of the pixels of image and mask.
    - `measures.csv`: what the audit asks of each sample: shares of the mask that are foreground and
      ignored, share of its border that is foreground, connected components, means of the colours
      and the deviation of the thumbnail's brightness (0 to 255), values in the mask's file, the
      share of its pixels that hold neither the least nor the greatest, was it resized; what became
      of the image's EXIF orientation, how well both would fit if read the other way (`Sample`), and
      the shares of its pixels outside the range of values and not opaque; pixels of the mask that
      several files give to different classes, pixels of foreground that a file of ignored pixels
      takes, ids of classes without a mask file; pixels of each class, by id.
    - `thumbnails.u8`: (N, 32, 32, 3) bytes, in the order of samples.csv.
    - `skipped.csv`: file and reason of pairs left out, where `on_bad_pair` is skip.
    - `unmatched.csv`: files of the source that are neither image nor mask.
    - `spacing.csv`: id, row and column, millimetres from pixel to pixel, if images have their own.
    - `dataset.json`: what is known of the whole.

    Args:
        readers: in the order of the samples' ids.
        info: of the dataset.
        on_bad_pair: error or skip.
        folder: appears whole or not at all.
        unmatched: files of the source that are neither image nor mask.
        lacks_classes: whether some classes, but not all, may be in no mask.

    Returns:
        How many samples were written and left out, in words.

    Raises:
        InputError: for pairs that do not fit, all of them named or counted, an id seen twice, or no
            samples at all.
    """
    with atomic_folder(folder) as partial:
        (partial / "images").mkdir()
        (partial / "masks").mkdir()

        def work(reader: SampleReader) -> _Read:
            try:
                return reader.count, [_keep(one, info, partial) for one in reader.read()], ""
            except InputError as problem:
                return reader.count, [], str(problem)

        total = sum(reader.count for reader in readers)
        done = _write_tables(partial, thread_map(work, readers, "download", total))
        if done.problems and on_bad_pair == "error":
            raise InputError(_all_problems(done.problems, total))
        with open(partial / "unmatched.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [["file"], *([plain_text(name)] for name in unmatched)]
            )
        _check_whole(done, info, lacks_classes)
        info = replace(info, palette=done.palettes.shown())
        (partial / "dataset.json").write_text(json.dumps(asdict(info), indent=2) + "\n")
        measures = read_table(partial / "measures.csv")
    number = len(done.ids)
    of = f" of {info.published} published" if info.published not in (0, number) else ""
    left_out = f", {done.skipped} left out (see skipped.csv there)" if done.skipped else ""
    made = f"{number}{of} images with masks of {info.name}{left_out} in {folder}"
    doubts = [f"WARNING: {text}" for text in reading_doubts(measures, info)]
    if unmatched:
        doubts.append(f"WARNING: {describe_unmatched(unmatched)}")
    return "\n".join([*doubts, *reading_notes(measures, info), made])


def _write_tables(folder: Path, read: Iterable[_Read]) -> _Done:
    """Write the tables and the thumbnails of what is read, as it comes."""
    done = _Done()
    with (
        open(folder / "samples.csv", "w", newline="") as samples_file,
        open(folder / "measures.csv", "w", newline="") as measures_file,
        open(folder / "skipped.csv", "w", newline="") as skipped_file,
        open(folder / "thumbnails.u8", "wb") as thumbnails,
    ):
        samples = csv.DictWriter(samples_file, SAMPLE_COLUMNS, lineterminator="\n")
        measures = csv.DictWriter(measures_file, MEASURE_COLUMNS, lineterminator="\n")
        reasons = csv.writer(skipped_file, lineterminator="\n")
        samples.writeheader()
        measures.writeheader()
        reasons.writerow(["reason"])
        for count, rows, problem in read:
            if problem:
                done.skipped += count
                done.problems.append(problem)
                reasons.writerow([problem])
            for sample, measure, thumbnail, classes, palette, spacing in rows:
                id = str(sample["id"])
                if other := done.ids.get(id.lower()):
                    taken = "is taken" if other == id else f"is '{other}' but for capitals"
                    raise InputError(
                        f"{measure['file']}: the id '{id}' {taken}; ids must be unique, also where "
                        "capitals do not count (macOS, Windows), rename one"
                    )
                done.ids[id.lower()] = id
                done.classes |= classes
                done.ignored_foreground += cast(int, measure["ignored_foreground"])
                done.palettes.add(palette, str(measure["file"]))
                if spacing:
                    done.spacings[id] = spacing
                samples.writerow(sample)
                measures.writerow(measure)
                thumbnails.write(thumbnail)
    if done.spacings:
        with open(folder / "spacing.csv", "w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows([("id", "row", "column"), *_spacing_rows(done)])
    return done


def _spacing_rows(done: _Done) -> Iterable[tuple[str, float, float]]:
    return ((id, row, column) for id, (row, column) in done.spacings.items())


def _all_problems(problems: list[str], total: int) -> str:
    """One line of all that is wrong with pairs: those that have one way out together."""
    if len(problems) == 1:
        return f"{problems[0]}, or leave it out by dataset.limits.on_bad_pair: skip"
    by_way_out: dict[str, list[str]] = {}
    for problem in problems:
        what, _, way_out = problem.partition("; ")
        by_way_out.setdefault(way_out, []).append(what)
    texts = []
    for way_out, facts in by_way_out.items():
        more = f" and {len(facts) - NAMED} more" if len(facts) > NAMED else ""
        texts.append(f"{', '.join(facts[:NAMED])}{more}; {way_out}")
    return (
        f"{len(problems)} of {total} pairs cannot be used: {' | '.join(texts)}, or leave them out "
        "by dataset.limits.on_bad_pair: skip"
    )


def _check_whole(done: _Done, info: DatasetInfo, lacks_classes: bool) -> None:
    """Raise InputError for a dataset without samples or one of its classes, or inverted."""
    if not done.ids:
        raise InputError(
            f"{info.name}: found no samples ({done.skipped} skipped); at least one image with a "
            "mask is needed, check dataset.source and the patterns"
        )
    absent = [info.classes[at] for at in info.scheme.scored if at not in done.classes]
    if lacks_classes and len(absent) < len(info.scored):
        absent = []
    if absent and done.ignored_foreground:
        raise InputError(
            f"{info.name}: no mask holds the class {', '.join(absent)} where dataset.ignore leaves "
            f"pixels in; every class must occur, {INVERT_IGNORE}"
        )
    if absent:
        raise InputError(
            f"{info.name}: no mask holds the class {', '.join(absent)}; every class must "
            "occur, check dataset.mask (a threshold above all values?) and dataset.classes"
        )
    done.palettes.check(info.name)


def _keep(sample: Sample, info: DatasetInfo, folder: Path) -> _Kept:
    """Check a sample and write its files."""
    height, width = sample.mask.shape
    assert sample.image.shape[:2] == (height, width)
    counts = count_values(sample.mask)
    present = set(np.flatnonzero(counts).tolist())
    undefined = sorted(present - set(range(len(info.classes))) - {IGNORE})
    if undefined:
        raise InputError(
            f"{sample.source}: its mask holds the class ids {undefined}, the dataset defines "
            f"0 to {len(info.classes) - 1}; fix the mask or dataset.classes"
        )
    channels = 1 if sample.image.ndim == 2 else sample.image.shape[2]
    ending, data = sample.encoded or _encode(sample.image, channels)
    image, mask = f"images/{sample.id}{ending}", f"masks/{sample.id}.png"
    (folder / image).write_bytes(data)
    (folder / mask).write_bytes(encode_mask(sample.mask))
    digest = hashlib.sha256(np.ascontiguousarray(sample.image).data)
    image_sha256 = digest.hexdigest()
    digest.update(np.ascontiguousarray(sample.mask).data)
    row: CsvRow = {
        "id": sample.id,
        "image": image,
        "mask": mask,
        "group": plain_text(sample.group),
        "stratum": plain_text(sample.stratum),
        "previous": sample.previous,
        "split": sample.split,
        "width": width,
        "height": height,
        "channels": channels,
        "sha256": digest.hexdigest(),
    }
    thumbnail = make_thumbnail(sample.image)
    measure = _measure(sample, counts, info.scheme, thumbnail, image_sha256)
    measure["class_pixels"] = " ".join(map(str, counts[: len(info.classes)].tolist()))
    return row, measure, thumbnail.tobytes(), present, sample.palette, sample.spacing


def _encode(image: Pixels, channels: int) -> tuple[str, bytes]:
    """The ending and the bytes of an image's canonical file."""
    if channels not in (1, 3):
        file = io.BytesIO()
        np.save(file, image)
        return BANDS_ENDING, file.getvalue()
    bgr = image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return ".png", cv2.imencode(".png", bgr)[1].tobytes()


def make_thumbnail(image: Pixels) -> Pixels:
    """(32, 32, 3) uint8, each pixel the mean of what it covers; see `as_rgb`."""
    shown = image if image.ndim == 2 else as_rgb(image)
    small = cv2.resize(shown, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)
    return small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)


def _measure(
    sample: Sample,
    counts: NDArray[np.int64],
    scheme: LabelScheme,
    thumbnail: Pixels,
    image_sha256: str,
) -> CsvRow:
    ignored = float(counts[IGNORE])
    labelled = max(sample.mask.size - ignored, 1)
    foreground = scheme.is_foreground(sample.mask).view(np.uint8)
    border = np.concatenate(
        [foreground[0], foreground[-1], foreground[1:-1, 0], foreground[1:-1, -1]]
    )
    red, green, blue = thumbnail.mean(axis=(0, 1)).tolist()
    return {
        "id": sample.id,
        "file": plain_text(Path(sample.source).name),
        "image_sha256": image_sha256,
        "foreground": round(float(counts[list(scheme.scored)].sum()) / labelled, 6),
        "border": round(float(border.mean()), 6),
        "ignored": round(ignored / sample.mask.size, 6),
        "components": cv2.connectedComponents(foreground)[0] - 1,
        "red": round(red, 3),
        "green": round(green, 3),
        "blue": round(blue, 3),
        "contrast": round(float(thumbnail.mean(axis=2).std()), 3),
        "mask_values": sample.mask_values,
        "mask_between": round(sample.mask_between, 6),
        "mask_resized": int(sample.mask_resized),
        "exif": sample.exif,
        "exif_other": round(sample.exif_other, 3),
        "clipped": round(sample.clipped, 6),
        "transparent": round(sample.transparent, 6),
        "contested": sample.contested,
        "ignored_foreground": sample.ignored_foreground,
        "without_file": " ".join(map(str, sorted(sample.without_file))),
    }
