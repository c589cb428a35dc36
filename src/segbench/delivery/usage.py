"""The few lines that call a delivered model, which need no segbench."""

from segbench.exports.description import Description

READ = {1: "cv2.imread(sys.argv[1], cv2.IMREAD_GRAYSCALE)"}
COLOUR = "cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)"
BANDS = "numpy.load(sys.argv[1])  # (height, width, {channels}) uint8"
LINES = """\
import json, sys
import cv2, numpy, onnxruntime

model = onnxruntime.InferenceSession("model.onnx")
about = json.loads(model.get_modelmeta().custom_metadata_map["segbench"])
image = {read}
size, own = (about["width"], about["height"]), image.shape[1::-1]
shrinks = size[0] <= own[0] and size[1] <= own[1]
how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
small = {small}
batch = small.reshape(1, size[1], size[0], -1).transpose(0, 3, 1, 2)
planes = model.run(["probs"], {{"images": batch}})[0][0].astype("float32")
planes = [cv2.resize(plane, own, interpolation=cv2.INTER_LINEAR) for plane in planes]
mask = {mask}
{components}cv2.imwrite(sys.argv[2], mask.astype("uint8"))
"""
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

    Its values are class ids. It needs numpy, OpenCV and ONNX Runtime.
    """
    known = description.channels in (1, 3)
    lines = LINES.format(
        read=READ.get(description.channels, COLOUR)
        if known
        else BANDS.format(channels=description.channels),
        small=WHOLE if known else BY_BAND,
        mask=ONE_CLASS if description.scheme.is_binary else CLASSES,
        components=COMPONENTS if description.rule.removes_components else "",
    )
    patches = description.patches
    warned = (
        PATCHES.format(width=patches.width, height=patches.height) if patches is not None else ""
    )
    return f'"""Writes the mask of an image: python use.py IMAGE MASK.png"""\n\n{warned}{lines}'
