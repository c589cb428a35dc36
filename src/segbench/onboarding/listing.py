"""What lies below a folder, by name: files that may be images or masks, and all others."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segbench.datasets.patterns import files_below
from segbench.errors import InputError

IMAGE_ENDINGS = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jp2", ".tif", ".tiff", ".bmp", ".dib"),
        *(".gif", ".webp", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    }
)
# What is known of files that hold images or masks in another form: how they are called, and the
# way out.
VOLUMES = (".nii", ".nii.gz", ".dcm", ".mha", ".mhd", ".nrrd", ".npy", ".npz", ".mat", ".h5")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".rar", ".7z")
# Of a JSON file, as much as tells its kind.
BEGINNING = 4096
# Files that are opened to learn their kind.
MOST_OPENED = 5
DRAW = "draw each as a mask file (docs/own-images.md shows how in a few lines)"


@dataclass(frozen=True)
class Listing:
    """The files of a dataset.

    Attributes:
        folder: where they lie.
        images: names relative to it, in order, of all that may be images or masks.
        others: names of all other files.
    """

    folder: Path
    images: list[str]
    others: list[str]


def list_files(folder: Path) -> Listing:
    """List the files below a folder, but hidden ones.

    Raises:
        InputError: if there is no file that may be an image.
    """
    length = len(str(folder)) + 1
    names = sorted(str(path)[length:] for path in files_below(folder))
    images = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS]
    found = Listing(folder, images, sorted(set(names) - set(images)))
    if not names:
        raise InputError(f"{folder}: holds no files; name the folder or archive with your images")
    if not images:
        raise InputError(f"{folder}: holds no images{_of_other_kinds(found)}")
    return found


def annotations(listing: Listing) -> str:
    """What holds the annotations, if it is no mask file: in words, with the way out; or empty."""
    jsons = [name for name in listing.others if name.lower().endswith(".json")]
    kinds = Counter(filter(None, (_json_kind(listing.folder / name) for name in _some(jsons))))
    if kinds:
        kind, _ = kinds.most_common(1)[0]
        example = next(name for name in jsons if _json_kind(listing.folder / name) == kind)
        return f"its annotations are {kind} ({example}), not mask files; {DRAW}"
    endings = Counter(PurePosixPath(name).suffix.lower() for name in listing.others)
    if endings[".xml"] > 0.5 * len(listing.images):
        return "its .xml files are boxes or polygons (Pascal VOC, CVAT), not mask files; " + DRAW
    if endings[".txt"] > 0.5 * len(listing.images):
        return f"its .txt files look like YOLO labels, not mask files; {DRAW}"
    return ""


def _of_other_kinds(listing: Listing) -> str:
    """What there is in place of images, and the way out."""
    names = [name.lower() for name in listing.others]
    for endings, what, way_out in (
        (VOLUMES, "volumes or arrays", "write their slices as PNG or TIFF files, a folder each"),
        (ARCHIVES, "archives", "unpack them, and name the folder"),
    ):
        count = sum(name.endswith(endings) for name in names)
        if count:
            example = next(name for name in listing.others if name.lower().endswith(endings))
            return f", but {count} {what} such as {example}; {way_out}"
    return (
        f", but {len(names)} other files such as {listing.others[0]}; it takes what Pillow reads: "
        "PNG, JPEG, TIFF, BMP, ..."
    )


def _some(names: list[str]) -> list[str]:
    """A few of many, evenly spread."""
    return names[:: max(1, len(names) // MOST_OPENED)][: MOST_OPENED + 1]


def _json_kind(path: Path) -> str:
    """Which tool wrote a JSON file of annotations; empty if none that is known."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(BEGINNING)
            if not text.lstrip().startswith("{"):
                return ""
            if len(text) == BEGINNING:  # the keys that tell stand at the end, too
                file.seek(0, 2)
                file.seek(max(BEGINNING, file.tell() - BEGINNING))
                text += file.read()
    except OSError:
        return ""
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    if {"images", "annotations"} <= keys or {"annotations", "categories"} <= keys:
        return "COCO"
    if {"segmentation", "category_id"} <= keys:
        return "COCO"
    if {"shapes", "imagePath"} <= keys:
        return "LabelMe"
    if "classTitle" in keys or {"objects", "size", "tags"} <= keys:
        return "Supervisely"
    if {"regions", "filename"} <= keys or "_via_img_metadata" in keys:
        return "VGG Image Annotator"
    if {"imgHeight", "imgWidth", "objects"} <= keys:
        return "Cityscapes polygons"
    return ""
