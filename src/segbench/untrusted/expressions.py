"""Expressions in an exported program, which torch evaluates as Python when it reads them."""

import ast
import re
from collections.abc import Callable
from functools import lru_cache

LONGEST, DEEPEST = 20_000, 60
LARGEST = 1 << 63
SYMBOL = re.compile(r"[su]\d{1,5}|zu[fi]\d{1,3}")
FUNCTIONS = {
    *("Add", "Mul", "Mod", "Max", "Min", "Abs", "ceiling", "floor", "Piecewise", "Tuple"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan"),
    *("StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "ExprCondPair"),
    *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt"),
    *("CeilDiv", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt"),
    *("ToFloat", "Identity"),
}
"""Of sympy and torch, of numbers and symbols. None raises to a power or shifts, which makes numbers
of any length."""
OF_SIZES = {
    *("max", "min", "int", "float", "abs", "math.ceil", "math.floor", "math.trunc", "math.sqrt"),
    *(f"torch.sym_{name}" for name in ("max", "min", "int", "float", "not", "ite", "sum")),
}
NUMBERS = {"Integer", "Rational", "Float"}
NAMES = {"true", "false", "oo", "int_oo"}
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Div, ast.Mod)
COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
SIGNS = (ast.USub, ast.UAdd, ast.Not)

PartsOf = Callable[[ast.expr], list[ast.expr] | None]
"""What is to be checked below a node that is neither number, sign nor symbol; None: refuse it."""


@lru_cache(maxsize=10_000)
def check_symbolic(text: str) -> None:
    """Raise ValueError unless a text is a formula of sizes, in sympy's words or in signs.

    `Mul(Integer(32), Symbol('s89', positive=True, integer=True))` is one, and so is `32*s89`.
    """
    _check(_parsed(text), _of_sympy)


@lru_cache(maxsize=10_000)
def check_guard(text: str) -> None:
    """Raise ValueError unless a text compares sizes of inputs: `L['images'].size()[2] > 1`."""
    _check(_parsed(text), _of_input)


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST or not text.isascii() or not text.isprintable():
        raise ValueError(f"no formula of sizes: {text[:60]!r}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"no formula of sizes: {text[:60]!r}") from None


def _check(node: ast.expr, parts_of: PartsOf, depth: int = 0) -> None:
    parts: list[ast.expr]
    match node:
        case _ if depth > DEEPEST:
            parts, fine = [], False
        case ast.Constant(value=bool() | int() | float() as value):
            parts, fine = [], abs(value) <= LARGEST
        case ast.Name(id=name):
            parts, fine = [], name in NAMES or bool(SYMBOL.fullmatch(name))
        case ast.BinOp(left=left, op=op, right=right):
            parts, fine = [left, right], isinstance(op, ARITHMETIC)
        case ast.UnaryOp(op=op, operand=operand):
            parts, fine = [operand], isinstance(op, SIGNS)
        case ast.BoolOp(values=values):
            parts, fine = values, True
        case ast.Compare(left=left, ops=ops, comparators=others):
            parts, fine = [left, *others], all(isinstance(op, COMPARED) for op in ops)
        case _:
            found = parts_of(node)
            parts, fine = found or [], found is not None
    if not fine:
        raise ValueError(f"no formula of sizes: {ast.unparse(node)[:60]!r}")
    for part in parts:
        _check(part, parts_of, depth + 1)


def _of_sympy(node: ast.expr) -> list[ast.expr] | None:
    """Arguments of a function of sympy; None for what is none."""
    match node:
        case ast.Call(
            func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)], keywords=words
        ):
            # positive=True and the like.
            known = all(isinstance(word.value, ast.Constant) and word.arg for word in words)
            return [] if known and SYMBOL.fullmatch(name) else None
        case ast.Call(
            func=ast.Name(id="Pow"), args=[base, ast.Call(func=ast.Name(id="Integer")) as power]
        ):
            small = [ast.unparse(power.args[0])] if len(power.args) == 1 else []
            return [base] if small and small[0] in ("-2", "-1", "2") else None
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return args
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in NUMBERS:
            return (
                args if all(isinstance(one, ast.Constant | ast.UnaryOp) for one in args) else None
            )
    return None


def _of_input(node: ast.expr) -> list[ast.expr] | None:
    """Nothing for the size of an input or the arguments of `max`; None for all else."""
    match node:
        case ast.Subscript(
            value=ast.Call(
                func=ast.Attribute(
                    value=ast.Subscript(
                        value=ast.Name(id="L"), slice=ast.Constant(value=str() as name)
                    ),
                    attr="size",
                ),
                args=[],
                keywords=[],
            ),
            slice=ast.Constant(value=int()),
        ):
            return [] if name.isidentifier() else None
        case ast.Call(func=func, args=args, keywords=[]) if ast.unparse(func) in OF_SIZES:
            return args
    return None
