"""An exported program from a stranger runs nothing of theirs: it is refused in one line."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segbench.errors import InputError
from segbench.exports.program import load_exported
from support.hostile import Parts, code, dumped, edit, pickled, small_program, write_program

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
IMAGES = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return small_program(tmp_path_factory.mktemp("program"))


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that what must not run would make; also importing `imported_canary` makes it."""
    (tmp_path / "imported_canary.py").write_text(
        f"open({str(tmp_path / 'canary')!r}, 'w').close()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "canary"


def _example_inputs(parts: Parts, canary: Path) -> None:
    parts["data/sample_inputs/model.pt"] = pickled(canary)


def _pickled_weight(parts: Parts, canary: Path) -> None:
    edit(parts, WEIGHTS, lambda tree: tree["config"]["conv.bias"].update(use_pickle=True))
    name = json.loads(parts[WEIGHTS])["config"]["conv.bias"]["path_name"]
    parts[f"data/weights/{name}"] = pickled(canary)


def _pickled_constant(parts: Parts, canary: Path) -> None:
    edit(parts, CONSTANTS, lambda tree: tree["config"]["mean"].update(use_pickle=True))
    parts["data/constants/tensor_0"] = pickled(canary)


def _object(parts: Parts, canary: Path) -> None:
    edit(parts, CONSTANTS, lambda tree: tree["config"]["mean"].update(path_name="opaque_obj_0"))
    edit(parts, CONSTANTS, lambda tree: tree["config"]["mean"].update(use_pickle=True))
    parts["data/constants/opaque_obj_0"] = dumped(canary)


def _former_weights(parts: Parts, canary: Path) -> None:
    parts["data/weights/model.pt"] = pickled(canary)


def _former_constants(parts: Parts, canary: Path) -> None:
    parts["data/constants/model.pt"] = pickled(canary)


def _size(parts: Parts, canary: Path) -> None:
    def change(tree: Any) -> None:
        meta = tree["graph_module"]["graph"]["tensor_values"]["images"]
        meta["sizes"][0]["as_expr"]["expr_str"] = code(canary)

    edit(parts, MODEL, change)


def _guard(parts: Parts, canary: Path) -> None:
    edit(parts, MODEL, lambda tree: tree.update(guards_code=[f"{code(canary)} is None"]))


def _argument_name(parts: Parts, canary: Path) -> None:
    parts[MODEL] = parts[MODEL].replace(b'"images"', json.dumps(f"images={code(canary)}").encode())


def _file_operator(parts: Parts, canary: Path) -> None:
    def change(tree: Any) -> None:
        graph = tree["graph_module"]["graph"]
        node = next(one for one in graph["nodes"] if "relu" in one["target"])
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(canary)}, "kind": 1},
            {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
            {"name": "size", "arg": {"as_int": 16}, "kind": 1},
        ]

    edit(parts, MODEL, change)


