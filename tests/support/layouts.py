"""Folders of images and masks as people have them, with the class ids that each mask means."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segbench.images import Pixels

HEIGHT, WIDTH = 40, 56
Truth = dict[str, Pixels]
"""Class ids (H, W) by the sample's name."""


def image_of(seed: int, mask: Pixels | None = None, scene: int | None = None) -> Pixels:
    """(H, W, 3): a scene with a little noise of its own, brighter where there is an object."""
    shape = (HEIGHT, WIDTH) if mask is None else mask.shape
    scenes = np.random.default_rng(1000 + (seed if scene is None else scene))
    rough = scenes.integers(30, 180, (5, 7, 3), dtype=np.uint8)
    picture = cv2.resize(rough, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    picture += np.random.default_rng(seed).integers(-12, 12, (*shape, 3))
    if mask is not None:
        picture[mask > 0] += 60
    return picture.clip(0, 255).astype(np.uint8)


def mask_of(seed: int, num_classes: int = 2, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """(H, W) class ids: a blob of every class but the background, none over another."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    step = width // (num_classes - 1)
    for class_id in range(1, num_classes):
        middle = (step * (class_id - 1) + step // 2, int(rng.integers(12, height - 12)))
        axes = tuple(
            int(axis) for axis in rng.integers(min(5, step // 2 - 2), min(9, step // 2), 2)
        )
        cv2.ellipse(mask, middle, axes, 0.0, 0.0, 360.0, class_id, -1)
    return mask


def put(path: Path, pixels: Pixels | Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def flat(folder: Path) -> Truth:
    """images/x.jpg and masks/x.png."""
    truth = {f"crack{at:02d}": mask_of(at) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / "images" / f"{id}.jpg", image_of(at, mask))
        put(folder / "masks" / f"{id}.png", mask * 255)
    return truth


def suffix_in_one_folder(folder: Path) -> Truth:
    """x.jpg and x_segmentation.png, side by side."""
    truth = {f"ISIC_00{at:02d}": mask_of(at) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / f"{id}.jpg", image_of(at, mask))
        put(folder / f"{id}_segmentation.png", mask * 255)
    return truth


def folder_per_patient(folder: Path) -> Truth:
    """p1/images/01.png and p1/masks/01.png; slices of one patient are alike."""
    truth = {}
    for patient in range(8):
        for at in range(4):
            seed = 10 * patient + at
            mask = truth[f"p{patient}_{at:02d}"] = mask_of(seed)
            put(folder / f"p{patient}" / "images" / f"{at:02d}.png", image_of(seed, mask, patient))
            put(folder / f"p{patient}" / "masks" / f"{at:02d}.png", mask * 255)
    return truth


def frames_of_sequences(folder: Path) -> Truth:
    """frames/seq_3_frame_001.png, and the same below labels; values are class ids."""
    truth = {}
    for sequence in range(7):
        for at in range(4):
            seed = 10 * sequence + at
            id = f"seq_{sequence}_frame_{at:03d}"
            mask = truth[id] = mask_of(seed, 3)
            put(folder / "frames" / f"{id}.png", image_of(seed, mask, sequence))
            put(folder / "labels" / f"{id}.png", mask)
    return truth


def file_per_class(folder: Path) -> Truth:
    """images/x.jpg, masks/crack/x.png and masks/spall/x.png."""
    truth = {f"wall{at}": mask_of(at, 3) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / "images" / f"{id}.jpg", image_of(at, mask))
        for class_id, name in enumerate(("crack", "spall"), start=1):
            put(folder / "masks" / name / f"{id}.png", (mask == class_id).astype(np.uint8) * 255)
    return truth


def mask_per_object(folder: Path) -> Truth:
    """{id}/images/{id}.png and {id}/masks/{hash}.png, one for each nucleus."""
    truth = {}
    for at in range(8):
        id = f"{at * 7919 + 10**9:032x}"
        parts = mask_of(at, 4)
        truth[id] = (parts > 0).astype(np.uint8)
        put(folder / id / "images" / f"{id}.png", image_of(at, parts))
        for part in range(1, 4):
            name = f"{part * 104729 + at:032x}.png"
            put(folder / id / "masks" / name, (parts == part).astype(np.uint8) * 255)
    return truth


def published_split(folder: Path) -> Truth:
    """train/images, valid/images, test/images, and masks likewise."""
    truth = {}
    for start, (split, count) in enumerate((("train", 8), ("valid", 3), ("test", 3))):
        for at in range(count):
            seed = 100 * start + at
            mask = truth[f"{split}_{at}"] = mask_of(seed)
            put(folder / split / "images" / f"{at}.png", image_of(seed, mask))
            put(folder / split / "masks" / f"{at}.png", mask * 255)
    return truth


COLOURS = np.array([[0, 0, 0], [200, 30, 30], [20, 220, 60]], np.uint8)


def differing_palettes(folder: Path) -> Truth:
    """Palette masks, whose tool gave every file a palette of its own."""
    truth = {f"{at:03d}": mask_of(at, 3) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        order = np.random.default_rng(at).permutation(3)
        image = Image.fromarray(order.argsort()[mask].astype(np.uint8), "P")
        image.putpalette(COLOURS[order].ravel().tolist())
        put(folder / "images" / f"{id}.png", image_of(at, mask))
        put(folder / "masks" / f"{id}.png", image)
    return truth


def colours(folder: Path) -> Truth:
    """RGB masks of three colours."""
    truth = {f"{at:03d}": mask_of(at, 3) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / "images" / f"{id}.png", image_of(at, mask))
        put(folder / "masks" / f"{id}.png", COLOURS[mask])
    return truth


def deep_images(folder: Path) -> Truth:
    """16-bit images of values up to 4095."""
    truth = {f"{at:03d}": mask_of(at) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        grey = image_of(at, mask)[..., 0].astype(np.uint16) * 16
        put(folder / "images" / f"{id}.png", grey)
        put(folder / "masks" / f"{id}.png", mask * 255)
    return truth


def objects(folder: Path) -> Truth:
    """16-bit masks in which every object has a number."""
    truth = {}
    for at in range(8):
        parts = mask_of(at, 4 + at % 3)
        truth[f"{at:03d}"] = (parts > 0).astype(np.uint8)
        put(folder / "images" / f"{at:03d}.png", image_of(at, parts))
        put(folder / "labels" / f"{at:03d}.png", parts.astype(np.uint16))
    return truth


def in_alpha(folder: Path) -> Truth:
    """Cut-outs: the mask is what is opaque."""
    truth = {f"leaf{at}": mask_of(at) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / f"{id}.png", np.dstack([image_of(at, mask), mask * 255]))
    return truth


def field_of_view(folder: Path) -> Truth:
    """As DRIVE: images, 1st_manual, and mask, which is the field of view."""
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(inside, (WIDTH // 2, HEIGHT // 2), 19, 255, -1)
    truth = {}
    for at in range(21, 29):
        mask = mask_of(at) * (inside > 0)
        truth[f"{at}"] = np.where(inside > 0, mask, 255).astype(np.uint8)
        put(folder / "images" / f"{at}_training.tif", image_of(at, mask))
        put(folder / "1st_manual" / f"{at}_manual1.gif", mask * 255)
        put(folder / "mask" / f"{at}_training_mask.gif", inside)
    return truth


def stored_on_their_side(folder: Path) -> Truth:
    """EXIF says to turn the images; their masks were drawn on the stored pixels, without EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 3
    truth = {f"phone{at}": mask_of(at) for at in range(8)}
    for at, (id, mask) in enumerate(truth.items()):
        put(folder / "images" / f"{id}.jpg", image_of(at, mask), exif=exif, quality=95)
        put(folder / "masks" / f"{id}.png", mask * 255)
    return truth


LAYOUTS: dict[str, Callable[[Path], Truth]] = {
    make.__name__: make
    for make in (
        *(flat, suffix_in_one_folder, folder_per_patient, frames_of_sequences, file_per_class),
        *(mask_per_object, published_split, differing_palettes, colours, deep_images, objects),
        *(in_alpha, field_of_view, stored_on_their_side),
    )
}
