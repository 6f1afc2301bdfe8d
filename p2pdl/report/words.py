"""Numbers in words and units, as tables, captions and the verdict show them; `-` where there is none."""

from __future__ import annotations

import math

NOTHING = "-"


def decimals(value: float | None, places: int) -> str:
    """So many decimals."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{places}f}"


def count(value: float | None) -> str:
    """A whole number."""
    return NOTHING if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Seconds, with decimals where there are few, and hours and minutes where there are many."""
    if value is None:
        return NOTHING
    if value >= 3600:
        return f"{int(value) // 3600} h {int(value) % 3600 // 60:02} min"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def milliseconds(value: float | None) -> str:
    """Seconds as milliseconds, three significant digits at most."""
    if value is None:
        return NOTHING
    return f"{1e3 * value:.1f}" if value < 0.1 else f"{1e3 * value:.0f}"


def megabytes(value: float | None) -> str:
    """Bytes as millions of bytes."""
    if value is None:
        return NOTHING
    return f"{value / 1e6:.1f}" if value < 1e8 else f"{value / 1e6:,.0f}"


def nbytes(value: float | None) -> str:
    """Bytes in the unit that suits them."""
    if value is None:
        return NOTHING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.0f} bytes"


def plural(number: int, thing: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def significant(value: float, digits: int = 3) -> str:
    """A number by its first digits, without an exponent where it can be read without one."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
