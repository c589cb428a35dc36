"""The few lines that call a delivered model, which need no segbench."""

from segbench.exports.description import Description
from segbench.exports.formats import DataFormat

LINES = """\
import json, sys
import cv2, numpy, onnxruntime

model = onnxruntime.InferenceSession("model.onnx")
about = json.loads(model.get_modelmeta().custom_metadata_map["segbench"])
{read}size, own = (about["width"], about["height"]), image.shape[1::-1]
shrinks = size[0] <= own[0] and size[1] <= own[1]
how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
small = {small}
batch = small.reshape(1, size[1], size[0], -1).transpose(0, 3, 1, 2)
planes = model.run(["probs"], {{"images": batch}})[0][0].astype("float32")
planes = [cv2.resize(plane, own, interpolation=cv2.INTER_LINEAR) for plane in planes]
mask = {mask}
{components}cv2.imwrite(sys.argv[2], mask.astype("uint8"))
"""
FILE = """\
image = cv2.imread(sys.argv[1], {flags})
if image is None:
    sys.exit(f"{{sys.argv[1]}}: no image that OpenCV reads")
"""
ARRAY = """\
# {bands}
image = numpy.load(sys.argv[1])
"""
EIGHT_BITS = """\
if image.dtype != "uint8":
    sys.exit(f"{sys.argv[1]}: more than 8 bits a channel, which training did not take")
"""
SCALED = """\
if image.dtype != "uint8":
    low, high = numpy.array({value_range}).T  # they become 0 and 255
    image = (image.astype("float32") - numpy.float32(low)) * numpy.float32(255 / (high - low))
    image = numpy.rint(image.clip(0, 255)).astype("uint8")
"""
COLOUR = "image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)\n"
WHOLE = "cv2.resize(image, size, interpolation=how)"
BY_BAND = (
    "numpy.dstack([cv2.resize(band, size, interpolation=how) for band in image.transpose(2, 0, 1)])"
)
ONE_CLASS = 'planes[0] >= 256 * about["threshold"]'
CLASSES = "numpy.argmax(planes, axis=0)"
COMPONENTS = """\
least = about["min_size"] * mask.size / (size[0] * size[1])
for id in set(numpy.unique(mask)) - {about["background"]}:
    labels, areas = cv2.connectedComponentsWithStats((mask == id).astype("uint8"))[1:3]
    areas = areas[:, cv2.CC_STAT_AREA] * (numpy.arange(len(areas)) > 0)
    keeps = areas >= max(1, least)
    if about["largest"]:
        keeps &= numpy.arange(len(areas)) == areas.argmax()
    mask = numpy.where((mask == id) & ~keeps[labels], about["background"], mask)
"""
PATCHES = """\
# It was trained on windows of {width}x{height} pixels: give it such windows, not whole images.
# 'segbench predict' cuts larger images into overlapping ones and joins what it gives.
"""


def usage(description: Description) -> str:
    """A script that writes the mask of an image: `python use.py IMAGE MASK.png`.

    It reads images as training did; where bands were chosen, an array in their place. Values of the
    mask are class ids. It needs numpy, OpenCV and ONNX Runtime.
    """
    lines = LINES.format(
        read=_read(description),
        small=WHOLE if description.channels in (1, 3) else BY_BAND,
        mask=ONE_CLASS if description.scheme.is_binary else CLASSES,
        components=COMPONENTS if description.rule.removes_components else "",
    )
    patches = description.patches
    warned = (
        PATCHES.format(width=patches.width, height=patches.height) if patches is not None else ""
    )
    return f'"""Writes the mask of an image: python use.py IMAGE MASK.png"""\n\n{warned}{lines}'


def _read(description: Description) -> str:
    """Lines that read the pixels (H, W), or (H, W, C), as training did."""
    data, channels = DataFormat.of(description.data, len(description.classes)), description.channels
    deep = EIGHT_BITS if data.value_range is None else SCALED.format(value_range=data.value_range)
    if data.bands or channels not in (1, 3):
        shape = "(height, width)" if channels == 1 else f"(height, width, {channels})"
        bands = f"The image is an array in a .npy file, {shape}"
        if data.bands:
            numbers = ", ".join(map(str, data.bands))
            many = "s" if len(data.bands) > 1 else ""
            how = "upright" if data.turn else "as stored"
            bands += f": band{many} {numbers} of the file, {how}"
        return ARRAY.format(bands=bands) + deep
    flags = ["cv2.IMREAD_COLOR" if channels == 3 else "cv2.IMREAD_GRAYSCALE", "cv2.IMREAD_ANYDEPTH"]
    flags += [] if data.turn else ["cv2.IMREAD_IGNORE_ORIENTATION"]
    return FILE.format(flags=" | ".join(flags)) + deep + (COLOUR if channels == 3 else "")
