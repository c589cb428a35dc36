"""The code of a served model: a script and the modules that it imports, as a package of its own."""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1]
SCRIPT = SOURCE / "serving" / "script.py"
PACKAGE = SOURCE.name
IMPORT = re.compile(rf"^( *(?:from|import) ){PACKAGE}\b", re.MULTILINE)


def write_code(script: Path, folder: Path) -> None:
    """Write the script of a served model, and the modules of the library that it imports.

    They form a package named by its content: models of several versions load side by side in one
    process, and none of them takes the place of an installed library.

    Args:
        script: is written.
        folder: that will be on Python's path; receives the package.
    """
    modules = {path.relative_to(SOURCE): path.read_text() for path in _closure()}
    content = "".join(f"{path}\n{text}" for path, text in sorted(modules.items()))
    name = f"{PACKAGE}_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    for path, text in modules.items():
        target = folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_renamed(text, name))
    script.write_text(_renamed(SCRIPT.read_text(), name))


def data_format(network: Path) -> dict[str, Any]:
    """How a served model reads images and stores masks.

    Args:
        network: an ONNX file that `exports.onnx` wrote.

    Returns:
        JSON: `megapixels` of an image at most; `bands`, `value_range` and `turn` of images; for
        each class id what stands in a mask's file (`values`), the colours of that (`palette`, or
        null), and whether it is its alpha channel (`alpha`).

    Raises:
        InputError: for a file of another kind, or with weights elsewhere.
    """
    from segbench.exports.formats import DataFormat  # here: reading datasets takes a while
    from segbench.exports.onnx_file import read_description

    about = read_description(network)
    found = DataFormat.of(about.data, len(about.classes))
    return {
        "megapixels": found.megapixels,
        "bands": found.bands,
        "value_range": found.value_range,
        "turn": found.turn,
        "values": found.values.tolist(),
        "palette": None if found.palette is None else found.palette.tolist(),
        "alpha": found.alpha,
    }


def _renamed(text: str, name: str) -> str:
    return IMPORT.sub(rf"\g<1>{name}", text)


def _closure() -> set[Path]:
    """Files of the library that the script imports, directly or not, with those of their packages.

    What is imported for type checkers alone, behind `if TYPE_CHECKING`, is not needed.
    """
    found: set[Path] = set()
    waiting = {SCRIPT}
    while waiting:
        path = waiting.pop()
        found.add(path)
        inits = {folder / "__init__.py" for folder in path.parents if SOURCE in folder.parents}
        waiting |= ({*_imported(path), *inits, SOURCE / "__init__.py"}) - found
    return found - {SCRIPT}


def _imported(path: Path) -> Iterator[Path]:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            assert node.module is not None
            yield SOURCE.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
