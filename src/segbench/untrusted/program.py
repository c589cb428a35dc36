"""Exported programs (pt2): checked part by part before torch reads them.

What torch 2.15 does with one that somebody prepared, in `torch.export.load(...).module()`:

    data/sample_inputs/model.pt             unpickled, without limits if the limited way fails
    data/weights/model.pt, constants/...    likewise, in the former layout
    weights and constants, `use_pickle`     unpickled without limits
    constants/custom_obj_*, opaque_obj_*    unpickled without limits
    data/aotinductor/*                      a shared library is loaded
    any other archive                       the former format, whose parts are unpickled
    models/model.json: `expr_str`           sympy evaluates the text as Python
                       `guards_code`        compiled as Python and run
                       `target`             any function of torch, math or operator by its name
                       names                are written into the source of a function, which is run
                       `in_spec`            imports modules by their names
    sizes of weights                        allocated as they are said

So the parts, operators, formulas and names of one are those listed here, and nothing else.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segbench.errors import InputError
from segbench.untrusted.archives import read_members
from segbench.untrusted.expressions import check_guard, check_symbolic
from segbench.untrusted.pickles import check_pickle

PARTS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version"
    r"|\.data/(version|serialization_id)|byteorder|\.format_version|\.storage_alignment"
    r"|extra/[A-Za-z0-9_.-]{1,64}"
)
EXAMPLE_PARTS = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
EXAMPLE_CALLS = {
    *("collections OrderedDict", "torch._utils _rebuild_tensor_v2"),
    *(f"torch {kind}Storage" for kind in ("Byte", "Char", "Short", "Int", "Long", "Bool")),
    *(f"torch {kind}Storage" for kind in ("Half", "BFloat16", "Float", "Double")),
}
"""What the pickle of the example inputs may call: it is an image."""
ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.[A-Za-z0-9_]+")
OTHER_OPERATORS = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(floor|ceil|trunc|sqrt)|torch\.(_sym_sqrt|sym_(int|float|max|min|not|ite|sum))"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
)
REFUSED_ATEN = re.compile(
    r"(from_file|save|load|record_stream|resize_?|resize_as_?|set_?|set_data|manual_seed|seed)$"
    r"|(mkldnn|miopen|cudnn|fbgemm|quantized|sparse|nested|to_sparse|mps|xnnpack)_"
    r"|_(?!native_batch_norm_legit|scaled_dot_product_|softmax$|log_softmax$|to_copy$|unsafe_view$"
    r"|assert_|adaptive_avg_pool|weight_norm|upsample_|euclidean_dist$|cdist_forward$|fft_"
    r"|trilinear$|reshape_alias$|prelu_kernel$|shape_as_tensor$|conj$|neg_view$)"
)
"""Operators that reach files, memory that is not theirs, or another library's formats."""
WITH_WORDS = re.compile(
    r"(gelu_?|div_?|div_mode|pad|einsum|meshgrid|conv[123]d|bucketize|searchsorted|scatter_reduce_?"
    r"|index_reduce_?|linalg_\w+|norm)$"
)
"""Operators that take a word, such as the kind of padding; a file's name would be one too."""
WORD = re.compile(r"[A-Za-z_]{0,20}|[A-Za-z.,> -]{1,60}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,400}")
DOTTED = re.compile(r"(?!.*(^|\.)__)[A-Za-z0-9_.]{0,400}")
BY_KEY = {
    "name": re.compile(rf"|{NAME.pattern}"),
    "as_name": NAME,
    "forward_arg_names": NAME,
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "fqn"), DOTTED),
    "user_input_name": NAME,
    "type": re.compile("cpu|cuda"),  # of a device
    "torch_version": re.compile(r"[\w.+<>= ]{1,60}"),
    "verifiers": re.compile("TRAINING"),
    "as_float": re.compile("-?Infinity|NaN"),
    "as_floats": re.compile("-?Infinity|NaN"),
}
"""What texts may be, by the key under which they stand."""
NAMED = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")
"""Keys whose values are by the names of nodes."""
EMPTY = ("custom_obj_values", "treespec_namedtuple_fields")
REFUSED = ("as_custom_obj", "as_operator", "as_string_to_argument", "class_fqn")
CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")
LARGEST_EXTRA = 1 << 20
LARGEST_PROGRAM = 256 << 20
ITEM_BYTES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2},
    **{28: 2, 29: 1, 30: 1, 31: 1, 32: 1, 33: 1, 34: 4, 35: 8},
}
"""Bytes of an element, by torch's number of its type."""


def checked_program(path: Path) -> bytes:
    """An exported program's bytes, which are safe to give to `torch.export.load`.

    Running it may still take any time and memory.

    Raises:
        InputError: for one that holds anything that an exported network does not need.
    """
    try:
        data = path.read_bytes()
        check_program(data)
    except OSError as problem:
        raise InputError(
            f"{path}: unreadable ({problem.strerror}); name an exported program"
        ) from None
    except ValueError as problem:
        raise InputError(
            f"{path}: not read, since it is not what segbench exports: "
            f"{' '.join(str(problem).split())[:200]}; ask for the run's weights.safetensors, or "
            "have it exported anew"
        ) from None
    return data


def check_program(data: bytes) -> None:
    """Raise ValueError for an exported program that holds what a network does not need."""
    try:
        _check_parts(data)
    except (KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"a description in it has another form ({problem})") from None


