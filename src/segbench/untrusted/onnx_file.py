"""ONNX files, checked before a runtime reads them: standard operators, and no other file."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import InputError

if TYPE_CHECKING:
    import onnx

STANDARD = ("", "ai.onnx")
UNBOUNDED = ("Loop", "Scan", "SequenceMap")
"""Operators that repeat a part as often as they are told."""
MOST_BYTES = (1 << 31) - 1
"""Of a file that protobuf reads."""
MOST_NODES = 100_000
UNREADABLE = (ValueError, RuntimeError, RecursionError, TypeError)


def checked_onnx(path: Path) -> "onnx.ModelProto":
    """Read an ONNX file that no runtime would read another file for, or other code.

    Running it may still take any time and memory.

    Raises:
        InputError: for one that is torn, has weights elsewhere or in another size than they are,
            or operators that are not ONNX's own.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(
            f"{path}: onnx, which reads it, is not installed; run: pip install -e '.[delivery]'"
        ) from None
    from google.protobuf.message import DecodeError

    try:
        if not 0 < path.stat().st_size <= MOST_BYTES:
            raise ValueError("it is empty, or larger than 2 GiB")
        try:
            model = onnx.load_model(path, load_external_data=False)
        except DecodeError:
            raise ValueError("it is no ONNX file") from None
        _check(model)
        onnx.checker.check_model(model)
    except OSError as problem:
        raise InputError(f"{path}: unreadable ({problem.strerror}); name an ONNX file") from None
    except (*UNREADABLE, onnx.checker.ValidationError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(
            f"{path}: not read, since it is no network that 'segbench deliver' writes: {reason}; "
            "have it delivered anew"
        ) from None
    return model


def _check(model: "onnx.ModelProto") -> None:
    own = {function.domain for function in model.functions}
    for domain in (entry.domain for entry in model.opset_import):
        if domain not in STANDARD and domain not in own:
            raise ValueError(f"it has operators of {domain[:60]!r}")
    known = {(function.domain, function.name) for function in model.functions}
    parts: list[Any] = [model.graph, *model.functions]
    number = 0
    while parts:
        part = parts.pop()
        for tensor in getattr(part, "initializer", ()):
            _check_tensor(tensor)
        if len(getattr(part, "sparse_initializer", ())):
            raise ValueError("it has sparse weights")
        for node in part.node:
            number += 1
            if number > MOST_NODES:
                raise ValueError(f"it has more than {MOST_NODES} nodes")
            if node.op_type in UNBOUNDED:
                raise ValueError(f"it has the operator {node.op_type}")
            if node.domain not in STANDARD and (node.domain, node.op_type) not in known:
                raise ValueError(f"it has the operator {node.domain[:40]}.{node.op_type[:40]}")
            parts += _below(node)


def _below(node: "onnx.NodeProto") -> Iterator[Any]:
    """Graphs among the attributes of a node, whose tensors are checked."""
    for attribute in node.attribute:
        for tensor in (attribute.t, *attribute.tensors):
            _check_tensor(tensor)
        if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
            raise ValueError("it has sparse weights")
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_tensor(tensor: "onnx.TensorProto") -> None:
    import onnx

    if tensor.data_location != onnx.TensorProto.DEFAULT or len(tensor.external_data):
        place = next((one.value for one in tensor.external_data if one.key == "location"), "")
        raise ValueError(f"weights {tensor.name[:60]!r} are in other files: {place[:80]!r}")
    if tensor.data_type == onnx.TensorProto.UNDEFINED:
        return  # of an attribute that is none
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"weights {tensor.name[:60]!r} have a size below 0")
    numbers = math.prod(tensor.dims)
    held = max(
        len(tensor.raw_data) * 8,
        *(8 * 8 * len(field) for field in (tensor.int64_data, tensor.double_data)),
        *(8 * 8 * len(field) for field in (tensor.float_data, tensor.int32_data)),
        *(8 * 8 * len(field) for field in (tensor.uint64_data, tensor.string_data)),
    )
    if numbers > held:
        raise ValueError(f"weights {tensor.name[:60]!r} say {numbers} numbers and hold fewer")
