"""What an ONNX file says of itself, read without torch."""

from pathlib import Path

from segbench.errors import InputError
from segbench.exports.description import KEY, Description, parse_description
from segbench.exports.packages import need
from segbench.untrusted.onnx_file import checked_onnx


def read_description(path: Path) -> Description:
    """What an ONNX file says of itself; nothing of it is run.

    Raises:
        InputError: if it is no ONNX file of segbench, or keeps weights in other files.
    """
    need("onnx")
    model = checked_onnx(path)
    found = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in found:
        raise InputError(f"{path}: says nothing of itself, so segbench did not deliver it")
    return parse_description(found[KEY], path)
