"""What an ONNX file says of itself, read without torch."""

from pathlib import Path

from segbench.delivery.description import KEY, Description, parse_description
from segbench.errors import InputError

MOST_BYTES = 2**31 - 1
"""Of a file that protobuf reads."""


def need(package: str) -> None:
    """Raise InputError unless a package of the extra `delivery` is installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise InputError(f"{package} is not installed; run: pip install -e '.[delivery]'")


def read_description(path: Path) -> Description:
    """What an ONNX file says of itself; nothing of it is run.

    Raises:
        InputError: if it is no ONNX file of segbench, or keeps weights in other files.
    """
    need("onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if not 0 < path.stat().st_size <= MOST_BYTES:
            raise ValueError("empty, or larger than 2 GiB")
        model = onnx.load_model(path, load_external_data=False)
    except (OSError, ValueError, DecodeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(f"{path}: no ONNX file ({reason})") from None
    if any(onnx.external_data_helper.uses_external_data(one) for one in model.graph.initializer):
        raise InputError(
            f"{path}: keeps weights in other files, which is not read; deliver it anew"
        )
    found = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in found:
        raise InputError(f"{path}: says nothing of itself, so segbench did not deliver it")
    return parse_description(found[KEY], path)
