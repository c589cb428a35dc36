"""Pickles, looked at without being read: which names of Python they call for."""

import pickletools
from collections.abc import Set

PLAIN = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("FLOAT", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND"),
    *("APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "BINPERSID"),
    *("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "MEMOIZE"),
}
"""Opcodes that build plain values; REDUCE calls what GLOBAL names, and others are refused."""
MOST_OPCODES = 100_000


def check_pickle(data: bytes, allowed: Set[str]) -> None:
    """Raise ValueError for a pickle that could call anything but the allowed names.

    Args:
        data: one pickle, and nothing behind it.
        allowed: `module name` of what it may call.
    """
    end = 0
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if number > MOST_OPCODES:
                raise ValueError(f"its pickle is longer than {MOST_OPCODES} opcodes")
            if opcode.name == "GLOBAL":
                if argument not in allowed:
                    raise ValueError(f"its pickle calls for {str(argument)[:60]!r}")
            elif opcode.name != "REDUCE" and opcode.name not in PLAIN:
                raise ValueError(f"its pickle has the opcode {opcode.name}")
            end = (position or 0) + 1
    except (UnicodeDecodeError, IndexError, AttributeError) as problem:
        raise ValueError(f"its pickle is torn ({problem})") from None
    if end != len(data):
        raise ValueError("something is behind its pickle")