def _check_parts(data: bytes) -> None:
    members = read_members(data)
    for name, content in members.items():
        if not PARTS.fullmatch(name):
            raise ValueError(f"it holds {name[:60]!r}")
        if name.startswith("extra/") and len(content) > LARGEST_EXTRA:
            raise ValueError(f"{name} has more than {LARGEST_EXTRA} bytes")
    for name in ("models/model.json", "archive_format", "data/sample_inputs/model.pt"):
        if name not in members:
            raise ValueError(f"it lacks {name}")
    if members["archive_format"] != b"pt2":
        raise ValueError("it is no pt2 archive")
    if examples := members["data/sample_inputs/model.pt"]:
        _check_examples(examples)
    for folder, kind in (("weights", "weight"), ("constants", "tensor")):
        config = f"data/{folder}/model_{folder}_config.json"
        if config not in members:
            raise ValueError(f"it lacks {config}")
        _check_tensors(_json(members[config]), members, f"data/{folder}/", kind)
    if len(members["models/model.json"]) > LARGEST_PROGRAM:
        raise ValueError(f"its description has more than {LARGEST_PROGRAM} bytes")
    _check_tree(_json(members["models/model.json"]), "", "")


def _json(data: bytes) -> Any:
    tree = json.loads(data)
    if not isinstance(tree, dict):
        raise ValueError("a description in it is no table")
    return tree


def _check_examples(data: bytes) -> None:
    members = read_members(data)
    for name in members:
        if not EXAMPLE_PARTS.fullmatch(name):
            raise ValueError(f"its example inputs hold {name[:60]!r}")
    check_pickle(members.get("data.pkl", b""), EXAMPLE_CALLS)


def _check_tensors(config: Any, members: dict[str, bytes], folder: str, kind: str) -> None:
    """Raise ValueError unless each tensor lies within the bytes of its part."""
    for name, payload in _items(config.get("config")):
        part = payload["path_name"]
        if payload["use_pickle"] or not re.fullmatch(rf"{kind}_\d+", part):
            raise ValueError(f"{name[:60]!r} is pickled")
        meta = payload["tensor_meta"]
        sizes, strides = (
            [_whole(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides")
        )
        offset = _whole(meta["storage_offset"]["as_int"])
        item = ITEM_BYTES.get(_whole(meta["dtype"]), 0)
        last = offset + sum((size - 1) * step for size, step in zip(sizes, strides, strict=True))
        needed = 0 if 0 in sizes else (last + 1) * item
        held = len(members[folder + part]) if folder + part in members else -1
        if not item or held < 0 or needed > held or (held == 0 and sum(sizes) > 1 << 16):
            raise ValueError(f"{name[:60]!r} does not fit the bytes of {part}")
        _check_tree(meta["device"], "device", "")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError(f"{str(value)[:30]!r} is no size")
    return value


def _items(tree: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(tree, dict):
        raise ValueError("a description in it has another form")
    return tree.items()


def _check_tree(tree: Any, key: str, operator: str) -> None:
    """Raise ValueError for a text, name or operator below a key that is none of a network's.

    Args:
        tree: as JSON gives it.
        key: under which it stands.
        operator: whose argument it is; empty: of none.
    """
    if isinstance(tree, list):
        for one in tree:
            _check_tree(one, key, operator)
    elif isinstance(tree, str):
        _check_text(tree, key, operator)
    elif isinstance(tree, dict):
        if (tree and key in EMPTY) or key in REFUSED:
            raise ValueError(f"it has {key}")
        if key == "metadata":
            return  # where a node came from: kept as text
        if key in NAMED:
            for name in tree:
                _check_match(NAME, name, key)
        if key == "range_constraints":
            for name in tree:
                check_symbolic(name)
        if "target" in tree:
            operator = _check_operator(tree["target"])
        for name, value in tree.items():
            if name != "target":
                _check_tree(value, name if key not in NAMED else "", operator)


def _check_operator(target: Any) -> str:
    """The name of an operator; ValueError for one that a network does not need."""
    if not isinstance(target, str):
        raise ValueError("an operator has no name")
    if OTHER_OPERATORS.fullmatch(target):
        return target
    match = ATEN.fullmatch(target)
    if not match or REFUSED_ATEN.match(match[1]):
        raise ValueError(f"it calls {target[:80]!r}")
    return match[1]


def _check_text(text: str, key: str, operator: str) -> None:
    if key == "expr_str":
        check_symbolic(text)
    elif key == "guards_code":
        check_guard(text)
    elif key in ("in_spec", "out_spec"):
        version, tree = json.loads(text)
        if version != 1:
            raise ValueError(f"its {key} has another form")
        _check_container(tree)
    elif key == "as_string":
        autocast = operator.endswith("wrap_with_autocast") and text in ("cpu", "cuda")
        if not autocast and not (WITH_WORDS.match(operator) and WORD.fullmatch(text)):
            raise ValueError(f"{operator or 'it'} is given {text[:60]!r}")
    elif key in BY_KEY:
        _check_match(BY_KEY[key], text, key)
    else:
        raise ValueError(f"it has {key or 'a text'} {text[:60]!r}")


def _check_container(tree: Any) -> None:
    """Raise ValueError unless inputs or outputs are tuples, lists and dicts with names as keys."""
    if tree["type"] is not None:
        if tree["type"] not in CONTAINERS:
            raise ValueError(f"its inputs or outputs are {str(tree['type'])[:60]!r}")
        context = json.loads(tree["context"] or "null")
        for name in context or []:
            _check_match(NAME, name, "inputs")
    for one in tree["children_spec"]:
        _check_container(one)


def _check_match(pattern: re.Pattern[str], text: Any, key: str) -> None:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"it has {key} {str(text)[:60]!r}")
