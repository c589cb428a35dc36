"""Which files of the library a file imports."""

import ast
from pathlib import Path

from support.params import ROOT

SOURCE = ROOT / "src" / "segbench"


class WithoutTypes(ast.NodeTransformer):
    """Drops what is imported for type checkers only, which changes no number."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def imported(path: Path, source: Path = SOURCE) -> set[Path]:
    """Files of the library in `source` that a file imports, anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(WithoutTypes().visit(ast.parse(path.read_text()))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            names = [node.value.partition(":")[0]]  # what stage.main is told to import
        for name in names:
            if name.split(".")[0] == "segbench":
                place = source.joinpath(*name.split(".")[1:])
                found |= {
                    file
                    for file in (place.with_suffix(".py"), place / "__init__.py")
                    if file.exists()
                }
    return found
