"""Numbers in words, as pages and messages say them."""

from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`.

    Args:
        number: how many.
        one: what, if it is one.
        many: what, if it is not; by default with an s.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(([", ".join(parts[:-1])] if len(parts) > 1 else []) + list(parts[-1:]))


def as_sentence(text: str) -> str:
    """A text with a capital, unless it begins with a key of params.yaml, and with a full stop."""
    first = text.split(maxsplit=1)[0]
    start = text[0].upper() if first.rstrip(",:").isalpha() else text[0]
    return f"{start}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"
