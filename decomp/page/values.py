"""Checks what a visitor entered: a number, a choice or text; else one sentence says what would be accepted."""

import math
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs


def number(value, name: str, lowest: float, highest: float) -> float:
    """A number in a range.

    Raises:
        ValueError: it is not a number, or out of range.
    """
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if isinstance(value, bool) or not lowest <= result <= highest:
        raise ValueError(f"{name} is {_shown(value)}; accepted: a number from {lowest:g} to {highest:g}")
    return result


def whole(value, name: str, lowest: int, highest: int) -> int:
    """A whole number in a range; ValueError as above."""
    result = number(value, name, lowest, highest)
    if result != int(result):
        raise ValueError(f"{name} is {_shown(value)}; accepted: a whole number from {lowest} to {highest}")
    return int(result)


def choice(value, name: str, accepted: Iterable):
    """One of some values; ValueError names them."""
    accepted = list(accepted)
    if isinstance(value, (list, dict)) or value not in accepted:
        raise ValueError(f"{name} is {_shown(value)}; accepted: {', '.join(map(str, accepted))}")
    return value


def text(value, name: str) -> str:
    """Text, or a number as text; nothing is the empty text. ValueError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise ValueError(f"{name} is not text")
    return "" if value is None else str(value)


def listed(value, name: str) -> list[str]:
    """The words of a text with commas between them. ValueError if it is not text."""
    return [part.strip() for part in text(value, name).split(",") if part.strip()]


def pairs(value, name: str) -> dict[str, str]:
    """KEY=VALUE with commas between them; a value alone has the key "". ValueError for a key that comes twice."""
    result = {}
    for part in listed(value, name):
        key, _, right = (piece.strip() for piece in part.rpartition("="))
        if key in result:
            raise ValueError(f"{name} names {key!r} twice; accepted: KEY=VALUE with commas between them, each key once")
        result[key] = right
    return result


def asked_for(search) -> dict[str, str]:
    """What stands behind the ? of the page's address, the first of each key; nothing that is too long."""
    return {key: values[0] for key, values in parse_qs(str(search).lstrip("?")[:2000]).items()}


def _shown(value) -> str:
    if value is None or value == "":
        return "empty"
    return repr(value)[:40] if isinstance(value, (str, int, float)) else "not a single value"


def size_of(path: Path) -> str:
    """How large a file is, as people read it: 640 bytes, 38 kB, 1.2 MB."""
    count = path.stat().st_size
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.0f} kB" if count < 999_500 else f"{count / 1e6:.1f} MB"