def _tree_of_inputs(parts: Parts, canary: Path) -> None:
    """An enum names the module that has it."""
    context = json.dumps([{"__enum__": True, "fqn": "imported_canary:Kind", "name": "A"}])
    leaf = {"type": None, "context": None, "children_spec": []}
    keys = {"type": "builtins.dict", "context": context, "children_spec": [leaf]}

    def change(tree: Any) -> None:
        signature = tree["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, keys])

    edit(parts, MODEL, change)


RUN = [
    *(_example_inputs, _pickled_weight, _pickled_constant, _object, _former_weights),
    *(_former_constants, _size, _guard, _argument_name, _file_operator),
    _tree_of_inputs,
]
"""What torch runs when it reads or calls them."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prepare", RUN)
def test_what_torch_would_run_is_refused(
    prepare: Callable[[Parts, Path], None], program: Parts, canary: Path
) -> None:
    parts = dict(program)
    prepare(parts, canary)
    path = write_program(canary.with_name("model.pt2"), parts)
    said = ""
    try:  # torch alone runs it, so this is an attack
        torch.export.load(path).module()(IMAGES)
    except Exception as problem:  # what it makes of it then does not matter
        said = repr(problem)
    assert canary.exists(), said
    canary.rmdir() if canary.is_dir() else canary.unlink()
    refused(path)
    assert not canary.exists()


def _operator(parts: Parts, canary: Path) -> None:
    def change(tree: Any) -> None:
        graph = tree["graph_module"]["graph"]
        first = json.loads(json.dumps(graph["nodes"][-1]))
        first["target"] = "torch.serialization.os.mkdir"
        first["inputs"] = [{"name": "", "arg": {"as_string": str(canary)}, "kind": 1}]
        first["outputs"], first["name"] = [{"as_none": True}], "made"
        graph["nodes"].append(first)

    edit(parts, MODEL, change)


def _library(parts: Parts, canary: Path) -> None:
    parts["data/aotinductor/model/model.so"] = b"\x7fELF"


def _terabyte(parts: Parts, canary: Path) -> None:
    """A weight without bytes is made of zeros."""

    def change(tree: Any) -> None:
        tree["config"]["conv.bias"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}]

    edit(parts, WEIGHTS, change)
    name = json.loads(parts[WEIGHTS])["config"]["conv.bias"]["path_name"]
    parts[f"data/weights/{name}"] = b""


def _beyond(parts: Parts, canary: Path) -> None:
    """A weight that begins behind its bytes."""

    def change(tree: Any) -> None:
        tree["config"]["conv.bias"]["tensor_meta"]["storage_offset"] = {"as_int": 1 << 20}

    edit(parts, WEIGHTS, change)


def _way_out(parts: Parts, canary: Path) -> None:
    edit(parts, WEIGHTS, lambda tree: tree["config"]["conv.bias"].update(path_name="../../x"))


def _large_power(parts: Parts, canary: Path) -> None:
    def change(tree: Any) -> None:
        meta = tree["graph_module"]["graph"]["tensor_values"]["images"]
        meta["sizes"][0]["as_expr"]["expr_str"] = "Pow(Integer(9), Pow(Integer(9), Integer(99)))"

    edit(parts, MODEL, change)


def _many_symbols(parts: Parts, canary: Path) -> None:
    """torch counts up to the number in a symbol's name."""

    def change(tree: Any) -> None:
        tree["range_constraints"]["u99999999999"] = {"min_val": 0, "max_val": 1}

    edit(parts, MODEL, change)


def _deep(parts: Parts, canary: Path) -> None:
    parts[MODEL] = b"[" * 100_000


def _stranger(parts: Parts, canary: Path) -> None:
    parts["data/../../../canary"] = b""


@pytest.mark.parametrize(
    "prepare",
    [
        *(_operator, _library, _terabyte, _beyond, _way_out, _large_power, _many_symbols, _deep),
        _stranger,
    ],
)
def test_what_a_network_does_not_need_is_refused(
    prepare: Callable[[Parts, Path], None], program: Parts, canary: Path
) -> None:
    parts = dict(program)
    prepare(parts, canary)
    refused(write_program(canary.with_name("model.pt2"), parts))
    assert not canary.exists()


def test_an_archive_that_other_readers_may_take_for_another_is_refused(
    program: Parts, tmp_path: Path
) -> None:
    good = write_program(tmp_path / "model.pt2", program)
    load_exported(good)
    data = good.read_bytes()
    packed = write_program(tmp_path / "packed.pt2", program, zipfile.ZIP_DEFLATED)
    refused(packed, "packed")
    twice = tmp_path / "twice.pt2"
    twice.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(twice, "a") as archive:
            archive.writestr("model/byteorder", "little")
    refused(twice, "twice")
    for name, content in (
        ("prefixed", b"PK" + data),
        ("followed", data + b"more"),
        ("behind", data + data),
        ("torn", data[: len(data) // 2]),
        ("empty", b""),
        ("renamed", data.replace(b"model/byteorder", b"model/byteordes", 1)),
        ("flipped", data.replace(program["data/weights/weight_0"], b"\0" * 108, 1)),
    ):
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(content)
        refused(path)


def test_the_former_format_whose_parts_are_unpickled_is_refused(canary: Path) -> None:
    path = canary.with_name("model.pt2")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.20")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled(canary))
        archive.writestr("serialized_exported_program.json", "{}")
    refused(path)
    assert not canary.exists()


def refused(path: Path, why: str = "") -> None:
    """Assert that it is, in one line."""
    with pytest.raises(
        InputError, match=r"\.pt2: not read, since it is not what segbench"
    ) as raised:
        load_exported(path)
    assert "\n" not in str(raised.value)
    assert why in str(raised.value)
